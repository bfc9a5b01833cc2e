"""Runs on the test machine: healthchecks of real containers, as their state says it."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from hostctl_host.monitor import client

from tests.runtime.workshop import Workshop

pytestmark = pytest.mark.root

FAST = {"interval": 0.1, "timeout": 1.0, "retries": 2, "start_period": 0.0, "start_interval": 0.1}


def _health(workshop: Workshop, wanted: str, seconds: float = 10.0) -> dict[str, Any]:
    deadline = time.monotonic() + seconds
    found: dict[str, Any] = {}
    while time.monotonic() < deadline:
        found = client.status(workshop.paths, "a").health or {}
        if found.get("status") == wanted:
            return found
        time.sleep(0.02)
    raise AssertionError(f"never {wanted}: {found}")


def test_a_command_makes_it_healthy_and_then_unhealthy(workshop: Workshop) -> None:
    check = {**FAST, "test": ["CMD-SHELL", "echo looked; test ! -e /tmp/ill"]}
    script = "sleep 1; touch /tmp/ill; sleep 1000"
    workshop.make("a", "sh", "-c", script, settings={"healthcheck": check})
    assert client.start(workshop.paths, "a").health == {
        "status": "starting",
        "failing": 0,
        "log": [],
    }
    good = _health(workshop, "healthy")
    assert good["log"][-1]["output"] == "looked\n"
    bad = _health(workshop, "unhealthy")
    assert bad["failing"] >= 2
    assert bad["log"][-1]["exit_code"] == 1
    assert len(bad["log"]) <= 5
    assert client.status(workshop.paths, "a").status == "running"


def test_failures_of_the_start_period_do_not_count(workshop: Workshop) -> None:
    check = {**FAST, "test": ["CMD", "test", "-e", "/tmp/ready"], "start_period": 60.0}
    workshop.make(
        "a", "sh", "-c", "sleep 1; touch /tmp/ready; sleep 99", settings={"healthcheck": check}
    )
    client.start(workshop.paths, "a")
    time.sleep(0.7)
    early = client.status(workshop.paths, "a").health
    assert early is not None and early["status"] == "starting" and early["failing"] == 0
    assert early["log"]
    _health(workshop, "healthy")


def test_a_check_that_hangs_is_ended(workshop: Workshop) -> None:
    check = {**FAST, "test": ["CMD", "sleep", "777"], "timeout": 0.2, "retries": 1}
    workshop.make("a", "sleep", "1000", settings={"healthcheck": check})
    client.start(workshop.paths, "a")
    bad = _health(workshop, "unhealthy")
    assert bad["log"][-1]["output"] == "Health check exceeded timeout (0.2s)"
    assert bad["log"][-1]["exit_code"] == -1


def test_probes_need_nothing_in_the_image(workshop: Workshop) -> None:
    page = "printf 'HTTP/1.0 204 No Content\\r\\n\\r\\n'"
    serve = f"while :; do {page} | nc -l -p 8080 >/dev/null; done"
    for test, words in (
        (["HTTP", "8080", "/", "200-299"], "HTTP/1.0 204 No Content"),
        (["TCP", "8080"], "port 8080 accepts connections"),
    ):
        check = {**FAST, "test": test, "retries": 50}
        folder = Path(workshop.paths.container("a"))
        if not folder.exists():
            workshop.make("a", "sh", "-c", serve, settings={"healthcheck": check})
        (folder / "monitor.json").write_text(json.dumps({"healthcheck": check}))
        client.start(workshop.paths, "a")
        assert _health(workshop, "healthy")["log"][-1]["output"] == words
        client.stop(workshop.paths, "a", grace=0)


def test_an_unhealthy_one_is_restarted_if_wanted(workshop: Workshop) -> None:
    check = {**FAST, "test": ["CMD", "false"]}
    settings = {"healthcheck": check, "restart_on": "unhealthy", "stop_grace_period": 0.1}
    workshop.make("a", "sleep", "1000", settings=settings)
    first = client.start(workshop.paths, "a")
    deadline = time.monotonic() + 10
    while client.status(workshop.paths, "a").restarts < 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    now = client.status(workshop.paths, "a")
    assert now.pid != first.pid
    assert client.stop(workshop.paths, "a", grace=0).status == "exited"
    time.sleep(0.5)
    assert client.status(workshop.paths, "a").status == "exited"
