"""Containers that the host's own crun or runc makes in our place: the same to whoever looks, from start to removal."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hostctl_host.container import Spec
from hostctl_host.contract.errors import HostctlError
from hostctl_host.contract.fields import FieldError
from hostctl_host.monitor import client, files, starter
from hostctl_host.runtime import cgroup, desk, syscalls

from tests.runtime.workshop import Workshop, until

pytestmark = pytest.mark.root
LIMITS = {"mem_limit": 64 << 20, "pids_limit": 50, "cpus": 0.5}


@pytest.fixture(params=["crun", "runc"])
def runtime(request: pytest.FixtureRequest, workshop: Workshop) -> Iterator[str]:
    """Its name, with a zygote that does not see version 2 of cgroups beside version 1: crun takes no both."""
    name = str(request.param)
    _ready(workshop, name)
    yield name
    for container in client.names(workshop.paths):
        client.remove(workshop.paths, container)
        assert not (Path(workshop.paths.container(container)) / "stand-in").exists()
    assert _keepers(workshop) == []


def _ready(workshop: Workshop, runtime: str) -> None:
    thread = threading.Thread(target=_hiding, args=(runtime, starter.ensure, workshop.paths))
    thread.start()
    thread.join()


def _hiding(runtime: str, act: Callable[..., object], *args: object) -> None:
    """In a thread of its own, which does not see version 2; nor does the zygote that it starts."""
    hierarchies = cgroup.detect()
    if runtime == "crun" and hierarchies.v1 and hierarchies.v2:
        syscalls.unshare(syscalls.CLONE_NEWNS)
        syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)
        syscalls.umount2(hierarchies.v2, syscalls.MNT_DETACH)
    with contextlib.suppress(HostctlError):
        act(*args)


def _keepers(workshop: Workshop) -> list[int]:
    """Processes that have something of the workshop mounted, beside the containers themselves."""
    found = []
    for entry in os.listdir("/proc"):
        try:
            text = Path("/proc", entry, "mountinfo").read_text() if entry.isdigit() else ""
        except OSError:
            continue
        if f"{workshop.paths.data}/containers" in text:
            found.append(int(entry))
    return found


def _other(workshop: Workshop, runtime: str, name: str, *command: str, **more: Any) -> None:
    workshop.make(name, *command, runtime=runtime, **more)


def _facts(pid: int) -> dict[str, object]:
    """What the kernel says of a container's first process, without what is another one in every container."""
    folder = Path("/proc", str(pid))
    status = dict(
        line.split(":\t", 1)
        for line in (folder / "status").read_text().splitlines()
        if ":\t" in line
    )
    wanted = ("Umask", "Uid", "Gid", "Groups", "NoNewPrivs", "Seccomp", "Seccomp_filters")
    caps = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "SigIgn", "SigBlk")
    own = {
        kind: os.readlink(folder / "ns" / kind) == os.readlink(f"/proc/self/ns/{kind}")
        for kind in ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")
    }
    mounts = {}
    for line in (folder / "mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        words = left.split()
        if words[4].startswith("/sys/fs/cgroup/"):
            continue
        mounts[words[4]] = (right.split()[0], frozenset(words[5].split(",")))
    # The C library's own two signals.
    status["SigIgn"] = f"{int(status['SigIgn'], 16) & ~(3 << 31):016x}"
    return {
        "status": {key: status[key].split() for key in (*wanted, *caps) if key in status},
        "shared": own,
        "limits": (folder / "limits").read_text(),
        "oom": (folder / "oom_score_adj").read_text(),
        "mounts": mounts,
        "environment": sorted((folder / "environ").read_bytes().split(b"\0")),
        "cmdline": (folder / "cmdline").read_bytes(),
        "cwd": os.readlink(folder / "cwd"),
    }


def _lines(value: object) -> list[object]:
    return sorted(value.items()) if isinstance(value, dict) else str(value).splitlines()  # type: ignore[return-value]


def _masked(mounts: Any) -> set[str]:
    return {
        path
        for path in mounts
        if path.startswith(("/proc/", "/sys/")) and not path.startswith("/sys/fs/cgroup")
    }


def test_the_same_container_by_both(workshop: Workshop, runtime: str) -> None:
    more: dict[str, Any] = {
        **LIMITS,
        "user": "app",
        "environment": {"A": "b"},
        "working_dir": "/tmp",
        "cap_add": ("CAP_NET_ADMIN",),
        "security_opt": ("no-new-privileges=true",),
        "sysctls": {"net.ipv4.ip_unprivileged_port_start": "0"},
        "tmpfs": ("/scratch:size=1m",),
        "hostname": "box",
        "oom_score_adj": 100,
    }
    workshop.make("ours", "sleep", "1000", **more)
    _other(workshop, runtime, "theirs", "sleep", "1000", **more)
    ours = _facts(client.start(workshop.paths, "ours").pid)
    theirs = _facts(client.start(workshop.paths, "theirs").pid)
    mine: Any = ours.pop("mounts")
    other: Any = theirs.pop("mounts")
    for key in ours:
        for a, b in zip(_lines(ours[key]), _lines(theirs[key])):
            assert a == b, key
    assert ours == theirs
    assert _masked(mine) == _masked(other)
    # What a path is masked with, and what version 1 of cgroups hangs in, is the runtime's own taste.
    plain = set(mine) - _masked(mine) - {"/sys/fs/cgroup"}
    assert {path: mine[path] for path in plain} == {path: other[path] for path in plain}
    for name in ("memory.limit_in_bytes", "pids.max", "cpu.cfs_quota_us"):
        assert _limit(workshop, "ours", name) == _limit(workshop, "theirs", name), name
    allowed = [
        set(_limit(workshop, name, "devices.list").splitlines()) for name in ("ours", "theirs")
    ]
    # Consoles and TUN are a matter of taste.
    assert allowed[0] ^ allowed[1] <= {"c 10:200 rwm", "c 5:1 rwm"}


def _limit(workshop: Workshop, name: str, file: str) -> str:
    own = cgroup.Cgroup(files.cgroup_path(workshop.paths, name), cgroup.detect())
    return next(
        Path(folder, file).read_text() for folder in own.folders() if Path(folder, file).exists()
    )


def test_output_and_exit_codes(workshop: Workshop, runtime: str) -> None:
    script = "echo out; echo err >&2; exit 7"
    now, _ = workshop.run("a", "sh", "-c", script, runtime=runtime)
    assert now.exit_code == 7
    said = {(entry["stream"], entry["log"]) for entry in workshop.entries("a")}
    assert said == {("stdout", "out\n"), ("stderr", "err\n")}
    now, _ = workshop.run("b", "sh", "-c", "kill -9 $$; sleep 5", runtime=runtime)
    # Process 1 of a pid namespace is not killed from within.
    assert now.exit_code == 0
    for name, word, code in (("c", "/no/such", 127), ("d", "/etc", 126)):
        _other(workshop, runtime, name, word)
        with pytest.raises(Exception, match=runtime) as caught:
            client.start(workshop.paths, name)
        assert getattr(caught.value, "code", 0) == code, str(caught.value)
        assert client.status(workshop.paths, name).status == "exited"


def test_restarts_and_stop(workshop: Workshop, runtime: str) -> None:
    script = "echo once more; sleep 0.1; exit 1"
    _other(workshop, runtime, "a", "sh", "-c", script, settings={"restart": "on-failure:2"})
    client.start(workshop.paths, "a")
    until(lambda: workshop.output("a").count("once more") == 3, 30)
    assert workshop.wait("a", "exited").exit_code == 1
    trap = "trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.05; done"
    _other(workshop, runtime, "b", "sh", "-c", trap, settings={"restart": "always"})
    client.start(workshop.paths, "b")
    workshop.wait_output("b", "up")
    assert client.stop(workshop.paths, "b").exit_code == 3
    assert workshop.output("b") == "up\nbye\n"
    client.start(workshop.paths, "b")
    assert client.stop(workshop.paths, "b", grace=0).status == "exited"


def test_programs_health_limits_and_pause(workshop: Workshop, runtime: str) -> None:
    check = {
        "test": ["CMD", "test", "-e", "/tmp/well"],
        "interval": 0.1,
        "timeout": 1.0,
        "retries": 2,
        "start_period": 0.0,
        "start_interval": 0.1,
    }
    _other(workshop, runtime, "a", "sleep", "1000", settings={"healthcheck": check}, **LIMITS)
    client.start(workshop.paths, "a")
    hook = {"command": ["sh", "-c", "touch /tmp/well; hostname; cat /proc/self/cgroup"]}
    code, said = client.run(workshop.paths, "a", hook, 10)
    assert (code, said.splitlines()[0]) == (0, "a")
    # In its cgroup namespace, and at the root of it.
    assert {line.split(":", 2)[2] for line in said.splitlines()[1:]} == {"/"}
    until(lambda: (client.status(workshop.paths, "a").health or {}).get("status") == "healthy")
    client.update(workshop.paths, "a", {"memory": {"limit": 32 << 20}})
    assert _limit(workshop, "a", "memory.limit_in_bytes").strip() == str(32 << 20)


def test_adopted_after_a_kill_of_the_monitor(workshop: Workshop, runtime: str) -> None:
    _other(workshop, runtime, "a", "sh", "-c", "echo 1; sleep 1; echo 2; exec sleep 1000")
    now = client.start(workshop.paths, "a")
    os.kill(now.monitor, signal.SIGKILL)
    until(lambda: not Path(f"/proc/{now.monitor}").exists())
    again = client.adopt(workshop.paths, "a")
    assert (again.pid, again.status) == (now.pid, "running")
    workshop.wait_output("a", "2\n")
    assert client.stop(workshop.paths, "a", grace=0).status == "exited"
    until(lambda: not _keepers(workshop))
    assert not desk.Desk(workshop.paths.container("a")).exists()


def test_removed_after_kills_of_everything_that_watched(workshop: Workshop, runtime: str) -> None:
    _other(workshop, runtime, "a", "sleep", "1000")
    now = client.start(workshop.paths, "a")
    keeper = int(Path(f"/proc/{now.pid}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(now.monitor, signal.SIGKILL)
    os.kill(keeper, signal.SIGKILL)
    client.remove(workshop.paths, "a")
    until(lambda: not Path(f"/proc/{now.pid}").exists())
    assert not Path(workshop.paths.container("a"), "stand-in").exists()
    assert workshop.cgroups() == []


def test_secrets_and_volumes_that_only_the_container_has(workshop: Workshop, runtime: str) -> None:
    value = Path(workshop.paths.data) / "value"
    (volume := Path(workshop.paths.data) / "volume").mkdir(parents=True)
    (volume / "part").mkdir()
    (volume / "part" / "f").write_text("in a part\n")
    value.write_text("hunter2\n")

    def change(config: dict[str, Any]) -> None:
        grant = {
            "name": "secret s",
            "source": str(value),
            "target": "/run/secrets/s",
            "uid": 1000,
            "gid": 44,
            "mode": 0o440,
        }
        options = ["rbind", "rprivate", "rw"]
        config["mounts"] += [
            {"destination": "/run", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid"]},
            {"destination": "/v", "type": "bind", "source": str(volume), "options": options},
            {"destination": "/t", "type": "bind", "source": str(volume), "options": options},
        ]
        config["annotations"]["hostctl.files"] = json.dumps([grant])
        storage = {
            "/v": {"name": "v", "subpath": "part"},
            "/t": {"name": "t", "type": "tmpfs", "device": "tmpfs", "options": "size=1m"},
        }
        config["annotations"]["hostctl.storage"] = json.dumps(storage)

    script = "stat -c '%u %g %a' /run/secrets/s; cat /run/secrets/s /v/f; stat -f -c %T /t; touch /run/secrets/s"
    _, said = workshop.run("a", "sh", "-c", script, change=change, runtime=runtime)
    assert said.splitlines()[:4] == ["1000 44 440", "hunter2", "in a part", "tmpfs"]
    assert "Read-only file system" in said
    found = subprocess.run(
        ["grep", "-rl", "hunter2", workshop.paths.data, workshop.paths.run],
        capture_output=True,
        text=True,
        check=False,
    )
    # Its log has it because it printed it.
    assert {Path(line).name for line in found.stdout.split()} == {"value", "container.log"}


@pytest.mark.parametrize("after", [0.02, 0.06, 0.12, 0.25])
def test_killed_while_it_starts(workshop: Workshop, runtime: str, after: float) -> None:
    """Everything of the monitor's is killed at some moment of a start; the next start and a removal are whole."""
    _other(workshop, runtime, "a", "sleep", "1000")
    start = (client.start, workshop.paths, "a")
    thread = threading.Thread(target=_hiding, args=(runtime, *start))
    thread.start()
    time.sleep(after)
    for entry in os.listdir("/proc"):
        try:
            words = Path("/proc", entry, "cmdline").read_text() if entry.isdigit() else ""
            if workshop.paths.run in words or f"{workshop.paths.data}/" in words:
                os.kill(int(entry), signal.SIGKILL)
        except OSError:
            continue
    thread.join()
    again = threading.Thread(target=_hiding, args=(runtime, *start))
    again.start()
    again.join()
    assert client.status(workshop.paths, "a").status == "running"
    pid = client.status(workshop.paths, "a").pid
    client.remove(workshop.paths, "a")
    until(lambda: not Path(f"/proc/{pid}").exists())
    until(lambda: not _keepers(workshop))
    assert workshop.cgroups() == []


def test_a_terminal_as_with_our_own(workshop: Workshop, runtime: str) -> None:
    script = "tty; stty size; echo err >&2; exit 3"
    settings = {"tty": True}
    ended, said = workshop.run(
        "a", "sh", "-c", script, settings=settings, tty=True, runtime=runtime
    )
    assert (ended.exit_code, ended.lost) == (3, False)
    assert said == "/dev/pts/0\r\n24 80\r\nerr\r\n"
    trap = "trap 'exit 4' TERM; echo up; while :; do sleep 0.05; done"
    _other(workshop, runtime, "b", "sh", "-c", trap, settings=settings, tty=True)
    first = client.start(workshop.paths, "b")
    workshop.wait_output("b", "up\r\n")
    os.kill(first.monitor, signal.SIGKILL)
    until(lambda: not Path(f"/proc/{first.monitor}").exists())
    # Its terminal went with the monitor: it is started again, and not only looked after.
    second = client.adopt(workshop.paths, "b")
    assert second.pid != first.pid
    until(lambda: workshop.output("b").count("up\r\n") == 2)
    assert client.stop(workshop.paths, "b").exit_code == 4


def test_an_init_of_the_host_is_process_1(workshop: Workshop, runtime: str) -> None:
    script = "trap 'exit 7' TERM; cat /proc/1/comm; (sleep 0.2 &) ; while :; do sleep 0.05; done"
    _other(workshop, runtime, "a", "sh", "-c", script, init=True)
    client.start(workshop.paths, "a")
    until(lambda: workshop.output("a") in ("catatonit\n", "tini-static\n", "hostctl-init\n"))
    assert client.stop(workshop.paths, "a").exit_code == 7
    upper = Path(workshop.paths.container("a"), "upper")
    assert not list(upper.glob("**/hostctl-init"))


def _hanging(folder: Path) -> Path:
    """A runtime that executes something else, and waits for it."""
    path = folder / "hangs"
    path.write_text("#!/bin/sh\nsleep 4321\n")
    path.chmod(0o755)
    return path


def _sleeping() -> list[str]:
    found = subprocess.run(
        ["pgrep", "-f", "^sleep 4321$"], capture_output=True, text=True, check=False
    )
    return found.stdout.split()


def test_one_that_hangs_is_killed_and_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk, "_SECONDS", {"create": 0.3, "start": 0.3, "delete": 0.3})
    (tmp_path / "a").mkdir()
    made = desk.Desk(str(tmp_path / "a"))
    made.make(str(_hanging(tmp_path)))
    with pytest.raises(
        HostctlError, match=r"cannot start a with .*: it took more than 0\.3 s"
    ) as caught:
        made.run("start", "a", apart=True)
    assert caught.value.ref == desk.HANGS
    assert _sleeping() == []
    Path(made.folder, "state", "a").mkdir(parents=True)
    assert made.clear().startswith("cannot delete a with ")
    assert not made.exists() and made.clear() == ""
    assert _sleeping() == []


@pytest.mark.parametrize("watched", [True, False])
def test_a_stop_does_not_wait_for_one_that_hangs(
    workshop: Workshop, tmp_path: Path, watched: bool
) -> None:
    _ready(workshop, "runc")
    _other(workshop, "runc", "a", "sleep", "1000")
    now = client.start(workshop.paths, "a")
    place = desk.Desk(workshop.paths.container("a"))
    Path(place.folder, "runtime").write_text(str(_hanging(tmp_path)))
    if not watched:
        os.kill(now.monitor, signal.SIGKILL)
        until(lambda: not Path(f"/proc/{now.monitor}").exists())
    ended = client.stop(workshop.paths, "a", grace=0)
    assert ended.status == "exited"
    assert "it took more than 5 s, and was killed" in ended.ending
    assert not Path(f"/proc/{now.pid}").exists() and _sleeping() == [] and not place.exists()
    client.remove(workshop.paths, "a")
    assert workshop.cgroups() == []


def test_users_of_its_own_are_refused_beside_another() -> None:
    with pytest.raises(FieldError, match="hostctl's own runtime"):
        Spec("a", "img", runtime="crun", userns_mode="private")
    Spec("a", "img", runtime="crun", tty=True, init=True)
