"""From text to data types: lines, heredocs, flags, each instruction; and what errors say."""

from __future__ import annotations

import pytest
from hostctl_host.contract.dockerfile import instructions as ins
from hostctl_host.contract.dockerfile.errors import DockerfileError
from hostctl_host.contract.dockerfile.parse import parse, parse_trigger
from hypothesis import example, given
from hypothesis import strategies as st


def only(text: str) -> ins.Instruction:
    """The one instruction after a FROM."""
    (one,) = parse(f"FROM scratch\n{text}").stages[0].instructions
    return one


def command(text: str) -> ins.Command:
    one = only(text)
    assert isinstance(one, (ins.Run, ins.Cmd, ins.Entrypoint))
    return one.command


def refused(text: str) -> DockerfileError:
    with pytest.raises(DockerfileError) as caught:
        parse(text)
    return caught.value


# Lines


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("RUN a \\\n  b", "a   b"),
        ("RUN a \\  \n b", "a  b"),
        ("RUN a \\\n# comment\n b", "a  b"),
        ("RUN a \\\n   # comment\n b", "a  b"),
        ("RUN a \\\n\n b", "a  b"),
        ("RUN a # no comment", "a # no comment"),
        ("RUN a \\\\", "a \\\\"),
        ("RUN a \\", "a"),
        ("  run   a", "a"),
        ("RUN\ta\tb", "a\tb"),
        ("RUN a\r\n", "a"),
        ("RUN a \\\r\n b\r\n", "a  b"),
    ],
)
def test_lines_are_joined(text: str, line: str) -> None:
    assert command(text).words == (line,)


def test_another_escape_leaves_backslashes_alone() -> None:
    file = parse("# escape=`\nFROM scratch\nRUN dir C:\\`\n  x\nCOPY a c:\\")
    run, copy = file.stages[0].instructions
    assert isinstance(run, ins.Run) and run.command.words == ("dir C:\\  x",)
    assert isinstance(copy, ins.Copy) and copy.destination == "c:\\"


def test_directives_are_read_before_anything_else_only() -> None:
    top = "# syntax = docker/dockerfile:1\n#escape=`\n# check = skip=A, B;error=true\n"
    assert parse(f"{top}FROM scratch").directives == ins.Directives(
        "`", "docker/dockerfile:1", ("A", "B"), True
    )
    for before in ("\n", "# a comment\n", "# unknown=1\n", "FROM scratch\n"):
        assert parse(f"{before}# escape=`\nFROM scratch").directives.escape == "\\"


@pytest.mark.parametrize(
    "top", ["# escape=\\\n# escape=\\", "# escape=x", "# check=nonsense", "# check=error=maybe"]
)
def test_directives_that_are_wrong_are_refused(top: str) -> None:
    assert "Dockerfile:" in str(refused(f"{top}\nFROM scratch"))


def test_each_instruction_knows_its_lines_and_comments() -> None:
    file = parse("# base\nFROM scratch AS base\n\n# a\n#\n# b\n# c\nRUN x \\\n  y\n\n# d\n\nCMD []")
    run, cmd = file.stages[0].instructions
    assert file.stages[0].start.comments == ("base",)
    assert (run.lines, run.comments) == (ins.Lines(8, 9), ("b", "c"))
    assert (cmd.lines, cmd.comments) == (ins.Lines(13, 13), ())


def test_an_empty_continuation_is_a_warning() -> None:
    (warning,) = parse("FROM scratch\nRUN a \\\n\n\n  b").warnings
    assert (warning.rule, warning.lines.first) == ("NoEmptyContinuation", 4)


def test_bytes_that_are_no_utf8_stay() -> None:
    one = parse(b"\xef\xbb\xbfFROM scratch\nCOPY <<E /x\n\xff\nE\n").stages[0].instructions[0]
    assert isinstance(one, ins.Copy)
    assert one.documents[0].content.encode("utf-8", "surrogateescape") == b"\xff\n"


# Heredocs


