"""Runs on the controller: which kinds there are: the host side's own, and a user's beside the playbook."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from functools import cached_property
from pathlib import Path
from typing import Any

from hostctl_host.contract.errors import HostctlError


class Kinds:
    """The kinds of a run, loaded when their `Spec` is first needed.

    Attributes:
        user: files of the user's own kinds, by name; they travel with the agent.
    """

    def __init__(self, folder: Path | None = None) -> None:
        import hostctl_host

        self.own = frozenset(
            path.stem
            for path in Path(hostctl_host.__path__[0]).glob("[a-z]*.py")
            if b"class Spec" in path.read_bytes()
        )
        beside = folder / "modules" if folder else None
        self.user: dict[str, Path] = {}
        if (
            beside is not None
            and beside.is_dir()
            and beside.resolve() != Path(hostctl_host.__path__[0]).resolve()
        ):
            self.user = {
                path.stem: path
                for path in sorted(beside.glob("*.py"))
                if path.stem.isidentifier() and not path.stem.startswith("_")
            }

    @cached_property
    def names(self) -> frozenset[str]:
        return self.own | frozenset(self.user)

    def spec(self, kind: str) -> type[Any]:
        """The kind's `Spec` dataclass."""
        module = (
            self._user_module(kind)
            if kind in self.user
            else importlib.import_module(f"hostctl_host.{kind}")
        )
        found = getattr(module, "Spec", None)
        if not isinstance(found, type):
            raise HostctlError(
                f"cannot use the kind {kind}: it declares no Spec", ref="kind-without-spec"
            )
        return found

    def _user_module(self, kind: str) -> Any:
        name = f"hostctl_host.{kind}"
        path = self.user[kind]
        loaded = sys.modules.get(name)
        if loaded is not None and getattr(loaded, "__file__", None) == str(path):
            return loaded
        source = importlib.util.spec_from_file_location(name, path)
        if source is None or source.loader is None:
            raise HostctlError(
                f"cannot load the kind {kind}", where=str(path), ref="kind-unloadable"
            )
        module = importlib.util.module_from_spec(source)
        sys.modules[name] = module
        try:
            source.loader.exec_module(module)
        except Exception as error:
            del sys.modules[name]
            raise HostctlError(
                f"cannot load the kind {kind}: {type(error).__name__}: {error}",
                where=str(path),
                ref="kind-unloadable",
            ) from error
        return module
