"""Compose's short forms, and that building a spec without pydantic says the same as pydantic."""

from __future__ import annotations

from typing import Any

import pytest
from hostctl_host.container import Spec
from hostctl_host.contract.compose.ports import parse_ports
from hostctl_host.contract.fields import FieldError
from hostctl_host.contract.spec import decode, encode
from hypothesis import given
from hypothesis import strategies as st

from hostctl.desired.exact import Inexact, build
from hostctl.desired.validate import adapter


def spec(**fields: Any) -> Any:
    return adapter(Spec).validate_python({"name": "a", "image": "b", **fields})


def written(**fields: Any) -> dict[str, Any]:
    made: dict[str, Any] = encode(spec(**fields))
    return {key: value for key, value in made.items() if key not in ("name", "image")}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("80", [{"target": 80}]),
        (80, [{"target": 80}]),
        ("8080:80", [{"target": 80, "published": 8080}]),
        ("127.0.0.1:8080:80", [{"target": 80, "published": 8080, "host_ip": "127.0.0.1"}]),
        ("127.0.0.1::80", [{"target": 80, "host_ip": "127.0.0.1"}]),
        ("[::1]:8080:80", [{"target": 80, "published": 8080, "host_ip": "::1"}]),
        ("53:53/udp", [{"target": 53, "published": 53, "protocol": "udp"}]),
        ("90-91:80-81", [{"target": 80, "published": 90}, {"target": 81, "published": 91}]),
        ("80-81", [{"target": 80}, {"target": 81}]),
        ({"target": 80, "published": "8080", "mode": "host"}, [{"target": 80, "published": 8080}]),
        ({"target": 80, "host_ip": "10.0.0.1"}, [{"target": 80, "host_ip": "10.0.0.1"}]),
    ],
)
def test_ports(text: Any, expected: list[dict[str, Any]]) -> None:
    assert written(ports=[text])["ports"] == expected


@pytest.mark.parametrize(
    "text", ["x", "70000:80", "0:80", "80:80/sctp", "1-2:3-5", "a:80", "80:", "1.2.3:80:80"]
)
def test_no_ports(text: str) -> None:
    with pytest.raises(FieldError):
        parse_ports([text])


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("command", "echo 'a b' c", ["echo", "a b", "c"]),
        ("command", [], []),
        ("command", "", []),
        ("entrypoint", ["sh", "-c", 1], ["sh", "-c", "1"]),
        ("environment", ["A=1", "B=x=y"], {"A": "1", "B": "x=y"}),
        ("environment", {"A": 1, "B": True, "C": 1.5, "D": "no"}, {"A": "1", "B": "true", "C": "1.5", "D": "no"}),
        ("labels", ["a=b", "c"], {"a": "b", "c": ""}),
        ("labels", {"n": 1}, {"n": "1"}),
        ("ulimits", {"nofile": 10}, {"nofile": {"soft": 10, "hard": 10}}),
        ("ulimits", {"nofile": {"soft": 1, "hard": -1}}, {"nofile": {"soft": 1, "hard": -1}}),
        ("extra_hosts", {"a": "10.0.0.1"}, ["a:10.0.0.1"]),
        ("extra_hosts", ["a=::1", "b:10.0.0.2"], ["a:::1", "b:10.0.0.2"]),
        ("tmpfs", "/run", ["/run"]),
        ("cpus", "0.5", 0.5),
        ("cpus", 2, 2.0),
        ("mem_limit", "128M", 128 << 20),
        ("stop_grace_period", "1m30s", 90.0),
        ("stop_signal", "term", None),
        ("stop_signal", 9, "SIGKILL"),
        ("cap_add", ["net_admin", "ALL"], ["CAP_NET_ADMIN", "ALL"]),
        ("depends_on", ["db"], {"db": {}}),
        ("network_mode", "bridge", None),
        ("volumes", ["data:/d:ro", "/h:/c", "/anon"], [
            {"target": "/d", "source": "data", "read_only": True},
            {"target": "/c", "type": "bind", "source": "/h"},
            {"target": "/anon"},
        ]),
        ("volumes", [{"type": "tmpfs", "target": "/t", "tmpfs": {"size": 64, "mode": "0700"}}], [
            {"target": "/t", "type": "tmpfs", "tmpfs_size": 64, "tmpfs_mode": 0o700},
        ]),
        ("volumes", [{"type": "tmpfs", "target": "/t", "tmpfs": {"size": "1m"}}], [
            {"target": "/t", "type": "tmpfs", "tmpfs_size": 1 << 20},
        ]),
        ("networks", {"a": None, "b": {"aliases": ["x"], "ipv4_address": "10.0.0.3"}}, [
            {"network": "a"},
            {"network": "b", "aliases": ["x"], "ipv4_address": "10.0.0.3"},
        ]),
        ("user", 1000, "1000"),
        ("restart", "on-failure:3", "on-failure:3"),
    ],
)  # fmt: skip
def test_short_forms(field: str, value: Any, expected: Any) -> None:
    if field == "stop_signal" and expected is None:
        expected = "SIGTERM"
    assert written(**{field: value}).get(field) == expected


def test_null_is_the_images_and_empty_clears() -> None:
    assert spec(command=None).command is None
    assert spec(command=[]).command == ()
    assert decode(Spec, {"name": "a", "image": "b", "command": []}).command == ()


def test_a_value_of_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FROM_HERE", "yes")
    monkeypatch.delenv("NOT_HERE", raising=False)
    assert written(environment=["FROM_HERE", "NOT_HERE"])["environment"] == {"FROM_HERE": "yes"}
    assert written(environment={"FROM_HERE": None})["environment"] == {"FROM_HERE": "yes"}


@given(
    st.lists(st.integers(1, 65535), min_size=1, max_size=4),
    st.sampled_from(["", "127.0.0.1", "::1"]),
    st.sampled_from(["tcp", "udp"]),
)
def test_ports_as_written_are_read_back(ports: list[int], ip: str, protocol: str) -> None:
    shown = f"[{ip}]" if ":" in ip else ip
    texts = [f"{shown}{':' if ip else ''}{port}:{port}/{protocol}" for port in ports]
    found = [vars(port) for port in spec(ports=texts).ports]
    assert [(p["published"], p["target"], p["host_ip"], p["protocol"]) for p in found] == [
        (port, port, ip, protocol) for port in ports
    ]


_scalar = st.none() | st.booleans() | st.integers(-5, 70000) | st.sampled_from(
    ["", "a", "1", "80:80", "/a", "a:/b", "A=1", "1m", "128M", "always", "on-failure:2", "TERM", "host", "echo 'x"]
)  # fmt: skip
_value = st.recursive(
    _scalar,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["a", "target", "soft", "hard", "network", "type"]), inner, max_size=3
        )
    ),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(list(Spec.__dataclass_fields__)), _value, max_size=4))
def test_what_is_built_without_pydantic_is_what_pydantic_makes(fields: dict[str, Any]) -> None:
    data = {"name": "a", "image": "b", **fields}
    try:
        quick = build(Spec, data)
    except Inexact:
        return
    assert quick == adapter(Spec).validate_python(data)


@given(st.dictionaries(st.sampled_from(list(Spec.__dataclass_fields__)), _value, max_size=4))
def test_a_spec_survives_the_wire(fields: dict[str, Any]) -> None:
    from pydantic import ValidationError

    try:
        made = spec(**fields)
    except ValidationError:
        return
    again = decode(Spec, encode(made))
    assert encode(again) == encode(made)
