"""Runs on the managed host, in the agent: the verb system df: what is on the disk, by kind."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from .collect import all_content, blob_size, cached, content_of, layer_size, unneeded
from .needed import containers, needed
from .shown import row_of
from .staging import prepared
from .store import Store

if TYPE_CHECKING:
    from ..agent.channel import Channel
    from ..agent.host import Host


def df(host: Host, args: dict[str, Any], channel: Channel) -> int:
    """One row: per kind `total`, `active`, `size` and `reclaimable` (bytes), and `items`."""
    channel.send(
        "row",
        data={
            "images": _images(host),
            "containers": _containers(host),
            "volumes": _volumes(host),
            "cache": _cache(host),
            "free": _free(host.paths.data),
        },
    )
    return 0


def _images(host: Host) -> dict[str, Any]:
    """What `image prune -a` would free is reclaimable; `unique` is what no other image has."""
    store = Store(host.paths.data)
    if not os.path.isdir(store.root):
        return _kind([], 0, 0, 0)
    who = needed(host.paths.data)
    images = store.images()
    with prepared(store):
        rest = [image for image in images if who.needs(image.name, image.image_id)]
        reclaimable = unneeded(store, rest, who.ids).size
        size = all_content(store).size
    items = []
    for image in images:
        others = [other for other in images if other.image_id != image.image_id]
        own = content_of(store, [image]).without(content_of(store, others))
        row = row_of(store, image)
        row["unique"] = own.size
        row["containers"] = who.containers.get(image.image_id, [])
        items.append(row)
    active = len({row["id"] for row in items if row["containers"]})
    return _kind(items, active, size, reclaimable, total=len({image.image_id for image in images}))


def _cache(host: Host) -> dict[str, Any]:
    """The build cache: what is not a layer of an image could be reclaimed (`system prune`)."""
    from ..build import keeping

    store = Store(host.paths.data)
    layers = cached(store) if os.path.isdir(store.root) else set()
    images = content_of(store, store.images()).layers.keys()
    items: list[dict[str, Any]] = [
        {
            "id": name,
            "type": "regular",
            "in_use": name in images,
            "size": blob_size(store, name) + layer_size(store, name),
        }
        for name in sorted(layers)
    ]
    items += keeping.items(host.paths.data)
    sizes = {True: 0, False: 0}
    for item in items:
        sizes[item["in_use"]] += item["size"]
    active = sum(item["in_use"] for item in items)
    return _kind(items, active, sum(sizes.values()), sizes[False])


def _containers(host: Host) -> dict[str, Any]:
    from ..monitor import client, state

    items: list[dict[str, Any]] = []
    for name, record in containers(host.paths.data):
        running = client.status(host.paths, name).status == state.RUNNING
        size = disk_usage(os.path.join(host.paths.data, "containers", name, "upper"))
        image = str((record.get("spec") or {}).get("image") or "")
        items.append({"name": name, "image": image, "running": running, "size": size})
    active = sum(item["running"] for item in items)
    total = sum(item["size"] for item in items)
    idle = sum(item["size"] for item in items if not item["running"])
    return _kind(items, active, total, idle)


def _volumes(host: Host) -> dict[str, Any]:
    folder = os.path.join(host.paths.data, "volumes")
    used = _used_volumes(host)
    items: list[dict[str, Any]] = []
    for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
        size = disk_usage(os.path.join(folder, name, "_data"))
        items.append({"name": name, "links": used.get(name, 0), "size": size})
    active = sum(bool(item["links"]) for item in items)
    idle = sum(item["size"] for item in items if not item["links"])
    return _kind(items, active, sum(item["size"] for item in items), idle)


def _used_volumes(host: Host) -> dict[str, int]:
    """Volume -> containers that have it, whoever named it in whatever form."""
    found: dict[str, int] = {}
    for _, record in containers(host.paths.data):
        for mount in (record.get("spec") or {}).get("volumes") or ():
            name = str(mount.get("source") or "") if isinstance(mount, dict) else ""
            if name and "/" not in name:
                found[name] = found.get(name, 0) + 1
    return found


def _kind(
    items: list[dict[str, Any]], active: int, size: int, idle: int, total: int | None = None
) -> dict[str, Any]:
    return {
        "total": len(items) if total is None else total,
        "active": active,
        "size": size,
        "reclaimable": idle,
        "items": items,
    }


def disk_usage(path: str) -> int:
    """Bytes on the disk of all below a folder, files with several names once, as du(1) counts."""
    seen: set[tuple[int, int]] = set()
    total = 0
    todo = [path]
    while todo:
        try:
            entries = list(os.scandir(todo.pop()))
        except OSError:
            continue
        for entry in entries:
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            if (status.st_dev, status.st_ino) not in seen:
                seen.add((status.st_dev, status.st_ino))
                total += status.st_blocks * 512
            if entry.is_dir(follow_symlinks=False):
                todo.append(entry.path)
    return total


def _free(path: str) -> int:
    status = os.statvfs(path if os.path.isdir(path) else "/")
    return status.f_bavail * status.f_frsize
