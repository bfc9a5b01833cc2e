"""Runs on the controller: a play's declared sections into resources: names made full, needs made explicit."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from hostctl_host.contract.document import Resource
from hostctl_host.contract.spec import encode

from ..credentials import Lent
from ..playbook.errors import Collector, did_you_mean
from ..playbook.kinds import Kinds
from ..playbook.model import Play
from ..template import Deferred, Engine, Scope, TemplateError, UnknownResult
from ..template.engine import is_template
from ..yaml import Place
from .content import Content
from .draft import Draft
from .images import image_data
from .lending import Lending
from .service_builds import split_build
from .service_files import read_files
from .services import Lowered, Service, lower_services
from .storage import check_memory_volumes
from .validate import check_compose_variables, check_keys, validate
from .values import section_value

EXTRA_KEYS = {
    "container": frozenset(("build", "container_name", "env_file", "pull_policy")),
    "network": frozenset(("ipam",)),
    "volume": frozenset(),
    "image": frozenset(),
    "secret": frozenset(("content",)),
    "config": frozenset(),
}
KINDS = {
    "images": "image",
    "networks": "network",
    "volumes": "volume",
    "secrets": "secret",
    "configs": "config",
    "containers": "container",
}
_INTERNAL = {
    "container": ("name", "service", "number"),
    "image": ("name", "content", "shared", "pin", "repin"),
    "secret": ("digest", "state"),
    "config": ("digest", "hidden", "state"),
}
BOOT = "hostctl"


@dataclass(frozen=True)
class Entry:
    """One declared thing: its key and body rendered, beside what was written; `secret`: a hidden value is in it."""

    key: str
    body: Any
    raw: Any
    place: Place
    secret: bool = False


@dataclass
class Names:
    """What containers may refer to: key -> full name (images: name -> full reference).

    Attributes:
        built: bodies of the images that containers build, by name.
    """

    images: dict[str, str] = field(default_factory=dict)
    built: dict[str, dict[str, Any]] = field(default_factory=dict)
    networks: dict[str, str] = field(default_factory=dict)
    volumes: dict[str, str] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)
    configs: dict[str, str] = field(default_factory=dict)


class GraphLowering:
    """One play's sections."""

    def __init__(
        self, play: Play, engine: Engine, kinds: Kinds, content: Content, lent: Lent
    ) -> None:
        self.play = play
        self.engine = engine
        self.kinds = kinds
        self.content = content
        self.lent = lent

    @property
    def empty(self) -> bool:
        return not any(self.play.sections.values())

    def check(self, errors: Collector) -> None:
        """What can be told without variables: keys, and `${X}`, which is no template here."""
        for section, entries in self.play.sections.items():
            kind = KINDS[section]
            cls = self.kinds.spec(kind)
            for key, body in entries.items():
                place = self._place(section, key)
                if not isinstance(body, dict):
                    continue
                check_keys(cls, kind, body, place, errors, EXTRA_KEYS[kind])
                for name in _INTERNAL.get(kind, ()):
                    if name in body:
                        hint = (
                            "use container_name"
                            if (kind, name) == ("container", "name")
                            else "leave it out"
                        )
                        errors.add(
                            f"cannot use the key {name!r} in {kind}: hostctl sets it",
                            where=place.key(body, name, name=True),
                            hint=hint,
                            ref="unknown-key",
                        )
                check_compose_variables(body, place, errors)

    def _place(self, section: str, key: Any) -> Place:
        written = self.play.keys.get(section)
        if section == "containers" and not (isinstance(written, dict) and key in written):
            section = "services"
        return self.play.place(section, key)

    def lower(self, scope: Scope, errors: Collector) -> list[Draft]:
        """All resources of the graph for one host, in the order images, networks, volumes, containers.

        Raises:
            Deferred: a value needs a fact or a result that is not there yet.
        """
        names = Names()
        lending = Lending(self.lent, self.content, self.engine.folder)
        drafts = self._images(scope, names, lending, errors)
        drafts += self._named("networks", scope, names.networks, errors)
        drafts += self._named("volumes", scope, names.volumes, errors)
        drafts += self._valued("secrets", scope, names.secrets, errors)
        drafts += self._valued("configs", scope, names.configs, errors)
        services: list[Service] = []
        for entry in self._entries("containers", scope, errors, drafts):
            body = entry.body
            if isinstance(body, dict) and body.get("build") is not None:
                body = self._built(entry, names, lending, drafts, errors)
                if body is None:
                    continue
            if isinstance(body, dict):
                body = read_files(body, entry.raw, entry.place, self.engine, self.content, errors)
            service = Service.read(
                entry.key, body, entry.raw, entry.place, self.kinds.spec("container"), errors
            )
            if service is not None:
                services.append(service)
        declared = {str(key) for key in self.play.sections.get("containers", {})}
        made = lower_services(
            services,
            self.play.project,
            names,
            local_folder(scope, self.engine),
            errors,
            frozenset(declared - {service.key for service in services}),
        )
        drafts = lending.settle(names.secrets, drafts, made.drafts, errors)
        check_memory_volumes([*drafts, *made.drafts], errors)
        implicit = self._implicit(made, names)
        hidden = self.engine.condition(scope, self.play.no_log, self.play.place("no_log"))
        return [
            replace(draft, resource=replace(draft.resource, no_log=hidden or draft.resource.no_log))
            for draft in (*implicit, *drafts, *made.drafts)
        ]

    def _entries(
        self, section: str, scope: Scope, errors: Collector, drafts: list[Draft]
    ) -> list[Entry]:
        out = []
        for key, body in self.play.sections.get(section, {}).items():
            place = self._place(section, key)
            try:
                name = str(self.engine.text(scope, key, place)) if is_template(key) else str(key)
                scope.touched.clear()
                value = self.engine.value(scope, body, place)
                out.append(Entry(name, value, body, place, bool(scope.touched)))
            except TemplateError as error:
                errors.take(error)
            except UnknownResult as unknown:
                drafts.append(self._unknown(KINDS[section], str(key), place, unknown.name))
        return out

    def _unknown(self, kind: str, key: str, place: Place, name: str) -> Draft:
        resource = Resource(
            id="",
            kind=kind,
            where=place.position,
            skip=f"may change: {name} is known after apply",
            maybe=True,
        )
        prefix = {"container": f"{self.play.project}-", "image": ""}.get(
            kind, f"{self.play.project}_"
        )
        return Draft(kind, prefix + key, resource, unknown=True)

    def _images(
        self, scope: Scope, names: Names, lending: Lending, errors: Collector
    ) -> list[Draft]:
        drafts: list[Draft] = []
        for entry in self._entries("images", scope, errors, drafts):
            drafts += self._image(entry, names, lending, errors)
        return drafts

    def _image(
        self, entry: Entry, names: Names, lending: Lending, errors: Collector
    ) -> list[Draft]:
        found = image_data(
            entry.key, entry.body, entry.raw, entry.place, self.engine, self.content, errors
        )
        names.images[entry.key] = entry.key
        if found is None:
            return []
        data, digests = found
        names.images[entry.key] = data.get("pull") or entry.key
        if "build" in data:
            place = entry.place.key(entry.raw, "build")
            lending.note(entry.key, entry.body["build"], entry.raw["build"], place)
        spec = validate(
            self.kinds.spec("image"),
            "image",
            data,
            entry.place,
            entry.raw,
            errors,
            f"the image {entry.key}",
        )
        if spec is None:
            return []
        return [_draft("image", entry.key, spec, entry.place, digests=digests)]

    def _built(
        self,
        entry: Entry,
        names: Names,
        lending: Lending,
        drafts: list[Draft],
        errors: Collector,
    ) -> dict[str, Any] | None:
        """The body of a container whose image is built; that image goes to the drafts."""
        found = split_build(entry, self.play.project, names, errors)
        if found is None:
            return None
        body, image = found
        if image is not None:
            wanted = replace(entry, key=str(body["image"]), body=image)
            drafts += self._image(wanted, names, lending, errors)
        return body

    def _named(
        self, section: str, scope: Scope, names: dict[str, str], errors: Collector
    ) -> list[Draft]:
        """Networks and volumes: `<project>_<key>`, or as `name:` says; an external one as it is."""
        drafts: list[Draft] = []
        kind = KINDS[section]
        for entry in self._entries(section, scope, errors, drafts):
            body = {} if entry.body is None else entry.body
            if not isinstance(body, dict):
                errors.add(
                    f"cannot use the {kind} {entry.key}: it is no map",
                    where=entry.place,
                    ref="wrong-type",
                )
                continue
            data = {key: value for key, value in body.items() if value is not None}
            external = data.get("external") in (True, "true", "yes")
            data.setdefault("name", entry.key if external else f"{self.play.project}_{entry.key}")
            if kind == "network":
                _flatten_ipam(data, entry, errors)
            drivers = {"network": "bridge", "volume": "local"}
            if data.get("driver", drivers[kind]) != drivers[kind]:
                errors.add(
                    f"not supported yet: the {kind} driver {data['driver']}",
                    where=entry.place.key(entry.raw, "driver"),
                    ref="not-supported",
                )
                continue
            names[entry.key] = str(data["name"])
            label = f"the {kind} {entry.key}"
            spec = validate(
                self.kinds.spec(kind), kind, data, entry.place, entry.raw, errors, label
            )
            if spec is not None:
                drafts.append(_draft(kind, str(data["name"]), spec, entry.place))
        return drafts

    def _valued(
        self, section: str, scope: Scope, names: dict[str, str], errors: Collector
    ) -> list[Draft]:
        """Secrets and configs: named as networks are; what they hold becomes content."""
        drafts: list[Draft] = []
        kind = KINDS[section]
        for entry in self._entries(section, scope, errors, drafts):
            label = f"the {kind} {entry.key}"
            data = section_value(
                kind, entry, self.play.project, self.engine, self.content, errors, label
            )
            names[entry.key] = str((data or {}).get("name", entry.key))
            if data is None:
                continue
            spec = validate(
                self.kinds.spec(kind), kind, data, entry.place, entry.raw, errors, label
            )
            if spec is not None:
                digests = (spec.digest,) if spec.digest else ()
                draft = _draft(kind, spec.name, spec, entry.place, digests=digests)
                hidden = kind == "secret" or entry.secret
                drafts.append(replace(draft, resource=replace(draft.resource, no_log=hidden)))
        return drafts

    def _implicit(self, made: Lowered, names: Names) -> list[Draft]:
        """Images that containers use and nobody declared, the default network, and their coming back."""
        image, network = self.kinds.spec("image"), self.kinds.spec("network")
        found = [boot_draft(self.kinds, draft.resource) for draft in made.drafts[:1]]
        for name, place in made.images.items():
            if name not in names.images:
                spec = image(
                    name=name,
                    platform=made.platforms[name],
                    pull_policy=made.policies.get(name, ""),
                )
                found.append(_draft("image", name, spec, place, implicit=True))
        for name, place in made.networks.items():
            if name not in names.networks.values():
                found.append(_draft("network", name, network(name=name), place, implicit=True))
        return found


