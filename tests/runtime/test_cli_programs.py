"""The OCI command line: further programs in a container, its limits, and what it uses."""

from __future__ import annotations

import json
import os
import pty
import signal
import socket
import struct
import subprocess
import termios
from fcntl import ioctl
from pathlib import Path
from typing import Any

import pytest
from hostctl_host.runtime import cgroup_files

from tests.runtime.command import Command
from tests.runtime.workshop import until

pytestmark = pytest.mark.root


@pytest.fixture
def box(oci: Command) -> Command:
    oci.started("box", "sleep", "1000")
    return oci


def _status(text: str) -> dict[str, str]:
    return {line.split(":\t")[0]: line.split(":\t")[1] for line in text.splitlines()}


def test_exec_is_in_all_namespaces_and_the_cgroup(box: Command) -> None:
    pid = box.state("box")["pid"]
    kinds = ("cgroup", "ipc", "mnt", "net", "pid", "uts")
    script = "; ".join(f"readlink /proc/self/ns/{kind}" for kind in kinds)
    found = box("exec", "box", "sh", "-c", script).split()
    assert found == [os.readlink(f"/proc/{pid}/ns/{kind}") for kind in kinds]
    mine = box("exec", "box", "cat", "/proc/self/cgroup").splitlines()
    assert {line.split(":")[2] for line in mine} == {"/"}


def test_exec_takes_input_and_gives_output_and_exit_code(box: Command) -> None:
    assert box("exec", "box", "cat", input="in\n") == "in\n"
    assert box("exec", "box", "sh", "-c", "echo out; exit 9", code=9) == "out\n"
    assert box("exec", "box", "sh", "-c", "kill -9 $$", code=137) == ""
    assert "executable file not found" in box("exec", "box", "nothing", code=1)
    assert "permission denied" in box("exec", "box", "/etc/passwd", code=1).lower()
    # Options end at the name: the rest is the program's.
    assert box("exec", "box", "echo", "--user", "-t") == "--user -t\n"


def test_exec_as_somebody_else_elsewhere_with_more(box: Command) -> None:
    out = box(
        *("exec", "--user", "5:6", "-g", "7", "--cwd", "/data", "-e", "A=b c", "--env", "B=d"),
        *("--no-new-privs", "--cap", "CAP_SYS_NICE", "box"),
        *("sh", "-c", "pwd; echo $A $B; cat /proc/self/status"),
    )
    cwd, words, *lines = out.splitlines()
    status = _status("\n".join(lines))
    assert (cwd, words) == ("/data", "b c d")
    assert status["Uid"].split() == ["5"] * 4
    assert status["Gid"].split() == ["6"] * 4
    assert status["Groups"].split() == ["7"]
    assert status["NoNewPrivs"] == "1"
    assert int(status["CapBnd"], 16) >> 23 & 1
    bare = _status(box("exec", "box", "cat", "/proc/self/status"))
    assert not int(bare["CapBnd"], 16) >> 23 & 1
    assert bare["NoNewPrivs"] == "0"
    assert box("exec", "-u", "root", "box", "sh", "-c", "echo $HOME") == "/root\n"


def test_exec_of_a_whole_process(box: Command) -> None:
    path = box.folder / "process.json"
    process: dict[str, Any] = {
        "args": ["sh", "-c", "id -u; pwd; echo $X; ulimit -n; cat /proc/self/oom_score_adj"],
        "cwd": "/tmp",
        "env": ["PATH=/bin", "X=y"],
        "user": {"uid": 11, "gid": 12},
        "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 77, "hard": 99}],
        "oomScoreAdj": 300,
    }
    path.write_text(json.dumps(process))
    out = box("exec", "--process", str(path), "box")
    assert out.split() == ["11", "/tmp", "y", "77", "300"]
    path.write_text("[]")
    assert "it is no process" in box("exec", "-p", str(path), "box", code=1)


