"""Runs in both worlds: what controller and host must agree on. Standard library only.

The controller imports this package and the `Spec` classes of the kinds, nothing else of the host side.
"""
