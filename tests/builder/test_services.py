"""Builds of a playbook: `build:` of a container, secrets and SSH agents that steps may use."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.builder.test_build import image

VALUE = "hunter2-in-a-playbook-build"


def write(folder: Path, text: str) -> str:
    path = folder / "shop.yml"
    path.write_text(text)
    return str(path)


def nowhere(hostctl, value: str) -> None:
    """No file of the host has this in it, in the open or as its bytes in hex."""
    for root in (hostctl.paths.data, hostctl.paths.run):
        for parent, _, files in os.walk(root):
            for name in files:
                path = Path(parent, name)
                if path.is_file() and not path.is_symlink():
                    content = path.read_bytes()
                    assert value.encode() not in content, path
                    assert value.encode().hex().encode() not in content, path


def layer_text(hostctl, name: str, path: str) -> str:
    """A file of an image that is in one layer."""
    image_id = hostctl.store.resolve(name)
    folders = [Path(hostctl.store.links_dir, link) for link in hostctl.store.lower(image_id)]
    return next((one / path).read_text() for one in folders if (one / path).exists())


def test_secrets_and_agents_of_a_playbook(hostctl, context, tmp_path) -> None:
    context(
        "FROM BASE\n"
        "RUN --mount=type=secret,id=word,env=WORD echo $(echo $WORD | wc -c) > /length\n"
        "RUN --mount=type=secret,id=key,required cat /run/secrets/key | wc -c > /size\n"
        'RUN --mount=type=secret,id=word,env=WORD,required test "$(echo $WORD | wc -c)" = "$(cat /length)"\n'
        "RUN --mount=type=ssh,id=git,required test -S $SSH_AUTH_SOCK\n"
    )
    (tmp_path / "value").write_text(VALUE)
    key = tmp_path / "id"
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True, timeout=60
    )
    site = write(
        tmp_path,
        "- hosts: all\n  secrets:\n    file: {file: value}\n    word: {environment: THE_WORD}\n"
        "  images:\n    lent:1:\n      build:\n        context: context\n"
        "        secrets: [word, {source: file, target: key, mode: 256}]\n"
        "        ssh: [git=id]\n",
    )
    env = {"THE_WORD": VALUE}
    planned = hostctl("plan", site, code=2, env=env)
    assert "secret" not in planned.stdout  # they are lent to the build, no host keeps them
    done = hostctl("apply", site, env=env)
    assert "secret" not in done.stdout
    assert layer_text(hostctl, "lent:1", "size") == f"{len(VALUE)}\n"
    assert layer_text(hostctl, "lent:1", "length") == f"{len(VALUE) + 1}\n"
    nowhere(hostctl, VALUE)
    hostctl("plan", site, env=env)
    (tmp_path / "value").write_text("another value: what is built does not depend on it")
    hostctl("plan", site, env=env)


def test_a_secret_that_a_container_has_too_stays_on_the_host(hostctl, context, tmp_path) -> None:
    context("FROM BASE\nRUN --mount=type=secret,id=key,required true\n")
    (tmp_path / "value").write_text(VALUE)
    site = write(
        tmp_path,
        "- hosts: all\n  secrets: {key: {file: value}}\n  containers:\n    web:\n"
        "      build: {context: context, secrets: [key]}\n      secrets: [key]\n",
    )
    planned = hostctl("plan", site, code=2).stdout
    assert "shop_key" in planned


def test_what_cannot_be_lent_has_its_place(hostctl, context, tmp_path) -> None:
    context("FROM BASE\n")
    site = write(
        tmp_path,
        "- hosts: all\n  secrets:\n    there: {external: true}\n    key: {environment: PATH}\n"
        "  images:\n    one:1: {build: {context: context, secrets: [kay]}}\n"
        "    two:1: {build: {context: context, secrets: [there]}}\n"
        "    three:1: {build: {context: context, secrets: [{source: key, at: x}]}}\n",
    )
    done = hostctl("plan", site, code=1)
    assert "shop.yml:6:" in done.stderr
    assert "cannot find the secret kay" in done.stderr
    assert "key?" in done.stderr
    assert "it is external" in done.stderr
    assert "cannot use the key 'at' in a secret of a build" in done.stderr


def test_a_container_is_built_as_compose_names_it(hostctl, context, tmp_path) -> None:
    folder = context('FROM BASE\nCOPY a /a\nCMD ["sleep", "inf"]\n', a="1")
    site = write(
        tmp_path,
        "- hosts: all\n  containers:\n    web: {build: ./context, network_mode: none}\n"
        "    named: {build: {context: context, args: {A: b}}, image: 'made/by-a-container:1', network_mode: none}\n"
        "    same: {build: {context: context, args: {A: b}}, image: 'made/by-a-container:1', network_mode: none}\n",
    )
    try:
        planned = hostctl("plan", site, code=2).stdout
        assert "shop-web" in planned
        assert "builds from" in planned
        hostctl("apply", site)
        assert image(hostctl, "shop-web")["config"]["Cmd"] == ["sleep", "inf"]
        assert image(hostctl, "made/by-a-container:1")
        hostctl("plan", site)
        (folder / "a").write_text("2")
        changed = hostctl("plan", site, code=2).stdout
        assert "COPY a /a (a changed)" in changed
        assert "shop-web-1" in changed
        hostctl("apply", site)
        hostctl("plan", site)
    finally:
        hostctl("destroy", "--yes", site)


def test_two_images_of_one_name_are_an_error(hostctl, context, tmp_path) -> None:
    context("FROM BASE\n")
    site = write(
        tmp_path,
        "- hosts: all\n  images:\n    mine:1: {build: context}\n  containers:\n"
        "    a: {build: context, image: 'mine:1'}\n    b: {build: context, image: 'b:1'}\n"
        "    c: {build: {context: context, target: x}, image: 'b:1'}\n    d: {build: context, image: 'UPPER'}\n",
    )
    done = hostctl("plan", site, code=1)
    assert "cannot build the image mine:1 here: it is declared in images" in done.stderr
    assert "cannot build the image b:1 here: it is declared by another container" in done.stderr
    assert "'UPPER' is no name of an image" in done.stderr
