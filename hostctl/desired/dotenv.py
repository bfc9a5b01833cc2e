"""Runs on the controller: files of variables, as Compose's `env_file` reads them.

The language of such a file is Compose's, not the playbook's: `$NAME` and `${NAME:-default}` mean earlier
variables and the caller's environment; in single quotes, and with `format: raw`, everything is literal.
Source: Compose's reference, "env_file" and "Interpolation".
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_KEY = re.compile(r"[ \t]*(?:export[ \t]+)?(?P<key>[^\s=:#]+)[ \t]*(?P<sign>[=:]?)[ \t]*")
_NAME = re.compile(r"[A-Za-z0-9_.\[\]-]+")
_VARIABLE = re.compile(r"\$(?:(?P<plain>[A-Za-z_]\w*)|\{(?P<name>[A-Za-z_]\w*)(?P<rest>[^{}]*)\})")
_OPERATORS = (":-", ":?", ":+", "-", "?", "+")


class DotenvError(ValueError):
    """A line that cannot be read; the message begins with its number."""


def parse(text: str, known: Mapping[str, str], outside: Mapping[str, str]) -> dict[str, str]:
    """The variables of one file.

    Args:
        known: variables of the files before it.
        outside: the caller's environment: what a name without a value is taken from.
    Raises:
        DotenvError: a line is no assignment, a quote is not closed, or a variable that must be set is not.
    """
    reader = _Reader(text, known, outside)
    while reader.statement():
        pass
    return reader.found


def parse_raw(text: str, outside: Mapping[str, str]) -> dict[str, str]:
    """`format: raw`: NAME=VALUE a line, nothing in the value means anything.

    Raises:
        DotenvError: a name has a space in it, or is empty.
    """
    found = {}
    for number, line in enumerate(_lines(text), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, sign, value = line.lstrip().partition("=")
        if not name or re.search(r"\s", name):
            raise DotenvError(f"line {number}: {name!r} is no name of a variable")
        if sign:
            found[name] = value
        elif name in outside:
            found[name] = outside[name]
    return found


def _lines(text: str) -> list[str]:
    return text.removeprefix("\ufeff").replace("\r\n", "\n").split("\n")


class _Reader:
    def __init__(self, text: str, known: Mapping[str, str], outside: Mapping[str, str]) -> None:
        self.text = "\n".join(_lines(text))
        self.at = 0
        self.outside = outside
        self.known = known
        self.found: dict[str, str] = {}

    def statement(self) -> bool:
        """Read one assignment, or lines without one; False at the end."""
        blank = re.compile(r"(?:[ \t]*(?:#[^\n]*)?\n)*[ \t]*(?:#[^\n]*)?").match(self.text, self.at)
        self.at = blank.end() if blank else self.at
        if self.at >= len(self.text):
            return False
        match = _KEY.match(self.text, self.at)
        if not match or not _NAME.fullmatch(match["key"]):
            raise self.error(f"{self.rest_of_line().strip()!r} is no NAME=VALUE")
        self.at = match.end()
        if not match["sign"]:
            if self.rest_of_line().strip():
                raise self.error(f"{match['key']!r} is followed by neither = nor a new line")
            self.at += len(self.rest_of_line())
            if match["key"] in self.outside:
                self.found[match["key"]] = self.outside[match["key"]]
            return True
        self.found[match["key"]] = self.value()
        return True

    def value(self) -> str:
        quote = self.text[self.at : self.at + 1]
        if quote in ("'", '"') and quote:
            return self.quoted(quote)
        line = self.rest_of_line()
        self.at += len(line)
        before = self.text[self.at - len(line) - 1 : self.at - len(line)]
        if line.startswith("#") and before in (" ", "\t"):
            return ""
        return self.expand(re.split(r"[ \t]#", line, maxsplit=1)[0].rstrip())

    def quoted(self, quote: str) -> str:
        """Up to the closing quote, over several lines if need be; only a comment may follow."""
        body = re.compile(rf"{quote}((?:[^{quote}\\]|\\.)*){quote}", re.DOTALL)
        match = body.match(self.text, self.at)
        if not match:
            raise self.error("a quoted value has no closing quote")
        self.at = match.end()
        after = self.rest_of_line()
        if after.strip() and not after.lstrip().startswith("#"):
            raise self.error(f"{after.strip()!r} follows the closing quote")
        self.at += len(after)
        if quote == "'":
            return match[1].replace("\\'", "'")
        return self.expand(match[1], escapes=True)

    def expand(self, value: str, *, escapes: bool = False) -> str:
        out = ""
        at = 0
        while at < len(value):
            if escapes and value[at] == "\\" and at + 1 < len(value):
                letter = value[at + 1]
                out += _ESCAPES.get(letter, letter if letter in "\\\"'$" else "\\" + letter)
                at += 2
            elif value.startswith("$$", at):
                out += "$"
                at += 2
            elif value[at] == "$":
                text, at = self.variable(value, at)
                out += text
            else:
                out += value[at]
                at += 1
        return out

    def variable(self, value: str, at: int) -> tuple[str, int]:
        """The value of the variable at this place, and where it ends; nested defaults are expanded."""
        match = _VARIABLE.match(value, at) or self.nested(value, at)
        if match is None:
            return "$", at + 1
        name, rest, end = (
            match
            if isinstance(match, tuple)
            else (match["plain"] or match["name"], match["rest"] or "", match.end())
        )
        operator = next((one for one in _OPERATORS if rest.startswith(one)), "")
        if rest and not operator:
            raise self.error(f"{value[at:end]!r} is no variable")
        word = rest[len(operator) :]
        given = self.found.get(name, self.known.get(name, self.outside.get(name)))
        there = bool(given) if operator.startswith(":") else given is not None
        if operator.endswith("+"):
            return self.expand(word) if there else "", end
        if operator and not there:
            if operator.endswith("?"):
                raise self.error(f"{name} is not set" + (f": {self.expand(word)}" if word else ""))
            return self.expand(word), end
        return given or "", end

    def nested(self, value: str, at: int) -> tuple[str, str, int] | None:
        """`${NAME:-${OTHER}}`: the braces are counted."""
        head = re.compile(r"\$\{([A-Za-z_]\w*)").match(value, at)
        depth = 0
        for place in range(at, len(value) if head else at):
            depth += {"{": 1, "}": -1}.get(value[place], 0)
            if head and depth == 0 and value[place] == "}":
                return head[1], value[head.end() : place], place + 1
        return None

    def rest_of_line(self) -> str:
        end = self.text.find("\n", self.at)
        return self.text[self.at : len(self.text) if end < 0 else end]

    def error(self, cause: str) -> DotenvError:
        return DotenvError(f"line {self.text.count(chr(10), 0, self.at) + 1}: {cause}")
