"""Traffic between containers, hosts and the outside, through real bridges and nftables."""

from __future__ import annotations

import pytest

from .machine import Machine

pytestmark = pytest.mark.root

WAIT_FOR_LAST = (
    "end = time.monotonic() + 3\n"
    "while 'last' not in seen and time.monotonic() < end: time.sleep(0.02)\n"
    "out = seen"
)


def test_containers_of_a_network_reach_each_other_and_the_outside(
    machine: Machine, outside: Machine
) -> None:
    machine.apply(name="shop_front")
    web = machine.container("web", "shop_front")
    client = machine.container("client", "shop_front")
    web.call("tcp_echo(80, 'web')")
    outside.call("tcp_echo(80, 'outside')")
    assert client.get(f"tcp_ask({web.address!r}, 80)") == f"web {client.address}"
    # Masqueraded: the outside sees the host's address.
    assert client.get("tcp_ask('10.99.0.2', 80)") == "outside 10.99.0.1"


@pytest.mark.parametrize("br_netfilter", ["0", "1"])
def test_published_ports_answer_from_everywhere(
    machine: Machine, outside: Machine, br_netfilter: str
) -> None:
    machine.call(
        "import glob\n"
        "for path in glob.glob('/proc/sys/net/bridge/bridge-nf-call-iptables'):\n"
        f"    open(path, 'w').write({br_netfilter!r})"
    )
    machine.apply(name="shop_front")
    web = machine.container("web", "shop_front")
    other = machine.container("other", "shop_front")
    web.call("tcp_echo(80, 'web')\nudp_echo(53, 'udp')")
    machine.publish("web", host_port=8080, target=80)
    machine.publish("web", host_port=5353, target=53, protocol="udp")
    machine.call("firewall.sync(paths)")
    # The client's own address is seen inside, no proxy is in between.
    assert outside.get("tcp_ask('10.99.0.1', 8080)") == "web 10.99.0.2"
    assert outside.get("udp_ask('10.99.0.1', 5353)") == "udp ping"
    assert machine.get("tcp_ask('127.0.0.1', 8080)").startswith("web ")
    assert machine.get("tcp_ask('10.99.0.1', 8080)").startswith("web ")
    assert machine.get("udp_ask('127.0.0.1', 5353)") == "udp ping"
    assert other.get("tcp_ask('10.99.0.1', 8080)").startswith("web ")
    # Its own published port: out to the host and back (hairpin).
    assert web.get("tcp_ask('10.99.0.1', 8080)").startswith("web ")


def test_a_port_bound_to_loopback_is_not_reachable_from_outside(
    machine: Machine, outside: Machine
) -> None:
    machine.apply(name="shop_front")
    web = machine.container("web", "shop_front")
    web.call("tcp_echo(80, 'web')")
    machine.publish("web", host_port=8080, target=80, host_ip="127.0.0.1")
    machine.call("firewall.sync(paths)")
    assert machine.get("tcp_ask('127.0.0.1', 8080)").startswith("web ")
    assert outside.get("tcp_ask('10.99.0.1', 8080)") == "refused"


def test_a_neighbour_cannot_send_to_a_port_bound_to_loopback(
    machine: Machine, outside: Machine
) -> None:
    machine.apply(name="shop_front")
    web = machine.container("web", "shop_front")
    web.call("seen = udp_record('0.0.0.0', 53)")
    machine.publish("web", host_port=5353, target=53, protocol="udp", host_ip="127.0.0.1")
    machine.publish("web", host_port=5354, target=53, protocol="udp")
    machine.call("firewall.sync(paths)")
    # The worst case: the host itself lets loopback addresses in on this wire.
    machine.run("sysctl", "-qw", "net.ipv4.conf.wire.route_localnet=1")
    send = "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.sendto({!r}, {!r})".format
    machine.call(send(b"from the host", ("127.0.0.1", 5353)))
    outside.call("give_loopback_away('10.99.0.1', '10.99.0.2')")
    outside.call(send(b"from outside", ("127.0.0.1", 5353)))
    # The way is open: a port of every address gets what is sent to it so.
    outside.call(send(b"last", ("127.0.0.1", 5354)))
    assert web.call(WAIT_FOR_LAST) == ["from the host", "last"]


