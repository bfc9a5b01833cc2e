"""Runs on the managed host: reads the OCI command line, from a table per verb.

A table and a page instead of argparse, whose import would take a third of the time of `state`, and which
cannot stop at an exec's own arguments.
"""

from __future__ import annotations

from ..config import RuntimeFailure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


class Option:
    """One option: its spellings, the name of its value ("" for a switch), and what it does.

    Args:
        many: it may be repeated; all values count.
        lenient: with a value only if that is joined by `=` (`--tty`, `--tty=true`).
    """

    def __init__(
        self, names: str, value: str, text: str, *, many: bool = False, lenient: bool = False
    ) -> None:
        self.names = names.split()
        self.key = next(name for name in self.names if name.startswith("--"))[2:]
        self.value = value
        self.text = text
        self.many = many
        self.lenient = lenient


class Options:
    """What was given. Options that were not are empty."""

    def __init__(self) -> None:
        self._values: dict[str, list[str]] = {}

    def add(self, option: Option, value: str) -> None:
        if option.many:
            self._values.setdefault(option.key, []).append(value)
        else:
            self._values[option.key] = [value]

    def on(self, key: str) -> bool:
        """Whether a switch was given, and not as `=false`."""
        return self.text(key) not in ("", "false", "0")

    def given(self, key: str) -> bool:
        return key in self._values

    def text(self, key: str, default: str = "") -> str:
        return self._values.get(key, [default])[-1]

    def all(self, key: str) -> list[str]:
        return self._values.get(key, [])

    def number(self, key: str, default: int = 0) -> int:
        """Raises RuntimeFailure for what is not a whole number."""
        text = self.text(key)
        if not text:
            return default
        try:
            return int(text, 10)
        except ValueError:
            raise usage(f"--{key} takes a whole number, not {text!r}") from None


_UNITS = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40}


def bytes_of(key: str, text: str) -> int:
    """`64m`, `1GiB`, `67108864` or `-1` as a number of bytes. Raises RuntimeFailure."""
    number, unit = text, ""
    for suffix in ("ib", "b"):
        if text.lower().endswith(suffix):
            number = text[: -len(suffix)]
            break
    if number[-1:].lower() in ("k", "m", "g", "t"):
        number, unit = number[:-1], number[-1].lower()
    try:
        return int(float(number) * (1 << _UNITS[unit]))
    except (ValueError, OverflowError):
        raise usage(f"--{key} takes a number of bytes, such as 64m, not {text!r}") from None


def usage(what: str) -> RuntimeFailure:
    """The error of a command line that cannot be."""
    return RuntimeFailure(
        f"cannot read the command line: {what}",
        hint="the same verb with --help lists what it takes",
        ref="bad-command-line",
    )


def parse(
    table: Sequence[Option], words: list[str], *, most: int = -1
) -> tuple[Options, list[str]]:
    """Options and the other words.

    Args:
        most: that many other words may have options between and after them; what follows the last of them
            is left as it is. -1: options may stand anywhere.
    """
    known = {name: option for option in table for name in option.names}
    found, rest = Options(), []
    position = 0
    while position < len(words):
        word = words[position]
        position += 1
        if word == "--":
            rest += words[position:]
            break
        if not word.startswith("-") or word == "-":
            rest.append(word)
            if most >= 0 and len(rest) > most:
                rest += words[position:]
                break
            continue
        name, joined, value = word.partition("=")
        if name not in known and not word.startswith("--"):
            name, joined, value = word[:2], "=" if word[2:] else "", word[2:]
        option = known.get(name)
        if option is None:
            raise usage(f"there is no option {name}")
        if not option.value:
            found.add(option, value if joined else "true")
        elif joined:
            found.add(option, value)
        elif option.lenient:
            found.add(option, "true")
        elif position < len(words):
            found.add(option, words[position])
            position += 1
        else:
            raise usage(f"{name} needs a value")
    return found, rest


def help_of(table: Sequence[Option]) -> str:
    """The table as lines of a help text."""
    lines = []
    for option in table:
        left = ", ".join(sorted(option.names, key=len))
        if option.value:
            left += f" {option.value}"
        lines.append(f"  {left:<32} {option.text}\n")
    return "".join(lines)
