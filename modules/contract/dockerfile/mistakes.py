"""Runs in both worlds: what beginners write, and what to write instead: hostctl's own rules beside BuildKit's."""

from __future__ import annotations

import re
from collections.abc import Iterator

from .instructions import (
    Add,
    Cmd,
    Copy,
    Entrypoint,
    Env,
    Expose,
    Healthcheck,
    Instruction,
    Run,
    Shell,
    User,
    Volume,
    Workdir,
)
from .words import parse_json

_COMMANDS = (
    "apk", "apt", "apt-get", "bash", "bundle", "cargo", "cat", "cd", "chmod", "chown", "composer",
    "cp", "curl", "dnf", "echo", "export", "git", "go", "gradle", "java", "ls", "make", "mkdir",
    "mv", "mvn", "node", "npm", "npx", "pip", "pip3", "pnpm", "python", "python3", "rm", "sed",
    "set", "sh", "source", "sudo", "tar", "touch", "useradd", "wget", "yarn", "yum",
)  # fmt: skip
_COMMENTS = ("//", "/*", "*/", ";", "<!--", "'''")
_URL = re.compile(r"[a-z]+://|git@")

RULES = {
    "BrokenJSON": "A list that is no JSON is run by a shell, brackets and all",
    "CopyOutsideContext": "COPY and ADD take nothing from outside of the build context",
    "HostPathInVolume": "VOLUME and EXPOSE say what is in the image, not what is on the host",
    "InlineComment": "A # in the middle of a line begins no comment",
    "InteractiveInstall": "Nobody answers a package manager's question during a build",
    "LostChange": "Each RUN begins a new shell",
    "SpaceInExecutable": "The first word of a JSON list is the program alone",
    "SpacesAroundEquals": "NAME = VALUE gives the variable a value that begins with =",
    "TildeInPath": "No instruction replaces ~",
}
"""hostctl's own rules, with their descriptions."""


def explain_unknown(text: str) -> str:
    """What to do with a line that begins with no instruction; empty: there is nothing to say."""
    first = (text.split(None, 1) or [text])[0]
    if first.startswith(_COMMENTS):
        return "a comment begins with #"
    if first in ("&&", "||", "|", "\\") or first.startswith("-"):
        return "it continues the line before, which needs a \\ at its end"
    if first in _COMMANDS:
        return f"write RUN {text[:60]}; or the line before lacks the \\ at its end"
    if first.endswith(":"):
        return "this looks like YAML; a Dockerfile has INSTRUCTION ARGUMENTS"
    if "=" in first:
        return f"write ENV {text[:60]}, or ARG; or the line before lacks the \\ at its end"
    return ""


def find_mistakes(one: Instruction) -> Iterator[tuple[str, str]]:
    """Rule and message for each mistake in one instruction."""
    if isinstance(one, (Cmd, Entrypoint, Run, Healthcheck)) and one.command is not None:
        words = one.command.words
        if one.command.shell:
            yield from _broken_json(one, words[0] if words else "")
        elif words and " " in words[0].strip():
            fixed = ", ".join(f'"{word}"' for word in (*words[0].split(), *words[1:]))
            yield (
                "SpaceInExecutable",
                f'No program is named "{words[0]}"; write {one.NAME} [{fixed}]',
            )
    if isinstance(one, Run) and one.command.shell and not one.command.heredocs:
        yield from _lost_change(one.command.words[0])
        yield from _interactive(one.command.words[0])
    if isinstance(one, (Copy, Add)):
        yield from _sources(one)
    if isinstance(one, (Workdir, User, Copy, Add)):
        yield from _inline_comment(one)
    if isinstance(one, Env):
        for pair in one.pairs:
            if pair.legacy and (pair.value or "").startswith("="):
                value = (pair.value or "")[1:].strip()
                yield (
                    "SpacesAroundEquals",
                    f"The value of {pair.name} begins with =; write ENV {pair.name}={value}",
                )
    yield from _host_side(one)
    yield from _tilde(one)


