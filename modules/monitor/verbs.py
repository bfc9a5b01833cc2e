"""Runs on the managed host, in the agent: the verbs ps, logs and exec."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from ..contract.errors import HostctlError
from . import client, files, health, reader, state

if TYPE_CHECKING:
    from ..agent.channel import Channel
    from ..agent.host import Host, Paths

_FOLLOW_SECONDS = 0.1


def ps(host: Host, args: dict[str, Any], channel: Channel) -> int:
    """A row per container of this host; stopped ones with `all`."""
    for name in client.names(host.paths):
        row = describe(host.paths, name)
        if row is None or (args.get("project") and row["project"] != args["project"]):
            continue
        if args.get("all") or row["state"] in (state.RUNNING, state.RESTARTING):
            channel.send("row", data=row)
    return 0


def describe(paths: Paths, name: str) -> dict[str, Any] | None:
    """One row of `ps`; None for a folder that is no container (or not yet)."""
    from ..runtime.assemble import recorded

    path = os.path.join(paths.container(name), "spec.json")
    record = recorded(paths, name)
    if record is None:
        return None
    spec = record.get("spec") or {}
    network = files.network(paths, name)
    now = client.status(paths, name)
    return {
        "name": name,
        "project": record.get("project", ""),
        "service": spec.get("service", ""),
        "image": spec.get("image", ""),
        "image_id": record.get("image", ""),
        "status": words(now, time.time()),
        "state": now.status,
        "pid": now.pid,
        "ports": ", ".join(_port(port) for port in network.get("ports", ())),
        "networks": {
            item["network"]: item["address"].partition("/")[0]
            for item in network.get("endpoints", ())
        },
        "created": os.stat(path).st_mtime,
        "started": now.started_at,
        "restarts": now.restarts,
        "exit_code": now.exit_code,
        "lost": now.lost,
        "oom": now.oom,
    }


def _port(port: dict[str, Any]) -> str:
    address = port.get("host_ip") or "0.0.0.0"
    inside = f"{port.get('target')}/{port.get('protocol', 'tcp')}"
    return f"{address}:{port.get('host_port')}->{inside}"


def words(now: state.State, clock: float) -> str:
    """The state as Docker's `ps` says it, and where its memory ran out, that too."""
    code = "?" if now.exit_code is None else str(now.exit_code)
    code += ", out of memory" if now.oom else ""
    ago = f"{duration(clock - now.finished_at)} ago"
    if now.status == state.RUNNING:
        up = f"Up {duration(clock - now.started_at)}"
        if now.health is None:
            return up
        status = now.health["status"]
        return f"{up} (health: starting)" if status == health.STARTING else f"{up} ({status})"
    if now.status == state.RESTARTING:
        return f"Restarting ({code}) {ago}"
    if now.status == state.EXITED:
        return f"Exited ({code}) {ago}" if now.finished_at else f"Exited ({code})"
    return "Created"


def duration(seconds: float) -> str:
    """Seconds in Docker's words."""
    whole = int(max(seconds, 0))
    if whole < 1:
        return "Less than a second"
    if whole == 1:
        return "1 second"
    if whole < 60:
        return f"{whole} seconds"
    minutes = whole // 60
    if minutes == 1:
        return "About a minute"
    if minutes < 60:
        return f"{minutes} minutes"
    hours = int(seconds / 3600 + 0.5)
    if hours == 1:
        return "About an hour"
    if hours < 48:
        return f"{hours} hours"
    if hours < 24 * 14:
        return f"{hours // 24} days"
    if hours < 24 * 60:
        return f"{hours // 24 // 7} weeks"
    if hours < 24 * 365 * 2:
        return f"{hours // 24 // 30} months"
    return f"{hours // 24 // 365} years"


def logs(host: Host, args: dict[str, Any], channel: Channel) -> int:
    """What containers wrote, merged by time; with `follow` until they end or the controller goes."""
    found = chosen(host.paths, args)
    tail = args.get("tail")
    count = -1 if tail is None else int(tail)
    readers = [reader.of(host.paths, name, count) for name in found]
    for entry in reader.merge([one.past() for one in readers]):
        _send(entry, bool(args.get("timestamps")), channel)
        if channel.gone:
            return 0
    while args.get("follow") and readers and not channel.gone:
        ended = [
            one
            for one in readers
            if client.status(host.paths, one.name).status not in (state.RUNNING, state.RESTARTING)
        ]
        for entry in reader.merge([one.news(last=one in ended) for one in readers]):
            _send(entry, bool(args.get("timestamps")), channel)
        # Looked at before it was read: what it wrote last is out.
        readers = [one for one in readers if one not in ended]
        if readers:
            time.sleep(_FOLLOW_SECONDS)
    return 0


def chosen(paths: Paths, args: dict[str, Any]) -> list[str]:
    """Containers by name, by service or by project; all where nothing is asked for."""
    from ..runtime.assemble import recorded

    found: list[str] = []
    wanted = [str(name) for name in args.get("names") or ()]
    missing = set(wanted)
    for name in client.names(paths):
        record = recorded(paths, name) or {}
        service = (record.get("spec") or {}).get("service", "")
        if args.get("project") and record.get("project") != args["project"]:
            continue
        if args.get("service") and service != args["service"]:
            continue
        if wanted and not {name, service} & set(wanted):
            continue
        missing -= {name, service}
        found.append(name)
    if missing:
        raise _absent(sorted(missing)[0])
    return found


def _absent(name: str) -> HostctlError:
    return HostctlError(
        f"cannot find container {name}", hint="see `hostctl ps --all`", ref="no-container"
    )


def _send(entry: reader.Entry, timestamps: bool, channel: Channel) -> None:
    body = f"{entry.time} {entry.text}" if timestamps and entry.begins else entry.text
    channel.send(
        "data",
        body.encode("utf-8", "surrogateescape"),
        gather=True,
        stream="log",
        name=entry.name,
        source=entry.stream,
        time=entry.time,
    )
    if entry.last:
        channel.send("data", b"", stream="log", name=entry.name)


def exec_(host: Host, args: dict[str, Any], channel: Channel) -> int:
    """Run a program in a running container; its exit code."""
    from .exec import run

    name = str(args["name"])
    return run(host.paths, name, _running(host.paths, name, "run a command in"), args, channel)


def attach(host: Host, args: dict[str, Any], channel: Channel) -> int:
    """Be at a running container's input and output until it ends; its exit code."""
    from .attach import run

    name = str(args["name"])
    return run(host.paths, name, _running(host.paths, name, "attach to"), args, channel)


def _running(paths: Paths, name: str, what: str) -> state.State:
    if name not in client.names(paths):
        raise _absent(name)
    now = client.status(paths, name)
    if now.status != state.RUNNING:
        raise HostctlError(
            f"cannot {what} {name}: it is {now.status}",
            hint="start it first: hostctl apply",
            ref="not-running",
        )
    return now
