"""Runs on the managed host: one container's cgroup, on version 2, version 1 and hybrid hosts.

A cgroup here is one relative path in every hierarchy that is mounted, so that limits, accounting and
"who belongs to it" hold wherever the kernel keeps them. Hierarchies are passed in: tests use a folder.
"""

from __future__ import annotations

import errno
import os
import signal
import time
import zlib

from ..agent.paths import RUN_DIR
from . import cgroup_v1, cgroup_v2, device_filter
from .cgroup_files import write
from .config import RuntimeFailure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

Resources = dict[str, "Any"]
_SUPPORTED = {"memory", "cpu", "pids", "devices", "unified"}
_RELEASE_SECONDS = 5.0


class Hierarchies:
    """Where cgroups are mounted: version 1 controllers (`memory`, `name=systemd`) and version 2."""

    def __init__(self, v1: dict[str, str], v2: str) -> None:
        self.v1 = v1
        self.v2 = v2


def detect(mountinfo: str = "/proc/self/mountinfo") -> Hierarchies:
    """Read the mounted hierarchies; the first mount of each counts."""
    v1: dict[str, str] = {}
    v2 = ""
    with open(mountinfo, encoding="utf-8") as stream:
        for line in stream:
            left, _, right = line.partition(" - ")
            kind, _, options = right.split()[:3]
            if kind == "cgroup2":
                v2 = v2 or left.split()[4]
            elif kind == "cgroup":
                for name in options.split(","):
                    if name in cgroup_v1.CONTROLLERS or name.startswith("name="):
                        v1.setdefault(name, left.split()[4])
    return Hierarchies(v1, v2)


def base(run_dir: str) -> str:
    """The subtree of one hostctl on this host; another run folder is another hostctl."""
    if run_dir == RUN_DIR:
        return "hostctl"
    # Checksums of zlib: hashlib would bring OpenSSL into every monitor's memory.
    data = run_dir.encode()
    return f"hostctl/{zlib.crc32(data):08x}{zlib.adler32(data):08x}"


def container_path(run_dir: str, name: str) -> str:
    """Where a container's processes live."""
    return f"{base(run_dir)}/containers/{name}"


def monitors_path(run_dir: str) -> str:
    """Where the zygote and the monitors live: never in a container's cgroup."""
    return f"{base(run_dir)}/monitors"


class Cgroup:
    """One path in all hierarchies."""

    def __init__(self, path: str, hierarchies: Hierarchies) -> None:
        self.path = path
        self.hierarchies = hierarchies

    def folders(self) -> list[str]:
        """The folder in each hierarchy; controllers that are mounted together share one."""
        roots = dict.fromkeys(self.hierarchies.v1.values())
        if self.hierarchies.v2:
            roots[self.hierarchies.v2] = None
        return [os.path.join(root, self.path) for root in roots]

    def join(self, pid: int) -> None:
        """Move a process in. Its children are born here."""
        for folder in self.folders():
            write(os.path.join(folder, "cgroup.procs"), str(pid))

    def open(self) -> int:
        """A descriptor of the folder in version 2, for a process that is to be born there; -1 without."""
        if not self.hierarchies.v2:
            return -1
        folder = os.path.join(self.hierarchies.v2, self.path)
        return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def enter(self) -> None:
        """Move this process in, which has one thread, unless it was born there.

        On version 1 a thread that moves itself needs no lock against forks elsewhere; where another moves
        it, and on version 2, the kernel waits for a grace period of up to 13 ms.
        """
        for root in dict.fromkeys(self.hierarchies.v1.values()):
            write(os.path.join(root, self.path, "tasks"), "0")
        if self.hierarchies.v2:
            with open("/proc/self/cgroup", encoding="utf-8") as stream:
                born = any(
                    line.rstrip().endswith("/" + self.path)
                    for line in stream
                    if line.startswith("0::")
                )
            if not born:
                write(os.path.join(self.hierarchies.v2, self.path, "cgroup.procs"), "0")

    def processes(self) -> set[int]:
        """Pids in the cgroup and below, from the hierarchy that holds them all."""
        found: set[int] = set()
        for folder in self.folders():
            for inner, _, _ in os.walk(folder):
                try:
                    with open(os.path.join(inner, "cgroup.procs"), encoding="ascii") as stream:
                        found.update(int(pid) for pid in stream.read().split())
                except OSError as error:
                    if error.errno not in (errno.ENOENT, errno.ENODEV, errno.EOPNOTSUPP):
                        raise
        return found - {0}

    def kill(self) -> None:
        """SIGKILL to every process in it, again until none is left or the deadline passed."""
        deadline = time.monotonic() + _RELEASE_SECONDS
        kill_file = os.path.join(self.hierarchies.v2, self.path, "cgroup.kill")
        pause = 0.001
        while True:
            if self.hierarchies.v2 and os.path.exists(kill_file):
                write(kill_file, "1")
            left = self.processes()
            if not left:
                return
            for pid in left:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            if time.monotonic() > deadline:
                raise RuntimeFailure(
                    f"cannot end processes {sorted(left)[:5]} of cgroup {self.path}: "
                    "they do not react to SIGKILL",
                    hint="a process that waits for a broken disk or NFS server cannot be killed",
                    ref="processes-stuck",
                )
            time.sleep(pause)
            pause = min(pause * 2, 0.05)

    def oom_kills(self) -> int:
        """How many of its processes the kernel killed because memory ran out."""
        if "memory" in self.hierarchies.v1:
            folder = os.path.join(self.hierarchies.v1["memory"], self.path)
            return cgroup_v1.oom_kills(folder)
        if self.hierarchies.v2:
            return cgroup_v2.oom_kills(os.path.join(self.hierarchies.v2, self.path))
        return 0


