"""Runs in tests: the container's diff: which field, replaced or changed in place."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hostctl_host import container
from hostctl_host.agent import kinds
from hostctl_host.container import Attachment, Mount, Observed, Port, Spec
from hostctl_host.contract.change import UNKNOWN, Action, Reason
from hostctl_host.contract.errors import HostctlError
from hostctl_host.contract.spec import encode
from hostctl_host.runtime import sources

from .machine import make_host

BASE = Spec(
    "shop-web-1",
    "docker.io/library/nginx:1",
    service="web",
    environment={"TZ": "UTC"},
    ports=(Port(80, 8080),),
    networks=(Attachment("shop_front"),),
)


def running(spec: Spec = BASE, **other: Any) -> Observed:
    values: dict[str, Any] = {
        "spec": encode(spec),
        "image_id": "a" * 64,
        "target_id": "a" * 64,
        "status": "running",
        "watched": True,
    }
    return Observed(**{**values, **other})


def test_what_is_recorded_can_be_removed_whatever_todays_rules() -> None:
    record = {**encode(BASE), "cpus": 1e9}
    with pytest.raises(HostctlError, match="cannot read a spec of kind container: at most"):
        kinds.spec_of(container, record)
    assert kinds.spec_of(container, {**record, "state": "absent"}).name == BASE.name
    with pytest.raises(HostctlError, match="is no name"):
        kinds.spec_of(container, {**record, "state": "absent", "name": "../up"})


def test_same_spec_is_no_change() -> None:
    assert container.diff(BASE, running()) == []


def test_what_ended_unseen_is_cleaned_up_where_it_is_to_be_stopped() -> None:
    stopped = replace(BASE, state="stopped")
    assert container.diff(stopped, running(stopped, status="exited")) == []
    (found,) = container.diff(stopped, running(stopped, status="exited", unsettled=True))
    assert (found.field, found.action, found.after) == ("state", Action.UPDATE, "stopped")


@pytest.mark.parametrize(
    ("change", "field", "action"),
    [
        ({"environment": {"TZ": "CET"}}, "environment.TZ", Action.REPLACE),
        ({"environment": {}}, "environment.TZ", Action.REPLACE),
        ({"command": ("true",)}, "command", Action.REPLACE),
        ({"ports": ()}, "ports", Action.REPLACE),
        ({"read_only": True}, "read_only", Action.REPLACE),
        ({"mem_limit": 8 << 20}, "mem_limit", Action.UPDATE),
        ({"restart": "always"}, "restart", Action.UPDATE),
        ({"labels": {"a": "b"}}, "labels.a", Action.UPDATE),
    ],
)
def test_one_changed_field_is_named(change: dict[str, Any], field: str, action: Action) -> None:
    (found,) = container.diff(replace(BASE, **change), running())
    assert (found.field, found.action) == (field, action)


def test_depends_on_is_not_compared() -> None:
    spec = replace(BASE, depends_on={"db": {"condition": "service_started"}})
    assert container.diff(spec, running()) == []


def test_a_new_image_under_the_same_tag_replaces() -> None:
    (found,) = container.diff(BASE, running(target_id="b" * 64))
    assert (found.action, found.field, found.reason) == (Action.REPLACE, "image", Reason.IMAGE)


def test_an_image_that_is_known_only_after_apply_may_change_it() -> None:
    (found,) = container.diff(BASE, running(target_id=None))
    assert (found.after, found.certain) == (UNKNOWN, False)


def test_one_that_does_not_run_is_started() -> None:
    (found,) = container.diff(BASE, running(status="exited", ending="exit code 1"))
    assert (found.field, found.before, found.after) == ("state", "exited (exit code 1)", "running")


def test_a_job_that_is_done_stays_done() -> None:
    assert container.diff(BASE, running(status="exited", finished=True)) == []


def test_a_dead_monitor_is_replaced_while_the_container_runs() -> None:
    (found,) = container.diff(BASE, running(watched=False))
    assert (found.field, found.action) == ("monitor", Action.UPDATE)


def test_an_anonymous_volume_is_open_to_every_user(tmp_path: Path) -> None:
    host, _ = make_host(str(tmp_path))
    os.makedirs(os.path.join(host.paths.container("shop-web-1"), sources.KEPT))
    spec = replace(BASE, volumes=(Mount("/data"),))
    before = os.umask(0o077)
    try:
        folder = sources.gather(spec, host, {}).paths["/data"]
    finally:
        os.umask(before)
    assert os.stat(folder).st_mode & 0o777 == 0o755