def test_exec_in_the_background_is_a_child_of_the_subreaper(box: Command) -> None:
    pid_file = box.folder / "pid"
    libc = "import ctypes; ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)"
    reaper = (
        f"{libc}\nimport os, subprocess, sys\n"
        "subprocess.run(sys.argv[2:], check=True, stdin=0)\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(int(open(sys.argv[1]).read()), 0)[1]))\n"
    )
    words = box.argv("exec", "-d", "--pid-file", str(pid_file), "box", "sh", "-c", "exit 23")
    ran = subprocess.run(
        ["python3", "-c", reaper, str(pid_file), *words],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(["build/editable"])},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
        timeout=20,
        cwd=Path(__file__).parent.parent.parent,
    )
    assert ran.stdout == "23\n"


def test_exec_passes_signals_on(box: Command) -> None:
    script = "trap 'echo caught; exit 5' INT; echo ready; while :; do sleep 0.05; done"
    process = box.popen("exec", "box", "sh", "-c", script, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=10)[0] == "caught\n"
    assert process.returncode == 5


@pytest.mark.parametrize("verb", ["exec", "run"])
def test_the_callers_terminal_is_the_programs(box: Command, verb: str) -> None:
    script = "tty; stty size; read x; echo =$x"

    def terminal(config: dict[str, Any]) -> None:
        config["process"]["terminal"] = True

    bundle = box.bundle("other", "sh", "-c", script, change=terminal)
    words = {
        "exec": ("exec", "-t", "box", "sh", "-c", script),
        "run": ("run", "-b", str(bundle.folder), "other"),
    }[verb]
    master, slave = pty.openpty()
    ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 44, 0, 0))
    before = termios.tcgetattr(slave)
    process = box.popen(*words, stdin=slave, stdout=slave, stderr=slave)
    said = b""
    while b"33 44" not in said:
        said += os.read(master, 1000)
    os.write(master, b"word\n")
    while b"=word" not in said:
        said += os.read(master, 1000)
    assert process.wait(10) == 0
    assert said.startswith(b"/dev/pts/0\r\n33 44\r\n")
    assert termios.tcgetattr(slave) == before
    os.close(master)
    os.close(slave)


def test_exec_in_the_background_gives_its_terminal_away(box: Command) -> None:
    path = str(box.folder / "console.sock")
    assert "use --console-socket" in box("exec", "-d", "-t", "box", "tty", code=1)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(path)
        listener.listen()
        words = ("--console-socket", path, "box", "sh", "-c", "tty; echo end")
        box("exec", "--detach", "--tty=true", *words)
        peer, _ = listener.accept()
        _, fds, _, _ = socket.recv_fds(peer, 100, 4)
        peer.close()
    said = b""
    while b"end\r\n" not in said:
        said += os.read(fds[0], 1000)
    os.close(fds[0])
    assert said == b"/dev/pts/0\r\nend\r\n"


def test_paused_containers_stand_still(box: Command) -> None:
    assert "is running, not paused" in box("resume", "box", code=1)
    box("pause", "box")
    assert box.status("box") == "paused"
    assert "it is paused" in box("exec", "box", "true", code=1)
    box("resume", "box")
    assert box.status("box") == "running"
    box("exec", "box", "true")
    box("pause", "box")
    box("delete", "--force", "box")
    assert box("list", "-q") == ""


def test_exec_in_a_cgroup_below_the_containers(box: Command) -> None:
    folders = {folder.split("/")[4]: Path(folder) for folder in box.cgroup("box").folders()}
    host = ("exec", "--cgroup")
    assert "leads out" in box(*host, "..", "box", "true", code=1)
    assert "there is no" in box(*host, "nothing", "box", "true", code=1)
    assert "there is no nothing" in box(*host, "nothing:/", "box", "true", code=1)
    for name in ("memory", "pids"):
        (folders[name] / "below").mkdir()
    words = ("exec", "--cgroup", "memory,pids:below", "box", "cat", "/proc/self/cgroup")
    rows = [line.split(":") for line in box(*words).splitlines()]
    assert {row[1]: row[2] for row in rows if row[2] != "/"} == {
        "memory": "/below",
        "pids": "/below",
    }


