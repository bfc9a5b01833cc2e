"""The kind `network`: what it reports, what it makes, what it repairs, what it refuses."""

from __future__ import annotations

import json

import pytest

from .machine import Machine, RemoteError

pytestmark = pytest.mark.root


def test_a_second_plan_is_empty(machine: Machine) -> None:
    assert machine.plan(name="shop_front") == [["create", ""], ["create", "subnet"]]
    machine.apply(name="shop_front")
    assert machine.plan(name="shop_front") == []
    assert machine.plan(name="shop_front", labels={"a": "b"}) == [["update", "labels"]]


def test_the_plan_shows_a_wanted_subnet_and_the_record_has_it(machine: Machine) -> None:
    machine.apply(name="shop_front", subnet="10.77.0.0/16", gateway="10.77.0.9", labels={"a": "b"})
    record = machine.get("addresses.load(paths, 'shop_front')")
    assert (record["subnet"], record["gateway"]) == ("10.77.0.0/16", "10.77.0.9")
    assert (record["project"], record["labels"]) == ("shop", {"a": "b"})
    assert "inet 10.77.0.9/16" in machine.ip("address", "show", "dev", record["bridge"])


@pytest.mark.parametrize(
    ("damage", "field"),
    [
        ("nft flush ruleset", "firewall"),
        ("nft delete rule inet TABLE guard handle $(nft -a list chain inet TABLE guard"
         " | sed -n 's/.*drop # handle //p')", "firewall"),
        ("nft flush table inet TABLE", "firewall"),
        ("nft add rule inet TABLE forward accept", "firewall"),
        ("ip link del BRIDGE", "link"),
        ("ip link set BRIDGE down", "link"),
        ("ip addr flush dev BRIDGE", "link"),
        ("sysctl -qw net.ipv4.ip_forward=0", "ip_forward"),
    ],
)  # fmt: skip
def test_what_others_broke_is_seen_and_repaired(machine: Machine, damage: str, field: str) -> None:
    machine.apply(name="shop_front")
    bridge = machine.get("addresses.bridge_name(paths, 'shop_front')")
    table = machine.get("firewall.table_name(paths)")
    before = machine.run("nft", "list", "ruleset")
    machine.run("sh", "-ec", damage.replace("BRIDGE", bridge).replace("TABLE", table))
    assert machine.plan(name="shop_front") == [["update", field]]
    machine.apply(name="shop_front")
    assert machine.run("nft", "list", "ruleset") == before


def test_observing_needs_no_capability(machine: Machine) -> None:
    """Plan mode: nft is read before the rights are given up, the rest needs none."""
    machine.apply(name="shop_front")
    code = (
        "host.writable = False\n"
        "host.snapshot = {'nft': firewall.snapshot(paths)}\n"
        "spec = network.Spec(name='shop_front')\n"
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    libc = ctypes.CDLL(None)\n"
        "    for cap in (12, 21): libc.prctl(24, cap, 0, 0, 0)\n"
        "    header, data = struct.pack('=Ii', 0x20080522, 0), struct.pack('=6I', *[6, 6, 0, 0, 0, 0])\n"
        "    assert libc.capset(header, data) == 0\n"
        "    os._exit(0 if network.diff(spec, network.observe(spec, host)) == [] else 1)\n"
        "out = os.waitpid(pid, 0)[1]\n"
        "host.writable = True"
    )
    assert machine.call(code) == 0


def test_other_tables_are_left_alone(machine: Machine) -> None:
    machine.run(
        "nft", "add table inet mine; add chain inet mine c { type filter hook input priority 0; }"
    )
    mine = machine.run("nft", "list", "table", "inet", "mine")
    machine.apply(name="shop_front")
    assert machine.run("nft", "list", "table", "inet", "mine") == mine
    machine.apply(name="shop_front", state="absent")
    assert machine.run("nft", "list", "ruleset") == mine


def test_forwarding_that_was_on_stays_on(machine: Machine) -> None:
    machine.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
    machine.apply(name="shop_front")
    machine.apply(name="shop_front", state="absent")
    assert machine.get("firewall.forwards()") is True


