"""The declared sections: names, needs, implicit resources, images, replicas, ports."""

from __future__ import annotations

import io
import tarfile
from typing import Any

import pytest
from hostctl_host.contract.document import digest

from hostctl.desired.names import full_image

from .conftest import Folder

HEAD = "- hosts: web\n  project: shop\n"


def graph(
    folder: Folder, text: str, host: str = "web1", **options: Any
) -> dict[str, dict[str, Any]]:
    program = folder.program(HEAD + text, host, **options)
    program.facts({})
    return {r["id"]: r for r in program.first()["document"]["resources"]}


@pytest.mark.parametrize(
    ("reference", "full"),
    [
        ("nginx", "docker.io/library/nginx:latest"),
        ("nginx:1", "docker.io/library/nginx:1"),
        ("grafana/grafana", "docker.io/grafana/grafana:latest"),
        ("localhost:5000/a", "localhost:5000/a:latest"),
        ("10.0.0.1:5000/a/b:2", "10.0.0.1:5000/a/b:2"),
        ("ghcr.io/o/i@sha256:" + "a" * 64, "ghcr.io/o/i@sha256:" + "a" * 64),
        ("localhost/x:y", "localhost/x:y"),
    ],
)
def test_full_names_of_images(reference: str, full: str) -> None:
    assert full_image(reference) == full
    assert full_image(full) == full


@pytest.mark.parametrize("reference", ["", "UPPER/case:x", "a b", "nginx:", "x@sha256:12", "-a"])
def test_no_names_of_images(reference: str) -> None:
    with pytest.raises(ValueError):
        full_image(reference)


def test_a_service_becomes_a_container_with_full_names_and_needs(folder: Folder) -> None:
    found = graph(
        folder,
        """\
  networks: {front: , back: {name: shared, internal: true}, out: {external: true}}
  volumes: {data: {labels: [a=b]}}
  containers:
    db: {image: "postgres:16", volumes: ["data:/data"], networks: [back]}
    web:
      image: nginx
      networks: {front: {aliases: [www]}, back: , out: }
      depends_on: [db]
""",
    )
    assert list(found) == [
        "boot.hostctl",
        "image.docker.io/library/postgres:16",
        "image.docker.io/library/nginx:latest",
        "network.shop_front",
        "network.shared",
        "network.out",
        "volume.shop_data",
        "container.shop-db-1",
        "container.shop-web-1",
    ]
    web = found["container.shop-web-1"]
    assert web["needs"] == [
        "boot.hostctl",
        "image.docker.io/library/nginx:latest",
        "network.shop_front",
        "network.shared",
        "network.out",
        "container.shop-db-1",
    ]
    assert web["spec"]["networks"] == [
        {"network": "shop_front", "aliases": ["web", "shop-web-1", "www"]},
        {"network": "shared", "aliases": ["web", "shop-web-1"]},
        {"network": "out", "aliases": ["web", "shop-web-1"]},
    ]
    assert found["container.shop-db-1"]["spec"]["volumes"] == [
        {"target": "/data", "source": "shop_data"}
    ]
    assert found["network.shared"]["spec"] == {"name": "shared", "internal": True}
    assert found["network.out"]["spec"] == {"name": "out", "external": True}
    assert found["volume.shop_data"]["spec"]["labels"] == {"a": "b"}


def test_default_network_only_where_it_is_used(folder: Folder) -> None:
    assert "network.shop_default" in graph(folder, "  containers: {a: {image: x}}\n")
    assert "network.shop_default" not in graph(
        folder, "  containers: {a: {image: x, network_mode: none}}\n"
    )
    found = graph(folder, "  networks: {default: {name: mine}}\n  containers: {a: {image: x}}\n")
    assert found["container.shop-a-1"]["spec"]["networks"][0]["network"] == "mine"


