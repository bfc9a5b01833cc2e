"""Runs in both worlds: `RUN --mount=...`."""

from __future__ import annotations

import csv
from typing import Callable

from ..fields import parse_size
from .errors import DockerfileError
from .instructions import Mount
from .names import did_you_mean

TYPES = ("bind", "cache", "tmpfs", "secret", "ssh")
SHARING = ("shared", "private", "locked")
_ALIASES = {"src": "source", "dst": "target", "destination": "target", "ro": "readonly",
            "rw": "readwrite"}  # fmt: skip
_KEYS = (
    "type", "from", "source", "target", "readonly", "readwrite", "id", "sharing", "size",
    "required", "mode", "uid", "gid", "env",
)  # fmt: skip
_SWITCHES = ("readonly", "readwrite", "required")
_ONLY = {
    "size": ("tmpfs",), "sharing": ("cache",), "required": ("secret", "ssh"), "env": ("secret",),
    "mode": ("secret", "ssh", "cache"), "uid": ("secret", "ssh", "cache"),
    "gid": ("secret", "ssh", "cache"), "from": ("bind", "cache"),
}  # fmt: skip


def parse_mount(text: str, expand: Callable[[str], str]) -> Mount:
    """One mount from `key=value,...` (one line of CSV).

    Raises:
        DockerfileError: an unknown key or value, a key that the type does not have.
    """
    fields = _fields(text)
    values: dict[str, str] = {}
    for field in fields:
        name, equals, value = field.partition("=")
        key = _ALIASES.get(name.lower(), name.lower())
        if key not in _KEYS:
            hint = did_you_mean(name.lower(), (*_KEYS, *_ALIASES))
            raise _fault(f"there is no {name!r}", text, hint or f"known: {', '.join(_KEYS)}")
        if not equals and key not in _SWITCHES:
            raise _fault(f"{name} has no value", text, f"write {name}=VALUE")
        if key == "from" and "$" in value[:-1]:
            raise _fault(
                "from takes no variables", text, "write FROM ... AS NAME, and from=NAME here"
            )
        values[key] = expand(value) if equals else "true"
    kind = values.get("type", "bind").lower()
    if kind not in TYPES:
        raise _fault(f"there is no type {kind!r}", text, did_you_mean(kind, TYPES))
    for key, kinds in _ONLY.items():
        if key in values and kind not in kinds:
            raise _fault(f"a mount of type {kind} has no {key}", text)
    mount = Mount(
        type=kind,
        target=values.get("target", ""),
        source=values.get("source", ""),
        from_=values.get("from", ""),
        id=values.get("id", ""),
        read_only=_read_only(values, kind, text),
        sharing=_sharing(values, text),
        size=_size(values, text),
        required=_switch(values, "required", text),
        mode=_number(values, "mode", 8, text),
        uid=_number(values, "uid", 10, text),
        gid=_number(values, "gid", 10, text),
        env=values.get("env", ""),
    )
    return _checked(mount, text)


def read_from(text: str) -> str:
    """The `from` of a mount, which takes no variables; empty: there is none."""
    for field in _fields(text):
        name, _, value = field.partition("=")
        if name.lower() == "from":
            return value
    return ""


def _checked(mount: Mount, text: str) -> Mount:
    if mount.type == "secret":
        if mount.source and mount.id:
            raise _fault("a secret has id or source, which are the same", text)
        if not (mount.source or mount.id or mount.target):
            raise _fault("a secret needs its id", text, "write --mount=type=secret,id=NAME")
    elif mount.type != "ssh" and not mount.target:
        raise _fault("the target is missing", text, "write target=/PATH")
    return mount


def _fields(text: str) -> list[str]:
    try:
        return next(csv.reader([text], strict=True), [])
    except csv.Error:
        raise _fault("its quotes do not match", text) from None


def _read_only(values: dict[str, str], kind: str, text: str) -> bool:
    result = kind not in ("cache", "tmpfs")
    for key in values:
        if key == "readonly":
            result = _switch(values, key, text)
        if key == "readwrite":
            result = not _switch(values, key, text)
    return result


def _switch(values: dict[str, str], key: str, text: str) -> bool:
    value = values.get(key, "false").lower()
    if value not in ("true", "false", "1", "0", "t", "f"):
        raise _fault(f"{key} is true or false, not {value!r}", text)
    return value in ("true", "1", "t")


def _sharing(values: dict[str, str], text: str) -> str:
    value = values.get("sharing", "").lower()
    if value and value not in SHARING:
        raise _fault(f"there is no sharing {value!r}", text, did_you_mean(value, SHARING))
    return value


def _size(values: dict[str, str], text: str) -> int:
    try:
        return int(parse_size(values.get("size") or 0))
    except ValueError as error:
        raise _fault(f"size: {error}", text) from None


def _number(values: dict[str, str], key: str, base: int, text: str) -> int | None:
    value = values.get(key)
    if value is None:
        return None
    digits = "01234567" if base == 8 else "0123456789"
    if not 0 < len(value) <= 11 or value.strip(digits) or int(value, base) >= 1 << 32:
        what = "octal digits, such as 0400" if base == 8 else "a number"
        raise _fault(f"{key} is {what}, not {value!r}", text)
    return int(value, base)


def _fault(cause: str, text: str, hint: str = "") -> DockerfileError:
    shown = text if len(text) <= 80 else text[:77] + "..."
    return DockerfileError(
        f"cannot use --mount={shown}: {cause}", hint=hint, ref="dockerfile-mount"
    )
