"""Runs on the test machine: the same workshop as the runtime's tests."""

from tests.runtime.conftest import workshop

__all__ = ["workshop"]
