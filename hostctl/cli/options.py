"""Runs on the controller: the options that verbs share, each group handed on as one frozen value.

Spelled as Ansible spells them. A verb takes a group by its decorator and gets its dataclass.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, fields
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
    pin: bool = False
    diff: bool = True
    as_json: bool = False


def host_options(without: str = "") -> Callable[[F], F]:
    """The options of `HostOptions`; the function gets them as `hosts`.

    Args:
        without: letters that mean something else in this verb (`-f` of logs, `-i` of exec); those options
            have only their long form there.
    """
    return _grouped("hosts", HostOptions, _HOST_OPTIONS, without)


def run_options(*, whole: bool = False) -> Callable[[F], F]:
    """The options of `RunOptions`; the function gets them as `run`.

    Args:
        whole: the verb is about all of a project: without what chooses tasks.
    """
    chosen = [option for option in _RUN_OPTIONS if not whole or option[0][-1] not in _CHOOSING]
    return _grouped("run", RunOptions, chosen, "")


def json_option(function: F) -> F:
    """--json as `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout.")(function)


# Declarations (short form first) and attributes, in the order of the help.
_HOST_OPTIONS: list[tuple[tuple[str, ...], dict[str, Any]]] = [
    (
        ("-i", "--inventory", "inventories"),
        {
            "multiple": True,
            "metavar": "PATH",
            "help": "Inventory file or folder; repeatable. Default: $HOSTCTL_INVENTORY, "
            "./inventory.yml, else this machine without SSH.",
        },
    ),
    (("-l", "--limit"), {"default": "", "metavar": "PATTERN", "help": "Only these hosts."}),
    (
        ("-e", "--extra-vars"),
        {
            "multiple": True,
            "metavar": "VARS",
            "help": "Variables that win over all others: key=value, JSON, or @FILE; repeatable.",
        },
    ),
    (
        ("-f", "--forks"),
        {
            "type": click.IntRange(min=1),
            "default": 50,
            "show_default": True,
            "help": "Hosts at a time.",
        },
    ),
    (
        ("-k", "--ask-pass", "ask_password"),
        {"is_flag": True, "help": "Ask for the SSH password."},
    ),
    (
        ("-K", "--ask-become-pass", "ask_become_password"),
        {"is_flag": True, "help": "Ask for the sudo password."},
    ),
    (
        ("--timeout",),
        {
            "type": click.FloatRange(min=0, min_open=True),
            "default": 10.0,
            "show_default": True,
            "metavar": "SECONDS",
            "help": "To connect to a host.",
        },
    ),
    (("-v", "--verbose"), {"count": True, "help": "Say more; -vv still more."}),
    (("--debug",), {"is_flag": True, "help": "Show tracebacks of errors."}),
]
_CHOOSING = ("--tags", "--skip-tags", "--prune", "--pin")
_RUN_OPTIONS: list[tuple[tuple[str, ...], dict[str, Any]]] = [
    (
        ("-t", "--tags"),
        {"multiple": True, "metavar": "TAGS", "help": "Only tasks with these tags."},
    ),
    (("--skip-tags",), {"multiple": True, "metavar": "TAGS", "help": "Not tasks with these tags."}),
    (
        ("--lock-wait",),
        {
            "type": click.FloatRange(min=0),
            "default": 0.0,
            "metavar": "SECONDS",
            "help": "Wait for another run on the host; without it, its holder is shown at once.",
        },
    ),
    (("--prune",), {"is_flag": True, "help": "Remove what the project no longer declares."}),
    (
        ("--pin",),
        {
            "is_flag": True,
            "help": "Ask the registries what tags stand for now, and write that to PLAYBOOK.lock.",
        },
    ),
    (
        ("-D/--no-diff", "--diff/", "diff"),
        {"default": True, "help": "Show text diffs of files (the default)."},
    ),
    (("--json", "as_json"), {"is_flag": True, "help": "Print JSON on stdout."}),
]


def _grouped(
    name: str,
    group: type[Any],
    options: list[tuple[tuple[str, ...], dict[str, Any]]],
    without: str,
) -> Callable[[F], F]:
    """Declare the options on a function that takes their values as one argument."""
    names = {item.name for item in fields(group)}
    dropped = {f"-{letter}" for letter in without}

    def decorate(function: F) -> F:
        @wraps(function)
        def command(**values: Any) -> Any:
            mine = {key: value for key, value in values.items() if key in names}
            others = {key: value for key, value in values.items() if key not in names}
            return function(**others, **{name: group(**mine)})

        for declarations, attributes in reversed(options):
            kept = [word for word in declarations if word not in dropped]
            command = click.option(*kept, **attributes)(command)
        return command  # type: ignore[return-value]

    return decorate
