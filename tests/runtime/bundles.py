"""Runs on the test machine: plain OCI bundles from busybox, run by hostctl's runtime itself, or by crun."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from hostctl_host.runtime import cgroup, container

from tests.runtime.workshop import BUSYBOX, until

NAMESPACES = ("pid", "mount", "ipc", "uts", "network", "cgroup")
QUIET = ["nosuid", "noexec", "nodev"]
MAPPING = [{"containerID": 0, "hostID": 200000, "size": 65536}]
CAPABILITIES = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
    "CAP_NET_RAW",
]

Change = Callable[[dict[str, Any]], None]


def fill_root(root: Path) -> None:
    """A root file system of busybox, with a folder of its own content."""
    for name in ("bin", "etc", "tmp", "root", "proc", "dev", "sys", "data"):
        (root / name).mkdir(parents=True)
    (root / "tmp").chmod(0o1777)
    shutil.copy(BUSYBOX, root / "bin" / "busybox")
    subprocess.run(["chroot", str(root), "/bin/busybox", "--install", "-s", "/bin"], check=True)
    (root / "data" / "f").write_text("of the image\n")
    (root / "etc" / "passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")


def config(*command: str, terminal: bool = False) -> dict[str, Any]:
    """A config.json as `spec` writes it, without limits."""
    return {
        "ociVersion": "1.0.2",
        "hostname": "box",
        "root": {"path": "rootfs"},
        "process": {
            "terminal": terminal,
            "cwd": "/",
            "args": list(command),
            "env": ["PATH=/bin", "HOME=/root"],
            "user": {"uid": 0, "gid": 0},
            "capabilities": {
                name: list(CAPABILITIES) for name in ("bounding", "effective", "permitted")
            },
            "noNewPrivileges": False,
        },
        "mounts": [
            _mount("/proc", "proc", QUIET),
            _mount("/dev", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
            _mount(
                "/dev/pts",
                "devpts",
                ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
            ),
            _mount("/dev/mqueue", "mqueue", QUIET),
            _mount("/sys", "sysfs", [*QUIET, "ro"]),
        ],
        "linux": {"namespaces": [{"type": kind} for kind in NAMESPACES]},
    }


def _mount(target: str, kind: str, options: list[str]) -> dict[str, Any]:
    return {"destination": target, "type": kind, "source": kind, "options": options}


def give_users(made: dict[str, Any]) -> None:
    """A user namespace whose root is the host's 200000."""
    made["linux"]["namespaces"].append({"type": "user"})
    made["linux"]["uidMappings"] = made["linux"]["gidMappings"] = MAPPING


class Bundle:
    """A folder with config.json and rootfs, below a temporary one that everybody may enter."""

    def __init__(self, folder: Path, *, shifted: bool = False) -> None:
        self.folder = folder / f"bundle-{uuid.uuid4().hex[:8]}"
        self.root = self.folder / "rootfs"
        self.root.mkdir(parents=True)
        fill_root(self.root)
        if shifted:
            subprocess.run(["chown", "-hR", "200000:200000", str(self.root)], check=True)
        self.output = self.folder / "output"
        self.path = f"hostctl-test/{uuid.uuid4().hex[:12]}"

    def write(self, *command: str, change: Change | None = None, terminal: bool = False) -> None:
        self.config = config(*command, terminal=terminal)
        if change is not None:
            change(self.config)
        (self.folder / "config.json").write_text(json.dumps(self.config))

    def create(self, **more: Any) -> container.Container:
        """Make it; what it prints goes to `output`."""
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        out = os.open(self.output, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        try:
            more.setdefault("cgroup_path", self.path)
            return container.create(self.config, str(self.folder), stdio=(null, out, out), **more)
        finally:
            os.close(null)
            os.close(out)

    @contextmanager
    def running(self, **more: Any) -> Iterator[container.Container]:
        """Made, started, and gone at the end."""
        made = self.create(**more)
        try:
            made.start()
            yield made
        finally:
            self.end(made)

    def end(self, made: container.Container) -> None:
        made.release()
        try:
            os.waitpid(made.pid, 0)
        except ChildProcessError:
            pass
        cgroup.release(cgroup.Cgroup(self.path, cgroup.detect()))
        for folder in cgroup.Cgroup(os.path.dirname(self.path), cgroup.detect()).folders():
            with suppress(OSError):  # others are in it
                os.rmdir(folder)

    def run(self, *command: str, change: Change | None = None, **more: Any) -> str:
        """Run to its end: what it printed."""
        self.write(*command, change=change)
        made = self.create(**more)
        try:
            made.start()
            os.waitpid(made.pid, 0)
        finally:
            self.end(made)
        return self.output.read_text()

    def crun(self, *words: str, runtime: str = "crun") -> subprocess.CompletedProcess[str]:
        """The same folder by crun, which has to be kept from seeing a hybrid host's version 2."""
        hide = "! mountpoint -q /sys/fs/cgroup/unified || umount /sys/fs/cgroup/unified; "
        state = self.folder / "crun"
        program = (runtime, "--cgroup-manager=disabled", "--root", str(state), *words)
        return subprocess.run(
            ["unshare", "-m", "sh", "-c", hide + 'exec "$@"', "sh", *program],
            cwd=self.folder,
            capture_output=True,
            text=True,
            input="",  # it would give a /dev/null, the host's, to the root of a user namespace
            check=False,
            timeout=20,
        )

    def run_by_crun(self) -> str:
        """What the same bundle prints there."""
        done = self.crun("run", f"hostctl-{uuid.uuid4().hex[:8]}")
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    @contextmanager
    def running_by_crun(self) -> Iterator[int]:
        """The pid of the same container there."""
        name = f"hostctl-{uuid.uuid4().hex[:8]}"
        pid_file = self.folder / "crun.pid"
        log = (self.folder / "crun.out").open("w")
        hide = "! mountpoint -q /sys/fs/cgroup/unified || umount /sys/fs/cgroup/unified; "
        state = str(self.folder / "crun")
        program = ("crun", "--cgroup-manager=disabled", "--root", state)
        process = subprocess.Popen(
            [
                *("unshare", "-m", "sh", "-c", hide + 'exec "$@"', "sh", *program),
                *("run", "--pid-file", str(pid_file), name),
            ],
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        try:
            until(lambda: pid_file.exists() and pid_file.read_text().strip())
            yield int(pid_file.read_text())
        finally:
            self.crun("delete", "--force", name)
            process.wait(20)
            log.close()


def status(pid: int, field: str) -> str:
    """One field of /proc/PID/status."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return " ".join(value.split())
    raise AssertionError(field)


def mountinfo(pid: int) -> dict[str, list[str]]:
    """Target -> its fields of mountinfo: the last mount at each place."""
    found = {}
    for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines():
        fields = line.split()
        found[fields[4]] = fields
    return found


def wait_for(path: Path, text: str, seconds: float = 10) -> None:
    """Wait until the file holds that text."""
    deadline = time.monotonic() + seconds
    while text not in (path.read_text() if path.exists() else ""):
        assert time.monotonic() < deadline, path.read_text() if path.exists() else "no file"
        time.sleep(0.01)
