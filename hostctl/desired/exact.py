"""Runs on the controller: builds a spec from values that already have exactly the declared types.

Anything else is `Inexact`, and pydantic decides; so the two can never disagree on what is accepted.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable
from typing import Any, Literal, Union

from hostctl_host.contract.fields import Short


class Inexact(Exception):
    """The value is not exactly of the declared type."""


Build = Callable[[Any], Any]
_builders: dict[type[Any], tuple[dict[str, Build], tuple[str, ...]]] = {}
_hints: dict[type[Any], dict[str, Any]] = {}


def build(cls: type[Any], data: dict[str, Any]) -> Any:
    """The dataclass made of a map. Raises Inexact."""
    if type(data) is not dict:
        data = dict(data)
    builders, needed = _prepared(cls)
    made = {}
    for key, value in data.items():
        builder = builders.get(key)
        if builder is None:
            raise Inexact(key)
        made[key] = builder(value)
    for name in needed:
        if name not in made:
            raise Inexact(name)
    try:
        return cls(**made)
    except ValueError as error:  # pydantic finds it, too, and knows where it stands
        raise Inexact(cls) from error


def field_names(cls: type[Any]) -> tuple[str, ...]:
    """Names of a dataclass' fields, in order."""
    return tuple(field.name for field in dataclasses.fields(cls))


def required(cls: type[Any]) -> tuple[str, ...]:
    """Names of the fields without a default."""
    missing = dataclasses.MISSING
    return tuple(
        field.name
        for field in dataclasses.fields(cls)
        if field.default is missing and field.default_factory is missing
    )


def nested(cls: type[Any], name: str) -> type[Any] | None:
    """The dataclass inside a field's type, if there is one."""
    found = _find(_types(cls).get(name))
    return found if isinstance(found, type) else None


def _find(hint: Any) -> Any:
    if dataclasses.is_dataclass(hint):
        return hint
    for part in typing.get_args(hint):
        if found := _find(part):
            return found
    return None


def _types(cls: type[Any]) -> dict[str, Any]:
    if cls not in _hints:
        _hints[cls] = typing.get_type_hints(cls, include_extras=True)
    return _hints[cls]


def _prepared(cls: type[Any]) -> tuple[dict[str, Build], tuple[str, ...]]:
    if cls not in _builders:
        hints = _types(cls)
        _builders[cls] = ({name: _builder(hints[name]) for name in field_names(cls)}, required(cls))
    return _builders[cls]


def _builder(hint: Any) -> Build:
    origin = typing.get_origin(hint)
    args = typing.get_args(hint)
    if hint is Any:
        return lambda value: value
    if origin is typing.Annotated:
        return _annotated(_builder(args[0]), args[1:])
    if hint in (str, int, bool):
        return _scalar(hint)
    if hint is float:
        return _float
    if origin is Literal:
        return _literal(args)
    if origin in (Union, types.UnionType) and len(args) == 2 and type(None) in args:
        inner = _builder(next(arg for arg in args if arg is not type(None)))
        return lambda value: None if value is None else inner(value)
    if origin is tuple and len(args) == 2 and args[1] is Ellipsis:
        return _tuple(_builder(args[0]))
    if origin is dict and args[0] is str:
        return _dict(_builder(args[1]))
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return _dataclass(hint)
    return _refuse


def _refuse(value: Any) -> Any:
    raise Inexact(value)


def _annotated(inner: Build, markers: tuple[Any, ...]) -> Build:
    if not all(isinstance(marker, Short) for marker in markers):
        return _refuse
    shorts = tuple(reversed(markers))

    def convert(value: Any) -> Any:
        for short in shorts:
            try:
                value = short.parse(value)
            except (ValueError, AssertionError) as error:
                raise Inexact(value) from error
        return inner(value)

    return convert


def _scalar(wanted: type[Any]) -> Build:
    def exact(value: Any) -> Any:
        if type(value) is not wanted:
            raise Inexact(value)
        return value

    return exact


def _float(value: Any) -> Any:
    if type(value) is not float:
        raise Inexact(value)
    return value


def _literal(choices: tuple[Any, ...]) -> Build:
    def choose(value: Any) -> Any:
        if type(value) is not str or value not in choices:
            raise Inexact(value)
        return value

    return choose


def _tuple(item: Build) -> Build:
    def convert(value: Any) -> Any:
        if not isinstance(value, (list, tuple)):
            raise Inexact(value)
        return tuple([item(one) for one in value])

    return convert


def _dict(item: Build) -> Build:
    def convert(value: Any) -> Any:
        if not isinstance(value, dict):
            raise Inexact(value)
        for key in value:
            if type(key) is not str:
                raise Inexact(key)
        return {key: item(one) for key, one in value.items()}

    return convert


def _dataclass(cls: type[Any]) -> Build:
    def convert(value: Any) -> Any:
        if isinstance(value, cls):
            return value
        if not isinstance(value, dict):
            raise Inexact(value)
        return build(cls, value)

    return convert
