"""Images pulled from a real registry, over loopback."""

from __future__ import annotations

import json
import os
import subprocess
import threading

import pytest
from hostctl_host import image
from hostctl_host.agent.host import Host
from hostctl_host.contract.change import Action
from hostctl_host.contract.errors import CannotObserve, HostctlError
from hostctl_host.store.store import Store

from tests.store.layers import TestImage, member, sha256, tar
from tests.store.registries import Proxy, RunningRegistry, reply

pytestmark = pytest.mark.root


def make_image(seed: str, **kwargs) -> TestImage:
    base = tar(
        member("etc/"),
        member("etc/os", b"debian"),
        member("bin/"),
        member("bin/sh", b"\x7fELF", mode=0o755),
    )
    top = tar(member("etc/"), member("etc/name", seed.encode()), member("big", os.urandom(300_000)))
    return TestImage([base, top], config={"Cmd": ["sh"], "Env": ["A=1"]}, **kwargs)


def run(spec: image.Spec, host: Host) -> list:
    """What one apply does; returns its changes."""
    observed = image.observe(spec, host)
    changes = image.diff(spec, observed)
    if changes:
        image.apply(spec, observed, changes, host)
    return changes


def layer_names(store: Store) -> list[str]:
    folder = os.path.join(store.root, "layers")
    return sorted(n[:-5] for n in os.listdir(folder) if n.endswith(".json"))


def assert_clean(store: Store) -> None:
    """Nothing half-done is left."""
    for folder in os.listdir(os.path.join(store.root, "tmp")):
        assert os.listdir(os.path.join(store.root, "tmp", folder)) == []


@pytest.mark.parametrize("docker", [False, True])
def test_pull_by_tag(registry: RunningRegistry, host: Host, store: Store, docker: bool) -> None:
    made = make_image("one", docker=docker)
    spec = image.Spec(name=registry.push(f"tag{docker}".lower(), "1", made))
    observed = image.observe(spec, host)
    assert observed == image.Observed(
        None, made.image_id, wanted=made.digest, download=sum(map(len, made.packed)), layers=2
    )
    assert not os.path.exists(store.root), "observe has written"
    [change] = image.diff(spec, observed)
    assert (change.action, change.before, change.after) == (Action.CREATE, None, made.digest)
    assert change.note == f"pulls 0.3 MB in 2 layers, {made.digest[:19]}"
    image.apply(spec, observed, [change], host)
    again = image.observe(spec, host)
    assert (again.image_id, again.target_id) == (made.image_id, made.image_id)
    assert image.diff(spec, again) == []
    assert store.resolve(spec.name) == made.image_id
    assert store.config(made.image_id)["config"]["Cmd"] == ["sh"]
    top, base = store.lower(made.image_id)
    with open(os.path.join(store.links_dir, top, "etc/name")) as file:
        assert file.read() == "one"
    assert os.stat(os.path.join(store.links_dir, base, "bin/sh")).st_mode & 0o7777 == 0o755
    assert_clean(store)


def test_present_image_asks_nobody(host: Host, proxy: Proxy, registry: RunningRegistry) -> None:
    registry.push("quiet", "1", make_image("quiet"))
    spec = image.Spec(name=f"{proxy.host}/quiet:1")
    run(spec, host)
    count = len(proxy.seen)
    assert image.diff(spec, image.observe(spec, host)) == []
    assert len(proxy.seen) == count


def test_always_follows_the_tag(host: Host, registry: RunningRegistry, store: Store) -> None:
    first, second = make_image("first"), make_image("second")
    name = registry.push("moving", "1", first)
    run(image.Spec(name=name), host)
    registry.push("moving", "1", second)
    assert run(image.Spec(name=name), host) == []
    spec = image.Spec(name=name, pull_policy="always")
    observed = image.observe(spec, host)
    assert (observed.image_id, observed.target_id) == (first.image_id, second.image_id)
    [change] = image.diff(spec, observed)
    assert (change.field, change.before, change.after) == ("digest", first.digest, second.digest)
    back = image.undo(spec, observed, host)
    image.apply(spec, observed, [change], host)
    assert image.diff(spec, image.observe(spec, host)) == []
    assert store.resolve(name) == second.image_id
    assert run(back, host) != []
    assert store.resolve(name) == first.image_id


def test_apply_takes_what_was_planned(host: Host, registry: RunningRegistry, store: Store) -> None:
    planned, later = make_image("planned"), make_image("later")
    spec = image.Spec(name=registry.push("race", "1", planned))
    observed = image.observe(spec, host)
    registry.push("race", "1", later)
    image.apply(spec, observed, image.diff(spec, observed), host)
    assert store.resolve(spec.name) == planned.image_id


