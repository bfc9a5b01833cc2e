"""Runs on the controller: Compose's `deploy`: replicas and limits, folded into the plain keys."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from hostctl_host.contract.compose.limits import parse_cpus
from hostctl_host.contract.fields import FieldError, parse_size

from ..playbook.errors import Collector, did_you_mean
from ..yaml import Place

_FIELDS = {
    "limits": {"cpus": "cpus", "memory": "mem_limit", "pids": "pids_limit"},
    # What is promised to a container is its share where CPUs are scarce: one CPU is 1024 shares.
    "reservations": {"cpus": "cpu_shares", "memory": "mem_reservation"},
}
_RESERVATIONS_LATER = ("devices", "generic_resources")
_LATER = (
    "update_config",
    "rollback_config",
    "restart_policy",
    "placement",
    "endpoint_mode",
    "labels",
    "job",
)


@dataclass(frozen=True)
class Deploy:
    """How many containers, and their limits by the names of the spec."""

    replicas: int = 1
    limits: dict[str, Any] | None = None

    def fold(self, spec: Any, place: Place, raw: Any, errors: Collector) -> Any | None:
        """The spec with the limits in it; None where they cannot be together with the other keys."""
        for name in self.limits or {}:
            if getattr(spec, name):
                errors.add(
                    f"cannot use both {name} and deploy.resources",
                    where=place.key(raw, name, name=True),
                    ref="limit-twice",
                )
        try:
            return replace(spec, **self.limits) if self.limits else spec
        except FieldError as error:
            errors.add(
                f"cannot use deploy.resources: {error} ({'.'.join(map(str, error.path))})",
                where=place.walk(raw, ["deploy", "resources"]),
                ref="wrong-type",
            )
            return None


def read_deploy(value: Any, place: Place, raw: Any, errors: Collector) -> Deploy | None:
    """Read `deploy`; None with the reasons in `errors`."""
    if value is None:
        return Deploy()
    written = raw.get("deploy") if isinstance(raw, dict) else None
    own = Collector()
    deploy = _read(value, place, written, own)
    for error in own.errors:
        errors.take(error)
    return None if own.errors else deploy


def _read(value: Any, place: Place, written: Any, errors: Collector) -> Deploy:
    if not isinstance(value, dict):
        errors.add("cannot use deploy: it is a map", where=place, ref="wrong-type")
        return Deploy()
    for key in value:
        at = place.key(written, key, name=True)
        if key in _LATER or (key == "mode" and value[key] != "replicated"):
            errors.add(f"not supported yet: deploy.{key}", where=at, ref="not-supported")
        elif key not in ("replicas", "resources", "mode"):
            known = ("replicas", "resources")
            errors.add(
                f"cannot use the key {key!r} in deploy",
                where=at,
                hint=did_you_mean(key, known),
                ref="unknown-key",
            )
    replicas = value.get("replicas", 1)
    if isinstance(replicas, str) and replicas.isdigit():
        replicas = int(replicas)
    if not isinstance(replicas, int) or isinstance(replicas, bool) or not 0 <= replicas <= 1000:
        errors.add(
            f"cannot use {replicas!r} for deploy.replicas: it is a number of containers, 0 to 1000",
            where=place.key(written, "replicas"),
            ref="wrong-type",
        )
    limits = _limits(value.get("resources"), place, written, errors)
    return Deploy(replicas, limits)


def _limits(resources: Any, place: Place, written: Any, errors: Collector) -> dict[str, Any]:
    at = place.walk(written, ["resources"])
    if resources is None:
        return {}
    if not isinstance(resources, dict):
        errors.add("cannot use deploy.resources: it is a map", where=at, ref="wrong-type")
        return {}
    out: dict[str, Any] = {}
    for part, values in resources.items():
        where = place.walk(written, ["resources", part], name=True)
        if part not in _FIELDS:
            errors.add(
                f"cannot use the key {part!r} in deploy.resources",
                where=where,
                hint=did_you_mean(part, _FIELDS),
                ref="unknown-key",
            )
        elif values is not None and not isinstance(values, dict):
            errors.add(
                f"cannot use deploy.resources.{part}: it is a map", where=at, ref="wrong-type"
            )
        else:
            out.update(_part(part, values or {}, place, written, errors))
    return out


def _part(
    part: str, values: dict[str, Any], place: Place, written: Any, errors: Collector
) -> dict[str, Any]:
    """`limits` or `reservations`, by the names of the spec."""
    out: dict[str, Any] = {}
    fields = _FIELDS[part]
    for key, value in values.items():
        where = place.walk(written, ["resources", part, key])
        if part == "reservations" and key in _RESERVATIONS_LATER:
            errors.add(
                f"not supported yet: deploy.resources.{part}.{key}",
                where=where,
                ref="not-supported",
            )
        elif key not in fields:
            errors.add(
                f"cannot use the key {key!r} in deploy.resources.{part}",
                where=where,
                hint=did_you_mean(key, fields),
                ref="unknown-key",
            )
        else:
            try:
                made = _limit(key, value)
            except ValueError as error:
                errors.add(
                    f"cannot use deploy.resources.{part}.{key}: {error}",
                    where=where,
                    ref="wrong-type",
                )
                continue
            share = fields[key] == "cpu_shares"
            out[fields[key]] = max(2, round(made * 1024)) if share else made
    return out


def _limit(key: str, value: Any) -> Any:
    if key == "cpus":
        made = parse_cpus(value)
        if not isinstance(made, float):
            raise ValueError(f"{value!r} is no number of CPUs")
        return made
    if key == "memory":
        made = parse_size(value)
        if not isinstance(made, int) or isinstance(made, bool):
            raise ValueError(f"{value!r} is no size")
        return made
    if isinstance(value, str) and value.isdigit():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"{value!r} is no whole number")
    return value
