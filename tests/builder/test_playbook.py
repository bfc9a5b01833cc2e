"""`build:` in a playbook: the plan says what would be built and why, apply builds, and then nothing differs."""

from __future__ import annotations

from pathlib import Path

from tests.builder.test_build import image


def playbook(folder: Path, body: str) -> str:
    path = folder / "site.yml"
    path.write_text(f"- hosts: all\n  images:\n    made/here:1: {{build: {body}}}\n")
    return str(path)


def test_plan_apply_plan(hostctl, context, tmp_path) -> None:
    folder = context("FROM BASE\nARG WHO\nCOPY . /src\nRUN echo $WHO > /who\n", a="1", b="1")
    site = playbook(tmp_path, "{context: context, args: {WHO: ada}, tags: ['made/too:1']}")
    assert "builds from" in hostctl("plan", site, code=2).stdout
    assert hostctl.store.image("made/here:1") is None
    hostctl("apply", site)
    assert image(hostctl, "made/too:1") == image(hostctl, "made/here:1")
    hostctl("plan", site)
    (folder / "a").write_text("2")
    assert "Dockerfile:3: COPY . /src (a changed)" in hostctl("plan", site, code=2).stdout
    hostctl("apply", site)
    hostctl("plan", site)


def test_no_cache_builds_each_time_and_converges(hostctl, context, tmp_path) -> None:
    context("FROM BASE\nRUN echo 1\n")
    site = playbook(tmp_path, "{context: context, no_cache: true}")
    hostctl("apply", site)
    assert "no_cache" in hostctl("plan", site, code=2).stdout
    hostctl("apply", site)


def test_a_wrong_dockerfile_is_found_before_a_host_is_touched(hostctl, context, tmp_path) -> None:
    context("FROM BASE\nRUNN echo\n")
    done = hostctl("plan", playbook(tmp_path, "context"), code=1)
    assert "Dockerfile:2" in done.stderr
    done = hostctl("plan", playbook(tmp_path, "nowhere"), code=1)
    assert "there is no such folder" in done.stderr
