"""Runs on the controller: YAML values into a kind's `Spec`, with the place of every error.

pydantic decides. A value that already has exactly the declared types is built without it (`exact`): that
is most of them, and importing pydantic costs a tenth of a second that a run without changes can use.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Any

from hostctl_host.contract.fields import FieldError

from ..playbook.errors import Collector, did_you_mean, nearest
from ..playbook.keys import COMPOSE_REFUSED, LATER_BY_KIND
from ..yaml import Place
from .exact import Inexact, build, field_names, required

_COMPOSE_VARIABLE = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*")
_SHELL_KEYS = ("command", "entrypoint")
_adapters: dict[type[Any], Any] = {}

_MESSAGES = {
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "int_parsing": "a whole number",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_parsing": "a number",
    "float_type": "a number",
    "string_type": "a string",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a map",
    "dataclass_type": "a map",
}


def check_keys(
    cls: type[Any],
    kind: str,
    args: dict[str, Any],
    place: Place,
    errors: Collector,
    extra: frozenset[str] = frozenset(),
) -> bool:
    """Report keys that the spec does not have; what can be told without rendering anything."""
    names = field_names(cls)
    good = True
    for key in args:
        if key in names or key in extra or (isinstance(key, str) and key.startswith("x-")):
            continue
        if isinstance(key, str) and ("{{" in key):
            continue
        good = False
        _unknown_key(cls, kind, key, place.key(args, key, name=True), extra, errors)
    return good


def _unknown_key(
    cls: type[Any], kind: str, key: Any, where: Place, extra: frozenset[str], errors: Collector
) -> None:
    if kind == "container" and key in COMPOSE_REFUSED:
        why, hint = COMPOSE_REFUSED[key]
        errors.add(f"cannot use {key}: {why}", where=where, hint=hint, ref="not-possible")
        return
    if key in LATER_BY_KIND.get(kind, ()):
        errors.add(f"not supported yet: {key}", where=where, ref="not-supported")
        return
    hint = did_you_mean(str(key), [*field_names(cls), *extra])
    errors.add(f"cannot use the key {key!r} in {kind}", where=where, hint=hint, ref="unknown-key")


def validate(
    cls: type[Any],
    kind: str,
    data: dict[str, Any],
    place: Place,
    raw: Any,
    errors: Collector,
    label: str = "",
) -> Any:
    """The spec, or None with the reasons in `errors`.

    Args:
        data: rendered values.
        place: the place of `raw`, the map as it was written (for the places of its keys).
        label: what the spec is for, in messages (default: the kind).
    """
    try:
        return build(cls, data)
    except Inexact:
        pass
    what = label or kind
    names = field_names(cls)
    unknown = [key for key in data if key not in names]
    for key in unknown:
        _unknown_key(cls, kind, key, place.walk(raw, [key], name=True), frozenset(), errors)
    data = {key: value for key, value in data.items() if key in names}
    missing = [key for key in required(cls) if key not in data]
    for key in missing:
        errors.add(f"cannot use {what}: {key} is missing", where=place, ref="missing-key")
    if missing:
        return None
    made = _with_pydantic(cls, what, data, place, raw, errors)
    return None if unknown else made


def _with_pydantic(
    cls: type[Any], what: str, data: dict[str, Any], place: Place, raw: Any, errors: Collector
) -> Any:
    from pydantic import ValidationError

    try:
        return adapter(cls).validate_python(data)
    except ValidationError as found:
        for error in found.errors(include_url=False):
            _report(cls, dict(error), what, place, raw, errors)
        return None


def adapter(cls: type[Any]) -> Any:
    """The kind's TypeAdapter, made when it is first needed."""
    if cls not in _adapters:
        from pydantic import ConfigDict, TypeAdapter

        cls.__pydantic_config__ = ConfigDict(extra="forbid", coerce_numbers_to_str=True)
        _adapters[cls] = TypeAdapter(cls)
    return _adapters[cls]


def _report(
    cls: type[Any], error: dict[str, Any], what: str, place: Place, raw: Any, errors: Collector
) -> None:
    loc = [
        part
        for part in error["loc"]
        if not (isinstance(part, str) and part.startswith(("function-", "nullable")))
    ]
    kind = error["type"]
    hint = ""
    cause = error.get("ctx", {}).get("error")
    if isinstance(cause, FieldError):
        loc += cause.path
    name = kind == "unexpected_keyword_argument"
    where = place.walk(raw, loc, name=name)
    path = _dotted(loc) or what
    shown = _shown(error.get("input"))
    if kind == "unexpected_keyword_argument":
        known = _siblings(cls, loc)
        message, hint = (
            f"cannot use the key {loc[-1]!r} in {what}",
            did_you_mean(str(loc[-1]), known),
        )
    elif kind == "missing":
        message = f"cannot use {_dotted(loc[:-1]) or what}: {loc[-1]} is missing"
    elif isinstance(cause, ValueError):
        text = str(cause)
        if text.startswith("not supported yet"):
            errors.add(text, where=where, ref="not-supported")
            return
        message = f"cannot use {path}: {text}"
    elif kind == "literal_error":
        expected = str(error["ctx"]["expected"]).replace("'", "").replace(" or ", ", ")
        found = nearest(str(error["input"]), expected.split(", "))
        message = f"cannot use {shown} for {path}: it is one of {', '.join(x for x in expected.split(', ') if x)}"
        hint = f"did you mean {found}?" if found else ""
    elif kind in _MESSAGES:
        message = f"cannot use {shown} for {path}: it is {_MESSAGES[kind]}"
    else:
        message = f"cannot use {shown} for {path}: {error['msg']}"
    errors.add(message, where=where, hint=hint, ref="unknown-key" if name else "wrong-type")


def _siblings(cls: type[Any], loc: list[Any]) -> tuple[str, ...]:
    """Field names of the dataclass that holds the last key of a path."""
    from .exact import nested

    current: type[Any] | None = cls
    for part in loc[:-1]:
        if current is None:
            return ()
        if isinstance(part, str) and part in field_names(current):
            current = nested(current, part)
    return field_names(current) if current is not None and dataclasses.is_dataclass(current) else ()


def _dotted(loc: list[Any]) -> str:
    out = ""
    for part in loc:
        out += f"[{part}]" if isinstance(part, int) else f".{part}" if out else str(part)
    return out


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return "a map"
    if isinstance(value, (list, tuple)):
        return "a list"
    text = (
        "nothing"
        if value is None
        else str(value).lower()
        if isinstance(value, bool)
        else repr(value)
    )
    return text if len(text) <= 60 else text[:57] + "..."


def check_compose_variables(value: Any, place: Place, errors: Collector) -> None:
    """Report `${X}`, which is no template in a playbook; a command may have it for its shell."""
    if isinstance(value, dict):
        for key, item in value.items():
            if key not in _SHELL_KEYS:
                check_compose_variables(item, place.key(value, key), errors)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            check_compose_variables(item, place.key(value, index), errors)
    elif isinstance(value, str) and "${" in value:
        found = _COMPOSE_VARIABLE.search(re.sub(r"\{\{.*?\}\}", "", value))
        if found:
            name = found[0][2:]
            errors.add(
                f"cannot use ${{{name}}} here: playbooks have Jinja only, `$` is an ordinary character",
                where=place,
                hint=f"write {{{{ {name.lower()} }}}} or {{{{ lookup('env', '{name}') }}}}; "
                f"for a literal ${{ write {{{{ '${{' }}}}",
                ref="compose-variable",
            )
