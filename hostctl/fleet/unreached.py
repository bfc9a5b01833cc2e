"""Runs on the controller: why no SSH server answered, in words for people."""

from __future__ import annotations

import time

from .login import cause
from .sshconfig import Hop
from .target import Unreachable


class Dropped(Unreachable):
    """The server closed the connection before its greeting."""


def no_handshake(hop: Hop, error: Exception, seconds: float, deadline: float) -> Unreachable:
    """Why there was a connection but no exchange of keys."""
    if time.monotonic() >= deadline - 0.2 or isinstance(error, TimeoutError):
        return Unreachable(
            f"cannot reach {hop.who}: it accepts connections but no SSH server "
            f"answers within {seconds:.0f} s",
            hint="is that the port of sshd? a longer limit: --timeout",
            ref="unreachable",
        )
    kind = Dropped if str(error).startswith("Error reading SSH protocol banner") else Unreachable
    return kind(
        f"cannot talk SSH with {hop.who}: {cause(error)}",
        hint="is that the port of sshd? sshd may also be refusing new connections (MaxStartups)",
        ref="unreachable",
    )


def not_forwarded(hop: Hop, jump: Hop, error: Exception, seconds: float) -> Unreachable:
    """Why a jump host gave no connection: its refusal, its failure or its silence."""
    code = getattr(error, "code", 0)
    if code == 1:  # RFC 4254, section 5.1
        why = "it may not forward there"
        hint = f"allow it in sshd_config of {jump.label}: AllowTcpForwarding, PermitOpen"
    elif code:
        why = "it cannot connect there"
        hint = f"is sshd running there? try: {hop.way} ssh-keyscan -p {hop.port} {hop.host}"
    elif "timeout" in str(error).lower():
        why = f"no answer within {seconds:.0f} s"
        hint = f"try: {hop.way} ssh-keyscan -p {hop.port} {hop.host}; a longer limit: --timeout"
    else:
        why, hint = cause(error), f"try: {hop.way} true"
    return Unreachable(
        f"cannot reach {hop.who} through {jump.label}: {why}", hint=hint, ref="unreachable"
    )
