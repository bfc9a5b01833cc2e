"""Runs on the managed host: the execution domain: what uname(2) tells a 32 bit program.

Source: OCI runtime-spec 1.2 (config-linux.md, personality), personality(2).
"""

from __future__ import annotations

from . import syscalls
from .config import RuntimeFailure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

DOMAINS = {"LINUX": 0x0000, "LINUX32": 0x0008}


class Personality:
    """One domain; the specification has no flag yet."""

    def __init__(self, entry: dict[str, Any]) -> None:
        self.domain = str(entry.get("domain"))
        if self.domain not in DOMAINS or entry.get("flags"):
            flags = " ".join(str(flag) for flag in entry.get("flags") or ())
            raise RuntimeFailure(
                f"cannot use personality {self.domain} {flags}".rstrip() + ": unknown",
                hint=f"domain is one of {', '.join(DOMAINS)}, without flags",
                ref="bad-personality",
            )

    def enter(self) -> None:
        """Child; it lasts through exec."""
        if syscalls.personality(DOMAINS[self.domain]) < 0:
            raise RuntimeFailure(
                f"cannot use personality {self.domain}: this kernel does not have it",
                ref="bad-personality",
            )
