"""Runs on the controller: desired state: what each host should be, as documents for the agent."""

from .compile import CompiledPlay, Program, compile_playbook
from .program import HostProgram

__all__ = ["CompiledPlay", "HostProgram", "Program", "compile_playbook"]
