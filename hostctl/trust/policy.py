"""Runs on the controller: reads `hostctl_trust` of a host: rules with their places, public keys from PEM or files."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from hostctl_host.contract.errors import HostctlError
from hostctl_host.contract.trust import (
    ACCEPT,
    DEFAULT,
    LOCAL,
    REJECT,
    SIGNED,
    Rule,
    Trust,
    rule_name,
)

from ..yaml import Place
from ..yaml.values import place_of

VARIABLE = "hostctl_trust"
_PEM = "-----BEGIN "
_HINT = f"write {{default: {REJECT}, REGISTRY/PATH: {{{SIGNED}: cosign.pub}}, OTHER.REGISTRY: {ACCEPT}}}"


def policy(value: Any, host: str, take: Callable[[HostctlError], None]) -> Trust:
    """The rules of a host; what is wrong with them goes to `take`, each with its place.

    Args:
        value: the variable, rendered; a `Map` of YAML knows its places.
        host: for errors that have no place.
    """
    place = place_of(value, VARIABLE)
    found: dict[str, Rule] = {}
    if not isinstance(value, dict):
        take(_error("it is no map of registries", place, host))
        return Trust(found)
    for key, written in value.items():
        where = place.key(value, key, name=True)
        try:
            name = rule_name(str(key))
            if name in found:
                raise ValueError(f"{name} is there twice")
            found[name] = _rule(name, written, where)
        except ValueError as error:
            take(_error(f"{key}: {error}", where, host))
    return Trust(found)


def _rule(name: str, written: Any, where: Place) -> Rule:
    if written in (ACCEPT, REJECT):
        return Rule(name, str(written), where.position)
    if not isinstance(written, dict) or SIGNED not in written:
        raise ValueError(f"it is neither {ACCEPT}, nor {REJECT}, nor {{{SIGNED}: KEY}}")
    for key in written:
        if key not in (SIGNED, "identity"):
            raise ValueError(f"there is no {key!r}; there are {SIGNED} and identity")
    if name == LOCAL:
        raise ValueError(f"what is made on a host has no signature: it is {ACCEPT} or {REJECT}")
    identity = written.get("identity")
    if identity is not None:
        if name == DEFAULT or name.startswith("*."):
            raise ValueError("identity is for the rule of one registry or path")
        identity = rule_name(str(identity))
    given = written[SIGNED]
    keys = tuple(_pem(one, where) for one in ([given] if isinstance(given, str) else given or ()))
    if not keys:
        raise ValueError(f"{SIGNED} names no key")
    mark = _mark([name, identity or "", *sorted(keys)])
    return Rule(name, SIGNED, where.position, mark, keys, identity or "")


def _pem(text: Any, where: Place) -> str:
    """A public key as PEM; checked, so that a plan says what is wrong before any host is asked."""
    if not isinstance(text, str):
        raise ValueError("a key is PEM, or the path of a file here")
    source = "the key"
    if _PEM not in text:
        path = Path(where.file).parent / text if where.file else Path(text)
        source = str(path)
        try:
            text = path.read_text(encoding="ascii")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not PEM"
            raise ValueError(f"cannot read the key {path}: {reason.lower()}") from None
    from .signatures import load

    try:
        load(text)
    except ValueError as error:
        raise ValueError(f"{source} cannot be used: {error}") from None
    return str(text).strip()


def _mark(parts: Iterable[str]) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _error(cause: str, where: Place, host: str) -> HostctlError:
    place = str(where) if where.file else f"{host}, {where.path}"
    return HostctlError(f"cannot use {VARIABLE}: {cause}", where=place, hint=_HINT, ref="bad-trust")
