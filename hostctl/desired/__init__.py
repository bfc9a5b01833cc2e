"""Runs on the controller: desired state: what each host should be, as documents for the agent."""

from .compile import compile_playbook
from .plays import CompiledPlay, Program

__all__ = ["CompiledPlay", "Program", "compile_playbook"]
