"""Runs on the managed host: the kind `image`: an image in the host's store, under a tag."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

from .agent.host import Host
from .contract.build import Build
from .contract.change import UNKNOWN, Action, Change, Reason
from .contract.compose import COMMAND, ENVIRONMENT, WORDS
from .contract.errors import CannotApply, CannotObserve, HostctlError

if TYPE_CHECKING:
    from .store.store import Image, Store


@dataclass(frozen=True)
class Bootstrap:
    """An image made of a distribution's packages, without a registry."""

    suite: str = "bookworm"
    packages: Annotated[tuple[str, ...], WORDS] = ()
    mirror: str = ""
    variant: str = "minbase"
    components: Annotated[tuple[str, ...], WORDS] = ("main",)
    command: Annotated[tuple[str, ...], COMMAND] = ()
    entrypoint: Annotated[tuple[str, ...], COMMAND] = ()
    environment: Annotated[dict[str, str], ENVIRONMENT] = field(default_factory=dict)
    user: str = ""
    working_dir: str = ""
    stop_signal: str = ""


@dataclass(frozen=True)
class Spec:
    """Where the image comes from: exactly one of pull (nothing set), `bootstrap`, `archive` or `build`.

    `name` is the reference that containers use (`docker.io/library/nginx:1`, or a key of `images:`).
    `archive` is an OCI layout (directory or tar) or a `docker save` file on the controller; the controller
    replaces it by `content`: path inside the archive -> digest of a blob of this run.
    """

    name: str
    pull: str = ""
    pull_policy: Literal["missing", "if_not_present", "always", "never"] = "missing"
    platform: str = ""
    insecure: bool = False
    bootstrap: Bootstrap | None = None
    build: Build | None = None
    archive: str = ""
    content: dict[str, str] = field(default_factory=dict)
    state: Literal["present", "absent"] = "present"

    def __post_init__(self) -> None:
        """Raise ValueError (the controller adds file and line) for what no host could make."""
        if self.state == "absent":
            return
        sources = {
            "pull": bool(self.pull),
            "bootstrap": self.bootstrap is not None,
            "archive": bool(self.archive or self.content),
            "build": self.build is not None,
        }
        given = [name for name, there in sources.items() if there]
        if len(given) > 1:
            raise ValueError(f"an image has one source, not {' and '.join(given)}")
        try:
            if self.bootstrap is not None:
                from .store.values import check_bootstrap

                check_bootstrap(self.bootstrap, self.name)
            elif not {"archive", "build"} & set(given):
                from .contract.reference import parse

                parse(self.pull or self.name)
        except HostctlError as error:
            raise ValueError(error.message + (f"; {error.hint}" if error.hint else "")) from None


@dataclass(frozen=True)
class Observed:
    """What the store has under the name, and what it should have.

    Attributes:
        image_id: config digest (hex) of what is there; None if nothing is.
        target_id: config digest of what should be there; None while only apply will tell.
        digest: digest of the manifest or index that is there, as its registry knows it.
        wanted: the same of what should be there; empty while only apply will tell.
        source: where what is there came from.
        download: bytes that a pull would fetch.
        layers: layers that a pull would fetch.
        missing_tool: the package that has to be installed first.
        why: of a build, the first step that has to be done.
        used_by: who else needs the tag, so that it may not go.
        marked: of what is there, the rule of trust that it was found to keep.
        mark: the rule that what should be there keeps, where it has to be signed.
    """

    image_id: str | None
    target_id: str | None
    digest: str = ""
    wanted: str = ""
    source: str = ""
    download: int = 0
    layers: int = 0
    missing_tool: str = ""
    why: str = ""
    used_by: tuple[str, ...] = ()
    marked: str = ""
    mark: str = ""


def content(spec: Spec) -> tuple[str, ...]:
    """The archive's blobs; of a build what lists its files, which are asked for when a step needs them."""
    if spec.build is not None:
        from .build.kind import listings

        return listings(spec.build)
    return tuple(sorted(set(spec.content.values())))


