"""Runs on the developer's machine: hostctl's side of a comparison: inventory, playbook, command."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .measure import run
from .peers import CACHE, PORT, WORK, Target

COMMAND = str(Path(sys.executable).parent / "hostctl")


def inventory(target: Target, hosts: int = 1) -> Path:
    """Hosts `h1` ... on the target, each with folders of its own (on disk and under /run)."""
    entries: dict[str, Any] = {}
    for number in range(1, hosts + 1):
        entries[f"h{number}"] = {
            "ansible_host": target.addresses[(number - 1) % len(target.addresses)],
            "hostctl_data_dir": str(CACHE / "data" / f"h{number}"),
            "hostctl_run_dir": str(WORK / "hostctl" / f"h{number}"),
        }
    common = {
        "ansible_port": PORT,
        "ansible_user": "root",
        "ansible_ssh_private_key_file": str(target.key),
        "ansible_ssh_common_args": f"-o UserKnownHostsFile={target.known_hosts}",
    }
    path = WORK / f"inventory-{hosts}.yml"
    path.write_text(json.dumps({"all": {"vars": common, "hosts": entries}}))
    return path


def playbook(name: str, play: dict[str, Any]) -> Path:
    """One play, written as JSON (which is YAML)."""
    path = WORK / f"{name}.yml"
    path.write_text(json.dumps([{"project": name, "hosts": "all", **play}]))
    return path


def containers(target: Target, count: int, name: str = "bench") -> Path:
    """A playbook with `count` sleeping containers on one bridge; the image comes as an archive."""
    return playbook(
        name,
        {
            "images": {"bench:1": {"archive": str(target.image)}},
            "networks": {"default": {}},
            "containers": {
                f"c{number}": {
                    "image": "bench:1",
                    "command": ["sleep", "1000000"],
                    "stop_signal": "KILL",
                }
                for number in range(count)
            },
        },
    )


def apply(inventory: Path, playbook: Path) -> Callable[[], object]:
    """`hostctl apply` as a callable that fails unless every host did well."""
    return lambda: run([COMMAND, "apply", "-i", str(inventory), str(playbook)])


def destroy(inventory: Path, playbook: Path) -> None:
    """Take it all away again."""
    run([COMMAND, "destroy", "--yes", "--volumes", "-i", str(inventory), str(playbook)])


def forget() -> None:
    """Remove the folders of all the target's hosts (after `destroy`: agents, store, ledgers)."""
    shutil.rmtree(CACHE / "data", ignore_errors=True)
