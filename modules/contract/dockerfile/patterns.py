"""Runs in both worlds: patterns inside of `${...}`: `*` and `?`, and what they cut off or replace."""

from __future__ import annotations

from .errors import DockerfileError
from .glob import Glob, Many, Token

_LONGEST = 16 << 10
"""Characters of a value in which a pattern with wildcards is looked for everywhere."""


def trim(value: str, pattern: str, longest: bool, *, suffix: bool) -> str:
    """`${NAME#pattern}` and `##`, or with `suffix` `%` and `%%`.

    Raises:
        DockerfileError: an escape that patterns do not have.
    """
    tokens = _tokens(pattern)
    text = value
    if suffix:
        # The same from the other end: the shortest suffix is a shortest prefix of the reversed text.
        tokens.reverse()
        text = value[::-1]
    found = list(Glob(tokens).ends(text))
    if not found:
        return value
    cut = found[-1] if longest else found[0]
    return value[: len(value) - cut] if suffix else value[cut:]


def replace(value: str, pattern: str, replacement: str, every: bool) -> str:
    """`${NAME/pattern/replacement}`: the first match, the longest there; `//`: every one.

    Raises:
        DockerfileError: an escape that patterns do not have; a value that is too long.
    """
    tokens = _tokens(pattern)
    if tokens and all(isinstance(token, str) for token in tokens):
        literal = "".join(token for token in tokens if isinstance(token, str))
        return value.replace(literal, replacement, -1 if every else 1)
    if len(value) > _LONGEST:
        raise DockerfileError(
            f"a value of {len(value)} characters is too long for a pattern with wildcards",
            ref="dockerfile-expansion",
        )
    result: list[str] = []
    glob = Glob(tokens)
    position = copied = 0
    while position <= len(value):
        found = list(glob.ends(value, position))
        end = found[-1] if found else -1
        # Nothing is matched at the end of a match: it would be replaced twice.
        if end > position or (end == position and (position > copied or not result)):
            result += [value[copied:position], replacement]
            copied = end
            if not every:
                break
        position = max(position + 1, end)
    return "".join([*result, value[copied:]])


def _character(char: str) -> bool:
    return char != "\n"


def _tokens(pattern: str) -> list[Token]:
    tokens: list[Token] = []
    escaped = False
    for position, char in enumerate(pattern):
        if escaped:
            escaped = False
            if char not in "*?\\}/":
                raise DockerfileError(
                    f"the pattern {pattern!r} has the unknown escape \\{char}",
                    hint="an escape may stand before * ? \\ / and }",
                    ref="dockerfile-expansion",
                )
            tokens.append(char)
        elif char == "\\" and position + 1 == len(pattern):
            raise DockerfileError(
                f"the pattern {pattern!r} ends with an escape", ref="dockerfile-expansion"
            )
        elif char == "\\":
            escaped = True
        elif char == "*":
            if not (tokens and isinstance(tokens[-1], Many)):
                tokens.append(Many(_character))
        elif char == "?":
            tokens.append(_character)
        else:
            tokens.append(char)
    return tokens
