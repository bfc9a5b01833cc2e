"""Runs in both worlds: a Dockerfile's text as instructions of one line each: directives, comments, continuations,
heredocs. What the words mean is `parse.py`'s.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Callable

from .errors import DockerfileError
from .expand import SPACES
from .heredocs import Opening, strip_tabs
from .instructions import Directives, Heredoc, Lines, Warning

LONGEST = 4 << 20
"""Characters of a Dockerfile, heredocs included."""

_DIRECTIVE = re.compile(r"#\s*([a-zA-Z][a-zA-Z0-9]*)\s*=\s*(\S.*?)\s*")
_KNOWN_DIRECTIVES = ("escape", "syntax", "check")
_BLANK = "".join(SPACES)


@dataclass(frozen=True)
class Line:
    """One instruction: its text in one line, where it stands, and what belongs to it."""

    text: str
    lines: Lines
    comments: tuple[str, ...] = ()
    heredocs: tuple[Heredoc, ...] = ()


@dataclass
class Reader:
    """Reads one text from its first line to its last."""

    source: list[str]
    openings: Callable[[str], list[Opening]]
    """Which heredocs an instruction opens."""
    directives: Directives = field(default_factory=Directives)
    warnings: list[Warning] = field(default_factory=list)
    position: int = 0

    def read(self) -> Iterator[Line]:
        self._read_directives()
        comments: list[str] = []
        while self.position < len(self.source):
            text = self.source[self.position].strip(_BLANK)
            if text.startswith("#"):
                comment = text[1:].strip()
                comments = [*comments, comment] if comment else []
                self.position += 1
            elif not text:
                comments = []
                self.position += 1
            else:
                line = self._instruction(tuple(comments))
                comments = []
                if line:
                    yield line

    def _read_directives(self) -> None:
        found: dict[str, str] = {}
        for number, text in enumerate(self.source, 1):
            match = _DIRECTIVE.fullmatch(text.rstrip("\r\n"))
            name = match[1].lower() if match else ""
            if match is None or name not in _KNOWN_DIRECTIVES:
                break
            if name in found:
                raise DockerfileError(
                    f"cannot use the directive {name} twice", lines=Lines(number, number)
                )
            found[name] = match[2]
            self.position = number
            if name == "escape" and match[2] not in ("\\", "`"):
                raise DockerfileError(
                    f"cannot use {match[2]!r} as the escape character",
                    hint="write # escape=\\ or # escape=`",
                    lines=Lines(number, number),
                )
            if name == "check":
                parse_check(match[2], Lines(number, number))
        skip, experimental, error = parse_check(found.get("check", ""), Lines(1, 1))
        self.directives = Directives(
            found.get("escape", "\\"), found.get("syntax", ""), skip, error, experimental
        )

    def _instruction(self, comments: tuple[str, ...]) -> Line | None:
        first = self.position + 1
        escape = re.escape(self.directives.escape)
        continued = re.compile(rf"(?:(?<!{escape})|^){escape}[ \t]*\Z")
        parts: list[str] = []
        empty = 0
        more = True
        while more and self.position < len(self.source):
            text = self.source[self.position].rstrip("\r\n")
            bare = text.strip(_BLANK)
            self.position += 1
            if parts and (bare.startswith("#") or not bare):
                if not bare:
                    empty = self.position
                continue
            if not parts:
                text = text.lstrip(_BLANK)
            cut = continued.sub("", text)
            more = cut != text
            parts.append(cut)
        if empty:
            self.warnings.append(
                Warning("NoEmptyContinuation", "Empty continuation line", Lines(empty, empty))
            )
        line = "".join(parts).strip(_BLANK)
        if not line:
            return None
        heredocs = tuple(self._heredoc(one, first) for one in self.openings(line))
        return Line(line, Lines(first, self.position), comments, heredocs)

    def _heredoc(self, opening: Opening, first: int) -> Heredoc:
        content: list[str] = []
        while self.position < len(self.source):
            text = self.source[self.position]
            self.position += 1
            bare = text.rstrip("\r\n")
            if (bare.lstrip("\t") if opening.strip_tabs else bare) == opening.name:
                raw = "".join(content)
                return Heredoc(
                    opening.name,
                    strip_tabs(raw) if opening.strip_tabs else raw,
                    opening.expand,
                    opening.strip_tabs,
                    raw,
                )
            content.append(text)
        raise DockerfileError(
            f"cannot find the end of the heredoc {opening.name}",
            hint=f"a line that is {opening.name} and nothing else ends it"
            + ("" if opening.strip_tabs else "; after <<- it may be indented with tabs"),
            lines=Lines(first, first),
        )


def decode(text: str | bytes) -> str:
    """The characters of a Dockerfile; bytes that are not UTF-8 are kept as surrogates.

    Raises:
        DockerfileError: it is too long, or no text.
    """
    if isinstance(text, bytes):
        if text[:2] in (b"\xff\xfe", b"\xfe\xff"):
            raise DockerfileError(
                "cannot read UTF-16", hint="save the file as UTF-8", lines=Lines(1, 1)
            )
        text = text.decode("utf-8", "surrogateescape")
    if len(text) > LONGEST:
        raise DockerfileError(f"cannot read more than {LONGEST >> 20} MiB of Dockerfile")
    if "\0" in text:
        number = text.count("\n", 0, text.index("\0")) + 1
        raise DockerfileError(
            "cannot read a null byte: this is no text", lines=Lines(number, number)
        )
    return text.removeprefix("\ufeff")


def parse_check(value: str, lines: Lines) -> tuple[tuple[str, ...], tuple[str, ...], bool]:
    """Of `check=`: the rules to skip, the experimental ones to use, and whether findings are errors."""
    lists: dict[str, tuple[str, ...]] = {"skip": (), "experimental": ()}
    error = False
    for option in filter(None, (one.strip() for one in value.split(";"))):
        name, equals, given = (one.strip() for one in option.partition("="))
        if name in lists and equals:
            lists[name] = tuple(one.strip() for one in given.split(",") if one.strip())
        elif name == "error" and given.lower() in ("true", "false", "1", "0", "t", "f"):
            error = given.lower() in ("true", "1", "t")
        else:
            raise DockerfileError(
                f"cannot use {option!r} in the directive check",
                hint="write # check=skip=RULE,RULE;error=true",
                lines=lines,
            )
    return lists["skip"], lists["experimental"], error
