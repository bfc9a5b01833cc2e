"""process.terminal: the container's own terminal, its size, /dev/console, and who gets the master side."""

from __future__ import annotations

import os
import select
from pathlib import Path
from typing import Any

import pytest
from hostctl_host.contract.errors import HostctlError

from tests.runtime.bundles import Bundle, give_users

pytestmark = pytest.mark.root


def _read(master: int, until: str) -> str:
    said = b""
    while until not in said.decode():
        assert select.select([master], [], [], 10)[0], said
        try:
            piece = os.read(master, 4096)
        except OSError:  # the last user has closed it
            break
        said += piece
    return said.decode().replace("\r\n", "\n")


@pytest.mark.parametrize("userns", [False, True])
def test_stdio_is_a_terminal_of_that_size(tmp_path: Path, userns: bool) -> None:
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_mode & 0o777 == 0o700:
            folder.chmod(0o711)
    bundle = Bundle(tmp_path, shifted=userns)
    script = (
        "tty; stty size; stat -c %t:%T /dev/console /dev/pts/0; echo to console > /dev/console;"
        " echo to tty > /dev/tty; read line; echo got $line; ls -l /proc/self/fd | wc -l"
    )

    def change(config: dict[str, Any]) -> None:
        config["process"]["consoleSize"] = {"height": 33, "width": 101}
        if userns:
            give_users(config)

    bundle.write("sh", "-c", script, change=change, terminal=True)
    made = bundle.create()
    try:
        assert os.isatty(made.terminal)
        made.start()
        assert _read(made.terminal, "to tty\n".replace("\n", "\r\n")).splitlines() == [
            "/dev/pts/0",
            "33 101",
            "88:0",
            "88:0",
            "to console",
            "to tty",
        ]
        os.write(made.terminal, b"me\n")
        assert "got me" in _read(made.terminal, "got me")
        assert not bundle.output.read_text()
    finally:
        os.close(made.terminal)
        bundle.end(made)


def test_its_user_owns_it(tmp_path: Path) -> None:
    bundle = Bundle(tmp_path)

    def change(config: dict[str, Any]) -> None:
        config["process"]["user"] = {"uid": 1000, "gid": 1000}

    bundle.write("stat", "-c", "%u:%g:%a", "/dev/pts/0", change=change, terminal=True)
    made = bundle.create()
    try:
        made.start()
        assert _read(made.terminal, "0\r\n").strip() == "1000:5:620"
    finally:
        os.close(made.terminal)
        bundle.end(made)


def test_a_size_without_a_terminal_is_ignored(tmp_path: Path) -> None:
    bundle = Bundle(tmp_path)

    def change(config: dict[str, Any]) -> None:
        config["process"]["consoleSize"] = {"height": 1, "width": 2}

    assert "not a tty" in bundle.run("tty", change=change)


def test_what_is_no_size(tmp_path: Path) -> None:
    bundle = Bundle(tmp_path)

    def change(config: dict[str, Any]) -> None:
        config["process"]["consoleSize"] = {"height": -1, "width": 2}

    bundle.write("true", change=change, terminal=True)
    with pytest.raises(HostctlError, match="consoleSize is no size"):
        bundle.create()


def test_a_link_at_the_console_leads_nowhere(tmp_path: Path) -> None:
    bundle = Bundle(tmp_path)

    def change(config: dict[str, Any]) -> None:
        config["mounts"] = [one for one in config["mounts"] if one["destination"] != "/dev"]

    (bundle.root / "dev" / "console").symlink_to("/proc/sysrq-trigger")
    bundle.write("true", change=change, terminal=True)
    with pytest.raises(HostctlError, match="cannot make /dev/console") as caught:
        bundle.create()
    assert "link" in caught.value.hint
