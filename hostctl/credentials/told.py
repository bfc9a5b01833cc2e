"""Runs on the controller: what one host is told about registries: logins and settings of those it needs, no others.

And what it is answered when it asks: for a login that a helper keeps, for what signatures are worth, for what a
build may use.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hostctl_host.contract.document import Resource
from hostctl_host.contract.errors import HostctlError
from hostctl_host.contract.reference import DEFAULT_HOST, parse
from hostctl_host.contract.registries import (
    DOCKER_HUB,
    RegistrySettings,
    parse_mirror,
    parse_registries,
    sent,
    settings_for,
)

from .bases import bases
from .keyring import Keyring
from .lent import Lent

if TYPE_CHECKING:
    from hostctl_host.contract.trust import Trust

VARIABLE = "hostctl_registries"
TRUST = "hostctl_trust"


@dataclass
class Logins:
    """The operator's logins, and one host's settings (`hostctl_registries`) and rules (`hostctl_trust`).

    Attributes:
        lent: secrets and SSH agents of builds; the host gets those of the images in `building`.
    """

    settings: Mapping[str, RegistrySettings] = field(default_factory=dict)
    keyring: Keyring = field(default_factory=Keyring)
    trust: Trust | None = None
    lent: Lent = field(default_factory=Lent, compare=False)
    building: set[str] = field(default_factory=set, compare=False)
    _host: str = ""
    _offered: set[str] = field(default_factory=set, repr=False, compare=False)

    def of(
        self,
        host: str,
        variables: Mapping[str, Any],
        take: Callable[[HostctlError], None] | None = None,
    ) -> Logins:
        """The same keyring with the settings of a host.

        Args:
            take: is given what is wrong with them instead of its being raised.
        Raises:
            HostctlError: `bad-registries`, with the host in `where`; `bad-trust`.
        """
        wrong: list[HostctlError] = []
        settings: Mapping[str, RegistrySettings] = {}
        try:
            settings = parse_registries(variables.get(VARIABLE) or {})
        except ValueError as error:
            wrong.append(
                HostctlError(
                    f"cannot use {VARIABLE}: {error}",
                    where=host,
                    hint="write {HOST: {insecure, mirrors, ca, cert, key, username, password}}",
                    ref="bad-registries",
                )
            )
        trust = None
        if variables.get(TRUST) is not None:
            from ..trust import policy

            trust = policy(variables[TRUST], host, wrong.append)
        for one in wrong:
            if take is None:
                raise one
            take(one)
        return Logins(settings, self.keyring, trust, self.lent, _host=host)

    def for_references(self, references: Iterable[str]) -> dict[str, Any]:
        """The fields `credentials`, `registries` and `trust` of a frame, for images that are pulled or pushed.

        A setting's own login wins over the operator's files. Repositories, not registries, have logins
        here: what is for one organisation of a registry goes to nobody else. A login that only a helper
        knows is offered (`ask`), and looked up when the host wants it.
        """
        logins: dict[str, dict[str, str]] = {}
        servers: dict[str, RegistrySettings] = {}
        for name in self._repositories(references):
            host = name.partition("/")[0]
            given = settings_for(self.settings, host)
            if given != RegistrySettings():
                servers[DEFAULT_HOST if host in DOCKER_HUB else host] = given
            login: dict[str, str] | None
            if given.username:
                login = {"username": given.username, "password": given.password}
            else:
                login = self.keyring.known(name)
                if login is None:
                    self._offered.add(name)
                    logins[name] = {"ask": "a helper may have it"}
            if login:
                logins[name] = login
        told: dict[str, Any] = {"credentials": logins, "registries": sent(servers)}
        if self.trust is not None:
            from hostctl_host.contract.trust import sent as rules

            told["trust"] = rules(self.trust)
        return told

    def for_images(self, *resources: Iterable[Resource]) -> dict[str, Any]:
        """The same for all images that these resources may pull; nothing where there are none."""
        listed = [resource for some in resources for resource in some]
        self.building.update(
            str(resource.spec["name"])
            for resource in listed
            if resource.kind == "image" and _is_built_here(resource)
        )
        wanted = _images_of(listed)
        held = self.trust is not None and any(resource.kind == "image" for resource in listed)
        return self.for_references(wanted) if wanted or held else {}

    def reply(self, frame: Mapping[str, Any]) -> dict[str, Any]:
        """The `answer` to a host's `question`. A login is given to whom it was offered, and to nobody else."""
        answer: dict[str, Any] = {"type": "answer", "number": frame["number"]}
        if frame["topic"] == "login" and frame["name"] in self._offered:
            answer["login"] = self.keyring.find(frame["name"])
        if str(frame["topic"]).startswith("build-"):
            answer.update(self.lent.reply(frame, self.building, self._host))
        if frame["topic"] == "trust" and self.trust is not None:
            from ..trust import problem

            reference = str(frame["reference"])
            rule = self.trust.of(parse(reference))
            answer["problem"] = problem(rule, reference, frame["digest"], frame["signatures"])
        return answer

    def _repositories(self, references: Iterable[str]) -> list[str]:
        """`host/path` of each image, at its registry and at the mirrors of that."""
        names: dict[str, None] = {}
        for reference in references:
            try:
                image = parse(reference)
            except HostctlError:
                continue
            for text in settings_for(self.settings, image.host).mirrors:
                one = parse_mirror(text)
                names["/".join(filter(None, (one.host, one.prefix, image.path)))] = None
            names[image.name] = None
        return list(names)


def _images_of(resources: Iterable[Resource]) -> list[str]:
    """References that these resources may be pulled by."""
    found = []
    for resource in resources:
        spec = resource.spec
        made = any(spec.get(key) for key in ("bootstrap", "content"))
        if resource.kind == "image" and spec.get("build"):
            found += bases(spec["build"]) if _is_built_here(resource) else []
        elif resource.kind == "image" and not made and spec.get("state") != "absent":
            found.append(str(spec.get("pull") or spec.get("name") or ""))
    return found


def _is_built_here(resource: Resource) -> bool:
    """Whether the host builds this image itself: what another builds needs nothing from registries here."""
    return isinstance(resource.spec.get("build"), dict) and not resource.spec.get("on")
