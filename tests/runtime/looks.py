"""Runs on the test machine: what the kernel and a container itself say of it, to be compared field by field."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path
from typing import Any

from hostctl_host.runtime import cgroup

from .workshop import until

KNOWN = (1 << 38) - 1
"""Capabilities that Debian's Docker knows: none that is newer than AUDIT_READ."""

TUNNEL = {"c 10:200 rwm"}
"""/dev/net/tun, which runc lets in before 1.2, and neither it nor hostctl does now."""

FILES = (
    "memory.limit_in_bytes",
    "memory.memsw.limit_in_bytes",
    "memory.soft_limit_in_bytes",
    "memory.swappiness",
    "memory.oom_control",
    "memory.use_hierarchy",
    "cpu.shares",
    "cpu.cfs_quota_us",
    "cpu.cfs_period_us",
    "cpuset.cpus",
    "cpuset.mems",
    "pids.max",
    "blkio.weight",
    "memory.max",
    "memory.low",
    "memory.swap.max",
    "cpu.max",
    "cpu.weight",
    "devices.list",
)


def program(pid: int) -> int:
    """The container's own program: the first process, or an init's child."""

    def found() -> int:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        candidates = [pid, *map(int, children)]
        for one in candidates:
            if Path(f"/proc/{one}/cmdline").read_bytes().split(b"\0")[:2] == [b"sleep", b"1000"]:
                return one
        return 0

    until(found)
    return found()


