"""Runs in tests: what the controller says about `userns_mode`, with file and line."""

from __future__ import annotations

import pytest

from .conftest import Folder
from .test_service_keys import resources, spec


@pytest.mark.parametrize(
    ("written", "kept"), [("host", ""), ("''", ""), ("private", "private"), ("auto", "private")]
)
def test_modes(folder: Folder, written: str, kept: str) -> None:
    assert spec(folder, f"userns_mode: {written}").userns_mode == kept


BAD = [
    ("userns_mode: mine", "userns_mode", "'mine' is no mode of userns_mode; host, private or auto"),
    ("userns_mode: 'auto:size=5'", "userns_mode", "the size is 65536 for all, without options"),
    ("userns_mode: keep-id", "userns_mode", "it is for podman without root"),
    ("userns_mode: nomap", "userns_mode", "it is for podman without root"),
    ("userns_mode: 'container:x'", "userns_mode", "a project has one range"),
    ("userns_mode: 'ns:/proc/1/ns/user'", "userns_mode", "tie the container to a process"),
    ("userns_mode: private, pid: host", "pid", "could not mount /proc"),
    ("userns_mode: private, ipc: host", "ipc", "could not mount them"),
    ("userns_mode: private, cgroup: host", "cgroup", "could not mount them"),
    ("userns_mode: private, privileged: true", "privileged", "write cap_add: [ALL]"),
    ("userns_mode: private, runtime: runc", "userns_mode", "hostctl's own runtime"),
    ("userns_mode: private, user: '70000'", "user", "users and groups 0 to 65535: not 70000"),
    ("userns_mode: private, user: '1:70000'", "user", "not 70000"),
    ("userns_mode: private, group_add: ['70000']", "group_add[0]", "not 70000"),
    (
        "userns_mode: private, pid: 'container:x', ipc: 'container:y'",
        "ipc",
        "have two user namespaces, and a container is in one",
    ),
    ("volumes: ['/srv:/srv:idmap']", "volumes[0]", "set userns_mode: private"),
    ("volumes: ['v:/srv:idmap']", "volumes[0]", "'idmap' is no option of a volume"),
]


@pytest.mark.parametrize(("body", "path", "expected"), BAD)
def test_refused_with_its_place(folder: Folder, body: str, path: str, expected: str) -> None:
    (found,) = folder.errors(f"- hosts: web\n  containers:\n    a: {{image: x, {body}}}\n")
    assert found.startswith("site.yml:3:"), found
    assert f"(containers.a.{path})" in found
    assert expected in found


@pytest.mark.parametrize("kind", ["pid", "ipc"])
@pytest.mark.parametrize("form", ["service:db", "container:web-db-1"])
def test_namespaces_of_other_users_are_refused(folder: Folder, kind: str, form: str) -> None:
    found = folder.errors(f"""\
        - hosts: web
          project: web
          containers:
            a: {{image: x, {kind}: "{form}", userns_mode: private}}
            db: {{image: x}}
        """)
    assert len(found) == 1
    assert found[0].startswith("site.yml:4:")
    assert (
        f"cannot share {kind} with db: its userns_mode is host, and here it is private" in found[0]
    )
    assert "write the same userns_mode in both" in found[0]


def test_those_of_the_same_users_are_shared(folder: Folder) -> None:
    found = resources(folder, """\
  containers:
    a: {image: x, command: x, pid: "service:db", userns_mode: auto}
    db: {image: x, userns_mode: private}
""")["container.shop-a-1"]  # fmt: skip
    assert found["spec"]["pid"] == "container:shop-db-1"


def test_a_folder_is_shown_as_the_containers_own(folder: Folder) -> None:
    for volume in (
        "'/srv:/srv:idmap'",
        "{type: bind, source: /srv, target: /srv, bind: {idmap: true}}",
    ):
        made = spec(folder, f"userns_mode: private, volumes: [{volume}]")
        assert made.volumes[0].idmap
