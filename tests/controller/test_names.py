"""Runs in tests: names that would leave their folder on the host are errors on the controller, and on the host."""

from __future__ import annotations

from typing import Any

import pytest
from hostctl_host import container, group, network, user, volume
from hostctl_host.contract.fields import FieldError
from hostctl_host.contract.spec import decode

from .conftest import Folder

OUTSIDE = ["../up", "a/b", "..", ".", "", "-a", "a\n", "a" * 129]
IMAGE = "registry.example/a:1"


@pytest.mark.parametrize("name", OUTSIDE)
def test_the_host_refuses_them(name: str) -> None:
    for kind, more in ((network, {}), (volume, {}), (container, {"image": IMAGE})):
        with pytest.raises(FieldError, match="is no name"):
            decode(kind.Spec, {"name": name, **more})
    inside: list[dict[str, Any]] = [{"networks": [{"network": name}]}]
    if name:  # a volume without a name is anonymous
        inside.append({"volumes": [{"target": "/a", "source": name}]})
    for fields in inside:
        with pytest.raises(FieldError, match="is no name"):
            decode(container.Spec, {"name": "a", "image": IMAGE, **fields})


@pytest.mark.parametrize("name", ["../x", "a:b", "a\ny:0:", "-r", "", "a b", "a,b"])
def test_accounts(name: str) -> None:
    for kind in (user, group):
        with pytest.raises(FieldError, match="no name of an account"):
            decode(kind.Spec, {"name": name})
        assert kind.Spec(name="Jo.Doe_1$")


def test_the_controller_says_where(folder: Folder) -> None:
    found = folder.errors("""\
        - hosts: web1
          volumes:
            "../v": {}
            w: {name: ../../w}
          networks:
            n: {name: ../n}
          tasks:
            - volume: {name: ../../v}
            - user: {name: ../x}
            - image: {name: i, pull: "registry.example/../../x:1"}
            - container: {name: c, image: a/b, networks: [../n]}
          containers:
            "../a": {image: a/b}
            b: {image: a/b, container_name: ../up}
    """)
    places = ["4:", "6:", "8:", "9:", "10:", "11:", "3:", "13:", "14:"]
    for line in places:
        mine = [text for text in found if text.startswith(f"site.yml:{line}")]
        assert len(mine) == 1, (line, found)
        assert "cannot use :" not in mine[0]
        assert "is no name" in mine[0] or "lowercase letters" in mine[0]


@pytest.mark.parametrize("name", ["a\nb", "a b", "-a", "a" * 64])
def test_a_hostname(name: str) -> None:
    with pytest.raises(FieldError, match="no name of a host"):
        container.Spec("a", IMAGE, hostname=name)


@pytest.mark.parametrize(
    "limits",
    [{"mem_limit": 1}, {"mem_limit": -1}, {"cpus": 0.001}, {"cpus": -1.0}, {"pids_limit": -5}],
)
def test_limits_that_no_program_could_run_in(limits: dict[str, Any]) -> None:
    with pytest.raises(FieldError) as caught:
        container.Spec("a", IMAGE, **limits)
    assert caught.value.path == tuple(limits)
