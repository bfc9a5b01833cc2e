"""Runs in both worlds: the values of a bootstrap, before they become a program's arguments."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ..contract.errors import HostctlError

if TYPE_CHECKING:
    from ..image import Bootstrap


def check_bootstrap(spec: Bootstrap, name: str) -> None:
    """Raise `bootstrap-value` for what the programs would take for an option, a file or a second word."""
    for what, values, pattern in (
        ("suite", (spec.suite,), r"[a-z0-9][a-z0-9./-]*"),
        ("variant", (spec.variant,), r"[a-z0-9][a-z0-9-]*"),
        ("component", spec.components, r"[a-z0-9][a-z0-9./-]*"),
        ("package", spec.packages, r"[a-z0-9][a-zA-Z0-9.+:~=/-]*"),
        ("mirror", (spec.mirror,), r"((https?|file|copy):/[^\s\[\]]+)?"),
    ):
        for value in values:
            if not re.fullmatch(pattern, value):
                raise HostctlError(
                    f"cannot bootstrap {name}: {value!r} is no {what}",
                    hint="a mirror is a URL; names have lowercase letters, digits, '.', '-' and '+'",
                    ref="bootstrap-value",
                )
