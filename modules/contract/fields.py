"""Runs in both worlds: Compose's and Ansible's short forms, as markers in a spec's annotations.

`Annotated[int, SIZE]` accepts "128M" on the controller. pydantic is imported only when it asks for the
schema, so the host never needs it. What travels in a document is always the normalised form.
"""

from __future__ import annotations

import re
from typing import Any, Callable


class FieldError(ValueError):
    """A short form that cannot be read. `path` says which part of the value is meant."""

    def __init__(self, message: str, *path: str | int) -> None:
        super().__init__(message)
        self.path = path


class Short:
    """A marker: `parse` turns what people write into what the annotated type accepts.

    `parse` raises ValueError with a message that says what is accepted; normalised input passes through.
    """

    def __init__(self, parse: Callable[[Any], Any]) -> None:
        self.parse = parse

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        from pydantic_core import core_schema

        return core_schema.no_info_before_validator_function(self.parse, handler(source))


_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}")
_ACCOUNT = re.compile(r"[a-zA-Z0-9_][^\s:,/\x00-\x1f\x7f]*")


def check_name(name: str, *path: str | int) -> None:
    """Refuse names of containers, networks and volumes that could not be a folder of their own.

    Raises:
        FieldError: the name is no single, plain part of a path.
    """
    if not _NAME.fullmatch(name):
        raise FieldError(
            f"{name!r} is no name; write letters, digits, dots, dashes and underscores,"
            " a letter or a digit first, at most 128",
            *path,
        )


def check_account(name: str, *path: str | int) -> None:
    """Refuse names of users and groups that would be a path, an option, or two fields.

    Raises:
        FieldError: the name cannot stand in /etc/passwd or be a folder in /home.
    """
    if not _ACCOUNT.fullmatch(name):
        raise FieldError(f"{name!r} is no name of an account", *path)


_MOST_BYTES = (1 << 63) - 1
LONGEST = 24 * 86400
"""poll(2) takes milliseconds in a signed int, and all waiting is done with it."""

_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


def parse_size(value: Any) -> Any:
    """Bytes from `128M`, `1gb`, `512k` or a number (Compose's byte values, binary multiples)."""
    if isinstance(value, str):
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([bkmgt]?)(?:i?b)?\s*", value.lower())
        if not match:
            raise ValueError(
                f"{value!r} is no size; write a number with b, k, m or g, such as 128m"
            )
        value = int(float(match[1]) * _UNITS[match[2]])
    if isinstance(value, (int, float)) and value > _MOST_BYTES:
        raise ValueError("it is more than the kernel counts (8 exbibytes)")
    return value


def parse_duration(value: Any) -> Any:
    """Seconds from `1m30s`, `500ms`, `2h` or a number of seconds."""
    if isinstance(value, str):
        parts = re.findall(r"(\d+(?:\.\d+)?)(us|ms|s|m|h|d)", value)
        if not parts or "".join(number + unit for number, unit in parts) != value.replace(" ", ""):
            raise ValueError(f"{value!r} is no duration; write it like 90s, 1m30s or 500ms")
        scale = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
        value = sum(float(number) * scale[unit] for number, unit in parts)
    if isinstance(value, (int, float)) and not 0 <= value <= LONGEST:
        raise ValueError(f"{value:g} seconds are no duration; it is 0 to 24 days")
    return value


SIZE = Short(parse_size)
DURATION = Short(parse_duration)