def test_containers_cannot_reach_services_on_the_hosts_loopback(machine: Machine) -> None:
    machine.apply(name="shop_front")
    client = machine.container("client", "shop_front")
    gateway = client.network["endpoints"][0]["gateway"]
    machine.call("seen = udp_record('0.0.0.0', 9999)")
    send = "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.sendto({!r}, {!r})".format
    client.call(f"give_loopback_away({gateway!r}, {client.address!r})")
    client.call(send(b"to loopback", ("127.0.0.1", 9999)))
    client.call(send(b"last", (gateway, 9999)))
    assert machine.call(WAIT_FOR_LAST) == ["last"]


def test_networks_are_isolated_and_closed_to_the_outside(
    machine: Machine, outside: Machine
) -> None:
    machine.apply(name="shop_front")
    machine.apply(name="shop_back")
    front = machine.container("front", "shop_front")
    back = machine.container("back", "shop_back")
    back.call("tcp_echo(80, 'back')")
    assert front.get(f"tcp_ask({back.address!r}, 80, 0.5)") == "timeout"
    # The outside routes to the host and still does not get in without a published port.
    assert outside.get(f"tcp_ask({back.address!r}, 80, 0.5)") == "timeout"
    assert machine.get(f"tcp_ask({back.address!r}, 80)").startswith("back ")


def test_an_internal_network_has_no_way_out(machine: Machine, outside: Machine) -> None:
    machine.apply(name="shop_back", internal=True)
    inside = machine.container("inside", "shop_back")
    peer = machine.container("peer", "shop_back")
    peer.call("tcp_echo(80, 'peer')")
    outside.call("tcp_echo(80, 'outside')")
    assert inside.get(f"tcp_ask({peer.address!r}, 80)").startswith("peer ")
    assert inside.get("tcp_ask('10.99.0.2', 80, 0.5)") == "unreachable"
    # Even with a route of its own making.
    inside.call(
        "import subprocess; subprocess.run(['ip', 'route', 'add', 'default', 'via', '172.29.0.1'])"
    )
    assert inside.get("tcp_ask('10.99.0.2', 80, 0.5)") == "timeout"


def test_a_udp_flow_follows_its_port_to_a_new_container(machine: Machine, outside: Machine) -> None:
    machine.apply(name="shop_front")
    old = machine.container("old", "shop_front")
    new = machine.container("new", "shop_front")
    old.call("udp_echo(53, 'old')")
    new.call("udp_echo(53, 'new')")
    machine.publish("old", host_port=5353, target=53, protocol="udp")
    machine.call("firewall.sync(paths)")
    assert outside.get("udp_ask('10.99.0.1', 5353, 1, 4000)") == "old ping"
    old.end()
    machine.publish("new", host_port=5353, target=53, protocol="udp")
    machine.call("firewall.sync(paths)")
    # The same source port: without ending the tracked flow it would still go to the old address.
    assert outside.get("udp_ask('10.99.0.1', 5353, 1, 4000)") == "new ping"


def test_nothing_is_left_after_removal(machine: Machine) -> None:
    links = machine.ip("-o", "link").count("\n")
    machine.apply(name="shop_front")
    assert machine.get("firewall.forwards()") is True
    web = machine.container("web", "shop_front")
    machine.publish("web", host_port=8080, target=80)
    machine.call("firewall.sync(paths)")
    web.end()
    machine.apply(name="shop_front", state="absent")
    assert machine.ip("-o", "link").count("\n") == links
    assert machine.run("nft", "list", "ruleset") == ""
    assert machine.get("firewall.forwards()") is False
    assert not list((machine.folder / "data" / "networks").iterdir())
    left = {p.name for p in (machine.folder / "run").iterdir()}
    assert left <= {"networks", "firewall.lock"}
