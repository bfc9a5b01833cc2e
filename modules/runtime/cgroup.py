"""Runs on the managed host: one container's cgroup, on version 2, version 1 and hybrid hosts.

A cgroup here is one relative path in every hierarchy that is mounted, so that limits, accounting and
"who belongs to it" hold wherever the kernel keeps them. Hierarchies are passed in: tests use a folder.
"""

from __future__ import annotations

import _signal as signal
import errno
import os
import time

from . import cgroup_v1, cgroup_v2, device_filter
from .cgroup_files import read, write, write_all
from .cgroup_places import SLICE, delegated, is_ours
from .cgroup_places import Hierarchies as Hierarchies
from .cgroup_places import base as base
from .cgroup_places import container_path as container_path
from .cgroup_places import detect as detect
from .cgroup_places import monitors_path as monitors_path
from .config import RuntimeFailure
from .reading import content

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

Resources = dict[str, "Any"]
_SUPPORTED = frozenset(
    ("memory", "cpu", "pids", "devices", "unified", "blockIO", "hugepageLimits", "network", "rdma")
)
_RELEASE_SECONDS = 5.0
_GONE = (errno.ENOENT, errno.ENODEV)
"""Somebody has just removed it: systemd, the zygote or another agent."""
_FROZEN_ELSEWHERE = 3  # rounds of killing after which that is likely
_V1_NAMES = {"io": "blkio"}


class Cgroup:
    """One path in all hierarchies.

    Attributes:
        found: it was there before the container.
    """

    def __init__(self, path: str, hierarchies: Hierarchies) -> None:
        self.path = path
        self.hierarchies = hierarchies
        self.found = False

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
        """A descriptor of the folder in version 2, for a process that is to be born there; -1 without.

        Nobody is born in one that was there before: where `cgroup.kill` was ever used, kernels since 6.14
        kill a process that clone3(2) makes there (they compare how often with the cgroup of its parent).
        """
        if not self.hierarchies.v2 or self.found:
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
            lines = content("/proc/self/cgroup").splitlines()
            ours = ("/" + self.path).encode()
            if not any(line.startswith(b"0::") and line.endswith(ours) for line in lines):
                write(os.path.join(self.hierarchies.v2, self.path, "cgroup.procs"), "0")

    def processes(self) -> set[int]:
        """Pids in the cgroup and below, whichever hierarchy has them."""
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

    def signal(self, number: int) -> None:
        """Send a signal to every process in it, once; none is born unseen where they can be frozen."""
        from . import cgroup_freeze

        was_frozen = cgroup_freeze.frozen(self)
        try:
            cgroup_freeze.freeze(self)
        except (OSError, RuntimeFailure):
            pass  # it goes without: one that is born meanwhile may be missed
        try:
            for pid in self.processes():
                try:
                    os.kill(pid, number)
                except ProcessLookupError:
                    continue
        finally:
            # What is paused acts on SIGKILL alone, and on version 1 not even on that.
            if not was_frozen or number == signal.SIGKILL:
                _thaw(self)

    def kill(self) -> None:
        """SIGKILL to every process in it, again until none is left or the deadline passed."""
        deadline = time.monotonic() + _RELEASE_SECONDS
        kill_file = os.path.join(self.hierarchies.v2, self.path, "cgroup.kill")
        pause = 0.001
        rounds = 0
        while True:
            if self.hierarchies.v2 and os.path.exists(kill_file):
                try:
                    write(kill_file, "1")
                except OSError as error:
                    if error.errno not in _GONE:
                        raise
            left = self.processes()
            if not left:
                return
            rounds += 1
            if rounds == 1 or rounds % 4:
                for pid in left:
                    try:
                        os.kill(pid, signal.SIGKILL)
                    except ProcessLookupError:
                        continue
            else:
                # They are born faster than they end: nothing is born while all stand still.
                self.signal(signal.SIGKILL)
            if rounds == 1:
                _thaw(self)  # what is frozen on version 1 does not act on SIGKILL before
            if rounds == _FROZEN_ELSEWHERE:
                self._bring_back(left)
            if time.monotonic() > deadline:
                raise RuntimeFailure(
                    f"cannot end processes {sorted(left)[:5]} of cgroup {self.path}: "
                    "they do not react to SIGKILL",
                    hint="a process that waits for a broken disk or NFS server cannot be killed",
                    ref="processes-stuck",
                )
            time.sleep(pause)
            pause = min(pause * 2, 0.05)

    def _bring_back(self, pids: set[int]) -> None:
        """Into our freezer on version 1, which lets them go on: somebody may have frozen them in his own."""
        root = self.hierarchies.v1.get("freezer", "")
        path = os.path.join(root, self.path, "cgroup.procs")
        for pid in pids if root and os.path.exists(path) else ():
            try:
                write(path, str(pid))
            except (OSError, RuntimeFailure):
                continue  # it has just ended

    def oom_kills(self) -> int:
        """How many of its processes the kernel killed because memory ran out."""
        if "memory" in self.hierarchies.v1:
            folder = os.path.join(self.hierarchies.v1["memory"], self.path)
            return cgroup_v1.oom_kills(folder)
        if self.hierarchies.v2:
            return cgroup_v2.oom_kills(os.path.join(self.hierarchies.v2, self.path))
        return 0


