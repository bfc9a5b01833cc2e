"""Runs in tests: what goes wrong on the way to a host and on it, each with the words that users see."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab import OPS_PASSWORD, Lab

HOSTCTL = str(Path(sys.executable).parent / "hostctl")


@pytest.fixture(scope="module")
def hosts() -> Iterator[Lab]:
    """Hosts with something wrong about each, and one that is fine."""
    with Lab(
        {
            "fine": {},
            "nopython": {"python": None},
            "oldpython": {"python": "3.6"},
            "nosudo": {"user": "guest"},
            "asks": {"user": "opspw"},
        }
    ) as lab:
        yield lab


def apply(
    lab: Lab,
    folder: Path,
    play: dict[str, Any],
    *options: str,
    verb: str = "apply",
    **variables: Any,
) -> subprocess.CompletedProcess[str]:
    """`hostctl apply` of one play, with these variables for all hosts."""
    book, inventory = folder / "play.yml", folder / "inventory.yml"
    book.write_text(json.dumps([{"project": "bad", "become": True, **play}], indent=1))
    inventory.write_text(lab.inventory_yaml(**variables))
    command = [HOSTCTL, verb, "-i", str(inventory), *options, str(book)]
    return subprocess.run(
        command, env=lab.environment(), capture_output=True, text=True, check=False, timeout=120
    )


def motd(hosts: str) -> dict[str, Any]:
    return {"hosts": hosts, "tasks": [{"copy": {"dest": "/etc/motd", "content": "hello\n"}}]}


def test_no_python(hosts: Lab, tmp_path: Path) -> None:
    done = apply(hosts, tmp_path, motd("nopython"))
    assert done.returncode == 2
    assert "cannot manage nopython: there is no python3" in done.stdout
    assert "apt install python3-minimal" in done.stdout


def test_old_python(hosts: Lab, tmp_path: Path) -> None:
    variables = {"ansible_python_interpreter": "/usr/bin/python3"}
    done = apply(hosts, tmp_path, motd("oldpython"), **variables)
    assert done.returncode == 2
    assert "3.6" in done.stdout
    assert "3.9" in done.stdout


def test_sudo_refused(hosts: Lab, tmp_path: Path) -> None:
    done = apply(hosts, tmp_path, motd("nosudo"), ansible_become_password=OPS_PASSWORD)
    assert done.returncode == 2
    assert "sudo" in done.stdout


def test_sudo_wants_a_password(hosts: Lab, tmp_path: Path) -> None:
    done = apply(hosts, tmp_path, motd("asks"))
    assert done.returncode == 2
    assert "cannot become root on asks: sudo needs a password" in done.stdout
    assert "-K" in done.stdout


def test_wrong_sudo_password(hosts: Lab, tmp_path: Path) -> None:
    done = apply(hosts, tmp_path, motd("asks"), ansible_become_password="no such password")
    assert done.returncode == 2
    assert "cannot become root on asks: wrong sudo password" in done.stdout
    assert "no such password" not in done.stdout + done.stderr


def test_right_sudo_password(hosts: Lab, tmp_path: Path) -> None:
    done = apply(hosts, tmp_path, motd("asks"), ansible_become_password=OPS_PASSWORD)
    assert done.returncode == 0, done.stdout + done.stderr
    assert hosts["asks"].sh("cat /etc/motd").strip() == "hello"


def test_one_dead_host_does_not_stop_the_other(hosts: Lab, tmp_path: Path) -> None:
    play = motd("fine:down")
    book, inventory = tmp_path / "play.yml", tmp_path / "inventory.yml"
    book.write_text(json.dumps([play]))
    listed = json.loads(json.dumps({"all": {"hosts": {"down": None}}}))
    listed["all"]["hosts"]["down"] = {"ansible_host": hosts.address, "ansible_port": 1}
    inventory.write_text(hosts.inventory_yaml())
    (tmp_path / "more.yml").write_text(json.dumps(listed))
    done = subprocess.run(
        [HOSTCTL, "apply", "-i", str(inventory), "-i", str(tmp_path / "more.yml"), str(book)],
        env=hosts.environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 4, done.stdout + done.stderr
    assert "connection refused" in done.stdout.lower()
    assert "fine: ok=" in done.stdout


def test_a_host_that_hangs_after_accept(hosts: Lab, tmp_path: Path) -> None:
    listener = socket.create_server((hosts.address, 0))
    accepted: list[socket.socket] = []

    def accept() -> None:
        try:
            accepted.append(listener.accept()[0])
        except OSError:
            pass

    threading.Thread(target=accept, daemon=True).start()
    try:
        variables = {"ansible_port": listener.getsockname()[1]}
        (tmp_path / "i.yml").write_text(
            json.dumps({"all": {"hosts": {"hang": {"ansible_host": hosts.address, **variables}}}})
        )
        (tmp_path / "p.yml").write_text(json.dumps([motd("hang")]))
        done = subprocess.run(
            [
                HOSTCTL,
                "apply",
                "--timeout",
                "2",
                "-i",
                str(tmp_path / "i.yml"),
                str(tmp_path / "p.yml"),
            ],
            env=hosts.environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
    finally:
        listener.close()
        for connection in accepted:
            connection.close()
    assert done.returncode == 4, done.stdout + done.stderr
    assert "2 s" in done.stdout


def test_unknown_limit(hosts: Lab, tmp_path: Path) -> None:
    done = apply(hosts, tmp_path, motd("all"), "-l", "fien")
    assert done.returncode == 1
    assert "fien" in done.stderr
    assert "fine" in done.stderr


def test_everything_wrong_with_containers_is_said_at_once(hosts: Lab, tmp_path: Path) -> None:
    registry = hosts.registry.url
    subnet = hosts.address.rpartition(".")[0] + ".0/24"
    play = {
        "hosts": "fine",
        "images": {
            "shell": {"pull": f"{registry}/shell:1", "insecure": True},
            "ghost": {"pull": f"{registry}/ghost:9", "insecure": True},
        },
        "networks": {"clash": {"ipam": {"config": [{"subnet": subnet}]}}},
        "containers": {
            "dies": {"image": "shell", "command": ["sh", "-c", "echo oops >&2; exit 7"]},
            "taken": {"image": "shell", "command": ["sleep", "1000"], "ports": ["22:22"]},
            "absent": {"image": "shell", "command": ["nosuchprogram"]},
            "ghost": {"image": "ghost"},
        },
    }
    planned = apply(hosts, tmp_path, play, verb="plan")
    assert planned.returncode == 1
    for words in ("/ghost:9", "overlaps the host's route", "cannot publish port 22/tcp"):
        assert words in planned.stdout
    done = apply(hosts, tmp_path, play)
    assert done.returncode == 2
    for words in (
        "has no such image",
        f"subnet {subnet} overlaps the host's route {subnet} on eth0",
        "cannot publish port 22/tcp: it is used by sshd",
        "it ended at once: exit code 7",
        "| oops",
        "cannot run nosuchprogram: no such program in the image's PATH",
    ):
        assert words in done.stdout, words
    gone = apply(hosts, tmp_path, play, "--yes", verb="destroy")
    assert gone.returncode == 0, gone.stdout + gone.stderr
    assert "bad_" not in hosts["fine"].sh(
        "ls /var/lib/hostctl/networks /var/lib/hostctl/containers"
    )


def test_a_full_disk_says_so_and_leaves_the_old_file(hosts: Lab, tmp_path: Path) -> None:
    fine = hosts["fine"]
    fine.sh(
        "mkdir -p /mnt/small; mount -t tmpfs -o size=64k none /mnt/small; echo old >/mnt/small/f"
    )
    try:
        task = {"copy": {"dest": "/mnt/small/f", "content": "x" * 200_000}}
        done = apply(hosts, tmp_path, {"hosts": "fine", "tasks": [task]})
        assert done.returncode == 2
        assert "cannot write /mnt/small/f: No space left on device" in done.stdout
        assert "free some space" in done.stdout
        assert fine.sh("cat /mnt/small/f; ls -A /mnt/small").split() == ["old", "f"]
    finally:
        fine.sh("umount /mnt/small")
