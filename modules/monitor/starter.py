"""Runs on the managed host, in the agent: finds the zygote of this version, or starts it."""

from __future__ import annotations

import fcntl
import functools
import hashlib
import os
import sys
import threading
import time

from ..agent.paths import Paths
from ..contract.errors import HostctlError
from ..runtime import cgroup, guard
from ..runtime.cgroup_places import delegated
from ..runtime.config import RuntimeFailure
from . import control

START_SECONDS = 30.0
END_SECONDS = 30.0
_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
    "HOME": "/root",
    # Fewer, smaller heaps: a monitor is small, and its pages are to stay shared.
    "MALLOC_ARENA_MAX": "1",
}
_CODE = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    # First the modules of which each monitor gets its own copy: then they lie close together.
    "from {package}.monitor import monitor; "
    "from {package}.monitor.zygote import main; main(*sys.argv[2:])"
)


def path(paths: Paths) -> str:
    """Where the zygote of this version listens, if it runs."""
    return os.path.join(paths.run, f"zygote-{digest()}.sock")


def request(paths: Paths, name: str, verb: str) -> bytes:
    """What the zygote is asked: four fields, no JSON, which would cost every monitor memory."""
    fields = (verb, name, paths.data, paths.run)
    if any("\0" in field or "\n" in field for field in fields):
        raise HostctlError(f"cannot {verb} {name!r}: not a name", ref="bad-name")
    return "\0".join(fields).encode() + b"\n"


def ensure(paths: Paths) -> None:
    """Start the zygote unless somebody else has just done so."""
    where = path(paths)
    os.makedirs(paths.run, 0o700, exist_ok=True)
    lock = os.open(
        os.path.join(paths.run, "zygote.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
    )
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _listens(where):
            _realize(paths)
            _start(paths, where)
            _retire(paths, where)
    finally:
        os.close(lock)


def end(paths: Paths) -> None:
    """End the zygote and the DNS process, where no container runs any more."""
    _retire(paths, "")
    home = cgroup.Cgroup(cgroup.monitors_path(paths.run), cgroup.detect())
    deadline = time.monotonic() + END_SECONDS
    while True:
        try:
            cgroup.release(home)
            break
        except RuntimeFailure:
            # Killed they are; a kernel that takes other namespaces apart may let their end wait.
            if time.monotonic() > deadline:
                raise
    cgroup.prune(paths.run)


_prepared = threading.Lock()


def prepare(paths: Paths) -> None:
    """Have the zygote started meanwhile, if it does not run: a container is about to be started."""
    if os.path.exists(path(paths)) or not _prepared.acquire(blocking=False):
        return
    threading.Thread(target=_prepare, args=(paths,), daemon=True).start()


def _prepare(paths: Paths) -> None:
    try:
        ensure(paths)
    except (HostctlError, OSError):
        return  # who needs it tries again, and says what is wrong
    finally:
        _prepared.release()


def root() -> str:
    """The folder that holds this package, as it was imported."""
    return os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


@functools.cache
def digest() -> str:
    """Twelve hex digits of this version: of the agent's folder name, or of the files in a checkout."""
    place = root()
    name = os.path.basename(place)
    if len(name) == 64 and all(letter in "0123456789abcdef" for letter in name):
        return name[:12]
    sums = hashlib.sha256(f"{place}\0{sys.executable}".encode())
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    for part in ("contract", "monitor", "net", "runtime"):
        with os.scandir(os.path.join(package, part)) as entries:
            for entry in sorted(entries, key=lambda item: item.name):
                if entry.name.endswith(".py"):
                    found = entry.stat()
                    sums.update(f"{entry.name} {found.st_size} {found.st_mtime_ns}\n".encode())
    return sums.hexdigest()[:12]


def _realize(paths: Paths) -> None:
    """Have systemd make the service's cgroup again, where it has become empty and was taken back."""
    if not delegated(paths.run):
        return
    hierarchies = cgroup.detect()
    home = cgroup.base(paths.run)
    if not os.path.isdir(os.path.join(hierarchies.v1.get("name=systemd", hierarchies.v2), home)):
        from ..agent.run import run

        service = os.path.basename(home)
        run(
            ["systemctl", "set-property", "--runtime", service, "TasksMax=infinity"],
            timeout=START_SECONDS,
        )


def _listens(where: str) -> bool:
    try:
        control.connect(where, 5.0).close()
    except (FileNotFoundError, ConnectionRefusedError):
        return False
    return True


def _start(paths: Paths, where: str) -> None:
    """Start it by exec: nothing of this process stays in it, and it is nobody's child for long."""
    code = _CODE.format(package=__name__.partition(".")[0])
    argv = [sys.executable, "-I", "-S", "-c", code, root(), paths.run, where]
    null = (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDWR, 0)
    error_path = os.path.join(paths.run, "zygote.error")
    stderr = (os.POSIX_SPAWN_OPEN, 2, error_path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    # All monitors, and so all first processes of containers, are this executable: see `guard`.
    # A process that is such a one already, as that of a verb is, passes on its own.
    shielded = -1 if guard.protected() else guard.executable()
    pid = os.posix_spawn(
        "/proc/self/exe" if shielded < 0 else f"/proc/self/fd/{shielded}",
        argv,
        _ENVIRONMENT,
        file_actions=[null, (os.POSIX_SPAWN_DUP2, 0, 1), stderr],
        setsigmask=(),
    )
    if shielded >= 0:
        os.close(shielded)
    deadline = time.monotonic() + START_SECONDS
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            break
        if time.monotonic() > deadline:
            os.kill(pid, 9)
            os.waitpid(pid, 0)
            status = -1
            break
        time.sleep(0.002)
    if status != 0:
        with open(error_path, encoding="utf-8", errors="replace") as stream:
            last = stream.read().strip().splitlines()[-1:] or ["it did not get ready in time"]
        raise HostctlError(
            f"cannot start the monitors' parent process: {last[0]}", ref="zygote-failed"
        )


def _retire(paths: Paths, where: str) -> None:
    """Take the name of other versions' zygotes: they end by themselves; their monitors stay."""
    for entry in os.listdir(paths.run):
        other = os.path.join(paths.run, entry)
        if entry.startswith("zygote-") and entry.endswith(".sock") and other != where:
            try:
                os.unlink(other)
            except FileNotFoundError:
                continue
