"""Runs on the managed host: Docker's restart policies and their backoff. Pure: no clock, no process."""

from __future__ import annotations

from ..contract.errors import HostctlError

FIRST, LONGEST, RESET_AFTER = 0.1, 60.0, 10.0


class Policy:
    """`no`, `always`, `unless-stopped`, `on-failure` or `on-failure:N` (N restarts, 0 for no limit)."""

    def __init__(self, text: str) -> None:
        kind, _, count = (text or "no").partition(":")
        valid = kind in ("no", "always", "unless-stopped", "on-failure")
        if not valid or (count and not (kind == "on-failure" and count.isdigit())):
            raise HostctlError(
                f"cannot use restart policy {text!r}",
                hint="use no, always, unless-stopped, on-failure or on-failure:N",
                ref="bad-restart-policy",
            )
        self.kind = kind
        self.limit = int(count or 0)

    def restarts(self, *, failed: bool, stopped: bool, already: int) -> bool:
        """Whether a container that has just ended is started again.

        Args:
            failed: exit code other than 0, or lost.
            stopped: somebody asked for the end.
            already: how often it was started again before.
        """
        if stopped or self.kind == "no":
            return False
        if self.kind == "on-failure":
            return failed and (self.limit == 0 or already < self.limit)
        return True


def backoff(before: float, ran: float) -> float:
    """Seconds to wait after a run of `ran` seconds, when it was `before` the last time.

    100 ms, doubling to one minute; a run of ten seconds starts it anew.
    """
    if before <= 0 or ran >= RESET_AFTER:
        return FIRST
    return min(before * 2, LONGEST)
