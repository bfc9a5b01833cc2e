"""The lock file beside a playbook: `--pin` writes it, runs obey it, and what is wrong with it is said."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.ship.conftest import Folders
from tests.store.registries import RunningRegistry
from tests.store.test_pull import make_image

pytestmark = pytest.mark.root


def locked(hosts: Folders) -> dict[str, str]:
    told = json.loads(Path(hosts.folder, "site.yml.lock").read_text())
    assert told["version"] == 1
    return {name: entry["digest"] for name, entry in told["images"].items()}


def site(hosts: Folders, name: str, more: str = "") -> None:
    hosts.play(f"- hosts: a,b\n  images:\n    web: {{pull: '{name}'{more}}}\n")


def test_a_run_obeys_what_was_pinned(hosts: Folders, origin: RunningRegistry) -> None:
    first, second = make_image("first"), make_image("second")
    name = origin.push("shop/web", "1", first)
    site(hosts, name)
    plan = hosts("plan", "site.yml", "--pin", code=2)
    assert f"site.yml.lock: {name} {first.digest[:19]}" in plan.stderr
    assert locked(hosts) == {name: first.digest}
    origin.push("shop/web", "1", second)
    plan = hosts("plan", "site.yml", code=2).stdout
    assert f"{first.digest[:19]} (pinned)" in plan
    hosts("apply", "site.yml")
    assert {hosts.id(host, "web") for host in "ab"} == {first.image_id}
    assert "No changes." in hosts("plan", "site.yml").stdout
    # A host that has the tag from before is brought to what is pinned, and back.
    done = hosts("apply", "site.yml", "--pin")
    assert f"{first.digest[:19]} -> {second.digest[:19]}" in done.stderr
    assert {hosts.id(host, "web") for host in "ab"} == {second.image_id}
    assert locked(hosts) == {name: second.digest}
    Path(hosts.folder, "site.yml.lock").write_text(
        json.dumps({"version": 1, "images": {name: {"digest": first.digest}}})
    )
    plan = hosts("plan", "site.yml", code=2).stdout
    assert "digest: " in plan and f"{first.digest[:19]} (pinned)" in plan
    hosts("apply", "site.yml")
    assert {hosts.id(host, "web") for host in "ab"} == {first.image_id}
    assert "No changes." in hosts("plan", "site.yml").stdout


def test_pinning_twice_writes_nothing_new(hosts: Folders, origin: RunningRegistry) -> None:
    name = origin.push("shop/web", "1", make_image("one"))
    site(hosts, name)
    hosts("apply", "site.yml", "--pin")
    lock = Path(hosts.folder, "site.yml.lock")
    before = lock.stat().st_ino
    done = hosts("plan", "site.yml", "--pin")
    assert "No changes." in done.stdout and "site.yml.lock" not in done.stderr
    assert lock.stat().st_ino == before
    assert not list(hosts.folder.glob(".*hostctl*"))


def test_an_index_is_pinned_for_all_platforms(hosts: Folders, origin: RunningRegistry) -> None:
    mine = make_image("amd")
    name = origin.push_index(
        "shop/multi",
        "1",
        {"linux/amd64": mine, "linux/arm64": make_image("arm", architecture="arm64")},
    )
    hosts.play(f"- hosts: a\n  containers: {{x: {{image: '{name}', command: ['true']}}}}\n")
    hosts("plan", "site.yml", "--pin", code=2)
    [digest] = locked(hosts).values()
    assert digest != mine.digest
    site(hosts, name)
    hosts("apply", "site.yml")
    found = hosts.image("a", "web")
    assert found is not None and (found.pinned, found.image_id) == (digest, mine.image_id)


def test_what_the_lock_file_no_longer_fits_is_said(hosts: Folders, origin: RunningRegistry) -> None:
    first = make_image("first")
    name = origin.push("shop/web", "1", first)
    other = origin.push("shop/other", "1", make_image("other"))
    site(hosts, name, ", pull_policy: always")
    hosts.play(hosts.site.read_text() + f"    other: {{pull: '{other}'}}\n")
    hosts("apply", "site.yml", "--pin")
    assert set(locked(hosts)) == {name, other}
    # Its tag has moved: shown where the policy looks, changed by nobody.
    second = make_image("second")
    origin.push("shop/web", "1", second)
    plan = hosts("plan", "site.yml").stdout
    assert f"pinned to {first.digest[:19]}, and its tag is {second.digest[:19]} now" in plan
    # An entry that nothing uses.
    site(hosts, name, ", pull_policy: always")
    assert f"{other} is no longer used (--pin removes it)" in hosts("plan", "site.yml").stderr
    hosts("plan", "site.yml", "--pin", "-l", "a", code=2)
    assert set(locked(hosts)) == {name, other}, "a limited run knows nothing of the rest"
    hosts("plan", "site.yml", "--pin", code=2)
    assert locked(hosts) == {name: second.digest}


def test_a_digest_that_its_registry_no_longer_has(
    hosts: Folders, origin: RunningRegistry, tmp_path: Path
) -> None:
    first = make_image("first")
    name = origin.push("shop/web", "1", first)
    site(hosts, name)
    hosts("plan", "site.yml", "--pin", code=2)
    origin.push("shop/web", "1", make_image("second"))
    for found in tmp_path.rglob(f"_manifests/revisions/sha256/{first.digest[7:]}"):
        shutil.rmtree(found)
    done = hosts("plan", "site.yml", code=1)
    assert f"its registry no longer has {first.digest}" in done.stdout
    assert "hostctl plan PLAYBOOK --pin" in done.stdout
    hosts("apply", "site.yml", "--pin")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "it is no JSON"),
        ('{"version": 9}', "it is not of version 1"),
        ('{"version": 1}', "it has no map"),
        ('{"version": 1, "images": {"x": {"digest": "sha256:1"}}}', "x has no digest"),
    ],
)
def test_a_broken_lock_file(hosts: Folders, text: str, message: str) -> None:
    hosts.play("- hosts: a\n")
    Path(hosts.folder, "site.yml.lock").write_text(text)
    done = hosts("plan", "site.yml", code=1)
    assert message in done.stderr and "site.yml.lock" in done.stderr
