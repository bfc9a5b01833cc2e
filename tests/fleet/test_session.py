"""The agent's start, upload and protocol, with a stand-in agent over real SSH, sudo and local processes."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import subprocess
import time
from pathlib import Path

import pytest
from hostctl_host.contract.errors import HostctlError
from hostctl_host.contract.report import HostStatus

from hostctl.fleet import launch
from hostctl.fleet.fleet import run_hosts
from hostctl.fleet.session import call, connect, run_program
from hostctl.fleet.target import Target, Unreachable
from tests.fleet.program import Program, opened

pytestmark = pytest.mark.root


def failure(target, options) -> HostctlError:
    with pytest.raises(HostctlError) as caught:
        opened(target, options).close()
    return caught.value


def local(dirs, **more):
    return Target.from_vars("here", {"ansible_connection": "local", **dirs, **more})


# --- upload


def test_uploaded_once_then_started(server, options, dirs, monkeypatch):
    target = Target.from_vars("web1", server.variables(**dirs))
    opened(target, options).close()
    folder = Path(dirs["hostctl_data_dir"], "agents", options.bundle.digest)
    assert oct(folder.stat().st_mode & 0o777) == "0o700"
    assert (folder / "interpreter").read_text().startswith("/")
    assert list(folder.glob("hostctl_host/contract/__pycache__/frames.*.pyc"))
    assert os.listdir(folder.parent) == [options.bundle.digest]
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    monkeypatch.setattr(launch, "_UPLOAD", "exit 9")
    opened(target, options).close()
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_unprivileged_agent_lies_in_the_cache(server, options):
    target = Target.from_vars("web1", server.variables(ansible_user="plain"))
    with opened(target, options) as session:
        data = "/home/plain/.cache/hostctl"
        assert session.facts["argv"] == [
            *("apply", "--data-dir", data, "--run-dir", f"{data}/run"),
        ]


def test_an_agent_of_another_owner_is_not_run(server, options, dirs):
    target = Target.from_vars("web1", server.variables(**dirs))
    opened(target, options).close()
    folder = Path(dirs["hostctl_data_dir"], "agents", options.bundle.digest)
    (folder / "start.py").write_text("print('evil')")
    os.chown(folder, 1, 1)
    opened(target, options).close()
    assert "evil" not in (folder / "start.py").read_text()
    assert folder.stat().st_uid == 0


def test_two_uploads_at_once(server, options, dirs):
    targets = [Target.from_vars(f"web{n}", server.variables(**dirs)) for n in range(4)]
    reports = run_hosts(
        [(target, Program()) for target in targets], "apply", options, lambda *_: None
    )
    assert [report.status for report in reports.values()] == [HostStatus.OK] * 4
    assert os.listdir(Path(dirs["hostctl_data_dir"], "agents")) == [options.bundle.digest]


def test_old_agents_go_unless_something_needs_them(server, options, dirs):
    data = Path(dirs["hostctl_data_dir"])
    names = [letter * 64 for letter in "abcdef"]
    for age, name in enumerate(names):
        (data / "agents" / name).mkdir(parents=True, mode=0o700)
        os.utime(data / "agents" / name, (1e9 - age, 1e9 - age))
    (data / "boot").write_text(f"exec python3 {data}/agents/{names[4]}/start.py\n")
    running = subprocess.Popen(["sh", "-c", "read word", f"{data}/agents/{names[3]}"], stdin=-1)
    try:
        opened(Target.from_vars("web1", server.variables(**dirs)), options).close()
    finally:
        running.communicate()
    kept = {*names[:2], names[3], names[4], options.bundle.digest}
    assert set(os.listdir(data / "agents")) == kept


def upload_command(target, options, dirs):
    agents = str(Path(dirs["hostctl_data_dir"], "agents"))
    data = options.bundle.data
    script = launch._UNPACK.encode()
    args = ("python3", launch._READ_SCRIPT, str(len(script)), agents, options.bundle.digest)
    args += (str(len(data)), "python3")
    return launch.become._command(launch._UPLOAD, *args), script + data


def test_cut_upload_leaves_nothing(server, options, dirs):
    target = Target.from_vars("web1", server.variables(**dirs))
    command, data = upload_command(target, options, dirs)
    connection = connect(target, options)
    stream = connection.run(command)
    stream.write(data[: len(data) // 2])
    stream.end()
    assert stream.read(5) == b"hostctl-ready\n"
    assert stream.read(5) == b""
    connection.close()
    assert not Path(dirs["hostctl_data_dir"]).exists()


def test_leftover_of_a_killed_upload_is_removed(server, options, dirs):
    agents = Path(dirs["hostctl_data_dir"], "agents")
    leftover = agents / ".new-0123"
    leftover.mkdir(parents=True)
    (leftover / "start.py").write_text("half")
    opened(Target.from_vars("web1", server.variables(**dirs)), options).close()
    assert os.listdir(agents) == [options.bundle.digest]


def test_damaged_upload_is_refused(server, options, dirs, standin, tmp_path):
    import zlib

    bad = tmp_path / "bad"
    bad.write_bytes(zlib.compress(zlib.decompress(standin.data) + b"\0"))
    broken = dataclasses.replace(options, bundle=dataclasses.replace(options.bundle, path=str(bad)))
    error = failure(Target.from_vars("web1", server.variables(**dirs)), broken)
    assert error.message.startswith("cannot upload the agent to web1: ")
    assert "the archive is damaged" in error.message
    assert os.listdir(Path(dirs["hostctl_data_dir"], "agents")) == []


def test_disk_full(server, options):
    data = str(server.folder / "full")
    target = Target.from_vars("web1", server.variables(hostctl_data_dir=data))
    error = failure(target, options)
    assert error.ref == "disk-full"
    assert error.message.startswith(f"cannot upload the agent to web1: disk full: {data}/agents")
    assert error.hint == f"free some space (df -h {data})"
    connection = connect(target, options)
    assert connection.run(f"ls -A {data}/agents").read(5) == b""
    connection.close()


def test_read_only_home(server, options):
    target = Target.from_vars("web1", server.variables(ansible_user="frozen"))
    error = failure(target, options)
    assert error.message == (
        "cannot upload the agent to web1: read-only file system: /home/frozen/.cache"
    )
    assert error.hint == "set hostctl_data_dir to a folder that can be written"


# --- Python


def test_no_python(server, options):
    error = failure(Target.from_vars("web1", server.variables(ansible_user="nopython")), options)
    assert error.message == "cannot manage web1: there is no python3"
    assert error.hint.startswith("install it there: apt install python3-minimal")


def test_old_python(server, options):
    error = failure(Target.from_vars("web1", server.variables(ansible_user="oldpython")), options)
    assert (
        error.message
        == "cannot manage web1: its newest Python is 3.7.3, hostctl needs 3.9 or newer"
    )
    assert error.ref == "python-too-old"


def test_wrong_interpreter_variable(server, options, dirs):
    variables = server.variables(ansible_python_interpreter="/opt/python", **dirs)
    error = failure(Target.from_vars("web1", variables), options)
    assert error.message == "cannot manage web1: there is no working /opt/python"


def test_a_talkative_login_shell(server, options):
    target = Target.from_vars("web1", server.variables(ansible_user="noisy"))
    for _ in range(2):
        with opened(target, options) as session:
            assert run_program(session, Program(), print).status is HostStatus.OK


# --- become


def become(server, user, dirs=None, **more):
    return Target.from_vars(
        "web1", server.variables(ansible_user=user, ansible_become=True, **(dirs or {}), **more)
    )


def test_sudo_without_password(server, options, dirs):
    with opened(become(server, "free", dirs), options) as session:
        assert session.facts["uid"] == 0
        assert run_program(session, Program("program"), lambda _: None).status is HostStatus.OK


def test_sudo_with_password(server, options, dirs):
    target = become(server, "asks", dirs, ansible_become_password="Right-1")
    for _ in range(2):
        with opened(target, options) as session:
            assert session.facts["uid"] == 0
            assert session.facts["home"] == "/root"
            assert run_program(session, Program("program"), lambda _: None).status is HostStatus.OK
    with opened(target, options):
        lines = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline")]
    assert not [line for line in lines if b"Right-1" in line]


def test_sudo_wrong_password(server, options, dirs):
    error = failure(become(server, "asks", dirs, ansible_become_password="wrong"), options)
    assert error.message == "cannot become root on web1: wrong sudo password"
    assert error.hint == "check ansible_become_password, or give it with -K"


def test_sudo_needs_a_password(server, options, dirs):
    error = failure(become(server, "asks", dirs), options)
    assert error.message == "cannot become root on web1: sudo needs a password"
    assert error.hint == "give it with -K, or set ansible_become_password (from a vault)"


def test_sudo_refused(server, options, dirs):
    error = failure(become(server, "nosudo", dirs, ansible_become_password="Right-1"), options)
    assert error.message == (
        "cannot become root on web1: sudo refused: nosudo is not in the sudoers file."
    )
    assert error.ref == "sudo-refused"


def test_no_sudo_on_the_host(server, options, dirs):
    error = failure(become(server, "nopython", dirs), options)
    assert error.message == "cannot become root on web1: there is no sudo on the host"


def test_become_another_user(server, options):
    with opened(become(server, "free", ansible_become_user="plain"), options) as session:
        assert session.facts["home"] == "/home/plain"


def test_root_needs_no_sudo(server, options, dirs):
    with opened(become(server, "root", dirs), options) as session:
        assert session.facts["uid"] == 0


# --- the protocol


@pytest.mark.parametrize("where", ["ssh", "local"])
def test_a_whole_program(where, server, options, dirs):
    target = local(dirs) if where == "local" else Target.from_vars("a", server.variables(**dirs))
    program, events = Program("program"), []
    with opened(target, options) as session:
        report = run_program(session, program, lambda frame: events.append(frame["type"]))
    sums = [f"{len(data)} {hashlib.sha256(data).hexdigest()}" for data in program.blobs.values()]
    assert report.warnings == (*sums, "as said", "tasks")
    assert events == ["progress", "result"]
    assert program.seen == [("facts", 0), ("answer", "command.x")]


def test_call(server, options, dirs):
    with opened(Target.from_vars("a", server.variables(**dirs)), options, "serve") as session:
        answer = call(session, "exec", {"name": "web"})
        frames = iter(answer)
        assert next(frames)[0]["data"] == {"verb": "exec", "name": "web"}
        answer.stdin(b"hello")
        assert next(frames)[1] == b"HELLO"
        answer.eof()
        assert list(frames) == []
        assert answer.code == 3


def test_locked_host(options, dirs):
    with opened(local(dirs), options) as session:
        report = run_program(session, Program("locked"), lambda _: None)
    assert report.status is HostStatus.LOCKED
    since = time.strftime("%H:%M:%S", time.localtime(36000))
    assert report.failures[0].message == (
        f"cannot lock here: ann@desk (apply) holds it since {since}"
    )


def test_error_frame(options, dirs):
    with opened(local(dirs), options) as session:
        report = run_program(session, Program("error"), lambda _: None)
    assert (report.status, report.failures[0].message) == (HostStatus.FAILED, "cannot do it")


@pytest.mark.parametrize("where", ["ssh", "local"])
def test_agent_that_dies(where, server, options, dirs):
    target = local(dirs) if where == "local" else Target.from_vars("here", server.variables(**dirs))
    with opened(target, options) as session, pytest.raises(HostctlError) as caught:
        run_program(session, Program("crash"), lambda _: None)
    assert caught.value.message == (
        "cannot go on with here: the agent ended (exit code 7): RuntimeError: boom"
    )
    assert "Traceback" not in caught.value.hint


def test_wedged_host(server, options, dirs):
    quick = dataclasses.replace(options, silence=1.0)
    target = Target.from_vars("web1", server.variables(**dirs))
    opened(target, options).close()
    with opened(target, quick) as session, pytest.raises(Unreachable) as caught:
        run_program(session, Program("wedge"), lambda _: None)
    assert caught.value.message == "cannot go on with web1: no sign of life for 1 s"


def test_heartbeats_keep_a_slow_host(server, options, dirs):
    target = Target.from_vars("web1", server.variables(**dirs))
    opened(target, options).close()
    with opened(target, dataclasses.replace(options, silence=5.0)) as session:
        assert run_program(session, Program("slow"), lambda _: None).status is HostStatus.OK


@pytest.mark.parametrize("where", ["ssh", "local"])
def test_much_stderr_blocks_nothing(where, server, options, dirs):
    target = local(dirs) if where == "local" else Target.from_vars("a", server.variables(**dirs))
    with opened(target, options) as session:
        assert run_program(session, Program("noise"), lambda _: None).status is HostStatus.OK