def test_images(folder: Folder) -> None:
    found = graph(
        folder,
        """\
  vars: {version: "1.4"}
  images:
    base: {bootstrap: {suite: bookworm, packages: [nginx-light], command: "nginx -g 'daemon off;'"}}
    shop/web:{{ version }}: {pull: "registry.local/web:{{ version }}", insecure: true}
    nginx:1:
  containers:
    a: {image: base}
    b: {image: "shop/web:{{ version }}"}
    c: {image: "docker.io/library/nginx:1"}
""",
    )
    assert found["image.base"]["spec"] == {
        "name": "base",
        "bootstrap": {"packages": ["nginx-light"], "command": ["nginx", "-g", "daemon off;"]},
    }
    assert found["image.shop/web:1.4"]["spec"] == {
        "name": "shop/web:1.4", "pull": "registry.local/web:1.4", "insecure": True,
    }  # fmt: skip
    assert found["image.nginx:1"]["spec"] == {
        "name": "nginx:1",
        "pull": "docker.io/library/nginx:1",
    }
    assert [found[f"container.shop-{n}-1"]["spec"]["image"] for n in "abc"] == [
        "base",
        "shop/web:1.4",
        "nginx:1",
    ]
    assert len([name for name in found if name.startswith("image.")]) == 3


def test_an_archive_travels_as_blobs(folder: Folder) -> None:
    layer = b"layer" * 100
    name = f"blobs/sha256/{digest(layer)}"
    folder.file(f"images/oci/{name}", layer)
    folder.file("images/oci/index.json", "{}")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path, data in (("manifest.json", b"[]"), ("abc/layer.tar", layer)):
            member = tarfile.TarInfo(path)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
        link = tarfile.TarInfo("def/layer.tar")
        link.type, link.linkname = tarfile.SYMTYPE, "../abc/layer.tar"
        archive.addfile(link)
    folder.file("saved.tar", buffer.getvalue())
    program = folder.program(
        HEAD + "  images: {oci: {archive: images/oci}, saved: {archive: saved.tar}}\n"
    )
    program.facts({})
    document = program.first()["document"]
    specs = [r["spec"] for r in document["resources"]]
    assert specs[0] == {
        "name": "oci",
        "content": {name: digest(layer), "index.json": digest(b"{}")},
    }
    assert specs[1]["content"] == {
        "manifest.json": digest(b"[]"), "abc/layer.tar": digest(layer), "def/layer.tar": digest(layer),
    }  # fmt: skip
    assert set(document["content"]) == {digest(layer), digest(b"{}"), digest(b"[]")}
    assert program.blob(digest(layer)) == layer


def test_replicas_limits_and_a_range_of_ports(folder: Folder) -> None:
    found = graph(
        folder,
        """\
  containers:
    web:
      image: x
      ports: ["8080-8082:80", "53/udp"]
      deploy: {replicas: 3, resources: {limits: {cpus: "0.5", memory: 128M, pids: 50}}}
    other: {image: x, depends_on: {web: {condition: service_started}}}
""",
    )
    specs = [found[f"container.shop-web-{n}"]["spec"] for n in (1, 2, 3)]
    assert [spec["ports"][0] for spec in specs] == [
        {"target": 80, "published": 8080}, {"target": 80, "published": 8081}, {"target": 80, "published": 8082},
    ]  # fmt: skip
    assert [spec.get("number", 1) for spec in specs] == [1, 2, 3]
    assert (specs[0]["cpus"], specs[0]["mem_limit"], specs[0]["pids_limit"]) == (0.5, 128 << 20, 50)
    assert "deploy" not in specs[0]
    assert found["container.shop-other-1"]["needs"][-3:] == [
        f"container.shop-web-{n}" for n in (1, 2, 3)
    ]
    assert "depends_on" in found["container.shop-other-1"]["spec"]


def test_container_name_services_alias_and_extension_keys(folder: Folder) -> None:
    found = graph(folder, "  services: {web: {image: x, container_name: mine, x-note: 1}}\n")
    spec = found["container.mine"]["spec"]
    assert (spec["name"], spec["service"]) == ("mine", "web")
    assert spec["networks"][0]["aliases"] == ["web", "mine"]


def test_same_port_on_other_addresses_and_protocols_is_no_clash(folder: Folder) -> None:
    graph(
        folder,
        """\
  containers:
    a: {image: x, ports: ["127.0.0.1:80:80", "53:53/udp"]}
    b: {image: x, ports: ["127.0.0.2:80:80", "53:53"]}
""",
    )
    errors = folder.errors(
        HEAD
        + """\
  containers:
    a: {image: x, ports: ["127.0.0.1:80:80"]}
    b: {image: x, ports: ["80:80"]}
"""
    )
    assert "cannot publish port 80/tcp twice" in errors[0]


