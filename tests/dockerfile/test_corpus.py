"""Files in the shapes of real projects: they are read, planned, gone through, and the lint has its say."""

from __future__ import annotations

from pathlib import Path

import pytest
from hostctl_host.contract.dockerfile.graph import Graph
from hostctl_host.contract.dockerfile.instructions import Arg, Dockerfile, Instruction
from hostctl_host.contract.dockerfile.lint import check
from hostctl_host.contract.dockerfile.parse import parse
from hostctl_host.contract.dockerfile.scope import Scope, global_arguments

CORPUS = sorted((Path(__file__).parent / "corpus").glob("*.Dockerfile"))
BUILD_ARGS = {"APP": "web/shop.v2"}

NEEDED = {
    "python": "base dependencies stage-3",
    "node": "base deps build final",
    "go": "build stage-2",
    "rust": "chef planner builder runtime",
    "java": "build stage-1",
    "php": "vendor stage-1",
    "rails": "base build stage-2",
    "database": "stage-0",
    "windows": "stage-0",
    "monorepo": "sources app release",
    "legacy": "stage-0",
    "beginner": "stage-0",
}
FINDINGS = {
    "node": "LegacyKeyValueFormat:23 JSONArgsRecommended:29",
    "java": "WorkdirRelativePath:17 JSONArgsRecommended:21",
    "database": "NoEmptyContinuation:5 LegacyKeyValueFormat:13 SecretsUsedInArgOrEnv:13",
    "legacy": "MaintainerDeprecated:2 LegacyKeyValueFormat:4 InteractiveInstall:6"
    " WorkdirRelativePath:9 JSONArgsRecommended:13 MultipleInstructionsDisallowed:13"
    " ConsistentInstructionCasing:14",
    "beginner": "LostChange:2 TildeInPath:3 WorkdirRelativePath:3 CopyOutsideContext:4 InlineComment:5"
    " LegacyKeyValueFormat:6 SpacesAroundEquals:6 UndefinedVar:7 HostPathInVolume:8"
    " ExposeInvalidFormat:9 HostPathInVolume:9 BrokenJSON:10 JSONArgsRecommended:10"
    " SpaceInExecutable:11",
}


def read(name: str) -> Dockerfile:
    path = Path(__file__).parent / "corpus" / f"{name}.Dockerfile"
    return parse(path.read_bytes(), path.name)


def gone_through(name: str) -> dict[str, tuple[Scope, list[Instruction]]]:
    """By stage: its scope at its end, and its instructions with their variables replaced."""
    file = read(name)
    known = global_arguments(file, BUILD_ARGS)
    found: dict[str, tuple[Scope, list[Instruction]]] = {}
    for plan in Graph(file, known, ("proto",)).needed():
        scope = Scope({"PATH": "/bin"}, known, BUILD_ARGS, file.directives.escape)
        if plan.base.kind == "stage":
            scope = found[plan.base.name][0].child()
        found[plan.stage.title] = scope, [scope.take(one) for one in plan.stage.instructions]
    return found


def test_every_file_is_known() -> None:
    assert {path.name.partition(".")[0] for path in CORPUS} == set(NEEDED)


@pytest.mark.parametrize("name", NEEDED)
def test_each_file_is_read_and_planned(name: str) -> None:
    assert list(gone_through(name)) == NEEDED[name].split()


@pytest.mark.parametrize("name", NEEDED)
def test_the_lint_finds_what_is_there_and_no_more(name: str) -> None:
    found = check(read(name), BUILD_ARGS, contexts=("proto",))
    assert " ".join(f"{one.rule}:{one.lines.first}" for one in found) == FINDINGS.get(name, "")


@pytest.mark.parametrize("name", NEEDED)
def test_an_instruction_s_own_text_says_the_same(name: str) -> None:
    """What stands in the history and in triggers is read back to the same words."""
    file = read(name)
    escape = f"# escape={file.directives.escape}\n"
    for stage in file.stages:
        for one in stage.instructions:
            if getattr(getattr(one, "command", one), "heredocs", ()) or getattr(
                one, "documents", ()
            ):
                continue
            again = parse(f"{escape}FROM x\n{one.text}").stages[0].instructions[0]
            assert type(again) is type(one)
            for field in vars(one):
                if field not in ("lines", "comments", "instruction"):
                    assert getattr(again, field) == getattr(one, field)


def test_values_are_those_of_a_shell() -> None:
    scope, _ = gone_through("monorepo")["app"]
    assert scope.environment == {
        "PATH": "/bin",
        "APP_DIR": "/repo/apps/web/shop.v2",
        "APP_NAME": "shop.v2",
        "APP_FLAT": "web-shop.v2",
        "APP_EXT": "web/shop",
    }
    _, instructions = gone_through("php")["stage-1"]
    first, second = (getattr(one, "documents", ()) for one in instructions[1:3])
    assert first[0].content == (
        "<Directory /var/www/html/public>\n    AllowOverride All\n"
        "    SetEnv APP_ENV prod\n</Directory>\n"
    )
    assert [one.content for one in second] == [
        'memory_limit = 256M\ndate.timezone = "UTC"\n',
        '#!/bin/sh\nexec apache2-foreground "$@"\n',
    ]
    _, instructions = gone_through("windows")["stage-0"]
    assert [getattr(one, "destination", "") for one in instructions][4] == "c:\\"


def test_arguments_of_the_platform_reach_the_stage() -> None:
    scope, instructions = gone_through("go")["build"]
    assert scope.arguments == {
        "TARGETOS": "linux", "TARGETARCH": "amd64", "TARGETVARIANT": "", "VERSION": "dev",
    }  # fmt: skip
    assert any(isinstance(one, Arg) for one in instructions)
