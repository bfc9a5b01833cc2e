"""Runs on the test machine: a cgroup subtree per lab host in every hierarchy, v1 and v2."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from .paths import CGROUP
from .shell import LabError


@dataclass(frozen=True)
class Hierarchy:
    """One mounted cgroup hierarchy of this machine."""

    type: str
    options: str
    target: Path

    @property
    def unified(self) -> bool:
        """Whether this is cgroup v2."""
        return self.type == "cgroup2"


def hierarchies() -> list[Hierarchy]:
    """The cgroup mounts of this machine, each hierarchy once."""
    found: dict[str, Hierarchy] = {}
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, after = line.split(" - ", 1)
        type_, _, options = after.split(" ", 2)
        if type_ not in ("cgroup", "cgroup2"):
            continue
        words = [word for word in options.split(",") if word not in ("rw", "xattr")]
        target = before.split(" ")[4]
        if type_ == "cgroup2":
            words = ["rw"]
        elif any(word.startswith("name=") for word in words):
            words = ["none", *words]
        options = ",".join(word for word in words if not word.startswith("release_agent"))
        found.setdefault(type_ + options, Hierarchy(type_, options, Path(target)))
    return list(found.values())


def make(name: str) -> list[Path]:
    """Make `hostctl-lab/NAME` in every hierarchy, ready for processes and for child cgroups."""
    made = []
    for hierarchy in hierarchies():
        top = hierarchy.target / CGROUP
        own = top / name
        own.mkdir(parents=True, exist_ok=True)
        for group in (top, own):
            if hierarchy.unified:
                _delegate(group.parent, group)
            elif (group / "cpuset.cpus").exists():
                for file in ("cpuset.cpus", "cpuset.mems"):
                    if not (group / file).read_text().strip():
                        (group / file).write_text((group.parent / file).read_text())
        if hierarchy.unified:
            (own / "init.scope").mkdir(exist_ok=True)
        made.append(own)
    return made


def _delegate(parent: Path, group: Path) -> None:
    """Give a v2 group all the controllers that its parent can give."""
    have = (parent / "cgroup.controllers").read_text().split()
    enabled = (parent / "cgroup.subtree_control").read_text().split()
    for controller in sorted(set(have) - set(enabled)):
        try:
            (parent / "cgroup.subtree_control").write_text(f"+{controller}")
        except OSError as error:
            raise LabError(f"cannot enable {controller} for {group}: {error}") from error


def settle(name: str) -> None:
    """Move a v2 host's first processes to a leaf, as systemd does, so that children can be made."""
    for hierarchy in hierarchies():
        if hierarchy.unified:
            own = hierarchy.target / CGROUP / name
            while pids := (own / "cgroup.procs").read_text().split():
                for pid in pids:
                    with contextlib.suppress(ProcessLookupError):
                        (own / "init.scope" / "cgroup.procs").write_text(pid)
            _delegate(own, own / "init.scope")


def joining(name: str, leaf: str = "init.scope") -> list[str]:
    """The words before a program's own that start it in the group `NAME` of every hierarchy."""
    groups = [
        hierarchy.target / CGROUP / name / (leaf if hierarchy.unified else "")
        for hierarchy in hierarchies()
    ]
    script = "".join(f"echo $$ > {group}/cgroup.procs; " for group in groups)
    return ["sh", "-ec", script + 'exec "$@"', "sh"]


def names(prefix: str) -> list[str]:
    """The groups that begin with this prefix, in any hierarchy."""
    tops = [hierarchy.target / CGROUP for hierarchy in hierarchies()]
    return sorted({path.name for top in tops for path in top.glob(f"{prefix}*") if path.is_dir()})


def processes(name: str) -> set[int]:
    """Every process in a subtree, of whatever namespace."""
    found: set[int] = set()
    for hierarchy in hierarchies():
        for folder, _, _ in os.walk(hierarchy.target / CGROUP / name):
            try:
                found |= {int(word) for word in Path(folder, "cgroup.procs").read_text().split()}
            except OSError:
                continue  # the group went away meanwhile
    return found - {0}


def kill(name: str, timeout: float = 10) -> None:
    """Kill every process in a subtree and wait until none is left."""
    deadline = time.monotonic() + timeout
    while pids := processes(name):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > deadline:
            raise LabError(f"processes of {name} do not die: {sorted(pids)}")
        time.sleep(0.005)


def remove(name: str, timeout: float = 10) -> None:
    """Remove a host's subtrees; its processes are dead, the kernel may need a moment to notice."""
    deadline = time.monotonic() + timeout
    for hierarchy in hierarchies():
        top = hierarchy.target / CGROUP
        while (top / name).is_dir():
            try:
                _remove_tree(top / name)
            except OSError as error:
                if time.monotonic() > deadline:
                    raise LabError(f"cannot remove the cgroup {top / name}: {error}") from error
                time.sleep(0.01)
        try:
            top.rmdir()
        except OSError:
            continue  # another host lives there, or none of ours ever did


def _remove_tree(group: Path) -> None:
    for child in [path for path in group.iterdir() if path.is_dir()]:
        _remove_tree(child)
    try:
        group.rmdir()
    except FileNotFoundError:
        return
