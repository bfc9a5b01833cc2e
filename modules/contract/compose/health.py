"""Runs in both worlds: Compose's `healthcheck`, with the probes that need nothing in the image."""

from __future__ import annotations

from typing import Any

from ..fields import FieldError, Short

_KINDS = ("CMD", "CMD-SHELL", "NONE")


def parse_healthcheck(value: Any) -> Any:
    """Compose's keys: `test` as a list, `disable` as the test NONE, and probes as maps."""
    if not isinstance(value, dict):
        return value
    out = dict(value)
    if out.pop("disable", False) in (True, "true"):
        return {"test": ("NONE",)}
    if "test" in out:
        out["test"] = _test(out["test"])
    for name in ("http", "tcp"):
        if name in out:
            out[name] = _probe(out[name], name)
    return out


def _test(value: Any) -> Any:
    """A line for the image's shell, or a list that says how it is run; an empty list is the image's."""
    if isinstance(value, str):
        if not value.strip():
            raise FieldError("there is nothing to run", "test")
        return ("CMD-SHELL", value)
    if not isinstance(value, (list, tuple)) or not value:
        return value
    if value[0] not in _KINDS:
        raise FieldError(f"{value[0]!r} is no kind of test; {', '.join(_KINDS)}", "test", 0)
    if value[0] == "NONE":
        return ("NONE",)
    if len(value) < 2:
        raise FieldError("there is nothing to run", "test")
    return tuple(str(item) if isinstance(item, (int, float)) else item for item in value)


def _probe(value: Any, name: str) -> Any:
    if isinstance(value, int) and not isinstance(value, bool):
        return {"port": value}
    if isinstance(value, dict) and isinstance(value.get("status"), int):
        return {**value, "status": str(value["status"])}
    if not isinstance(value, dict):
        raise FieldError("write a map with port, or a port", name)
    return value


HEALTHCHECK = Short(parse_healthcheck)
