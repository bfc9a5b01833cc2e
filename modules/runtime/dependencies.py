"""Runs on the managed host, in the agent: what is waited for before a container starts, and its hooks.

Compose's `depends_on` conditions and `post_start`: the Compose specification, services.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from ..contract.errors import CannotApply, HostctlError
from ..contract.spec import encode
from ..monitor import client, files, health

if TYPE_CHECKING:
    from ..agent.host import Paths
    from ..container import Spec

WAIT_SECONDS = 600.0
HOOK_SECONDS = 300.0
_STEP = 0.05


def wait(spec: Spec, paths: Paths) -> None:
    """Until each dependency is as its condition says.

    Raises:
        CannotApply: it became unhealthy, ended, failed, has no healthcheck, or ten minutes have passed.
    """
    deadline = time.monotonic() + WAIT_SECONDS
    for name, dependency in spec.depends_on.items():
        while dependency.condition != "service_started":
            why = _not_yet(name, dependency.condition, paths)
            if why is None:
                break
            over = why or time.monotonic() > deadline
            if over and not dependency.required:
                break
            if over:
                raise _refusal(spec, name, why or "takes more than ten minutes")
            time.sleep(_STEP)


def refusal(spec: Spec, paths: Paths, besides: Iterable[str]) -> CannotApply | None:
    """What `wait` would raise at once, as things are now; those `besides` do not count."""
    for name, dependency in spec.depends_on.items():
        if dependency.condition == "service_started" or not dependency.required or name in besides:
            continue
        why = _not_yet(name, dependency.condition, paths)
        if why:
            return _refusal(spec, name, why)
    return None


def _refusal(spec: Spec, name: str, why: str) -> CannotApply:
    return CannotApply(
        f"cannot start {spec.name}: {name} {why} (condition {spec.depends_on[name].condition})",
        hint=f"see `hostctl logs {name}`",
        ref="dependency-failed",
    )


def _not_yet(name: str, condition: str, paths: Paths) -> str | None:
    """None: as wanted; empty: not yet; else why it will never be."""
    now = client.status(paths, name)
    if condition == "service_completed_successfully":
        if now.status in ("running", "restarting"):
            return ""
        return (
            None if now.status == "exited" and now.exit_code == 0 else f"has failed: {now.ending}"
        )
    if now.status != "running":
        return "" if now.status == "restarting" else f"is {now.status}: {now.ending}"
    if now.health is None:
        return "has no healthcheck"
    if now.health["status"] == health.UNHEALTHY:
        last = (now.health["log"] or [{"output": ""}])[-1]["output"].strip()
        return f"is unhealthy: {last or 'its check printed nothing'}"
    return None if now.health["status"] == health.HEALTHY else ""


def before_stop(name: str, paths: Paths) -> None:
    """Run the `pre_stop` programs of a container that is about to be stopped; the stop goes on anyway."""
    hooks = files.settings(paths, name).pre_stop
    if not hooks or client.status(paths, name).status != "running":
        return
    for hook in hooks:
        try:
            client.run(paths, name, hook, HOOK_SECONDS)
        except (HostctlError, OSError):
            continue


def after_start(spec: Spec, paths: Paths) -> None:
    """Run the `post_start` programs in the container, one after another.

    Raises:
        CannotApply: one of them failed; the container is left as it is.
    """
    for index, hook in enumerate(spec.post_start):
        try:
            code, output = client.run(paths, spec.name, encode(hook), HOOK_SECONDS)
            last = output.strip().rpartition("\n")[2]
            why = f"exit code {code}: {last or 'it printed nothing'}"
        except HostctlError as error:
            code, why = 1, error.message
        if code:
            raise CannotApply(
                f"cannot run post_start[{index}] of {spec.name}: {why}",
                hint=f"correct post_start, or see `hostctl logs {spec.name}`",
                ref="hook-failed",
            )
