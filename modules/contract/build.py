"""Runs in both worlds: what an image is built from: Compose's `build:`, its files replaced by digests.

Source: the Compose Build Specification.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

from .compose import ENVIRONMENT, LABELS, WORDS
from .fields import SIZE


@dataclass(frozen=True)
class Build:
    """One build of one target.

    Attributes:
        context: on the controller a folder; on the wire the digest of its listing (`listing` below), or empty.
        dockerfile: on the controller a file, relative to the context; on the wire its name, for messages.
        dockerfile_inline: its text; on the wire always.
        args: build arguments.
        additional_contexts: name -> folder or `docker-image://REFERENCE`; on the wire a listing's digest.
        secrets: ids that RUN --mount=type=secret may ask for; on the controller with where their values are.
        ssh: ids that RUN --mount=type=ssh may ask for; on the controller with sockets or key files.
        network: default, host or none.
        tags: further names of the image.
        shm_size: bytes; 0: 64 MiB.
        platforms: at most the host's own.
        epoch: SOURCE_DATE_EPOCH: no time in the image is later; -1: times as they are.
    """

    context: str = ""
    dockerfile: str = ""
    dockerfile_inline: str = ""
    args: Annotated[dict[str, str], ENVIRONMENT] = field(default_factory=dict)
    target: str = ""
    tags: Annotated[tuple[str, ...], WORDS] = ()
    labels: Annotated[dict[str, str], LABELS] = field(default_factory=dict)
    no_cache: bool = False
    pull: bool = False
    secrets: Annotated[tuple[str, ...], WORDS] = ()
    ssh: Annotated[tuple[str, ...], WORDS] = ()
    additional_contexts: Annotated[dict[str, str], ENVIRONMENT] = field(default_factory=dict)
    network: str = ""
    shm_size: Annotated[int, SIZE] = 0
    ulimits: dict[str, Any] = field(default_factory=dict)
    extra_hosts: Annotated[dict[str, str], ENVIRONMENT] = field(default_factory=dict)
    platforms: Annotated[tuple[str, ...], WORDS] = ()
    epoch: int = -1


IMAGE = "docker-image://"
Entry = list[Any]
"""One line of a context's listing, JSON: `[path, kind, mode, mtime in ns, size, digest or link's target]`."""
