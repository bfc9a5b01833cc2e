"""Runs on the controller: Ansible's lookups that need no plugin: `env`, `file`, `vars`-free and local only."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from typing import Any

from hostctl_host.contract.errors import HostctlError

from ..playbook.errors import did_you_mean

_LATER = (
    "password",
    "pipe",
    "url",
    "template",
    "csvfile",
    "ini",
    "first_found",
    "vars",
    "dict",
    "sequence",
)


def lookup(
    plugin: str, terms: Sequence[Any], options: dict[str, Any], folders: list[str]
) -> list[Any]:
    """The values that a lookup finds, one per term."""
    name = plugin.removeprefix("ansible.builtin.")
    flat = [one for term in terms for one in (term if isinstance(term, list) else [term])]
    known = {"env": _env, "file": _file, "fileglob": _fileglob, "items": _items, "list": _items}
    if name not in known:
        if name in _LATER:
            raise HostctlError(f"not supported yet: the lookup {plugin}", ref="not-supported")
        raise HostctlError(
            f"cannot find the lookup {plugin}", hint=did_you_mean(name, known), ref="unknown-lookup"
        )
    return known[name](flat, options, folders)


def _env(terms: list[Any], options: dict[str, Any], folders: list[str]) -> list[Any]:
    default = options.get("default", "")
    return [os.environ.get(str(term), default) for term in terms]


def _file(terms: list[Any], options: dict[str, Any], folders: list[str]) -> list[Any]:
    out = []
    for term in terms:
        path = find(str(term), "files", folders)
        try:
            with open(path, encoding="utf-8") as stream:
                text = stream.read()
        except (OSError, UnicodeDecodeError) as error:
            cause = getattr(error, "strerror", None) or "not UTF-8"
            raise HostctlError(
                f"cannot read the file {term}: {cause.lower()}", ref="file-unreadable"
            ) from error
        if options.get("lstrip"):
            text = text.lstrip()
        out.append(text.rstrip() if options.get("rstrip", True) else text)
    return out


def _fileglob(terms: list[Any], options: dict[str, Any], folders: list[str]) -> list[Any]:
    out: list[Any] = []
    for term in terms:
        for folder in (os.path.join(folders[-1], "files"), folders[-1]):
            found = sorted(
                path for path in glob.glob(os.path.join(folder, str(term))) if os.path.isfile(path)
            )
            if found:
                out += found
                break
    return out


def _items(terms: list[Any], options: dict[str, Any], folders: list[str]) -> list[Any]:
    return terms


def find(name: str, kind: str, folders: list[str]) -> str:
    """A file by Ansible's search: `files/` beside the playbook, then beside it; the name itself if nowhere."""
    name = os.path.expanduser(name)
    for folder in (os.path.join(folders[-1], kind), folders[-1]):
        if os.path.exists(os.path.join(folder, name)):
            return os.path.join(folder, name)
    return os.path.join(folders[-1], name)
