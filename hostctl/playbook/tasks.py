"""Runs on the controller: one task's YAML into `Task`."""

from __future__ import annotations

from typing import Any

from ..yaml import Map, Place, Seq
from . import instead, keys
from .errors import Collector, did_you_mean
from .model import Task

_PREFIXES = ("ansible.builtin.", "ansible.legacy.")
_FREE_FORM = {"command": "cmd", "debug": "msg", "fail": "msg", "assert": "that"}


def words(value: Any) -> tuple[str, ...]:
    """A string, a comma-separated string or a list of strings, as a tuple."""
    if value is None:
        return ()
    items = value if isinstance(value, (list, tuple)) else [value]
    return tuple(word.strip() for item in items for word in str(item).split(",") if word.strip())


def parse_task(
    data: Map, where: Place, section: str, kinds: frozenset[str], errors: Collector
) -> Task | None:
    """One task; None where it cannot be told what it is to do."""
    from .parse import as_bool, check_become

    check_become(data, where, errors)
    kind, key = _kind(data, where, kinds, errors)
    loop = data.get("loop", data.get("with_items"))
    if (
        isinstance(loop, Seq)
        and "with_items" in data
        and any(isinstance(item, Seq) for item in loop)
    ):
        errors.add(
            "not supported yet: with_items over nested lists",
            where=where.key(data, "with_items"),
            hint="use loop with the flatten filter",
            ref="not-supported",
        )
    control = _loop_control(data, where, errors)
    become = as_bool(data["become"]) if "become" in data else None
    if "become" in data and become is None:
        errors.add(
            f"cannot use {data['become']!r} for become: it is true or false",
            where=where.key(data, "become"),
            ref="wrong-type",
        )
    for name in ("vars", "environment"):
        if data.get(name) is not None and not isinstance(data[name], Map):
            errors.add(
                f"cannot use {name}: it is a map of names to values",
                where=where.key(data, name),
                ref="wrong-type",
            )
            return None
    register = data.get("register", "")
    if not isinstance(register, str) or (register and not register.isidentifier()):
        errors.add(
            f"cannot use {register!r} as a variable name",
            where=where.key(data, "register"),
            ref="variable-name",
        )
        register = ""
    if section == "handlers":
        _check_handler(data, where, errors)
    if not kind:
        return None
    args = _arguments(kind, key, data, where, errors)
    if args is None:
        return None
    return Task(
        kind=kind,
        args=args,
        where=where,
        args_where=where.key(data, key),
        keys=data,
        name=str(data.get("name") or ""),
        when=_conditions(data.get("when")) or (),
        loop=loop,
        loop_var=str(control.get("loop_var", "item")),
        index_var=str(control.get("index_var", "")),
        label=control.get("label"),
        register=register,
        notify=_names(data.get("notify")),
        listen=_names(data.get("listen")),
        tags=words(data.get("tags")),
        vars=data.get("vars") or {},
        ignore_errors=data.get("ignore_errors", False),
        changed_when=_conditions(data.get("changed_when")),
        failed_when=_conditions(data.get("failed_when")),
        no_log=data.get("no_log", False),
        become=become,
        section=section,
    )


def _kind(data: Map, where: Place, kinds: frozenset[str], errors: Collector) -> tuple[str, str]:
    found: list[tuple[str, str]] = []
    broken = False
    for key in data:
        name = str(key)
        for prefix in _PREFIXES:
            name = name.removeprefix(prefix)
        if key in keys.TASK:
            continue
        place = where.key(data, key, name=True)
        if name in kinds or name in keys.LOCAL:
            found.append((name, key))
            continue
        broken = True
        short = name.rsplit(".", 1)[-1]
        if key in keys.TASK_LATER or str(key).startswith("with_"):
            hint = instead.of_key(str(key))
            errors.add(f"not supported yet: {key}", where=place, hint=hint, ref="not-supported")
        elif short in keys.MODULES_LATER:
            use = keys.MODULES_LATER[short]
            hint = f"use {use}" if use else instead.of_module(short)
            errors.add(f"not supported yet: {key}", where=place, hint=hint, ref="not-supported")
        else:
            errors.add(
                f"cannot use {key!r}: neither a kind nor a key of a task",
                where=place,
                hint=did_you_mean(name, [*kinds, *keys.LOCAL, *keys.TASK]),
                ref="unknown-key",
            )
    if len(found) > 1:
        errors.add(
            f"cannot tell what the task does: it names {' and '.join(name for name, _ in found)}",
            where=where.key(data, found[1][1], name=True),
            hint="make two tasks of it",
            ref="task-two-kinds",
        )
        return "", ""
    if not found:
        if not broken:
            errors.add(
                "cannot tell what the task does: it names no kind",
                where=where,
                hint=f"add one of {', '.join(sorted(kinds))}",
                ref="task-no-kind",
            )
        return "", ""
    return found[0]


