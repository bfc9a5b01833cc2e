"""Runs on the managed host (imported as `hostctl_host`): kinds at this level, machinery below.

Each `modules/KIND.py` is one kind: its `Spec`, then `observe`, `diff`, `apply` (and `undo`).
Python 3.9, standard library only; bundled pure-Python libraries are imported lazily.
"""
