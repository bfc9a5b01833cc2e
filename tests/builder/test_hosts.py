"""Builds on a host over SSH: what is asked of the controller comes through, and nothing of it stays there."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hostctl_host.store.store import Store

from tests.e2e.command import Hostctl
from tests.lab import Lab

pytestmark = [pytest.mark.root, pytest.mark.lab]
VALUE = "only-for-a-step-on-a-host"


@pytest.fixture(scope="module")
def own() -> Iterator[Lab]:
    with Lab({"b1": {}, "b2": {}}) as made:
        yield made


def test_a_build_over_ssh(own: Lab, tmp_path: Path) -> None:
    hostctl = Hostctl(own)
    context = tmp_path / "context"
    context.mkdir()
    (context / "file").write_text("by digest")
    (context / "Dockerfile").write_text(
        f"FROM {own.registry.url}/base:1\nCOPY file /file\n"
        "RUN --mount=type=secret,id=word,required wc -c < /run/secrets/word > /size\n"
        "RUN --mount=type=ssh,required test -S $SSH_AUTH_SOCK && cat /file\n"
    )
    (tmp_path / "word").write_text(VALUE)
    key = tmp_path / "id"
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True, timeout=60
    )
    words = ["--secret", f"id=word,src={tmp_path}/word", "--ssh", f"default={key}"]
    registries = {"hostctl_registries": {own.registry.url: {"insecure": True}}}
    words += ["-e", json.dumps(registries)]
    argv = ["build", "-t", "far:1", *words, str(context)]
    done = hostctl(*argv, "-l", "b1")
    assert done.code == 0, done.err
    assert "| by digest" in done.err
    stores = {name: Store(str(own[name].data)) for name in ("b1", "b2")}
    assert f"sha256:{stores['b1'].resolve('far:1')}" == done.out.strip()
    assert stores["b2"].image("far:1") is None
    both = hostctl(*argv)
    assert both.code == 0, both.err
    assert "b2: [stage-0 1/3] COPY file /file\n" in both.err
    assert "b1: [stage-0 1/3] COPY file /file (cached)\n" in both.err
    assert stores["b2"].image("far:1") is not None
    secret = key.read_bytes()[40:80]
    for name in ("b1", "b2"):
        for parent, _, files in os.walk(own[name].data):
            for file in files:
                path = Path(parent, file)
                if path.is_file() and not path.is_symlink():
                    content = path.read_bytes()
                    assert VALUE.encode() not in content, path
                    assert secret not in content, path
    broken = hostctl("build", "-l", "b2", *words, str(_broken(context)))
    assert broken.code == 2
    assert "Dockerfile:2" in broken.err
    assert "ended with exit code 7" in broken.err


def _broken(context: Path) -> Path:
    first = (context / "Dockerfile").read_text().splitlines()[0]
    (context / "Dockerfile").write_text(f"{first}\nRUN exit 7\n")
    return context
