"""podman as the original: the same Dockerfile gives the same config, the same .dockerignore the same files."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hostctl_host.contract.dockerfile import instructions as ins
from hostctl_host.contract.dockerfile.ignore import Patterns
from hostctl_host.contract.dockerfile.parse import parse
from hostctl_host.contract.dockerfile.ports import exposed_ports
from hostctl_host.contract.dockerfile.scope import Scope, global_arguments

pytestmark = pytest.mark.root

DOCKERFILE = r"""ARG G=global
FROM scratch
ARG G
ARG V=a/b.c.d
ENV A="x y" B='$V' C=$V D=\$V E=a\ b F="q\"r" H="t\u" I=a'b c'd J="$G-${V:-n}" K=${NONE:-def}
ENV L=${V:+yes} \
    # a comment
    O=$ P=\\ \
    Q="a'b" R='a"b'
ENV M one  two "three" $V
ENV N=$A$B
LABEL "l 1"="v 1" l2=$A l3='$A'
WORKDIR /w/$G x
WORKDIR sub
USER u$G:g
EXPOSE 80 81/udp 90/tcp
VOLUME ["/v 1"]
VOLUME /v2 /v3
STOPSIGNAL SIGQUIT
CMD echo "a" $A
ENTRYPOINT [ "e", "$A" ]
"""
FILES = [
    "a.pyc", "b.txt", "x/a.pyc", "x/b.txt", "x/y/z.md", "node_modules/m/i.js", "node_modules/keep.md",
    "sub/node_modules/m.js", "docs/a.md", "docs/deep/b.md", "docs/README.md", "tmpa/f", "tmpab/f",
    "abs/f", "logs/1.log", "logs/2.txt", "[odd]/f", "deep/a/b/c/secret", "secretive", "dir.d/f",
]  # fmt: skip
IGNORE = """# comment
**/*.pyc
node_modules
!node_modules/keep.md
docs/**
!docs/**/README.md
tmp?
/abs/
logs/*.log
**/secret

deep/../dir.d
"""


class Podman:
    """podman with a store of its own, and no network."""

    def __init__(self, folder: Path) -> None:
        self.argv = ["podman", "--storage-driver", "vfs", "--root", str(folder / "root"),
                     "--runroot", str(folder / "run")]  # fmt: skip

    def __call__(self, *argv: str) -> str:
        done = subprocess.run(
            [*self.argv, *argv], capture_output=True, text=True, check=False, timeout=150
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture
def podman() -> Iterator[Podman]:
    # podman takes no run folder of more than 50 characters.
    with tempfile.TemporaryDirectory(prefix="podman-") as folder:
        yield Podman(Path(folder))


def test_the_config_is_the_same(tmp_path: Path, podman: Podman) -> None:
    (tmp_path / "Dockerfile").write_text(DOCKERFILE)
    podman("build", "--isolation", "chroot", "-q", "-t", "x", str(tmp_path))
    theirs: dict[str, Any] = json.loads(podman("inspect", "--type", "image", "x"))[0]["Config"]

    file = parse(DOCKERFILE)
    scope = Scope({}, global_arguments(file, {}), {})
    ours = [scope.take(one) for one in file.stages[0].instructions]
    ports = [port for one in ours if isinstance(one, ins.Expose) for port in one.ports]
    volumes = [path for one in ours if isinstance(one, ins.Volume) for path in one.paths]
    labels = {
        pair.name: pair.value for one in ours if isinstance(one, ins.Label) for pair in one.pairs
    }
    commands = {one.NAME: one.command for one in ours if isinstance(one, (ins.Cmd, ins.Entrypoint))}

    environment = dict(one.split("=", 1) for one in theirs["Env"])
    assert {**scope.environment, "PATH": environment["PATH"]} == environment
    assert list(exposed_ports(ports)) == sorted(
        theirs["ExposedPorts"], key=lambda port: int(port.split("/")[0])
    )
    assert sorted(volumes) == sorted(theirs["Volumes"])
    assert labels.items() <= theirs["Labels"].items()
    assert theirs["Entrypoint"] == list(commands["ENTRYPOINT"].words)
    assert theirs["Cmd"] == ["/bin/sh", "-c", *commands["CMD"].words]
    (user,) = (one.user for one in ours if isinstance(one, ins.User))
    assert (theirs["User"], theirs["WorkingDir"]) == (user, "/w/global x/sub")


def test_the_same_files_are_left_out(tmp_path: Path, podman: Podman) -> None:
    context = tmp_path / "context"
    for name in FILES:
        path = context / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    (context / "Dockerfile").write_text("FROM scratch\nCOPY . /\n")
    (context / ".dockerignore").write_text(IGNORE + "Dockerfile\n.dockerignore\n")
    podman("build", "--isolation", "chroot", "-q", "-o", str(tmp_path / "out"), str(context))
    theirs = {
        str(path.relative_to(tmp_path / "out"))
        for path in (tmp_path / "out").rglob("*")
        if path.is_file()
    }
    patterns = Patterns.read(IGNORE)
    assert {name for name in FILES if not patterns.excludes(name)} == theirs
