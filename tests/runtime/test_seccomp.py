"""Filters of system calls in real containers: what programs meet, beside runc, and who is told."""

from __future__ import annotations

import array
import fcntl
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from hostctl_host.container import Mount
from hostctl_host.contract.errors import HostctlError
from hostctl_host.monitor import client
from hostctl_host.runtime import cgroup, join, process
from hostctl_host.runtime.seccomp import build, install

from tests.runtime.seccomp_reference import name_of
from tests.runtime.workshop import Workshop

pytestmark = pytest.mark.root

PROBE = Path(__file__).parent / "seccomp_probe.py"
PYTHON = ("/usr/bin/python3", "-I", "-S", "/tmp/probe.py")
USR = Mount("/usr", "bind", "/usr", read_only=True)
NOTIF_RECV, NOTIF_SEND = 0xC0502100, 0xC0182101


def deny(*names: str, action: str = "SCMP_ACT_ERRNO", **more: Any) -> dict[str, Any]:
    """A profile that lets all through but these."""
    rule = {"names": [*names], "action": action, **more}
    return {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}


def with_profile(profile: dict[str, Any], **process: Any) -> Any:
    def change(config: dict[str, Any]) -> None:
        config["linux"]["seccomp"] = profile
        config["process"].update(process)

    return change


