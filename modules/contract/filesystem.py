"""Runs in both worlds: markers for paths and modes in a spec's annotations."""

from __future__ import annotations

import re
from typing import Any

from .fields import Short


def parse_mode(value: Any) -> Any:
    """A mode as four octal digits from "0644", "644" or "0o644" (the loader keeps 0644 and 0o644 strings).

    A number is refused: 644 as a number is the mode 1204.
    """
    if isinstance(value, (bool, int)):
        raise ValueError("a mode is written as a string of octal digits, such as '0644'")
    if isinstance(value, str):
        text = value[2:] if value.startswith("0o") else value
        if value and not re.fullmatch(r"[0-7]{3,4}", text):
            raise ValueError(f"{value!r} is no mode; write octal digits, such as '0644'")
        return text.zfill(4) if value else value
    return value


def parse_path(value: Any) -> Any:
    """An absolute path without `.` and `..` parts and without a trailing slash."""
    if isinstance(value, str):
        if not value.startswith("/"):
            raise ValueError(f"{value!r} is not absolute; paths on a host start with /")
        if "\0" in value or ".." in value.split("/"):
            raise ValueError(f"{value!r} must not hold '..'")
        return "/" + "/".join(part for part in value.split("/") if part not in ("", "."))
    return value


MODE = Short(parse_mode)
PATH = Short(parse_path)