def observe(spec: Spec, host: Host) -> Observed | None:
    """Look at the store; at the registry only where the store cannot answer."""
    if host.trust is None or spec.state == "absent":
        return _observe(spec, host)
    from .store.store import Store
    from .store.trust import check_before, check_found

    image = Store(host.paths.data).image(spec.name)
    check_before(spec, image, host)
    found = _observe(spec, host)
    return check_found(spec, image, found, host) if found else None


def _observe(spec: Spec, host: Host) -> Observed | None:
    from .store.filesystem import check_data_folder
    from .store.store import Store

    store = Store(host.paths.data)
    image = store.image(spec.name)
    if spec.state == "absent":
        return _observe_removal(spec, image, host) if image else None
    if image is None:
        check_data_folder(host.paths)
    if spec.build is not None:
        from .build.kind import observe as look

        return look(spec, store, image, host)
    if spec.bootstrap is not None or spec.content:
        return _observe_made(spec, store, image)
    if image is not None and spec.pull_policy != "always" and _same_pull(spec, image):
        return _as_it_is(image)
    if spec.pull_policy == "never":
        if image is not None and not spec.pull:
            return _as_it_is(image)
        raise CannotObserve(
            f"cannot use image {spec.name}: it is not on the host, and pull_policy is never",
            hint="load or build it first, or set pull_policy: missing",
            ref="image-missing",
        )
    return _observe_pull(spec, store, image, host)


def _as_it_is(image: Image) -> Observed:
    return Observed(image.image_id, image.image_id, image.pinned, image.pinned, image.source)


def _origin(spec: Spec) -> str:
    """What the store records as the source of what this spec makes."""
    if spec.bootstrap is not None:
        from .store.bootstrap import identity

        return identity(spec.bootstrap)
    from .contract.document import canonical, digest
    from .contract.reference import canonical_name

    if spec.content:
        return "archive:" + digest(
            canonical([canonical_name(spec.name), spec.content, spec.platform])
        )
    platform = f" {spec.platform}" if spec.platform else ""
    return f"pull:{canonical_name(spec.pull or spec.name)}{platform}"


def _same_pull(spec: Spec, image: Image) -> bool:
    """Whether the tag may stay. One that stands for itself may be any image (loaded, built, ...)."""
    from .contract.reference import canonical_name

    itself = not spec.pull or canonical_name(spec.pull) == canonical_name(spec.name)
    return (itself and not spec.platform) or image.source == _origin(spec)


def _observe_made(spec: Spec, store: Store, image: Image | None) -> Observed:
    origin = _origin(spec)
    known = next((item for item in store.images() if item.source == origin), None)
    missing = ""
    if spec.bootstrap is not None and known is None:
        missing = _missing_tool(spec)
    return Observed(
        image_id=image.image_id if image else None,
        target_id=known.image_id if known else None,
        digest=image.pinned if image else "",
        wanted=known.pinned if known else "",
        source=image.source if image else "",
        missing_tool=missing,
    )


def _missing_tool(spec: Spec) -> str:
    import os

    from .store.bootstrap import TOOLS, tool

    if tool():
        return ""
    if not os.path.exists("/usr/bin/apt-get"):
        raise CannotObserve(
            f"cannot bootstrap {spec.name}: this host has neither {' nor '.join(TOOLS)}, and no apt-get",
            hint=f"install {' or '.join(TOOLS)} there, or ship the image as an archive",
            ref="program-missing",
        )
    return TOOLS[0]


def _observe_pull(spec: Spec, store: Store, image: Image | None, host: Host) -> Observed:
    from .store.obtain import registry_of

    registry = registry_of(spec, host)
    try:
        if image is not None and _same_pull(spec, image) and registry.digest() == image.pinned:
            return _as_it_is(image)
        remote = registry.resolve(spec.platform)
    except HostctlError as error:
        raise CannotObserve(error.message, hint=error.hint, ref=error.ref) from error
    finally:
        registry.close()
    if image is not None and image.image_id == remote.manifest.image_id and _same_pull(spec, image):
        return Observed(image.image_id, image.image_id, image.pinned, remote.digest, image.source)
    absent = {layer for layer in remote.manifest.layers if not store.has_blob(layer.digest)}
    return Observed(
        image_id=image.image_id if image else None,
        target_id=remote.manifest.image_id,
        digest=image.pinned if image else "",
        wanted=remote.digest,
        source=image.source if image else "",
        download=sum(layer.size for layer in absent),
        layers=len(absent),
    )


