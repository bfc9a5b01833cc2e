"""Runs on the controller: the operator's logins: found in files and helpers, stored and forgotten again."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from hostctl_host.contract.errors import HostctlError
from hostctl_host.contract.registries import DOCKER_HUB

from . import files, helper

Entry = dict[str, str]


class Keyring:
    """Logins by repository. Each is looked up once, so that fifty hosts ask a helper once; threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: dict[str, Entry | None] = {}
        self._asked: dict[tuple[str, str], Entry | None] = {}

    def find(self, name: str) -> Entry | None:
        """The login for a repository `host/path`: `username` and `password`, or `identitytoken`.

        `problem` stands there instead where a file or helper failed: most images need no login, so
        that is said only where a registry wants one.
        """
        with self._lock:
            if name not in self._found:
                self._found[name] = self._look(name)
            return self._found[name]

    def known(self, name: str) -> Entry | None:
        """The same without asking a helper: empty where there is no login, None where only a helper can tell."""
        with self._lock:
            if name in self._found:
                return self._found[name] or {}
        if _needs_helper(name.partition("/")[0]):
            return None
        return self.find(name) or {}

    def store(self, host: str, login: Entry) -> str:
        """Keep a login where Docker would; says where, for people.

        Raises:
            HostctlError: the file or the helper cannot take it.
        """
        path, server = files.docker_file(), _server(host)
        name = files.helper_of(files.read(path), host)
        if name:
            helper.store(name, server, login)
            # Docker's own mark, so that it lists the registry.
            files.change(path, lambda content: _auths(content).update({server: {}}))
            return f"docker-credential-{name}"
        pair = f"{login['username']}:{login['password']}"
        kept = {"auth": _encoded(pair)}
        files.change(path, lambda content: _auths(content).update({server: kept}))
        return str(path)

    def forget(self, host: str) -> list[str]:
        """Remove the registry's login wherever `find` would see it; the places, for people.

        Raises:
            HostctlError: a file or helper cannot be changed.
        """
        places = []
        for path in files.files():
            content = files.read(path)
            name = files.helper_of(content, host)
            if name and helper.get(name, _server(host)) is not None:
                helper.erase(name, _server(host))
                places.append(f"docker-credential-{name}")
            if keys := files.keys_of(content, host):
                files.change(path, lambda content, keys=keys: _drop(content, keys))  # type: ignore[misc]
                places.append(str(path))
        return list(dict.fromkeys(places))

    def _look(self, name: str) -> Entry | None:
        host = name.partition("/")[0]
        problem: Entry | None = None
        for path in files.files():
            try:
                found = self._in(path, host, name)
            except HostctlError as error:
                problem = {"problem": f"{error.message} ({error.hint})"}
                continue
            if found:
                return found
        return problem

    def _in(self, path: Path, host: str, name: str) -> Entry | None:
        content = files.read(path)
        if program := files.helper_of(content, host):
            key = (program, host)
            if key not in self._asked:
                self._asked[key] = helper.get(program, _server(host))
            if found := self._asked[key]:
                return found
        return files.entry(path, content, name)


def _needs_helper(host: str) -> bool:
    """Whether `find` would ask a helper. A file that cannot be read is for `find` to mention."""
    for path in files.files():
        try:
            if files.helper_of(files.read(path), host):
                return True
        except HostctlError:
            continue
    return False


def _server(host: str) -> str:
    """What Docker calls a registry."""
    return files.HUB_KEY if host in DOCKER_HUB else host


def _auths(content: dict[str, Any]) -> dict[str, Any]:
    auths: dict[str, Any] = content.setdefault("auths", {})
    return auths


def _drop(content: dict[str, Any], keys: list[str]) -> None:
    for key in keys:
        content["auths"].pop(key, None)


def _encoded(pair: str) -> str:
    import base64

    return base64.b64encode(pair.encode()).decode()
