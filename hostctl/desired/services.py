"""Runs on the controller: entries of `containers:` into container specs, one per replica."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from hostctl_host.contract.document import Resource
from hostctl_host.contract.fields import FieldError, check_name
from hostctl_host.contract.pull_policy import check_policy
from hostctl_host.contract.spec import encode

from ..playbook.errors import Collector, did_you_mean
from ..yaml import Place
from .deploy import Deploy, read_deploy
from .draft import Draft
from .images import known_image
from .names import full_image
from .peers import find_peers, named_in_full
from .policies import policy_is_free, settle_policy
from .ports import check_ports, choose_ports
from .service_files import digests
from .storage import bind_source, given
from .validate import validate

if TYPE_CHECKING:
    from .graph import Names


@dataclass(frozen=True)
class Service:
    """One entry, validated: `spec` has no final names yet."""

    key: str
    spec: Any
    deploy: Deploy
    container_name: str
    raw: Any
    place: Place
    pull_policy: str = ""

    @classmethod
    def read(
        cls, key: str, body: Any, raw: Any, place: Place, spec_type: type[Any], errors: Collector
    ) -> Service | None:
        """Validate a service's body; None with the reasons in `errors`."""
        if not isinstance(body, dict):
            errors.add(
                f"cannot use the container {key}: it is no map", where=place, ref="wrong-type"
            )
            return None
        data = {
            name: value
            for name, value in body.items()
            if value is not None and not name.startswith("x-")
        }
        container_name = data.pop("container_name", "")
        pull_policy = str(data.pop("pull_policy", ""))
        try:
            check_policy(pull_policy)
        except ValueError as error:
            where = place.walk(raw, ["pull_policy"])
            errors.add(f"cannot use pull_policy: {error}", where=where, ref="wrong-type")
            return None
        deploy = read_deploy(data.pop("deploy", None), place.key(raw, "deploy"), raw, errors)
        if container_name:
            try:
                check_name(str(container_name))
            except FieldError as error:
                where = place.walk(raw, ["container_name"])
                errors.add(f"cannot use container_name: {error}", where=where, ref="wrong-type")
                return None
        data.update(name=key, service=key)
        spec = validate(spec_type, "container", data, place, raw, errors, f"the container {key}")
        if spec is None or deploy is None:
            return None
        spec = deploy.fold(spec, place, raw, errors)
        if spec is None:
            return None
        return cls(key, spec, deploy, str(container_name), raw, place, pull_policy)

    def at(self, *keys: Any) -> Place:
        return self.place.walk(self.raw, keys)

    def names(self, project: str) -> list[str]:
        """Full names of all replicas."""
        if self.container_name:
            return [self.container_name]
        return [f"{project}-{self.key}-{number}" for number in range(1, self.deploy.replicas + 1)]


@dataclass
class Lowered:
    """What the services need that nobody declared, and their resources."""

    images: dict[str, Place] = field(default_factory=dict)
    platforms: dict[str, str] = field(default_factory=dict)
    policies: dict[str, str] = field(default_factory=dict)
    networks: dict[str, Place] = field(default_factory=dict)
    drafts: list[Draft] = field(default_factory=list)


def lower_services(
    services: list[Service],
    project: str,
    names: Names,
    folder: str,
    errors: Collector,
    broken: frozenset[str] = frozenset(),
) -> Lowered:
    """Every service's containers, with full names and needs.

    Args:
        folder: what relative binds are relative to; empty where the host is another machine.
        broken: declared containers that are not among the services: why is said already.
    """
    out = Lowered()
    by_key = {service.key: service for service in services}
    _check_cycles(services, by_key, errors)
    for service in services:
        if service.container_name and service.deploy.replicas > 1:
            errors.add(
                f"cannot make {service.deploy.replicas} replicas of {service.key}: container_name allows one",
                where=service.at("container_name"),
                ref="replicas",
            )
            continue
        Lowering(service, project, names, folder, by_key, errors, out, broken=broken).lower()
    check_ports(services, project, errors)
    return out


