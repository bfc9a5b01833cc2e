"""Runs in tests: hosts whose init is not systemd: OpenRC, and those that start nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import Lab

from .conftest import POLITE, Site
from .test_unit import told

pytestmark = [pytest.mark.root, pytest.mark.lab]

WEB = f'    web: {{image: shell, command: [sh, -c, "{POLITE}"], restart: always}}\n'
STARTER = "/var/lib/hostctl/boot"


def test_a_host_that_starts_nothing_says_so_once(plain: Site) -> None:
    path = plain.write(WEB)
    planned = plain("plan", path, code=2)
    assert told(planned) == ["agent"]
    (note,) = told(planned, "note")
    assert "nothing starts containers at boot" in note and f"sh {STARTER} boot" in note
    assert told(plain("apply", path)) == ["agent"]
    assert told(plain("plan", path)) == []
    # What the note says does it.
    plain.host.stop()
    plain.host.start()
    assert plain.ps() == {"shop-web-1": "exited"}
    plain.host.sh(f"sh {STARTER} boot")
    assert plain.ps() == {"shop-web-1": "running"}
    assert plain("plan", path).changed() == {"plain": []}
    plain.host.sh(f"sh {STARTER} shutdown")
    assert plain.ps() == {"shop-web-1": "exited"}
    plain.nothing_left()
    plain("destroy", path)
    assert plain.host.run(["ls", STARTER], check=False).returncode != 0


@pytest.fixture(scope="module")
def alpine_like(machines: Lab) -> Lab:
    """The plain host with Debian's OpenRC, as it is once its runlevel has been reached."""
    host = machines["plain"]
    host.sh(
        "apt-get update -q; DEBIAN_FRONTEND=noninteractive apt-get install -qy openrc", timeout=170
    )
    host.sh("mkdir -p /run/openrc; touch /run/openrc/softlevel; rc-status > /dev/null || true")
    return machines


@pytest.fixture
def openrc(alpine_like: Lab, tmp_path: Path) -> Iterator[Site]:
    made = Site(alpine_like, alpine_like["plain"], tmp_path)
    yield made
    made.clear("shop")


def test_openrc(openrc: Site) -> None:
    path = openrc.write(WEB)
    assert told(openrc("plan", path, code=2)) == ["agent", "service", "enabled", "state"]
    openrc("apply", path)
    assert told(openrc("plan", path)) == []
    host = openrc.host
    host.sh("sh -n /etc/init.d/hostctl; test -x /etc/init.d/hostctl")
    assert "hostctl" in host.sh("rc-update show default")
    assert "started" in host.sh("rc-service hostctl status 2>&1")
    host.sh("rc-service hostctl stop")
    assert openrc.ps() == {"shop-web-1": "exited"}
    host.sh("rc-service hostctl start")
    assert openrc.ps() == {"shop-web-1": "running"}
    assert openrc("plan", path).changed() == {"plain": []}
    openrc("destroy", path)
    assert "hostctl" not in host.sh("ls /etc/init.d /etc/runlevels/default /run/openrc/started")
