"""`RUN --mount=type=ssh`: an agent or key files of this machine, reachable in the step and nowhere else."""

from __future__ import annotations

import base64
import os
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import paramiko
import pytest

# Lists the agent's keys, has the first sign, tries to remove all of them; in the image, so by hand.
CLIENT = r"""
import base64, os, socket, struct, sys
def ask(*parts):
    body = b"".join(parts)
    one.sendall(struct.pack(">I", len(body)) + body)
    size = struct.unpack(">I", one.recv(4, socket.MSG_WAITALL))[0]
    return one.recv(size, socket.MSG_WAITALL)
def text(data):
    return struct.pack(">I", len(data)) + data
one = socket.socket(socket.AF_UNIX)
one.connect(os.environ["SSH_AUTH_SOCK"])
found = ask(b"\x0b")
assert found[0] == 12, found
count, size = struct.unpack(">II", found[1:9])
blob = found[9:9 + size]
print("keys", count)
print("removed", ask(b"\x13")[0])
answer = ask(b"\x0d", text(blob), text(b"what is signed"), struct.pack(">I", int(sys.argv[1])))
print("signed", answer[0], base64.b64encode(blob).decode(), base64.b64encode(answer[5:]).decode())
status = os.stat(os.environ["SSH_AUTH_SOCK"])
print("socket %o %d %d" % (status.st_mode & 0o7777, status.st_uid, status.st_gid), os.environ["SSH_AUTH_SOCK"])
"""


@pytest.fixture
def keys(tmp_path: Path) -> list[Path]:
    """An ed25519 and an rsa key without a passphrase."""
    found = []
    for kind in ("ed25519", "rsa"):
        path = tmp_path / f"id_{kind}"
        subprocess.run(
            ["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", str(path)], check=True, timeout=60
        )
        found.append(path)
    return found


@pytest.fixture
def agent(tmp_path: Path, keys: list[Path]) -> Iterator[str]:
    """The socket of a real agent that has the ed25519 key."""
    path = str(tmp_path / "agent")
    process = subprocess.Popen(
        ["ssh-agent", "-D", "-a", path], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL
    )
    try:
        assert process.stdout is not None
        process.stdout.readline()
        subprocess.run(
            ["ssh-add", "-q", str(keys[0])],
            check=True,
            timeout=60,
            env={**os.environ, "SSH_AUTH_SOCK": path},
        )
        yield path
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def shown(done: subprocess.CompletedProcess[str]) -> dict[str, list[str]]:
    lines = [line.split("| ", 1)[1].split() for line in done.stderr.splitlines() if "| " in line]
    return {line[0]: line[1:] for line in lines}


def signed_by(words: list[str]) -> str:
    """The type of the key, if the signature is its."""
    assert words[0] == "14"
    blob, signature = (base64.b64decode(word) for word in words[1:])
    (size,) = struct.unpack(">I", blob[:4])
    name = blob[4 : 4 + size].decode()
    classes = {"ssh-ed25519": paramiko.Ed25519Key, "ssh-rsa": paramiko.RSAKey}
    key = classes[name](data=blob)
    assert key.verify_ssh_sig(b"what is signed", paramiko.Message(signature))
    (size,) = struct.unpack(">I", signature[:4])
    return signature[4 : 4 + size].decode()


def nothing_left(hostctl, *values: bytes) -> None:
    """No socket, and none of these bytes, on the host."""
    for root in (hostctl.paths.data, hostctl.paths.run):
        for parent, _, files in os.walk(root):
            for name in files:
                path = Path(parent, name)
                if path.is_socket():
                    assert "agent" not in name
                elif path.is_file() and not path.is_symlink():
                    content = path.read_bytes()
                    assert not [value for value in values if value in content], path


def test_the_agent_signs_in_the_step_and_is_gone_after_it(hostctl, context, agent, keys) -> None:
    folder = context(
        "FROM SHELL:1\nCOPY client.py /\nRUN --mount=type=ssh python3 /client.py 0\n"
        "RUN test ! -e /run/buildkit && test -z $SSH_AUTH_SOCK\n",
        **{"client.py": CLIENT},
    )
    done = hostctl(
        "build", "-t", "ssh:1", "--ssh", "default", str(folder), env={"SSH_AUTH_SOCK": agent}
    )
    found = shown(done)
    assert found["keys"] == ["1"]
    assert found["removed"] == ["5"]  # the agent still has its key
    listed = subprocess.run(
        ["ssh-add", "-l"],
        env={**os.environ, "SSH_AUTH_SOCK": agent},
        stdout=subprocess.PIPE,
        check=True,
        text=True,
        timeout=60,
    )
    assert "ED25519" in listed.stdout
    assert signed_by(found["signed"]) == "ssh-ed25519"
    assert found["socket"] == ["600", "0", "0", "/run/buildkit/ssh_agent.0"]
    nothing_left(hostctl, keys[0].read_bytes()[40:80])


def test_key_files_are_an_agent_of_their_own(hostctl, context, keys) -> None:
    mount = "--mount=type=ssh,id=git,target=/a/b.sock,mode=0660,uid=7,gid=8,required"
    folder = context(
        f"FROM SHELL:1\nCOPY client.py /\nRUN {mount} python3 /client.py 4\nRUN test ! -e /a\n",
        **{"client.py": CLIENT},
    )
    words = ["--ssh", f"git={keys[1]},{keys[0]}"]
    found = shown(hostctl("build", "-t", "ssh:2", *words, str(folder), env={"SSH_AUTH_SOCK": ""}))
    assert found["keys"] == ["2"]
    assert signed_by(found["signed"]) == "rsa-sha2-512"
    assert found["socket"] == ["660", "7", "8", "/a/b.sock"]
    nothing_left(hostctl, keys[1].read_bytes()[40:80], keys[0].read_bytes()[40:80])


def test_an_agent_that_nobody_gave(hostctl, context) -> None:
    folder = context("FROM BASE\nRUN --mount=type=ssh,id=x test -z $SSH_AUTH_SOCK\n")
    hostctl("build", "-t", "ssh:3", str(folder))
    folder = context("FROM BASE\nRUN --mount=type=ssh,id=x,required=true true\n")
    done = hostctl("build", str(folder), code=2)
    assert "the SSH agent x was not given" in done.stderr
    assert "--ssh x" in done.stderr


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("default", "SSH_AUTH_SOCK is not set"),
        ("git=/nowhere", "/nowhere: no such file"),
        ("git=Dockerfile", "cannot use the SSH key"),
        ("git=secret", "it has a passphrase"),
    ],
)
def test_what_cannot_be_lent_is_said_before_the_build(hostctl, context, given, why) -> None:
    folder = context("FROM BASE\nRUN --mount=type=ssh true\n")
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "word", "-f", str(folder / "secret")],
        check=True,
        timeout=60,
    )
    given = given.replace("=Docker", f"={folder}/Docker").replace("=secret", f"={folder}/secret")
    done = hostctl("build", "--ssh", given, str(folder), code=1, env={"SSH_AUTH_SOCK": ""})
    assert why in done.stderr