def prepare(path: str, resources: Resources, hierarchies: Hierarchies | None = None) -> Cgroup:
    """Make the cgroup and set its limits. Nothing may be in it yet but leftovers, which are ended."""
    unknown = sorted(key for key in resources if key not in _SUPPORTED and resources[key])
    if unknown:
        raise RuntimeFailure(
            f"cannot limit {', '.join(unknown)}: not supported yet", ref="not-supported"
        )
    cgroup = Cgroup(path.strip("/"), detect() if hierarchies is None else hierarchies)
    if not cgroup.folders():
        raise RuntimeFailure(
            "cannot make a cgroup: the host has none mounted",
            hint="mount -t cgroup2 none /sys/fs/cgroup",
            ref="no-cgroup",
        )
    left_over = any(os.path.isdir(folder) for folder in cgroup.folders())
    make(cgroup)
    if left_over:
        cgroup.kill()
    update(cgroup, resources)
    set_devices(cgroup, resources.get("devices"))
    return cgroup


def make(cgroup: Cgroup) -> None:
    """Make the folders, and pass controllers down where version 2 wants that said."""
    for attempt in range(5):
        try:
            _make(cgroup)
            return
        except FileNotFoundError:  # somebody has just pruned a parent that was empty
            if attempt == 4:
                raise


def prune(run_dir: str) -> None:
    """Remove the subtree of this hostctl where nothing is in it any more."""
    hierarchies = detect()
    paths = [f"{base(run_dir)}/containers", monitors_path(run_dir), base(run_dir), "hostctl"]
    for path in paths:
        for folder in Cgroup(path, hierarchies).folders():
            try:
                os.rmdir(folder)
            except OSError:
                continue


def _make(cgroup: Cgroup) -> None:
    if cgroup.hierarchies.v2:
        cgroup_v2.make(cgroup.hierarchies.v2, cgroup.path)
    for controller, root in cgroup.hierarchies.v1.items():
        cgroup_v1.make(root, cgroup.path, controller)


def update(cgroup: Cgroup, resources: Resources) -> None:
    """Set limits, also of a running container. A controller that is nowhere is an error, not ignored."""
    for controller, file, value in cgroup_v1.values(resources):
        root = cgroup.hierarchies.v1.get(controller)
        if root is not None:
            cgroup_v1.write(os.path.join(root, cgroup.path), file, value)
    on_v1 = set(cgroup.hierarchies.v1)
    folder = os.path.join(cgroup.hierarchies.v2, cgroup.path) if cgroup.hierarchies.v2 else ""
    for controller, file, value in cgroup_v2.values(resources):
        if controller in on_v1:
            continue
        if not folder or not os.path.exists(os.path.join(folder, file)):
            if value == "max":
                continue
            raise RuntimeFailure(
                f"cannot limit {controller}: the host's kernel offers no {controller} cgroup here",
                hint=f"enable the {controller} controller, or remove the limit",
                ref="no-controller",
            )
        write(os.path.join(folder, file), value)


def set_devices(cgroup: Cgroup, rules: list[dict[str, Any]] | None) -> None:
    """Which device nodes may be used: through version 1's files, or a program on version 2."""
    parsed = device_filter.rules(rules)
    if "devices" in cgroup.hierarchies.v1:
        root = cgroup.hierarchies.v1["devices"]
        cgroup_v1.set_devices(os.path.join(root, cgroup.path), parsed)
    else:
        device_filter.attach(os.path.join(cgroup.hierarchies.v2, cgroup.path), parsed)


def release(cgroup: Cgroup) -> None:
    """End what is in it and remove it, with all below it; twice is fine."""
    if any(os.path.isdir(folder) for folder in cgroup.folders()):
        cgroup.kill()
    deadline = time.monotonic() + _RELEASE_SECONDS
    for folder in cgroup.folders():
        _remove(folder, deadline)


def _remove(folder: str, deadline: float) -> None:
    for inner, _, _ in os.walk(folder, topdown=False):
        while True:
            try:
                os.rmdir(inner)
            except FileNotFoundError:
                break
            except OSError as error:
                # The last process has ended, but the kernel has not let go of it yet.
                if error.errno != errno.EBUSY or time.monotonic() > deadline:
                    raise
                time.sleep(0.002)
            else:
                break