def lower_alone(
    service: Service, project: str, names: Names, folder: str, errors: Collector, out: Lowered
) -> Any | None:
    """The final spec of a container outside of `containers:`: a name that nobody declared stands for itself."""
    return Lowering(service, project, names, folder, {}, errors, out, literal=True).alone()


class Lowering:
    """One service. `literal`: names that are not declared are taken as they are."""

    def __init__(
        self,
        service: Service,
        project: str,
        names: Names,
        folder: str,
        by_key: dict[str, Service],
        errors: Collector,
        out: Lowered,
        *,
        literal: bool = False,
        broken: frozenset[str] = frozenset(),
    ) -> None:
        self.broken = broken
        self.service = service
        self.project = project
        self.names = names
        self.folder = folder
        self.by_key = by_key
        self.errors = errors
        self.out = out
        self.literal = literal

    def alone(self) -> Any | None:
        spec = self.service.spec
        image, volumes, networks = self.image(), self.volumes(), self.networks()
        shared = given(self)
        if image is None or volumes is None or networks is None:
            return None
        if shared is None or not named_in_full(self):
            return None
        known = spec.service or spec.name
        return replace(
            spec,
            image=image,
            volumes=volumes,
            **shared,
            networks=tuple(_named(network, known, spec.name) for network in networks),
            ports=choose_ports(spec.ports, spec.number),
        )

    def lower(self) -> None:
        service, spec = self.service, self.service.spec
        image = self.image()
        depends = self.depends_on()
        volumes = self.volumes()
        networks = self.networks()
        shared = given(self)
        if image is None or depends is None or volumes is None or networks is None:
            return
        peers = find_peers(self)
        if shared is None or peers is None:
            return
        needs = ["boot.hostctl", f"image.{image}"]
        needs += [f"network.{network.network}" for network in networks]
        needs += [f"volume.{v.source}" for v in volumes if v.type == "volume" and v.source]
        needs += [f"secret.{grant.source}" for grant in shared["secrets"]]
        needs += [f"config.{grant.source}" for grant in shared["configs"]]
        optional = [f"container.{name}" for name, how in depends.items() if not how.required]
        needs += [f"container.{name}" for name in depends]
        others = [f"container.{mode.partition(':')[2]}" for mode in peers.values() if mode]
        others += [f"container.{name.partition(':')[0]}" for name in shared["volumes_from"]]
        needs += others
        for number, name in enumerate(service.names(self.project), 1):
            made = replace(
                spec,
                name=name,
                image=image,
                number=number,
                volumes=volumes,
                **shared,
                networks=tuple(_named(network, service.key, name) for network in networks),
                ports=choose_ports(spec.ports, number),
                depends_on=depends,
                **{kind: mode for kind, mode in peers.items() if mode},
                deploy={},
            )
            resource = Resource(
                id="",
                kind="container",
                spec=encode(made),
                needs=tuple(dict.fromkeys(needs)),
                optional=tuple(name for name in optional if name not in others),
                where=service.place.position,
            )
            self.out.drafts.append(Draft("container", name, resource, digests(made)))

    def image(self) -> str | None:
        spec = self.service.spec
        reference = spec.image
        known = known_image(reference, self.names.images)
        if known is not None:
            if not policy_is_free(self, reference):
                return None
            if spec.platform:
                self.errors.add(
                    f"cannot use platform: the image {reference} is declared in images",
                    where=self.service.at("platform"),
                    hint="write its platform there",
                    ref="platform-twice",
                )
                return None
            return known
        try:
            full = full_image(reference)
        except ValueError as error:
            self.errors.add(
                f"cannot use the image: {error}", where=self.service.at("image"), ref="image-name"
            )
            return None
        other = self.out.platforms.setdefault(full, spec.platform)
        if other != spec.platform:
            self.errors.add(
                f"cannot use {reference} for {spec.platform or 'any platform'}: another container uses it"
                f" for {other or 'any platform'}",
                where=self.service.at("platform" if spec.platform else "image"),
                hint="a host has one image under a name: declare two in images, with other names",
                ref="platform-twice",
            )
            return None
        self.out.images.setdefault(full, self.service.at("image"))
        return full if settle_policy(self, full) else None

    def depends_on(self) -> dict[str, Any] | None:
        """Full name of each container -> what is waited for; an optional one need not be declared."""
        out: dict[str, Any] = {}
        for key, dependency in self.service.spec.depends_on.items():
            other = self.by_key.get(key)
            if other is not None:
                out.update(dict.fromkeys(other.names(self.project), dependency))
            elif dependency.required and key not in self.broken:
                self.unknown("container", key, self.by_key, self.service.at("depends_on", key))
                return None
        return out

    def volumes(self) -> tuple[Any, ...] | None:
        out = []
        for index, mount in enumerate(self.service.spec.volumes):
            place = self.service.at("volumes", index)
            if mount.type == "volume" and mount.source:
                if mount.source not in self.names.volumes and not self.literal:
                    self.unknown("volume", mount.source, self.names.volumes, place)
                    return None
                mount = replace(mount, source=self.names.volumes.get(mount.source, mount.source))
            elif mount.type == "bind":
                source = bind_source(mount.source, place, self.folder, self.errors)
                if source is None:
                    return None
                mount = replace(mount, source=source)
            out.append(mount)
        return tuple(out)

    def networks(self) -> tuple[Any, ...] | None:
        spec = self.service.spec
        if spec.network_mode:
            for key in ("networks", "ports"):
                if getattr(spec, key):
                    self.errors.add(
                        f"cannot use {key} together with network_mode {spec.network_mode}",
                        where=self.service.at(key),
                        ref="network-mode",
                    )
                    return None
            return ()
        if not spec.networks:
            from hostctl_host.container import Attachment

            return (Attachment(self.default()),)
        out = []
        for index, network in enumerate(spec.networks):
            written = (self.service.raw or {}).get("networks")
            place = self.service.at(
                "networks", network.network if isinstance(written, dict) else index
            )
            key = network.network
            if key == "default" and key not in self.names.networks:
                out.append(replace(network, network=self.default()))
            elif key in self.names.networks:
                out.append(replace(network, network=self.names.networks[key]))
            elif self.literal:
                out.append(network)
            else:
                self.unknown("network", key, self.names.networks, place)
                return None
        return tuple(out)

    def default(self) -> str:
        name = self.names.networks.get("default", f"{self.project}_default")
        self.out.networks.setdefault(name, self.service.place)
        return name

    def unknown(self, kind: str, key: str, known: Any, place: Place) -> None:
        hint = did_you_mean(key, known)
        section = "containers" if kind == "container" else f"{kind}s"
        if not hint:
            hint = f"declare it in {section}:" if kind != "container" else ""
        self.errors.add(
            f"cannot find the {kind} {key}: it is not declared in {section}",
            where=place,
            hint=hint,
            ref=f"unknown-{kind}",
        )


def _named(network: Any, service: str, name: str) -> Any:
    """The attachment with the names by which others find the container."""
    return replace(network, aliases=tuple(dict.fromkeys((service, name, *network.aliases))))


def _check_cycles(services: list[Service], by_key: dict[str, Service], errors: Collector) -> None:
    done: set[str] = set()

    def visit(key: str, path: list[str]) -> None:
        if key in path:
            cycle = [*path[path.index(key) :], key]
            errors.add(
                f"cannot order the containers: {' -> '.join(cycle)} is a circle",
                where=by_key[key].at("depends_on"),
                ref="dependency-cycle",
            )
            return
        if key in done or key not in by_key:
            return
        spec = by_key[key].spec
        givers = [item.partition(":")[0] for item in spec.volumes_from]
        modes = [spec.pid.partition(":"), spec.ipc.partition(":")]
        peers = [name for mode, _, name in modes if mode == "service" and name != key]
        for below in (*spec.depends_on, *givers, *peers):
            visit(below, [*path, key])
        done.add(key)

    for service in services:
        visit(service.key, [])
