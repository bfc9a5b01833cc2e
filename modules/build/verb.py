"""Runs on the managed host, in the agent: the verb `build`: a request in, events and the image's id out."""

from __future__ import annotations

import base64
import os
from typing import Any

from ..agent.channel import Channel
from ..agent.content import Content
from ..agent.host import Host, Paths
from ..contract.build import Build
from ..contract.spec import decode
from ..store.filesystem import check_data_folder
from .perform import origin_of, perform
from .site import Files


def build(host: Host, args: dict[str, Any], channel: Channel) -> int:
    """Build an image.

    Args:
        args: `build` (`contract/build.py`, JSON), `names`, `secrets` (id -> base64).
    Answers with rows: `{"event": "step" | "log" | "image", ...}`; asks with `need` for content.
    """
    check_data_folder(host.paths)
    wanted = decode(Build, args["build"])
    secrets = {name: base64.b64decode(value) for name, value in (args.get("secrets") or {}).items()}
    host.gone = lambda: channel.gone
    host.progress = lambda line: _send(channel, {"event": "progress", "text": line})
    host.take_registries(args)
    files = stored_files(host, channel, secrets)
    image = perform(
        wanted,
        host,
        files,
        [str(name) for name in args.get("names") or ()],
        origin_of(wanted),
        lambda **event: _send(channel, event),
    )
    _send(channel, {"event": "image", "id": image.image_id, "digest": image.manifest})
    return 0


def stored_files(host: Host, channel: Channel, secrets: dict[str, bytes]) -> Files:
    """Content that stays in DATA/build/blobs, so that what was sent once is not sent again."""
    folder = os.path.join(host.paths.data, "build")
    content = Content(Paths(folder, host.paths.run), channel, stored=True)
    return Files(
        read=content.blob,
        fetch=content.fetch,
        path=lambda digest: os.path.join(folder, "blobs", digest),
        secret=secrets.get,
    )


def _send(channel: Channel, event: dict[str, Any]) -> None:
    channel.send("row", data=event, gather=event.get("event") == "log")