def test_a_document_alone_is_the_script() -> None:
    found = command("RUN <<EOF\necho 'a'\n  # b\nEOF")
    assert found.is_document and found.script == "echo 'a'\n  # b\n" and found.shebang is None
    found = command("RUN <<-EOF\n\t#!/bin/sh\n\techo\n\tEOF")
    assert found.script == "#!/bin/sh\necho\n"
    found = command("RUN <<EOF\n#!/usr/bin/env python3\nprint(1)\nEOF")
    assert found.shebang is not None and found.shebang.name == "EOF"


def test_documents_in_a_line_are_for_the_shell() -> None:
    found = command("RUN cat <<A > /x && 3<<-'B' cat\none\nA\n\ttwo\n\tB")
    assert not found.is_document
    assert found.script == "cat <<A > /x && 3<<-'B' cat\none\nA\n\ttwo\nB"


@pytest.mark.parametrize(
    ("word", "name", "expand", "strip"),
    [
        ("<<EOF", "EOF", True, False),
        ("<<-EOF", "EOF", True, True),
        ("<<'EOF'", "EOF", False, False),
        ('<<"EOF"', "EOF", False, False),
        ("<<E'O'F", "EOF", False, False),
        ("<< EOF", "EOF", True, False),
        ("5<<EOF", "EOF", True, False),
        ("<<'two words'", "two words", False, False),
        ("<<$EOF", "$EOF", True, False),
        ("<<file.txt", "file.txt", True, False),
    ],
)
def test_forms_of_heredocs(word: str, name: str, expand: bool, strip: bool) -> None:
    (found,) = command(f"RUN cat {word}\nx\n{name}").heredocs
    assert (found.name, found.expand, found.strip_tabs) == (name, expand, strip)


@pytest.mark.parametrize(
    "line",
    ['RUN ["<<EOF"]', 'RUN "<<EOF"', "RUN '<<EOF'", "RUN a <<<EOF", "CMD <<EOF", "RUN a \\<<E"],
)
def test_what_is_no_heredoc(line: str) -> None:
    assert not command(line).heredocs


def test_copies_take_documents_in_order() -> None:
    one = only("COPY <<X file <<'Y' /dest/\nY\nX\nX\nY")
    assert isinstance(one, ins.Copy)
    assert one.sources == ("file",) and one.destination == "/dest/"
    assert [(doc.name, doc.content, doc.expand) for doc in one.documents] == [
        ("X", "Y\n", True),
        ("Y", "X\n", False),
    ]


def test_a_trigger_keeps_its_documents() -> None:
    one = only("ONBUILD RUN <<E\nx\nE")
    assert isinstance(one, ins.Onbuild) and one.trigger == "RUN <<E\nx\nE"
    inner = parse_trigger(one.trigger)
    assert isinstance(inner, ins.Run) and inner.command.script == "x\n"


# Instructions


@pytest.mark.parametrize(
    ("text", "words", "shell"),
    [
        ('CMD ["a", "b c"]', ("a", "b c"), False),
        ("CMD []", (), False),
        ('CMD [ "a" ]', ("a",), False),
        ('CMD ["\\u00e9"]', ("é",), False),
        ("CMD a b", ("a b",), True),
        ("CMD ['a']", ("['a']",), True),
        ('CMD ["a",]', ('["a",]',), True),
        ('CMD ["a"] x', ('["a"] x',), True),
        ("CMD [ -f x ]", ("[ -f x ]",), True),
        ("CMD [NaN]", ("[NaN]",), True),
    ],
)
def test_exec_form_is_json_and_nothing_else(text: str, words: tuple[str, ...], shell: bool) -> None:
    assert command(text) == ins.Command(words, shell)
    assert command(text.replace("CMD", "ENTRYPOINT")) == ins.Command(words, shell)


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ("ENV a=b", [("a", "b", False)]),
        ("ENV a=b c=", [("a", "b", False), ("c", "", False)]),
        ('ENV a="b c" d=e\\ f', [("a", '"b c"', False), ("d", "e\\ f", False)]),
        ("ENV a=b \\\n c='d'", [("a", "b", False), ("c", "'d'", False)]),
        ("ENV a b c", [("a", "b c", True)]),
        ("ENV a  b=c", [("a", "b=c", True)]),
        ('LABEL "x y"=z', [('"x y"', "z", False)]),
        ("ARG a", [("a", None, False)]),
        ("ARG a b=c", [("a", None, False), ("b", "c", False)]),
    ],
)
def test_pairs(text: str, pairs: list[tuple[str, str | None, bool]]) -> None:
    one = only(text)
    assert isinstance(one, (ins.Env, ins.Label, ins.Arg))
    assert [(pair.name, pair.value, pair.legacy) for pair in one.pairs] == pairs