def prepare(
    path: str,
    resources: Resources,
    hierarchies: Hierarchies | None = None,
    *,
    holder: int = 0,
) -> Cgroup:
    """Make the cgroup and set its limits.

    Below hostctl's own subtree a cgroup that is there already is a leftover, and is removed with what is in it.

    Args:
        holder: a process that may be in it.
    Raises:
        RuntimeFailure: a limit cannot be set; or elsewhere, processes are in it, or it is frozen.
    """
    unknown = sorted(key for key in resources if key not in _SUPPORTED and resources[key])
    if unknown:
        raise RuntimeFailure(
            f"cannot limit {', '.join(unknown)}: unknown to the OCI runtime specification",
            ref="bad-resource",
        )
    cgroup = Cgroup(path.strip("/"), detect() if hierarchies is None else hierarchies)
    if not cgroup.folders():
        raise RuntimeFailure(
            "cannot make a cgroup: the host has none mounted",
            hint="mount -t cgroup2 none /sys/fs/cgroup",
            ref="no-cgroup",
        )
    if not is_ours(cgroup.path):
        cgroup.found = any(os.path.isdir(folder) for folder in cgroup.folders())
        if cgroup.found:
            _check_vacant(cgroup, holder)
        make(cgroup)
    elif make(cgroup):
        release(cgroup)
        make(cgroup)
    _set(cgroup, resources, fresh=not cgroup.found)
    set_devices(cgroup, resources.get("devices"), fresh=not cgroup.found)
    return cgroup


def _check_vacant(cgroup: Cgroup, holder: int) -> None:
    """Raise if starting there would mix two containers, or never begin."""
    from . import cgroup_freeze

    inside = cgroup.processes() - {holder}
    if inside or cgroup_freeze.frozen(cgroup):
        reason = f"process {min(inside)} is in it" if inside else "it is frozen"
        raise RuntimeFailure(
            f"cannot use cgroup {cgroup.path}: {reason}",
            hint="choose another linux.cgroupsPath, or end what is there",
            ref="cgroup-in-use",
        )


def make(cgroup: Cgroup) -> bool:
    """Make the folders, and pass controllers down where version 2 wants that said.

    Returns:
        Whether one of them was there already.
    """
    for attempt in range(5):
        try:
            return _make(cgroup)
        except FileNotFoundError:  # somebody has just pruned a parent that was empty
            if attempt == 4:
                raise
    return False


def prune(run_dir: str) -> None:
    """Remove the subtree of this hostctl where nothing is in it any more."""
    hierarchies = detect()
    own = base(run_dir)
    paths = [f"{own}/containers", f"{own}/monitors"]
    if not delegated(run_dir):
        paths += [own, "hostctl"]
    elif not os.path.exists(os.path.join("/etc/systemd/system", os.path.basename(own))):
        paths += [own, SLICE]  # systemd made neither in hierarchies that it does not manage
    for path in paths:
        for folder in Cgroup(path, hierarchies).folders():
            try:
                os.rmdir(folder)
            except OSError:
                continue


def _make(cgroup: Cgroup) -> bool:
    there = False
    if cgroup.hierarchies.v2:
        there = cgroup_v2.make(cgroup.hierarchies.v2, cgroup.path)
    for root in dict.fromkeys(cgroup.hierarchies.v1.values()):
        there = cgroup_v1.make(root, cgroup.path) or there
    if "cpuset" in cgroup.hierarchies.v1:
        cgroup_v1.inherit_cpuset(cgroup.hierarchies.v1["cpuset"], cgroup.path)
    return there


