"""Runs inside the build back end: gives an editable install the same import names as the wheel.

The host side lives in `modules/` and is imported as `hostctl_host`. hatchling cannot rename a
package in an editable install, so this hook lays two links into `build/editable/`, the only
directory that the editable install exposes (see `dev-mode-dirs` in pyproject.toml).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

LINKS = {"hostctl": "hostctl", "hostctl_host": "modules"}


class EditableLinks(BuildHookInterface):  # type: ignore[type-arg]
    """Lay the links when, and only when, an editable install is built."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002
        if version != "editable":
            return
        folder = Path(self.root) / "build" / "editable"
        folder.mkdir(parents=True, exist_ok=True)
        for name, target in LINKS.items():
            link = folder / name
            if not link.is_symlink():
                link.symlink_to(Path("..", "..", target))
