"""Runs in both worlds: variables and quotes in words, as BuildKit's shell lexer reads them.

Source: the Dockerfile reference, "Environment replacement". `\\` (or the escape directive's backtick) takes the
meaning of the next character, `'` that of all up to the next, `"` that of all but `$`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from .errors import DockerfileError
from .patterns import replace, trim

SPACES = frozenset("\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000") | frozenset(
    map(chr, range(0x2000, 0x200B))
)
_SPECIAL = frozenset("@*#?-$!0")
_DEEPEST = 50


@dataclass(frozen=True)
class Expansion:
    """What a word became.

    Attributes:
        text: with its spaces.
        words: the same, split at spaces that no quotes hold.
        used: names that had a value.
        missing: names that had none.
    """

    text: str
    words: tuple[str, ...]
    used: frozenset[str]
    missing: frozenset[str]


def expand(
    word: str, variables: Mapping[str, str], escape: str = "\\", *, document: bool = False
) -> Expansion:
    """Replace the variables of a word and take its quotes away.

    Args:
        document: the word is a heredoc's content: quotes are characters like others.
    Raises:
        DockerfileError: quotes or braces that do not match, an unknown modifier, `${NAME:?why}`.
    """
    lexer = _Lexer(word, variables, escape, quotes=not document)
    try:
        text, words = lexer.until("")
    except DockerfileError as error:
        raise DockerfileError(
            f"cannot expand {_shortened(word)}: {error.message}", hint=error.hint, ref=error.ref
        ) from None
    return Expansion(text, tuple(words), frozenset(lexer.used), frozenset(lexer.missing))


def split_words(line: str, *, raw: bool) -> list[str] | None:
    """The words of a line of shell; variables stay. None where quotes do not match.

    Args:
        raw: quotes and escapes stay as well.
    """
    lexer = _Lexer(line, {}, "\\", raw_quotes=raw, raw_escapes=raw, keep_unset=True)
    try:
        return lexer.until("")[1]
    except DockerfileError:
        return None


def _shortened(word: str) -> str:
    return repr(word if len(word) <= 60 else word[:57] + "...")


def _fault(message: str, hint: str = "") -> DockerfileError:
    return DockerfileError(message, hint=hint, ref="dockerfile-expansion")


class _Words:
    """Collects characters and splits at unquoted spaces."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.word: list[str] = []

    def add(self, text: Iterable[str]) -> None:
        for char in text:
            if char not in SPACES:
                self.word.append(char)
            elif self.word:
                self.finish()

    def add_quoted(self, text: str) -> None:
        if text:
            self.word.append(text)

    def finish(self) -> list[str]:
        if self.word:
            self.done.append("".join(self.word))
            self.word = []
        return self.done