def _observe_removal(spec: Spec, image: Image, host: Host) -> Observed:
    used = tuple(sorted(_containers(host, image.image_id, others_only=True)))
    return Observed(image.image_id, None, image.pinned, source=image.source, used_by=used)


def _containers(host: Host, image_id: str, others_only: bool) -> list[str]:
    """Names of containers that were made from the image; perhaps only those of other projects."""
    from .store.needed import containers

    return [
        name
        for name, record in containers(host.paths.data)
        if record.get("image") == image_id
        and not (others_only and record.get("project") == host.project)
    ]


def diff(spec: Spec, observed: Observed | None) -> list[Change]:
    if spec.state == "absent":
        if observed is None or observed.used_by:
            return []
        return [Change(Action.DELETE, before=observed.digest, reason=Reason.UNWANTED)]
    assert observed is not None
    if not _differs(spec, observed):
        return []
    if _is_there(observed):
        before = "by another rule" if observed.marked else "not looked at"
        return [Change(Action.UPDATE, "signature", before, "good", Reason.DIFFERS)]
    after: Any = observed.wanted or UNKNOWN
    changes = []
    if observed.missing_tool:
        changes.append(
            Change(
                Action.CREATE,
                f"package {observed.missing_tool}",
                after="installed",
                reason=Reason.DEPENDENCY,
                note="makes the image on this host",
            )
        )
    if observed.image_id is None:
        changes.append(
            Change(Action.CREATE, after=after, reason=Reason.ABSENT, note=_note(spec, observed))
        )
    else:
        changes.append(
            Change(
                Action.UPDATE,
                "digest",
                observed.digest,
                after,
                Reason.DIFFERS,
                note=_note(spec, observed),
            )
        )
    return changes


def _differs(spec: Spec, observed: Observed) -> bool:
    return not _is_there(observed) or bool(observed.mark and observed.mark != observed.marked)


def _is_there(observed: Observed) -> bool:
    same = observed.image_id is not None and observed.image_id == observed.target_id
    return same and observed.digest == observed.wanted


def _note(spec: Spec, observed: Observed) -> str:
    if spec.build is not None:
        return f"builds from {observed.why}" if observed.why else "all steps are cached"
    if spec.bootstrap is not None:
        return f"bootstraps {spec.bootstrap.suite}" if observed.target_id is None else ""
    if spec.content:
        return "from an archive"
    if not observed.layers:
        return ""
    layers = "1 layer" if observed.layers == 1 else f"{observed.layers} layers"
    return f"pulls {observed.download / 1e6:.1f} MB in {layers}"


def apply(
    spec: Spec, observed: Observed | None, changes: list[Change], host: Host
) -> dict[str, Any] | None:
    from .store.needed import needed
    from .store.obtain import install, obtain
    from .store.store import Store

    store = Store(host.paths.data)
    try:
        if spec.state == "absent":
            store.remove(spec.name, needed(host.paths.data).ids)
            return None
        assert observed is not None
        if observed.missing_tool:
            install(observed.missing_tool, spec.name, host)
        if spec.build is not None:
            from .build.kind import make

            image = make(spec, host)
        else:
            known = None
            if observed.mark and _is_there(observed):
                from .store.trust import keep_mark

                known = keep_mark(spec.name, observed, store)
            image = known or obtain(spec, observed, _origin(spec), store, host)
    except CannotApply:
        raise
    except HostctlError as error:
        raise CannotApply(error.message, hint=error.hint, ref=error.ref) from error
    return {"image": {"Id": f"sha256:{image.image_id}"}, "digest": image.pinned}


def undo(spec: Spec, observed: Observed | None, host: Host) -> Spec | None:
    """What was not there goes again; a tag that a pull has moved is put back by digest."""
    if observed is None or observed.image_id is None:
        return Spec(name=spec.name, state="absent")
    if observed.source.startswith("pull:") and observed.digest:
        from .contract.reference import parse

        reference, _, platform = observed.source[5:].partition(" ")
        pinned = f"{parse(reference).name}@{observed.digest}"
        return Spec(name=spec.name, pull=pinned, platform=platform, insecure=spec.insecure)
    return None
