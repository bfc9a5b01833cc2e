"""Runs on the developer's machine: hostctl against its peers, both in the same run.

`python -m bench [CASE ...]` as root; see bench/__main__.py.
"""
