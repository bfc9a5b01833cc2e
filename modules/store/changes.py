"""Runs on the managed host: applies `import --change` to an image's config, as a build would."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..build.state import State, configure
from ..contract.dockerfile import instructions as of
from ..contract.dockerfile.changes import parse_change
from ..contract.dockerfile.scope import Scope


def changed(config: dict[str, Any], changes: Iterable[str]) -> dict[str, Any]:
    """The config (OCI image-spec, `config`) after these instructions, in order.

    Raises:
        HostctlError: one of them is none.
    """
    state = State(config=dict(config))
    scope = Scope(state.environment, {}, {})
    for text in changes:
        for written in parse_change(text):
            one = scope.take(written)
            if isinstance(one, of.Workdir):
                state.set("WorkingDir", state.path(one.path).rstrip("/") or "/")
            else:
                configure(state, one)
    return state.config