def boot_draft(kinds: Kinds, needed_by: Resource) -> Draft:
    """What brings containers back after a reboot: whatever has containers has it."""
    spec = encode(kinds.spec("boot")(BOOT))
    return Draft(
        "boot",
        BOOT,
        replace(needed_by, kind="boot", spec=spec, needs=(), where=""),
        implicit=True,
    )


def _draft(
    kind: str,
    name: str,
    spec: Any,
    place: Place,
    *,
    digests: tuple[str, ...] = (),
    implicit: bool = False,
) -> Draft:
    resource = Resource(id="", kind=kind, spec=encode(spec), where=place.position)
    return Draft(kind, name, resource, digests, implicit=implicit)


def _flatten_ipam(data: dict[str, Any], entry: Entry, errors: Collector) -> None:
    """Compose's `ipam.config` with one subnet, as the plain keys."""
    ipam = data.pop("ipam", None)
    if ipam is None:
        return
    place = entry.place.key(entry.raw, "ipam")
    configs = ipam.get("config") or [] if isinstance(ipam, dict) else None
    if not isinstance(configs, list) or not all(isinstance(one, dict) for one in configs):
        errors.add(
            "cannot use ipam: write config with a list of maps", where=place, ref="wrong-type"
        )
        return
    for key in ipam:
        if key != "config" and not (key == "driver" and ipam[key] == "default"):
            errors.add(f"not supported yet: ipam.{key}", where=place, ref="not-supported")
    if len(configs) > 1:
        errors.add("not supported yet: more than one subnet", where=place, ref="not-supported")
    for key, value in configs[0].items() if configs else ():
        if key in ("subnet", "gateway", "ip_range"):
            data[key] = value
        elif key == "aux_addresses":
            errors.add(f"not supported yet: {key}", where=place, ref="not-supported")
        else:
            errors.add(
                f"cannot use the key {key!r} in ipam.config",
                where=place,
                hint=did_you_mean(key, ("subnet", "gateway", "ip_range")),
                ref="unknown-key",
            )


def local_folder(scope: Scope, engine: Engine) -> str:
    """The playbook's folder where the host is this machine (relative binds mean it), else nothing."""
    import os

    try:
        connection = scope.get("ansible_connection")
    except (Deferred, TemplateError, UnknownResult):
        return ""
    return os.path.abspath(engine.folder) if connection == "local" else ""
