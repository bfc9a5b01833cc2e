"""Runs on the controller: Ansible's rules for `--tags` and `--skip-tags`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Tags:
    """What a run is limited to; empty is everything but `never`."""

    only: frozenset[str] = frozenset()
    skip: frozenset[str] = frozenset()

    @classmethod
    def of(cls, only: Iterable[str] = (), skip: Iterable[str] = ()) -> Tags:
        """From options that may hold commas."""

        def split(words: Iterable[str]) -> frozenset[str]:
            return frozenset(
                part.strip() for word in words for part in word.split(",") if part.strip()
            )

        return cls(split(only), split(skip))

    @property
    def limited(self) -> bool:
        """True where a run leaves out what would otherwise be done."""
        return bool(self.skip) or bool(self.only - {"all"})

    def wants(self, tags: Iterable[str]) -> bool:
        """Whether something with these tags is done."""
        own = frozenset(tags)
        chosen = self.only & own
        run = not self.only
        if self.only:
            run = (
                bool(chosen)
                or "always" in own
                or ("all" in self.only and "never" not in own)
                or ("tagged" in self.only and bool(own - {"never"}) and "never" not in own)
                or ("untagged" in self.only and not own)
            )
        if "never" in own and not chosen:
            run = False
        if own & self.skip:
            return False
        if "always" in own and "always" not in self.skip and "all" in self.skip:
            return run
        if (
            "all" in self.skip
            or ("tagged" in self.skip and own)
            or ("untagged" in self.skip and not own)
        ):
            return False
        return run