def update(cgroup: Cgroup, resources: Resources) -> None:
    """Set limits of a running container; what `resources` does not name stays.

    Raises:
        RuntimeFailure: the host has no such controller, or the kernel refuses the value.
    """
    _set(cgroup, resources, fresh=False)
    if resources.get("devices") is not None:
        set_devices(cgroup, resources["devices"], fresh=False)


def _set(cgroup: Cgroup, resources: Resources, *, fresh: bool) -> None:
    v1 = cgroup.hierarchies.v1
    todo = []
    rest = set()
    for controller, file, value in cgroup_v1.values(resources, fresh=fresh):
        if controller in v1:
            todo.append((os.path.join(v1[controller], cgroup.path), file, value))
        else:
            rest.add(controller)
    if rest or resources.get("unified"):
        todo += _on_v2(cgroup, resources, rest)
    write_all(todo)


def _on_v2(cgroup: Cgroup, resources: Resources, rest: set[str]) -> list[tuple[str, str, str]]:
    """What of `resources` is limited by version 2, `rest` in version 1's names of the controllers."""
    root, folder = cgroup.hierarchies.v2, os.path.join(cgroup.hierarchies.v2, cgroup.path)
    for controller, key in cgroup_v2.inexpressible(resources):
        if controller in rest:
            raise RuntimeFailure(
                f"cannot set {key}: cgroup version 2 has nothing like it"
                if root
                else f"cannot set {key}: the host has no {controller} cgroup mounted",
                hint="remove it from the container's resources",
                ref="not-in-cgroup-v2",
            )
    # Memory that version 1 limits is not version 2's to check.
    asked = {key: resources[key] for key in resources if key != "memory" or "memory" in rest}
    found = [item for item in cgroup_v2.values(asked) if _V1_NAMES.get(item[0], item[0]) in rest]
    found += cgroup_v2.unified(resources)
    if root and "memory" in rest:
        cgroup_v2.check_usage(folder, resources["memory"])
    lacking = {item[0] for item in found} - {"cgroup"} - _controllers(folder)
    if root and lacking:
        cgroup_v2.make(root, cgroup.path, sorted(lacking))
        lacking -= _controllers(folder)
    for controller, file, value in found:
        if (not root or controller in lacking) and value != "max":
            raise RuntimeFailure(
                f"cannot set {file}: the host's kernel offers no {controller} cgroup here",
                hint=f"enable the {controller} controller, or remove the limit",
                ref="no-controller",
            )
    return [(folder, file, value) for name, file, value in found if name not in lacking]


def _controllers(folder: str) -> set[str]:
    return set(read(os.path.join(folder, "cgroup.controllers")).split())


def set_devices(cgroup: Cgroup, rules: list[dict[str, Any]] | None, *, fresh: bool = True) -> None:
    """Which device nodes may be used: through version 1's files, or a program on version 2."""
    parsed = device_filter.rules(rules)
    if "devices" in cgroup.hierarchies.v1:
        root = cgroup.hierarchies.v1["devices"]
        device_filter.set_v1(os.path.join(root, cgroup.path), parsed, fresh=fresh)
    else:
        from . import device_program

        folder = os.path.join(cgroup.hierarchies.v2, cgroup.path)
        device_program.attach(folder, parsed, replace=not fresh)


def _thaw(cgroup: Cgroup) -> None:
    from . import cgroup_freeze

    try:
        cgroup_freeze.thaw(cgroup)
    except (OSError, RuntimeFailure):
        return  # no freezer, or gone meanwhile: nothing is frozen


def release(cgroup: Cgroup) -> None:
    """End what is in it and remove it, with all below it; twice is fine."""
    left = [folder for folder in cgroup.folders() if not _removed(folder)]
    if not left:
        return
    cgroup.kill()
    deadline = time.monotonic() + _RELEASE_SECONDS
    for folder in left:
        _remove(folder, deadline)


def _removed(folder: str) -> bool:
    """Whether it is gone: the usual end, with nobody in it and nothing below, needs no search."""
    try:
        os.rmdir(folder)
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno not in (errno.EBUSY, errno.ENOTEMPTY):
            raise
        return False
    return True


def _remove(folder: str, deadline: float) -> None:
    for inner, _, _ in os.walk(folder, topdown=False):
        while not _removed(inner):
            # The last process has ended, but the kernel has not let go of it yet.
            if time.monotonic() > deadline:
                raise RuntimeFailure(
                    f"cannot remove cgroup {inner}: it is in use",
                    hint=f"see what is in {inner}/cgroup.procs, and what was made below",
                    ref="cgroup-busy",
                )
            time.sleep(0.002)
