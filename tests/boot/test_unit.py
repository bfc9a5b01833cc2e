"""Runs in tests: `hostctl.service` on hosts with a real systemd: made, kept, stopped, started, removed."""

from __future__ import annotations

import json

import pytest

from .conftest import LOOP, POLITE, Site

pytestmark = [pytest.mark.root, pytest.mark.lab]

OWN = "/system.slice/hostctl.service"
FIELDS = ["agent", "service", "enabled", "state"]


def told(done, field: str = "field") -> list[str]:  # type: ignore[no-untyped-def]
    (host,) = done.json["hosts"].values()
    return [item[field] for item in host["changes"] if item["resource"] == "boot.hostctl"]


def shell(name: str, script: str = POLITE, more: str = "") -> str:
    return f'    {name}: {{image: shell, command: [sh, -c, "{script}"], {more}}}\n'


def test_made_once_and_gone_with_the_last_project(site: Site) -> None:
    shop = site.write(shell("web", more="restart: always"))
    other = site.write(shell("app"), "other")
    assert told(site("plan", shop, code=2)) == FIELDS
    site("apply", shop)
    assert site.systemctl("is-enabled", "hostctl") == "enabled"
    assert site.systemctl("is-active", "hostctl") == "active"
    assert told(site("apply", other)) == []
    assert site("plan", shop).changed() == site("plan", other).changed()
    site("destroy", shop)
    assert site.systemctl("is-active", "hostctl") == "active"
    assert site.ps() == {"other-app-1": "running"}
    assert told(site("destroy", other), "action") == ["delete"]
    assert site.systemctl("is-active", "hostctl", check=False) == "inactive"
    assert site.host.sh("ls /etc/systemd/system /var/lib/hostctl").split().count("boot") == 0
    assert "hostctl" not in site.host.sh("ls /etc/systemd/system/*")
    site.nothing_left()


def test_containers_live_in_its_cgroup_and_outlive_the_session(site: Site) -> None:
    site("apply", site.write(shell("web") + shell("db")))
    web = site.pid("shop-web-1")
    before = site.host.sh(f"cat /proc/{web}/cgroup")
    assert site.cgroups(web) == {f"{OWN}/containers/shop-web-1"}
    for pid in site.host.sh("pgrep hostctl").split():
        assert site.cgroups(pid) == {f"{OWN}/monitors"}
    # No process in an inner node, in whichever hierarchy.
    inner = f"for d in $(find /sys/fs/cgroup -path '*{OWN}' -o -path '*{OWN}/containers'); do"
    assert site.host.sh(f"{inner} cat $d/cgroup.procs; done") == ""
    assert "session" not in site.host.sh("loginctl list-sessions --no-legend || true")
    site.systemctl("daemon-reload")
    site.systemctl("daemon-reexec")
    site.systemctl("restart", "systemd-logind")
    site.systemctl("daemon-reload")
    assert site.host.sh(f"cat /proc/{web}/cgroup") == before
    assert site.ps() == {"shop-db-1": "running", "shop-web-1": "running"}
    for name, value in (("Delegate", "yes"), ("KillMode", "process"), ("OOMPolicy", "continue")):
        assert site.systemctl("show", "--value", "-p", name, "hostctl") == value
    assert site.systemctl("show", "--value", "-p", "TasksMax", "hostctl") == "infinity"


def test_on_version_2_alone(v2: Site) -> None:
    path = v2.write(shell("web", more="restart: always, pids_limit: -1"))
    v2("apply", path)
    for _ in range(2):
        web = v2.pid("shop-web-1")
        v2.systemctl("daemon-reload")
        assert v2.cgroups(web) == {f"{OWN}/containers/shop-web-1"}
        # And the resolver of the host.
        monitors = v2.host.sh(f"cat /sys/fs/cgroup{OWN}/monitors/cgroup.procs").split()
        assert set(monitors) >= set(v2.host.sh("pgrep hostctl").split())
        inner = f"cd /sys/fs/cgroup{OWN}; cat cgroup.procs .control/cgroup.procs containers/cgroup.procs"
        assert v2.host.sh(inner) == ""
        v2("plan", path)
        v2.host.reboot()
    v2("destroy", path)
    v2.nothing_left()


