"""Runs on the managed host, in the agent: the verb `build`: a request in, events and the image's id out.

A build that nothing has changed for is answered from what is written down of it; all else is imported, and asked
of the controller, only where something may have to be done.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Callable

from ..agent.channel import Channel
from ..agent.host import Host, Paths
from ..store.store import Image, Store
from .recall import recall

if TYPE_CHECKING:
    from .site import Files
    from .workshop import Workshop


def build(host: Host, args: dict[str, Any], channel: Channel) -> int:
    """Build an image.

    Args:
        args: `build` (`contract/build.py`, JSON), `names`, `held` (bases are to be held to rules).
    Answers with rows: `{"event": "step" | "log" | "image", ...}`; asks with `need` for content, and with `want` for
    what only a build needs that pulls: `credentials`, `registries`. Steps ask for what is lent to them.
    """
    names = [str(name) for name in args.get("names") or ()]
    known = None
    if not args.get("held"):
        known = recall(Store(host.paths.data), host.paths.data, args["build"], names)
    if known is None:
        image = _build(host, args, names, channel)
    else:
        image, events = known
        for event in events:
            channel.send("row", data={**event, "state": "cached"}, gather=True)
    _send(channel, {"event": "image", "id": image.image_id, "digest": image.manifest})
    return 0


def _build(host: Host, args: dict[str, Any], names: list[str], channel: Channel) -> Image:
    from .workshop import Workshop

    logins = _logins(host, channel)
    with Workshop() as workshop:
        workshop.start()  # it gets ready while the builder is imported here
        if args.get("held"):
            logins()
        return _walk(host, args["build"], names, channel, workshop, logins)


def _logins(host: Host, channel: Channel) -> Callable[[], None]:
    """Has the host know what pulling needs, when it is first called."""
    known: list[bool] = []

    def ask() -> None:
        if not known:
            channel.send("want")
            told, _ = channel.receive()
            host.take_registries(told, channel)
            known.append(True)

    return ask


def _walk(
    host: Host,
    request: dict[str, Any],
    names: list[str],
    channel: Channel,
    workshop: Workshop,
    logins: Callable[[], None],
) -> Image:
    from ..contract.build import Build
    from ..contract.spec import decode
    from ..store.filesystem import check_data_folder
    from .perform import origin_of, perform

    check_data_folder(host.paths)
    wanted = decode(Build, request)
    host.gone = lambda: channel.gone
    host.progress = lambda line: _send(channel, {"event": "progress", "text": line})
    host.open_questions(channel)
    return perform(
        wanted,
        host,
        stored_files(host, channel, logins),
        names,
        origin_of(wanted),
        lambda **event: _send(channel, event),
        workshop,
    )


def stored_files(host: Host, channel: Channel, logins: Callable[[], None]) -> Files:
    """Content that stays in DATA/build/blobs, so that what was sent once is not sent again."""
    from ..agent.content import Content
    from .lent import lent
    from .site import Files

    folder = os.path.join(host.paths.data, "build")
    content = Content(Paths(folder, host.paths.run), channel, stored=True)
    return Files(
        read=content.blob,
        fetch=content.fetch,
        ask=content.ask,
        path=lambda digest: os.path.join(folder, "blobs", digest),
        lent=lent("", host),
        logins=logins,
    )


def _send(channel: Channel, event: dict[str, Any]) -> None:
    channel.send("row", data=event, gather=event.get("event") == "log")
