"""Images made of Debian's packages."""

from __future__ import annotations

import os
import subprocess
import tarfile

import pytest
from hostctl_host import image
from hostctl_host.agent.host import Host
from hostctl_host.contract.change import UNKNOWN, Action
from hostctl_host.contract.errors import CannotApply
from hostctl_host.store import bootstrap
from hostctl_host.store.store import Store

from tests.store.test_pull import assert_clean, run

pytestmark = pytest.mark.root


def test_mmdebstrap(host: Host, store: Store) -> None:
    """`extract` is the variant that takes seconds: packages without configuring them."""
    wanted = image.Bootstrap(
        variant="extract",
        packages=("busybox-static",),
        command=("busybox", "true"),
        environment={"LANG": "C.UTF-8"},
        user="nobody",
    )
    spec = image.Spec(name="debian-base", bootstrap=wanted)
    observed = image.observe(spec, host)
    [change] = image.diff(spec, observed)
    assert (change.action, change.after, change.note) == (
        Action.CREATE,
        UNKNOWN,
        "bootstraps bookworm",
    )
    assert not os.path.exists(store.root)
    image.apply(spec, observed, [change], host)
    image_id = store.resolve("debian-base")
    again = image.observe(spec, host)
    assert (again.image_id, again.target_id) == (image_id, image_id)
    assert image.diff(spec, again) == []
    config = store.config(image_id)["config"]
    assert config["Cmd"] == ["busybox", "true"]
    assert config["User"] == "nobody"
    assert "LANG=C.UTF-8" in config["Env"]
    assert config["Env"][0].startswith("PATH=")
    [layer] = store.lower(image_id)
    root = os.path.join(store.links_dir, layer)
    assert os.path.exists(f"{root}/bin/busybox")
    assert not os.path.exists(f"{root}/dev/null")
    assert set(os.listdir(f"{root}/var/lib/apt/lists")) <= {"lock", "partial"}
    assert max(os.lstat(f"{root}/{name}").st_mtime for name in os.listdir(root)) <= bootstrap.EPOCH
    done = subprocess.run(
        ["chroot", root, "/bin/busybox", "uname"], capture_output=True, text=True, check=False
    )
    assert done.stdout == "Linux\n"
    assert_clean(store)
    # The same spec under another name is a tag, at once; another spec is another image.
    observed = image.observe(image.Spec(name="second", bootstrap=wanted), host)
    assert observed.target_id == image_id
    run(image.Spec(name="second", bootstrap=wanted), host)
    assert store.resolve("second") == image_id
    other = image.Spec(name="second", bootstrap=image.Bootstrap(packages=("busybox",)))
    assert image.observe(other, host).target_id is None


def test_failure_shows_the_programs_words(host: Host, store: Store) -> None:
    spec = image.Spec(name="broken", bootstrap=image.Bootstrap(variant="nosuchvariant"))
    with pytest.raises(CannotApply, match=r"cannot bootstrap broken: .*variant") as caught:
        run(spec, host)
    assert caught.value.ref == "bootstrap-failed"
    assert store.resolve("broken") is None
    assert_clean(store)


def test_missing_program_is_a_change_of_its_own(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bootstrap, "tool", lambda: "")
    spec = image.Spec(name="base", bootstrap=image.Bootstrap())
    package, made = image.diff(spec, image.observe(spec, host))
    assert (package.field, package.before, package.after) == (
        "package mmdebstrap",
        None,
        "installed",
    )
    assert made.action is Action.CREATE


def test_identity_is_the_spec() -> None:
    one = image.Bootstrap(packages=("a", "b"))
    assert bootstrap.identity(one) == bootstrap.identity(image.Bootstrap(packages=("a", "b")))
    assert bootstrap.identity(one) != bootstrap.identity(image.Bootstrap(packages=("a",)))


@pytest.mark.parametrize(
    "wrong",
    [
        {"suite": "--customize-hook=touch /tmp/x"},
        {"suite": "../x"},
        {"packages": ("a,b",)},
        {"packages": ("-x",)},
        {"mirror": "-"},
        {"mirror": "/etc/passwd"},
        {"components": ("main non-free",)},
        {"variant": "a b"},
    ],
)
def test_values_are_no_options(wrong: dict) -> None:
    with pytest.raises(ValueError, match=r"cannot bootstrap base: .* is no "):
        image.Spec(name="base", bootstrap=image.Bootstrap(**wrong))


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"name": "Nginx"}, "lowercase letters.*; write nginx"),
        ({"name": "x", "pull": "y:"}, "the tag ''"),
        ({"name": "x", "pull": "y", "bootstrap": image.Bootstrap()}, "not pull and bootstrap"),
        ({"name": "x", "pull": "y", "archive": "z.tar"}, "not pull and archive"),
    ],
)
def test_specs_that_no_host_could_make(wrong: dict, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        image.Spec(**wrong)


def test_debootstraps_tree_becomes_the_same_layer_each_time(tmp_path) -> None:
    """debootstrap leaves caches, logs and times behind, mmdebstrap does not."""
    from hostctl_host.agent.run import run as run_program

    sums = set()
    for turn in ("1", "2"):
        tree = tmp_path / turn
        for name in (
            "var/log/dpkg.log",
            "var/cache/apt/x.bin",
            "etc/machine-id",
            "etc/resolv.conf",
            "dev/x",
            "bin/sh",
        ):
            path = tree / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(turn if name != "bin/sh" else "shell")
        bootstrap._strip(str(tree))
        tar = str(tmp_path / f"{turn}.tar")
        run_program(bootstrap._pack(str(tree), tar), check=True)
        with tarfile.open(tar) as archive:
            assert sorted(
                name for name in archive.getnames() if archive.getmember(name).isfile()
            ) == [
                "./bin/sh",
                "./etc/machine-id",
            ]
            assert archive.getmember("./etc/machine-id").size == 0
        with open(tar, "rb") as file:
            sums.add(file.read())
    assert len(sums) == 1
