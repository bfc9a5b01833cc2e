"""Runs on the controller: files of this machine that a container's keys name: `env_file`, seccomp profiles."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hostctl_host.contract.compose.isolation import SECCOMP_CONTENT
from hostctl_host.contract.compose.values import pairs, parse_environment
from hostctl_host.contract.fields import FieldError

from ..inventory.files import display
from ..playbook.errors import Collector, did_you_mean
from ..template import Engine
from ..yaml import Place
from .content import Content
from .dotenv import DotenvError, parse, parse_raw

_KEYS = ("path", "required", "format")
_NO_FILE = ("unconfined", "builtin")


def read_files(
    body: dict[str, Any],
    raw: Any,
    place: Place,
    engine: Engine,
    content: Content,
    errors: Collector,
) -> dict[str, Any]:
    """A container's body with `env_file` folded into `environment`, and profiles as content.

    What cannot be read is in `errors`; the rest of the body is checked all the same.
    """
    out = dict(body)
    given = out.pop("env_file", None)
    if given is not None:
        found = _variables(given, place, raw, engine, errors)
        _fold(out, found)
    if isinstance(out.get("security_opt"), (list, tuple)):
        out["security_opt"] = [
            _profile(item, place.walk(raw, ["security_opt", index]), engine, content, errors)
            for index, item in enumerate(out["security_opt"])
        ]
    return out


def digests(spec: Any) -> tuple[str, ...]:
    """Of the content that a container's spec refers to."""
    return tuple(
        item[len(SECCOMP_CONTENT) :]
        for item in spec.security_opt
        if item.startswith(SECCOMP_CONTENT)
    )


def _fold(out: dict[str, Any], found: dict[str, str]) -> None:
    """`environment` wins; a name there without a value that the caller lacks removes the file's."""
    written = out.get("environment")
    try:
        own = {} if written is None else parse_environment(written)
        bare = {name for name, item in pairs(written, "=", "") or () if item is None}
    except FieldError:
        return  # said by the check of `environment`
    if isinstance(own, dict):
        kept = {name: item for name, item in found.items() if name not in bare - own.keys()}
        out["environment"] = {**kept, **own}


def _variables(
    given: Any, place: Place, raw: Any, engine: Engine, errors: Collector
) -> dict[str, str]:
    found: dict[str, str] = {}
    listed = isinstance(given, (list, tuple))
    for index, item in enumerate(given if listed else [given]):
        where = place.walk(raw, ["env_file", index] if listed else ["env_file"])
        entry = {"path": item} if isinstance(item, str) else item
        if not _good(entry, where, errors):
            continue
        path = engine.find(entry["path"], "files")
        if path is None or not path.is_file():
            if entry.get("required", True) not in (False, "false"):
                errors.add(
                    f"cannot find {entry['path']}",
                    where=where,
                    hint=f"it is looked for beside the playbook, in {display(os.fspath(engine.folder))};"
                    " `required: false` does without",
                    ref="no-env-file",
                )
            continue
        try:
            found.update(_read(path, entry.get("format"), found))
        except (OSError, UnicodeDecodeError, DotenvError) as error:
            cause = "it is no text in UTF-8" if isinstance(error, UnicodeDecodeError) else error
            errors.add(
                f"cannot read {display(os.fspath(path))}: {cause}", where=where, ref="bad-env-file"
            )
    return found


def _read(path: Path, form: str | None, known: Mapping[str, str]) -> dict[str, str]:
    text = path.read_text(encoding="utf-8")
    return parse_raw(text, os.environ) if form == "raw" else parse(text, known, os.environ)


def _good(entry: Any, where: Place, errors: Collector) -> bool:
    if not isinstance(entry, dict) or not isinstance(entry.get("path"), str):
        errors.add(
            "cannot use env_file: write a path, or a map with path", where=where, ref="wrong-type"
        )
        return False
    for key in entry:
        if key not in _KEYS:
            errors.add(
                f"cannot use the key {key!r} in env_file",
                where=where,
                hint=did_you_mean(key, _KEYS),
                ref="unknown-key",
            )
            return False
    if entry.get("required", True) not in (True, False, "true", "false"):
        errors.add(
            f"cannot use {entry['required']!r} for required: it is true or false",
            where=where,
            ref="wrong-type",
        )
        return False
    if entry.get("format") not in (None, "raw"):
        errors.add(
            f"cannot use the format {entry['format']!r}: raw, or leave it out",
            where=where,
            ref="wrong-type",
        )
        return False
    return True


def _profile(item: Any, where: Place, engine: Engine, content: Content, errors: Collector) -> Any:
    """`seccomp=PATH` as the digest of the file, which is JSON."""
    if not isinstance(item, str) or item.partition("=")[0].partition(":")[0] != "seccomp":
        return item
    name = item[len("seccomp") + 1 :]
    if not name or name in _NO_FILE or item.startswith(SECCOMP_CONTENT):
        return item
    path = engine.find(name, "files")
    if path is None or not path.is_file():
        errors.add(
            f"cannot find the seccomp profile {name}",
            where=where,
            hint=f"it is looked for beside the playbook, in {display(os.fspath(engine.folder))};"
            " `seccomp=unconfined` uses none",
            ref="no-seccomp-profile",
        )
        return "seccomp=unconfined"
    try:
        data = path.read_bytes()
        if not isinstance(json.loads(data), dict):
            raise ValueError("it is no object {...}")
    except (OSError, ValueError) as error:
        errors.add(
            f"cannot use the seccomp profile {display(os.fspath(path))}: {error}",
            where=where,
            hint="it must be JSON in Docker's format",
            ref="bad-seccomp",
        )
        return "seccomp=unconfined"
    return SECCOMP_CONTENT + content.add(data)
