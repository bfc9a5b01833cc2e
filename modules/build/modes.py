"""Runs on the managed host: `--chmod` of COPY and ADD: octal digits, or chmod(1)'s symbols as BuildKit takes them."""

from __future__ import annotations

import re

from ..contract.errors import HostctlError

_CLAUSE = re.compile(r"([ugoa]*)((?:[-+=](?:[rwxXst]*|[ugo]))+)")
_ACTION = re.compile(r"([-+=])([rwxXst]*|[ugo])")
_SHIFT = {"u": 6, "g": 3, "o": 0}
_BITS = {"r": 4, "w": 2, "x": 1}


def changed_mode(change: str, mode: int, *, is_folder: bool) -> int:
    """The mode of a file or folder that had `mode`.

    Raises:
        HostctlError: `build-chmod` if the change is no mode.
    """
    if not change:
        return mode
    if re.fullmatch(r"[0-7]{1,5}", change):
        return int(change, 8) & 0o7777
    for clause in change.split(","):
        found = _CLAUSE.fullmatch(clause)
        if found is None:
            raise HostctlError(
                f"cannot use --chmod={change}: it is no mode",
                hint="write octal digits (0755), or symbols (u=rwX,go=rX)",
                ref="build-chmod",
            )
        for sign, symbols in _ACTION.findall(found[2]):
            mode = _apply(found[1] or "a", sign, symbols, mode, is_folder)
    return mode


def _apply(who: str, sign: str, symbols: str, mode: int, is_folder: bool) -> int:
    users = "ugo" if "a" in who else who
    before = mode
    for user in users:
        shift = _SHIFT[user]
        bits = special = 0
        for symbol in symbols:
            if symbol in _SHIFT:
                bits |= before >> _SHIFT[symbol] & 7
            elif symbol == "X":
                bits |= 1 if is_folder or before & 0o111 else 0
            elif symbol == "s":
                special |= {"u": 0o4000, "g": 0o2000, "o": 0}[user]
            elif symbol == "t":
                special |= 0o1000
            else:
                bits |= _BITS[symbol]
        if sign == "=":
            mode = mode & ~(7 << shift)
            mode &= ~{"u": 0o4000, "g": 0o2000, "o": 0}[user]
        if sign == "-":
            mode &= ~(bits << shift | special)
        else:
            mode |= bits << shift | special
    return mode
