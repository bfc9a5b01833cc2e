"""Runs in both worlds: the name that somebody probably meant."""

from __future__ import annotations

from collections.abc import Iterable


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name that is most like it, whatever the case; empty: none is near."""
    import difflib

    by_lower = {one.lower(): one for one in known}
    if len(name) > 60:
        return ""
    found = difflib.get_close_matches(name.lower(), sorted(by_lower), 1, 0.6)
    return by_lower[found[0]] if found else ""


def did_you_mean(name: str, known: Iterable[str], prefix: str = "") -> str:
    """A question with the nearest name, or all of them where they are few; empty: there are none."""
    names = sorted(known)
    found = nearest(name, names)
    if found:
        return f"did you mean {prefix}{found}?"
    return f"known: {', '.join(prefix + one for one in names)}" if 0 < len(names) <= 12 else ""
