"""Runs on the controller: desired state: what each host should be, as documents for the agent.

The compiler is imported when it is asked for: verbs without a playbook use content alone.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .compile import compile_playbook
    from .plays import CompiledPlay, Program

__all__ = ["CompiledPlay", "Program", "compile_playbook"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(name)
    from . import compile, plays

    return getattr(compile if name == "compile_playbook" else plays, name)
