"""Runs on the managed host, in the agent: the verbs images, image inspect and image history: what is in the store."""

from __future__ import annotations

import fnmatch
import re
import time
from typing import TYPE_CHECKING, Any

from ..contract.errors import HostctlError
from ..contract.reference import DEFAULT_HOST, parse
from .collect import layer_size, layers_of
from .needed import needed
from .store import Image, Store

if TYPE_CHECKING:
    from ..agent.channel import Channel
    from ..agent.host import Host

_SHORT_ID = re.compile(r"(?:sha256:)?([0-9a-f]{4,64})")


def find(store: Store, reference: str) -> Image:
    """The image that a tag, a digest reference, or the beginning of an id means.

    Raises:
        HostctlError: `no-image`, or `image-ambiguous` where several ids begin so.
    """
    image = store.image(reference)
    if image is not None:
        return image
    name, _, digest = reference.partition("@")
    if digest:
        repository = parse(name).name
        for image in store.images():
            same = image.name and parse_or_none(image.name) == repository
            if same and digest in (image.pinned, image.manifest):
                return image
    match = _SHORT_ID.fullmatch(reference)
    found = {i.image_id: i for i in store.images() if match and i.image_id.startswith(match[1])}
    if len(found) > 1:
        raise HostctlError(
            f"cannot tell which image {reference} is: {len(found)} ids begin so",
            hint="write more of the id",
            ref="image-ambiguous",
        )
    if not found:
        raise HostctlError(
            f"cannot find the image {reference}",
            hint="hostctl images shows what is there",
            ref="no-image",
        )
    return next(iter(found.values()))


def parse_or_none(name: str) -> str | None:
    """Registry and repository of a tag's name; None for names that are no references."""
    try:
        return parse(name).name
    except HostctlError:
        return None


def familiar(name: str) -> str:
    """A name as Docker shows it: without `docker.io/library/`."""
    for prefix in (f"{DEFAULT_HOST}/library/", f"{DEFAULT_HOST}/"):
        if name.startswith(prefix):
            return name[len(prefix) :]
    return name


def images(host: Host, args: dict[str, Any], channel: Channel) -> int:
    """A row per tag, the newest image first; `filters` is a list of (key, value) as Docker's `--filter` has them."""
    store = Store(host.paths.data)
    users = needed(host.paths.data)
    rows = [(row_of(store, image), image) for image in store.images()]
    chosen = [row for row, image in rows if matches(store, row, image, args.get("filters") or ())]
    for row in sorted(chosen, key=lambda row: row["created"], reverse=True):
        row["containers"] = users.containers.get(row["id"], [])
        row["releases"] = users.releases.get(row["id"], [])
        channel.send("row", data=row)
    return 0


def row_of(store: Store, image: Image) -> dict[str, Any]:
    """One line of `images`. An image whose config is missing has no date and no labels."""
    from ..monitor.verbs import duration

    try:
        config = store.config(image.image_id)
    except HostctlError:
        config = {}
    repository, _, tag = familiar(image.name).partition("@")[0].rpartition(":")
    if image.name and (not repository or "/" in tag):
        repository, tag = familiar(image.name).partition("@")[0], ""
    created = str(config.get("created") or "")
    return {
        "name": familiar(image.name),
        "repository": repository,
        "tag": tag,
        "id": image.image_id,
        "digest": image.pinned or image.manifest,
        "created": created,
        "age": f"{duration(time.time() - seconds(created))} ago" if created else "",
        "size": sum(layer_size(store, item) for item in set(layers_of(store, image.image_id))),
        "labels": (config.get("config") or {}).get("Labels") or {},
    }


def seconds(created: str) -> float:
    """Seconds since 1970 of a time such as `2026-01-02T03:04:05.678Z`; 0 where it is none."""
    import calendar

    match = re.match(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.\d+)?(Z|[+-]\d\d:\d\d)?", created)
    if not match:
        return 0.0
    try:
        moment = calendar.timegm(time.strptime(match[1], "%Y-%m-%dT%H:%M:%S"))
    except ValueError:
        return 0.0
    zone = match[2] or "Z"
    if zone == "Z":
        return float(moment)
    offset = int(zone[1:3]) * 3600 + int(zone[4:6]) * 60
    return float(moment - offset if zone[0] == "+" else moment + offset)


