"""Names: containers find each other, the rest goes to the host's resolvers, and a kill loses no query."""

from __future__ import annotations

import time

import pytest

from .machine import Machine

pytestmark = pytest.mark.root

NOERROR, SERVFAIL, NXDOMAIN = 0, 2, 3


def test_names_aliases_and_replicas(machine: Machine) -> None:
    machine.apply(name="shop_front")
    one = machine.container("shop-web-1", "shop_front", names=("web", "www"), dns=True)
    two = machine.container("shop-web-2", "shop_front", names=("web",), dns=True)
    both = sorted([one.address, two.address])
    for ask in ("web", "WEB", "web.shop_front"):
        assert two.get(f"dns_ask({ask!r})") == [NOERROR, False, both]
    assert two.get("dns_ask('web', tcp=True)") == [NOERROR, False, both]
    assert two.get("dns_ask('www')") == [NOERROR, False, [one.address]]
    assert two.get("dns_ask('shop-web-1')") == [NOERROR, False, [one.address]]
    # A known name without an IPv6 address is not an unknown one.
    assert two.get("dns_ask('web', kind=28)") == [NOERROR, False, []]
    reverse = ".".join(reversed(one.address.split("."))) + ".in-addr.arpa"
    code, _, found = two.get(f"dns_ask({reverse!r}, kind=12)")
    assert (code, found) == (NOERROR, ["\x0ashop-web-1\x0ashop_front\x00"])


def test_replicas_take_turns(machine: Machine) -> None:
    machine.apply(name="shop_front")
    one = machine.container("shop-web-1", "shop_front", names=("web",), dns=True)
    machine.container("shop-web-2", "shop_front", names=("web",), dns=True)
    first = {
        one.call(
            "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
            "s.sendto(packet('web'), ('127.0.0.11', 53))\n"
            "out = socket.inet_ntoa(s.recv(512)[33:37])"
        )
        for _ in range(40)
    }
    assert len(first) == 2


def test_names_are_of_the_containers_own_networks(machine: Machine) -> None:
    machine.apply(name="shop_front")
    machine.apply(name="shop_back")
    web = machine.container("web", "shop_front", "shop_back", dns=True)
    client = machine.container("client", "shop_front", dns=True)
    database = machine.container("db", "shop_back", dns=True)
    assert web.get("dns_ask('db')")[2] == [database.address]
    machine.resolv_conf.write_text("")
    assert client.get("dns_ask('db')")[0] == NXDOMAIN


def test_a_container_that_leaves_is_not_found_any_more(machine: Machine) -> None:
    machine.apply(name="shop_front")
    machine.resolv_conf.write_text("")
    client = machine.container("client", "shop_front", dns=True)
    for _ in range(3):
        web = machine.container("web", "shop_front", dns=True)
        assert client.get("dns_ask('web')")[2] == [web.address]
        web.end()
        assert client.get("dns_ask('web')")[0] == NXDOMAIN


def test_other_names_go_to_the_hosts_resolvers(machine: Machine) -> None:
    machine.apply(name="shop_front")
    machine.call("dns_upstream('127.0.0.1')")
    # The first one does not answer, and is not the end of it.
    machine.resolv_conf.write_text("nameserver 127.0.0.9\nnameserver 127.0.0.1\n")
    client = machine.container("client", "shop_front", dns=True)
    assert client.get("dns_ask('example.org')") == [NOERROR, False, ["192.0.2.7"]]
    assert client.get("dns_ask('big.example')")[1] is True
    assert client.get("dns_ask('big.example', tcp=True)")[2] == ["192.0.2.7"] * 100
    # The file is read again when it changes.
    machine.resolv_conf.write_text("")
    assert client.get("dns_ask('example.org')")[0] == SERVFAIL
    assert client.get("dns_ask('unknown')")[0] == NXDOMAIN
    machine.resolv_conf.write_text("nameserver 127.0.0.1\n")
    assert client.get("dns_ask('example.org')")[2] == ["192.0.2.7"]


def test_internal_networks_do_not_ask_the_outside(machine: Machine) -> None:
    machine.apply(name="shop_back", internal=True)
    machine.call("dns_upstream('127.0.0.1')")
    inside = machine.container("inside", "shop_back", dns=True)
    assert inside.get("dns_ask('example.org')")[0] == NXDOMAIN
    assert inside.get("dns_ask('inside')")[2] == [inside.address]


def test_many_replicas_need_tcp_or_edns(machine: Machine) -> None:
    machine.apply(name="shop_front")
    client = machine.container("client", "shop_front", dns=True)
    machine.call(
        "for n in range(100):\n"
        "    one = {'endpoints': [{'network': 'shop_front', 'address': f'172.29.0.{n + 100}/24',"
        " 'names': ['web']}]}\n"
        "    endpoint.publish_names(paths, one, f'web-{n}')"
    )
    code, truncated, found = client.get("dns_ask('web')")
    assert (code, truncated) == (NOERROR, True)
    assert 20 < len(found) < 100
    assert len(client.get("dns_ask('web', edns=True)")[2]) == 100
    assert len(client.get("dns_ask('web', tcp=True)")[2]) == 100