def test_a_subnet_of_a_host_route_is_refused(machine: Machine) -> None:
    machine.ip("link", "add", "office", "type", "bridge")
    machine.ip("link", "set", "office", "up")
    machine.ip("route", "add", "10.20.0.0/16", "dev", "office")
    with pytest.raises(RemoteError) as refused:
        machine.plan(name="shop_front", subnet="10.20.5.0/24")
    assert refused.value.type == "CannotObserve"
    assert refused.value.message == (
        "cannot create network shop_front: subnet 10.20.5.0/24 overlaps "
        "the host's route 10.20.0.0/16 on office"
    )
    assert (
        refused.value.hint == "choose another subnet, or leave it out and hostctl picks a free one"
    )
    assert refused.value.ref == "subnet-clash"


def test_subnets_are_chosen_around_what_the_host_reaches(machine: Machine) -> None:
    machine.ip("link", "add", "office", "type", "bridge")
    machine.ip("link", "set", "office", "up")
    machine.ip("address", "add", "172.29.0.200/25", "dev", "office")
    # Routes of other tables count too, default routes and a VPN's halves of everything do not.
    machine.ip("route", "add", "172.29.1.0/24", "dev", "office", "table", "77")
    machine.ip("route", "add", "0.0.0.0/1", "dev", "office")
    machine.apply(name="a")
    machine.apply(name="b")
    found = [machine.get(f"addresses.load(paths, {n!r})['subnet']") for n in "ab"]
    assert found == ["172.29.2.0/24", "172.29.3.0/24"]


@pytest.mark.parametrize(
    "subnet", ["10.20.5.1/24", "10.20.5.0", "10.20.5.0/31", "ten/24", "fd00::/64"]
)
def test_what_is_no_subnet_is_refused(machine: Machine, subnet: str) -> None:
    with pytest.raises(RemoteError, match="cannot use subnet") as refused:
        machine.plan(name="shop_front", subnet=subnet)
    assert refused.value.ref == "subnet-invalid"


@pytest.mark.parametrize(
    "spec",
    [
        {"subnet": "10.20.5.0/24", "gateway": "10.20.6.1"},
        {"subnet": "10.20.5.0/24", "ip_range": "10.20.0.0/16"},
        {"gateway": "10.20.5.1"},
    ],
)
def test_gateway_and_range_lie_in_the_subnet(machine: Machine, spec: dict[str, str]) -> None:
    with pytest.raises(RemoteError, match="subnet"):
        machine.plan(name="shop_front", **spec)


def test_a_record_with_the_rest_of_a_killed_write_is_removed(machine: Machine) -> None:
    machine.apply(name="shop_front")
    folder = machine.folder / "data" / "networks" / "shop_front"
    (folder / ".network.json.hostctl-12345678").touch()
    machine.apply(name="shop_front", labels={"a": "b"})
    assert [path.name for path in folder.iterdir()] == ["network.json"]
    (folder / ".network.json.hostctl-12345678").touch()
    machine.apply(name="shop_front", state="absent")
    assert not folder.exists()


def test_a_subnet_changes_only_while_nobody_is_attached(machine: Machine) -> None:
    machine.apply(name="shop_front")
    web = machine.container("web", "shop_front")
    with pytest.raises(RemoteError, match="web have addresses in it"):
        machine.plan(name="shop_front", subnet="10.77.0.0/24")
    with pytest.raises(RemoteError, match="cannot remove network shop_front: web are attached"):
        machine.apply(name="shop_front", state="absent")
    web.end()
    changes = machine.apply(name="shop_front", subnet="10.77.0.0/24")
    assert ["replace", "subnet"] in changes
    assert machine.plan(name="shop_front", subnet="10.77.0.0/24") == []


def test_external_networks_are_used_and_never_made(machine: Machine) -> None:
    with pytest.raises(RemoteError, match="it is external and does not exist") as refused:
        machine.plan(name="shared", external=True)
    assert refused.value.ref == "external-missing"
    machine.apply(name="shared", labels={"a": "b"})
    assert machine.plan(name="shared", external=True) == []
    assert machine.plan(name="shared", external=True, state="absent") == []


def test_other_drivers_are_not_supported_yet(machine: Machine) -> None:
    with pytest.raises(RemoteError, match="driver macvlan is not supported yet"):
        machine.plan(name="shop_front", driver="macvlan")