def test_copy_and_add_have_their_flags() -> None:
    one = only(
        "COPY --from=Build --chown=a:b --chmod=u=rwX,go= --link --parents=false --exclude=*.o"
        " --exclude=.git a b /c/"
    )
    assert isinstance(one, ins.Copy)
    assert (one.from_, one.chown, one.chmod, one.link, one.parents, one.exclude) == (
        "Build", "a:b", "u=rwX,go=", True, False, ("*.o", ".git"),
    )  # fmt: skip
    assert (one.sources, one.destination) == (("a", "b"), "/c/")
    two = only('ADD --checksum=sha256:1 --keep-git-dir --unpack=false ["a b", "c"]')
    assert isinstance(two, ins.Add)
    assert (two.checksum, two.keep_git_dir, two.unpack) == ("sha256:1", True, False)
    assert (two.sources, two.destination) == (("a b",), "c")
    three = only("ADD a b")
    assert isinstance(three, ins.Add) and three.unpack is None


@pytest.mark.parametrize(
    ("text", "mount"),
    [
        ("target=/x", ins.Mount(target="/x", read_only=True)),
        ("type=bind,dst=/x,src=y,from=s,rw", ins.Mount(target="/x", source="y", from_="s")),
        (
            "type=cache,target=/c,id=i,sharing=locked,uid=1,gid=2,mode=0750,ro",
            ins.Mount("cache", "/c", id="i", sharing="locked", uid=1, gid=2, mode=0o750,
                      read_only=True),
        ),
        ("type=tmpfs,target=/t,size=64m", ins.Mount("tmpfs", "/t", size=64 << 20)),
        (
            "type=secret,id=s,required,env=S",
            ins.Mount("secret", id="s", required=True, env="S", read_only=True),
        ),
        ("type=ssh", ins.Mount("ssh", read_only=True)),
        ("type=SSH,required=true,mode=0600", ins.Mount("ssh", required=True, mode=0o600,
                                                        read_only=True)),
        ('type=cache,"target=/a,b"', ins.Mount("cache", "/a,b")),
    ],
)  # fmt: skip
def test_mounts(text: str, mount: ins.Mount) -> None:
    one = only(f"RUN --mount='{text}' --network=none --security=sandbox x")
    assert isinstance(one, ins.Run)
    assert one.mounts == (mount,)
    assert (one.network, one.security) == ("none", "sandbox")


def test_a_mount_with_variables_is_read_when_they_are_known() -> None:
    one = only("RUN --mount=type=cache,target=$X,from=base x")
    assert isinstance(one, ins.Run) and one.mounts == (ins.Mount(from_="base"),)


@pytest.mark.parametrize(
    ("mount", "said"),
    [
        ("type=cash,target=/x", "did you mean cache?"),
        ("typ=cache,target=/x", "did you mean type?"),
        ("type=cache", "target is missing"),
        ("type=secret", "id"),
        ("type=secret,id=a,source=b", "same"),
        ("type=bind,target=/x,sharing=shared", "has no sharing"),
        ("type=cache,target=/x,size=1m", "has no size"),
        ("type=tmpfs,target=/x,size=big", "no size"),
        ("type=cache,target=/x,mode=9", "octal"),
        ("type=cache,target=/x,sharing=some", "sharing"),
        ("target=/x,ro=maybe", "true or false"),
        ("target=/x,from=$base", "no variables"),
        ("target", "no value"),
    ],
)
def test_wrong_mounts_are_explained(mount: str, said: str) -> None:
    error = refused(f"FROM scratch\nRUN --mount={mount} x")
    assert said in error.message + error.hint
    assert error.lines == ins.Lines(2, 2)


