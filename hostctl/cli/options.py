"""Runs on the controller: the options that verbs share, each group handed on as one frozen value.

Spelled as Ansible spells them. A verb takes a group by its decorator and gets its dataclass.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from hostctl.inventory import Inventory

DEFAULT_INVENTORY = "inventory.yml"

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class HostOptions:
    """Which hosts, and how to reach them."""

    inventories: tuple[str, ...] = ()
    limit: str = ""
    extra_vars: tuple[str, ...] = ()
    forks: int = 50
    ask_password: bool = False
    ask_become_password: bool = False
    timeout: float = 10.0
    verbose: int = 0
    debug: bool = False

    def inventory(self) -> Inventory:
        """The inventory of `-i`, else `$HOSTCTL_INVENTORY`, else `./inventory.yml`, else this machine."""
        from hostctl.inventory import load_inventory

        return load_inventory(self.inventories or default_inventories())


def default_inventories() -> tuple[str, ...]:
    """Where the inventory is when no `-i` is given; several files are separated by `:`."""
    named = os.environ.get("HOSTCTL_INVENTORY", "")
    if named:
        return tuple(path for path in named.split(os.pathsep) if path)
    return (DEFAULT_INVENTORY,) if os.path.exists(DEFAULT_INVENTORY) else ()


@dataclass(frozen=True)
class RunOptions:
    """What of a playbook is run, and how."""

    tags: tuple[str, ...] = ()
    skip_tags: tuple[str, ...] = ()
    lock_wait: float = 0.0
    prune: bool = False
    diff: bool = True
    as_json: bool = field(default=False)


def host_options(function: F) -> F:
    """-i, -l, -e, -f, -k, -K, --timeout, -v, --debug; the function gets `hosts`."""
    return _grouped(
        function,
        "hosts",
        HostOptions,
        [
            click.option(
                "-i",
                "--inventory",
                "inventories",
                multiple=True,
                metavar="PATH",
                help="Inventory file or folder; repeatable. Default: $HOSTCTL_INVENTORY, "
                "./inventory.yml, else this machine without SSH.",
            ),
            click.option("-l", "--limit", default="", metavar="PATTERN", help="Only these hosts."),
            click.option(
                "-e",
                "--extra-vars",
                multiple=True,
                metavar="VARS",
                help="Variables that win over all others: key=value, JSON, or @FILE; repeatable.",
            ),
            click.option(
                "-f",
                "--forks",
                type=click.IntRange(min=1),
                default=50,
                show_default=True,
                help="Hosts at a time.",
            ),
            click.option(
                "-k", "--ask-pass", "ask_password", is_flag=True, help="Ask for the SSH password."
            ),
            click.option(
                "-K",
                "--ask-become-pass",
                "ask_become_password",
                is_flag=True,
                help="Ask for the sudo password.",
            ),
            click.option(
                "--timeout",
                type=click.FloatRange(min=0, min_open=True),
                default=10.0,
                show_default=True,
                metavar="SECONDS",
                help="To connect to a host.",
            ),
            click.option("-v", "--verbose", count=True, help="Say more; -vv still more."),
            click.option("--debug", is_flag=True, help="Show tracebacks of errors."),
        ],
    )


def run_options(function: F) -> F:
    """--tags, --skip-tags, --lock-wait, --prune, -D, --json; the function gets `run`."""
    return _grouped(
        function,
        "run",
        RunOptions,
        [
            click.option(
                "-t", "--tags", multiple=True, metavar="TAGS", help="Only tasks with these tags."
            ),
            click.option(
                "--skip-tags", multiple=True, metavar="TAGS", help="Not tasks with these tags."
            ),
            click.option(
                "--lock-wait",
                type=click.FloatRange(min=0),
                default=0.0,
                metavar="SECONDS",
                help="Wait for another run on the host; without it, its holder is shown at once.",
            ),
            click.option(
                "--prune", is_flag=True, help="Remove what the project no longer declares."
            ),
            click.option(
                "-D/--no-diff",
                "--diff/",
                "diff",
                default=True,
                help="Show text diffs of files (the default).",
            ),
            json_option,
        ],
    )


def json_option(function: F) -> F:
    """--json as `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout.")(function)


def _grouped(
    function: F, name: str, group: type[Any], options: list[Callable[[Any], Any]]
) -> F:
    """Declare the options on a function that takes their values as one argument."""
    names = {item.name for item in fields(group)}

    @wraps(function)
    def command(**values: Any) -> Any:
        mine = {key: value for key, value in values.items() if key in names}
        others = {key: value for key, value in values.items() if key not in names}
        return function(**others, **{name: group(**mine)})

    for option in reversed(options):
        command = option(command)
    return command  # type: ignore[return-value]
