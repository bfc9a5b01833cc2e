"""Runs on the managed host: holds images to the rules of `hostctl_trust`, before they are pulled or used.

An image from a registry is judged by the reference that it comes from, also one that was pulled before there
was a rule. What was found signed has the rule's mark in the store, so that a run that changes nothing asks nobody.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ..contract.errors import CannotObserve, HostctlError, Impossible
from ..contract.reference import Reference, parse
from ..contract.trust import ACCEPT, REJECT, SIGNED, Rule

if TYPE_CHECKING:
    from ..agent.host import Host
    from ..image import Observed, Spec
    from .store import Image, Store

_PULLED = "pull:"


def check_before(spec: Spec, image: Image | None, host: Host) -> None:
    """Refuse what needs no look at a registry to be refused.

    Raises:
        Impossible: `image-untrusted`.
    """
    reference, rule = _judged_by(spec, image, host)
    if rule.policy == REJECT:
        raise _refused(str(reference or spec.name), rule, "", reference)
    if rule.policy == SIGNED and (reference is None or _is_made(spec)):
        raise _refused(spec.name, rule, "it is made on the host, where nobody signs", reference)


def check_found(spec: Spec, image: Image | None, observed: Observed, host: Host) -> Observed:
    """With the mark of the rule, if what should be there is signed as the rule wants; `observed` as it is if none does.

    Raises:
        Impossible: `image-untrusted`.
        CannotObserve: its signatures cannot be had.
    """
    stays = observed.image_id is not None and observed.image_id == observed.target_id
    reference, rule = _judged_by(spec, image if stays else None, host)
    if rule.policy != SIGNED or reference is None or _is_made(spec):
        return observed
    was = image.trusted if image is not None and stays else ""
    if was and image is not None and was == rule.mark and image.pinned == observed.wanted:
        return replace(observed, marked=was, mark=was)
    _verify(reference, observed.wanted, rule, spec, host)
    return replace(observed, marked=was, mark=rule.mark)


def _judged_by(spec: Spec, image: Image | None, host: Host) -> tuple[Reference | None, Rule]:
    """The reference that an image comes from (None: made on the host) and the rule for it."""
    assert host.trust is not None
    if _is_made(spec):
        own = _parsed(spec.name)
        return own, host.trust.of_local(own)
    wanted = parse(spec.pull or spec.name)
    if image is None or spec.pull_policy == "always":
        return wanted, host.trust.of(wanted)
    if not image.source.startswith(_PULLED):
        rule = host.trust.of_local(wanted)
        # Loaded under the name of a repository that wants signatures: the registry may have them.
        return (wanted if rule.policy == SIGNED else None), rule
    source = parse(image.source[len(_PULLED) :].partition(" ")[0])
    return source, host.trust.of(source)


def _is_made(spec: Spec) -> bool:
    return bool(spec.bootstrap is not None or spec.build is not None or spec.content)


def _parsed(name: str) -> Reference | None:
    try:
        return parse(name)
    except HostctlError:
        return None


def _verify(reference: Reference, digest: str, rule: Rule, spec: Spec, host: Host) -> None:
    from .registry import Registry
    from .signatures import signatures

    host.progress("looking for signatures")
    registry = Registry.of(host, reference, spec.insecure)
    try:
        found = signatures(registry, digest)
    except HostctlError as error:
        raise CannotObserve(
            f"cannot look for signatures of {reference}, as {rule} wants: {error.message}",
            hint=error.hint,
            ref=error.ref,
        ) from error
    finally:
        registry.close()
    answer = host.ask("trust", reference=str(reference), digest=digest, signatures=found)
    problem = str(answer.get("problem", "the controller says nothing about it"))
    if problem:
        raise _refused(f"{reference.name}@{digest}", rule, problem, reference)


def _refused(what: str, rule: Rule, why: str, reference: Reference | None) -> Impossible:
    if rule.policy == SIGNED:
        cause = f"{rule} wants a signature: {why}"
        hint = f"sign it (cosign sign --key KEY {what}), or change the rule"
    else:
        cause = f"{rule} says reject"
        name = reference.name if reference is not None else "local"
        hint = f"use another image, or add a rule: `{name}: {ACCEPT}`, or signed with a key"
    return Impossible(f"cannot trust {what}: {cause}", hint=hint, ref="image-untrusted")


def check_pull(reference: Reference, mark: str, host: Host) -> None:
    """The last look before bytes are fetched: exactly this digest was found to keep its rule.

    Raises:
        Impossible: `image-untrusted`.
    """
    assert host.trust is not None
    rule = host.trust.of(reference)
    signed = rule.policy == SIGNED and bool(reference.digest) and mark == rule.mark
    if rule.policy != ACCEPT and not signed:
        raise _refused(str(reference), rule, "nobody has looked at it", reference)


def keep_mark(name: str, observed: Observed, store: Store) -> Image | None:
    """Write down that what is there under a name is signed; None if it is something else by now."""
    image = store.image(name)
    if image is None or (image.image_id, image.pinned) != (observed.image_id, observed.digest):
        return None
    store.tag(name, replace(image, trusted=observed.mark))
    return store.image(name)
