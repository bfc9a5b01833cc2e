"""Runs on the controller: the images that a build takes from, so that its host gets their logins."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hostctl_host.contract.errors import HostctlError

_CONTEXT = "docker-image://"


def bases(build: Mapping[str, Any]) -> list[str]:
    """References in FROM and `--from` of a build's needed stages, and its contexts that are images.

    Args:
        build: `contract/build.py` on the wire. A Dockerfile that cannot be read has no bases here: the
            build itself says what is wrong with it.
    """
    from hostctl_host.contract.dockerfile.graph import Graph
    from hostctl_host.contract.dockerfile.parse import parse
    from hostctl_host.contract.dockerfile.scope import global_arguments

    contexts: Mapping[str, str] = build.get("additional_contexts") or {}
    target = str(build.get("target") or "")
    found = [text[len(_CONTEXT) :] for text in contexts.values() if text.startswith(_CONTEXT)]
    try:
        dockerfile = parse(str(build.get("dockerfile_inline") or ""))
        arguments = global_arguments(dockerfile, build.get("args") or {}, target=target)
        for stage in Graph(dockerfile, arguments, contexts).needed(target):
            origins = (stage.base, *stage.origins.values())
            found += [origin.name for origin in origins if origin.kind == "image"]
    except (HostctlError, ValueError, IndexError):
        pass
    return list(dict.fromkeys(found))
