"""Variables by place, and instructions with their variables replaced."""

from __future__ import annotations

import pytest
from hostctl_host.contract.dockerfile import instructions as ins
from hostctl_host.contract.dockerfile.apply import expand_instruction
from hostctl_host.contract.dockerfile.errors import DockerfileError
from hostctl_host.contract.dockerfile.parse import parse
from hostctl_host.contract.dockerfile.ports import exposed_ports
from hostctl_host.contract.dockerfile.scope import (
    Platform,
    Scope,
    global_arguments,
    proxy_environment,
    unused_arguments,
)


def scopes(text: str, build_args: dict[str, str] | None = None, **base: str) -> list[Scope]:
    """The variables at the end of each stage; a stage that is FROM another one takes its scope."""
    file = parse(text)
    known = global_arguments(file, build_args or {})
    found: dict[str, Scope] = {}
    for stage in file.stages:
        parent = found.get(stage.start.base)
        scope = parent.child() if parent else Scope(base, known, build_args or {})
        for one in stage.instructions:
            scope.take(one)
        found[stage.title] = scope
    return list(found.values())


def test_env_is_of_the_image_and_arg_is_not() -> None:
    (scope,) = scopes("FROM x\nARG A=1\nENV B=$A C=$B", B="base")
    assert scope.environment == {"B": "1", "C": "base"}
    assert scope.variables == {"A": "1", "B": "1", "C": "base"}
    assert scope.arguments == {"A": "1"}


def test_the_later_one_of_arg_and_env_holds() -> None:
    first, second = scopes("FROM x\nARG A=arg\nENV A=env\nFROM x\nENV A=env\nARG A=arg")
    assert (first.variables["A"], second.variables["A"]) == ("env", "arg")
    assert second.environment["A"] == "env"


def test_build_arguments_go_before_defaults_where_they_are_declared() -> None:
    text = "ARG G=g\nARG H=$G-h\nFROM x\nARG A=1\nARG G\nARG H\nARG B\nARG C=${A}c\nFROM x"
    first, second = scopes(text, {"A": "2", "G": "given", "NEVER": "x"})
    assert first.variables == {"A": "2", "G": "given", "H": "given-h", "C": "2c"}
    assert first.arguments["B"] is None
    assert second.variables == {}


def test_stages_from_stages_inherit_arguments() -> None:
    _, second = scopes("FROM x AS one\nARG A=1\nENV B=2\nFROM one\nENV C=$A$B")
    assert second.environment["C"] == "12"


def test_platforms_are_global_arguments() -> None:
    file = parse("FROM x AS a\nFROM y AS b")
    known = global_arguments(
        file, {"BUILDOS": "other"}, target="a", platform=Platform("linux", "arm", "v7")
    )
    assert known["TARGETPLATFORM"] == "linux/arm/v7"
    assert (known["TARGETARCH"], known["TARGETVARIANT"], known["TARGETSTAGE"]) == ("arm", "v7", "a")
    assert (known["BUILDPLATFORM"], known["BUILDOS"]) == ("linux/amd64", "other")
    (scope,) = scopes("FROM x\nARG TARGETARCH\nARG TARGETOS")
    assert scope.variables == {"TARGETARCH": "amd64", "TARGETOS": "linux"}


def test_proxies_need_no_declaration() -> None:
    given = {"http_proxy": "p", "NO_PROXY": "n", "OTHER": "o"}
    assert proxy_environment(given) == {
        "http_proxy": "p", "HTTP_PROXY": "p", "no_proxy": "n", "NO_PROXY": "n",
    }  # fmt: skip
    assert unused_arguments(parse("FROM x\nARG USED"), {**given, "USED": ""}) == ("OTHER",)


@pytest.mark.parametrize(
    ("text", "field", "value"),
    [
        ("WORKDIR /a/$A b", "path", "/a/one b"),
        ("USER ${U:-root}:$A", "user", "root:one"),
        ("EXPOSE $P 90/udp", "ports", ("80", "81/tcp", "90/udp")),
        ("VOLUME /$A ${A}2", "paths", ("/one", "one2")),
        ('VOLUME ["/$A"]', "paths", ("/one",)),
        ("STOPSIGNAL SIG$S", "signal", "SIGTERM"),
        ("STOPSIGNAL RTMIN+3", "signal", "RTMIN+3"),
        ("STOPSIGNAL 9", "signal", "9"),
        ("COPY $A 'b' /$A/", "sources", ("one", "b")),
        ("COPY --chown=$A --exclude=$A/* a b", "chown", "one"),
        ("COPY --exclude=$A/* a b", "exclude", ("one/*",)),
        ("COPY --chmod=0${M}4 a b", "chmod", "0754"),
        ("ADD --checksum=sha256:$A a b", "checksum", "sha256:one"),
        ('COPY ["$A x", "/"]', "sources", ("one x",)),
        ("LABEL \"$A b\"='$A'", "pairs", (ins.Pair("one b", "$A"),)),
        ("ENV x $A  'y'", "pairs", (ins.Pair("x", "one  y", legacy=True),)),
        ("RUN --mount=type=cache,target=/c/$A x", "mounts", (ins.Mount("cache", "/c/one"),)),
    ],
)
def test_instructions_are_expanded(text: str, field: str, value: object) -> None:
    one = parse(f"FROM x\n{text}").stages[0].instructions[0]
    known = {"A": "one", "P": "80 81/tcp", "S": "TERM", "M": "75"}
    assert getattr(expand_instruction(one, known), field) == value


@pytest.mark.parametrize(
    "text",
    ["RUN echo $A", 'CMD ["$A"]', "ENTRYPOINT $A", "HEALTHCHECK CMD $A", "ONBUILD RUN $A",
     "MAINTAINER $A", 'SHELL ["$A"]', "COPY --from=x a b", "COPY <<'E' /x\n$A\nE"],
)  # fmt: skip
def test_what_is_not_expanded(text: str) -> None:
    one = parse(f"FROM x\n{text}").stages[0].instructions[0]
    assert expand_instruction(one, {"A": "one"}) == one


@pytest.mark.parametrize(
    "text", ["STOPSIGNAL $X", "STOPSIGNAL SIGNONE", "STOPSIGNAL 65", "STOPSIGNAL RTMIN+31",
             "VOLUME $X", "EXPOSE 65536", "EXPOSE 90-80", "EXPOSE 80/icmp", "EXPOSE eighty",
             "USER ${X", "RUN --mount=type=$X x"],
)  # fmt: skip
def test_values_that_are_wrong_after_expansion_are_refused(text: str) -> None:
    one = parse(f"FROM x\n{text}").stages[0].instructions[0]
    with pytest.raises(DockerfileError, match=r"^cannot "):
        expand_instruction(one, {})


def test_ports_of_the_image() -> None:
    ports = ["80", "8000-8002/UDP", "80/tcp", "127.0.0.1:1:90", "9:91/sctp", "[::1]::92"]
    assert exposed_ports(ports) == (
        "80/tcp", "90/tcp", "91/sctp", "92/tcp", "8000/udp", "8001/udp", "8002/udp",
    )  # fmt: skip
