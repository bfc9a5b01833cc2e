"""Images under `hostctl_trust`: pulled from a real registry only if the rules let them through."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hostctl_host import image
from hostctl_host.agent.host import Host
from hostctl_host.contract.change import Action
from hostctl_host.contract.errors import HostctlError
from hostctl_host.contract.trust import received, sent
from hostctl_host.store.signatures import BUNDLE_LIMIT, PAYLOAD_LIMIT
from hostctl_host.store.store import Store

from hostctl.credentials import Logins
from tests.store.registries import Proxy, RunningRegistry, reply
from tests.store.test_pull import layer_names, make_image, run
from tests.trust.signing import BUNDLE, EMPTY, Key, attach, bundle, payload, refer, sign, statement

pytestmark = pytest.mark.root


def hold(host: Host, rules: dict[str, Any]) -> list[str]:
    """Give the host rules and a controller that answers; what it was asked about."""
    logins = Logins().of("web1", {"hostctl_trust": rules})
    asked: list[str] = []

    def ask(topic: str, **fields: Any) -> dict[str, Any]:
        asked.append(topic)
        return logins.reply({"number": 1, "topic": topic, **fields})

    assert logins.trust is not None
    host.trust, host.ask = received(sent(logins.trust)), ask
    return asked


def refusal(spec: image.Spec, host: Host) -> str:
    with pytest.raises(HostctlError) as caught:
        image.observe(spec, host)
    error = caught.value
    assert error.ref == "image-untrusted", error
    assert error.message.startswith("cannot trust ")
    assert error.hint
    return error.message


def empty(store: Store) -> bool:
    return not os.path.exists(store.root) or not (store.images() or layer_names(store))


@pytest.mark.parametrize("kind", ["ecdsa", "rsa", "ed25519"])
@pytest.mark.parametrize("referring", [False, True])
def test_a_signed_image(
    registry: RunningRegistry, proxy: Proxy, host: Host, store: Store, kind: str, referring: bool
) -> None:
    made, key, name = make_image(kind), Key(kind), f"signed/{kind}{referring}".lower()
    registry.push(name, "1", made)
    sign(registry, f"{proxy.host}/{name}", made.digest, key, referring=referring)
    asked = hold(host, {"default": "reject", f"{proxy.host}/signed": {"signed": key.public}})
    spec = image.Spec(name=f"{proxy.host}/{name}:1")
    observed = image.observe(spec, host)
    assert empty(store), "observe has written"
    [change] = image.diff(spec, observed)
    assert (change.action, change.after) == (Action.CREATE, made.digest)
    image.apply(spec, observed, [change], host)
    assert store.resolve(spec.name) == made.image_id
    asked.clear()
    count = len(proxy.seen)
    assert run(spec, host) == []
    assert (asked, len(proxy.seen)) == ([], count), (
        "what is known to be signed is not asked about again"
    )


@pytest.mark.parametrize("listed_as", [BUNDLE, EMPTY])
def test_a_bundle_of_cosign_3(
    registry: RunningRegistry, host: Host, store: Store, listed_as: str
) -> None:
    made, key, name = make_image(listed_as), Key(), f"bundles/{len(listed_as)}"
    spec = image.Spec(name=registry.push(name, "1", made))
    hold(host, {registry.host: {"signed": key.public}})
    huge = bundle(statement(made.digest), key, more="x" * BUNDLE_LIMIT)
    refer(registry, name, made.digest, huge, listed_as)
    assert f"bytes, at most {BUNDLE_LIMIT} are read" in refusal(spec, host)
    provenance = "https://slsa.dev/provenance/v1"
    attested = bundle(statement(made.digest, provenance), key)
    refer(registry, name, made.digest, attested, listed_as, provenance)
    assert refusal(spec, host).endswith(
        "is not signed"
        if listed_as == BUNDLE
        else f"it is an attestation ({provenance}), no signature"
    )
    refer(registry, name, made.digest, bundle(statement(made.digest), Key()), listed_as)
    assert "was not made with the key" in refusal(spec, host)
    refer(registry, name, made.digest, bundle(statement(made.digest), key), listed_as)
    assert run(spec, host)
    assert store.resolve(spec.name) == made.image_id


Attack = Callable[[RunningRegistry, str, str, str, Key], None]


def _attach(data: bytes, key: Key, registry: RunningRegistry, name: str, digest: str) -> None:
    attach(registry, name, digest, [(data, key.sign(data))])


ATTACKS: dict[str, tuple[Attack, str]] = {
    "unsigned": (lambda registry, host, name, digest, key: None, "is not signed"),
    "wrong key": (
        lambda registry, host, name, digest, key: sign(registry, f"{host}/{name}", digest, Key()),
        "it was not made with the key of the rule",
    ),
    "other digest": (
        lambda registry, host, name, digest, key: _attach(
            payload(f"{host}/{name}", "sha256:" + "0" * 64), key, registry, name, digest
        ),
        "it is for another image: sha256:000",
    ),
    "other repository": (
        lambda registry, host, name, digest, key: _attach(
            payload(f"{host}/other", digest), key, registry, name, digest
        ),
        "it is for another repository: ",
    ),
    "no JSON": (
        lambda registry, host, name, digest, key: _attach(b"\x00{", key, registry, name, digest),
        "what it signs is not in the simple signing format",
    ),
    "huge payload": (
        lambda registry, host, name, digest, key: _attach(
            payload(f"{host}/{name}", digest) + b" " * PAYLOAD_LIMIT, key, registry, name, digest
        ),
        f"bytes, at most {PAYLOAD_LIMIT} are read",
    ),
    "no annotation": (
        lambda registry, host, name, digest, key: attach(
            registry, name, digest, [(payload(f"{host}/{name}", digest), "")]
        ),
        "has no signature in its annotation dev.cosignproject.cosign/signature",
    ),
    "no payloads": (
        lambda registry, host, name, digest, key: attach(registry, name, digest, []),
        "has no payload of the type application/vnd.dev.cosign.simplesigning.v1+json",
    ),
    "an image": (
        lambda registry, host, name, digest, key: (
            registry.push(name, digest.replace(":", "-") + ".sig", make_image("no signature"))
            and None
        ),
        "has no payload of the type",
    ),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_what_is_refused(registry: RunningRegistry, host: Host, store: Store, attack: str) -> None:
    act, cause = ATTACKS[attack]
    made, key, name = make_image(attack), Key(), "attacks/" + attack.lower().replace(" ", "-")
    reference = registry.push(name, "1", made)
    act(registry, registry.host, name, made.digest, key)
    hold(host, {registry.host: {"signed": [key.public]}})
    message = refusal(image.Spec(name=reference), host)
    assert message.startswith(
        f"cannot trust {registry.host}/{name}@{made.digest}: hostctl_trust, {registry.host} wants a signature: "
    )
    assert cause in message
    assert empty(store)


def test_a_payload_that_is_another_than_its_manifest_says(
    registry: RunningRegistry, proxy: Proxy, host: Host
) -> None:
    made, key = make_image("swapped"), Key()
    registry.push("swapped", "1", made)
    sign(registry, f"{proxy.host}/swapped", made.digest, key)
    good = payload(f"{proxy.host}/swapped", made.digest)

    def swap(handler: Any, count: int) -> bool:
        if "/blobs/" not in handler.path:
            return False
        reply(handler, 200, good.replace(b"swapped", b"sweeped"))
        return True

    proxy.fault = swap
    hold(host, {proxy.host: {"signed": key.public}})
    assert "its payload is not sha256:" in refusal(image.Spec(name=f"{proxy.host}/swapped:1"), host)


def test_too_many_signatures(registry: RunningRegistry, host: Host) -> None:
    made, key = make_image("many"), Key()
    name = registry.push("many", "1", made)
    data = [payload(f"{registry.host}/many{number}", made.digest) for number in range(70)]
    attach(registry, "many", made.digest, [(one, key.sign(one)) for one in data])
    hold(host, {registry.host: {"signed": key.public}})
    assert "none of its 65 signatures counts" in refusal(image.Spec(name=name), host)


def test_rejected_without_a_question(proxy: Proxy, host: Host, store: Store) -> None:
    hold(host, {proxy.host: "accept", f"{proxy.host}/bad": "reject"})
    message = refusal(image.Spec(name="app", pull=f"{proxy.host}/bad/x:1"), host)
    assert message.endswith(f"hostctl_trust, {proxy.host}/bad says reject")
    assert proxy.seen == []
    assert empty(store)


def test_what_was_pulled_before_the_rule(
    registry: RunningRegistry, host: Host, store: Store
) -> None:
    made, key = make_image("before"), Key()
    spec = image.Spec(name=registry.push("before", "1", made))
    run(spec, host)
    hold(host, {registry.host: "reject"})
    assert "says reject" in refusal(spec, host)
    hold(host, {registry.host: {"signed": key.public}})
    assert "is not signed" in refusal(spec, host)
    sign(registry, f"{registry.host}/before", made.digest, key)
    [change] = run(spec, host)
    assert (change.field, change.before, change.after) == ("signature", "not looked at", "good")
    assert run(spec, host) == []
    assert store.image(spec.name).pinned == made.digest


def test_another_key_is_another_rule(registry: RunningRegistry, host: Host) -> None:
    made, old, new = make_image("keys"), Key(), Key()
    spec = image.Spec(name=registry.push("keys", "1", made))
    sign(registry, f"{registry.host}/keys", made.digest, old)
    hold(host, {registry.host: {"signed": old.public}})
    run(spec, host)
    hold(host, {registry.host: {"signed": new.public}})
    assert "was not made with the key" in refusal(spec, host)
    sign(registry, f"{registry.host}/keys", made.digest, new)
    [change] = run(spec, host)
    assert (change.field, change.before) == ("signature", "by another rule")
    hold(host, {})
    assert run(spec, host) == [], "without a rule nothing is to be done"


def test_what_was_looked_at_is_what_is_pulled(
    registry: RunningRegistry, host: Host, store: Store
) -> None:
    made, evil, key = make_image("good"), make_image("evil"), Key()
    spec = image.Spec(name=registry.push("race", "1", made))
    sign(registry, f"{registry.host}/race", made.digest, key)
    hold(host, {registry.host: {"signed": key.public}})
    observed = image.observe(spec, host)
    registry.push("race", "1", evil)
    image.apply(spec, observed, image.diff(spec, observed), host)
    assert store.resolve(spec.name) == made.image_id
    assert image.diff(spec, image.observe(spec, host)) == []
    always = replace(spec, pull_policy="always")
    assert "is not signed" in refusal(always, host)
    assert store.resolve(spec.name) == made.image_id


@pytest.mark.parametrize("field", ["mark", "wanted"])
def test_the_host_pulls_nothing_that_nobody_has_looked_at(
    registry: RunningRegistry, host: Host, store: Store, field: str
) -> None:
    made, key = make_image("unseen"), Key()
    spec = image.Spec(name=registry.push("unseen", "1", made))
    sign(registry, f"{registry.host}/unseen", made.digest, key)
    hold(host, {registry.host: {"signed": key.public}})
    observed = image.observe(spec, host)
    forged = replace(observed, **{field: ""})
    with pytest.raises(HostctlError, match="nobody has looked at it"):
        image.apply(spec, forged, image.diff(spec, observed), host)
    assert store.images() == ()


def test_an_index_is_signed_as_a_whole(registry: RunningRegistry, host: Host, store: Store) -> None:
    one, two, key = make_image("amd"), make_image("arm", architecture="arm64"), Key()
    name = registry.push_index("index", "1", {"linux/amd64": one, "linux/arm64": two})
    spec = image.Spec(name=name, platform="linux/amd64")
    hold(host, {registry.host: {"signed": key.public}})
    sign(registry, f"{registry.host}/index", one.digest, key)
    assert "is not signed" in refusal(spec, host)
    digest = image.observe(spec, replace(host, trust=None)).wanted
    sign(registry, f"{registry.host}/index", digest, key)
    run(spec, host)
    assert store.resolve(name) == one.image_id


def test_signatures_come_through_a_mirror(registry: RunningRegistry, host: Host) -> None:
    made, key = make_image("mirrored"), Key()
    registry.push("proxy/shop/web", "1", made)
    data = payload("registry.invalid/shop/web", made.digest)
    attach(registry, "proxy/shop/web", made.digest, [(data, key.sign(data))])
    from hostctl_host.contract.registries import parse_registries

    settings = {"registry.invalid": {"mirrors": [f"http://{registry.host}/proxy"]}}
    host.registries = parse_registries(settings)
    hold(host, {"default": "reject", "registry.invalid": {"signed": key.public}})
    spec = image.Spec(name="registry.invalid/shop/web:1")
    assert run(spec, host)
    assert run(spec, host) == []


def test_a_registry_that_does_not_answer_is_no_verdict(proxy: Proxy, host: Host) -> None:
    def down(handler: Any, count: int) -> bool:
        if ".sig" not in handler.path:
            return False
        reply(handler, 403, b"{}")
        return True

    hold(host, {proxy.host: {"signed": Key().public}})
    proxy.fault = down
    with pytest.raises(HostctlError) as caught:
        image.observe(image.Spec(name=f"{proxy.host}/many:1"), host)
    assert caught.value.ref in ("registry-unauthorized", "image-not-found")


def test_what_is_made_on_the_host(registry: RunningRegistry, host: Host, store: Store) -> None:
    """Loaded, built and bootstrapped images come from the operator: `local`, or a rule of just their repository."""
    made = make_image("local")
    reference = registry.push("local", "1", made)
    run(image.Spec(name=reference), host)
    store.tag("docker.io/library/mine:1", replace(store.image(reference), source="load"))
    spec = image.Spec(name="docker.io/library/mine:1")
    bootstrap = image.Spec(name="docker.io/library/base:1", bootstrap=image.Bootstrap())
    hold(host, {"default": "reject", "docker.io": "reject"})
    assert run(spec, host) == []
    assert image.observe(bootstrap, host) is not None
    hold(
        host,
        {"docker.io/library/mine": "reject", "docker.io/library/base": {"signed": Key().public}},
    )
    assert "hostctl_trust, docker.io/library/mine says reject" in refusal(spec, host)
    assert "it is made on the host, where nobody signs" in refusal(bootstrap, host)
    hold(host, {"local": "reject"})
    for one in (spec, bootstrap):
        assert "hostctl_trust, local says reject" in refusal(one, host)


def test_a_tag_given_by_hand_does_not_hide_where_an_image_came_from(
    registry: RunningRegistry, host: Host, store: Store
) -> None:
    reference = registry.push("hidden", "1", make_image("hidden"))
    run(image.Spec(name=reference), host)
    store.tag("docker.io/library/nice:1", store.image(reference))
    hold(host, {"docker.io": "accept", registry.host: "reject"})
    assert f"hostctl_trust, {registry.host} says reject" in refusal(
        image.Spec(name="docker.io/library/nice:1"), host
    )