def matches(store: Store, row: dict[str, Any], image: Image, filters: Any) -> bool:
    """Whether all filters let the image through; several values of one key are alternatives, but for labels."""
    by_key: dict[str, list[str]] = {}
    for key, value in filters:
        by_key.setdefault(key, []).append(value)
    return all(_passes(store, row, image, key, values) for key, values in by_key.items())


def _passes(store: Store, row: dict[str, Any], image: Image, key: str, values: list[str]) -> bool:
    if key in ("label", "label!"):
        return all(_has_label(row["labels"], value) == (key == "label") for value in values)
    if key == "dangling":
        return any((value in ("true", "1")) == (not image.name) for value in values)
    if key == "reference":
        names = (row["name"], row["repository"], image.name)
        return any(fnmatch.fnmatchcase(name, value) for name in names for value in values)
    created = seconds(row["created"])
    if key == "until":
        return all(created < float(value) for value in values)
    other = seconds(row_of(store, find(store, values[0]))["created"])
    return created < other if key == "before" else created > other


def _has_label(labels: dict[str, str], wanted: str) -> bool:
    name, equals, value = wanted.partition("=")
    return name in labels and (not equals or labels[name] == value)


def inspect(host: Host, args: dict[str, Any], channel: Channel) -> int:
    """A row per image, with the field names of Docker's API."""
    store = Store(host.paths.data)
    for image in _each(store, args["names"]):
        channel.send("row", data=_described(store, image))
    return 0


def _each(store: Store, names: list[str]) -> list[Image]:
    """The images of these names. Raises where one is missing: `no-image` if all are."""
    found, missing = [], []
    for name in names:
        try:
            found.append(find(store, name))
        except HostctlError as error:
            missing.append(error)
    if missing and found:
        raise HostctlError(missing[0].message, hint=missing[0].hint, ref="image-missing")
    if missing:
        raise missing[0]
    return found


def _described(store: Store, image: Image) -> dict[str, Any]:
    config = store.config(image.image_id)
    tags = [i.name for i in store.images() if i.image_id == image.image_id and i.name]
    digests = {
        f"{familiar(repository)}@{i.pinned}"
        for i in store.images()
        if i.image_id == image.image_id and i.pinned
        for repository in [parse_or_none(i.name)]
        if repository
    }
    layers = layers_of(store, image.image_id)
    history = config.get("history") or [{}]
    tagged = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(image.tagged))
    row = {
        "Id": f"sha256:{image.image_id}",
        "RepoTags": [familiar(name) for name in tags if "@" not in name],
        "RepoDigests": sorted(digests),
        "Comment": history[-1].get("comment", ""),
        "Created": config.get("created", ""),
        "Author": config.get("author", ""),
        "Architecture": config.get("architecture", ""),
        "Variant": config.get("variant", ""),
        "Os": config.get("os", ""),
        "Size": sum(layer_size(store, item) for item in set(layers)),
        "RootFS": {"Type": "layers", "Layers": [f"sha256:{item}" for item in layers]},
        "Metadata": {"LastTagTime": tagged},
        "Descriptor": {
            "mediaType": image.media_type,
            "digest": image.manifest,
            "size": image.size,
        },
        "Config": config.get("config") or {},
    }
    return {key: value for key, value in row.items() if value or key not in ("Variant", "Author")}


def history(host: Host, args: dict[str, Any], channel: Channel) -> int:
    """A row per step of one image, the last one first."""
    from ..monitor.verbs import duration

    store = Store(host.paths.data)
    image = find(store, args["name"])
    config = store.config(image.image_id)
    layers = layers_of(store, image.image_id)
    steps = config.get("history") or [{} for _ in layers]
    rows = []
    for step in steps:
        size = 0 if step.get("empty_layer") or not layers else layer_size(store, layers.pop(0))
        created = str(step.get("created") or "")
        rows.append(
            {
                "id": "<missing>",
                "created": created,
                "age": f"{duration(time.time() - seconds(created))} ago" if created else "",
                "created_by": str(step.get("created_by") or ""),
                "size": size,
                "comment": str(step.get("comment") or ""),
            }
        )
    if rows:
        rows[-1]["id"] = f"sha256:{image.image_id}"
    for row in reversed(rows):
        channel.send("row", data=row)
    return 0