def test_its_cgroup_is_made_again_where_it_was_taken_back(site: Site) -> None:
    site("apply", site.write(shell("web")))
    site("stop", "shop-web-1")
    site.host.sh("pkill -KILL hostctl-zygote; while pgrep hostctl; do sleep 0.05; done")
    # systemd 252 takes it back by itself once it is empty, 247 leaves it; nothing is left of it either way.
    own = f"find /sys/fs/cgroup -depth -type d -path '*{OWN}*'"
    site.host.sh(f'until [ -z "$({own})" ]; do {own} -exec rmdir {{}} + || true; sleep 0.05; done')
    site("start", "shop-web-1")
    web = site.pid("shop-web-1")
    site.systemctl("daemon-reload")
    assert site.cgroups(web) == {f"{OWN}/containers/shop-web-1"}
    assert site.systemctl("show", "--value", "-p", "ControlGroup", "hostctl") == OWN


def test_stop_in_reverse_order_with_grace_and_start_in_order(site: Site) -> None:
    slow = "trap 'sleep 1; echo saved > /data/saved; exit 0' TERM; " + LOOP
    path = site.write(
        shell(
            "db", slow, "volumes: ['data:/data'], restart: unless-stopped, stop_grace_period: 30s"
        )
        + shell("deaf", f"trap '' TERM; {LOOP}", "restart: always, stop_grace_period: 1s")
        + shell("web", POLITE, "restart: always, depends_on: [db]"),
        more="  volumes: {data: }\n",
    )
    site("apply", path)
    site.systemctl("stop", "hostctl")
    assert set(site.ps().values()) == {"exited"}
    db, web = site.state("shop-db-1"), site.state("shop-web-1")
    assert db["finished_at"] >= web["finished_at"] + 1
    assert (db["exit_code"], site.state("shop-deaf-1")["exit_code"]) == (0, 137)
    assert site.host.sh("cat /var/lib/hostctl/volumes/shop_data/_data/saved") == "saved\n"
    site.nothing_left_running()
    site.systemctl("start", "hostctl")
    assert set(site.ps().values()) == {"running"}
    assert site.state("shop-db-1")["started_at"] <= site.state("shop-web-1")["started_at"]
    assert site.cgroups(site.pid("shop-web-1")) == {f"{OWN}/containers/shop-web-1"}
    assert site("plan", path).changed() == {site.host.name: []}


def test_apply_starts_a_stopped_service_and_the_rest_of_the_host_with_it(site: Site) -> None:
    shop = site.write(shell("web", more="restart: always"))
    site("apply", shop)
    site("apply", site.write(shell("app", more="restart: always"), "other"))
    site.systemctl("stop", "hostctl")
    assert told(site("plan", shop, code=2)) == ["state"]
    site("apply", shop)
    assert site.host.sh("systemctl is-active --quiet hostctl || systemctl start hostctl") == ""
    assert site.ps() == {"other-app-1": "running", "shop-web-1": "running"}


def test_an_upgrade_leaves_what_runs_alone(site: Site) -> None:
    path = site.write(shell("web", more="restart: always"))
    site("apply", path)
    pid = site.pid("shop-web-1")
    since = site.systemctl("show", "--value", "-p", "ActiveEnterTimestampMonotonic", "hostctl")
    site.host.sh("sed -i 's/core .*/core 000000000000/' /var/lib/hostctl/boot")
    assert told(site("plan", path, code=2)) == ["agent"]
    site("apply", path)
    site("plan", path)
    assert site.pid("shop-web-1") == pid
    after = site.systemctl("show", "--value", "-p", "ActiveEnterTimestampMonotonic", "hostctl")
    assert after == since


def test_what_somebody_changed_is_put_back(site: Site) -> None:
    path = site.write(shell("web"))
    site("apply", path)
    site.systemctl("disable", "hostctl")
    site.host.sh("sed -i /Delegate/d /etc/systemd/system/hostctl.service; rm /var/lib/hostctl/boot")
    assert told(site("plan", path, code=2)) == ["agent", "service", "enabled"]
    site("apply", path)
    site("plan", path)
    assert site.systemctl("show", "--value", "-p", "Delegate", "hostctl") == "yes"


def test_other_folders_have_a_service_of_their_own(site: Site) -> None:
    data, run = "/var/lib/hostctl/of us 5%x", "/run/other"
    words = ("-e", json.dumps({"hostctl_data_dir": data, "hostctl_run_dir": run}))
    path = site.write(shell("web", more="restart: always"), "third")
    site("apply", *words, path)
    usual = site.write(shell("web", more="restart: always"))
    site("apply", usual)
    site.host.reboot()
    for more, project in ((words, "third"), ((), "shop")):
        assert f"{project}-web-1" in site("ps", *more).out
    site("plan", *words, path)
    listed = site.systemctl("list-units", "--no-legend", "--plain", "hostctl*").splitlines()
    assert len(listed) == 2
    site("destroy", *words, path)
    assert site.ps() == {"shop-web-1": "running"}
    assert site.systemctl("list-units", "--no-legend", "--plain", "hostctl*").count("service") == 1
