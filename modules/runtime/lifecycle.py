"""Runs on the managed host, in the agent: start, update and remove a container that is assembled.

Order of removal: the process, then its kernel objects, then its folder, then what others hold of it
(addresses, firewall elements). Each step can be repeated, so a kill between two of them leaks nothing.
"""

from __future__ import annotations

import json
import os
import threading
from typing import Any

from ..agent.files import read_json, write_json
from ..agent.host import Host, Paths
from ..container import Spec
from ..contract.errors import CannotApply, HostctlError
from ..monitor import client, files
from . import assemble, dependencies, grants, id_ranges
from .bundle_resources import LIMITS, changed, resources

SETTLE_SECONDS = 0.3
"""How long a container that does not come to rest is watched after its start."""
ASSEMBLED_AT_ONCE = 3
"""Assembling is work for one interpreter: the sooner the first are done, the sooner others start them."""
LAST_LINES = 10
_assembling = threading.BoundedSemaphore(ASSEMBLED_AT_ONCE)


def make(spec: Spec, host: Host) -> None:
    """Make and start it; where there was one, the old one is stopped and taken apart first."""
    from ..net import firewall
    from ..store.store import Store

    store = Store(host.paths.data)
    image_id = store.resolve(spec.image)
    if image_id is None:
        raise CannotApply(
            f"cannot start {spec.name}: image {spec.image} is not in the host's store",
            hint="declare it under `images:`, or name one that a registry has",
        )
    image, layers = store.config(image_id), store.lower(image_id)
    if spec.state != "stopped":
        # First of all: the one that is to be replaced serves meanwhile.
        dependencies.wait(spec, host.paths)
    with firewall.changing(host.paths):
        renew(spec, host, image_id, image, layers)
        if spec.state != "stopped":
            _start(spec, host)


def renew(spec: Spec, host: Host, image_id: str, image: dict[str, Any], layers: list[str]) -> None:
    """Make it, in the place of the one that is there; what cannot be made leaves nothing behind.

    Args: as of `assemble.assemble`.
    """
    published = clear(spec.name, host.paths)
    try:
        with _assembling:
            assemble.assemble(spec, host, image_id, image, layers)
    except HostctlError:
        remove(spec.name, host.paths)
        raise
    if published and not _has_ports(spec.name, host.paths):
        _sync_firewall(host.paths)
    if not spec.userns_mode:
        id_ranges.tidy(host.paths)


def start(spec: Spec, host: Host) -> None:
    """Start it once what it depends on is ready, and watch its first moments.

    Raises:
        CannotApply: it could not be started, or it ended at once (with exit code and last log lines).
    """
    dependencies.wait(spec, host.paths)
    _start(spec, host)


def _start(spec: Spec, host: Host) -> None:
    files.set_stopped(host.paths, spec.name, by_user=False)
    if spec.secrets or spec.configs:
        grants.ready(spec, host.paths)
    if _has_ports(spec.name, host.paths):
        _sync_firewall(host.paths)
    client.start(host.paths, spec.name)
    host.progress("running")
    state = client.settle(host.paths, spec.name, SETTLE_SECONDS)
    if state.status == "running":
        dependencies.after_start(spec, host.paths)
        return
    if state.status == "exited" and state.exit_code == 0:
        return
    lines = last_log_lines(host.paths, spec.name, LAST_LINES)
    shown = "".join(f"\n    | {line}" for line in lines) or "; it printed nothing"
    raise CannotApply(
        f"cannot keep {spec.name} running: it ended at once: {state.ending}{shown}",
        hint=f"the container is kept; see `hostctl logs {spec.name}`, then correct its command or image",
        ref="container-exited",
    )


def update(spec: Spec, image_id: str, fields: set[str], host: Host) -> None:
    """Change what can be changed while it runs: limits, restart policy, how to stop, labels."""
    assemble.write_settings(spec, host.paths)
    path = os.path.join(host.paths.container(spec.name), "bundle", "config.json")
    config = read_json(path)
    if isinstance(config, dict):
        config["linux"]["resources"] = resources(spec)
        write_json(path, config)
    if fields & LIMITS:
        client.update(host.paths, spec.name, changed(spec))
    assemble.record(spec, host, image_id)


def clear(name: str, paths: Paths) -> bool:
    """Stop and take apart what is there, so that a new one can be made; anonymous volumes stay.

    Returns:
        Whether it had published ports, which the firewall still knows.
    """
    published = _has_ports(name, paths)
    if os.path.isdir(paths.container(name)) or os.path.isdir(paths.container_run(name)):
        _end(name, paths)
        assemble.take_apart(paths, name, keep_anonymous=True)
    return published


def remove(name: str, paths: Paths) -> None:
    """Stop it and remove all that is its: folder, addresses, published ports; twice is fine."""
    network = read_json(os.path.join(paths.container(name), "network.json")) or {}
    _end(name, paths)
    assemble.take_apart(paths, name)
    _release(name, network, paths)
    id_ranges.tidy(paths)


def stop(name: str, paths: Paths, grace: float | None = None) -> None:
    """Run its `pre_stop` programs, then end it as it wants to be ended; twice is fine.

    Args:
        grace: seconds; None: as it was declared.
    """
    dependencies.before_stop(name, paths)
    client.stop(paths, name, grace=grace)


def _end(name: str, paths: Paths) -> None:
    stop(name, paths)
    client.remove(paths, name)


def _release(name: str, network: dict[str, Any], paths: Paths) -> None:
    if network.get("endpoints"):
        from ..net import addresses

        for endpoint in network["endpoints"]:
            addresses.release(paths, endpoint["network"], name)
    if network.get("ports"):
        _sync_firewall(paths)


def _sync_firewall(paths: Paths) -> None:
    from ..net import firewall

    firewall.sync(paths)


def _has_ports(name: str, paths: Paths) -> bool:
    network = read_json(os.path.join(paths.container(name), "network.json")) or {}
    return bool(network.get("ports"))


def last_log_lines(paths: Paths, name: str, count: int) -> list[str]:
    """The last lines of the container's log."""
    if files.settings(paths, name).log_driver == "journald":
        from ..monitor import reader

        found = reader.of(paths, name, count).news(last=True)
        return [entry.text.rstrip("\n") for entry in found][-count:]
    path = os.path.join(paths.container(name), "log", "container.log")
    try:
        with open(path, "rb") as stream:
            stream.seek(0, os.SEEK_END)
            stream.seek(max(0, stream.tell() - (64 << 10)))
            raw = stream.read().splitlines()
    except FileNotFoundError:
        return []
    lines = []
    for line in raw[-count:]:
        try:
            lines.append(str(json.loads(line)["log"]).rstrip("\n"))
        except (ValueError, KeyError):
            continue
    return lines