def test_pull_by_digest(host: Host, registry: RunningRegistry, store: Store) -> None:
    made = make_image("pinned")
    registry.push("pinned", "1", made)
    spec = image.Spec(name="web", pull=f"{registry.host}/pinned@{made.digest}")
    run(spec, host)
    assert store.resolve("web") == made.image_id
    assert store.image("web").pinned == made.digest
    assert run(spec, host) == []


def test_never_is_an_error_when_absent(host: Host) -> None:
    with pytest.raises(CannotObserve, match="pull_policy is never") as caught:
        image.observe(image.Spec(name="nowhere.example/x:1", pull_policy="never"), host)
    assert caught.value.ref == "image-missing"


def test_index_by_platform(host: Host, registry: RunningRegistry, store: Store) -> None:
    amd, arm = make_image("amd"), make_image("arm", architecture="arm64")
    name = registry.push_index("multi", "1", {"linux/amd64": amd, "linux/arm64": arm})
    run(image.Spec(name=name, platform="linux/amd64"), host)
    assert store.resolve(name) == amd.image_id
    run(image.Spec(name="other", pull=name, platform="linux/arm64/v8"), host)
    assert store.resolve("other") == arm.image_id
    with pytest.raises(CannotObserve, match="it exists for linux/amd64, linux/arm64"):
        image.observe(image.Spec(name="third", pull=name, platform="linux/s390x"), host)


def test_not_found_says_what_the_registry_said(host: Host, registry: RunningRegistry) -> None:
    with pytest.raises(CannotObserve) as caught:
        image.observe(image.Spec(name=f"{registry.host}/nothing/here:2"), host)
    assert caught.value.ref == "image-not-found"
    assert "404 MANIFEST_UNKNOWN: manifest unknown" in caught.value.message
    assert caught.value.hint == "check the name and the tag"


def test_shared_layers_come_once(
    registry: RunningRegistry, host: Host, proxy: Proxy, store: Store
) -> None:
    base = tar(member("base", os.urandom(2_000_000)))
    images = [TestImage([base, tar(member(f"top{i}", b"x"))]) for i in range(4)]
    for number, made in enumerate(images):
        registry.push(f"share{number}", "1", made)
    threads = [
        threading.Thread(target=run, args=(image.Spec(name=f"{proxy.host}/share{i}:1"), host))
        for i in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, made in enumerate(images):
        assert store.resolve(f"{proxy.host}/share{number}:1") == made.image_id
    blob = sha256(images[0].packed[0])
    assert sum(1 for _, path, _ in proxy.seen if path.endswith(blob)) == 1
    assert len(layer_names(store)) == 5


def test_skopeo_reads_the_store(
    registry: RunningRegistry, host: Host, store: Store, tmp_path
) -> None:
    made = make_image("skopeo")
    name = registry.push("skopeo", "1", made)
    run(image.Spec(name=name), host)
    copied = tmp_path / "copy"
    subprocess.run(
        ["skopeo", "copy", "-q", f"oci:{store.root}:{name}", f"dir:{copied}"],
        check=True,
        timeout=30,
    )
    assert sha256((copied / "manifest.json").read_bytes()) == made.digest
    assert (copied / made.image_id).read_bytes() == made.config_data
    for blob in made.packed:
        assert (copied / sha256(blob)[7:]).read_bytes() == blob


def test_remove_keeps_shared_layers(registry: RunningRegistry, host: Host, store: Store) -> None:
    base = tar(member("base", b"b"))
    one, two = (TestImage([base, tar(member(n, b"x"))]) for n in ("one", "two"))
    names = [registry.push("rm1", "1", one), registry.push("rm2", "1", two)]
    for name in names:
        run(image.Spec(name=name), host)
    gone = image.undo(image.Spec(name=names[0]), image.Observed(None, one.image_id), host)
    assert gone.state == "absent"
    [change] = run(gone, host)
    assert change.action is Action.DELETE
    assert run(gone, host) == []
    assert store.resolve(names[0]) is None
    assert layer_names(store) == sorted(sha256(layer)[7:] for layer in two.layers)
    assert len(store.lower(two.image_id)) == 2
    run(image.Spec(name=names[1], state="absent"), host)
    assert layer_names(store) == []
    assert os.listdir(os.path.join(store.root, "blobs/sha256")) == []
    assert os.listdir(store.links_dir) == ["empty"]


def test_remove_keeps_what_containers_use(
    registry: RunningRegistry, host: Host, store: Store
) -> None:
    made = make_image("used")
    name = registry.push("used", "1", made)
    run(image.Spec(name=name), host)
    folder = host.paths.container("c1")
    os.makedirs(folder)
    for project, expected in (("other", []), ("test", ["delete"])):
        with open(f"{folder}/spec.json", "w") as file:
            file.write(json.dumps({"image": made.image_id, "project": project}))
        assert [
            c.action.value for c in run(image.Spec(name=name, state="absent"), host)
        ] == expected
    assert store.resolve(name) is None
    assert len(store.lower(made.image_id)) == 2


def test_repeated_layers_are_named_once(
    registry: RunningRegistry, host: Host, store: Store
) -> None:
    a, b = tar(member("a", b"a")), tar(member("b", b"b"))
    made = TestImage([a, b, a])
    run(image.Spec(name=registry.push("repeat", "1", made)), host)
    names = store.lower(made.image_id)
    assert len(names) == 2
    assert os.path.exists(os.path.join(store.links_dir, names[0], "a"))


def test_layer_that_hides_everything_ends_the_stack(registry, host: Host, store: Store) -> None:
    made = TestImage([tar(member("a", b"a")), tar(member(".wh..wh..opq", b""), member("b", b"b"))])
    run(image.Spec(name=registry.push("opaque", "1", made)), host)
    [top] = store.lower(made.image_id)
    assert os.listdir(os.path.join(store.links_dir, top)) == ["b"]


def test_image_without_layers(registry: RunningRegistry, host: Host, store: Store) -> None:
    made = TestImage([])
    run(image.Spec(name=registry.push("scratch", "1", made)), host)
    assert store.lower(made.image_id) == ["empty"]
    assert os.listdir(os.path.join(store.links_dir, "empty")) == []


def test_disk_full_is_said_before_the_pull(registry: RunningRegistry, host: Host, tmp_path) -> None:
    made = TestImage([tar(member("big", os.urandom(3 << 20)))])
    spec = image.Spec(name=registry.push("large", "1", made))
    data = tmp_path / "data"
    data.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(data)], check=True)
    try:
        observed = image.observe(spec, host)
        with pytest.raises(HostctlError, match=r"needs 6 MiB, 3 MiB free on ") as caught:
            image.apply(spec, observed, image.diff(spec, observed), host)
        assert caught.value.ref == "disk-full"
        assert layer_names(Store(str(data))) == []
    finally:
        subprocess.run(["umount", str(data)], check=True)