def test_healthchecks() -> None:
    one = only(
        "HEALTHCHECK --interval=1m30s --timeout=500ms --start-period=1h --start-interval=2s"
        " --retries=5 CMD curl x"
    )
    assert isinstance(one, ins.Healthcheck)
    assert one.test == ("CMD-SHELL", "curl x")
    assert (one.interval, one.timeout, one.start_period, one.start_interval, one.retries) == (
        90.0, 0.5, 3600.0, 2.0, 5,
    )  # fmt: skip
    two, three = only('healthcheck cmd ["a", "b"]'), only("HEALTHCHECK NONE")
    assert isinstance(two, ins.Healthcheck) and two.test == ("CMD", "a", "b")
    assert isinstance(three, ins.Healthcheck) and three.test == ("NONE",)


def test_from_has_its_parts() -> None:
    start = parse("FROM --platform=$BUILDPLATFORM golang:1.22 as Build-1.x").stages[0].start
    assert (start.base, start.name, start.platform) == (
        "golang:1.22", "build-1.x", "$BUILDPLATFORM",
    )  # fmt: skip
    assert (start.written_name, start.as_keyword) == ("Build-1.x", "as")


def test_the_rest() -> None:
    text = "\n".join(
        [
            "FROM scratch", "WORKDIR /a b", "USER u:g", "EXPOSE 80/tcp 90", 'VOLUME ["/a", "/b"]',
            "VOLUME /c /d", "STOPSIGNAL SIGQUIT", 'SHELL ["/bin/bash", "-c"]', "MAINTAINER A <b@c>",
        ]
    )  # fmt: skip
    assert [
        getattr(one, field)
        for one, field in zip(
            parse(text).stages[0].instructions,
            ("path", "user", "ports", "paths", "paths", "signal", "words", "name"),
            strict=True,
        )
    ] == [
        "/a b", "u:g", ("80/tcp", "90"), ("/a", "/b"), ("/c", "/d"), "SIGQUIT",
        ("/bin/bash", "-c"), "A <b@c>",
    ]  # fmt: skip


