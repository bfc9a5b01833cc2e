"""`pull_policy`, as Compose has it: when a registry is asked for what is there already."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from hostctl_host.contract.pull_policy import check_policy, period
from hostctl_host.store.freshness import due, looked
from hostctl_host.store.store import Store

from tests.ship.conftest import Folders
from tests.store.registries import RunningRegistry
from tests.store.test_pull import make_image

pytestmark = pytest.mark.root


@pytest.mark.parametrize(
    ("policy", "seconds"),
    [
        ("", None),
        ("missing", None),
        ("never", None),
        ("build", None),
        ("always", 0),
        ("daily", 86400),
        ("weekly", 604800),
        ("every_12h", 43200),
        ("every_1w2d3h4m5s", 604800 + 2 * 86400 + 3 * 3600 + 245),
    ],
)
def test_periods(policy: str, seconds: float | None) -> None:
    assert period(check_policy(policy)) == seconds


@pytest.mark.parametrize("policy", ["every_", "every_12", "every_x", "hourly", "Always"])
def test_no_policies(policy: str) -> None:
    with pytest.raises(ValueError, match="there is no pull_policy"):
        check_policy(policy)


def container(name: str, policy: str) -> str:
    line = f", pull_policy: {policy}" if policy else ""
    return f"- hosts: a\n  containers:\n    x: {{image: '{name}', command: ['true']{line}}}\n"


def image_lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if " image." in line]


def age(store: Store, name: str, seconds: float) -> None:
    """Let the registry have been asked about the tag so long ago."""
    index = Path(store.root, "index.json")
    told = json.loads(index.read_text())
    for entry in told["manifests"]:
        for key in entry["annotations"]:
            if key.endswith("image.tagged"):
                entry["annotations"][key] = str(int(time.time() - seconds))
    index.write_text(json.dumps(told))
    Path(store.root, "looked.json").unlink(missing_ok=True)


def test_when_the_registry_is_asked(hosts: Folders, origin: RunningRegistry) -> None:
    first, second = make_image("first"), make_image("second")
    name = origin.push("shop/web", "1", first)
    hosts("pull", name, "-l", "a")
    origin.push("shop/web", "1", second)
    for policy in ("", "missing", "if_not_present", "never", "daily", "every_1h"):
        hosts.play(container(name, policy))
        assert not image_lines(hosts("plan", "site.yml", code=2).stdout), policy
    age(hosts.store("a"), name, 7200)
    for policy, differs in (("always", True), ("every_1h", True), ("daily", False)):
        hosts.play(container(name, policy))
        assert bool(image_lines(hosts("plan", "site.yml", code=2).stdout)) is differs, policy


def test_a_tag_that_has_not_moved_is_not_asked_for_again(
    hosts: Folders, origin: RunningRegistry
) -> None:
    """Once a day means that the next run of the day needs no registry; a plan notes nothing."""
    name = origin.push("shop/web", "1", make_image("first"))
    hosts.play(f"- hosts: a\n  images: {{web: {{pull: '{name}', pull_policy: daily}}}}\n")
    hosts("apply", "site.yml")
    store = hosts.store("a")
    age(store, name, 100_000)
    assert "No changes." in hosts("plan", "site.yml").stdout
    image = hosts.image("a", "web")
    assert image is not None and due(store, image, 86400)
    assert "changed=0" in hosts("apply", "site.yml").stdout
    assert not due(store, image, 86400)
    origin.stop()
    assert "No changes." in hosts("plan", "site.yml").stdout


def test_a_clock_that_was_set_back_asks(hosts: Folders, origin: RunningRegistry) -> None:
    name = origin.push("shop/web", "1", make_image("first"))
    hosts("pull", name, "-l", "a")
    store = hosts.store("a")
    image = hosts.image("a", name)
    assert image is not None
    looked(store, [image.name])
    assert not due(store, image, 60)
    Path(store.root, "looked.json").write_text(json.dumps({image.name: time.time() + 9999}))
    assert due(store, image, 60)


def test_never_does_not_pull(hosts: Folders, origin: RunningRegistry) -> None:
    name = origin.push("shop/web", "1", make_image("first"))
    hosts.play(container(name, "never"))
    done = hosts("plan", "site.yml", code=1)
    assert "it is not on the host, and pull_policy is never" in done.stdout
    assert hosts.image("a", name) is None


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("x: {image: shop/web:1, pull_policy: sometimes}", "there is no pull_policy 'sometimes'"),
        ("x: {image: shop/web:1, pull_policy: build}", "docker.io/shop/web:1 is not built"),
        (
            "x: {image: shop/web:1, pull_policy: always}\n    y: {image: shop/web:1, pull_policy: never}",
            "another container says always",
        ),
    ],
)
def test_policies_that_cannot_be(hosts: Folders, body: str, message: str) -> None:
    hosts.play(f"- hosts: a\n  containers:\n    {body}\n")
    done = hosts("plan", "site.yml", code=1)
    assert message in done.stderr and "site.yml:" in done.stderr


def test_a_declared_image_has_the_policy(hosts: Folders) -> None:
    hosts.play(
        "- hosts: a\n  images: {web: {pull: shop/web:1}}\n"
        "  containers: {x: {image: web, pull_policy: always}}\n"
    )
    done = hosts("plan", "site.yml", code=1)
    assert "write its pull_policy there" in done.stderr


def test_it_is_no_field_of_the_container(hosts: Folders, origin: RunningRegistry) -> None:
    """Another policy replaces no container, as in Compose."""
    name = origin.push("shop/web", "1", make_image("first"))
    hosts("pull", name, "-l", "a")
    seen = []
    for policy in ("missing", "always"):
        hosts.play(container(name, policy))
        told = json.loads(hosts("plan", "site.yml", "--json", code=2).stdout)["hosts"]["a"][
            "changes"
        ]
        seen.append([c for c in told if c["resource"].startswith("container.")])
    assert seen[0] == seen[1] != []