def test_relative_and_home_binds(folder: Folder) -> None:
    text = "  containers: {a: {image: x, volumes: ['./data:/d', '~/x:/x:ro', /abs/../y:/y]}}\n"
    inventory = folder.inventory(
        "all: {children: {web: {hosts: {web1: {ansible_connection: local}}}}}\n"
    )
    found = graph(folder, text, inventory=inventory)
    assert found["container.shop-a-1"]["spec"]["volumes"] == [
        {"target": "/d", "type": "bind", "source": str(folder.path / "data")},
        {"target": "/x", "type": "bind", "source": "/root/x", "read_only": True},
        {"target": "/y", "type": "bind", "source": "/y"},
    ]


def test_sections_differ_per_host(folder: Folder) -> None:
    text = "  containers: {a: {image: x, environment: {HOST: '{{ inventory_hostname }}'}}}\n"
    for host in ("web1", "web2"):
        assert graph(folder, text, host)["container.shop-a-1"]["spec"]["environment"] == {
            "HOST": host
        }


def test_ipam_of_compose(folder: Folder) -> None:
    found = graph(
        folder,
        "  networks: {a: {ipam: {config: [{subnet: 10.9.0.0/24, gateway: 10.9.0.1}]}}}\n",
    )
    assert found["network.shop_a"]["spec"] == {
        "name": "shop_a", "subnet": "10.9.0.0/24", "gateway": "10.9.0.1",
    }  # fmt: skip


TASK = """\
- hosts: web
  project: shop
  tasks:
    - container: {name: "web-{{ item }}", image: nginx, networks: [front, plain], volumes: ["data:/d", "other:/o"]}
      register: made
      loop: [a, b]
    - container: {name: gone, image: nginx, state: absent}
    - container: {name: lone, image: own}
  networks: {front: {}}
  volumes: {data: {name: real}}
  images: {own: {bootstrap: {suite: bookworm}}}
  containers:
    app: {image: nginx}
"""


def test_a_container_task_gets_its_image_and_the_plays_names(folder: Folder) -> None:
    program = folder.program(TASK)
    program.facts({})
    found = program.first()["document"]["resources"]
    nginx = "docker.io/library/nginx:latest"
    assert [r["id"] for r in found] == [
        "boot.hostctl",
        f"image.{nginx}",
        "container.web-a",
        "container.web-b",
        "container.gone",
        "network.shop_default",
        "container.lone",
        "image.own",
        "network.shop_front",
        "volume.real",
        "container.shop-app-1",
    ]
    by_id = {r["id"]: r for r in found}
    spec = by_id["container.web-a"]["spec"]
    assert spec["image"] == nginx
    assert [one["network"] for one in spec["networks"]] == ["shop_front", "plain"]
    assert spec["networks"][0]["aliases"] == ["web-a"]
    assert [one["source"] for one in spec["volumes"]] == ["real", "other"]
    assert by_id["container.lone"]["spec"]["image"] == "own"
    assert by_id["container.shop-app-1"]["needs"] == [
        "boot.hostctl",
        f"image.{nginx}",
        "network.shop_default",
    ]
    implied = by_id[f"image.{nginx}"]
    assert implied["section"] == "tasks" and "register" not in implied
    for name in ("a", "b"):
        program.answer({"id": f"container.web-{name}", "result": {"container": f"web-{name}"}})
    assert [one["container"] for one in program._state.learnt["made"]["results"]] == [
        "web-a",
        "web-b",
    ]


def test_deploy_of_a_container_task_is_not_ignored(folder: Folder) -> None:
    assert folder.errors(
        "- {hosts: web, tasks: [{container: {name: a, image: b, deploy: {replicas: 2}}}]}"
    ) == [
        "site.yml:1:56 (tasks[0].container.deploy): not supported yet: deploy of a container that is a task"
        " | declare it in containers:"
    ]
