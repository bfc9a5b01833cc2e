"""Runs on the test machine: `hostctl.service` under a systemd that owns the machine, and a real reboot."""

from __future__ import annotations

import json
from typing import Any

import pytest

from .conftest import POLITE, Site

SLOW = "trap 'sleep 1; echo saved >> /data/saved; exit 0' TERM; while :; do sleep 0.2; done"
CONTAINERS = f"""\
  volumes: {{data: }}
  containers:
    db:
      image: shell
      command: [sh, -c, "{SLOW}"]
      volumes: [data:/data]
      restart: unless-stopped
      stop_grace_period: 60s
    web:
      image: shell
      command: [sh, -c, "echo served; {POLITE}"]
      depends_on: [db]
      restart: always
      stop_grace_period: 60s
      logging: {{driver: journald}}
    halted: {{image: shell, command: [sh, -c, "{POLITE}"], restart: unless-stopped}}
"""
UP = {"shop-db-1": "running", "shop-halted-1": "running", "shop-web-1": "running"}
OWN = "0::/system.slice/hostctl.service/containers"


def state(site: Site, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        site.vm.sh(f"cat /var/lib/hostctl/containers/{name}/state.json")
    )
    return found


def saved(site: Site) -> int:
    """How often the database could end in its own time."""
    script = "cat /var/lib/hostctl/volumes/shop_data/_data/saved 2> /dev/null || true"
    return site.vm.sh(script).count("saved")


@pytest.mark.core
def test_a_life_under_systemd(site: Site) -> None:
    """Containers outlive sessions, reloads and upgrades, end and come back in order, also over a reboot."""
    vm, path = site.vm, site.write(CONTAINERS)
    site("apply", path)
    assert vm.systemctl("show", "--value", "-p", "Delegate", "hostctl") == "yes"
    web = vm.container_pid("shop-web-1")
    vm.systemctl("daemon-reload")
    vm.disconnect()
    vm.run(["true"], shared=False)
    vm.sh("sed -i 's/core .*/core 000000000000/' /var/lib/hostctl/boot")
    assert site.changed("apply", path) == ["update boot.hostctl"]
    assert vm.container_pid("shop-web-1") == web
    assert vm.sh(f"cat /proc/{web}/cgroup").strip() == f"{OWN}/shop-web-1"

    vm.run(["systemctl", "stop", "hostctl"])
    assert set(site.ps().values()) == {"exited"}
    assert saved(site) == 1
    assert state(site, "shop-web-1")["finished_at"] <= state(site, "shop-db-1")["finished_at"] - 1
    vm.run(["systemctl", "start", "hostctl"])
    assert site.ps() == UP
    assert state(site, "shop-db-1")["started_at"] <= state(site, "shop-web-1")["started_at"]

    site("stop", "shop-halted-1")
    vm.reboot()
    vm.wait_until("systemctl is-active -q hostctl")
    assert site.ps() == UP | {"shop-halted-1": "exited"}
    assert saved(site) == 2
    assert state(site, "shop-db-1")["started_at"] <= state(site, "shop-web-1")["started_at"]
    log = vm.sh("journalctl --no-pager -o cat CONTAINER_NAME=shop-web-1")
    assert log.split() == ["served"] * 3
    assert site.changed("plan", path, code=2) == ["update container.shop-halted-1"]
    site("apply", path)
    assert (site.ps(), site.changed("apply", path)) == (UP, [])
