"""Runs on the controller: groups of verbs, whose files are imported when the verb is used."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module

import click


def lazy_group(name: str, summary: str, files: Mapping[str, str]) -> click.Group:
    """A group of these verbs (verb -> file in this folder), listed in this order."""
    return _LazyGroup(files, name=name, help=summary)


class _LazyGroup(click.Group):
    def __init__(self, files: Mapping[str, str], name: str, help: str) -> None:
        super().__init__(name=name, help=help)
        self._files = files

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(self._files)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in self._files:
            return None
        command = import_module(f"hostctl.cli.{self._files[cmd_name]}").command
        assert isinstance(command, click.Command)
        return command
