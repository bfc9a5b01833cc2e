"""Runs on the controller: what the image verbs share: calls on all hosts, sizes, filters, `--format`."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

import click
from hostctl_host.contract.errors import HostctlError
from hostctl_host.contract.fields import parse_duration

from .options import HostOptions

if TYPE_CHECKING:
    from hostctl.fleet.session import Session

F = TypeVar("F", bound=Callable[..., Any])
Row = dict[str, Any]
LIST_FILTERS = ("dangling", "label", "before", "since", "reference", "until")
PRUNE_FILTERS = ("until", "label", "label!")
_SHORT_ID = 12


def format_option(function: F) -> F:
    """--format as `form`: `table` or `json`."""
    return click.option(
        "--format",
        "form",
        type=click.Choice(["table", "json"]),
        default="table",
        help="json: one object per line, with Docker's field names.",
    )(function)


def filter_option(function: F) -> F:
    """--filter as `filters`."""
    return click.option(
        "-f",
        "--filter",
        "filters",
        multiple=True,
        metavar="KEY=VALUE",
        help="Repeatable; as Docker's.",
    )(function)


def prune_options(of: str) -> Callable[[F], F]:
    """What both verbs that prune know; `of` says what -a widens."""

    def decorate(function: F) -> F:
        options = (
            click.option("-a", "--all", "everything", is_flag=True, help=f"Not only {of}."),
            click.option(
                "--filter",
                "filters",
                multiple=True,
                metavar="KEY=VALUE",
                help="until=, label=, label!=.",
            ),
            click.option("--dry-run", is_flag=True, help="Only say what would go, and the bytes."),
            click.option("-f", "-y", "--yes", "--force", "yes", is_flag=True, help="Do not ask."),
        )
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


def rows_of(verb: str, args: Row, hosts: HostOptions) -> dict[str, Any]:
    """The rows of each host, or its HostctlError; hosts without the image are left out where others have it."""
    from .exec import without_absent
    from .hosts import on_all

    def work(session: Session) -> list[Row]:
        from hostctl.fleet.session import call

        return [h["data"] for h, _ in call(session, verb, args) if h["type"] == "row"]

    return without_absent(on_all(hosts, work))


def fed(
    session: Session, verb: str, args: Row, asks: str, pieces: Callable[[Any], Iterable[bytes]]
) -> list[Row]:
    """The rows of a verb that asks for bytes.

    Args:
        asks: the key of the row in which it does.
        pieces: the bytes, from what that key says.
    """
    from hostctl.fleet.session import call

    rows = []
    answer = call(session, verb, args)
    for header, _ in answer:
        if header["type"] != "row":
            continue
        if asks in header["data"]:
            for piece in pieces(header["data"][asks]):
                answer.stdin(piece)
            answer.eof()
        else:
            rows.append(header["data"])
    return rows


def show_each(results: dict[str, Any], as_json: bool, text: Callable[[Row], str]) -> int:
    """A line for each row, or all as JSON, then the failures; returns the exit code."""
    from .hosts import report_failures

    if as_json:
        dump(results)
        return report_failures(results)
    for host, rows in good(results).items():
        for row in rows:
            click.echo(f"{host} {text(row)}" if len(results) > 1 else text(row))
    return report_failures(results)


def good(results: dict[str, Any]) -> dict[str, list[Row]]:
    """What answered, without the failures."""
    return {name: rows for name, rows in results.items() if isinstance(rows, list)}


def dump(results: dict[str, Any]) -> None:
    """All rows as one JSON document: {"version": 1, "hosts": {NAME: [...]}}."""
    text = json.dumps({"version": 1, "hosts": good(results)}, indent=2, ensure_ascii=False)
    click.echo(text)


def parse_filters(filters: Sequence[str], known: Sequence[str]) -> list[tuple[str, str]]:
    """`--filter` values for a host; `until` becomes seconds since 1970. Raises `bad-filter`."""
    found = []
    for text in filters:
        key, equals, value = text.partition("=")
        if key == "label!" and not equals:
            equals = "="
        if not equals or key not in known:
            raise HostctlError(
                f"cannot use the filter {text!r}",
                hint=f"write KEY=VALUE with one of {', '.join(known)}",
                ref="bad-filter",
            )
        found.append((key, str(_moment(value)) if key == "until" else value))
    return found


def _moment(text: str) -> float:
    """A duration before now (`24h`), seconds since 1970, or a date."""
    if text.replace(".", "", 1).isdigit():
        return float(text)
    try:
        return time.time() - float(parse_duration(text))
    except ValueError:
        pass
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        raise HostctlError(
            f"cannot use until={text}: it is neither a duration nor a date",
            hint="write it like until=24h or until=2026-01-31T12:00:00",
            ref="bad-filter",
        ) from None


def size_text(count: float) -> str:
    """Bytes as Docker shows them: three digits and a decimal unit."""
    units = ["B", "kB", "MB", "GB", "TB", "PB"]
    while count >= 1000 and len(units) > 1:
        count /= 1000
        units.pop(0)
    return f"{count:.3g}{units[0]}" if count < 999.5 else f"{count:.0f}{units[0]}"


def id_text(image_id: str, whole: bool) -> str:
    """An id in twelve digits, or whole with `sha256:`."""
    digits = image_id.rpartition(":")[2]
    return f"sha256:{digits}" if whole else digits[:_SHORT_ID]


def cut(text: str, whole: bool, width: int = 45) -> str:
    """One line of at most that many characters, unless it is wanted whole."""
    line = " ".join(text.split())
    return line if whole or len(line) <= width else line[: width - 1] + "…"


def with_host(header: list[str], rows: list[tuple[str, list[str]]], several: bool) -> str:
    """A table; HOST stands in front where there are several."""
    from hostctl.report.table import table

    if several:
        return table(["HOST", *header], [[host, *cells] for host, cells in rows])
    return table(header, [cells for _, cells in rows])
