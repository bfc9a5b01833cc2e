"""Runs on the managed host: how many images a host keeps: the last apply writes down what the inventory says.

`DATA/image-policy` holds `RELEASES:FREE`, either part empty for the default: releases that each service keeps,
and bytes (or percent of the file system) that are to stay free.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from ..agent import said

NAME = "image-policy"
RELEASES = 3
_FREE_PERCENT = 10
_FREE_MOST = 10 << 30


@dataclass(frozen=True)
class Policy:
    """`releases` per service, the running one included; `free` bytes of the data folder's file system."""

    releases: int
    free: int


def keep(data: str, wanted: str) -> None:
    """Write down what the inventory says; empty: it says nothing, and the defaults hold."""
    said.keep(data, NAME, wanted)


def policy(data: str) -> Policy:
    """What holds on this host. By default a tenth of the file system, at most 10 GiB, stays free."""
    releases, _, free = said.read(data, NAME).partition(":")
    status = os.statvfs(data)
    total = status.f_frsize * status.f_blocks
    if free.endswith("%"):
        least = total * int(free[:-1]) // 100
    elif free:
        least = int(free)
    else:
        least = min(total * _FREE_PERCENT // 100, _FREE_MOST)
    return Policy(int(releases or RELEASES), least)
