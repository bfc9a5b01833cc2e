"""Runs in both worlds: what the words of each instruction mean. One function per instruction."""

from __future__ import annotations

import re
from typing import Any, Callable

from .durations import parse_duration
from .errors import DockerfileError
from .flags import Flags
from .heredocs import parse_heredoc
from .instructions import (
    INSTRUCTIONS,
    Add,
    Arg,
    Cmd,
    Command,
    Copy,
    Entrypoint,
    Env,
    Expose,
    From,
    Healthcheck,
    Heredoc,
    Instruction,
    Label,
    Maintainer,
    Mount,
    Onbuild,
    Pair,
    Run,
    Shell,
    Stopsignal,
    User,
    Volume,
    Workdir,
)
from .mounts import parse_mount, read_from
from .names import did_you_mean
from .parts import Parts
from .words import parse_json, split_once, split_plain, split_quoted

_STAGE_NAME = re.compile(r"[a-z][a-z0-9-_.]*")
NETWORKS = ("default", "none", "host")
SECURITIES = ("sandbox", "insecure")


def read_from_(parts: Parts) -> From:
    flags = parts.flags
    words = split_plain(parts.need("write FROM IMAGE, or FROM IMAGE AS NAME"))
    if len(words) == 1:
        return From(*parts.common, base=words[0], platform=flags.text("platform"))
    if len(words) != 3 or words[1].lower() != "as":
        raise DockerfileError(
            f"cannot read FROM with {len(words)} words",
            hint="write FROM IMAGE, or FROM IMAGE AS NAME",
        )
    if not _STAGE_NAME.fullmatch(words[2].lower()):
        raise DockerfileError(
            f"cannot use {words[2]!r} as the name of a stage",
            hint="it starts with a letter and has letters, digits, '-', '_' and '.'",
        )
    return From(
        *parts.common,
        base=words[0],
        name=words[2].lower(),
        platform=flags.text("platform"),
        written_name=words[2],
        as_keyword=words[1],
    )


def read_arg(parts: Parts) -> Arg:
    _ = parts.flags
    pairs = []
    for word in split_quoted(parts.need("write ARG NAME, or ARG NAME=DEFAULT"), parts.escape):
        name, equals, value = word.partition("=")
        if not name:
            raise DockerfileError(f"cannot use {word!r}: there is no name before =")
        pairs.append(Pair(name, value if equals else None))
    return Arg(*parts.common, pairs=tuple(pairs))


def _pairs(parts: Parts) -> tuple[Pair, ...]:
    _ = parts.flags
    name = parts.name
    words = split_quoted(parts.need(f"write {name} NAME=VALUE"), parts.escape)
    if words and "=" not in words[0]:
        key, value = split_once(parts.rest)
        if not value:
            raise DockerfileError(
                f"cannot use {name} {key} without a value", hint=f"write {name} {key}=VALUE"
            )
        return (Pair(key, value, legacy=True),)
    pairs = []
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            hint = f'values with spaces need quotes: {name} NAME="two words"'
            if word.startswith("#"):
                hint = "a comment needs a line of its own"
            raise DockerfileError(f"cannot use {word!r} in {name}: there is no = in it", hint=hint)
        if not key:
            raise DockerfileError(f"cannot use {word!r} in {name}: there is no name before =")
        pairs.append(Pair(key, value))
    return tuple(pairs)


def read_env(parts: Parts) -> Env:
    return Env(*parts.common, pairs=_pairs(parts))


def read_label(parts: Parts) -> Label:
    return Label(*parts.common, pairs=_pairs(parts))


def _command(parts: Parts, rest: str) -> Command:
    words = parse_json(rest)
    if words is not None:
        return Command(words, shell=False)
    return Command((rest,), shell=True, heredocs=parts.heredocs)


