"""Runs in both worlds: specs as plain JSON and back, without pydantic on the host.

Specs are frozen standard-library dataclasses, validated on the controller and sent as JSON objects that
leave out fields at their default. Nested dataclasses are found through the field's annotation.
"""

from __future__ import annotations

import dataclasses
import re
import sys
from typing import Any, TypeVar

T = TypeVar("T")


def encode(spec: Any) -> Any:
    """A spec (or any value in one) as JSON: dataclasses to objects, tuples to lists, defaults left out."""
    if dataclasses.is_dataclass(spec) and not isinstance(spec, type):
        out = {}
        for item in dataclasses.fields(spec):
            value = getattr(spec, item.name)
            if item.default is not dataclasses.MISSING and value == item.default:
                continue
            if item.default_factory is not dataclasses.MISSING and value == item.default_factory():
                continue
            out[item.name] = encode(value)
        return out
    if isinstance(spec, dict):
        return {key: encode(value) for key, value in spec.items()}
    if isinstance(spec, (list, tuple)):
        return [encode(value) for value in spec]
    return spec


def decode(cls: type[T], data: dict[str, Any]) -> T:
    """The inverse of `encode`. Raises TypeError for an unknown field (another hostctl version wrote it)."""
    return cls(**{name: _decode_field(cls, name, value) for name, value in data.items()})


def _decode_field(cls: type, name: str, value: Any) -> Any:
    nested = _nested(cls).get(name)
    if isinstance(value, list):
        return tuple(_decode_value(nested, item) for item in value)
    if isinstance(value, dict) and nested is not None:
        annotation = str(cls.__annotations__[name])
        if "dict[" in annotation:
            return {key: _decode_value(nested, item) for key, item in value.items()}
        return _decode_value(nested, value)
    return value


def _decode_value(nested: type | None, value: Any) -> Any:
    if nested is not None and isinstance(value, dict):
        return decode(nested, value)
    return tuple(value) if isinstance(value, list) else value


_cache: dict[type, dict[str, type]] = {}


def _nested(cls: type) -> dict[str, type]:
    """Field name -> the dataclass that its annotation mentions, looked up in the defining module."""
    if cls not in _cache:
        names = vars(sys.modules[cls.__module__])
        found = {}
        for name, annotation in cls.__annotations__.items():
            for word in re.findall(r"\w+", str(annotation)):
                candidate = names.get(word)
                if isinstance(candidate, type) and dataclasses.is_dataclass(candidate):
                    found[name] = candidate
                    break
        _cache[cls] = found
    return _cache[cls]
