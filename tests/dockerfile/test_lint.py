"""`build --check`: each rule finds its mistake, and nothing where there is none."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from hostctl_host.build.site import Site
from hostctl_host.build.stages import Stages
from hostctl_host.contract.build import Build
from hostctl_host.contract.dockerfile.errors import DockerfileError
from hostctl_host.contract.dockerfile.ignore import Patterns
from hostctl_host.contract.dockerfile.lint import check, refuse, render
from hostctl_host.contract.dockerfile.parse import parse
from hostctl_host.contract.dockerfile.rules import DESCRIPTIONS, EXPERIMENTAL

CASES = [
    ("StageNameCasing", "FROM a AS B\n", "FROM a AS b\n"),
    ("FromAsCasing", "FROM a as b\n", "FROM a AS b\n"),
    ("NoEmptyContinuation", "FROM a\nRUN x \\\n\n  y\n", "FROM a\nRUN x \\\n  y\n"),
    ("ConsistentInstructionCasing", "FROM a\nRUN x\nrun y\n", "from a\nrun x\nrun y\n"),
    ("ConsistentInstructionCasing", "FROM a\nRun x\n", "FROM a\nRUN x\n"),
    ("DuplicateStageName", "FROM a AS b\nFROM a AS b\n", "FROM a AS b\nFROM a AS c\n"),
    ("ReservedStageName", "FROM a AS scratch\n", "FROM scratch AS a\n"),
    ("JSONArgsRecommended", "FROM a\nCMD x y\n", 'FROM a\nSHELL ["/bin/sh"]\nCMD x y\n'),
    ("MaintainerDeprecated", "FROM a\nMAINTAINER x\n", "FROM a\nLABEL maintainer=x\n"),
    ("UndefinedArgInFrom", "FROM a:$X\n", "ARG X\nFROM a:${X:-1}\n"),
    ("UndefinedVar", "FROM a\nENV NAME=x\nWORKDIR /$NAEM\n", "FROM a\nWORKDIR /$SOMETHING\n"),
    ("UndefinedVar", "FROM scratch\nWORKDIR /$X\n", "FROM scratch\nARG X\nWORKDIR /$X$PATH\n"),
    ("WorkdirRelativePath", "FROM a\nWORKDIR b\n", "FROM a\nWORKDIR /a\nWORKDIR b\n"),
    (
        "MultipleInstructionsDisallowed",
        'FROM a\nCMD ["a"]\nCMD ["b"]\n',
        'FROM a\nCMD ["a"]\nFROM a\nCMD ["b"]\n',
    ),
    ("LegacyKeyValueFormat", "FROM a\nENV x y\n", "FROM a\nENV x=y\n"),
    (
        "RedundantTargetPlatform",
        "FROM --platform=$TARGETPLATFORM a\n",
        "FROM --platform=$BUILDPLATFORM a\n",
    ),
    ("SecretsUsedInArgOrEnv", "FROM a\nARG db_password\n", "FROM a\nENV PASSWORD_FILE=/x\n"),
    ("InvalidDefaultArgInFrom", "ARG X\nFROM a:$X\n", "ARG X=1\nFROM a:$X\n"),
    (
        "FromPlatformFlagConstDisallowed",
        "FROM --platform=linux/arm64 a\n",
        "FROM --platform=linux/arm64 a AS a-arm64\n",
    ),
    ("ExposeProtoCasing", "FROM a\nEXPOSE 80/TCP\n", "FROM a\nEXPOSE 80/tcp\n"),
    ("ExposeInvalidFormat", "FROM a\nEXPOSE 127.0.0.1:80:80\n", "FROM a\nEXPOSE 80-81\n"),
    (
        "InvalidDefinitionDescription",
        "# check=experimental=all\n\n# the base\nFROM a AS b\n",
        "# check=experimental=all\n\n# b is the base\nFROM a AS b\n\n# something\n\nARG c\n",
    ),
    ("BrokenJSON", "FROM a\nCMD ['a', 'b']\n", 'FROM a\nCMD ["a", "b"]\n'),
    ("BrokenJSON", 'FROM a\nENTRYPOINT ["a", "b",]\n', "FROM a\nRUN [ -f x ]\n"),
    ("BrokenJSON", "FROM a\nCMD [a, b]\n", "FROM a\nRUN [ -f x ] && [ -f y ]\n"),
    ("BrokenJSON", "FROM a\nCMD [“a”]\n", "FROM a\nRUN x ['a']\n"),
    ("BrokenJSON", "FROM a\nVOLUME ['/a']\n", 'FROM a\nVOLUME ["/a"]\n'),
    ("SpaceInExecutable", 'FROM a\nCMD ["python app.py", "x"]\n', 'FROM a\nCMD ["a", "b c"]\n'),
    ("LostChange", "FROM a\nRUN cd /x\n", "FROM a\nRUN cd /x && make\n"),
    ("LostChange", "FROM a\nRUN export A=b\n", "FROM a\nRUN export A=b; env\n"),
    (
        "InteractiveInstall",
        "FROM a\nRUN apt-get install x\n",
        "FROM a\nRUN apt-get install -qy x\n",
    ),
    ("CopyOutsideContext", "FROM a\nCOPY ../x y\n", "FROM a\nCOPY --from=b ../x y\n"),
    ("InlineComment", "FROM a\nCOPY a b # c\n", "FROM a\nRUN a # b\n"),
    ("SpacesAroundEquals", "FROM a\nENV x = y\n", "FROM a\nENV x=y\n"),
    ("TildeInPath", "FROM a\nWORKDIR ~/x\n", "FROM a\nWORKDIR /x~\n"),
    ("HostPathInVolume", "FROM a\nVOLUME ./data:/data\n", "FROM a\nVOLUME /data\n"),
    ("HostPathInVolume", "FROM a\nEXPOSE 8080:80\n", "FROM a\nEXPOSE 80\n"),
]


def rules(text: str) -> list[str]:
    return [one.rule for one in check(parse(text))]


@pytest.mark.parametrize(("rule", "wrong", "right"), CASES)
def test_each_rule_tells_wrong_from_right(rule: str, wrong: str, right: str) -> None:
    assert rule in rules(wrong)
    assert rule not in rules(right)


def test_every_rule_has_a_case() -> None:
    assert {case[0] for case in CASES} | {"CopyIgnoredFile"} == set(DESCRIPTIONS)


def test_copies_of_ignored_files() -> None:
    text = "# check=experimental=CopyIgnoredFile\nFROM a\nCOPY {} /x\n"
    ignore = Patterns.read("secret\n*.tmp")

    def found(source: str, patterns: Patterns = ignore) -> list[str]:
        return [one.rule for one in check(parse(text.format(source)), ignore=patterns)]

    assert found("./secret/key") == found("/x.tmp") == ["CopyIgnoredFile"]
    assert found("other") == found(".") == found("https://x/secret") == []
    assert found("secret", Patterns.read("secret\n!secret/x")) == []
    plain = parse("FROM a\nCOPY secret /x\n")
    assert check(plain, ignore=ignore) == []


@pytest.mark.parametrize("skip", ["JSONArgsRecommended", "all", "Other, JSONArgsRecommended"])
def test_rules_can_be_skipped(skip: str) -> None:
    assert rules(f"# check=skip={skip}\nFROM a\nCMD x\n") == []


def test_variables_of_a_known_base_are_defined() -> None:
    file = parse("FROM java\nWORKDIR $JAVA_HOME/$OTHER\n")
    (found,) = check(file, environments={"java": {"JAVA_HOME": "/opt/java"}})
    assert found.message == "Usage of undefined variable '$OTHER'"


def test_stages_from_stages_know_their_variables_and_workdir() -> None:
    text = "FROM scratch AS a\nARG X=1\nWORKDIR /a\nFROM a\nWORKDIR b$X\n"
    assert rules(text) == []


def test_a_target_is_looked_at_alone() -> None:
    file = parse('FROM a AS one\nCMD x\nFROM a AS two\nCMD ["x"]\n')
    assert [one.rule for one in check(file, target="two")] == []
    assert [one.rule for one in check(file, target="one")] == ["JSONArgsRecommended"]


def test_what_cannot_be_built_is_an_error() -> None:
    for text in ("FROM a\nUSER ${X\n", "FROM a\nSTOPSIGNAL x\n", "FROM a\nCOPY --from=1 a b\n"):
        with pytest.raises(DockerfileError, match="Dockerfile:2"):
            check(parse(text))


def test_findings_are_errors_where_the_file_says_so() -> None:
    text = "# check=error={}\nFROM a\nCMD x\n"
    file = parse(text.format("true"))
    with pytest.raises(DockerfileError, match=r"Dockerfile:3: .*JSONArgsRecommended"):
        refuse(check(file), file)
    refuse([], file)
    file = parse(text.format("false"))
    refuse(check(file), file)


def test_a_build_ends_before_its_first_step_where_findings_are_errors() -> None:
    text = "# check=error=true\nFROM a AS x\nCMD x\nFROM a\n"
    with pytest.raises(DockerfileError, match=r"Dockerfile:3: .*JSONArgsRecommended"):
        Stages(cast("Site", SimpleNamespace(build=Build(dockerfile_inline=text, target="x"))))
    Stages(cast("Site", SimpleNamespace(build=Build(dockerfile_inline=text))))


def test_findings_are_shown_with_their_lines() -> None:
    file = parse("FROM debian\nRUN x\n\nCMD python app.py\n# end", "web/Dockerfile")
    assert render(check(file), file) == (
        "WARNING: JSONArgsRecommended: CMD and ENTRYPOINT as a JSON list get signals themselves\n"
        "JSON arguments recommended for CMD to prevent unintended behavior related to OS signals\n"
        "web/Dockerfile:4\n"
        "   2 |     RUN x\n"
        "   3 |\n"
        "   4 | >>> CMD python app.py\n"
        "   5 |     # end\n"
        "\n"
        "Check complete, 1 warning has been found.\n"
    )
    assert render([], file) == "Check complete, no warnings found.\n"


def test_the_documentation_names_every_rule() -> None:
    text = (Path(__file__).parents[2] / "docs" / "dockerfile.md").read_text()
    rows = [
        line.split("|")[1].split("(")[0].strip() for line in text.splitlines() if line[:1] == "|"
    ]
    assert set(DESCRIPTIONS) <= set(rows)
    for rule in EXPERIMENTAL:
        assert f"{rule} (experimental)" in text
