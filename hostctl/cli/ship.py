"""Runs on the controller: `hostctl push IMAGE --to PATTERN`: an image of one host for others, without a registry."""

from __future__ import annotations

import sys
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from hostctl_host.contract.errors import HostctlError
from hostctl_host.contract.reference import canonical_name

from .options import HostOptions
from .registries import Row, report

if TYPE_CHECKING:
    from hostctl.fleet.depot import Depot
    from hostctl.fleet.session import Options, Session
    from hostctl.fleet.spool import Spool
    from hostctl.fleet.target import Target

THIS_MACHINE = "localhost"


def ship(image: str, pattern: str, hosts: HostOptions, quiet: bool, as_json: bool) -> int:
    """From the host of `--limit` (default: this machine); the exit code.

    Raises:
        HostctlError: no host, several sources, or the source does not have the image.
    """
    from hostctl.fleet.depot import Depot
    from hostctl.fleet.fleet import Fleet
    from hostctl.fleet.session import Session

    from .hosts import session_options, targets_without_playbook

    sources = targets_without_playbook(replace(hosts, limit=hosts.limit or THIS_MACHINE))
    if len(sources) != 1:
        raise HostctlError(
            f"cannot ship {image} from {len(sources)} hosts at once",
            hint=f"name the one to take it from: -l {sources[0].name}",
            ref="several-hosts",
        )
    source = sources[0]
    targets = [
        one
        for one in targets_without_playbook(replace(hosts, limit=pattern), "--to")
        if one.name != source.name
    ]
    if not targets:
        raise HostctlError(
            f"cannot ship {image} to {pattern}: there is no other host",
            hint="name hosts or groups of the inventory with --to",
            ref="no-hosts",
        )
    options = session_options(hosts)
    spools: dict[str, Spool] = {}
    depot = Depot(source.name, image, lambda: Session.open(source, "store", options), spools)
    fleet: Fleet[list[Row]] = Fleet(hosts.forks)
    shown = _Shown(live=sys.stderr.isatty() and not quiet)
    # The source is asked while the others are being reached.
    threading.Thread(target=_begin, args=(depot,), daemon=True).start()
    try:
        results = fleet.map(
            lambda target: _one(fleet, target, options, depot, image, shown), targets
        )
    finally:
        shown.line("")
        depot.close()
        for spool in list(spools.values()):
            spool.close()
    return report(results, as_json, lambda row: _words(row, quiet))


def _begin(depot: Depot) -> None:
    try:
        depot.manifest()
    except HostctlError:
        return  # whoever wants the image is told


def _one(
    fleet: Any, target: Target, options: Options, depot: Depot, image: str, shown: _Shown
) -> list[Row]:
    from hostctl.fleet.courier import Courier

    courier: Courier | None = None
    try:
        with fleet.session(target, "store", options) as session:
            courier = Courier(session, lambda _: depot)
            return _take(session, courier, image, shown)
    finally:
        if courier is not None:
            courier.close()


def _take(session: Session, courier: Any, image: str, shown: _Shown) -> list[Row]:
    from hostctl.fleet.session import call

    rows = []
    for header, _ in call(session, "image take", {"image": canonical_name(image)}):
        if header["type"] == "row":
            rows.append(header["data"])
        elif header["type"] == "progress":
            shown.line(f"{session.target.name}: {header.get('message', '')}")
        else:
            courier.frame(header)
    return rows


class _Shown:
    """One line of a terminal, which the next one takes the place of."""

    def __init__(self, *, live: bool) -> None:
        self._live = live
        self._lock = threading.Lock()

    def line(self, text: str) -> None:
        if self._live:
            with self._lock:
                sys.stderr.write(f"\r\x1b[K{text[:100]}")
                sys.stderr.flush()


def _words(row: Row, quiet: bool) -> str:
    text = f"{row['name']} {row['digest']}"
    if quiet:
        return text
    parts = {"sent": row["sent"], "already there": row["present"]}
    return f"{text} " + ", ".join(f"{size / 1e6:.1f} MB {how}" for how, size in parts.items())