def read_run(parts: Parts) -> Run:
    flags = parts.flags
    parts.need("write RUN COMMAND")
    network, security = flags.text("network"), flags.text("security")
    for flag, value, known in (("network", network, NETWORKS), ("security", security, SECURITIES)):
        if value and value not in known:
            raise DockerfileError(
                f"cannot use --{flag}={value}", hint=did_you_mean(value, known, f"--{flag}=")
            )
    command = _command(parts, parts.rest)
    if not command.words:
        raise DockerfileError("cannot use RUN with an empty list", hint="write RUN COMMAND")
    mounts = tuple(early_mount(one) for one in flags.list("mount"))
    devices = flags.list("device")
    return Run(
        *parts.common,
        command=command,
        mounts=mounts,
        network=network,
        security=security,
        devices=devices,
    )


def early_mount(text: str) -> Mount:
    """A mount before variables are known: whole where it has none, else where it is from."""
    if "$" in text:
        source = read_from(text)
        if "$" not in source[:-1]:
            return Mount(from_=source)
    return parse_mount(text, lambda value: value)


def _copied(parts: Parts, flags: Flags) -> dict[str, Any]:
    """What COPY and ADD have in common, by the fields' names."""
    name = parts.name
    words = parse_json(parts.rest)
    if words is None:
        words = tuple(split_plain(parts.rest))
    if len(words) < 2:
        where = f"{name} {words[0]} ." if words else f"{name} SOURCE ."
        raise DockerfileError(
            f"cannot use {name} without a destination",
            hint=f"the last word is the place in the image, such as {where}",
            ref="dockerfile-destination",
        )
    by_name = {one.name: one for one in parts.heredocs}
    paths: list[str] = []
    documents: list[Heredoc] = []
    for word in words[:-1]:
        opening = parse_heredoc(word) if parts.heredocs else None
        if opening and opening.name in by_name:
            documents.append(by_name[opening.name])
        else:
            paths.append(word)
    if parts.heredocs and parse_heredoc(words[-1]):
        raise DockerfileError(
            f"cannot use a heredoc as the destination of {name}",
            hint=f"write {name} {words[-1]} /PATH",
            ref="dockerfile-destination",
        )
    return {
        "sources": tuple(paths),
        "documents": tuple(documents),
        "destination": words[-1],
        "chown": flags.text("chown"),
        "chmod": flags.text("chmod"),
        "exclude": flags.list("exclude"),
        "link": bool(flags.switch("link")),
        "parents": bool(flags.switch("parents")),
    }


def read_copy(parts: Parts) -> Copy:
    flags = parts.flags
    common = _copied(parts, flags)
    source = flags.text("from")
    if "$" in source[:-1]:
        raise DockerfileError(
            f"cannot use variables in --from={source}",
            hint="write FROM ... AS NAME, which takes them, and --from=NAME here",
            ref="dockerfile-flag",
        )
    return Copy(*parts.common, from_=source, **common)


def read_add(parts: Parts) -> Add:
    flags = parts.flags
    common = _copied(parts, flags)
    checksum = flags.text("checksum")
    if checksum and len(common["sources"]) + len(common["documents"]) != 1:
        raise DockerfileError(
            "cannot use --checksum with several sources", hint="write one ADD for each"
        )
    return Add(
        *parts.common,
        checksum=checksum,
        keep_git_dir=bool(flags.switch("keep-git-dir")),
        unpack=flags.switch("unpack"),
        **common,
    )


def read_workdir(parts: Parts) -> Workdir:
    _ = parts.flags
    return Workdir(*parts.common, path=parts.need("write WORKDIR /PATH"))


def read_user(parts: Parts) -> User:
    _ = parts.flags
    return User(*parts.common, user=parts.need("write USER NAME, or USER UID:GID"))


def read_stopsignal(parts: Parts) -> Stopsignal:
    _ = parts.flags
    return Stopsignal(*parts.common, signal=parts.need("write STOPSIGNAL SIGTERM"))


def read_maintainer(parts: Parts) -> Maintainer:
    _ = parts.flags
    return Maintainer(*parts.common, name=parts.need('write LABEL maintainer="NAME"'))


def read_expose(parts: Parts) -> Expose:
    _ = parts.flags
    return Expose(*parts.common, ports=tuple(split_plain(parts.need("write EXPOSE 8080"))))


def read_volume(parts: Parts) -> Volume:
    _ = parts.flags
    words = parse_json(parts.need("write VOLUME /PATH"))
    if words is None:
        words = tuple(split_plain(parts.rest))
    if not words or not all(one.strip() for one in words):
        raise DockerfileError("cannot use VOLUME with an empty path", hint="write VOLUME /PATH")
    return Volume(*parts.common, paths=tuple(one.strip() for one in words))