def _arguments(
    kind: str, key: str, data: Map, where: Place, errors: Collector
) -> dict[str, Any] | None:
    value, extra = data[key], data.get("args")
    place = where.key(data, key)
    if isinstance(value, str) and kind in _FREE_FORM:
        value = _free_form(_FREE_FORM[kind], value, place)
    elif isinstance(value, Seq) and kind in ("assert", "command"):
        value = _free_form({"assert": "that", "command": "argv"}[kind], value, place)
    elif value is None:
        value = Map(place.file, place.line, place.column)
    if not isinstance(value, Map):
        errors.add(
            f"cannot use these arguments of {kind}: they are no map",
            where=place,
            hint="write `key: value` pairs below it",
            ref="wrong-type",
        )
        return None
    if isinstance(extra, Map):
        merged = Map(value.file, value.line, value.column)
        for part in (value, extra):
            merged.update(part)
            merged.marks.update(part.marks)
        value = merged
    elif extra is not None:
        errors.add("cannot use args: it is a map", where=where.key(data, "args"), ref="wrong-type")
    if (
        kind == "command"
        and isinstance(data.get("environment"), Map)
        and "environment" not in value
    ):
        merged = Map(value.file, value.line, value.column)
        merged.update(value)
        merged.marks.update(value.marks)
        merged["environment"] = data["environment"]
        merged.marks["environment"] = data.marks["environment"]
        value = merged
    elif data.get("environment") is not None and kind != "command":
        errors.add(
            f"not supported yet: environment of {kind}",
            where=where.key(data, "environment", name=True),
            ref="not-supported",
        )
    return value


def _free_form(name: str, value: Any, place: Place) -> Map:
    made = Map(place.file, place.line, place.column)
    made[name] = value
    made.marks[name] = (place.line, place.column, place.line, place.column)
    return made


def _loop_control(data: Map, where: Place, errors: Collector) -> dict[str, Any]:
    control = data.get("loop_control")
    if control is None:
        return {}
    place = where.key(data, "loop_control")
    if not isinstance(control, Map):
        errors.add("cannot use loop_control: it is a map", where=place, ref="wrong-type")
        return {}
    for key in control:
        if key in keys.LOOP_CONTROL:
            continue
        at = place.key(control, key, name=True)
        if key in keys.LOOP_CONTROL_LATER:
            errors.add(f"not supported yet: {key}", where=at, ref="not-supported")
        else:
            hint = did_you_mean(key, keys.LOOP_CONTROL)
            errors.add(
                f"cannot use the key {key!r} in loop_control",
                where=at,
                hint=hint,
                ref="unknown-key",
            )
    return control


def _check_handler(data: Map, where: Place, errors: Collector) -> None:
    if not data.get("name"):
        errors.add("cannot use the handler: it has no name", where=where, ref="handler-name")
    for key in ("loop", "with_items", "register"):
        if key in data:
            errors.add(
                f"not supported yet: {key} in a handler",
                where=where.key(data, key, name=True),
                ref="not-supported",
            )


def _conditions(value: Any) -> tuple[Any, ...] | None:
    if value is None:
        return None
    return tuple(value) if isinstance(value, (list, tuple)) else (value,)


def _names(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    return tuple(str(item) for item in value) if isinstance(value, (list, tuple)) else (str(value),)
