"""A plan cannot write: a kind with a bug that tries everything, against the real kernel."""

from __future__ import annotations

import errno
import json
import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest
from hostctl_host.contract.report import HostStatus

from .wire import World, document

pytestmark = pytest.mark.root

VANDAL = '''
"""A kind for tests whose observe writes wherever it can, and reports how each attempt ended."""
from __future__ import annotations
import json, os
from dataclasses import dataclass
from .contract.change import Action, Change
from .agent.run import run

@dataclass(frozen=True)
class Spec:
    folder: str
    cgroup: str = ""
    victim: int = 0
    powerless: int = 0

def observe(spec, host):
    from .runtime import syscalls
    outcomes = {}

    def attempt(name, function, *arguments):
        try:
            code = function(*arguments)
            outcomes[name] = "failed" if getattr(code, "code", 0) else "DONE"
        except OSError as error:
            outcomes[name] = error.strerror or str(error)

    def write(path, text="1"):
        with open(path, "w") as stream:
            stream.write(text)

    attempt("file", write, spec.folder + "/made")
    attempt("existing file", write, spec.folder + "/there")
    attempt("unlink", os.unlink, spec.folder + "/there")
    attempt("mkdir", os.mkdir, spec.folder + "/dir")
    attempt("chmod", os.chmod, spec.folder + "/there", 0o777)
    attempt("chown", os.chown, spec.folder + "/there", 1, 1)
    attempt("utime", os.utime, spec.folder + "/there", (1, 1))
    attempt("etc", write, "/etc/hostctl-was-here")
    attempt("proc sys", write, "/proc/sys/kernel/hostname", "vandal")
    attempt("sysfs", write, "/sys/class/net/lo/mtu", "1400")
    attempt("cgroup", os.mkdir, spec.cgroup + "/vandal")
    attempt("remount", syscalls.mount, None, "/", None, syscalls.MS_REMOUNT | syscalls.MS_BIND)
    attempt("mount", syscalls.mount, "tmpfs", "/mnt", "tmpfs", 0)
    attempt("umount", syscalls.umount2, "/dev", syscalls.MNT_DETACH)
    attempt("setattr", syscalls.mount_setattr, "/", 0, syscalls.MOUNT_ATTR_RDONLY)
    attempt("mknod", os.mknod, spec.folder + "/node", 0o60600, os.makedev(7, 0))
    attempt("hostname", _sethostname)
    attempt("clock", _settime)
    attempt("kill", os.kill, spec.victim, 9)
    attempt("namespace", syscalls.unshare, syscalls.CLONE_NEWNS)
    attempt("host's root", write, f"/proc/{spec.victim}/root" + spec.folder + "/made")
    attempt("powerless root", write, f"/proc/{spec.powerless}/root" + spec.folder + "/made")
    attempt("parent's root", write, "/proc/%d/root" % os.getppid() + spec.folder + "/made")
    attempt("link", run, ["ip", "link", "add", "vandal0", "type", "dummy"])
    attempt("address", run, ["ip", "address", "add", "127.9.9.9/32", "dev", "lo"])
    attempt("nft", run, ["nft", "add", "table", "inet", "vandal"])
    attempt("shell", run, ["sh", "-c", "echo x > %s/shell" % spec.folder])
    attempt("setuid helper", run, ["su", "-c", "touch %s/su" % spec.folder, "root"])
    attempt("null", write, "/dev/null")
    attempt("scratch", write, os.environ.get("TMPDIR", "/tmp") + "/scratch")
    return outcomes

def _sethostname():
    import socket
    socket.sethostname("vandal")

def _settime():
    import time
    time.clock_settime(time.CLOCK_REALTIME, 0)

def diff(spec, observed):
    return [Change(Action.UPDATE, "outcomes", after=observed)]

def apply(spec, observed, changes, host):
    pass
'''

ALLOWED = {"null": "DONE", "scratch": "DONE"}


def traces_on_the_host() -> dict[str, bool]:
    """What the vandal would leave. The whole state is not compared: other tests run beside this one."""
    mounts = Path("/proc/self/mountinfo").read_text()
    root = next(line for line in mounts.splitlines() if line.split()[4] == "/")
    return {
        "link": "vandal" in _output("ip", "-o", "link"),
        "address": "127.9.9.9" in _output("ip", "-o", "-4", "address"),
        "nft": "vandal" in _output("nft", "list", "tables"),
        "hostname": socket.gethostname() == "vandal",
        "mount": " /mnt " in mounts,
        "read-only root": root.split()[5].startswith("ro"),
        "no /dev": not os.path.exists("/dev/tty"),
        "etc": os.path.exists("/etc/hostctl-was-here"),
        "mtu": Path("/sys/class/net/lo/mtu").read_text() == "1400\n",
    }


