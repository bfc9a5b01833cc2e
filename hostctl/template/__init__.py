"""Runs on the controller: Jinja over playbook values and template files, with Ansible's filters."""

from .engine import Engine
from .scope import Deferred, Scope, TemplateError, UnknownResult

__all__ = ["Deferred", "Engine", "Scope", "TemplateError", "UnknownResult"]
