"""The OCI command line: a container's life over several processes, its state, its end, and kills between."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from hostctl_host.runtime import cgroup, cgroup_freeze

from tests.runtime.command import Command
from tests.runtime.workshop import until

pytestmark = pytest.mark.root


def _alive(pid: int) -> bool:
    return (
        Path(f"/proc/{pid}").exists()
        and "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    )


def test_create_start_kill_delete_with_the_state_of_each_moment(oci: Command) -> None:
    bundle = oci.created("a", "sh", "-c", "echo $$ started; exec sleep 100")
    created = oci.state("a")
    assert created == {
        "ociVersion": "1.2.0",
        "id": "a",
        "status": "created",
        "pid": created["pid"],
        "bundle": str(bundle.folder),
        "rootfs": str(bundle.root),
        "created": created["created"],
        "owner": "",
        "annotations": {},
    }
    assert bundle.output.read_text() == ""
    oci("start", "a")
    until(lambda: bundle.output.read_text() == "1 started\n")
    assert oci.status("a") == "running"
    assert oci.state("a")["pid"] == created["pid"]
    assert "is running, not created" in oci("start", "a", code=1)
    assert "not stopped: running" in oci("delete", "a", code=1)
    oci("kill", "a", "KILL")
    until(lambda: oci.status("a") == "stopped")
    assert oci.state("a")["pid"] == 0
    assert "container not running" in oci("kill", "a", code=1)
    oci("delete", "a")
    assert "does not exist" in oci("state", "a", code=1)
    assert not any(os.path.exists(folder) for folder in oci.cgroup("a").folders())


def test_run_passes_on_output_exit_code_and_signals(oci: Command) -> None:
    bundle = oci.bundle("a", "sh", "-c", "cat; echo done; exit 7")
    assert oci("run", "-b", str(bundle.folder), "a", code=7, input="in\n") == "in\ndone\n"
    assert oci("list", "-q") == ""
    script = "trap 'echo caught; exit 5' TERM; echo ready; while :; do sleep 0.05; done"
    bundle = oci.bundle("b", "sh", "-c", script)
    process = oci.popen("run", "--bundle", str(bundle.folder), "b", stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.terminate()
    assert process.communicate(timeout=10)[0] == "caught\n"
    assert process.returncode == 5
    oci.bundle("c", "sh", "-c", "kill -9 $$")
    assert not oci.root.exists() or not list(oci.root.iterdir())


def test_run_detached_and_keep(oci: Command) -> None:
    bundle = oci.bundle("a", "sleep", "100")
    pid_file = oci.folder / "pid"
    with open(os.devnull, "r+") as null:
        oci(
            *("run", "-d", "--pid-file", str(pid_file), "-b", str(bundle.folder), "a"),
            stdin=null,
            stdout=null,
            stderr=null,
        )
    assert int(pid_file.read_text()) == oci.state("a")["pid"]
    bundle = oci.bundle("b", "true")
    oci("run", "--keep", "-b", str(bundle.folder), "b")
    assert oci.status("b") == "stopped"
    rows = oci("list").splitlines()
    assert rows[0].split() == ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]
    assert [row.split()[:1] + row.split()[2:3] for row in rows[1:]] == [
        ["a", "running"],
        ["b", "stopped"],
    ]
    assert [item["id"] for item in json.loads(oci("list", "-f", "json"))] == ["a", "b"]


def test_a_name_is_one_container(oci: Command) -> None:
    bundle = oci.created("a", "sleep", "100")
    assert "exists already" in oci("create", "-b", str(bundle.folder), "a", code=1)
    assert oci.status("a") == "created"
    for bad in ("../a", "a/b", "", ".", "ü"):
        assert "invalid container ID" in oci("create", "-b", str(bundle.folder), bad, code=1)


def test_a_cgroup_that_is_in_use_is_left_alone(oci: Command) -> None:
    bundle = oci.created("a", "sleep", "100")
    before = oci.state("a")["pid"]
    assert "is not empty" in oci("create", "-b", str(bundle.folder), "b", code=1)
    assert _alive(before)
    assert oci("list", "-q") == "a\n"


def test_kill_takes_numbers_names_and_all(oci: Command) -> None:
    script = "trap 'echo usr1' USR1; (sleep 100 &); echo ready; while :; do sleep 0.02; done"
    bundle = oci.started("a", "sh", "-c", script)
    until(lambda: "ready" in bundle.output.read_text())
    for word in ("USR1", "SIGUSR1", "usr1", "10"):
        before = bundle.output.read_text().count("usr1")
        oci("kill", "a", word)
        until(lambda: bundle.output.read_text().count("usr1") > before)  # noqa: B023
    assert "unknown signal" in oci("kill", "a", "NONE", code=1)
    inside = json.loads(oci("ps", "--format", "json", "a"))
    assert len(inside) >= 2
    oci("kill", "--all", "a", "KILL")
    until(lambda: not any(_alive(pid) for pid in inside))
    oci("kill", "--all", "a", "KILL")


def test_pid_of_somebody_else_is_not_the_container(oci: Command) -> None:
    oci.started("a", "sleep", "100")
    pid = oci.state("a")["pid"]
    os.kill(pid, signal.SIGKILL)
    until(lambda: oci.status("a") == "stopped")
    with subprocess.Popen(["sleep", "100"]) as other:
        path = oci.root / "a" / "state.json"
        known = json.loads(path.read_text())
        path.write_text(json.dumps({**known, "pid": other.pid}))
        assert oci.status("a") == "stopped"
        oci("kill", "a", "KILL", code=1)
        oci("delete", "--force", "a")
        assert other.poll() is None
        other.kill()


def test_delete_force_of_what_is_not_there_is_fine(oci: Command) -> None:
    oci("delete", "--force", "none")
    oci.created("a1", "sleep", "100")
    oci.started("a2", "sleep", "100")
    oci.created("b", "sleep", "100")
    oci("delete", "--force", "--regex", "a.")
    assert oci("list", "-q") == "b\n"
    oci("delete", "b")


def test_descriptors_are_handed_on_only_when_wanted(oci: Command) -> None:
    reading, writing = os.pipe()
    target = fcntl.fcntl(writing, fcntl.F_DUPFD, 40)
    try:
        listing = oci.bundle("a", "ls", "/proc/self/fd")
        found = oci("run", "-b", str(listing.folder), "a", pass_fds=[target]).split()
        assert found == ["0", "1", "2", "3"]  # the last is ls's own
        script = f"echo through > /proc/self/fd/{target}; echo $LISTEN_FDS $LISTEN_PID"
        bundle = oci.bundle("b", "sh", "-c", script)
        more = {"pass_fds": [target], "env": {"LISTEN_FDS": "1"}}
        count = str(target - 3)
        out = oci("run", "--preserve-fds", count, "-b", str(bundle.folder), "b", **more)
        assert (out, os.read(reading, 100)) == ("1 1\n", b"through\n")
    finally:
        for fd in (reading, writing, target):
            os.close(fd)


def test_a_terminal_goes_to_the_console_socket(oci: Command) -> None:
    def terminal(config: dict[str, Any]) -> None:
        config["process"]["terminal"] = True
        config["process"]["consoleSize"] = {"height": 11, "width": 22}

    bundle = oci.bundle("a", "sh", "-c", "stty size; tty", change=terminal)
    assert "use --console-socket" in oci("create", "-b", str(bundle.folder), "a", code=1)
    path = str(oci.folder / "console.sock")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(path)
        listener.listen()
        oci("create", "--console-socket", path, "-b", str(bundle.folder), "a")
        peer, _ = listener.accept()
        _, fds, _, _ = socket.recv_fds(peer, 100, 4)
        peer.close()
    oci("start", "a")
    said = b""
    try:
        while chunk := os.read(fds[0], 1000):
            said += chunk
    except OSError:  # EIO: the program has ended
        pass
    os.close(fds[0])
    assert said == b"11 22\r\n/dev/pts/0\r\n"


def test_a_read_only_dev_has_a_console(oci: Command) -> None:
    def readonly(config: dict[str, Any]) -> None:
        config["process"]["terminal"] = True
        next(m for m in config["mounts"] if m["destination"] == "/dev")["options"] += ["ro"]

    bundle = oci.bundle("a", "sh", "-c", "test -c /dev/console && touch /dev/x", change=readonly)
    out = oci("run", "-b", str(bundle.folder), "a", code=1)
    assert "/dev/x: Read-only file system" in out


@pytest.mark.parametrize("options", [[], ["--no-pivot"]])
def test_nested_user_namespaces_get_no_proc_without_masks(oci: Command, options: list[str]) -> None:
    def masked(config: dict[str, Any]) -> None:
        config["linux"]["maskedPaths"] = ["/proc/kcore"]
        config["linux"]["readonlyPaths"] = ["/proc/sys"]
        for names in config["process"]["capabilities"].values():
            names.append("CAP_SETFCAP")

    script = "mount -t proc none /proc 2>&1 && echo whole"
    bundle = oci.bundle("a", "unshare", "-mrpf", "sh", "-c", script, change=masked)
    out = oci("run", *options, "-b", str(bundle.folder), "a", code=1)
    assert "permission denied" in out


def test_hooks_of_all_kinds_over_several_processes(oci: Command) -> None:
    log = oci.folder / "hooks"
    script = oci.folder / "hook"
    script.write_text(f"#!/bin/sh\necho $1 $(cat) >> {log}\n")
    script.chmod(0o755)

    def hooks(config: dict[str, Any]) -> None:
        kinds = ("prestart", "createRuntime", "createContainer", "poststart", "poststop")
        config["hooks"] = {
            kind: [{"path": str(script), "args": ["hook", kind], "env": ["PATH=/bin:/usr/bin"]}]
            for kind in kinds
        }

    oci.created("a", "sleep", "100", change=hooks)
    names = [line.split()[0] for line in log.read_text().splitlines()]
    assert names == ["prestart", "createRuntime", "createContainer"]
    pid = oci.state("a")["pid"]
    oci("start", "a")
    oci("delete", "--force", "a")
    kind, state = log.read_text().splitlines()[-2].split(" ", 1)
    assert (kind, json.loads(state)["pid"], json.loads(state)["status"]) == (
        "poststart",
        pid,
        "running",
    )
    kind, state = log.read_text().splitlines()[-1].split(" ", 1)
    assert (kind, json.loads(state)["id"], json.loads(state)["status"]) == (
        "poststop",
        "a",
        "stopped",
    )


def test_a_failing_poststart_hook_is_the_end_of_the_container(oci: Command) -> None:
    def hooks(config: dict[str, Any]) -> None:
        config["hooks"] = {"poststart": [{"path": "/bin/false"}]}

    oci.created("a", "sleep", "100", change=hooks)
    assert "poststart hook /bin/false" in oci("start", "a", code=1)
    assert oci.status("a") == "stopped"


@pytest.mark.parametrize("after", [0.02, 0.05, 0.08, 0.12, 0.2])
@pytest.mark.parametrize("verb", ["create", "run", "start", "delete"])
def test_a_kill_at_any_instant_leaves_what_delete_removes(
    oci: Command, verb: str, after: float
) -> None:
    bundle = oci.bundle("a", "sleep", "100")
    if verb in ("start", "delete"):
        oci("create", "-b", str(bundle.folder), "a", stdout=subprocess.DEVNULL, stderr=None)
    words = {
        "create": ["create", "-b", str(bundle.folder), "a"],
        "run": ["run", "-b", str(bundle.folder), "a"],
        "start": ["start", "a"],
        "delete": ["delete", "--force", "a"],
    }[verb]
    process = oci.popen(*words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    time.sleep(after)
    process.kill()
    process.wait()
    oci("delete", "--force", "a")
    assert not (oci.root / "a").exists()
    until(lambda: not oci.cgroup("a").processes())
    assert not any(os.path.exists(folder) for folder in oci.cgroup("a").folders())


def test_a_start_that_was_killed_while_it_asked_can_be_repeated(oci: Command) -> None:
    bundle = oci.created("a", "echo", "hello")
    folder = os.open(oci.root / "a", os.O_RDONLY)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as peer:
            peer.connect(f"/proc/self/fd/{folder}/start")
            assert oci.status("a") == "created"
    finally:
        os.close(folder)
    oci("start", "a")
    until(lambda: bundle.output.read_text() == "hello\n")


def test_delete_ends_what_somebody_froze_in_a_cgroup_of_his_own(oci: Command) -> None:
    freezer = cgroup.detect().v1.get("freezer", "")
    hierarchies = cgroup.Hierarchies({"freezer": freezer} if freezer else {}, cgroup.detect().v2)
    other = cgroup.Cgroup(f"{oci.group}-other", hierarchies)
    cgroup.make(other)
    oci.started("a", "sleep", "100")
    pid = oci.state("a")["pid"]
    other.join(pid)
    cgroup_freeze.freeze(other)
    try:
        oci("delete", "--force", "a")
        assert not _alive(pid)
    finally:
        cgroup.release(other)


def test_the_hosts_name_is_no_parameter(oci: Command) -> None:
    def change(config: dict[str, Any]) -> None:
        config["linux"]["sysctl"] = {"kernel.hostname": "box"}

    bundle = oci.bundle("a", "true", change=change)
    assert "hostname in config.json" in oci("run", "-b", str(bundle.folder), "a", code=1)
