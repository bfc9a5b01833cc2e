"""Runs on the managed host, in the agent: the verbs stop, start and restart: what a user wants of containers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..contract.errors import HostctlError
from ..monitor import client, files
from ..monitor.verbs import chosen
from . import together

if TYPE_CHECKING:
    from ..agent.channel import Channel
    from ..agent.host import Host


def stop(host: Host, args: dict[str, Any], channel: Channel) -> int:
    """Stop the named ones, each after those that need it. They stay stopped, also over a reboot."""
    return _stop(host, chosen(host.paths, args), args, channel)


def start(host: Host, args: dict[str, Any], channel: Channel) -> int:
    """Start the named ones, each after those that it needs, as an apply does."""
    return _start(host, chosen(host.paths, args), channel)


def restart(host: Host, args: dict[str, Any], channel: Channel) -> int:
    """Stop the named ones, then start them; where a start would be refused, nothing is stopped."""
    names = chosen(host.paths, args)
    if refusals := together.refusals(host.paths, names):
        return _answer(host, [], refusals, channel)
    return _stop(host, names, args, channel, tell=False) or _start(host, names, channel)


def _stop(
    host: Host, names: list[str], args: dict[str, Any], channel: Channel, *, tell: bool = True
) -> int:
    for name in names:
        files.set_stopped(host.paths, name, by_user=True)
    grace = args.get("grace")
    failures = together.stop(host.paths, names, None if grace is None else float(grace))
    return _answer(host, names if tell else [], failures, channel)


def _start(host: Host, names: list[str], channel: Channel) -> int:
    return _answer(host, names, together.start(host.paths, names), channel)


def _answer(host: Host, names: list[str], failures: together.Failures, channel: Channel) -> int:
    """A row per container; the failures as one error, which ends the call."""
    for name in names:
        if name not in failures:
            channel.send(
                "row", data={"name": name, "state": client.status(host.paths, name).status}
            )
    if len(failures) == 1:
        raise next(iter(failures.values()))
    if failures:
        raise HostctlError("\n".join(failures[name].message for name in sorted(failures)))
    return 0
