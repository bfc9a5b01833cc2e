"""Runs on the managed host: the kind `image`: an image in the host's store, under a tag."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

from .agent.host import Host
from .contract.build import Build
from .contract.change import UNKNOWN, Action, Change, Reason
from .contract.compose import COMMAND, ENVIRONMENT, WORDS
from .contract.errors import CannotApply, HostctlError
from .contract.pull_policy import check_policy, period

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
    `pull_policy` is Compose's (`contract/pull_policy.py`); left out, an image is pulled when it is missing, and
    one that is built here is kept as its build makes it.
    `on`: the host that builds it, for others to get it from; on the wire the host that it comes from, and empty
    where it is built here. `shared`: others get what this host builds. `pin`: the digest that is wanted under a
    tag; `repin`: the controller is told which it is now.
    `archive` is an OCI layout (directory or tar) or a `docker save` file on the controller; the controller
    replaces it by `content`: path inside the archive -> digest of a blob of this run.
    """

    name: str
    pull: str = ""
    pull_policy: str = ""
    platform: str = ""
    insecure: bool = False
    bootstrap: Bootstrap | None = None
    build: Build | None = None
    archive: str = ""
    content: dict[str, str] = field(default_factory=dict)
    on: str = ""
    shared: bool = False
    pin: str = ""
    repin: bool = False
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
        check_policy(self.pull_policy)
        if self.pull_policy and given not in ([], ["pull"], ["build"]):
            raise ValueError(f"pull_policy is for what is pulled or built, and this is {given[0]}")
        if self.build is None and (self.on or self.pull_policy == "build"):
            word = "on" if self.on else "pull_policy: build"
            raise ValueError(f"{word} is for an image with build")
        if self.build is not None and period(self.pull_policy) is not None:
            raise ValueError(
                f"pull_policy {self.pull_policy} is for what is pulled; an image with build knows build,"
                " missing and never (build.pull: true asks for its base)"
            )
        try:
            if self.bootstrap is not None:
                from .store.values import check_bootstrap

                check_bootstrap(self.bootstrap, self.name)
            elif self.build is not None:
                from .contract.reference import parse_tag

                for name in (self.name, *self.build.tags):
                    parse_tag(name)
            elif "archive" not in given:
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
        moved: what a pinned tag stands for now, where that is something else.
        looked: the registry was asked, because the time of its policy had come.
        unnamed: further names of the build that do not stand for what is there.
        used_by: who else needs the tag, so that it may not go.
        also: further names that a build of the project gave, which go with it.
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
    moved: str = ""
    looked: bool = False
    unnamed: tuple[str, ...] = ()
    used_by: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    marked: str = ""
    mark: str = ""


def content(spec: Spec) -> tuple[str, ...]:
    """The archive's blobs; of a build what lists its files, which are asked for when a step needs them."""
    if spec.on:
        return ()
    if spec.build is not None:
        from .build.kind import listings

        return listings(spec.build)
    return tuple(sorted(set(spec.content.values())))


def awaited(spec: Spec) -> str:
    """What another host builds first."""
    return spec.name if spec.on and spec.state == "present" else ""


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
        from .store.elsewhere import observe_build

        return observe_build(spec, store, image, host)
    if spec.bootstrap is not None or spec.content:
        return _observe_made(spec, store, image)
    from .store.pulled import observe as look

    return look(spec, store, image, host)


def as_it_is(image: Image) -> Observed:
    return Observed(image.image_id, image.image_id, image.pinned, image.pinned, image.source)


def origin_of(spec: Spec) -> str:
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


def _observe_made(spec: Spec, store: Store, image: Image | None) -> Observed:
    origin = origin_of(spec)
    known = next((item for item in store.images() if item.source == origin), None)
    missing = ""
    if spec.bootstrap is not None and known is None:
        from .store.bootstrap import missing_tool

        missing = missing_tool(spec.name)
    return Observed(
        image_id=image.image_id if image else None,
        target_id=known.image_id if known else None,
        digest=image.pinned if image else "",
        wanted=known.pinned if known else "",
        source=image.source if image else "",
        missing_tool=missing,
    )