def status(pid: int) -> tuple[str, str]:
    """Mode (2: filter) and number of filters."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    found = dict(line.split(":", 1) for line in lines)
    return found["Seccomp"].strip(), found["Seccomp_filters"].strip()


def test_every_call_ends_as_under_runc(workshop: Workshop, tmp_path: Path) -> None:
    layer = workshop.layers / "l1"
    for name in ("lib", "lib64"):
        (layer / name).symlink_to(f"usr/{name}")
    shutil.copy(PROBE, layer / "tmp" / "probe.py")
    ended, output = workshop.run("a", *PYTHON, volumes=(USR,))
    assert ended.exit_code == 0, output
    ours = json.loads(output)

    bundle = tmp_path / "runc"
    shutil.copytree(layer, bundle / "rootfs", symlinks=True)
    for name in ("proc", "dev", "sys", "usr"):
        (bundle / "rootfs" / name).mkdir(exist_ok=True)
    config = workshop.config("a", *PYTHON, volumes=(USR,))
    config["root"]["path"] = "rootfs"
    config["annotations"] = {}
    config["linux"] = {
        "namespaces": [{"type": kind} for kind in ("pid", "mount", "ipc", "uts", "network")],
        "seccomp": config["linux"]["seccomp"],
    }
    config["mounts"] = [
        m for m in config["mounts"] if m["destination"] in ("/proc", "/dev", "/usr")
    ]
    (bundle / "config.json").write_text(json.dumps(config))
    name = f"hostctl-test-{os.getpid()}"
    argv = ["runc", "--root", str(tmp_path / "state"), "run", "--bundle", str(bundle), name]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    theirs = json.loads(done.stdout)
    refused = ("1", "38")
    different = {
        number: (mine, other)
        for number, (mine, other) in enumerate(zip(ours, theirs))
        # What libseccomp has no name for, runc cannot let in.
        if mine != other and (mine in refused or other in refused) and name_of("x86_64", number)
    }
    assert different == {}
    assert ours.count("1") > 150
    assert ours.count("38") > 5


@pytest.mark.parametrize("init", [False, True])
def test_a_container_is_filtered_unless_it_is_told_otherwise(
    workshop: Workshop, init: bool
) -> None:
    workshop.make("a", "sleep", "1000", init=init)
    pid = client.start(workshop.paths, "a").pid
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    assert len(children) == init
    for one in (pid, *map(int, children)):
        assert status(one) == ("2", "1")


def test_privileged_and_unconfined_ones_are_not_filtered(workshop: Workshop) -> None:
    workshop.make("a", "sleep", "1000", privileged=True)
    workshop.make("b", "sleep", "1000", security_opt=("seccomp=unconfined",))
    for name in ("a", "b"):
        assert status(client.start(workshop.paths, name).pid) == ("0", "0")


def test_a_profile_of_ones_own_is_in_the_bundle(workshop: Workshop) -> None:
    text = json.dumps(deny("mkdir", errnoRet=95))
    _, output = workshop.run("a", "mkdir", "/tmp/x", security_opt=(f"seccomp={text}",))
    assert "Not supported" in output or "not supported" in output


def test_a_further_program_is_filtered_too(workshop: Workshop) -> None:
    workshop.make("a", "sleep", "1000")
    pid = client.start(workshop.paths, "a").pid
    joined = exec_in(workshop, "a", pid, "sh", "-c", "unshare -U true; exec sleep 1000")
    try:
        program = int(wait_for(f"/proc/{joined.pid}/task/{joined.pid}/children").split()[0])
        assert status(program) == ("2", "1")
    finally:
        joined.kill()
        joined.wait()


def wait_for(path: str) -> str:
    deadline = time.monotonic() + 5
    while not (text := Path(path).read_text()):
        assert time.monotonic() < deadline, path
        time.sleep(0.005)
    return text


def exec_in(workshop: Workshop, name: str, pid: int, *command: str) -> join.Joined:
    bundle = os.path.join(workshop.paths.container(name), "bundle")
    config = json.loads(Path(bundle, "config.json").read_text())
    config["process"]["args"] = [*command]
    plan = process.prepare(config, bundle)
    own = cgroup.Cgroup(cgroup.container_path(workshop.paths.run, name), cgroup.detect())
    null = os.open("/dev/null", os.O_RDWR)
    try:
        return join.start(pid, plan, own, stdio=[null, null, null])
    finally:
        os.close(null)


@pytest.mark.parametrize(
    ("action", "code"),
    [
        ("SCMP_ACT_KILL_PROCESS", 128 + 31),
        ("SCMP_ACT_KILL", 128 + 31),
        ("SCMP_ACT_TRAP", 128 + 31),
        ("SCMP_ACT_ERRNO", 1),
        ("SCMP_ACT_LOG", 0),
    ],
)
def test_actions(workshop: Workshop, action: str, code: int) -> None:
    change = with_profile(deny("mkdir", action=action))
    ended, _ = workshop.run("a", "mkdir", "/tmp/x", change=change)
    assert ended.exit_code == code


def test_with_no_new_privileges_the_filter_comes_after_the_change_of_user(
    workshop: Workshop,
) -> None:
    """As with runc and crun: without them it has to come before, while CAP_SYS_ADMIN is there."""
    strict = deny("setresuid", "setgroups", "capset")
    late = with_profile(strict, noNewPrivileges=True)
    ended, output = workshop.run("a", "id", "-u", user="app", change=late)
    assert (ended.exit_code, output) == (0, "1000\n")
    with pytest.raises(HostctlError, match="Operation not permitted"):
        workshop.run("b", "id", "-u", user="app", change=with_profile(strict))


class Answerer:
    """Takes notifications of one container at a socket, and says that each call succeeded."""

    def __init__(self, path: Path) -> None:
        self.states: list[dict[str, Any]] = []
        self.calls: list[int] = []
        self._server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._server.bind(str(path))
        self._server.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                peer, _ = self._server.accept()
            except OSError:
                return
            data, control, _, _ = peer.recvmsg(1 << 16, 64)
            while more := peer.recv(1 << 16):
                data += more
            peer.close()
            self.states.append(json.loads(data))
            fds = array.array("i")
            fds.frombytes(control[0][2])
            threading.Thread(target=self._answer, args=(fds[0],), daemon=True).start()

    def _answer(self, listener: int) -> None:
        while True:
            asked = bytearray(80)
            try:
                fcntl.ioctl(listener, NOTIF_RECV, asked)
                (cookie,) = struct.unpack_from("=Q", asked)
                self.calls.append(struct.unpack_from("=i", asked, 16)[0])
                fcntl.ioctl(listener, NOTIF_SEND, struct.pack("=QqiI", cookie, 0, 0, 0))
            except OSError:
                os.close(listener)  # the last process under the filter has ended
                return

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join(5)


def test_who_listens_is_told(workshop: Workshop, tmp_path: Path) -> None:
    path = tmp_path / "answers.sock"
    answerer = Answerer(path)
    try:
        profile = deny("mkdir", action="SCMP_ACT_NOTIFY")
        profile.update(listenerPath=str(path), listenerMetadata="for the test")
        script = "mkdir /tmp/x && ls -d /tmp/x; exec sleep 1000"
        workshop.make("a", "sh", "-c", script, change=with_profile(profile))
        pid = client.start(workshop.paths, "a").pid
        workshop.wait_output("a", "No such file")
        joined = exec_in(workshop, "a", pid, "mkdir", "/tmp/y")
        inner = joined.wait()
    finally:
        answerer.close()
    first, second = answerer.states
    assert first["fds"] == ["seccompFd"]
    assert first["metadata"] == "for the test"
    assert first["pid"] == first["state"]["pid"] == pid
    assert (first["state"]["id"], first["state"]["status"]) == ("a", "creating")
    assert first["state"]["bundle"] == os.path.join(workshop.paths.container("a"), "bundle")
    assert second["state"]["status"] == "running"
    assert second["pid"] not in (pid, os.getpid())
    assert answerer.calls == [83, 83]
    assert inner == 0
    # Neither the descriptor nor the connection is the program's.
    assert os.listdir(f"/proc/{pid}/fd") == ["0", "1", "2"]
    assert Path(f"/proc/{pid}/task/{pid}/children").read_text() == ""


def test_nobody_listens(workshop: Workshop, tmp_path: Path) -> None:
    profile = deny("mkdir", action="SCMP_ACT_NOTIFY")
    profile["listenerPath"] = str(tmp_path / "nobody.sock")
    with pytest.raises(HostctlError, match=r"nobody\.sock: No such file") as caught:
        workshop.run("a", "true", change=with_profile(profile))
    assert "start the program that is to answer" in caught.value.hint


IMPORTS = """
import sys
sys.path.insert(0, sys.argv[1])
from hostctl_host.runtime import process
from hostctl_host.runtime.config import load
plan = process.prepare(load(sys.argv[2]), sys.argv[2])
print(len(plan.seccomp.program), sorted(m for m in sys.modules if ".seccomp." in m))
"""


def test_a_start_reads_the_compiled_filter_and_imports_no_compiler(
    workshop: Workshop, tmp_path: Path
) -> None:
    config = workshop.config("a", "true")
    (tmp_path / "config.json").write_text(json.dumps(config, sort_keys=True))
    compiled = build.file_content(config["linux"]["seccomp"], os.uname().machine)
    (tmp_path / install.FILE).write_bytes(compiled)
    root = str(Path(install.__file__).parents[3])

    def prepared() -> str:
        argv = [sys.executable, "-I", "-S", "-c", IMPORTS, root, str(tmp_path)]
        done = subprocess.run(argv, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    length = len(compiled.split(b"\n", 2)[2])
    assert prepared() == f"{length} ['hostctl_host.runtime.seccomp.install']"
    # Another profile than the one that was compiled: the file does not count.
    config["linux"]["seccomp"] = deny("mkdir")
    (tmp_path / "config.json").write_text(json.dumps(config, sort_keys=True))
    shorter, _, modules = prepared().partition(" ")
    assert int(shorter) < length
    assert "compiler" in modules
