"""Runs on the controller: `-e`: key=value words, a JSON object, or a file of variables."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable
from typing import Any

from hostctl_host.contract.errors import HostctlError


def parse_extra_vars(arguments: Iterable[str]) -> dict[str, Any]:
    """The variables of all `-e` arguments; later ones win.

    As in Ansible, `key=value` gives strings; use JSON where a number, a list or a boolean is meant.
    """
    found: dict[str, Any] = {}
    for argument in arguments:
        found.update(_parse(argument.strip()))
    return found


def _parse(argument: str) -> dict[str, Any]:
    if argument.startswith("@"):
        return _from_file(argument[1:])
    if argument.startswith(("{", "[")):
        return _from_json(argument)
    try:
        words = shlex.split(argument)
    except ValueError as error:
        raise _bad(str(error).lower()) from error
    pairs = [word.partition("=") for word in words]
    for name, equals, _ in pairs:
        if not equals or not name.isidentifier():
            raise _bad(f"{name!r} is not NAME=VALUE")
    return {name: value for name, _, value in pairs}


def _from_json(argument: str) -> dict[str, Any]:
    try:
        value = json.loads(argument)
    except json.JSONDecodeError as error:
        raise _bad(f"not JSON: {error}") from error
    if not isinstance(value, dict):
        raise _bad("not a JSON object")
    return value


def _from_file(path: str) -> dict[str, Any]:
    from hostctl.yaml import load_file

    value = load_file(path)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise _bad(f"{path} holds no map of variables")
    return value


def _bad(cause: str) -> HostctlError:
    """The error never repeats a value: it may be a password."""
    return HostctlError(
        f"cannot use -e: {cause}",
        hint="write -e name=value, -e '{\"name\": [1, 2]}' or -e @vars.yml",
        ref="extra-vars",
    )
