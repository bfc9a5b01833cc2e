"""Runs in both worlds: the flags of an instruction, checked against those that it has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .errors import DockerfileError
from .names import did_you_mean

BOOL, TEXT, LIST = "bool", "text", "list"

FLAGS: dict[str, dict[str, str]] = {
    "ADD": {
        "chown": TEXT, "chmod": TEXT, "checksum": TEXT, "exclude": LIST,
        "keep-git-dir": BOOL, "link": BOOL, "parents": BOOL, "unpack": BOOL,
    },
    "COPY": {
        "from": TEXT, "chown": TEXT, "chmod": TEXT, "exclude": LIST, "link": BOOL, "parents": BOOL,
    },
    "FROM": {"platform": TEXT},
    "HEALTHCHECK": {
        "interval": TEXT, "timeout": TEXT, "start-period": TEXT, "start-interval": TEXT,
        "retries": TEXT,
    },
    "RUN": {"mount": LIST, "network": TEXT, "security": TEXT, "device": LIST},
}  # fmt: skip
"""Instructions that are not here have no flags."""


class Flags:
    """What was given. A flag that was not is empty, or None for a switch."""

    def __init__(self, instruction: str, words: Sequence[str]) -> None:
        """
        Raises:
            DockerfileError: an unknown flag, one without its value, one that is given twice.
        """
        known: Mapping[str, str] = FLAGS.get(instruction, {})
        self.values: dict[str, list[str]] = {}
        for word in words:
            name, equals, value = word[2:].partition("=")
            kind = known.get(name)
            if kind is None:
                raise DockerfileError(
                    f"cannot use --{name} with {instruction}: there is no such flag",
                    hint=did_you_mean(name, known, "--") or f"{instruction} has no flags",
                    ref="dockerfile-flag",
                )
            if kind != LIST and name in self.values:
                raise DockerfileError(
                    f"cannot use --{name} twice in one {instruction}", ref="dockerfile-flag"
                )
            if kind == BOOL:
                value = (value or "true").lower() if not equals or value else ""
                if value not in ("true", "false"):
                    raise DockerfileError(
                        f"cannot use {word}: it is true or false", ref="dockerfile-flag"
                    )
            elif not equals:
                raise DockerfileError(
                    f"cannot use --{name} without a value",
                    hint=f"write --{name}=VALUE, with = and no space",
                    ref="dockerfile-flag",
                )
            self.values.setdefault(name, []).append(value)

    def text(self, name: str) -> str:
        return self.values.get(name, [""])[0]

    def list(self, name: str) -> tuple[str, ...]:
        return tuple(self.values.get(name, ()))

    def switch(self, name: str) -> bool | None:
        return self.values[name][0] == "true" if name in self.values else None