def test_update_by_options_and_by_file(box: Command) -> None:
    folders = {folder.split("/")[4]: folder for folder in box.cgroup("box").folders()}

    def value(controller: str, file: str) -> int:
        return cgroup_files.read_number(os.path.join(folders[controller], file))

    box("update", "--pids-limit", "50", "--memory", "64m", "--cpu-share", "512", "box")
    assert value("pids", "pids.max") == 50
    assert value("memory", "memory.limit_in_bytes") == 64 << 20
    assert value("cpu", "cpu.shares") == 512
    more = {
        "pids": {"limit": 60},
        "memory": {"limit": 0},
        "cpu": {"quota": 30000, "period": 100000},
    }
    box("update", "--resources", "-", "box", input=json.dumps(more))
    assert value("pids", "pids.max") == 60
    assert value("memory", "memory.limit_in_bytes") == 64 << 20
    assert value("cpu", "cpu.cfs_quota_us") == 30000
    path = box.folder / "resources.json"
    path.write_text(json.dumps({"pids": {"limit": -1}}))
    box("update", "-r", str(path), "box")
    assert value("pids", "pids.max") == cgroup_files.UNLIMITED
    assert "number of bytes" in box("update", "--memory", "much", "box", code=1)
    assert "whole number" in box("update", "--pids-limit", "many", "box", code=1)


def test_ps_and_events(box: Command) -> None:
    pid = box.state("box")["pid"]
    assert json.loads(box("ps", "-f", "json", "box")) == [pid]
    rows = box("ps", "box").splitlines()
    assert rows[0].split()[:2] == ["UID", "PID"]
    assert [row.split()[1] for row in rows[1:]] == [str(pid)]
    assert box("ps", "box", "-o", "pid,args").splitlines()[1].split() == [str(pid), "sleep", "1000"]
    event = json.loads(box("events", "--stats", "box"))
    assert (event["type"], event["id"]) == ("stats", "box")
    assert event["data"]["pids"]["current"] == 1
    assert event["data"]["cpu"]["usage"]["total"] > 0
    assert 0 < event["data"]["memory"]["usage"]["usage"] < 64 << 20
    process = box.popen("events", "--interval", "50ms", "box", stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["type"] == "stats"
    box("kill", "box", "KILL")
    assert process.wait(10) == 0
    process.stdout.close()
    assert "it is not running" in box("events", "--stats", "box", code=1)
    assert "greater than 0" in box("events", "--interval", "0s", "box", code=1)


def test_events_say_that_memory_ran_out(oci: Command) -> None:
    def small(config: dict[str, Any]) -> None:
        config["linux"]["resources"] = {"memory": {"limit": 16 << 20, "swap": 16 << 20}}

    oci.started("box", "sleep", "1000", change=small)
    process = oci.popen("events", "--interval", "1h", "box", stdout=subprocess.PIPE)
    until(lambda: b"events" in Path(f"/proc/{process.pid}/cmdline").read_bytes())
    assert process.stdout is not None
    greedy = "x=$(head -c 40000000 /dev/zero | tr '\\0' a)"
    words = oci.argv("exec", "box", "sh", "-c", greedy)
    environment = {**os.environ, "PYTHONPATH": "build/editable"}
    folder = Path(__file__).parent.parent.parent
    for _ in range(50):
        subprocess.run(words, env=environment, cwd=folder, capture_output=True, check=False)
        if oci.cgroup("box").oom_kills() > 1:
            break
    assert json.loads(process.stdout.readline()) == {"type": "oom", "id": "box"}
    oci("delete", "--force", "box")
    assert process.wait(10) == 0
    process.stdout.close()
