"""The agent's archive: reproducible, small, complete, and able to start where nothing else is."""

from __future__ import annotations

import io
import os
import tarfile
import zlib
from pathlib import Path

import pytest
from hostctl_host.contract.errors import HostctlError

from hostctl.fleet import bundle
from hostctl.fleet.session import Options, Session
from hostctl.fleet.target import Target

OLDEST = Path("~/.pyenv/versions/3.9.18/bin/python3").expanduser()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "hostctl"


def names(built: bundle.Bundle) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(zlib.decompress(built.data))) as archive:
        return archive.getnames()


def test_same_files_same_bytes(cache):
    first = bundle.build()
    data = first.data
    for path in (cache / "bundles").iterdir():
        path.unlink()
    assert bundle.build().digest == first.digest
    assert bundle.build().data == data


def test_cached_and_private(cache, monkeypatch):
    first = bundle.build()
    monkeypatch.setattr(bundle, "pack", None)
    assert bundle.build().digest == first.digest
    assert cache.stat().st_mode & 0o777 == 0o700
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in (cache / "bundles").iterdir())


def test_contents_and_budget():
    built = bundle.build()
    assert len(built.data) < 1_500_000
    found = names(built)
    assert found == sorted(found)
    for name in ("start.py", "hostctl_host/agent/main.py", "hostctl_host/file.py"):
        assert name in found
    assert not [name for name in found if "__pycache__" in name or "/." in name]


def test_users_kinds(tmp_path):
    kinds = tmp_path / "modules"
    kinds.mkdir()
    plain = bundle.build()
    (kinds / "motd.py").write_text("Spec = None\n")
    mine = bundle.build(kinds)
    assert mine.digest != plain.digest
    assert set(names(mine)) - set(names(plain)) == {"hostctl_host/motd.py"}
    (kinds / "motd.py").write_text("Spec = 12345\n")
    assert bundle.build(kinds).digest not in (mine.digest, plain.digest)


def test_users_kind_may_not_replace_ours(tmp_path):
    (tmp_path / "file.py").write_text("")
    with pytest.raises(HostctlError) as caught:
        bundle.build(tmp_path)
    assert caught.value.message == "cannot use your kind 'file': hostctl has a kind of that name"


@pytest.mark.root
@pytest.mark.parametrize("python", ["/usr/bin/python3", str(OLDEST)])
def test_the_real_agent_says_hello(python, tmp_path):
    variables = {
        "ansible_connection": "local",
        "ansible_python_interpreter": python,
        "hostctl_data_dir": str(tmp_path / "data"),
        "hostctl_run_dir": str(tmp_path / "run"),
    }
    options = Options(bundle=bundle.build())
    for _ in range(2):
        with Session.open(Target.from_vars("here", variables), "plan", options) as session:
            assert session.facts["distribution"]
    folder = tmp_path / "data" / "agents" / options.bundle.digest
    sources = {path.relative_to(folder) for path in folder.rglob("*.py")}
    compiled = {
        path.parent.parent.relative_to(folder) / f"{path.name.split('.')[0]}.py"
        for path in folder.rglob("*.pyc")
    }
    assert compiled == sources
    assert os.listdir(folder.parent) == [options.bundle.digest]
