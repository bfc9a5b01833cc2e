"""Runs on the managed host, in the agent: starts and stops many containers, each after what it needs.

The order is that of an apply: `agent/graph.py` and `dependencies.wait`. What fails is said, and the rest goes on.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Callable

from ..agent import kinds
from ..agent.graph import in_order, run_graph
from ..agent.host import Host
from ..contract.errors import HostctlError
from ..monitor import client, files, restart, state
from . import dependencies, lifecycle
from .assemble import recorded

if TYPE_CHECKING:
    from ..agent.paths import Paths

WORKERS = 128
"""Nearly all that a container's end is made of is waiting."""

Failures = dict[str, HostctlError]


def start(paths: Paths, names: Iterable[str]) -> Failures:
    """Start these, and run each one's `post_start`; those that run are left alone.

    One that needs another of these that could not be started is not started either.
    """
    failures: Failures = {}

    def one(name: str) -> None:
        spec = _spec(paths, name)
        if spec is None:
            return
        optional = {key for key, value in spec.depends_on.items() if not value.required}
        failed = [other for other in needs[name] if other in failures and other not in optional]
        if failed:
            raise HostctlError(
                f"cannot start {name}: {failed[0]}, which it needs, could not be started",
                ref="dependency-failed",
            )
        record = recorded(paths, name) or {}
        lifecycle.start(spec, Host(paths, project=str(record.get("project", ""))))

    needs = _needs(paths, names)
    _all(needs, one, failures)
    return failures


def refusals(paths: Paths, names: Iterable[str]) -> Failures:
    """Which of these could not be started, as what they need besides these is now."""
    together = list(names)
    found: Failures = {}
    for name in together:
        spec = _spec(paths, name)
        refusal = None if spec is None else dependencies.refusal(spec, paths, together)
        if refusal:
            found[name] = refusal
    return found


def stop(paths: Paths, names: Iterable[str], grace: float | None = None) -> Failures:
    """Stop these, each after all that need it; twice is fine.

    Args:
        grace: seconds; None: as each wants it.
    """
    failures: Failures = {}
    needs = _needs(paths, names)
    needed_by = {name: tuple(n for n in needs if name in needs[n]) for name in needs}
    _all(needed_by, lambda name: lifecycle.stop(name, paths, grace), failures)
    return failures


def due(paths: Paths, name: str) -> bool:
    """Whether the container is to be started because the host has: as Docker's daemon does when it starts.

    `always`: yes. `unless-stopped`: unless a user has stopped it. `on-failure`: also only where its last run
    did not end with 0; one that the host's end cut short did not.
    """
    record = recorded(paths, name)
    now = client.status(paths, name)
    if record is None or record["spec"].get("state", "started") != "started" or now.watched:
        return False
    policy = restart.Policy(str(record["spec"].get("restart") or "no"))
    if policy.kind in ("no", "always"):
        return policy.kind == "always"
    if files.stopped_by_user(paths, name):
        return False
    if policy.kind == "unless-stopped":
        return True
    failed = now.status == state.CREATED or now.exit_code != 0
    return policy.restarts(failed=failed, stopped=False, already=now.restarts)


def _all(
    needs: dict[str, tuple[str, ...]], work: Callable[[str], None], failures: Failures
) -> None:
    def one(name: str) -> None:
        try:
            work(name)
        except HostctlError as error:
            failures[name] = error
        except Exception as error:
            failures[name] = HostctlError(f"{name}: {type(error).__name__}: {error}")

    ordered = in_order(list(needs), needs)
    # A cycle can come only of records of different projects: those wait for nobody.
    tied = [name for name in needs if name not in ordered]
    free = {name: () if name in tied else needs[name] for name in needs}
    run_graph([*ordered, *tied], free, one, WORKERS)


def _needs(paths: Paths, names: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Each container -> the others that it needs, from the records as they are on disk."""
    found = {}
    for name in names:
        spec: dict[str, Any] = (recorded(paths, name) or {}).get("spec") or {}
        others = [*(spec.get("depends_on") or {})]
        others += [str(item).partition(":")[0] for item in spec.get("volumes_from") or ()]
        for key in ("network_mode", "pid", "ipc"):
            kind, _, other = str(spec.get(key) or "").partition(":")
            if kind == "container":
                others.append(other)
        found[name] = tuple(dict.fromkeys(other for other in others if other != name))
    return found


def _spec(paths: Paths, name: str) -> Any:
    """What the container was made from, as the kind's `Spec`; None where it has gone meanwhile."""
    from .. import container

    record = recorded(paths, name)
    return None if record is None else kinds.spec_of(container, record["spec"])
