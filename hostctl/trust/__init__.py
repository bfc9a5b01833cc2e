"""Runs on the controller: which images hosts may use: the rules of `hostctl_trust`, and what a signature is worth."""

from .policy import VARIABLE, policy
from .signatures import problem

__all__ = ["VARIABLE", "policy", "problem"]