def _observe_removal(spec: Spec, image: Image, host: Host) -> Observed:
    from .store.needed import further_names, users

    data = host.paths.data
    used = users(data, spec.name, image.image_id, but=host.project)
    also = () if used else further_names(data, host.project, spec.name, image)
    return Observed(
        image.image_id, None, image.pinned, source=image.source, used_by=used, also=also
    )


def diff(spec: Spec, observed: Observed | None) -> list[Change]:
    if spec.state == "absent":
        if observed is None or observed.used_by:
            return []
        return [Change(Action.DELETE, before=observed.digest, reason=Reason.UNWANTED)]
    assert observed is not None
    if _is_there(observed):
        return _differences(spec, observed)
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


def _differences(spec: Spec, observed: Observed) -> list[Change]:
    """What is there is the right image: is it looked at, and has it all of its names?"""
    changes = []
    if observed.mark and observed.mark != observed.marked:
        before = "by another rule" if observed.marked else "not looked at"
        changes.append(Change(Action.UPDATE, "signature", before, "good", Reason.DIFFERS))
    if observed.unnamed and spec.build is not None:
        wanted = list(spec.build.tags)
        had = [name for name in wanted if name not in observed.unnamed]
        changes.append(Change(Action.UPDATE, "build.tags", had, wanted, Reason.DIFFERS))
    return changes


def _is_there(observed: Observed) -> bool:
    same = observed.image_id is not None and observed.image_id == observed.target_id
    return same and observed.digest == observed.wanted


def _note(spec: Spec, observed: Observed) -> str:
    if spec.on and observed.target_id is None:
        return f"from {spec.on}, which builds it"
    if spec.on:
        return f"from {spec.on}: {_amount(observed)}" if observed.layers else f"from {spec.on}"
    if spec.build is not None:
        return f"builds from {observed.why}" if observed.why else "all steps are cached"
    if spec.bootstrap is not None:
        return f"bootstraps {spec.bootstrap.suite}" if observed.target_id is None else ""
    if spec.content:
        return "from an archive"
    digest = observed.wanted[: len("sha256:") + 12] + (" (pinned)" if spec.pin else "")
    return f"pulls {_amount(observed)}, {digest}" if observed.layers else digest


def _amount(observed: Observed) -> str:
    layers = "1 layer" if observed.layers == 1 else f"{observed.layers} layers"
    return f"{observed.download / 1e6:.1f} MB in {layers}"


def warnings(spec: Spec, host: Host) -> list[str]:
    """A pinned tag stands for something else now."""
    observed = host.observations.get(f"image.{spec.name}")
    if not isinstance(observed, Observed) or not observed.moved:
        return []
    from .store.pulled import moved

    return moved(spec, observed)


def apply(
    spec: Spec, observed: Observed | None, changes: list[Change], host: Host
) -> dict[str, Any] | None:
    from .store.needed import needed
    from .store.obtain import install, obtain
    from .store.store import Store

    store = Store(host.paths.data)
    try:
        if spec.state == "absent":
            for name in observed.also if observed else ():
                store.untag(name)
            store.remove(spec.name, needed(host.paths.data).ids)
            return None
        assert observed is not None
        if observed.missing_tool:
            install(observed.missing_tool, spec.name, host)
        if observed.unnamed:
            from .store.elsewhere import name_all

            image = name_all(spec, store)
        elif spec.on:
            from .store.elsewhere import obtain as fetch

            image = fetch(spec, store, host)
        elif spec.build is not None:
            from .build.kind import make

            image = make(spec, host)
        else:
            known = None
            if observed.mark and _is_there(observed):
                from .store.trust import keep_mark

                known = keep_mark(spec.name, observed, store)
            image = known or obtain(spec, observed, origin_of(spec), store, host)
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
