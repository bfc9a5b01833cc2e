"""Runs on the controller: the filters that reshape data: maps, lists, sizes, YAML."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any


def jsonable(value: Any) -> Any:
    """A value as plain JSON types (lazy maps and tuples resolved)."""
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [jsonable(item) for item in value]
    if isinstance(value, str):
        return str(value)
    return value


def combine(
    first: Any, *others: Any, recursive: bool = False, list_merge: str = "replace"
) -> dict[Any, Any]:
    """Maps merged, later ones winning; lists as `list_merge` says."""
    out = dict(first)
    for other in others:
        for one in other if isinstance(other, (list, tuple)) else [other]:
            out = _merge(out, one, recursive, list_merge)
    return out


def _merge(
    first: Mapping[Any, Any], second: Mapping[Any, Any], recursive: bool, lists: str
) -> dict[Any, Any]:
    if not isinstance(second, Mapping):
        raise ValueError(f"combine takes maps, not {type(second).__name__}")
    out = dict(first)
    for key, value in second.items():
        old = out.get(key)
        if recursive and isinstance(old, Mapping) and isinstance(value, Mapping):
            out[key] = _merge(old, value, recursive, lists)
        elif lists != "replace" and isinstance(old, list) and isinstance(value, list):
            out[key] = _merge_lists(old, value, lists)
        else:
            out[key] = value
    return out


def _merge_lists(old: list[Any], new: list[Any], how: str) -> list[Any]:
    if how == "keep":
        return old
    if how == "append":
        return old + new
    if how == "prepend":
        return new + old
    if how == "append_rp":
        return [item for item in old if item not in new] + new
    if how == "prepend_rp":
        return new + [item for item in old if item not in new]
    raise ValueError(
        f"{how!r} is no list_merge; replace, keep, append, prepend, append_rp or prepend_rp"
    )


def dict2items(
    value: Mapping[Any, Any], key_name: str = "key", value_name: str = "value"
) -> list[Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"dict2items takes a map, not {type(value).__name__}")
    return [{key_name: key, value_name: item} for key, item in value.items()]


def items2dict(
    items: Sequence[Any], key_name: str = "key", value_name: str = "value"
) -> dict[Any, Any]:
    return {item[key_name]: item[value_name] for item in items}


def flatten(items: Sequence[Any], levels: int | None = None, skip_nulls: bool = True) -> list[Any]:
    out: list[Any] = []
    for item in items:
        if item is None and skip_nulls:
            continue
        if isinstance(item, (list, tuple)):
            if levels is None:
                out += flatten(item, None, skip_nulls)
            elif levels >= 1:
                out += flatten(item, levels - 1, skip_nulls)
            else:
                out.append(item)
        else:
            out.append(item)
    return out


def subelements(items: Any, path: Any, skip_missing: bool = False) -> list[Any]:
    """Each item with each element of a list inside it, as pairs."""
    parts = path.split(".") if isinstance(path, str) else list(path)
    out = []
    for item in items.values() if isinstance(items, Mapping) else items:
        below: Any = item
        for part in parts:
            if part not in below:
                if skip_missing:
                    below = []
                    break
                raise ValueError(f"there is no {part!r} in {item!r}")
            below = below[part]
        out += [[item, element] for element in below]
    return out


_SIZES = {"Y": 80, "Z": 70, "E": 60, "P": 50, "T": 40, "G": 30, "M": 20, "K": 10}


def human_readable(value: Any, isbits: bool = False, unit: str | None = None) -> str:
    size, base = float(value), "bits" if isbits else "Bytes"
    for suffix, power in _SIZES.items():
        if (unit is None and size >= 1 << power) or (unit and unit.upper() == suffix):
            return f"{size / (1 << power):.2f} {suffix}{base[0] if not isbits else 'b'}"
    return f"{size:.2f} {base}"


def human_to_bytes(value: Any, default_unit: str | None = None, isbits: bool = False) -> int:
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", str(value))
    if not found:
        raise ValueError(f"{value!r} is no size; write it like 10M or 1.5 GB")
    unit = (found[2] or default_unit or "").upper()
    if unit in ("", "B", "BYTES"):
        return round(float(found[1]))
    if unit[0] not in _SIZES or unit[1:] not in ("", "B", "IB", "BIT" if isbits else "B"):
        raise ValueError(f"{value!r} has an unknown unit {found[2]!r}")
    return round(float(found[1]) * (1 << _SIZES[unit[0]]))


def to_yaml(value: Any, **options: Any) -> str:
    """YAML in the compact style that Ansible's filter has."""
    return _dump(value, {"default_flow_style": None, **options})


def to_nice_yaml(value: Any, indent: int = 4, **options: Any) -> str:
    """YAML in block style."""
    return _dump(value, {"default_flow_style": False, "indent": indent, **options})


def _dump(value: Any, options: dict[str, Any]) -> str:
    import yaml

    known = (
        "default_flow_style",
        "indent",
        "sort_keys",
        "width",
        "explicit_start",
        "explicit_end",
        "allow_unicode",
    )
    chosen = {key: item for key, item in options.items() if key in known}
    return str(yaml.safe_dump(jsonable(value), **{"allow_unicode": True, **chosen}))
