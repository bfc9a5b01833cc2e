"""Runs in both worlds: .dockerignore, and --exclude of COPY and ADD, with the rules of moby's patternmatcher.

The last pattern that matches decides; `!` takes back; a pattern for a folder is one for all in it; `**` is any
number of folders. Paths are relative to the context, with `/`, without one at the begin.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable
from dataclasses import dataclass

from .errors import DockerfileError
from .glob import BadPattern, Glob, Many, Token, not_slash, read_character


def ignore_files(dockerfile: str) -> tuple[str, str]:
    """Where patterns are looked for, the first one that is there: beside the Dockerfile, then the context's."""
    return f"{dockerfile}.dockerignore", ".dockerignore"


def read_patterns(text: str) -> list[str]:
    """The patterns of a .dockerignore file, without comments and leading slashes."""
    found = []
    for line in text.removeprefix("\ufeff").split("\n"):
        pattern = line.strip()
        if line.startswith("#") or not pattern:
            continue
        negated = pattern.startswith("!")
        if negated:
            pattern = pattern[1:].strip()
        if pattern:
            pattern = _clean(pattern)
            if len(pattern) > 1 and pattern.startswith("/"):
                pattern = pattern[1:]
        found.append(f"!{pattern}" if negated else pattern)
    return found


def _clean(path: str) -> str:
    """Go's `path.Clean`."""
    cleaned = posixpath.normpath(path)
    return cleaned[1:] if cleaned.startswith("//") else cleaned


_NOTHING = Glob(())


@dataclass(frozen=True)
class _Pattern:
    """One pattern. Of the three short forms (`exact`, `prefix`, `suffix`) at most one is set; else `glob`."""

    text: str
    negated: bool
    exact: str | None = None
    prefix: str | None = None
    suffix: str | None = None
    glob: Glob = _NOTHING
    ending: str = ""
    """Literal characters that every match of `glob` ends with: most paths are told by them alone."""

    def matches(self, path: str) -> bool:
        if self.exact is not None:
            return path == self.exact
        if self.prefix is not None:
            return path.startswith(self.prefix)
        if self.suffix is not None:
            return path.endswith(self.suffix) or (
                self.suffix.startswith("/") and path == self.suffix[1:]
            )
        return path.endswith(self.ending) and self.glob.matches(path)


Below = tuple[bool, ...]
"""For each pattern whether a folder, or one above it, was matched: what `Patterns.enter` hands down."""


class Patterns:
    """All patterns of one file, in their order."""

    def __init__(self, patterns: Iterable[str]) -> None:
        """
        Raises:
            DockerfileError: a pattern that is none.
        """
        self.patterns = [_compile(one) for one in patterns if one.strip()]
        self.negated = any(one.negated for one in self.patterns)
        """Some pattern takes back what others exclude."""

    @classmethod
    def read(cls, text: str) -> Patterns:
        """Of a .dockerignore file's text. Raises DockerfileError."""
        return cls(read_patterns(text))

    def excludes(self, path: str) -> bool:
        """The path is left out. The context itself (`.`) never is."""
        below: Below = ()
        excluded = False
        parts = _clean(path).split("/")
        if parts == ["."]:
            return False
        for count in range(1, len(parts) + 1):
            excluded, below = self.enter("/".join(parts[:count]), below)
        return excluded

    def enter(self, path: str, above: Below = ()) -> tuple[bool, Below]:
        """The same for one who walks down: what holds for the folder above is not looked at again.

        Returns:
            whether the path is left out, and what to give to the paths right below it.
        """
        excluded = False
        below = []
        for index, pattern in enumerate(self.patterns):
            hit = above[index] if above else False
            if not hit and pattern.negated == excluded:
                hit = pattern.matches(path)
            below.append(hit)
            if hit:
                excluded = not pattern.negated
        return excluded, tuple(below)

    def prunes(self, folder: str) -> bool:
        """Nothing below a folder that is left out can be taken back: there is no need to look."""
        inside = f"{folder}/"
        return not any(
            one.negated and (one.exact is None or f"{one.exact}/".startswith(inside))
            for one in self.patterns
        )


def _compile(text: str) -> _Pattern:
    pattern = _clean(text.strip())
    negated = pattern.startswith("!")
    if negated:
        pattern = pattern[1:]
        if not pattern:
            raise _error(text, "there is nothing after !")
    try:
        tokens, literal = _tokens(pattern)
    except BadPattern as error:
        raise _error(text, str(error)) from None
    if literal == len(tokens):
        return _Pattern(text, negated, exact=pattern)
    if pattern.startswith("**") and all(isinstance(token, str) for token in tokens[1:]):
        if "\\" not in pattern:
            return _Pattern(text, negated, suffix=pattern[2:])
    elif pattern.endswith("**") and literal == len(tokens) - 1 and "\\" not in pattern:
        return _Pattern(text, negated, prefix=pattern[:-2])
    ending: list[str] = []
    for token in reversed(tokens):
        if not isinstance(token, str):
            break
        ending.insert(0, token)
    return _Pattern(text, negated, glob=Glob(tokens), ending="".join(ending))


def _no_newline(char: str) -> bool:
    return char != "\n"


def _tokens(pattern: str) -> tuple[list[Token], int]:
    """The tokens, and how many at the begin are literal."""
    tokens: list[Token] = []
    position = 0
    while position < len(pattern):
        if not pattern.startswith("*", position):
            token, position = read_character(pattern, position)
            tokens.append(token)
            continue
        many = Many(not_slash)
        position += 1
        if pattern.startswith("*", position):
            position += 1
            position += pattern.startswith("/", position)
            many = Many(_no_newline, slash=position < len(pattern))
        # Two of the same kind are one.
        if not (tokens and tokens[-1] == many):
            tokens.append(many)
    literal = next(
        (count for count, one in enumerate(tokens) if not isinstance(one, str)), len(tokens)
    )
    return tokens, literal if "\\" not in pattern else -1


def _error(text: str, cause: str) -> DockerfileError:
    return DockerfileError(
        f"cannot use the pattern {text!r} of .dockerignore: {cause}", ref="dockerignore-pattern"
    )