class _Lexer:
    """One pass over one word."""

    def __init__(
        self,
        source: str,
        variables: Mapping[str, str],
        escape: str,
        *,
        quotes: bool = True,
        raw_quotes: bool = False,
        raw_escapes: bool = False,
        keep_unset: bool = False,
    ) -> None:
        self.source = source
        self.position = 0
        self.variables = variables
        self.escape = escape
        self.quotes = quotes
        self.raw_quotes = raw_quotes
        self.raw_escapes = raw_escapes
        self.keep_unset = keep_unset
        self.used: set[str] = set()
        self.missing: set[str] = set()
        self.depth = 0

    def peek(self) -> str:
        """The next character; empty at the end."""
        return self.source[self.position : self.position + 1]

    def next(self) -> str:
        char = self.peek()
        self.position += len(char)
        return char

    def until(self, stop: str) -> tuple[str, list[str]]:
        """Everything up to a character that is not escaped or quoted; empty: up to the end."""
        result: list[str] = []
        words = _Words()
        while char := self.peek():
            if char == stop:
                self.next()
                return "".join(result), words.finish()
            if char == "$":
                value = self.dollar()
                words.add(value)
            elif char == "'" and self.quotes:
                value = self.single()
                words.add_quoted(value)
            elif char == '"' and self.quotes:
                value = self.double()
                words.add_quoted(value)
            elif char == "<":
                value = self.angle()
                words.add_quoted(value)
            elif self.next() == self.escape:
                value = self.escape if self.raw_escapes else ""
                value += self.next()
                words.add_quoted(value)
            else:
                value = char
                words.add(char)
            result.append(value)
        if stop:
            raise _fault(f"a {stop} is missing at its end")
        return "".join(result), words.finish()

    def angle(self) -> str:
        """A `<<` keeps the spaces that follow it: `<< EOF` is one word."""
        start = self.position
        self.next()
        if self.peek() == "<":
            self.next()
            while self.peek() in SPACES and self.peek():
                self.next()
        return self.source[start : self.position]

    def single(self) -> str:
        start = self.position + 1
        end = self.source.find("'", start)
        if end < 0:
            raise _fault(
                "a single quote has no second one",
                'write "..." around it, or an escape before it, if it is an apostrophe',
            )
        self.position = end + 1
        text = self.source[start:end]
        return f"'{text}'" if self.raw_quotes else text

    def double(self) -> str:
        self.next()
        result: list[str] = []
        while char := self.peek():
            if char == '"':
                self.next()
                text = "".join(result)
                return f'"{text}"' if self.raw_quotes else text
            if char == "$":
                result.append(self.dollar())
                continue
            self.next()
            if char == self.escape:
                if self.raw_escapes:
                    result.append(char)
                following = self.peek()
                if not following:
                    continue
                if following in ('"', "$", self.escape):
                    char = self.next()
            result.append(char)
        raise _fault("a double quote has no second one")

    def dollar(self) -> str:
        self.next()
        if self.peek() != "{":
            name = self.name()
            if not name:
                return "$"
            value = self.value(name)
            return f"${name}" if value is None and self.keep_unset else value or ""
        self.next()
        self.depth += 1
        if self.depth > _DEEPEST:
            raise _fault(f"more than {_DEEPEST} levels of ${{}} in one another")
        try:
            return self.braces()
        finally:
            self.depth -= 1

    def braces(self) -> str:
        """What stands after `${`."""
        if not self.peek():
            raise _fault("the } of a ${ is missing")
        if self.peek() in "{}:":
            raise _fault("a ${ has no name", "write ${NAME}, or \\$ for a dollar sign")
        start = self.position
        name = self.name()
        sign = self.next()
        if sign == "}":
            value = self.value(name)
            return f"${{{name}}}" if value is None and self.keep_unset else value or ""
        if sign == "/":
            return self.replaced(name, start)
        colon = sign == ":"
        if colon:
            sign = self.next()
        if not sign:
            raise _fault("the } of a ${ is missing")
        if sign not in "-+?#%":
            raise _fault(
                f"{':' if colon else ''}{sign} after ${{{name} is no way to change a value",
                "known: :- - :+ + :? ? # ## % %% / //",
            )
        word = self.part("}", raw_escapes=sign in "#%")
        value = self.value(name)
        if value is None and self.keep_unset:
            return "${" + self.source[start : self.position]
        present = value is not None and not (colon and not value)
        if sign == "-":
            return value or "" if present else word
        if sign == "+":
            return word if present else ""
        if sign == "?":
            if not present:
                state = "unset" if value is None else "empty"
                raise _fault(f"{name}: {word or f'it must not be {state}'}")
            return value or ""
        longest = word[:1] == sign
        return trim(value or "", word[1:] if longest else word, longest, suffix=sign == "%")

    def replaced(self, name: str, start: int) -> str:
        every = self.peek() == "/"
        if every:
            self.next()
        pattern = self.part("/", raw_escapes=True)
        replacement = self.part("}", raw_escapes=True)
        value = self.value(name)
        if value is None and self.keep_unset:
            return "${" + self.source[start : self.position]
        return replace(value or "", pattern, replacement, every)

    def part(self, stop: str, *, raw_escapes: bool) -> str:
        """A word inside of braces."""
        before, self.raw_escapes = self.raw_escapes, raw_escapes
        try:
            return self.until(stop)[0]
        finally:
            self.raw_escapes = before

    def name(self) -> str:
        """A name, a number, or one of the shell's special parameters; may be empty."""
        start = self.position
        first = self.peek()
        if first.isdecimal():
            while self.peek().isdecimal():
                self.next()
        elif first and first in _SPECIAL:
            self.next()
        else:
            while (char := self.peek()) and (char.isalpha() or char.isdecimal() or char == "_"):
                self.next()
        return self.source[start : self.position]

    def value(self, name: str) -> str | None:
        value = self.variables.get(name)
        (self.missing if value is None else self.used).add(name)
        return value
