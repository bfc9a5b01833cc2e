"""Runs in tests: hosts that are shut down or lose power, and come up again with a fresh /run."""

from __future__ import annotations

import urllib.request
from pathlib import Path

import pytest

from .conftest import LOOP, POLITE, Site

pytestmark = [pytest.mark.root, pytest.mark.lab]


def shell(name: str, script: str = POLITE, more: str = "") -> str:
    return f'    {name}: {{image: shell, command: [sh, -c, "{script}"], {more}}}\n'


STORAGE = """\
  networks: {front: {}, back: {internal: true}}
  volumes:
    data:
    scratch: {driver_opts: {type: tmpfs, device: tmpfs, o: size=1m}}
  secrets: {key: {file: key.txt}}
"""
DB = (
    "rm -f /data/ready; (sleep 1; touch /data/ready) & "
    f"trap 'sleep 1; echo saved >> /data/saved; exit 0' TERM; {LOOP}"
)
SHOP = (
    shell(
        "db",
        DB,
        "networks: [back], volumes: ['data:/data', 'scratch:/scratch'], secrets: [key], "
        "restart: unless-stopped, stop_grace_period: 30s, "
        "healthcheck: {test: [CMD, test, -e, /data/ready], interval: 200ms, retries: 50}",
    )
    + shell("job", "cat /run/secrets/key", "networks: [back], secrets: [key]")
    + shell("deaf", f"trap '' TERM; {LOOP}", "restart: always, stop_grace_period: 1s")
    + """\
    web:
      image: nginx
      networks: [front, back]
      ports: ["8080:80"]
      restart: always
      depends_on:
        db: {condition: service_healthy}
        job: {condition: service_completed_successfully}
"""
)


def page(site: Site) -> str:
    with urllib.request.urlopen(f"http://{site.host.address}:8080/", timeout=10) as answer:
        return str(answer.read().decode())


def shop(site: Site, *, secret: bool | None = None) -> Path:
    """The whole shop; its secret only where the host can seal it, unless that is what is asked for."""
    (site.folder / "key.txt").write_text("s3cret")
    containers, storage = SHOP, STORAGE
    if not (seals(site) if secret is None else secret):
        containers = SHOP.replace("secrets: [key], ", "").replace(", secrets: [key]", "")
        containers = containers.replace("cat /run/secrets/key", "exit 0")
        storage = STORAGE.replace("  secrets: {key: {file: key.txt}}\n", "")
    return site.write(containers, more=storage, images=("shell", "nginx"))


def seals(site: Site) -> bool:
    """systemd has `systemd-creds` from version 250 on."""
    return bool(site.host.sh("command -v systemd-creds || true"))


def test_a_reboot(site: Site) -> None:
    path = shop(site)
    site("apply", path)
    assert "nginx" in page(site)
    before = {name: site.state(f"shop-{name}-1") for name in ("db", "job", "web", "deaf")}
    site.host.reboot()
    now = {name: site.state(f"shop-{name}-1") for name in before}
    # Down in reverse order, each with its own grace period ...
    data = "/var/lib/hostctl/volumes/shop_data/_data"
    assert site.host.sh(f"cat {data}/saved") == "saved\n"
    log = site.host.sh("journalctl -u hostctl --no-pager -o cat")
    assert "cannot" not in log
    # ... and up in order, with the conditions of an apply.
    assert site.ps() == {
        "shop-db-1": "running",
        "shop-deaf-1": "running",
        "shop-job-1": "exited",
        "shop-web-1": "running",
    }
    assert now["job"]["started_at"] == before["job"]["started_at"]
    ready = float(site.host.sh(f"stat -c %.Y {data}/ready"))
    assert before["web"]["started_at"] < now["db"]["started_at"] < ready < now["web"]["started_at"]
    assert "nginx" in page(site)
    if seals(site):
        assert site("exec", "shop-db-1", "cat", "/run/secrets/key").out == "s3cret"
    assert "tmpfs" in site("exec", "shop-db-1", "grep", "/scratch", "/proc/mounts").out
    # By name, over the networks that were made again.
    assert "nginx" in site("exec", "shop-db-1", "curl", "-s", "http://web").out
    assert site("plan", path).changed() == {site.host.name: []}


