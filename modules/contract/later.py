"""Runs in both worlds: modules that are imported only once something of them is used."""

from __future__ import annotations

import sys
import types
from typing import Any


class Later(types.ModuleType):
    """Stands in for the module of its name."""

    def __getattr__(self, name: str) -> Any:
        """Whoever wants it gets the real one."""
        if name.startswith("__"):
            raise AttributeError(name)
        import importlib

        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), name)


def later(name: str) -> None:
    """Import the module when it is first used; one that is there already stays."""
    sys.modules.setdefault(name, Later(name))
