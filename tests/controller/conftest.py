"""Fixtures of the controller's tests: a folder with a playbook in it."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hostctl.desired import Program, compile_playbook
from hostctl.desired.program import HostProgram
from hostctl.inventory import Inventory, load_inventory
from hostctl.inventory.files import forget
from hostctl.playbook.errors import PlaybookErrors

INVENTORY = """\
all:
  children:
    web:
      vars: {color: red}
      hosts:
        web1:
        web2:
    db:
      hosts:
        db1:
"""


First = Callable[..., list[dict[str, Any]]]


class Folder:
    """A folder with files; playbooks are compiled as if it were the current one."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, **files: str) -> Folder:
        """Files by name; `__` stands for `/`, and `.yml` is added where there is no dot."""
        for name, text in files.items():
            path = self.path / name.replace("__", "/")
            path = path if "." in path.name else path.with_name(path.name + ".yml")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(text))
        forget()
        return self

    def file(self, name: str, data: bytes | str) -> Path:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
        forget()
        return path

    def inventory(self, text: str = INVENTORY) -> Inventory:
        self.file("inventory.yml", textwrap.dedent(text))
        return load_inventory(["inventory.yml"])

    def compile(self, playbook: str, **options: Any) -> Program:
        inventory = options.pop("inventory", None) or self.inventory()
        self.file("site.yml", textwrap.dedent(playbook))
        return compile_playbook("site.yml", inventory, **options)

    def program(self, playbook: str, host: str = "web1", **options: Any) -> HostProgram:
        return self.compile(playbook, **options).plays[0].programs[host]

    def errors(self, playbook: str, **options: Any) -> list[str]:
        """What is wrong: `place: message | hint`."""
        with pytest.raises(PlaybookErrors) as caught:
            self.compile(playbook, **options)
        return [f"{one}" + (f" | {one.hint}" if one.hint else "") for one in caught.value.errors]


def ids(resources: list[dict[str, Any]]) -> list[str]:
    return [resource["id"] for resource in resources]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Folder]:
    monkeypatch.chdir(tmp_path)
    forget()
    yield Folder(tmp_path)
    forget()


@pytest.fixture
def resources() -> Callable[..., list[dict[str, Any]]]:
    """The resources of a program's first document, as JSON."""

    def first(program: HostProgram, facts: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        program.facts(facts or {})
        found: list[dict[str, Any]] = program.first()["document"].get("resources", [])
        return found

    return first
