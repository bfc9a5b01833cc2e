"""Runs on the controller: Ansible's most used filters, beside those that Jinja has."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import ntpath
import os
import posixpath
import random
import re
import shlex
import time
import uuid
from collections.abc import Callable, Sequence
from typing import Any

import jinja2

from .data import (
    combine,
    dict2items,
    flatten,
    human_readable,
    human_to_bytes,
    items2dict,
    jsonable,
    subelements,
    to_nice_yaml,
    to_yaml,
)

_TRUE = ("yes", "on", "1", "true", "y", "t")


def mandatory(value: Any, msg: str = "") -> Any:
    if isinstance(value, jinja2.Undefined):
        if msg:
            raise jinja2.UndefinedError(msg)
        value._fail_with_undefined_error()
    return value


def to_bool(value: Any) -> bool | None:
    if value is None or isinstance(value, bool):
        return value
    return str(value).strip().lower() in _TRUE


def default(value: Any, default_value: Any = "", boolean: bool = False) -> Any:
    if isinstance(value, jinja2.Undefined) or (boolean and not value):
        return default_value
    return value


def ternary(value: Any, true: Any, false: Any, none: Any = None) -> Any:
    if value is None and none is not None:
        return none
    return true if value else false


def to_json(value: Any, **options: Any) -> str:
    return json.dumps(jsonable(value), **{"ensure_ascii": False, **_dump_options(options)})


def to_nice_json(value: Any, indent: int = 4, sort_keys: bool = True, **options: Any) -> str:
    return json.dumps(
        jsonable(value),
        **{
            "ensure_ascii": False,
            "indent": indent,
            "sort_keys": sort_keys,
            **_dump_options(options),
        },
    )


def _dump_options(options: dict[str, Any]) -> dict[str, Any]:
    return {
        key: value
        for key, value in options.items()
        if key in ("indent", "sort_keys", "ensure_ascii", "separators")
    }


def from_yaml(value: Any) -> Any:
    from ..yaml import load

    return load(str(value), "from_yaml")


def b64encode(value: Any, encoding: str = "utf-8") -> str:
    return base64.b64encode(str(value).encode(encoding)).decode()


def b64decode(value: Any, encoding: str = "utf-8") -> str:
    return base64.b64decode(str(value)).decode(encoding)


def get_hash(value: Any, hashtype: str = "sha1") -> str:
    return hashlib.new(hashtype, str(value).encode()).hexdigest()


def regex_replace(
    value: Any,
    pattern: str = "",
    replacement: str = "",
    ignorecase: bool = False,
    multiline: bool = False,
    count: int = 0,
    mandatory_count: int = 0,
) -> str:
    compiled = re.compile(pattern, _flags(ignorecase, multiline))
    out, made = compiled.subn(replacement, str(value), count=count)
    if mandatory_count and made < mandatory_count:
        raise ValueError(f"{pattern!r} matches {made} times in {value!r}, not {mandatory_count}")
    return out


def regex_search(
    value: Any, pattern: str, *groups: str, ignorecase: bool = False, multiline: bool = False
) -> Any:
    found = re.search(pattern, str(value), _flags(ignorecase, multiline))
    if not found:
        return None
    if not groups:
        return found.group()
    return [found.group(_group(group)) for group in groups]


def _group(text: str) -> int | str:
    if match := re.fullmatch(r"\\(\d+)", text):
        return int(match[1])
    if match := re.fullmatch(r"\\g<(\w+)>", text):
        return int(match[1]) if match[1].isdigit() else match[1]
    raise ValueError(f"{text!r} is no group; write '\\\\1' or '\\\\g<name>'")


def regex_findall(
    value: Any, pattern: str, multiline: bool = False, ignorecase: bool = False
) -> list[Any]:
    return re.findall(pattern, str(value), _flags(ignorecase, multiline))


def regex_escape(value: Any, re_type: str = "python") -> str:
    if re_type == "posix_basic":
        return re.sub(r"([].[^$*\\])", r"\\\1", str(value))
    return re.escape(str(value))


def _flags(ignorecase: bool, multiline: bool) -> int:
    return (re.IGNORECASE if ignorecase else 0) | (re.MULTILINE if multiline else 0)


def _unique(items: Sequence[Any]) -> list[Any]:
    out: list[Any] = []
    for item in items:
        if item not in out:
            out.append(item)
    return out


def unique(items: Sequence[Any], case_sensitive: bool = True, attribute: Any = None) -> list[Any]:
    out: list[Any] = []
    seen: list[Any] = []
    for item in items:
        mark = item
        for part in str(attribute).split(".") if attribute is not None else ():
            mark = mark[part]
        if isinstance(mark, str) and not case_sensitive:
            mark = mark.lower()
        if mark not in seen:
            seen.append(mark)
            out.append(item)
    return out


def union(first: Sequence[Any], second: Sequence[Any]) -> list[Any]:
    return _unique([*first, *second])


def intersect(first: Sequence[Any], second: Sequence[Any]) -> list[Any]:
    return _unique([item for item in first if item in second])


def difference(first: Sequence[Any], second: Sequence[Any]) -> list[Any]:
    return _unique([item for item in first if item not in second])


def symmetric_difference(first: Sequence[Any], second: Sequence[Any]) -> list[Any]:
    return difference(union(first, second), intersect(first, second))


def pick_random(end: Any, start: int = 0, step: int = 1, seed: Any = None) -> Any:
    source = random.SystemRandom() if seed is None else random.Random(seed)
    if isinstance(end, int):
        return source.randrange(start, end, step)
    return source.choice(list(end))


def shuffle(items: Sequence[Any], seed: Any = None) -> list[Any]:
    out = list(items)
    (random.SystemRandom() if seed is None else random.Random(seed)).shuffle(out)
    return out


def comment(
    value: Any, style: str = "plain", decoration: str = "", prefix: str = "", postfix: str = ""
) -> str:
    styles = {"plain": "# ", "erlang": "% ", "c": "// ", "cblock": " * ", "xml": " - "}
    around = {"cblock": ("/*", " */"), "xml": ("<!--", "-->")}
    mark = decoration or styles.get(style, "# ")
    bare = mark.rstrip()
    lines = [f"{mark}{line}".rstrip() for line in str(value).rstrip("\n").split("\n")]
    begin, end = around.get(style, ("", ""))
    out = [begin] if begin else []
    out += [bare + prefix, *lines, bare + postfix]
    return "\n".join([*out, end] if end else out)


def extract(key: Any, container: Any, morekeys: Any = None) -> Any:
    value = container[key]
    for more in morekeys if isinstance(morekeys, list) else [] if morekeys is None else [morekeys]:
        value = value[more]
    return value


def strftime(text: str, second: float | None = None, utc: bool = False) -> str:
    return time.strftime(text, (time.gmtime if utc else time.localtime)(second))


def to_uuid(value: Any, namespace: str = "361E6D51-FAEC-444A-9079-341386DA8E2E") -> str:
    return str(uuid.uuid5(uuid.UUID(namespace), str(value)))


def zipped(first: Sequence[Any], *others: Sequence[Any], strict: bool = False) -> list[Any]:
    return [list(item) for item in zip(first, *others, strict=strict)]


def zip_longest(first: Sequence[Any], *others: Sequence[Any], fillvalue: Any = None) -> list[Any]:
    return [list(item) for item in itertools.zip_longest(first, *others, fillvalue=fillvalue)]


def as_int(value: Any, default: int = 0, base: int = 10) -> int:
    try:
        return (
            int(value, base)
            if isinstance(value, str) and base != 10
            else int(float(value) if "." in str(value) else value)
        )
    except (TypeError, ValueError):
        return default


FILTERS: dict[str, Callable[..., Any]] = {
    "b64decode": b64decode,
    "b64encode": b64encode,
    "basename": lambda value: posixpath.basename(str(value)),
    "bool": to_bool,
    "checksum": get_hash,
    "combinations": lambda items, size: [
        list(item) for item in itertools.combinations(items, size)
    ],
    "combine": combine,
    "comment": comment,
    "d": default,
    "default": default,
    "dict2items": dict2items,
    "difference": difference,
    "dirname": lambda value: posixpath.dirname(str(value)),
    "expanduser": lambda value: os.path.expanduser(str(value)),
    "expandvars": lambda value: os.path.expandvars(str(value)),
    "extract": extract,
    "flatten": flatten,
    "from_json": lambda value: json.loads(value),
    "from_yaml": from_yaml,
    "hash": get_hash,
    "human_readable": human_readable,
    "human_to_bytes": human_to_bytes,
    "int": as_int,
    "intersect": intersect,
    "items2dict": items2dict,
    "log": lambda value, base=None: __import__("math").log(value, *([base] if base else [])),
    "mandatory": mandatory,
    "md5": lambda value: get_hash(value, "md5"),
    "permutations": lambda items, size=None: [
        list(item) for item in itertools.permutations(items, size)
    ],
    "pow": lambda value, power: value**power,
    "product": lambda first, *others: [list(item) for item in itertools.product(first, *others)],
    "quote": lambda value: shlex.quote(str(value)),
    "random": pick_random,
    "realpath": lambda value: os.path.realpath(str(value)),
    "regex_escape": regex_escape,
    "regex_findall": regex_findall,
    "regex_replace": regex_replace,
    "regex_search": regex_search,
    "rekey_on_member": lambda items, key: {item[key]: item for item in items},
    "relpath": lambda value, start=".": os.path.relpath(str(value), start),
    "sha1": lambda value: get_hash(value, "sha1"),
    "shuffle": shuffle,
    "split": lambda value, separator=None: str(value).split(separator),
    "splitext": lambda value: list(posixpath.splitext(str(value))),
    "strftime": strftime,
    "subelements": subelements,
    "symmetric_difference": symmetric_difference,
    "ternary": ternary,
    "to_json": to_json,
    "to_nice_json": to_nice_json,
    "to_nice_yaml": to_nice_yaml,
    "to_uuid": to_uuid,
    "to_yaml": to_yaml,
    "type_debug": lambda value: type(value).__name__,
    "union": union,
    "unique": unique,
    "urldecode": lambda value: __import__("urllib.parse").parse.unquote_plus(str(value)),
    "win_basename": lambda value: ntpath.basename(str(value)),
    "zip": zipped,
    "zip_longest": zip_longest,
}
