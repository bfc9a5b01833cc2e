"""Runs on the controller: ranges and ports in host names: `web[01:10]`, `db-[a:c]:2222`, `n[0:8:2]`."""

from __future__ import annotations

import re
from collections.abc import Iterator

_RANGE = re.compile(r"\[([0-9]+|[A-Za-z]):([0-9]+|[A-Za-z])(?::([0-9]+))?\]")
_PORT = re.compile(
    r"(?:\[(?P<ipv6>[0-9a-fA-F:.]*:[0-9a-fA-F:.]*:[0-9a-fA-F:.]*)\]"
    r"|(?P<name>(?:[^:\[\]\s]|\[[^\]\s]*\])+)):(?P<port>[0-9]{1,5})"
)
LIMIT = 100_000


def split_port(name: str) -> tuple[str, int | None]:
    """`web1:2222` and `[2001:db8::1]:2222` as name and port; no port: the name as it is."""
    match = _PORT.fullmatch(name)
    if match is None:
        return name, None
    return match["ipv6"] or match["name"], int(match["port"])


def expand(name: str) -> list[str]:
    """All names that a name with ranges stands for, in order.

    Raises:
        ValueError: a range that runs backwards, mixes letters and numbers, or names too many hosts.
    """
    out = [name]
    while match := _RANGE.search(out[0]):
        span = match.span()
        steps = list(_steps(match[1], match[2], int(match[3] or 1), match[0]))
        if len(out) * len(steps) > LIMIT:
            raise ValueError(f"{name} names more than {LIMIT} hosts")
        if len(out) == 1:
            out = [out[0][: span[0]] + step + out[0][span[1] :] for step in steps]
            continue
        grown = []
        for one in out:
            found = _RANGE.search(one)
            assert found is not None
            grown += [one[: found.start()] + step + one[found.end() :] for step in steps]
        out = grown
    return out


def _steps(start: str, end: str, stride: int, text: str) -> Iterator[str]:
    if start.isdigit() != end.isdigit():
        raise ValueError(f"{text} mixes a letter and a number")
    if stride < 1:
        raise ValueError(f"{text} has a step of 0")
    if start.isdigit():
        if len(start) > 1 and start.startswith("0") and len(start) != len(end):
            raise ValueError(f"{text} pads its two ends differently")
        if int(start) > int(end):
            raise ValueError(f"{text} runs backwards")
        width = len(start) if start.startswith("0") else 0
        if (int(end) - int(start)) // stride > LIMIT:
            raise ValueError(f"{text} names more than {LIMIT} hosts")
        for number in range(int(start), int(end) + 1, stride):
            yield str(number).zfill(width)
        return
    if ord(start) > ord(end):
        raise ValueError(f"{text} runs backwards")
    for code in range(ord(start), ord(end) + 1, stride):
        yield chr(code)
