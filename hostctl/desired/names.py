"""Runs on the controller: names of images as registries know them, and ids of resources."""

from __future__ import annotations

import re

_REFERENCE = re.compile(
    r"(?P<name>[a-zA-Z0-9][a-zA-Z0-9._-]*(?::\d+)?(?:/[a-z0-9][a-z0-9._-]*)*)(?::(?P<tag>\w[\w.-]{0,127}))?"
    r"(?:@(?P<digest>sha256:[0-9a-f]{64}))?\Z"
)


def full_image(reference: str) -> str:
    """`nginx` is `docker.io/library/nginx:latest`; a digest stays, without a tag beside it being added.

    Raises:
        ValueError: it is no reference.
    """
    head, at, digest = reference.partition("@")
    first, slash, _ = head.partition("/")
    if not slash or not ("." in first or ":" in first or first == "localhost"):
        head = f"docker.io/{head}" if slash else f"docker.io/library/{head}"
    last = head.rsplit("/", 1)[-1]
    if not at and ":" not in last:
        head += ":latest"
    domain, _, path = head.partition("/")
    match = _REFERENCE.match(f"{path}{at}{digest}")
    if (
        not match
        or not path
        or (path != path.lower() and path.split(":")[0] != path.split(":")[0].lower())
    ):
        raise ValueError(f"{reference!r} is no name of an image")
    return f"{domain}/{path}{at}{digest}"


class Ids:
    """Hands out ids that are unique on a host in a project: a repeated one gets `#2`.

    Attributes:
        sent: those that the host was told, handlers too.
    """

    def __init__(self) -> None:
        self.taken: dict[str, int] = {}
        self.sent: set[str] = set()

    def make(self, kind: str, key: str) -> str:
        name = f"{kind}.{key}"
        self.taken[name] = count = self.taken.get(name, 0) + 1
        return name if count == 1 else f"{name}#{count}"
