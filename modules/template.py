"""Runs on the managed host: the kind `template`: a file rendered on the controller with Jinja.

On the host it is a `copy`: same content by digest, same observation, same diff.
"""

from __future__ import annotations

from dataclasses import dataclass

from . import copy
from .copy import apply, content, diff, observe, undo

__all__ = ["Spec", "apply", "content", "diff", "observe", "undo"]


@dataclass(frozen=True)
class Spec(copy.Spec):
    """As `copy`, but `src` is a template (searched beside the playbook and in its `templates/`)."""
