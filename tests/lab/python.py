"""Runs on the test machine: what a lab host's `python3` is, for hosts that lack a good one."""

from __future__ import annotations

from pathlib import Path


def prepare(version: str | None) -> str:
    """Shell lines that run with the host's root as $1 before the host enters it."""
    if version == "3":
        return ""
    if version is None:
        return 'rm -f "$1"/usr/bin/python3*\n'
    real = _find(version)
    if real:
        # At its own path it finds its own standard library.
        return (
            f'mkdir -p "$1{real}"\nmount --bind {real} "$1{real}"\n'
            f'rm -f "$1"/usr/bin/python3\nln -s {real}/bin/python3 "$1/usr/bin/python3"\n'
            'chmod 0755 "$1/root"\n'
        )
    numbers = ", ".join([*version.split("."), "15"][:3])
    return (
        'rm -f "$1"/usr/bin/python3\n'
        f"cat > \"$1/usr/bin/python3\" <<'END'\n{PRETENDER.format(numbers=numbers)}END\n"
        'chmod 0755 "$1/usr/bin/python3"\n'
    )


def _find(version: str) -> Path | None:
    """A real interpreter of this version on this machine, if pyenv made one."""
    for path in sorted((Path.home() / ".pyenv" / "versions").glob(f"{version}*")):
        if (path / "bin" / "python3").exists():
            return path
    return None


PRETENDER = """#!/usr/bin/python3.11 -I
# Debian has no interpreter as old as this test wants: the real one, with another version number.
import runpy, sys
sys.version_info = ({numbers}, "final", 0)
words = [word for word in sys.argv[1:]]
while words and words[0].startswith("-") and words[0] != "-c":
    words.pop(0)
if words and words[0] == "-c":
    sys.argv = ["-c", *words[2:]]
    exec(compile(words[1], "<string>", "exec"), {{"__name__": "__main__"}})
else:
    sys.argv = words
    runpy.run_path(words[0], run_name="__main__")
"""
