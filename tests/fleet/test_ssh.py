"""Real SSH to a real sshd: logins, host keys, jump hosts, and the messages of what can go wrong."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import socket
import subprocess
import threading
import time

import pytest
from hostctl_host.contract.errors import HostctlError

from hostctl.fleet import ssh
from hostctl.fleet.knownhosts import fingerprint
from hostctl.fleet.session import Options, Session, connect
from hostctl.fleet.target import Target, Unreachable

from . import sshd

pytestmark = pytest.mark.root


def output(target: Target, options: Options, command: str) -> str:
    connection = connect(target, options)
    try:
        stream = connection.run(command)
        data = b""
        while piece := stream.read(5):
            data += piece
        return data.decode()
    finally:
        connection.close()


def refused(target: Target, options: Options) -> HostctlError:
    with pytest.raises(HostctlError) as caught:
        connect(target, options).close()
    return caught.value


def test_key_login(server, options):
    target = Target.from_vars("web1", server.variables(ansible_user="plain"))
    assert output(target, options, "id -un") == "plain\n"


def test_password_login(server, options):
    variables = server.variables(ansible_user="plain", ansible_password="Right-1")
    del variables["ansible_ssh_private_key_file"]
    args = variables["ansible_ssh_common_args"] + " -o IdentityAgent=none -o IdentityFile=none"
    target = Target.from_vars("web1", variables | {"ansible_ssh_common_args": args})
    assert output(target, options, "id -un") == "plain\n"
    assert "Right-1" not in repr(target)


def test_wrong_password(server, options):
    variables = server.variables(ansible_user="plain", ansible_password="wrong")
    del variables["ansible_ssh_private_key_file"]
    error = refused(Target.from_vars("web1", variables), options)
    assert isinstance(error, Unreachable)
    assert error.message == (
        f"cannot log in to web1 at 127.0.0.1:{server.port} as plain: the password was refused"
    )
    assert error.hint == "check ansible_password and ansible_user, or ask for it with -k"


def test_refused_key(server, options, tmp_path):
    sshd.keygen(tmp_path / "other")
    key = str(tmp_path / "other")
    args = server.variables()["ansible_ssh_common_args"] + " -o IdentityAgent=none"
    target = Target.from_vars(
        "web1",
        server.variables(ansible_ssh_private_key_file=key, ansible_ssh_common_args=args),
    )
    error = refused(target, options)
    assert error.message == (
        f"cannot log in to web1 at 127.0.0.1:{server.port} as root: none of the keys was accepted ({key})"
    )
    assert f"ssh-copy-id -p {server.port} root@127.0.0.1" in error.hint


def test_missing_key(server, options):
    target = Target.from_vars("web1", server.variables(ansible_ssh_private_key_file="/nowhere/key"))
    error = refused(target, options)
    assert error.message == "cannot find the SSH key /nowhere/key"


class TypedAsker:
    """Answers as a person at a terminal would."""

    def __init__(self, answers: list[str]) -> None:
        self.answers, self.asked = answers, []

    def can_ask(self) -> bool:
        return bool(self.answers)

    def secret(self, prompt: str) -> str:
        self.asked.append(prompt)
        return self.answers.pop(0)

    def forget(self, prompt: str) -> None: ...

    def ssh(self) -> str:
        return ""

    def for_keys(self):
        return self


@pytest.fixture
def locked_key(server, tmp_path):
    """A key with the passphrase `open sesame` that sshd accepts."""
    path = tmp_path / "locked"
    sshd.keygen(path, "open sesame")
    authorized = server.folder / "user.pub"
    before = authorized.read_text()
    authorized.write_text(before + path.with_suffix(".pub").read_text())
    yield str(path)
    authorized.write_text(before)


def test_passphrase_is_asked_once(server, options, locked_key):
    asker = TypedAsker(["wrong", "open sesame"])
    asking = dataclasses.replace(options, asker=asker)
    target = Target.from_vars("web1", server.variables(ansible_ssh_private_key_file=locked_key))
    assert output(target, asking, "echo in") == "in\n"
    assert output(target, asking, "echo in") == "in\n"
    assert asker.asked == [f"Passphrase for {locked_key}: "] * 2


def test_passphrase_without_terminal(server, options, locked_key):
    target = Target.from_vars("web1", server.variables(ansible_ssh_private_key_file=locked_key))
    error = refused(target, dataclasses.replace(options, asker=TypedAsker([])))
    assert error.message == (
        f"cannot use the SSH key {locked_key}: it has a passphrase and there is no terminal to ask on"
    )
    assert error.hint == f"type: ssh-add {locked_key}"


@pytest.fixture
def agent(tmp_path, monkeypatch, locked_key):
    """An SSH agent that holds the key with the passphrase."""
    address = str(tmp_path / "agent")
    process = subprocess.Popen(["ssh-agent", "-D", "-a", address], stdout=subprocess.DEVNULL)
    while not os.path.exists(address):
        time.sleep(0.01)
    ask = tmp_path / "ask"
    ask.write_text("#!/bin/sh\necho open sesame\n")
    ask.chmod(0o700)
    environment = os.environ | {
        "SSH_AUTH_SOCK": address,
        "SSH_ASKPASS": str(ask),
        "SSH_ASKPASS_REQUIRE": "force",
    }
    subprocess.run(["ssh-add", "-q", locked_key], env=environment, check=True)
    monkeypatch.setenv("SSH_AUTH_SOCK", address)
    yield locked_key
    process.terminate()
    process.wait(5)


@pytest.mark.parametrize("named", [True, False])
def test_key_in_the_agent(named, server, options, agent):
    variables = server.variables(ansible_ssh_private_key_file=agent if named else "")
    silent = dataclasses.replace(options, asker=TypedAsker([]))
    assert output(Target.from_vars("web1", variables), silent, "echo in") == "in\n"


def test_a_host_that_takes_nothing_more_is_given_up(monkeypatch):
    monkeypatch.setattr(ssh, "WRITE_SILENCE", 0.2)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        wrapped = ssh._Socket(ours)
        wrapped.settimeout(0.05)
        started = time.monotonic()
        with pytest.raises(ConnectionAbortedError):
            while True:
                try:
                    wrapped.send(b"x" * 65536)
                except TimeoutError:
                    assert time.monotonic() - started < 60


def test_host_down(options):
    port = sshd.free_port()
    target = Target.from_vars("web1", {"ansible_host": "127.0.0.1", "ansible_port": port})
    error = refused(target, options)
    assert isinstance(error, Unreachable)
    assert error.message == f"cannot reach web1 at 127.0.0.1:{port}: connection refused"
    assert (
        error.hint == "is the host up and sshd running there? check ansible_host and ansible_port"
    )


def test_unknown_name(options):
    error = refused(Target.from_vars("no-such-host.invalid", {}), options)
    assert error.message.startswith("cannot find no-such-host.invalid: ")
    assert error.hint == "set ansible_host to its address"


def test_host_hangs_after_accept(options):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        target = Target.from_vars("web1", {"ansible_host": "127.0.0.1", "ansible_port": port})
        error = refused(target, dataclasses.replace(options, timeout=1.0))
    assert isinstance(error, Unreachable)
    assert error.message == (
        f"cannot reach web1 at 127.0.0.1:{port}: it accepts connections but no SSH server "
        "answers within 1 s"
    )


def test_no_ssh_server(options):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        def answer() -> None:
            with contextlib.suppress(OSError):  # until the listener is closed
                while True:
                    client, _ = listener.accept()
                    with client:
                        client.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        threading.Thread(target=answer, daemon=True).start()
        target = Target.from_vars("web1", {"ansible_host": "127.0.0.1", "ansible_port": port})
        error = refused(target, options)
    assert error.message.startswith(f"cannot talk SSH with web1 at 127.0.0.1:{port}: ")
    assert "is that the port of sshd?" in error.hint


def with_known_hosts(server, path, **more):
    args = f"-F none -o UserKnownHostsFile={path} -o GlobalKnownHostsFile=/dev/null"
    for key, value in more.items():
        args += f" -o {key}={value}"
    return Target.from_vars("web1", server.variables(ansible_ssh_common_args=args))


def shown(server) -> str:
    import base64

    return fingerprint(base64.b64decode(server.host_key.split()[1]))


def test_unknown_host_key(server, options, tmp_path):
    path = tmp_path / "known"
    error = refused(with_known_hosts(server, path), options)
    assert error.message == (
        f"cannot trust web1 at 127.0.0.1:{server.port}: its key ssh-ed25519 {shown(server)} is unknown"
    )
    assert f"ssh-keyscan -p {server.port} 127.0.0.1 >> {path}" in error.hint
    assert not path.exists()


def test_changed_host_key(server, options, tmp_path):
    sshd.keygen(tmp_path / "other")
    other = " ".join((tmp_path / "other.pub").read_text().split()[:2])
    path = tmp_path / "known"
    path.write_text(f"# comment\nelsewhere {other}\n[127.0.0.1]:{server.port} {other}\n")
    error = refused(with_known_hosts(server, path), options)
    assert error.message.startswith(
        f"cannot trust web1 at 127.0.0.1:{server.port}: its key is ssh-ed25519 {shown(server)}, "
        f"but {path}:3 says ssh-ed25519 SHA256:"
    )
    assert f"ssh-keygen -f {path} -R '[127.0.0.1]:{server.port}'" in error.hint
    assert error.ref == "host-key-changed"


def test_accept_new_records_the_key_once(server, options, tmp_path):
    path = tmp_path / "ssh" / "known"
    target = with_known_hosts(server, path, StrictHostKeyChecking="accept-new")
    for _ in range(2):
        assert output(target, options, "echo in") == "in\n"
    assert path.read_text() == f"[127.0.0.1]:{server.port} {server.host_key}\n"
    assert output(with_known_hosts(server, path), options, "echo in") == "in\n"


def test_hashed_known_hosts(server, options, tmp_path):
    path = tmp_path / "known"
    new = with_known_hosts(server, path, StrictHostKeyChecking="accept-new", HashKnownHosts="yes")
    output(new, options, "true")
    assert path.read_text().startswith("|1|")
    assert output(with_known_hosts(server, path), options, "echo in") == "in\n"


def test_proxy_jump(server, options, tmp_path):
    config = tmp_path / "config"
    config.write_text(
        f"Include {tmp_path}/more/*.conf\n"
        f"Host inner\n  HostName 127.0.0.1\n  Port {server.port}\n  ProxyJump middle\n"
        f"Host *\n  UserKnownHostsFile {server.known_hosts}\n  IdentityFile {server.key}\n"
    )
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "a.conf").write_text(
        f"Host outer\n  HostName 127.0.0.1\n  Port {server.port}\n  User plain\n"
        f"Host middle\n  HostName localhost\n  HostKeyAlias [127.0.0.1]:{server.port}\n"
        f"  Port {server.port}\n  User free\n  ProxyJump outer\n"
    )
    target = Target.from_vars(
        "inner", {"ansible_user": "asks", "ansible_ssh_common_args": f"-F {config}"}
    )
    assert output(target, options, "id -un; echo $SSH_CLIENT").startswith("asks\n127.0.0.1")
    log = (server.folder / "log").read_text()
    assert "Accepted publickey for plain" in log
    assert "Accepted publickey for free" in log


def test_proxy_jump_down(server, options):
    port = sshd.free_port()
    args = server.variables()["ansible_ssh_common_args"] + f" -J plain@127.0.0.1:{port}"
    error = refused(
        Target.from_vars("web1", server.variables(ansible_ssh_common_args=args)), options
    )
    assert (
        error.message == f"cannot reach jump host 127.0.0.1 at 127.0.0.1:{port}: connection refused"
    )


def test_proxy_command(server, options):
    args = server.variables()["ansible_ssh_common_args"]
    args += f" -o 'ProxyCommand=socat - TCP:127.0.0.1:{server.port}'"
    target = Target.from_vars("web1", server.variables(ansible_ssh_common_args=args))
    assert output(target, options, "echo in") == "in\n"


def test_a_session_over_ssh(server, options, dirs):
    target = Target.from_vars("web1", server.variables(**dirs))
    with Session.open(target, "plan", options) as session:
        assert session.facts["uid"] == 0
        assert session.facts["argv"] == [
            *("plan", "--data-dir", dirs["hostctl_data_dir"]),
            *("--run-dir", dirs["hostctl_run_dir"]),
        ]