def _broken_json(one: Instruction, line: str) -> Iterator[tuple[str, str]]:
    # `[ -f x ]` is a test of the shell.
    if (
        not line.startswith("[")
        or not line.endswith("]")
        or (line[1:2].isspace() and one.NAME == "RUN")
    ):
        return
    quote = line[1:].lstrip()[:1]
    if quote in ("'", "‘", "’"):
        why = 'JSON has double quotes: ["program", "argument"]'
    elif quote in ("“", "”", "„"):
        why = 'these are typographic quotes; JSON has "'
    elif line.rstrip("] ").endswith(","):
        why = "the comma after the last word is too much"
    elif '"' not in line:
        why = 'each word needs double quotes: ["program", "argument"]'
    elif parse_json(line.replace("\\", "\\\\")) is not None:
        why = "a backslash is written twice in JSON"
    else:
        why = 'write ["program", "argument"]'
    yield "BrokenJSON", f"{one.NAME} {line[:60]} is no JSON and is run by a shell; {why}"


def _lost_change(line: str) -> Iterator[tuple[str, str]]:
    if re.search(r"&&|\|\||[;|\n&(<>`]", line):
        return
    if re.match(r"cd\s", line):
        place = line.split(None, 1)[1]
        yield "LostChange", f"The next RUN is not in {place}; write WORKDIR {place}"
    if re.match(r"export\s+\w+=", line):
        yield (
            "LostChange",
            f"The next RUN does not know this variable; write ENV {line.split(None, 1)[1]}",
        )
    if re.match(r"(source|\.)\s", line):
        yield "LostChange", "The next RUN does not know what was sourced; write both in one RUN"


def _interactive(line: str) -> Iterator[tuple[str, str]]:
    for command in re.split(r"&&|\|\||[;|\n]", line):
        words = command.split()
        if not {"apt", "apt-get", "yum", "dnf"} & set(words[:3]) or "install" not in words:
            continue
        short = "".join(word[1:] for word in words if re.fullmatch(r"-[a-zA-Z]+", word))
        long = {"--yes", "--assume-yes", "--assumeyes", "--force-yes"} & set(words)
        quiet = "-qq" in words or any(word.startswith("-q=2") for word in words)
        if "y" not in short and not long and not quiet and "--help" not in words:
            yield "InteractiveInstall", f"{command.strip()[:60]} asks and fails; add -y"


def _sources(one: Copy | Add) -> Iterator[tuple[str, str]]:
    if isinstance(one, Copy) and one.from_:
        return
    for source in one.sources:
        if not _URL.match(source) and (source == ".." or source.startswith("../")):
            yield (
                "CopyOutsideContext",
                f"{source} stops at the context's top folder; build from the folder above, or"
                " name another one with --build-context",
            )


def _inline_comment(one: Workdir | User | Copy | Add) -> Iterator[tuple[str, str]]:
    words = one.text.split()
    if any(word.startswith("#") for word in words[2:]):
        yield (
            "InlineComment",
            f"What follows # is part of {one.NAME}; a comment needs a line of its own",
        )


def _host_side(one: Instruction) -> Iterator[tuple[str, str]]:
    if isinstance(one, Volume):
        for path in one.paths:
            left, colon, right = path.partition(":")
            if colon and not path.startswith("$"):
                inside = right if right.startswith("/") else left
                yield (
                    "HostPathInVolume",
                    f"VOLUME {path} names a host's path; write VOLUME {inside}, and at the start"
                    " of the container -v HOST:CONTAINER, the host's path first",
                )
            elif path.startswith("[") and not isinstance(one, Shell):
                yield "BrokenJSON", f"VOLUME {path} is no JSON, but a folder of that name"
    if isinstance(one, Expose):
        for port in one.ports:
            if re.fullmatch(r"\d+:\d+(/\w+)?", port):
                yield (
                    "HostPathInVolume",
                    f"EXPOSE {port} publishes nothing; write EXPOSE {port.split(':')[1]}, and at"
                    f" the start of the container -p {port}",
                )


def _tilde(one: Instruction) -> Iterator[tuple[str, str]]:
    places: tuple[str, ...] = ()
    if isinstance(one, Workdir):
        places = (one.path,)
    elif isinstance(one, Volume):
        places = one.paths
    elif isinstance(one, (Copy, Add)):
        places = (*one.sources, one.destination)
    for place in places:
        if place == "~" or place.startswith("~/"):
            yield "TildeInPath", f"{place} is a folder named ~; write the path, such as /root"
