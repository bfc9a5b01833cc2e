"""Runs on the controller: what `pull` and `push` share: logins for each host, progress, rows."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from .options import HostOptions

if TYPE_CHECKING:
    from hostctl.fleet.session import Session
    from hostctl.fleet.target import Target

F = TypeVar("F", bound=Callable[..., Any])
Row = dict[str, Any]


def insecure_option(function: F) -> F:
    """--insecure as `insecure`."""
    return click.option(
        "--insecure", is_flag=True, help="Http, or https with any certificate, is fine."
    )(function)


def quiet_option(function: F) -> F:
    """-q as `quiet`."""
    return click.option(
        "-q", "--quiet", is_flag=True, help="No progress; only the image's name and digest."
    )(function)


class Ground:
    """The selected hosts (`targets`), and what each is told of registries (`told`, by name).

    Args:
        images: those that the call is about.
        quiet: show no progress.
    """

    def __init__(self, hosts: HostOptions, images: list[str], quiet: bool = False) -> None:
        from hostctl.credentials import Logins
        from hostctl.fleet.target import Target

        from .hosts import connections

        found, logins = connections(hosts), Logins()
        self._hosts = hosts
        self.targets = [Target.from_vars(name, variables) for name, variables in found.items()]
        self._logins = {name: logins.of(name, variables) for name, variables in found.items()}
        self.told = {name: one.for_references(images) for name, one in self._logins.items()}
        self._live = sys.stderr.isatty() and not quiet
        self._lock = threading.Lock()

    def rows(
        self, verb: str, args: dict[str, Any], targets: list[Target] | None = None
    ) -> dict[str, Any]:
        """Call the verb on these hosts (default: all): host -> its rows, or its HostctlError."""
        from .hosts import on_targets

        def work(session: Session) -> list[Row]:
            from hostctl.fleet.session import call

            name = session.target.name
            found = []
            told = {**args, **self.told[name]}
            for header, _ in call(session, verb, told, self._logins[name].reply):
                if header["type"] == "row":
                    found.append(header["data"])
                elif header["type"] == "progress":
                    self._show(f"{name}: {header.get('message', '')}")
            return found

        try:
            chosen = self.targets if targets is None else targets
            return on_targets(self._hosts, chosen, work, "store")
        finally:
            self._show("")

    def _show(self, line: str) -> None:
        """One line of a terminal, which the next one takes the place of."""
        if self._live:
            with self._lock:
                sys.stderr.write(f"\r\x1b[K{line[:100]}")
                sys.stderr.flush()


def report(results: dict[str, Any], as_json: bool, words: Callable[[Row], str]) -> int:
    """The rows on stdout (as text by `words`, the host in front where there are several); the exit code."""
    from .hosts import report_failures

    listed = {name: found for name, found in results.items() if isinstance(found, list)}
    if as_json:
        click.echo(json.dumps({"version": 1, "hosts": listed}, indent=2, ensure_ascii=False))
    else:
        for name, rows in listed.items():
            for row in rows:
                click.echo(f"{name} {words(row)}" if len(results) > 1 else words(row))
    return report_failures(results)
