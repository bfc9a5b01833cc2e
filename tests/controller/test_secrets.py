"""Secrets and configs of a playbook: where they come from, what travels, and what is wrong with some."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hostctl_host.contract.document import digest

from .conftest import Folder

First = Callable[..., list[dict[str, Any]]]

PLAYBOOK = """\
- hosts: web
  project: shop
  secrets:
    db: {file: db.txt}
    token: {environment: SHOP_TOKEN, name: the_token}
    theirs: {external: true}
  configs:
    site: {content: "hello {{ inventory_hostname }}\\n"}
    other: {file: other.conf}
  containers:
    web:
      image: nginx
      secrets:
        - db
        - {source: token, target: /etc/token, uid: "103", gid: 104, mode: "0440"}
        - {source: theirs, target: sub/theirs}
      configs: [site, {source: other, target: /etc/other.conf, mode: 0o400}]
    plain: {image: nginx}
"""


@pytest.fixture
def shop(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> Folder:
    monkeypatch.setenv("SHOP_TOKEN", "t0ken")
    folder.file("db.txt", b"s3cret\xff\n")
    folder.file("files/other.conf", "x")
    return folder


def by_id(found: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {one["id"]: one for one in found}


def test_values_travel_by_digest_and_nothing_else_has_them(shop: Folder, resources: First) -> None:
    program = shop.program(PLAYBOOK)
    program.facts({})
    frame = program.first()
    assert "s3cret" not in str(frame) and "t0ken" not in str(frame)
    found = by_id(frame["document"]["resources"])
    db = found["secret.shop_db"]
    assert db["no_log"] is True and db["spec"] == {
        "name": "shop_db",
        "digest": digest(b"s3cret\xff\n"),
    }
    assert program.blob(db["spec"]["digest"]) == b"s3cret\xff\n"
    assert program.blob(found["secret.the_token"]["spec"]["digest"]) == b"t0ken"
    assert found["secret.theirs"]["spec"] == {"name": "theirs", "external": True}
    site = found["config.shop_site"]
    assert program.blob(site["spec"]["digest"]) == b"hello web1\n" and not site.get("no_log")
    assert set(frame["document"]["content"]) == {
        one["spec"]["digest"] for one in found.values() if "digest" in one["spec"]
    }


def test_a_container_names_what_it_gets_and_needs_it(shop: Folder, resources: First) -> None:
    found = by_id(resources(shop.program(PLAYBOOK)))
    web, plain = found["container.shop-web-1"], found["container.shop-plain-1"]
    assert web["spec"]["secrets"] == [
        {"source": "shop_db", "target": "/run/secrets/db"},
        {"source": "the_token", "target": "/etc/token", "uid": 103, "gid": 104, "mode": "0440"},
        {"source": "theirs", "target": "/run/secrets/sub/theirs"},
    ]
    assert web["spec"]["configs"] == [
        {"source": "shop_site", "target": "/site"},
        {"source": "shop_other", "target": "/etc/other.conf", "mode": "0400"},
    ]
    wanted = {"secret.shop_db", "secret.the_token", "secret.theirs"}
    assert wanted | {"config.shop_site", "config.shop_other"} <= set(web["needs"])
    assert not [need for need in plain["needs"] if need.startswith(("secret", "config"))]


@pytest.mark.parametrize(
    ("play", "wanted"),
    [
        (
            "secrets: {a: {}}",
            "cannot use the secret a: it has no value | write one of file, environment",
        ),
        (
            "secrets: {a: {file: db.txt, environment: SHOP_TOKEN}}",
            "site.yml:3:31 (secrets.a.environment): cannot use the secret a: it has both file and environment",
        ),
        ("secrets: {a: {content: t0ken}}", "a secret has no place in a playbook | use environment"),
        (
            "secrets: {a: {environment: NOT_SET}}",
            "the environment variable NOT_SET is not set | export",
        ),
        ("secrets: {a: {file: nowhere}}", "cannot find nowhere | looked in"),
        ("secrets: {a: {vault: secrets.yml}}", "not supported yet: vault"),
        ("secrets: {a: {driver: x}}", "not supported yet: driver"),
        ("secrets: {a: {digest: x}}", "cannot use the key 'digest' in secret: hostctl sets it"),
        ("secrets: {a: {fil: x}}", "cannot use the key 'fil' in secret | did you mean file?"),
        (
            "secrets: {a: {external: true, file: db.txt}}",
            "it is external, and its value is where it is",
        ),
        ("secrets: {a: text}", "cannot use the secret a: it is no map"),
        ("configs: {a: {content: {x: 1}}}", "cannot use content of this config: it is a text"),
        ("configs: {a: {template_driver: golang}}", "not supported yet: template_driver"),
        (
            "containers: {web: {image: nginx, secrets: [db]}}",
            "cannot find the secret db: it is not declared in secrets | declare it in secrets:",
        ),
        (
            "containers: {web: {image: nginx, configs: [{source: a, mode: 9}]}}",
            "a mode is written as a string of octal digits",
        ),
        (
            "containers: {web: {image: nginx, configs: [{source: a, uid: bob}]}}",
            "'bob' is no number; a secret's owner is a uid or gid",
        ),
        (
            "containers: {web: {image: nginx, configs: [{source: a, owner: 0}]}}",
            "'owner' is no key here",
        ),
        (
            "containers: {web: {image: nginx, configs: [a, {source: b, target: /a}]}}",
            "/a is mounted twice; configs[0] has it already",
        ),
    ],
)
def test_what_is_wrong_is_said_before_any_host_is_touched(
    shop: Folder, play: str, wanted: str
) -> None:
    found = shop.errors(f"- hosts: web\n  project: shop\n  {play}\n")
    assert any(wanted in one for one in found), found
    assert "t0ken" not in str(found) and "s3cret" not in str(found)


def test_what_is_too_long_is_refused(shop: Folder) -> None:
    shop.file("big", b"x" * 500_001)
    assert "longer than 500000 bytes" in str(
        shop.errors("- {hosts: web, secrets: {a: {file: big}}}\n")
    )


def test_a_config_that_a_hidden_result_went_into_is_hidden(shop: Folder, resources: First) -> None:
    program = shop.program("""\
        - hosts: web
          project: shop
          tasks:
            - {command: token, register: token, no_log: true}
          configs:
            site: {content: "key={{ token.stdout }}"}
            open: {content: "key=1"}
        """)
    program.facts({})
    program.first()
    program.answer({"id": "command.command", "result": {"stdout": "s3cret"}})
    found = by_id(program.next()["resources"])
    assert found["config.shop_site"]["no_log"] and found["config.shop_site"]["spec"]["hidden"]
    assert not found["config.shop_open"].get("no_log")


def test_they_are_tasks_too(shop: Folder, resources: First) -> None:
    found = by_id(
        resources(
            shop.program("""\
                - hosts: web
                  tasks:
                    - {secret: {name: one, file: db.txt}, no_log: false}
                    - {config: {name: two, content: hello}}
                    - {secret: {name: three, state: absent}}
                    - container: {name: web, image: nginx, secrets: [one], network_mode: none}
                """)
        )
    )
    assert found["secret.one"]["no_log"] and found["secret.one"]["spec"]["digest"]
    assert found["secret.three"]["spec"] == {"name": "three", "state": "absent"}
    assert found["container.web"]["spec"]["secrets"] == [
        {"source": "one", "target": "/run/secrets/one"}
    ]


def test_volumes_from_a_service_is_its_first_container(folder: Folder, resources: First) -> None:
    found = by_id(
        resources(
            folder.program("""\
                - hosts: web
                  project: shop
                  containers:
                    data: {image: nginx, deploy: {replicas: 2}}
                    web: {image: nginx, volumes_from: ["data:ro", "container:old"]}
                """)
        )
    )
    web = found["container.shop-web-1"]
    assert web["spec"]["volumes_from"] == ["shop-data-1:ro", "old"]
    assert {"container.shop-data-1", "container.old"} <= set(web["needs"])


def test_volumes_from_makes_no_circle(folder: Folder) -> None:
    play = "- {hosts: web, containers: {a: {image: x, volumes_from: [b]}, b: {image: x, volumes_from: [a]}}}"
    assert "a -> b -> a is a circle" in str(folder.errors(play))
    play = "- {hosts: web, containers: {a: {image: x, volumes_from: [b]}}}"
    assert "cannot find the container b" in str(folder.errors(play))


@pytest.mark.parametrize(
    ("volume", "wanted"),
    [
        ('"d:/d:rshared"', "'rshared' is no option of a volume"),
        ('"/d:/d:nocopy"', "'nocopy' is no option of a bind"),
        ('"/d:/d:what"', "'what' is no option of a bind; ro, rw, z, Z, private"),
        ("{type: cluster, target: /d}", "cluster volumes belong to Docker's Swarm"),
        ("{type: npipe, target: /d}", "a pipe of Windows"),
        ("{type: image, target: /d}", "not supported yet: the volume type image"),
        ("{type: volume, target: /d, bind: {}}", "bind is for the type bind, and this is a volume"),
        ("{type: bind, target: /d}", "a bind needs its source"),
        ("{type: tmpfs, target: /d, source: x}", "a tmpfs is new memory"),
        ("{type: volume, target: /d, volume: {subpath: x}}", "an anonymous volume is new"),
        (
            "{type: volume, source: d, target: /d, volume: {subpath: ../x}}",
            "leads out of the volume",
        ),
        ("{type: volume, source: d, target: /d, volume: {subpath: /x}}", "leads out of the volume"),
        ("{type: volume, source: d, target: /d, volume: {sub: x}}", "'sub' is no key of volume"),
        ("{type: bind, source: /d, target: /d, bind: {recursive: yes}}", "is none of enabled"),
        (
            "{type: bind, source: /d, target: /d, bind: {propagation: up}}",
            "'up' is none of private",
        ),
        (
            "{type: bind, source: /d, target: /d, bind: {create_host_path: maybe}}",
            "neither true nor",
        ),
        ("{type: bind, source: /d, target: /d, consistency: strict}", "'strict' is no consistency"),
    ],
)
def test_mounts_that_cannot_be(folder: Folder, volume: str, wanted: str) -> None:
    play = f"- {{hosts: web, volumes: {{d: {{}}}}, containers: {{a: {{image: x, volumes: [{volume}]}}}}}}"
    assert wanted in str(folder.errors(play))


def test_mounts_in_full(folder: Folder, resources: First) -> None:
    found = by_id(
        resources(
            folder.program("""\
                - hosts: web
                  project: shop
                  volumes: {d: {driver_opts: {type: tmpfs, device: tmpfs, o: size=1m}}}
                  containers:
                    a:
                      image: x
                      volumes:
                        - "d:/one:ro,nocopy,z,cached"
                        - "/src:/two:rslave"
                        - {type: volume, source: d, target: /three, volume: {subpath: a/./b, nocopy: true}}
                        - type: bind
                          source: /src
                          target: /four
                          consistency: cached
                          bind: {recursive: disabled, create_host_path: false, selinux: Z}
                        - {type: tmpfs, target: /five, tmpfs: {size: 1m, mode: "0700"}}
                """)
        )
    )
    assert found["volume.shop_d"]["spec"]["driver_opts"]["o"] == "size=1m"
    assert found["container.shop-a-1"]["spec"]["volumes"] == [
        {"target": "/one", "source": "shop_d", "read_only": True, "nocopy": True, "selinux": "z"},
        {"target": "/two", "type": "bind", "source": "/src", "propagation": "rslave"},
        {"target": "/three", "source": "shop_d", "subpath": "a/b", "nocopy": True},
        {
            "target": "/four",
            "type": "bind",
            "source": "/src",
            "recursive": "disabled",
            "create_host_path": False,
            "selinux": "Z",
        },
        {"target": "/five", "type": "tmpfs", "tmpfs_size": 1 << 20, "tmpfs_mode": 0o700},
    ]


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ("{size: 1}", "'size' is no option of the driver local"),
        ("{o: bind, device: /x}", "type is missing"),
        ("{type: none, o: bind, device: x}", "'x' is not absolute"),
        ("{type: none, device: /x}", "add `o: bind`"),
    ],
)
def test_driver_options_that_cannot_be(folder: Folder, options: str, wanted: str) -> None:
    play = f"- {{hosts: web, volumes: {{d: {{driver_opts: {options}}}}}}}"
    assert wanted in str(folder.errors(play))


def test_memory_is_not_shared_by_two_containers(folder: Folder) -> None:
    found = folder.errors("""\
        - hosts: web
          volumes: {d: {driver_opts: {type: tmpfs, device: tmpfs}}}
          containers:
            a: {image: x, volumes: ["d:/d"]}
            b: {image: x, volumes: ["d:/d"]}
        """)
    assert "each container would have a tmpfs of its own" in str(found)
