"""Runs on the managed host: the kind `image`: an image in the host's store, under a tag."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Bootstrap:
    """An image made of a distribution's packages, without a registry."""

    suite: str = "bookworm"
    packages: tuple[str, ...] = ()
    mirror: str = ""
    variant: str = "minbase"
    components: tuple[str, ...] = ("main",)
    command: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    user: str = ""
    working_dir: str = ""
    stop_signal: str = ""


@dataclass(frozen=True)
class Spec:
    """Where the image comes from: exactly one of pull (nothing set), `bootstrap` or `archive`.

    `name` is the reference that containers use (`docker.io/library/nginx:1`, or a key of `images:`).
    `archive` is an OCI layout (directory or tar) or a `docker save` file on the controller; the controller
    replaces it by `content`: path inside the archive -> digest of a blob of this run.
    """

    name: str
    pull: str = ""
    pull_policy: str = "missing"
    platform: str = ""
    insecure: bool = False
    bootstrap: Bootstrap | None = None
    archive: str = ""
    content: dict[str, str] = field(default_factory=dict)
    state: str = "present"
