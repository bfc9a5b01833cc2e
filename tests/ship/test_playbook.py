"""`build:` in a play of several hosts: one builds, the others get the image, and plan and apply say the same."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from tests.ship.conftest import Folders

pytestmark = pytest.mark.root

SITE = "- hosts: a,b,c\n  images:\n    shop/web:1: {build: ./web}\n"


def steps(hosts: Folders) -> dict[str, int]:
    """How many steps each host has in its build cache."""
    return {
        name: len(os.listdir(folder))
        if (folder := hosts.data(name) / "build/cache").is_dir()
        else 0
        for name in ("a", "b", "c", "localhost")
    }


def changed(text: str) -> dict[str, list[str]]:
    told = json.loads(text)["hosts"]
    return {name: [c["resource"] for c in report["changes"]] for name, report in told.items()}


def test_the_first_host_builds_and_the_others_get_it(hosts: Folders) -> None:
    hosts.context(file=b"one")
    hosts.play(SITE)
    plan = hosts("plan", "site.yml", code=2).stdout
    assert (
        "b, c:\n  + image.shop/web:1  (does not exist)\n      note: from a, which builds it" in plan
    )
    assert (
        "a:\n  + image.shop/web:1  (does not exist)\n      note: builds from Dockerfile:2" in plan
    )
    planned = changed(hosts("plan", "site.yml", "--json", code=2).stdout)
    assert changed(hosts("apply", "site.yml", "--json").stdout) == planned
    assert len({hosts.id(name, "shop/web:1") for name in "abc"}) == 1
    assert {name for name, count in steps(hosts).items() if count} == {"a"}
    found = [hosts.image(name, "shop/web:1") for name in "abc"]
    assert len({(one.source, one.pinned, one.manifest) for one in found if one}) == 1
    assert "No changes." in hosts("plan", "site.yml").stdout
    again = hosts("apply", "site.yml", "--json").stdout
    assert changed(again) == {"a": [], "b": [], "c": []}


def test_only_what_is_new_travels(hosts: Folders) -> None:
    """The plan knows the amount where the image is built already; a layer that is there is not sent."""
    folder = hosts.context(big=os.urandom(3_000_000))
    (folder / "Dockerfile").write_text("FROM scratch\nCOPY big /big\nCOPY small /small\n")
    (folder / "small").write_text("1")
    hosts.play(SITE)
    hosts("apply", "site.yml")
    (folder / "small").write_text("2" * 100_000)
    hosts("apply", "site.yml", "-l", "a")
    plan = hosts("plan", "site.yml", code=2).stdout
    assert re.search(r"note: from a: 0\.1 MB in 1 layer\n", plan), plan
    kept = {name: (hosts.data(name) / "store/blobs/sha256") for name in "bc"}
    before = {
        name: {p.name: p.stat().st_ino for p in folder.iterdir()} for name, folder in kept.items()
    }
    hosts("apply", "site.yml")
    assert len({hosts.id(name, "shop/web:1") for name in "abc"}) == 1
    for name, folder in kept.items():
        now = {p.name: p.stat().st_ino for p in folder.iterdir()}
        both = before[name].keys() & now.keys()
        assert any((folder / one).stat().st_size > 3_000_000 for one in both)
        assert all(now[one] == before[name][one] for one in both), "a blob was written again"


def test_a_failed_build_is_said_once_and_is_the_reason_of_the_others(hosts: Folders) -> None:
    hosts.context(file=b"one")
    (hosts.folder / "web/Dockerfile").write_text("FROM scratch\nCOPY nothing /\n")
    hosts.play(SITE)
    done = hosts("apply", "site.yml", code=2)
    assert done.stdout.count("nothing") == 1, done.stdout
    assert "b, c:\n  ✗ image.shop/web:1: cannot get shop/web:1: " in done.stdout
    assert "see a" in done.stdout
    (hosts.folder / "web/nothing").write_text("something")
    hosts("apply", "site.yml")
    assert "No changes." in hosts("plan", "site.yml").stdout


def test_on_names_the_builder(hosts: Folders) -> None:
    hosts.context(file=b"one")
    hosts.play(
        "- hosts: a,b\n  images:\n"
        "    shop/b:1: {build: ./web, on: b}\n"
        "    shop/here:1: {build: ./web, on: localhost}\n"
    )
    plan = hosts("plan", "site.yml", code=2).stdout
    assert "from b, which builds it" in plan and "from localhost, which builds it" in plan
    assert "localhost:\n  + image.shop/here:1" in plan
    hosts("apply", "site.yml")
    assert {name for name, count in steps(hosts).items() if count} == {"b", "localhost"}
    assert hosts.image("localhost", "shop/b:1") is None
    assert hosts.id("a", "shop/b:1") == hosts.id("b", "shop/b:1")
    ids = {hosts.id(name, "shop/here:1") for name in ("a", "b", "localhost")}
    assert len(ids) == 1
    assert "No changes." in hosts("plan", "site.yml").stdout
    hosts("destroy", "site.yml", "--yes")
    assert hosts.image("localhost", "shop/here:1") is None


def test_hosts_that_want_different_builds_build_their_own(hosts: Folders) -> None:
    hosts.context(file=b"one")
    (hosts.folder / "web/Dockerfile").write_text("FROM scratch\nARG WHO\nCOPY file /$WHO\n")
    hosts.play(
        "- hosts: a,b,c\n  images:\n    shop/web:1:\n      build:\n        context: ./web\n"
        "        args: {WHO: \"{{ 'b' if inventory_hostname == 'b' else 'others' }}\"}\n"
    )
    plan = hosts("plan", "site.yml", code=2).stdout
    assert (
        "a, b:\n" in plan
        and "c:\n  + image.shop/web:1  (does not exist)\n      note: from a" in plan
    )
    hosts("apply", "site.yml")
    assert hosts.id("a", "shop/web:1") == hosts.id("c", "shop/web:1") != hosts.id("b", "shop/web:1")
    assert "No changes." in hosts("plan", "site.yml").stdout
    hosts.play(hosts.site.read_text() + "      on: a\n")
    done = hosts("apply", "site.yml", code=2)
    assert "cannot build shop/web:1 on a for b: they want different builds" in done.stdout


def test_an_image_has_all_its_names_everywhere(hosts: Folders) -> None:
    hosts.context(file=b"one")
    hosts.play(
        SITE.replace("{build: ./web}", "{build: {context: ./web, tags: ['shop/web:latest']}}")
    )
    hosts("apply", "site.yml")
    ids = {hosts.id(name, tag) for name in "abc" for tag in ("shop/web:1", "shop/web:latest")}
    assert len(ids) == 1


def test_the_build_of_a_container_is_shared_too(hosts: Folders) -> None:
    hosts.context(file=b"one")
    hosts.play("- hosts: a,b\n  containers:\n    x: {build: ./web, command: [/none]}\n")
    plan = hosts("plan", "site.yml", code=2).stdout
    assert "+ image.site-x  (does not exist)\n      note: from a, which builds it" in plan


def test_batches_after_the_first_get_what_the_first_has_built(hosts: Folders) -> None:
    hosts.context(file=b"one")
    hosts.play(SITE.replace("hosts: a,b,c", "hosts: a,b,c\n  serial: 1"))
    hosts("apply", "site.yml")
    assert {name for name, count in steps(hosts).items() if count} == {"a"}
    assert len({hosts.id(name, "shop/web:1") for name in "abc"}) == 1
    assert "No changes." in hosts("plan", "site.yml").stdout


def test_a_builder_whose_turn_comes_later(hosts: Folders) -> None:
    """It builds for the first batch; when its own comes, nothing is left to do, in the plan neither."""
    hosts.context(file=b"one")
    site = SITE.replace("hosts: a,b,c", "hosts: a,b,c\n  serial: 1")
    hosts.play(site.replace("{build: ./web}", "{build: ./web, on: c}"))
    planned = changed(hosts("plan", "site.yml", "--json", code=2).stdout)
    assert planned == {name: ["image.shop/web:1"] for name in "abc"}
    assert changed(hosts("apply", "site.yml", "--json").stdout) == planned
    assert {name for name, count in steps(hosts).items() if count} == {"c"}
    assert "No changes." in hosts("plan", "site.yml").stdout


def test_a_limited_run_builds_among_its_own(hosts: Folders) -> None:
    hosts.context(file=b"one")
    hosts.play(SITE)
    hosts("apply", "site.yml", "-l", "b")
    assert {name for name, count in steps(hosts).items() if count} == {"b"}
    assert hosts.image("a", "shop/web:1") is None


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("{pull: shop/web:1, on: a}", "it is not built"),
        ("{build: ./web, on: nowhere}", "nowhere"),
        ("{build: ./web, on: all}", "it is 4 hosts"),
        ("{build: ./web, pull_policy: daily}", "knows build, missing and never"),
        ("{bootstrap: {}, pull_policy: always}", "pull_policy is for what is pulled or built"),
        ("{build: ./web, shared: true}", "hostctl sets it"),
    ],
)
def test_what_cannot_be_is_said_before_a_host_is_touched(
    hosts: Folders, body: str, message: str
) -> None:
    hosts.context(file=b"one")
    hosts.play(f"- hosts: a,b\n  images:\n    shop/web:1: {body}\n")
    done = hosts("plan", "site.yml", code=1)
    assert message in done.stderr and "site.yml:3" in done.stderr
    assert not Path(hosts.data("a"), "store").exists()
    assert not Path(hosts.folder, "a", "run").exists()


def test_missing_and_never_leave_a_build_alone(hosts: Folders) -> None:
    hosts.context(file=b"one")
    hosts.play(SITE.replace("./web}", "./web, pull_policy: never}"))
    assert "pull_policy is never" in hosts("plan", "site.yml", code=1).stdout
    hosts.play(SITE.replace("./web}", "./web, pull_policy: missing}"))
    hosts("apply", "site.yml")
    first = hosts.id("b", "shop/web:1")
    hosts.context(file=b"two")
    assert "No changes." in hosts("plan", "site.yml").stdout
    hosts.play(SITE.replace("./web}", "./web, pull_policy: build}"))
    hosts("apply", "site.yml")
    assert hosts.id("b", "shop/web:1") == hosts.id("a", "shop/web:1") != first


TAGGED = """\
- hosts: a,b
  project: {project}
  images:
    {project}/web:1: {{build: {{context: ./web, tags: [{tags}]}}}}