def test_the_plug_is_pulled(site: Site) -> None:
    path = shop(site)
    site("apply", path)
    site.host.stop()
    site.host.start()
    assert set(site.ps().values()) == {"running", "exited"}
    assert "nginx" in page(site)
    assert site("plan", path).changed() == {site.host.name: []}


def test_a_secret_that_cannot_be_sealed_is_said_and_comes_with_the_next_apply(site: Site) -> None:
    path = shop(site, secret=True)
    site("apply", path)
    site.host.sh("rm -f /var/lib/hostctl/secrets/*/sealed")
    site.host.reboot()
    assert site.ps() == {
        "shop-db-1": "exited",
        "shop-deaf-1": "running",
        "shop-job-1": "exited",
        "shop-web-1": "exited",
    }
    log = site.host.sh("journalctl -u hostctl --no-pager -o cat")
    assert "cannot start shop-db-1: the value of the secret shop_key was lost" in log
    assert "cannot start shop-web-1: shop-db-1, which it needs, could not be started" in log
    assert site.systemctl("is-active", "hostctl") == "active"
    site("apply", path)
    assert "nginx" in page(site)


POLICIES = "".join(
    shell(name, script, f"restart: {policy}")
    for name, script, policy in (
        ("no", POLITE, "'no'"),
        ("done", "exit 0", "'no'"),
        ("always", POLITE, "always"),
        ("always-stopped", POLITE, "always"),
        ("unless", POLITE, "unless-stopped"),
        ("unless-stopped", POLITE, "unless-stopped"),
        ("unless-back", POLITE, "unless-stopped"),
        ("failure-zero", POLITE, "on-failure"),
        ("failure-one", f"trap 'exit 1' TERM; {LOOP}", "on-failure"),
        ("failure-stopped", f"trap 'exit 1' TERM; {LOOP}", "on-failure"),
    )
)
STOPPED = ("always-stopped", "unless-stopped", "unless-back", "failure-stopped")


def test_restart_policies_and_what_a_user_stopped(site: Site) -> None:
    path = site.write(POLICIES)
    site("apply", path)
    done = site("stop", *(f"shop-{name}-1" for name in STOPPED))
    assert sorted(done.out.split()) == sorted(f"shop-{name}-1" for name in STOPPED)
    assert {site.ps()[f"shop-{name}-1"] for name in STOPPED} == {"exited"}
    assert site("start", "unless-back").out == "shop-unless-back-1\n"
    running = {"always", "always-stopped", "unless", "unless-back", "failure-one"}
    site.host.reboot()
    found = site.ps()
    assert {name for name in found if found[name] == "running"} == {
        f"shop-{name}-1" for name in running
    }
    # What is declared to run and does not is what the plan says, and an apply does.
    (changes,) = site("plan", path, code=2).changed().values()
    names = ("failure-stopped", "failure-zero", "no", "unless-stopped")
    assert changes == [f"update container.shop-{name}-1" for name in changed_order(names)]
    site("apply", path)
    site("plan", path)
    site.host.reboot()
    found = site.ps()
    assert found["shop-unless-stopped-1"] == "running"
    assert found["shop-no-1"] == found["shop-done-1"] == "exited"


def changed_order(names: tuple[str, ...]) -> list[str]:
    """In the order of the playbook."""
    return sorted(names, key=lambda name: POLICIES.index(f"    {name}:"))


def test_without_its_health_nothing_that_waits_for_it_starts(site: Site) -> None:
    path = site.write(
        shell(
            "db",
            POLITE,
            "restart: always, healthcheck: {test: [CMD, test, -e, /var/lib/sick], "
            "interval: 100ms, retries: 2}",
        )
        + shell("web", more="restart: always, depends_on: {db: {condition: service_healthy}}"),
    )
    site("apply", path, code=2)
    site.host.reboot()
    assert site.ps()["shop-db-1"] == "running"
    assert site.ps().get("shop-web-1") != "running"
