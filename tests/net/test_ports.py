"""Which ports can be published, and who is named when one cannot."""

from __future__ import annotations

import pytest

from .machine import Machine, RemoteError

pytestmark = pytest.mark.root

CHOOSE = (
    "from hostctl_host.container import Port\n"
    "out = [p['host_port'] for p in ports.choose(paths, {who!r}, ({ports},), {before!r})]"
)


def choose(machine: Machine, who: str, ports: str, before: object = ()) -> list[int]:
    found: list[int] = machine.call(CHOOSE.format(who=who, ports=ports, before=before))
    return found


def test_a_port_of_a_program_of_the_host_is_taken(machine: Machine) -> None:
    machine.call("tcp_echo(8080, 'x')")
    with pytest.raises(RemoteError) as refused:
        choose(machine, "web", "Port(target=80, published=8080)")
    name = machine.get("open('/proc/self/comm').read().strip()")
    assert refused.value.message == (
        f"cannot publish port 8080/tcp: it is used by {name} (process {machine.pid})"
    )
    assert refused.value.hint == "publish another port, or stop what uses this one"
    assert refused.value.ref == "port-taken"
    assert choose(machine, "web", "Port(target=80, published=8080, protocol='udp')") == [8080]


def test_listeners_count_at_their_address_only(machine: Machine) -> None:
    machine.ip("address", "add", "192.0.2.1/32", "dev", "lo")
    machine.call("a = socket.socket(); a.bind(('192.0.2.1', 8080)); a.listen(1)")
    machine.call("b = socket.socket(socket.AF_INET6); b.bind(('::', 8081)); b.listen(1)")
    assert choose(machine, "a", "Port(80, 8080, '127.0.0.1')") == [8080]
    for wanted in ("Port(80, 8080)", "Port(80, 8080, '192.0.2.1')", "Port(80, 8081, '127.0.0.1')"):
        with pytest.raises(RemoteError, match="cannot publish port"):
            choose(machine, "b", wanted)


def test_a_port_of_another_container_is_taken_and_ones_own_is_not(machine: Machine) -> None:
    machine.apply(name="shop_front")
    machine.container("web", "shop_front")
    machine.publish("web", host_port=8080, target=80)
    with pytest.raises(RemoteError, match="8080/tcp: it is used by container web"):
        choose(machine, "other", "Port(target=80, published=8080)")
    assert choose(machine, "web", "Port(target=80, published=8080)") == [8080]


def test_two_containers_made_at_once_cannot_have_one_port(machine: Machine) -> None:
    assert choose(machine, "one", "Port(80, 8080)") == [8080]
    with pytest.raises(RemoteError, match="it is used by container one"):
        choose(machine, "two", "Port(80, 8080)")
    assert choose(machine, "one", "Port(80, 8080)") == [8080]


def test_free_ports_are_free_different_and_kept(machine: Machine) -> None:
    machine.call("tcp_echo(32768, 'x')")
    assert choose(machine, "one", "Port(80), Port(81)") == [32769, 32770]
    assert choose(machine, "two", "Port(80)") == [32771]
    before = [{"target": 80, "protocol": "tcp", "host_ip": "", "host_port": 40000}]
    assert choose(machine, "three", "Port(80)", before) == [40000]
    before[0]["host_port"] = 32768
    assert choose(machine, "four", "Port(80)", before) == [32772]
