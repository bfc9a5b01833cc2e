"""Runs in both worlds: which images a host may use (`hostctl_trust`): rules by registry and repository.

The meaning is that of containers-policy.json(5): the longest name above a repository decides. Hosts are sent the
rules without keys: they bring signatures, and the controller says what they are worth.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .reference import Reference
from .registries import DOCKER_HUB

ACCEPT, REJECT, SIGNED = "accept", "reject", "signed"
DEFAULT, LOCAL = "default", "local"


@dataclass(frozen=True)
class Rule:
    """What is asked of images below one name.

    Attributes:
        name: `registry[:port][/path]`, `*.domain`, `default`, or `local` (what was made on the host or loaded there).
        policy: `accept`, `reject` or `signed`.
        where: `file:line:column` of the rule.
        mark: of `signed`, what the store writes beside an image that was found signed: another rule or
            another key makes another mark, and the image is looked at again.
        keys: PEM of the public keys, one of which must have signed (on the controller alone).
        identity: what signatures call `name`, where images were copied from there (a mirror).
    """

    name: str
    policy: str
    where: str = ""
    mark: str = ""
    keys: tuple[str, ...] = ()
    identity: str = ""

    def __str__(self) -> str:
        return f"hostctl_trust, {self.name}" + (f" ({self.where})" if self.where else "")


@dataclass(frozen=True)
class Trust:
    """All rules of one host. Without `default` everything from registries is accepted, as without a policy."""

    rules: Mapping[str, Rule] = field(default_factory=dict)

    def of(self, reference: Reference) -> Rule:
        """The rule for an image that comes from its registry."""
        parts = reference.path.split("/")
        for count in range(len(parts), -1, -1):
            found = self.rules.get("/".join((reference.host, *parts[:count])))
            if found is not None:
                return found
        host = reference.host.partition(":")[0]
        while "." in host:
            host = host.partition(".")[2]
            found = self.rules.get(f"*.{host}")
            if found is not None:
                return found
        return self.rules.get(DEFAULT) or Rule(DEFAULT, ACCEPT)

    def of_local(self, reference: Reference | None) -> Rule:
        """The rule for what was built, bootstrapped, loaded or imported: that of exactly its repository, or `local`.

        Args:
            reference: None where the image's name is none.
        """
        found = self.rules.get(reference.name) if reference is not None else None
        return found or self.rules.get(LOCAL) or Rule(LOCAL, ACCEPT)


def rule_name(text: str) -> str:
    """The name of a rule as references have it. Raises ValueError."""
    if text in (DEFAULT, LOCAL):
        return text
    host, slash, path = text.rstrip("/").partition("/")
    wildcard = host.startswith("*.")
    if wildcard and slash:
        raise ValueError(f"{text!r} has a path behind a wildcard")
    if not wildcard and "." not in host and ":" not in host and host != "localhost":
        raise ValueError(
            f"{text!r} does not begin with a registry: write docker.io/{text}, or as it may be"
        )
    if "@" in path or ":" in path or path != path.lower():
        raise ValueError(f"{text!r} is no repository: rules have no tag and no digest")
    if host in DOCKER_HUB:
        host = "docker.io"
    return f"{host}/{path}" if path else host


def sent(trust: Trust) -> dict[str, dict[str, str]]:
    """What a host is told: no keys."""
    return {
        name: {"policy": rule.policy, "where": rule.where, "mark": rule.mark}
        for name, rule in trust.rules.items()
    }


def received(rules: Mapping[str, Mapping[str, Any]]) -> Trust:
    """The same again on the host."""
    return Trust(
        {
            name: Rule(name, str(rule["policy"]), str(rule["where"]), str(rule["mark"]))
            for name, rule in rules.items()
        }
    )