# Errors


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("FROM scratch\nRNU x", 2, "did you mean RUN?"),
        ("FROM scratch\n// comment", 2, "begins with #"),
        ("FROM scratch\nRUN a &&\n  apt-get install x", 3, "lacks the \\"),
        ("FROM scratch\n&& b", 2, "needs a \\ at its end"),
        ("services:\n  web:", 1, "YAML"),
        ("FROM scratch\nA=b", 2, "write ENV A=b"),
        ("RUN x", 1, "before the first FROM"),
        ("FROM a b", 1, "FROM IMAGE AS NAME"),
        ("FROM a AS 1x", 1, "starts with a letter"),
        ("FROM", 1, "FROM IMAGE"),
        ("FROM scratch\nCOPY app", 2, "COPY app ."),
        ("FROM scratch\nCOPY --form=x a b", 2, "did you mean --from?"),
        ("FROM scratch\nCOPY --chown a b", 2, "--chown=VALUE"),
        ("FROM scratch\nCOPY --link=maybe a b", 2, "true or false"),
        ("FROM scratch\nCOPY --from=a --from=b a b", 2, "twice"),
        ("FROM scratch\nCOPY --from=$x a b", 2, "--from=NAME"),
        ("FROM scratch\nCOPY a <<E\nE", 2, "destination"),
        ("FROM scratch\nWORKDIR --x /a", 2, "no flags"),
        ("FROM scratch\nRUN --network=nun x", 2, "--network=none"),
        ("FROM scratch\nENV a", 2, "ENV a=VALUE"),
        ("FROM scratch\nENV a=b # c", 2, "a line of its own"),
        ("FROM scratch\nENV a=b c", 2, "quotes"),
        ("FROM scratch\nENV =b", 2, "no name"),
        ("FROM scratch\nCMD [1]", 2, "strings"),
        ("FROM scratch\nRUN []", 2, "empty list"),
        ("FROM scratch\nSHELL bash", 2, "JSON"),
        ('FROM scratch\nVOLUME ["  "]', 2, "empty path"),
        ("FROM scratch\nHEALTHCHECK curl x", 2, "HEALTHCHECK CMD"),
        ("FROM scratch\nHEALTHCHECK --interval=5 CMD x", 2, "30s"),
        ("FROM scratch\nHEALTHCHECK --interval=1us CMD x", 2, "1ms"),
        ("FROM scratch\nHEALTHCHECK --retries=-1 CMD x", 2, "retries"),
        ("FROM scratch\nHEALTHCHECK NONE x", 2, "anything else"),
        ("FROM scratch\nONBUILD ONBUILD RUN x", 2, "ONBUILD"),
        ("FROM scratch\nONBUILD FROM x", 2, "FROM"),
        ("FROM scratch\nRUN <<E\nx\n E", 2, "E and nothing else"),
        ("FROM scratch\nRUN a\0b", 2, "null byte"),
        ("FROM scratch\nADD --checksum=x a b c", 2, "one ADD for each"),
    ],
)
def test_errors_have_their_line_and_say_what_to_write(text: str, line: int, said: str) -> None:
    error = refused(text)
    assert error.where == f"Dockerfile:{line}"
    assert said in error.message + " " + error.hint
    assert error.message.startswith("cannot ")


@pytest.mark.parametrize("text", ["", "\n# nothing\n", "ARG x"])
def test_a_file_without_stages_is_refused(text: str) -> None:
    assert "without FROM" in refused(text).message


def test_the_failing_lines_are_shown() -> None:
    error = refused("FROM scratch\n\nCOPY \\\n  --bad \\\n  a b\n")
    assert str(error) == (
        "Dockerfile:3: cannot use --bad with COPY: there is no such flag\n"
        "     3 | COPY \\\n"
        "     4 |   --bad \\\n"
        "     5 |   a b"
    )


def test_utf16_is_named() -> None:
    with pytest.raises(DockerfileError, match="UTF-16"):
        parse("FROM scratch".encode("utf-16"))


_WORDS = st.sampled_from(
    ["FROM", "RUN", "COPY", "ADD", "ENV", "ARG", "LABEL", "EXPOSE", "VOLUME", "CMD", "HEALTHCHECK",
     "ONBUILD", "SHELL", "scratch", "AS", "<<E", "E", "<<-'F'", "F", "--mount=", "--from=", "type=",
     "target=/x", "[", "]", '"a"', "'", '"', "\\", "`", "$A", "${A:-", "}", "#", "# escape=`", "\n",
     "\n", "\n", "\t", " ", "=", ",", "x", "\\\n", "\r\n", "é", "\udcff", "NONE", "--", "80:80/TCP"]
)  # fmt: skip


@given(st.lists(_WORDS, max_size=40).map(" ".join) | st.text(max_size=80))
@example("\x1f")
def test_any_text_is_read_or_refused(text: str) -> None:
    for begin in ("", "FROM scratch\n"):
        try:
            file = parse(begin + text)
        except DockerfileError as error:
            assert error.message.startswith("cannot ")
            continue
        assert file.stages


def test_large_files_are_read_in_time() -> None:
    parse("FROM scratch\n" + "RUN a \\\n" * 20_000 + "b\n" + "ENV a=b\n" * 5_000)
    parse("FROM scratch\nENV " + "a=b " * 50_000)
    parse("FROM scratch\nRUN <<E\n" + "x\n" * 100_000 + "E\n")
    refused("FROM scratch\nCMD " + "[" * 100_000 + "x\nRNU " + "ONBUILD " * 10_000)
    refused("FROM scratch\n" + "ONBUILD " * 100_000)
