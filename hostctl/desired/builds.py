"""Runs on the controller: `build:` of an image: its Dockerfile is read and checked, its files become digests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hostctl_host.contract.build import IMAGE, Build
from hostctl_host.contract.dockerfile.parse import parse
from hostctl_host.contract.errors import HostctlError

from ..playbook.errors import Collector
from ..template import Engine
from ..yaml import Place
from .content import Content
from .context import listing
from .lending import read_wishes
from .validate import check_keys


def build_data(
    written: Any, raw: Any, place: Place, engine: Engine, content: Content, errors: Collector
) -> tuple[dict[str, Any], tuple[str, ...]] | None:
    """The fields of `contract/build.py` as they travel, and the digests of its contexts' listings.

    Args:
        written: a folder, or a map with Compose's keys; paths are relative to the playbook.
    """
    if isinstance(written, str):
        written = {"context": written}
    if not isinstance(written, dict):
        errors.add(
            "cannot use build: it is neither a folder nor a map", where=place, ref="wrong-type"
        )
        return None
    data = {key: value for key, value in written.items() if value is not None}
    for key in (
        "cache_from",
        "cache_to",
        "privileged",
        "isolation",
        "entitlements",
    ):
        if data.get(key):
            where = place.key(raw, key, name=True) if isinstance(raw, dict) else place
            errors.add(f"not supported yet: {key} of a build", where=where, ref="not-supported")
            return None
    if isinstance(raw, dict) and not check_keys(Build, "build", raw, place, errors):
        return None  # a key that is misspelled is the cause of whatever is missing
    wishes = read_wishes(written, raw, place, errors)
    data["secrets"] = sorted(wishes.secrets)
    data["ssh"] = sorted(wishes.agents)
    folder = Path(engine.folder, str(data.get("context", ".")))
    name = str(data.get("dockerfile", "Dockerfile"))
    try:
        if not folder.is_dir():
            fetched = any(mark in str(data.get("context")) for mark in ("://", "git@"))
            raise HostctlError(
                f"cannot use the context {data.get('context', '.')}: there is no such folder",
                hint="contexts are not fetched: clone it, and give the folder"
                if fetched
                else "it is relative to the playbook",
                ref="build-context",
            )
        file = folder / name
        inline = data.get("dockerfile_inline")
        text = str(inline) if inline is not None else _read(file)
        parse(text, "dockerfile_inline" if inline is not None else name)
        contexts = {
            key: where if str(where).startswith(IMAGE) else _named(engine, str(where), content)
            for key, where in _pairs(data.get("additional_contexts")).items()
        }
        data["dockerfile_inline"] = text
        data["dockerfile"] = name
        data["additional_contexts"] = contexts
        data["context"] = listing(content, folder, None if inline is not None else file)
    except HostctlError as error:
        message = f"{error.where}: {error.message}" if error.where else error.message
        errors.add(message, where=place, hint=error.hint, ref=error.ref)
        return None
    listed = [data["context"], *(one for one in contexts.values() if not one.startswith(IMAGE))]
    return data, tuple(dict.fromkeys(listed))


def _read(file: Path) -> str:
    try:
        # The ends of lines stay as they are: a heredoc keeps them.
        return file.read_bytes().decode("utf-8", "surrogateescape")
    except OSError as error:
        raise HostctlError(
            f"cannot read the Dockerfile {file}: {error.strerror}",
            hint="name it with `dockerfile:`, relative to the context",
            ref="dockerfile-missing",
        ) from error


def _named(engine: Engine, where: str, content: Content) -> str:
    folder = Path(engine.folder, where)
    if not folder.is_dir():
        raise HostctlError(
            f"cannot use the context {where}: there is no such folder", ref="build-context"
        )
    return listing(content, folder, None)


def _pairs(value: Any) -> dict[str, str]:
    if isinstance(value, dict):
        return {str(key): str(item) for key, item in value.items()}
    return dict(str(item).partition("=")[::2] for item in value or ())
