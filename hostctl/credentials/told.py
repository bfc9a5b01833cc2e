"""Runs on the controller: what one host is told about registries: logins and settings of those it needs, no others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

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

VARIABLE = "hostctl_registries"


@dataclass
class Logins:
    """The operator's logins and one host's settings (`hostctl_registries`)."""

    settings: Mapping[str, RegistrySettings] = field(default_factory=dict)
    keyring: Keyring = field(default_factory=Keyring)

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
            HostctlError: `bad-registries`, with the host in `where`.
        """
        try:
            return Logins(parse_registries(variables.get(VARIABLE) or {}), self.keyring)
        except ValueError as error:
            wrong = HostctlError(
                f"cannot use {VARIABLE}: {error}",
                where=host,
                hint="write {HOST: {insecure, mirrors, ca, cert, key, username, password}}",
                ref="bad-registries",
            )
        if take is None:
            raise wrong
        take(wrong)
        return self

    def for_references(self, references: Iterable[str]) -> dict[str, Any]:
        """The fields `credentials` and `registries` of a frame, for images that are pulled or pushed.

        A setting's own login wins over the operator's files. Repositories, not registries, have logins
        here: what is for one organisation of a registry goes to nobody else.
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
                login = self.keyring.find(name)
            if login:
                logins[name] = login
        return {"credentials": logins, "registries": sent(servers)}

    def for_images(self, *resources: Iterable[Resource]) -> dict[str, Any]:
        """The same for all images that these resources may pull; nothing where there are none."""
        wanted = [image for some in resources for image in _images_of(some)]
        return self.for_references(wanted) if wanted else {}

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
        if resource.kind == "image" and isinstance(spec.get("build"), dict):
            found += bases(spec["build"])
        elif resource.kind == "image" and not made and spec.get("state") != "absent":
            found.append(str(spec.get("pull") or spec.get("name") or ""))
    return found
