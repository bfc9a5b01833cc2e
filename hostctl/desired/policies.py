"""Runs on the controller: `pull_policy` of containers: it is their image's, so they have to agree."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .services import Lowering


def policy_is_free(lowering: Lowering, reference: str) -> bool:
    """Whether a container of a declared image leaves the policy to `images:`; if not, why is said."""
    if not lowering.service.pull_policy:
        return True
    lowering.errors.add(
        f"cannot use pull_policy: the image {reference} is declared in images",
        where=lowering.service.at("pull_policy"),
        hint="write its pull_policy there",
        ref="policy-twice",
    )
    return False


def settle_policy(lowering: Lowering, image: str) -> bool:
    """Note when an image that nobody declared is pulled; False where containers disagree, which is said."""
    mine = lowering.service.pull_policy
    where = lowering.service.at("pull_policy")
    if mine == "build":
        lowering.errors.add(
            f"cannot use pull_policy: build: {image} is not built",
            where=where,
            hint="declare it in images, with build",
            ref="policy-build",
        )
        return False
    other = lowering.out.policies.setdefault(image, mine) if mine else ""
    if other == mine:
        return True
    lowering.errors.add(
        f"cannot use pull_policy {mine} for {image}: another container says {other}",
        where=where,
        hint="write it once: it is the image's",
        ref="policy-twice",
    )
    return False
