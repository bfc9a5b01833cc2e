"""Fixtures: a real sshd for the whole area and a bundle with the stand-in agent."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import zlib
from pathlib import Path

import pytest

from hostctl.fleet import bundle as bundles
from hostctl.fleet.session import Options

from . import sshd


@pytest.fixture(scope="session")
def server():
    # not pytest's folder: that may be a tmpfs, or be unreadable for the test's users
    folder = Path(tempfile.mkdtemp(prefix="hostctl-sshd-", dir="/var/tmp"))
    folder.chmod(0o755)
    started = sshd.start(folder)
    yield started
    started.stop()
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def standin(tmp_path_factory):
    """A bundle whose start.py is the stand-in agent."""
    contract = Path(bundles.hostctl_host.__path__[0], "contract")
    files = {f"hostctl_host/contract/{path.name}": str(path) for path in contract.glob("*.py")}
    init = tmp_path_factory.mktemp("bundle") / "empty.py"
    init.write_text("")
    files["hostctl_host/__init__.py"] = str(init)
    tar = bundles.pack(files, Path(__file__).with_name("standin.py").read_bytes())
    path = init.with_name("archive")
    path.write_bytes(zlib.compress(tar))
    return bundles.Bundle(hashlib.sha256(tar).hexdigest(), str(path))


@pytest.fixture
def options(standin):
    made = Options(bundle=standin, timeout=5.0, silence=5.0)
    yield made
    made.pool.close()


@pytest.fixture
def dirs(tmp_path):
    """Variables that keep hostctl's folders on the host inside the test's own."""
    return {"hostctl_data_dir": str(tmp_path / "data"), "hostctl_run_dir": str(tmp_path / "run")}
