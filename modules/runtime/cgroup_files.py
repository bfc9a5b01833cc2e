"""Runs on the managed host: how one file of a cgroup is written, and how its counters are read."""

from __future__ import annotations

import os


def write(path: str, value: str) -> None:
    """Write the value in one go; the error names the file."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode())
    except OSError as error:
        error.filename = path
        raise
    finally:
        os.close(fd)


def counter(path: str) -> int:
    """The number after `oom_kill` in a file of the memory controller; 0 where there is none."""
    try:
        with open(path, encoding="ascii") as stream:
            for line in stream:
                name, _, number = line.partition(" ")
                if name == "oom_kill":
                    return int(number)
    except OSError:
        return 0
    return 0