def test_undo_removes_what_was_made(machine: Machine) -> None:
    code = (
        "spec = network.Spec(name='shop_front', internal=True)\n"
        "seen = network.observe(spec, host)\n"
        "back = network.undo(spec, seen, host)\n"
        "network.apply(spec, seen, network.diff(spec, seen), host)\n"
        "out = [back.state, network.undo(spec, network.observe(spec, host), host).internal]"
    )
    assert machine.call(code) == ["absent", True]


def test_a_missing_nft_is_a_visible_change(machine: Machine) -> None:
    machine.call("saved = firewall.NFT_FOLDERS; firewall.NFT_FOLDERS = ('/nowhere',)")
    assert machine.plan(name="shop_front") == [
        ["create", "package nftables"],
        ["create", ""],
        ["create", "subnet"],
    ]
    with pytest.raises(RemoteError, match="nft is not installed") as refused:
        machine.call("addresses.create(paths, 'x'); firewall.sync(paths)")
    assert refused.value.hint == "install the package nftables on the host"


def test_many_callers_share_few_replacements(machine: Machine) -> None:
    machine.apply(name="shop_front")
    machine.container("web", "shop_front")
    code = (
        "count = []\n"
        "real = firewall.run\n"
        "def counting(argv, **kw):\n"
        "    if '-f' in argv: count.append(1)\n"
        "    return real(argv, **kw)\n"
        "firewall.run = counting\n"
        "path = paths.container('web') + '/network.json'\n"
        "record = json.load(open(path))\n"
        "def work(n):\n"
        "    folder = paths.container(f'c{n}')\n"
        "    os.makedirs(folder)\n"
        "    port = {'host_port': 9000 + n, 'target': 80, 'address': '172.29.0.9'}\n"
        "    json.dump({'ports': [port]}, open(folder + '/network.json', 'w'))\n"
        "    firewall.sync(paths)\n"
        "threads = [threading.Thread(target=work, args=(n,)) for n in range(20)]\n"
        "for t in threads: t.start()\n"
        "for t in threads: t.join()\n"
        "out = [len(count), firewall.is_intact(paths)]"
    )
    count, intact = machine.call(code)
    assert intact is True
    assert 1 <= count < 15
    listing = machine.run("nft", "list", "ruleset")
    assert all(f"dport {9000 + n} " in listing for n in range(20))


def test_restore_brings_everything_back_after_a_reboot(machine: Machine) -> None:
    machine.apply(name="shop_front")
    before = machine.run("nft", "list", "ruleset")
    bridge = machine.get("addresses.bridge_name(paths, 'shop_front')")
    machine.ip("link", "del", bridge)
    machine.run("nft", "flush", "ruleset")
    machine.run("sysctl", "-qw", "net.ipv4.ip_forward=0")
    machine.call("import shutil; shutil.rmtree(paths.run); network.restore(paths)")
    assert machine.run("nft", "list", "ruleset") == before
    assert machine.plan(name="shop_front") == []


def test_addresses_are_stable_and_given_back(machine: Machine) -> None:
    machine.apply(name="n", subnet="10.77.0.0/29")
    give = "addresses.allocate(paths, 'n', {!r}, {!r})".format
    assert machine.get(give("a", "")) == "10.77.0.2"
    assert machine.get(give("b", "10.77.0.6")) == "10.77.0.6"
    assert machine.get(give("a", "")) == "10.77.0.2"
    for wanted, why in (
        ("10.77.0.6", "it belongs to b"),
        ("10.77.0.1", "it belongs to the gateway"),
        ("10.77.0.7", "it is not inside 10.77.0.0/29"),
        ("10.78.0.2", "it is not inside 10.77.0.0/29"),
        ("nonsense", "it is not inside 10.77.0.0/29"),
    ):
        with pytest.raises(RemoteError, match=why):
            machine.get(give("c", wanted))
    assert [machine.get(give(n, "")) for n in "cde"] == ["10.77.0.3", "10.77.0.4", "10.77.0.5"]
    with pytest.raises(RemoteError, match="cannot give f an address") as refused:
        machine.get(give("f", ""))
    assert refused.value.ref == "addresses-exhausted"
    machine.call("addresses.release(paths, 'n', 'c')")
    assert machine.get(give("f", "")) == "10.77.0.3"
    record = json.loads((machine.folder / "data/networks/n/network.json").read_text())
    assert record["addresses"]["f"] == "10.77.0.3"
    assert "c" not in record["addresses"]
