"""Runs on the controller: Docker's `config.json` and Podman's `auth.json`: where, what, and how they change.

config.json: https://docs.docker.com/reference/cli/docker/#docker-cli-configuration-file-configjson-properties;
auth.json: containers-auth.json(5).
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hostctl_host.contract.errors import HostctlError
from hostctl_host.contract.registries import DOCKER_HUB, credentials_for

HUB_KEY = "https://index.docker.io/v1/"
"""Under this name Docker keeps the login of docker.io."""

Entry = dict[str, str]


def docker_file() -> Path:
    """`$DOCKER_CONFIG/config.json`, or that below `~/.docker`."""
    return Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker") / "config.json"


def files() -> list[Path]:
    """Where logins may be, in the order in which they are looked through."""
    found = [docker_file()]
    if named := os.environ.get("REGISTRY_AUTH_FILE"):
        return [*found, Path(named)]
    if runtime := os.environ.get("XDG_RUNTIME_DIR"):
        found.append(Path(runtime) / "containers" / "auth.json")
    config = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return [*found, config / "containers" / "auth.json"]


def read(path: Path) -> dict[str, Any]:
    """The file's content; empty where there is none.

    Raises:
        HostctlError: `credentials-file`; never with a value of it.
    """
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise _error(path, error.strerror or str(error)) from None
    except (ValueError, RecursionError):
        raise _error(path, "it is not JSON") from None
    if not isinstance(content, dict):
        raise _error(path, "it is no JSON object")
    return content


def entry(path: Path, content: dict[str, Any], name: str) -> Entry | None:
    """The login in `auths` for a repository `host/path`: the longest name above it, then the host's."""
    auths = content.get("auths")
    known: dict[str, Any] = {}
    for key, value in auths.items() if isinstance(auths, dict) else ():
        if isinstance(value, dict) and value:
            known.setdefault(_name(key), {**value, "key": key})
    value = credentials_for(name, known)
    return _decoded(path, dict(value)) if value else None


def helper_of(content: dict[str, Any], host: str) -> str:
    """The credential helper that knows this registry's login; empty for none."""
    per_host = content.get("credHelpers")
    if isinstance(per_host, dict):
        for key, helper in per_host.items():
            if _name(key) == ("docker.io" if host in DOCKER_HUB else host):
                return str(helper)
    return str(content.get("credsStore") or "")


def change(path: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    """Read, edit and replace the file; it stays readable by its owner only, all else in it stays."""
    content = read(path)
    edit(content)
    target = Path(os.path.realpath(path))
    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, fresh = tempfile.mkstemp(prefix=".config.json.", dir=target.parent)
        try:
            with os.fdopen(descriptor, "w") as stream:
                json.dump(content, stream, indent="\t")
                stream.write("\n")
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(fresh, target)
        except BaseException:
            os.unlink(fresh)
            raise
    except OSError as error:
        raise _error(path, error.strerror or str(error)) from None


def keys_of(content: dict[str, Any], host: str) -> list[str]:
    """The keys of `auths` that are this registry's own (not those of its namespaces)."""
    auths = content.get("auths")
    wanted = "docker.io" if host in DOCKER_HUB else host
    return [key for key in auths if _name(key) == wanted] if isinstance(auths, dict) else []


def _name(key: str) -> str:
    """A key as registry, or registry and namespace: `https://host/v1/` is `host`, `host/org` stays."""
    if "://" in key:
        key = key.partition("://")[2].partition("/")[0]
    key = key.rstrip("/")
    for form in ("/v1", "/v2"):
        key = key.removesuffix(form)
    return "docker.io" if key in DOCKER_HUB else key


def _decoded(path: Path, value: dict[str, Any]) -> Entry | None:
    if value.get("identitytoken"):
        return {"identitytoken": str(value["identitytoken"])}
    if value.get("auth"):
        try:
            text = base64.b64decode(str(value["auth"]), validate=True).decode()
        except (binascii.Error, ValueError):
            text = ""
        user, colon, password = text.partition(":")
        if not colon:
            raise _error(path, f"the entry {value['key']} is not base64 of user:password")
        return {"username": user, "password": password.rstrip("\0")}
    if value.get("username"):
        return {"username": str(value["username"]), "password": str(value.get("password", ""))}
    return None


def _error(path: Path, cause: str) -> HostctlError:
    return HostctlError(
        f"cannot use {path}: {cause}",
        hint="hostctl login and docker login write it; repair or remove it",
        ref="credentials-file",
    )