"""


def test_further_names_of_a_build_are_in_the_plan_and_go_with_it(hosts: Folders) -> None:
    hosts.context(file=b"one")
    hosts.play(TAGGED.format(project="shop", tags=""))
    hosts("apply", "site.yml")
    hosts.play(TAGGED.format(project="shop", tags="shop/web:latest"))
    assert 'build.tags: [] → ["shop/web:latest"]' in hosts("plan", "site.yml", code=2).stdout
    hosts("apply", "site.yml")
    assert {hosts.id(host, f"shop/web:{tag}") for host in "ab" for tag in ("1", "latest")} == {
        hosts.id("a", "shop/web:1")
    }
    assert "No changes." in hosts("plan", "site.yml").stdout
    hosts("rmi", "shop/web:latest", "-l", "b")
    planned = changed(hosts("plan", "site.yml", "--json", code=2).stdout)
    assert planned == {"a": [], "b": ["image.shop/web:1"]}
    hosts("apply", "site.yml")
    hosts("destroy", "--yes", "site.yml")
    assert [hosts.image(host, f"shop/web:{tag}") for host in "ab" for tag in ("1", "latest")] == (
        [None] * 4
    )


def test_a_further_name_that_another_project_declares_stays(hosts: Folders) -> None:
    hosts.context(file=b"one")
    hosts.play(TAGGED.format(project="other", tags=""))
    hosts("apply", "site.yml")
    other = hosts.site.rename(hosts.folder / "other.yml")
    hosts.play(TAGGED.format(project="shop", tags='"other/web:1", "shop/web:2"'))
    hosts("apply", "site.yml")
    hosts("destroy", "--yes", "site.yml")
    assert hosts.image("a", "shop/web:2") is None
    assert "No changes." in hosts("plan", str(other)).stdout


@pytest.mark.parametrize(
    ("images", "said"),
    [
        ("Shop/Web:1: {build: ./web}", "'Web' may have lowercase letters"),
        ("a:1: {build: {context: ./web, tags: ['b c']}}", "cannot use 'b c' as an image"),
        (f"'a@sha256:{'0' * 64}': {{build: ./web}}", "gets its digest by being made"),
        ("a:1: {build: {contxt: ./web}}", "did you mean context?"),
        ("a:1: {build: 'https://git.example/web.git'}", "contexts are not fetched"),
    ],
)
def test_what_no_host_could_name_or_find_is_an_error_of_the_playbook(
    hosts: Folders, images: str, said: str
) -> None:
    hosts.context(file=b"one")
    hosts.play(f"- hosts: a\n  images:\n    {images}\n")
    told = hosts("plan", "site.yml", code=1).stderr
    assert said in told
    assert "site.yml:3" in told