def test_rubbish_is_survived(machine: Machine) -> None:
    machine.apply(name="shop_front")
    client = machine.container("client", "shop_front", dns=True)
    client.call(
        "import random\n"
        "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        "good = packet('client', edns=True)\n"
        "for n in range(500):\n"
        "    random.seed(n)\n"
        "    bad = bytearray(good if n % 2 else os.urandom(n))\n"
        "    for _ in range(n % 2 * 3): bad[random.randrange(len(bad))] = random.randrange(256)\n"
        "    s.sendto(bytes(bad), ('127.0.0.11', 53))\n"
        "t = socket.create_connection(('127.0.0.11', 53))\n"
        "t.sendall(os.urandom(100))"
    )
    assert client.get("dns_ask('client')")[2] == [client.address]
    assert len(machine.get("dns_processes(paths.run)")) == 1


def test_a_killed_dns_process_comes_back_without_losing_a_query(machine: Machine) -> None:
    machine.apply(name="shop_front")
    client = machine.container("client", "shop_front", dns=True)
    for name in ("a", "b", "c"):
        machine.container(name, "shop_front", names=("web",), dns=True)
    assert len(client.get("dns_ask('web')")[2]) == 3
    (first,) = machine.get("dns_processes(paths.run)")
    machine.call(
        "ended = threading.Event()\n"
        "keep_dns(hands, ended)\n"
        "def kill():\n"
        "    for _ in range(3):\n"
        "        time.sleep(0.5)\n"
        "        for pid in dns_processes(paths.run): os.kill(pid, 9)\n"
        "threading.Thread(target=kill).start()"
    )
    asked, answered, longest = client.get("dns_flood('web', 2.5)")
    machine.call("ended.set()")
    # A query that had just been read when the process was killed is the client's to repeat: one per kill.
    assert asked > 100
    assert asked - answered <= 3
    assert longest < 3.5
    (last,) = machine.get("dns_processes(paths.run)")
    assert last != first


def test_it_is_back_within_a_second(machine: Machine) -> None:
    machine.apply(name="shop_front")
    client = machine.container("client", "shop_front", dns=True)
    assert client.get("dns_ask('client')")[2] == [client.address]
    (pid,) = machine.get("dns_processes(paths.run)")
    machine.call("ended = threading.Event()\nkeep_dns(hands, ended)")
    machine.call(f"os.kill({pid}, 9)")
    began = time.monotonic()
    assert client.get("dns_ask('client')")[2] == [client.address]
    assert time.monotonic() - began < 1.0
    machine.call("ended.set()")


def test_it_outlives_a_monitor_but_not_the_container(machine: Machine) -> None:
    machine.apply(name="shop_front")
    client = machine.container("client", "shop_front")
    other = machine.container("other", "shop_front", dns=True)
    machine.call(
        f"endpoint.publish_names(paths, {client.network!r}, 'client')\n"
        "hand = dns_client.Hand(paths)\n"
        f"sockets = enter({client.pid}, endpoint.dns_sockets)\n"
        f"hand.register('client', ['shop_front'], sockets, {client.pid})\n"
        "time.sleep(0.3)\n"
        "hand.close()"
    )
    assert client.get("dns_ask('other')")[2] == [other.address]
    (pid,) = machine.get("dns_processes(paths.run)")
    before = len(machine.get(f"os.listdir('/proc/{pid}/fd')"))
    client.end()
    time.sleep(0.2)
    # Two sockets and the pidfd.
    assert len(machine.get(f"os.listdir('/proc/{pid}/fd')")) == before - 3


def test_it_ends_when_there_is_nothing_to_serve(machine: Machine) -> None:
    machine.apply(name="shop_front")
    client = machine.container("client", "shop_front", dns=True)
    client.end()
    deadline = time.monotonic() + 20
    while machine.get("dns_processes(paths.run)") and time.monotonic() < deadline:
        time.sleep(0.5)
    assert machine.get("dns_processes(paths.run)") == []
    assert machine.get("os.path.exists(paths.run + '/dns.sock')") is False


def test_a_container_may_serve_port_53_itself(machine: Machine) -> None:
    machine.apply(name="shop_front")
    server = machine.container("server", "shop_front", dns=True)
    client = machine.container("client", "shop_front", dns=True)
    server.call("dns_upstream('0.0.0.0')")
    assert server.get("dns_ask('client')")[2] == [client.address]
    assert server.get("dns_ask('client', tcp=True)")[2] == [client.address]
    assert client.get(f"dns_ask('x.example', server={server.address!r})")[2] == ["192.0.2.7"]
    assert server.get("dns_ask('x.example', server='127.0.0.1')")[2] == ["192.0.2.7"]


def test_without_nat_in_the_namespace_names_work_all_the_same(machine: Machine) -> None:
    machine.apply(name="shop_front")
    machine.call(
        "from hostctl_host.net import redirect\n"
        "def refuse(*a): raise OSError(95, 'no NAT')\n"
        "redirect.redirect = refuse"
    )
    client = machine.container("client", "shop_front", dns=True)
    assert client.get("dns_ask('client')")[2] == [client.address]
    assert client.get("dns_ask('client', tcp=True)")[2] == [client.address]


def test_an_adopter_takes_the_names_over(machine: Machine) -> None:
    machine.apply(name="shop_front")
    client = machine.container("client", "shop_front", dns=True)
    machine.call("old = hands['client']")
    client.start_dns()
    machine.call("old.close(); time.sleep(0.2)")
    for tcp in (False, True):
        assert client.get(f"dns_ask('client', tcp={tcp})")[2] == [client.address]
