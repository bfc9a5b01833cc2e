"""Single facilities against this machine's kernel."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hostctl_host.runtime import cgroup, device_filter, device_program, mounts

pytestmark = pytest.mark.root


def test_device_program_is_taken_and_holds() -> None:
    """On version 2 alone, as on a host without version 1."""
    root = cgroup.detect().v2
    assert root, "this machine has no version 2 hierarchy"
    folder = Path(root, f"hostctl-test-{os.getpid()}")
    folder.mkdir()
    try:
        device_program.attach(str(folder), device_filter.rules(None))
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                (folder / "cgroup.procs").write_text(str(os.getpid()))
                Path("/dev/null").write_text("x")
                try:
                    Path("/dev/kmsg").open("rb").close()
                except PermissionError:
                    code = 0
            finally:
                os._exit(code)
        assert os.waitpid(pid, 0)[1] == 0
    finally:
        folder.rmdir()


def test_targets_stay_inside_the_root(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    root = tmp_path / "root"
    outside.mkdir()
    root.mkdir()
    (root / "absolute").symlink_to("/etc")
    (root / "up").symlink_to("../../outside")
    root_fd = os.open(root, os.O_PATH)
    try:
        for path in ("/absolute/made", "/up/made", "/../../outside/made", "/a/b/c"):
            fd = mounts.target_fd(root_fd, path, folder=True)
            assert os.readlink(f"/proc/self/fd/{fd}").startswith(f"{root}/"), path
            os.close(fd)
    except FileNotFoundError as error:
        assert "absolute" in str(error) or "up" in str(error)
    finally:
        os.close(root_fd)
    assert list(outside.iterdir()) == []
    assert not Path("/etc/made").exists()
