"""Runs on the test machine: where the virtual machines live: namespaces of their own, and nothing outside.

libvirt, its bridges and firewall rules, QEMU, the registry: all are in one network, mount and pid
namespace. The kernel ends the processes with the first of them and takes bridges, sockets and mounts
with it, however this ends. What is left is one folder on disk.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.lab.paths import CACHE, REGISTRY_PORT
from tests.lab.roots import remove_tree
from tests.lab.services import CONFIG
from tests.lab.shell import LabError, run

BEGIN = r"""set -eu
# $1 is the folder of this space; what libvirt writes goes there, what it leaves in memory goes with us.
for place in lib log cache; do mount --bind "$1/libvirt/$place" "/var/$place/libvirt"; done
mount --bind "$1/libvirt/etc" /etc/libvirt
mount -t tmpfs -o mode=0755 tmpfs /run
mkdir /run/lock /run/libvirt
# The links of this network namespace, for libvirt; the cgroups stay what they are.
mkdir /run/cgroup
mount --rbind /sys/fs/cgroup /run/cgroup
mount -t sysfs sysfs /sys
mount --rbind /run/cgroup /sys/fs/cgroup
ip link set lo up
virtlogd -d
libvirtd -d
docker-registry serve "$1/registry.yml" > "$1/registry.log" 2>&1 &
: > "$1/begun"
exec sleep infinity
"""

QEMU = """user = "root"
group = "root"
security_driver = "none"
cgroup_controllers = [ ]
namespaces = [ ]
remember_owner = 0
"""


@dataclass(frozen=True)
class Space:
    """One set of namespaces; several of different names do not see each other."""

    name: str

    @property
    def folder(self) -> Path:
        """All that it has on disk."""
        return CACHE / "vagrant" / self.name

    @property
    def pid(self) -> int:
        """Its first process, as this machine sees it; 0 if it is not there."""
        with contextlib.suppress(OSError, ValueError):
            pid = int((self.folder / "pid").read_text())
            if str(self.folder).encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                return pid
        return 0

    @contextlib.contextmanager
    def claimed(self) -> Iterator[None]:
        """Nobody else makes or removes it meanwhile."""
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        with self.folder.with_suffix(".lock").open("w") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                hint = "choose another name with HOSTCTL_VM_NAME"
                raise LabError(f"somebody uses the machines {self.name}: {hint}") from error
            yield

    def begin(self, registry: Path, *, kept: bool) -> None:
        """Make it anew, with libvirt and a registry of this content.

        Args:
            registry: storage of a registry; it is copied.
            kept: it outlives this process.
        """
        self.end()
        for place in ("lib", "log", "cache", "etc"):
            (self.folder / "libvirt" / place).mkdir(parents=True)
        for place in ("home/.ssh", "console"):
            (self.folder / place).mkdir(parents=True, mode=0o700)
        etc = self.folder / "libvirt" / "etc"
        (etc / "qemu.conf").write_text(QEMU)
        (etc / "libvirtd.conf").write_text('auth_unix_rw = "none"\n')
        run(["cp", "-a", "--reflink=auto", registry, self.folder / "registry"])
        config = CONFIG.format(storage=self.folder / "registry", address=f":{REGISTRY_PORT}")
        (self.folder / "registry.yml").write_text(config)
        script = self.folder / "begin.sh"
        script.write_text(BEGIN)
        for place in ("lib", "log", "cache"):
            Path(f"/var/{place}/libvirt").mkdir(parents=True, exist_ok=True)
        words = ["setpriv", "--pdeathsig", "KILL"] if not kept else []
        words += ["unshare", "--net", "--mount", "--pid", "--mount-proc", "--fork", "--kill-child"]
        with (self.folder / "begin.log").open("wb") as log:
            holder = subprocess.Popen(
                [*words, "catatonit", "--", "sh", str(script), str(self.folder)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + 60
        children = Path(f"/proc/{holder.pid}/task/{holder.pid}/children")
        while not (self.pid and (self.folder / "begun").exists()):
            if holder.poll() is not None or time.monotonic() > deadline:
                told = (self.folder / "begin.log").read_text()
                raise LabError(f"libvirt does not start in namespaces of its own:\n{told}")
            if not self.pid and (pid := children.read_text()):
                (self.folder / "pid").write_text(pid)
            time.sleep(0.02)

    def end(self) -> None:
        """End all that runs in it, and remove its folder; nothing to do when it is not there."""
        if pid := self.pid:
            handle = os.pidfd_open(pid)
            signal.pidfd_send_signal(handle, signal.SIGKILL)
            os.close(handle)
            while Path(f"/proc/{pid}").exists():
                time.sleep(0.02)
        remove_tree(self.folder)

    def entering(self) -> list[str]:
        """The words that start a program in it."""
        if not self.pid:
            raise LabError("no virtual machines are up: run `make test-vm`, or scripts/vm up")
        here = os.getcwd()
        return ["nsenter", f"--target={self.pid}", "--net", "--mount", "--pid", f"--wdns={here}"]

    def run(
        self, argv: Sequence[str], *, timeout: float, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a program in it from outside; its outputs come together."""
        return subprocess.run(
            [*self.entering(), *argv],
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
            check=False,
        )
