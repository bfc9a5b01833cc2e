"""Runs in both worlds: Compose's short and long form of a container's secrets and configs."""

from __future__ import annotations

from typing import Any

from ..fields import FieldError, Short
from .mounts import container_path

_KEYS = ("source", "target", "uid", "gid", "mode")


def parse_secrets(value: Any) -> Any:
    """Keys of `secrets:`, or maps; a file is `/run/secrets/KEY`, a relative `target` is below that folder."""
    return _grants(value, "/run/secrets/")


def parse_configs(value: Any) -> Any:
    """Keys of `configs:`, or maps; a file is `/KEY`."""
    return _grants(value, "/")


def _grants(value: Any, folder: str) -> Any:
    if not isinstance(value, (list, tuple)):
        return value
    return tuple(_grant(item, index, folder) for index, item in enumerate(value))


def _grant(item: Any, index: int, folder: str) -> Any:
    if isinstance(item, str):
        item = {"source": item}
    if not isinstance(item, dict):
        return item
    for key in item:
        if key not in _KEYS and not str(key).startswith("x-"):
            raise FieldError(f"{key!r} is no key here; {', '.join(_KEYS)}", index, key)
    made = {key: part for key, part in item.items() if key in _KEYS and part is not None}
    source = made.get("source")
    if not isinstance(source, str) or not source:
        raise FieldError("source is missing: the key that it is declared by", index)
    target = made.get("target", source)
    if not isinstance(target, str):
        raise FieldError(f"{target!r} is no path", index, "target")
    whole = target if target.startswith("/") else folder + target
    made["target"] = container_path(whole, index, "target")
    return made


SECRETS = Short(parse_secrets)
CONFIGS = Short(parse_configs)