def test_disk_full_in_the_middle_leaves_nothing(
    registry: RunningRegistry, host: Host, tmp_path
) -> None:
    made = TestImage([tar(member("zeros", bytes(20 << 20)))])
    spec = image.Spec(name=registry.push("zeros", "1", made))
    data = tmp_path / "data"
    data.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(data)], check=True)
    try:
        observed = image.observe(spec, host)
        with pytest.raises(HostctlError, match="disk is full") as caught:
            image.apply(spec, observed, image.diff(spec, observed), host)
        assert caught.value.ref == "disk-full"
        assert_clean(Store(str(data)))
    finally:
        subprocess.run(["umount", str(data)], check=True)


def test_progress_is_shown(registry: RunningRegistry, host: Host) -> None:
    made = make_image("progress")
    lines: list[str] = []
    host.progress = lines.append
    run(image.Spec(name=registry.push("progress", "1", made)), host)
    assert lines and lines[0].startswith("pulling ")


def test_a_strange_answer_is_shown(proxy: Proxy, host: Host) -> None:
    """A registry that answers nonsense is named, with its answer."""
    proxy.fault = lambda handler, count: reply(handler, 418, b"{}")
    with pytest.raises(CannotObserve, match="answers 418 for the manifest"):
        image.observe(image.Spec(name=f"{proxy.host}/x:1"), host)


def test_overlayfs_stacks_the_layers(registry: RunningRegistry, host: Host, store: Store) -> None:
    base = tar(
        member("d/"),
        member("d/gone", b"1"),
        member("d/stays", b"2"),
        member("o/"),
        member("o/hidden", b"3"),
        member("r/"),
        member("r/old", b"4"),
    )
    top = tar(
        member("d/"),
        member("d/.wh.gone", b""),
        member("o/"),
        member("o/.wh..wh..opq", b""),
        member("o/new", b"5"),
        member(".wh.r", b""),
        member("r/"),
        member("r/fresh", b"6"),
    )
    made = TestImage([base, top])
    run(image.Spec(name=registry.push("overlay", "1", made)), host)
    lower = ":".join(store.lower(made.image_id))
    script = f"mkdir -p ../m && mount -t overlay -o ro,lowerdir={lower} none ../m && cd ../m && find . -type f"
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script],
        cwd=store.links_dir,
        capture_output=True,
        text=True,
        check=True,
    )
    assert sorted(done.stdout.split()) == ["./d/stays", "./o/new", "./r/fresh"]


def test_a_tag_that_is_its_own_source_may_be_any_image(host: Host, store: Store) -> None:
    """As the controller writes `images: {app:1: {}}`; what was loaded under that name stays."""
    from tests.store.test_archive import layout, shipped

    made = make_image("loaded")
    run(image.Spec(name="app:1", content=shipped(host, layout(made))), host)
    spec = image.Spec(name="app:1", pull="docker.io/library/app:1")
    assert run(spec, host) == []
    assert store.resolve("app:1") == made.image_id
