"""Stages: which are needed, in which order, and where each takes from."""

from __future__ import annotations

import pytest
from hostctl_host.contract.dockerfile.errors import DockerfileError
from hostctl_host.contract.dockerfile.graph import Graph, Origin
from hostctl_host.contract.dockerfile.parse import parse
from hostctl_host.contract.dockerfile.scope import global_arguments

FILE = """ARG BASE=debian:12
FROM ${BASE} AS base
FROM base AS unused
FROM golang AS Build
COPY --from=base /a /a
FROM scratch AS assets
FROM --platform=$TARGETPLATFORM base
COPY --from=BUILD /b /b
COPY --from=3 /c /c
RUN --mount=from=assets,target=/x --mount=type=cache,from=busybox,target=/c x
COPY --from=biuld /d /d
"""


def graph(text: str, contexts: tuple[str, ...] = (), **build_args: str) -> Graph:
    file = parse(text)
    return Graph(file, global_arguments(file, build_args), contexts)


def test_only_what_is_needed_and_in_order() -> None:
    plans = graph(FILE).needed()
    assert [plan.stage.title for plan in plans] == ["base", "build", "assets", "stage-4"]
    assert [plan.needs for plan in plans] == [(), (0,), (), (0, 2, 3)]
    assert plans[-1].platform == "linux/amd64"
    assert plans[-1].origins == {
        "BUILD": Origin("stage", "build", 2),
        "3": Origin("stage", "assets", 3),
        "assets": Origin("stage", "assets", 3),
        "busybox": Origin("image", "busybox"),
        "biuld": Origin("image", "biuld", hint="did you mean the stage build?"),
    }


def test_bases_are_stages_images_or_nothing() -> None:
    plans = graph(FILE, BASE="alpine").needed()
    assert [plan.base for plan in plans] == [
        Origin("image", "alpine"),
        Origin("image", "golang", hint=""),
        Origin("scratch", "scratch"),
        Origin("stage", "base", 0),
    ]


@pytest.mark.parametrize(("target", "title"), [("BUILD", "build"), ("0", "base"), ("", "stage-4")])
def test_targets(target: str, title: str) -> None:
    assert graph(FILE).needed(target)[-1].stage.title == title


def test_a_named_context_replaces_a_stage_or_an_image() -> None:
    plans = graph(FILE, ("base", "golang")).needed("build")
    assert [plan.base for plan in plans] == [Origin("context", "golang")]
    assert plans[0].origins["base"] == Origin("context", "base")
    (plan,) = graph(FILE, ("base",)).needed("base")
    assert plan.base == Origin("context", "base")
    assert plan.stage.instructions == ()


def test_triggers_of_a_stage_run_in_the_one_that_is_from_it() -> None:
    text = "FROM a AS x\nFROM b AS base\nONBUILD COPY --from=x /a /a\nFROM base"
    assert graph(text).needed()[-1].needs == (0, 1)


@pytest.mark.parametrize(
    ("text", "target", "said"),
    [
        (FILE, "biuld", "did you mean build?"),
        ("FROM a", "x", "no stage has a name"),
        ("FROM $NONE", "", "empty"),
        ("FROM --platform=$NONE a", "", "empty"),
        ("FROM a AS x\nCOPY --from=x a b", "", "this stage itself"),
        ("FROM a\nCOPY --from=1 a b\nFROM b", "0", "comes later"),
        ("FROM a\nCOPY --from=y a b\nFROM b AS y", "0", "comes later"),
        ("FROM a\nCOPY --from=7 a b", "", "there are 1"),
    ],
)
def test_what_cannot_be_built_is_explained(text: str, target: str, said: str) -> None:
    with pytest.raises(DockerfileError) as caught:
        graph(text).needed(target)
    assert said in caught.value.message + caught.value.hint
    assert caught.value.where.startswith("Dockerfile")