def read_entrypoint(parts: Parts) -> Entrypoint:
    _ = parts.flags
    rest = parts.need('write ENTRYPOINT ["PROGRAM"], or ENTRYPOINT [] for none')
    return Entrypoint(*parts.common, command=_command(parts, rest))


def read_cmd(parts: Parts) -> Cmd:
    _ = parts.flags
    rest = parts.need('write CMD ["PROGRAM", "ARGUMENT"], or CMD [] for none')
    return Cmd(*parts.common, command=_command(parts, rest))


def read_shell(parts: Parts) -> Shell:
    _ = parts.flags
    hint = 'write SHELL ["/bin/bash", "-c"]'
    words = parse_json(parts.need(hint))
    if not words:
        raise DockerfileError("cannot use SHELL without a JSON list of words", hint=hint)
    return Shell(*parts.common, words=words)


def read_healthcheck(parts: Parts) -> Healthcheck:
    hint = "write HEALTHCHECK CMD COMMAND, or HEALTHCHECK NONE"
    kind, rest = split_once(parts.need(hint))
    flags = parts.flags
    if kind.upper() == "NONE":
        if rest or parts.words:
            raise DockerfileError("cannot use anything else with HEALTHCHECK NONE")
        return Healthcheck(*parts.common)
    if kind.upper() != "CMD":
        raise DockerfileError(f"cannot use {kind!r} after HEALTHCHECK", hint=hint)
    if not rest or rest == "[]":
        raise DockerfileError("cannot use HEALTHCHECK CMD without a command", hint=hint)
    retries = flags.text("retries")
    if retries and (len(retries) > 9 or not retries.isascii() or not retries.isdigit()):
        raise DockerfileError(f"cannot use --retries={retries}", hint="write --retries=3")
    return Healthcheck(
        *parts.common,
        command=_command(parts, rest),
        interval=_interval(flags, "interval"),
        timeout=_interval(flags, "timeout"),
        start_period=_interval(flags, "start-period"),
        start_interval=_interval(flags, "start-interval"),
        retries=int(retries or 0),
    )


def _interval(flags: Flags, name: str) -> float:
    text = flags.text(name)
    try:
        seconds = parse_duration(text) if text else 0.0
    except ValueError as error:
        raise DockerfileError(
            f"cannot use --{name}={text}: {error}", hint=f"write --{name}=30s"
        ) from None
    if seconds and seconds < 0.001:
        raise DockerfileError(f"cannot use --{name}={text}: the shortest time is 1ms")
    return seconds


_NO_TRIGGERS = ("ONBUILD", "FROM", "MAINTAINER")


def read_onbuild(parts: Parts, read: Callable[[str], Instruction]) -> Onbuild:
    """`read` reads the instruction inside."""
    _ = parts.flags
    text = parts.need("write ONBUILD RUN COMMAND")
    name = split_once(text)[0].upper()
    if name in _NO_TRIGGERS:
        raise DockerfileError(f"cannot use {name} in ONBUILD")
    trigger = text + "".join(f"\n{one.raw}{one.name}" for one in parts.heredocs)
    return Onbuild(*parts.common, trigger=trigger, instruction=read(text))


READERS: dict[str, Callable[[Parts], Instruction]] = {
    "ADD": read_add,
    "ARG": read_arg,
    "CMD": read_cmd,
    "COPY": read_copy,
    "ENTRYPOINT": read_entrypoint,
    "ENV": read_env,
    "EXPOSE": read_expose,
    "FROM": read_from_,
    "HEALTHCHECK": read_healthcheck,
    "LABEL": read_label,
    "MAINTAINER": read_maintainer,
    "RUN": read_run,
    "SHELL": read_shell,
    "STOPSIGNAL": read_stopsignal,
    "USER": read_user,
    "VOLUME": read_volume,
    "WORKDIR": read_workdir,
}
"""All but ONBUILD, which needs the parser itself."""

assert {*READERS, "ONBUILD"} == set(INSTRUCTIONS)
