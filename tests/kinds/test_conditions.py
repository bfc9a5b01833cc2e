"""Runs in tests: what a container waits for, its hooks, its input and its log, with real containers."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hostctl_host import container
from hostctl_host.agent.channel import Channel
from hostctl_host.container import Healthcheck
from hostctl_host.contract.errors import HostctlError
from hostctl_host.contract.service import Dependency, Hook, Logging
from hostctl_host.monitor import client
from hostctl_host.monitor import verbs as verbs_of
from hostctl_host.runtime import cgroup, verbs

from tests.runtime.workshop import until

from .shop import Shop, open_shop

pytestmark = pytest.mark.root


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    with open_shop(tmp_path, monkeypatch) as made:
        yield made


def _check(*test: str, retries: int = 50) -> Healthcheck:
    return Healthcheck(test=("CMD", *test), interval=0.1, timeout=1.0, retries=retries)


def test_a_dependent_starts_when_the_other_is_healthy(shop: Shop) -> None:
    script = "sleep 1; touch /tmp/ready; sleep 1000"
    db = shop.spec("db", script, healthcheck=_check("test", "-e", "/tmp/ready"))
    shop.converge(container, db)
    web = shop.spec("web", depends_on={db.name: Dependency("service_healthy")})
    began = time.monotonic()
    shop.converge(container, web)
    assert time.monotonic() - began > 0.5
    assert client.status(shop.paths, db.name).health["status"] == "healthy"
    assert client.status(shop.paths, web.name).status == "running"


def test_nothing_is_stopped_for_a_restart_that_would_be_refused(shop: Shop) -> None:
    db = shop.spec("db", healthcheck=_check("true"))
    web = shop.spec("web", depends_on={db.name: Dependency("service_healthy")})
    for spec in (db, web):
        shop.converge(container, spec)
    channel = Channel(-1, os.open(os.devnull, os.O_WRONLY))
    client.stop(shop.paths, db.name)
    before = client.status(shop.paths, web.name).pid
    with pytest.raises(HostctlError, match=f"cannot start {web.name}: {db.name} is exited"):
        verbs.restart(shop.host, {"names": [web.name]}, channel)
    assert client.status(shop.paths, web.name).pid == before
    # Both together: what the one needs is started again before it.
    assert verbs.restart(shop.host, {"names": [web.name, db.name]}, channel) == 0
    assert client.status(shop.paths, web.name).pid not in (before, 0)


def test_it_does_not_start_when_the_other_is_unhealthy_or_has_failed(shop: Shop) -> None:
    db = shop.spec("db", healthcheck=_check("sh", "-c", "echo no; false", retries=1))
    shop.converge(container, db)
    web = shop.spec("web", depends_on={db.name: Dependency("service_healthy")})
    with pytest.raises(HostctlError, match=f"cannot start {web.name}: {db.name} is unhealthy: no"):
        shop.converge(container, web)
    job = shop.spec("job", "sleep 0.3; exit 3")
    shop.converge(container, job)
    after = {job.name: Dependency("service_completed_successfully")}
    with pytest.raises(HostctlError, match="has failed: exit code 3"):
        shop.converge(container, shop.spec("next", depends_on=after))
    optional = {job.name: Dependency("service_completed_successfully", required=False)}
    shop.converge(container, shop.spec("other", depends_on=optional))


def test_the_old_one_serves_until_what_the_new_one_needs_is_ready(shop: Shop) -> None:
    old = shop.spec("web", "sleep 500")
    shop.converge(container, old)
    before = client.status(shop.paths, old.name).pid
    db = shop.spec("db", healthcheck=_check("false", retries=1))
    shop.converge(container, db)
    new = shop.spec("web", "sleep 600", depends_on={db.name: Dependency("service_healthy")})
    with pytest.raises(HostctlError, match="is unhealthy"):
        shop.converge(container, new)
    assert client.status(shop.paths, old.name).pid == before
    assert client.status(shop.paths, old.name).status == "running"


def test_hooks_run_in_the_container(shop: Shop) -> None:
    out = shop.paths.data + "/shared"
    Path(out).mkdir(mode=0o777)
    Path(out).chmod(0o777)
    spec = shop.spec(
        "a",
        volumes=(container.Mount(type="bind", source=out, target="/out"),),
        post_start=(Hook(("sh", "-c", "echo $WORD > /out/post"), environment={"WORD": "hi"}),),
        pre_stop=(Hook(("sh", "-c", "touch /out/pre")),),
    )
    shop.converge(container, spec)
    assert Path(out, "post").read_text() == "hi\n"
    assert not Path(out, "pre").exists()
    shop.converge(container, shop.spec("a", state="absent"))
    assert Path(out, "pre").exists()


def test_a_container_that_is_to_be_stopped_runs_its_hook_too(shop: Shop) -> None:
    out = Path(shop.paths.data) / "shared"
    out.mkdir()
    mount = container.Mount(type="bind", source=str(out), target="/out")
    hook = Hook(("touch", "/out/pre"))
    shop.converge(container, shop.spec("a", volumes=(mount,), pre_stop=(hook,)))
    shop.converge(container, shop.spec("a", volumes=(mount,), pre_stop=(hook,), state="stopped"))
    assert (out / "pre").exists()
    assert client.status(shop.paths, "test-a-1").status == "exited"


def test_what_runs_a_hook_is_out_of_the_containers_reach(shop: Shop) -> None:
    spec = shop.spec("a", post_start=(Hook(("sleep", "2")),))
    worker = threading.Thread(target=shop.converge, args=(container, spec))
    worker.start()
    own = cgroup.Cgroup(cgroup.container_path(shop.paths.run, spec.name), cgroup.detect())
    seen = set()
    deadline = time.monotonic() + 10
    while worker.is_alive() and time.monotonic() < deadline:
        for pid in own.processes():
            try:
                if b"python" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    seen.add(os.statvfs(f"/proc/{pid}/exe").f_flag & os.ST_RDONLY)
            except (FileNotFoundError, ProcessLookupError):
                continue
        time.sleep(0.01)
    worker.join()
    assert seen == {os.ST_RDONLY}


def test_a_hook_has_the_home_of_its_user(shop: Shop) -> None:
    (shop.layer / "etc" / "passwd").write_text("app:x:1000:1000::/home/app:/bin/sh\n")
    hook = Hook(("sh", "-c", 'echo $HOME; test "$HOME" = /home/app'), user="app")
    shop.converge(container, shop.spec("a", environment={"HOME": "/root"}, post_start=(hook,)))


def test_a_failing_hook_is_a_failure(shop: Shop) -> None:
    spec = shop.spec("a", post_start=(Hook(("sh", "-c", "echo why; exit 7")),))
    with pytest.raises(HostctlError, match=r"cannot run post_start\[0\] of .*: exit code 7: why"):
        shop.converge(container, spec)


def test_input_stays_open_and_a_log_may_be_unwanted(shop: Shop) -> None:
    spec = shop.spec("a", "cat", stdin_open=True, logging=Logging(driver="none"))
    shop.converge(container, spec)
    time.sleep(0.3)
    assert client.status(shop.paths, spec.name).status == "running"
    assert not list(Path(shop.paths.container(spec.name), "log").iterdir())


def test_a_lost_terminal_is_a_restart_in_the_plan(shop: Shop) -> None:
    spec = shop.spec("a", "exec sleep 1000", tty=True, stop_grace_period=0.1)
    shop.converge(container, spec)
    first = client.status(shop.paths, spec.name)
    os.kill(first.monitor, signal.SIGKILL)
    until(lambda: not client.status(shop.paths, spec.name).watched)
    changes = shop.converge(container, spec)
    assert [(change.field, change.before, change.after) for change in changes] == [
        ("state", "running (its terminal is lost)", "running")
    ]
    assert client.status(shop.paths, spec.name).pid != first.pid


def test_one_whose_record_is_damaged_is_made_again(shop: Shop) -> None:
    spec, other = shop.spec("web"), shop.spec("db")
    for one in (spec, other):
        shop.converge(container, one)
    first = client.status(shop.paths, spec.name)
    record = Path(shop.paths.container(spec.name), "spec.json")
    record.write_text("{")
    assert verbs_of.describe(shop.paths, spec.name) is None
    assert verbs_of.chosen(shop.paths, {"names": [other.name]}) == [other.name]
    shop.converge(container, spec)
    now = client.status(shop.paths, spec.name)
    assert now.status == "running" and now.pid != first.pid
    assert not Path(f"/proc/{first.pid}").exists()
    record.write_text("{")
    shop.converge(container, replace(spec, state="absent"))
    assert client.names(shop.paths) == [other.name]