class Look:
    """Everything about a container that its program, or one from outside, can see."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.proc = Path(f"/proc/{pid}")
        self.inside = (
            (self.proc / "status").read_text().partition("NSpid:")[2].split("\n")[0].split()[-1]
        )
        self.root = self.proc / "root"

    def all(self) -> dict[str, dict[str, Any]]:
        return {
            "namespace": self.namespaces(),
            "status": self.status(),
            "mount": self.mounts(),
            "limit": self.limits(),
            "process": self.process(),
            "sysctl": self.sysctls(),
            "environment": self.environment(),
            "device": self.devices(),
            "file": self.files(),
        }

    def namespaces(self) -> dict[str, str]:
        """Whether each is the host's."""
        return {
            path.name: "host's"
            if os.readlink(path) == os.readlink(f"/proc/self/ns/{path.name}")
            else "own"
            for path in (self.proc / "ns").iterdir()
        }

    def status(self) -> dict[str, str]:
        lines = (self.proc / "status").read_text().splitlines()
        # Signals 32 and 33 are the C library's own; Docker passes on what its daemon was started with.
        lines = [_without_libc(line) if line.startswith("Sig") else line for line in lines]
        found = {name: value.split() for name, _, value in (line.partition(":") for line in lines)}
        wanted = ("Umask", "Uid", "Gid", "Groups", "NoNewPrivs", "Seccomp", "SigIgn", "SigBlk")
        capabilities = {
            name: hex(int(found[name][0], 16) & KNOWN) for name in found if name.startswith("Cap")
        }
        return capabilities | {name: " ".join(found[name]) for name in found if name in wanted}

    def mounts(self) -> dict[str, str]:
        """Mount point -> type, options, and those options of the file system that do not name places."""
        found = {}
        for line in (self.proc / "mountinfo").read_text().splitlines():
            left, _, right = line.partition(" - ")
            _, _, _, root, target, options, *tags = left.split()
            kind, _, super_options = right.split()
            kept = sorted(o for o in super_options.split(",") if "dir=" not in o)
            if kind not in ("tmpfs", "devpts", "proc", "sysfs", "mqueue", "cgroup", "cgroup2"):
                root, kept = "", []
            shown = [kind, root if kind != "cgroup" else "", ",".join(sorted(options.split(",")))]
            found[target] = " ".join(
                [*shown, ",".join(kept), *(tag.partition(":")[0] for tag in tags)]
            )
        return found

    def limits(self) -> dict[str, str]:
        lines = (self.proc / "limits").read_text().splitlines()[1:]
        return {line[:26].strip(): " ".join(line[26:].split()) for line in lines}

    def process(self) -> dict[str, str]:
        names = (
            "oom_score_adj",
            "attr/current",
            "coredump_filter",
            "personality",
            "timerslack_ns",
            "loginuid",
        )
        found = {}
        for name in names:
            try:
                found[name] = (self.proc / name).read_text().strip()
            except OSError as error:
                found[name] = str(error.strerror)
        inside = self.run("cat", f"/proc/{self.inside}/cgroup").splitlines()
        found["cwd"] = os.readlink(self.proc / "cwd")
        found["hostname"] = self.run("hostname")
        found["domainname"] = self.run("cat", "/proc/sys/kernel/domainname")
        found["cgroup seen inside"] = str(sorted(line.partition(":")[2] for line in inside))
        found["descriptors"] = str(sorted(int(p.name) for p in (self.proc / "fd").iterdir()))
        return found

    def sysctls(self) -> dict[str, str]:
        """Of the namespaces that a container has of its own."""
        lines = self.run(
            "sh",
            "-c",
            "cd /proc/sys; grep -r . kernel/msg* kernel/sem kernel/shm* fs/mqueue net 2>/dev/null || :",
        )
        found = dict(line.partition(":")[::2] for line in lines.splitlines())
        # What the kernel counts, or rolls.
        return {
            k: v for k, v in found.items() if not k.endswith(("stable_secret", "random", "uuid"))
        }

    def environment(self) -> dict[str, str]:
        words = (self.proc / "environ").read_bytes().split(b"\0")
        return dict(word.decode().partition("=")[::2] for word in words if word)

    def devices(self) -> dict[str, str]:
        found = {}
        for folder, folders, files in os.walk(self.root / "dev"):
            for name in [*folders, *files]:
                path = Path(folder, name)
                if path.parts[-2] in ("pts", "mqueue", "shm") or (
                    folder != str(self.root / "dev") and path.parent.name == "fd"
                ):
                    continue
                status = path.lstat()
                kind = stat.filemode(status.st_mode)
                number = f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
                link = os.readlink(path) if path.is_symlink() else ""
                found[str(path.relative_to(self.root))] = (
                    f"{kind} {number} {status.st_uid}:{status.st_gid} {link}"
                )
        return found

    def files(self) -> dict[str, str]:
        """What can be read and written where the host's shows through."""
        masked = (
            "/proc/kcore",
            "/proc/keys",
            "/proc/timer_list",
            "/proc/sched_debug",
            "/proc/latency_stats",
        )
        dirs = ("/proc/acpi", "/proc/scsi", "/sys/firmware", "/proc/asound")
        found = {}
        for name in masked:
            found[name] = self.run(
                "sh", "-c", f"[ -e {name} ] && {{ [ -c {name} ] && echo device || echo file; }}"
            )
        for name in dirs:
            found[name] = self.run("sh", "-c", f"ls {name} 2>/dev/null | wc -l")
        for name in (
            "/proc/sys/kernel/domainname",
            "/proc/sysrq-trigger",
            "/proc/irq",
            "/proc/bus",
            "/proc/fs",
            "/sys",
            "/sys/fs/cgroup",
            "/",
        ):
            found[name] = self.run("sh", "-c", f"[ -w {name} ] && echo writable || echo not")
        for name in ("/etc/hostname", "/etc/hosts", "/etc/resolv.conf"):
            status = (self.root / name[1:]).stat()
            found[name] = f"{stat.filemode(status.st_mode)} {status.st_uid}:{status.st_gid}"
        found["/etc/hostname says"] = (self.root / "etc/hostname").read_text()
        found["/etc/mtab"] = str((self.root / "etc/mtab").is_symlink())
        return found

    def run(self, *argv: str) -> str:
        """A program in all of the container's namespaces, with the host's rights; what it printed."""
        done = subprocess.run(
            ["nsenter", f"--target={self.pid}", "--all", "--root", "--wd=/", *argv],
            capture_output=True,
            text=True,
            check=False,
            env={"PATH": "/bin"},
        )
        return done.stdout.strip()


def limits(path: str) -> dict[str, str]:
    """The limits of a cgroup in all hierarchies, and which hierarchies have it."""
    hierarchies = cgroup.detect()
    found = {}
    for controller, root in {**hierarchies.v1, "version 2": hierarchies.v2}.items():
        folder = Path(root, path)
        found[controller] = "own" if folder.is_dir() else "none"
        for name in FILES:
            if (folder / name).exists():
                lines = set((folder / name).read_text().splitlines())
                found[f"{controller} {name}"] = str(sorted(lines - TUNNEL))
    return found


def _without_libc(line: str) -> str:
    name, _, mask = line.partition(":")
    if name not in ("SigIgn", "SigBlk"):
        return line
    return f"{name}:\t{int(mask, 16) & ~(3 << 31):016x}"
