"""Runs on the controller: what builds of a play may use of this machine: secrets of the playbook, SSH agents, keys.

Source: the Compose Build Specification, `secrets` and `ssh`. Only ids travel with the build; the rest is in
`credentials/lent.py`, and a host asks for it when a step wants it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hostctl_host.contract.errors import HostctlError

from ..credentials import Lent
from ..playbook.errors import Collector, did_you_mean
from ..yaml import Place

if TYPE_CHECKING:
    from .content import Content
    from .draft import Draft

_KEYS = ("source", "target", "uid", "gid", "mode")


@dataclass
class Wishes:
    """Of one build.

    Attributes:
        secrets: id -> key of `secrets:`, and where that is written.
        agents: id -> sockets or key files as they are written; none: the agent of the environment.
    """

    secrets: dict[str, tuple[str, Place]] = field(default_factory=dict)
    agents: dict[str, tuple[str, ...]] = field(default_factory=dict)


def read_wishes(written: Any, raw: Any, place: Place, errors: Collector) -> Wishes:
    """`secrets` and `ssh` of a build, in their short and long forms; what is wrong goes to `errors`."""
    found = Wishes()
    if not isinstance(written, dict):
        return found
    listed = written.get("secrets") or ()
    where = place.walk(raw, ["secrets"])
    if not isinstance(listed, (list, tuple)):
        errors.add("cannot use secrets of a build: it is no list", where=where, ref="wrong-type")
        listed = ()
    for index, item in enumerate(listed):
        _secret(found, item, place.walk(raw, ["secrets", index]), errors)
    given = written.get("ssh") or ()
    if isinstance(given, str):
        given = [given]
    pairs = (
        given.items() if isinstance(given, dict) else (str(i).partition("=")[::2] for i in given)
    )
    for name, paths in pairs:
        found.agents[str(name)] = tuple(p for p in str(paths or "").split(",") if p)
    return found


def _secret(found: Wishes, item: Any, where: Place, errors: Collector) -> None:
    entry = {"source": item} if isinstance(item, str) else item
    if not isinstance(entry, dict) or not isinstance(entry.get("source"), str):
        errors.add(
            "cannot use a secret of a build: write its key, or a map with source",
            where=where,
            ref="wrong-type",
        )
        return
    for key in entry:
        # Owner and mode are the Dockerfile's to say; Compose takes them, and so do we.
        if key not in _KEYS and not str(key).startswith("x-"):
            errors.add(
                f"cannot use the key {key!r} in a secret of a build",
                where=where,
                hint=did_you_mean(str(key), _KEYS),
                ref="unknown-key",
            )
    found.secrets[str(entry.get("target") or entry["source"])] = (entry["source"], where)


class Lending:
    """All builds of one play on one host.

    Args:
        folder: the playbook's, which paths of key files are relative to.
    """

    def __init__(self, lent: Lent, content: Content, folder: Path) -> None:
        self._lent = lent
        self._content = content
        self._folder = folder
        self._wishes: list[tuple[str, Wishes]] = []

    def note(self, image: str, written: Any, raw: Any, place: Place) -> None:
        """A build of this image is declared; what is wrong with it is said elsewhere."""
        self._wishes.append((image, read_wishes(written, raw, place, Collector())))

    def settle(
        self, names: dict[str, str], drafts: list[Draft], users: list[Draft], errors: Collector
    ) -> list[Draft]:
        """Lend what was wished for; the drafts without the secrets that builds alone use: no host keeps those.

        Args:
            names: key of `secrets:` -> full name.
            users: what may need secrets on the host.
        """
        specs = {draft.key: draft.resource.spec for draft in drafts if draft.kind == "secret"}
        taken: set[str] = set()
        for image, wishes in self._wishes:
            for name, (key, where) in wishes.secrets.items():
                full = names.get(key, "")
                taken.add(full)
                self._lend(image, name, key, specs.get(full), key in names, where, names, errors)
            for name, paths in wishes.agents.items():
                sources = tuple(str(self._folder / os.path.expanduser(path)) for path in paths)
                self._lent.agent(image, name, sources)
        needed = {need for draft in users for need in draft.resource.needs}
        return [
            draft
            for draft in drafts
            if draft.kind != "secret" or draft.key not in taken or f"secret.{draft.key}" in needed
        ]

    def _lend(
        self,
        image: str,
        name: str,
        key: str,
        spec: dict[str, Any] | None,
        declared: bool,
        where: Place,
        names: dict[str, str],
        errors: Collector,
    ) -> None:
        if not declared:
            errors.add(
                f"cannot find the secret {key}: it is not declared in secrets",
                where=where,
                hint=did_you_mean(key, names) or "declare it in secrets:",
                ref="unknown-secret",
            )
        elif spec is not None and not spec.get("digest"):
            errors.add(
                f"cannot give the secret {key} to a build: it is external, and its value is on the hosts alone",
                where=where,
                hint="give it a file or an environment variable of this machine",
                ref="build-secret",
            )
        elif spec is not None:
            try:
                self._lent.secret(image, name, self._content.read(str(spec["digest"])))
            except HostctlError as error:
                errors.add(error.message, where=where, hint=error.hint, ref=error.ref)
