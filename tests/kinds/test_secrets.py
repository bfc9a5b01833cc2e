"""Runs in tests: secrets and configs of real containers: what they see, and that nobody else does."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hostctl_host import config, container, secret
from hostctl_host.agent import values
from hostctl_host.contract.change import Action
from hostctl_host.contract.errors import HostctlError
from hostctl_host.contract.storage import FileGrant
from hostctl_host.monitor import client
from hostctl_host.runtime import grants

from .shop import Shop, grep, open_shop

pytestmark = pytest.mark.root

VALUE = b"correct horse \xff battery\n"
DB = FileGrant("test_db", "/run/secrets/db")


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    monkeypatch.setattr(values, "SYSTEMD", str(tmp_path / "no-systemd"))
    with open_shop(tmp_path, monkeypatch) as made:
        yield made


def test_a_secret_is_a_read_only_file_of_the_containers_own_tmpfs(shop: Shop) -> None:
    shop.converge(secret, shop.secret("db", VALUE))
    wanted = FileGrant("test_db", "/etc/app/key", uid=1000, gid=44, mode="0440")
    spec = shop.spec("web", secrets=(DB, wanted), read_only=True, privileged=True)
    shop.converge(container, spec)
    root = shop.root(spec.name)
    assert (root / "run/secrets/db").read_bytes() == VALUE
    for path, owner in (("run/secrets/db", (0, 0, 0o444)), ("etc/app/key", (1000, 44, 0o440))):
        status = os.stat(root / path)
        assert (status.st_uid, status.st_gid, status.st_mode & 0o7777) == owner
    mounts = shop.mounts(spec.name)
    for target in ("/run/secrets/db", "/etc/app/key"):
        line = mounts[target]
        assert {"ro", "nosuid", "nodev", "noexec"} <= set(line[5].split(","))
        assert line[line.index("-") + 1] == "tmpfs"
        assert line[-1].split(",")[0] == "ro"
    assert "/" in mounts and mounts["/"][-3] == "overlay"
    # Even root with all rights in there cannot make it writable: the file system itself is read-only.
    pid = str(client.status(shop.paths, spec.name).pid)
    inside = ["nsenter", "-t", pid, "-m", "-r", "/bin/sh", "-c"]
    tried = subprocess.run(
        [*inside, "mount -o remount,bind,rw /run/secrets/db; echo x > /run/secrets/db"],
        capture_output=True,
        check=False,
    )
    assert tried.returncode != 0 and (root / "run/secrets/db").read_bytes() == VALUE


def test_the_value_is_nowhere_but_in_its_file_of_the_run_folder(shop: Shop) -> None:
    spec = shop.spec("web", secrets=(DB,))
    made = shop.secret("db", VALUE)
    shown = shop.plan(secret, made)
    shown += shop.converge(secret, made) + shop.converge(container, spec)
    place = f"{shop.paths.run}/secrets/test_db"
    assert grep(shop.paths.run, VALUE) == [place] and grep(shop.paths.data, VALUE) == []
    assert os.stat(place).st_mode & 0o777 == 0o600
    assert os.stat(os.path.dirname(place)).st_mode & 0o777 == 0o700
    known = made.digest.encode()
    assert grep(shop.paths.data, known) == [] and grep(shop.paths.run, known) == []
    assert VALUE.decode(errors="replace").strip() not in str(shown)
    for process in Path("/proc").glob("[0-9]*"):
        for name in ("cmdline", "environ"):
            try:
                assert VALUE.strip() not in (process / name).read_bytes()
            except OSError:
                continue  # it has ended


def test_a_changed_secret_replaces_just_the_containers_that_have_it(shop: Shop) -> None:
    first = shop.secret("db", VALUE)
    shop.converge(secret, first)
    web, other = shop.spec("web", secrets=(DB,)), shop.spec("other")
    shop.converge(container, web)
    shop.converge(container, other)
    before = client.status(shop.paths, other.name).pid
    second = shop.secret("db", b"another")
    (planned,) = shop.plan(secret, second)
    assert (planned.action, planned.field) == (Action.UPDATE, "content")
    (change,) = shop.plan(container, web)
    assert (change.action, change.field) == (Action.REPLACE, "secret db")
    assert (change.before, change.after, change.certain) == (None, None, True)
    assert shop.plan(container, other) == []
    shop.converge(secret, second)
    assert [c.field for c in shop.converge(container, web)] == ["secret db"]
    assert (shop.root(web.name) / "run/secrets/db").read_bytes() == b"another"
    assert client.status(shop.paths, other.name).pid == before
    assert grep(shop.paths.run, VALUE) + grep(shop.paths.data, VALUE) == []


def test_a_restart_by_the_monitor_has_it_again(shop: Shop) -> None:
    shop.converge(secret, shop.secret("db", VALUE))
    spec = shop.spec("web", secrets=(DB,), restart="always")
    shop.converge(container, spec)
    first = client.status(shop.paths, spec.name).pid
    os.kill(first, 9)
    from tests.runtime.workshop import until

    until(lambda: client.status(shop.paths, spec.name).pid not in (0, first))
    assert (shop.root(spec.name) / "run/secrets/db").read_bytes() == VALUE


def test_after_a_reboot_without_a_sealed_copy_it_has_to_be_applied_again(shop: Shop) -> None:
    made = shop.secret("db", VALUE)
    spec = shop.spec("web", secrets=(DB,))
    shop.converge(secret, made)
    shop.converge(container, spec)
    client.stop(shop.paths, spec.name)
    os.unlink(f"{shop.paths.run}/secrets/test_db")
    assert values.find(shop.paths, "secret", "test_db") is None
    with pytest.raises(HostctlError, match="was lost with a reboot") as refused:
        grants.ready(spec, shop.paths)
    assert refused.value.ref == "secret-missing"
    with pytest.raises(HostctlError, match="is not on this host"):
        client.start(shop.paths, spec.name)
    (change,) = shop.plan(secret, made)
    assert "a reboot takes it away" in change.note
    assert [c.field for c in shop.plan(container, spec)] == ["state"]
    shop.converge(secret, made)
    shop.converge(container, spec)
    assert (shop.root(spec.name) / "run/secrets/db").read_bytes() == VALUE


@pytest.fixture
def host_key() -> Iterator[None]:
    """systemd-creds makes the host's key where there is none: this test's goes again."""
    key = Path("/var/lib/systemd/credential.secret")
    there = key.exists()
    yield
    if not there:
        key.unlink(missing_ok=True)


def test_where_systemd_is_a_sealed_copy_brings_it_back(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, host_key: None
) -> None:
    monkeypatch.setattr(values, "SYSTEMD", "/")
    shop.converge(secret, shop.secret("db", VALUE))
    sealed = Path(shop.paths.data, "secrets", "test_db", "sealed")
    assert sealed.stat().st_mode & 0o777 == 0o600
    assert grep(shop.paths.data, VALUE) == []
    place = f"{shop.paths.run}/secrets/test_db"
    os.unlink(place)
    assert values.at_hand(shop.paths, "secret", "test_db") and not os.path.exists(place)
    assert values.find(shop.paths, "secret", "test_db") == place
    assert Path(place).read_bytes() == VALUE
    assert shop.plan(secret, shop.secret("db", VALUE)) == []
    sealed.write_text("broken")
    os.unlink(place)
    assert values.find(shop.paths, "secret", "test_db") is None


def test_a_host_whose_seal_fails_is_as_one_without(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(values, "SYSTEMD", "/")
    monkeypatch.setattr(values, "CREDS", "no-such-program")
    shop.converge(secret, shop.secret("db", VALUE))
    assert not Path(shop.paths.data, "secrets", "test_db", "sealed").exists()


def test_what_somebody_else_put_in_its_place_is_told_and_undone(shop: Shop) -> None:
    made = shop.secret("db", VALUE)
    shop.converge(secret, made)
    Path(shop.paths.run, "secrets", "test_db").write_bytes(b"other")
    assert [c.field for c in shop.converge(secret, made)] == ["content"]
    assert Path(shop.paths.run, "secrets", "test_db").read_bytes() == VALUE


def test_external_ones_are_another_projects(shop: Shop) -> None:
    outside = secret.Spec("test_db", external=True)
    with pytest.raises(HostctlError, match="is external and does not exist") as refused:
        secret.observe(outside, shop.host)
    assert refused.value.ref == "external-missing"
    shop.converge(secret, shop.secret("db", VALUE))
    assert shop.converge(secret, outside) == []
    assert secret.undo(outside, secret.observe(outside, shop.host), shop.host) is None
    assert "run/secrets/db" in shop.run("web", "ls /run/secrets/db", secrets=(DB,))
    os.unlink(f"{shop.paths.run}/secrets/test_db")
    with pytest.raises(HostctlError, match="was lost with a reboot"):
        secret.observe(outside, shop.host)


def test_undo_and_removal_leave_nothing(shop: Shop) -> None:
    for kind, made in ((secret, shop.secret("a", VALUE)), (config, shop.config("a", VALUE))):
        back = kind.undo(made, kind.observe(made, shop.host), shop.host)
        shop.converge(kind, made)
        assert kind.undo(made, kind.observe(made, shop.host), shop.host) is None
        (change,) = shop.converge(kind, back)
        assert change.action is Action.DELETE
    assert grep(shop.paths.data, VALUE) + grep(shop.paths.run, VALUE) == []
    assert os.listdir(f"{shop.paths.data}/secrets") + os.listdir(f"{shop.paths.run}/secrets") == []


def test_labels_change_alone(shop: Shop) -> None:
    made = shop.secret("db", VALUE)
    shop.converge(secret, made)
    (change,) = shop.converge(secret, replace(made, labels={"a": "b"}))
    assert change.field == "labels"


def test_a_config_shows_its_text_and_survives_a_reboot(shop: Shop) -> None:
    made = shop.config("site", b"one\n")
    (planned,) = shop.converge(config, made)
    assert "+one" in planned.diff
    grant = FileGrant("test_site", "/site")
    spec = shop.spec("web", configs=(grant,))
    shop.converge(container, spec)
    assert (shop.root(spec.name) / "site").read_text() == "one\n"
    (change,) = shop.plan(config, shop.config("site", b"two\n"))
    assert "-one" in change.diff and "+two" in change.diff
    (change,) = shop.plan(container, spec)
    assert (change.action, change.field) == (Action.REPLACE, "config site")
    assert Path(shop.paths.data, "configs", "test_site", "value").read_bytes() == b"one\n"
    assert not os.path.exists(f"{shop.paths.run}/configs")


def test_a_config_with_something_secret_in_it_is_kept_as_a_secret(shop: Shop) -> None:
    shop.converge(config, shop.config("site", b"once open\n"))
    changes = shop.converge(config, shop.config("site", VALUE, hidden=True))
    assert [(c.field, c.diff) for c in changes] == [("content", "")]
    assert grep(shop.paths.data, VALUE) == [] and grep(shop.paths.data, b"once open") == []
    assert grep(shop.paths.run, VALUE) == [f"{shop.paths.run}/configs/test_site"]


def test_a_grant_that_nothing_stands_behind_says_so(shop: Shop) -> None:
    with pytest.raises(HostctlError, match="there is no such secret on this host"):
        shop.run("web", "true", secrets=(DB,))
    assert not os.path.exists(shop.paths.container("test-web-1"))


def test_a_file_over_a_folder_of_the_image_is_refused(shop: Shop) -> None:
    shop.converge(secret, shop.secret("db", VALUE))
    with pytest.raises(HostctlError, match="cannot put a file at /etc"):
        shop.run("web", "true", secrets=(FileGrant("test_db", "/etc"),))


def test_a_link_of_the_image_leads_no_secret_out(shop: Shop, tmp_path: Path) -> None:
    (shop.layer / "run" / "secrets").symlink_to(tmp_path / "outside")
    (tmp_path / "outside").mkdir()
    shop.converge(secret, shop.secret("db", VALUE))
    out = shop.run("web", f"cat {tmp_path}/outside/db", secrets=(DB,))
    assert "battery" in out and list((tmp_path / "outside").iterdir()) == []


def test_values_are_in_any_mount_of_the_container(shop: Shop) -> None:
    shop.converge(secret, shop.secret("db", VALUE))
    fields: dict[str, Any] = {"secrets": (DB,), "tmpfs": ("/run",)}
    assert "battery" in shop.run("web", "cat /run/secrets/db", **fields)
