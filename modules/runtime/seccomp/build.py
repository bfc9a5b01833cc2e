"""Runs on the managed host: compiles a profile into the file that `install.py` reads.

Used by the agent, which makes many containers with few profiles and so keeps what it compiled, and by
whoever creates a container from a bundle without the file.
"""

from __future__ import annotations

import functools

from ...contract import plainjson
from .compiler import compile_profile
from .install import canonical, head
from .spec import parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


@functools.lru_cache(maxsize=32)
def build(text: bytes, machine: str) -> bytes:
    """The file's content for `linux.seccomp` as `canonical` writes it.

    Raises:
        RuntimeFailure: a value in it cannot be used.
    """
    profile = parse(plainjson.loads(text))
    program = compile_profile(profile, machine)
    return b"%s\n%s\n%s" % (head(machine, profile.flags), text, program)


def file_content(wanted: dict[str, Any], machine: str) -> bytes:
    """What to write as `seccomp.bpf` beside a config.json that has this `linux.seccomp`, keys sorted."""
    return build(canonical(wanted, arrange=True), machine)