def _output(*argv: str) -> str:
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def cgroup():
    """A writable cgroup folder of this test's own, in whichever hierarchy there is."""
    for base in ("/sys/fs/cgroup/pids", "/sys/fs/cgroup/unified", "/sys/fs/cgroup"):
        folder = Path(base) / f"hostctl-test-{os.getpid()}"
        try:
            folder.mkdir()
        except OSError:
            continue
        yield folder
        folder.rmdir()
        return
    raise AssertionError("this machine has no cgroup that root may write to")


@pytest.mark.parametrize("without", ["", "mount_setattr"])
def test_a_kind_that_tries_to_write_cannot(
    world: World, tmp_path: Path, cgroup: Path, without: str
) -> None:
    """Also on a kernel that lacks mount_setattr (simulated)."""
    world.kind("vandal", VANDAL)
    if without:
        _lack(world, without, errno.ENOSYS)
    (tmp_path / "there").write_text("untouched")
    # Like root in a container without capabilities: the kernel would let an equal look into its /proc.
    powerless = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "sleep", "60"]
    with subprocess.Popen(["sleep", "60"]) as victim, subprocess.Popen(powerless) as other:
        spec = {"folder": str(tmp_path), "cgroup": str(cgroup), "victim": victim.pid}
        spec["powerless"] = other.pid
        with world.start("plan") as agent:
            report = agent.run(document({"id": "vandal.a", "kind": "vandal", "spec": spec}))
        assert victim.poll() is None
        victim.terminate()
        other.terminate()
    assert report.status is HostStatus.OK, report.failures
    assert report.warnings == ()
    outcomes = report.outcomes[0].changes[0].after
    done = {name: end for name, end in outcomes.items() if end == "DONE"}
    assert done == ALLOWED, json.dumps(outcomes, indent=1)
    assert not any(traces_on_the_host().values()), traces_on_the_host()
    assert (tmp_path / "there").read_text() == "untouched"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["agent", "there"]


def _lack(world: World, call: str, code: int) -> None:
    """The agent's door to ctypes with one call that the kernel refuses."""
    package = world.agent / "hostctl_host"
    runtime = (package / "runtime").resolve()
    (package / "runtime").unlink()
    (package / "runtime").mkdir()
    for item in runtime.iterdir():
        if item.name not in ("__pycache__", "syscalls.py"):
            (package / "runtime" / item.name).symlink_to(item)
    source = (runtime / "syscalls.py").read_text()
    source += (
        f"\ndef {call}(*args: object, **options: object) -> None:\n"
        f"    raise OSError({code}, os.strerror({code}))\n"
    )
    (package / "runtime" / "syscalls.py").write_text(source)


def test_a_plan_sees_the_host_as_it_is(world: World, tmp_path: Path) -> None:
    """Files under /tmp and of other users, and processes by their pid, are all there."""
    (tmp_path / "secret").write_text("hello")
    (tmp_path / "secret").chmod(0)
    os.chown(tmp_path / "secret", 12345, 12345)
    spec = {"path": str(tmp_path / "secret"), "text": "hello"}
    report = world.plan({"id": "note.a", "kind": "note", "spec": spec})
    assert report.outcomes[0].status.value == "ok"


@pytest.fixture
def open_folder():
    """A folder that an ordinary user may enter, which pytest's are not."""
    folder = Path(tempfile.mkdtemp(prefix="hostctl-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize("without", ["", "unshare"])
def test_an_ordinary_user_plans_too(open_folder: Path, without: str) -> None:
    """In a user namespace, and behind Landlock (with a warning) where the host allows none (simulated)."""
    world = World(open_folder)
    if without:
        _lack(world, without, errno.EPERM)
    world.kind("vandal", VANDAL)
    # The checkout may be in a folder that only root may enter: what the agent's links lead to, copied.
    world.agent = Path(shutil.copytree(world.agent, open_folder / "copy"))
    home = open_folder / "home"
    home.mkdir()
    os.chown(home, 65534, 65534)
    world.python = str(home / "python")
    Path(world.python).write_text(
        '#!/bin/sh\nexec setpriv --reuid 65534 --regid 65534 --clear-groups /usr/bin/python3 "$@"\n'
    )
    Path(world.python).chmod(0o755)
    spec = {"folder": str(home), "cgroup": "/sys/fs/cgroup", "victim": 1}
    report = world.plan({"id": "vandal.a", "kind": "vandal", "spec": spec})
    outcomes = report.outcomes[0].changes[0].after
    if without:
        assert "does not let user 65534 make namespaces" in report.warnings[0]
        assert outcomes["file"] == outcomes["mkdir"] == "Permission denied"
    else:
        assert report.warnings == ()
        assert outcomes["file"] == "Read-only file system"
    assert sorted(path.name for path in home.iterdir()) == ["python"]


def test_root_without_the_right_to_seal_is_refused(world: World) -> None:
    _lack(world, "unshare", errno.EPERM)
    with world.start("plan") as agent:
        error = agent.read_until("error")
    assert error["ref"] == "seal-refused"
    assert error["message"] == "cannot plan without writing: Operation not permitted"
