"""Runs on the test machine: `python3 -m tests.lab up|down|status|enter`, labs to play with."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

from . import slots
from .host import HostOptions, LabHost
from .lab import Lab
from .paths import WORK
from .shell import LabError, locked
from .slots import RUN


def up(arguments: argparse.Namespace) -> None:
    """Bring a lab up that stays until `down`."""
    options = {"init": "systemd"} if arguments.systemd else {}
    hosts = {f"web{number}": dict(options) for number in range(1, arguments.hosts + 1)}
    if arguments.debian11:
        hosts["old"] = {"suite": "bullseye"}
    lab = Lab(hosts, name=arguments.name, kept=True)
    lab.up()
    print(f"lab {lab.name} is up: {', '.join(f'{h.name} {h.address}' for h in lab.hosts.values())}")
    print(f"inventory: {lab.inventory}")
    if arguments.link:
        link = Path(arguments.link)
        link.unlink(missing_ok=True)
        link.symlink_to(lab.folder)


def down(arguments: argparse.Namespace) -> None:
    """Remove one lab, or with --all every lab whose owner is dead and every kept one."""
    with locked(RUN / "lock"):
        for slot, claim in slots.claims().items():
            if claim.name == arguments.name or (arguments.all and (claim.kept or not claim.alive)):
                slots.remove(slot)
                print(f"lab {claim.name} is removed")


def status(_: argparse.Namespace) -> None:
    """Which labs there are."""
    for slot, claim in slots.claims().items():
        state = "kept" if claim.kept else f"of process {claim.owner}" if claim.alive else "dead"
        hosts = [path.parent.name for path in sorted((WORK / str(slot)).glob("*/pid"))]
        print(f"{claim.name}: {state}, {' '.join(hosts)}, {WORK / str(slot) / 'inventory.yml'}")


def enter(arguments: argparse.Namespace) -> None:
    """A root shell in a host (of the lab that has a host of this name), or one command."""
    for slot, claim in slots.claims().items():
        if not claim.kept or arguments.name not in ("", claim.name):
            continue
        if (WORK / str(slot) / arguments.host / "pid").exists():
            host = LabHost(arguments.host, slot, 0, HostOptions())
            argv = [*host.entering(), *(arguments.argv or ["bash", "-l"])]
            sys.exit(subprocess.run(argv, check=False).returncode)
    raise LabError(f"no kept lab has a host {arguments.host}: python3 -m tests.lab status")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python3 -m tests.lab")
    verbs = parser.add_subparsers(required=True)
    verb = verbs.add_parser("up", help="bring a lab up")
    verb.add_argument("--name", default="lab")
    verb.add_argument("--hosts", type=int, default=2)
    verb.add_argument("--debian11", action="store_true", help="one more host, with Python 3.9")
    verb.add_argument("--systemd", action="store_true", help="hosts that boot a real systemd")
    verb.add_argument("--link", help="a symbolic link to make to the lab's folder")
    verb.set_defaults(act=up)
    verb = verbs.add_parser("down", help="remove a lab")
    verb.add_argument("--name", default="lab")
    verb.add_argument("--all", action="store_true")
    verb.set_defaults(act=down)
    verb = verbs.add_parser("status", help="list the labs")
    verb.set_defaults(act=status)
    verb = verbs.add_parser("enter", help="a root shell in a host")
    verb.add_argument("--name", default="", help="the lab; default: whichever has the host")
    verb.add_argument("host")
    verb.add_argument("argv", nargs="*")
    verb.set_defaults(act=enter)
    arguments = parser.parse_args()
    if sys.platform != "linux" or os.geteuid() != 0:
        sys.exit("cannot make lab hosts: namespaces, mounts and links need root on Linux")
    try:
        arguments.act(arguments)
    except LabError as error:
        sys.exit(f"cannot {sys.argv[1]}: {error}")


if __name__ == "__main__":
    main()
