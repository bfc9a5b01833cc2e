"""Runs in tests of virtual machines: a clock that jumps by a day, forwards and back, and what goes by it."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from .conftest import Site

pytestmark = pytest.mark.root

DAY = 86400
BOOK = """\
  volumes: {seen: {}}
  containers:
    looks:
      image: shell
      command: [sleep, infinity]
      volumes: ["seen:/seen"]
      restart: always
      healthcheck: {test: [CMD-SHELL, "echo look >> /seen/looks"], interval: 1s, timeout: 60s}
"""
FAILS = """\
  volumes: {seen: {}}
  containers:
    fails:
      image: shell
      command: [sh, -c, "echo start >> /seen/starts; sleep 1; exit 1"]
      volumes: ["seen:/seen"]
      restart: always
"""
VOLUMES = "/var/lib/hostctl/volumes"
COUNTS = {
    "looks": f"{VOLUMES}/clock_seen/_data/looks",
    "starts": f"{VOLUMES}/fails_seen/_data/starts",
}


@pytest.fixture
def jumps(site: Site) -> Iterator[Site]:
    """The machine's clock is right again afterwards, whatever has happened."""
    yield site
    site.vm.sh(f"date -s @{time.time():.0f} > /dev/null")


def jump(site: Site, seconds: int) -> None:
    """While the one that fails is about to be restarted, and that soon: the pause has grown long by now."""
    site("restart", "fails-fails-1")
    site.vm.sh(f"date -s @$(($(date +%s) + {seconds})) > /dev/null")


def goes_on(site: Site) -> None:
    """Both containers do at least twice what they do again and again."""
    for path in COUNTS.values():
        count = int(site.vm.sh(f"wc -l < {path}"))
        site.vm.wait_until(f"[ $(wc -l < {path}) -ge {count + 2} ]", timeout=300)


def test_the_clock_jumps(jumps: Site) -> None:
    """An unset clock is put right, and wrong again: containers live, probes and restarts go on, nothing is to do."""
    site = jumps
    book, fails = site.write(BOOK, "clock"), site.write(FAILS, "fails")
    site("apply", book)
    site("apply", fails)
    goes_on(site)
    pid = site.vm.container_pid("clock-looks-1")
    for seconds in (DAY, -2 * DAY):
        jump(site, seconds)
        goes_on(site)
        assert site.vm.container_pid("clock-looks-1") == pid
        assert site.changed("plan", book) == []
        assert site.changed("apply", book) == []
        assert site.ps()["clock-looks-1"] == "running"
    # Made anew while the clock is behind all that is recorded.
    again = site.write(BOOK.replace("interval: 1s", "interval: 2s"), "clock")
    site("apply", again)
    site("restart", "fails-fails-1")
    goes_on(site)
    assert site.changed("plan", again) == []
