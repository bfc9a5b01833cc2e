"""Runs on the managed host, in the agent: the verbs pull, push and login: images and registries, ad hoc.

Logins and settings come with the call and are gone with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable

from ..contract.errors import HostctlError
from ..contract.reference import Reference, canonical_name, parse
from .store import Image, Store

if TYPE_CHECKING:
    from ..agent.channel import Channel
    from ..agent.host import Host


def pull(host: Host, args: dict[str, Any], channel: Channel) -> int:
    """Bring what the tag points to now into the store. One row: `name`, `digest`, `id`, `status`."""
    from .. import image

    host.take_registries(args, channel)
    host.progress = _shown(channel)
    name = canonical_name(str(args["image"]))
    spec = image.Spec(
        name=name,
        pull_policy="always",
        platform=str(args.get("platform") or ""),
        insecure=bool(args.get("insecure")),
    )
    observed = image.observe(spec, host)
    changes = image.diff(spec, observed)
    if changes:
        image.apply(spec, observed, changes, host)
        observed = image.observe(_as_it_is(spec), host)
    assert observed is not None
    status = "downloaded" if changes else "up to date"
    data = {"name": name, "digest": observed.digest, "id": f"sha256:{observed.image_id}"}
    channel.send("row", data={**data, "status": status})
    return 0


def push(host: Host, args: dict[str, Any], channel: Channel) -> int:
    """Send an image to a registry. One row: `name`, `digest`, `id`, bytes `sent`, `mounted`, `present`.

    With `look`, only say by `name` and `id` what would be pushed; no row where the image is not here.
    """
    store = Store(host.paths.data)
    wanted = str(args["image"])
    image = store.image(wanted)
    if image is None:
        if args.get("look"):
            return 0
        raise HostctlError(
            f"cannot push {wanted}: it is not on the host",
            hint="hostctl pull, or build, it first",
            ref="image-missing",
        )
    destination = _destination(str(args.get("destination") or ""), image, wanted)
    data = {"name": str(destination), "id": f"sha256:{image.image_id}"}
    if args.get("look"):
        channel.send("row", data=data)
        return 0

    from .push import Push

    host.take_registries(args, channel)
    pushed = Push(
        store,
        image,
        destination,
        insecure=bool(args.get("insecure")),
        credentials=host.credentials,
        registries=host.registries,
        progress=_shown(channel),
    ).run()
    sizes = {"sent": pushed.sent, "mounted": pushed.mounted, "present": pushed.present}
    channel.send("row", data={**data, "digest": pushed.digest, **sizes})
    return 0


def login(host: Host, args: dict[str, Any], channel: Channel) -> int:
    """Ask a registry whether it takes the login that came with the call."""
    from .endpoint import Endpoint
    from .transport import Url

    host.take_registries(args, channel)
    server = str(args["registry"])
    endpoint = Endpoint(
        Reference(server, ""),
        insecure=bool(args.get("insecure")),
        credentials=host.credentials,
        registries=host.registries,
        verb="log in to",
    )
    try:
        base = endpoint.url("")
        answer = endpoint.request("GET", Url(base.scheme, base.host, "/v2/"))
        if answer.status != 200:
            raise endpoint.failed(answer, "/v2/")
    except HostctlError as error:
        if error.ref == "registry-unauthorized":
            error.hint = "check user and password"
        raise
    finally:
        endpoint.close()
    channel.send("row", data={"registry": server})
    return 0


def _destination(text: str, image: Image, wanted: str) -> Reference:
    """Where a push goes: as said, or where the image's own name says."""
    destination = parse(text or image.name or wanted)
    if not destination.tag and not text:
        # Pushed by digest it would have no name there.
        return Reference(destination.host, destination.path, "", image.manifest)
    return destination


def _as_it_is(spec: Any) -> Any:
    from dataclasses import replace

    return replace(spec, pull_policy="missing", platform="")


def _shown(channel: Channel) -> Callable[[str], None]:
    return lambda line: channel.send("progress", id="", state="apply", message=line)
