"""Inventories: forms, patterns, precedence; compared with the real ansible-inventory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hostctl_host.contract.errors import HostctlError
from hypothesis import given
from hypothesis import strategies as st

from hostctl.inventory import Inventory, load_inventory
from hostctl.inventory.ranges import expand

from .conftest import Folder

NESTED = """\
all:
  vars: {color: none, level: all}
  hosts:
    lone.example.org: {ansible_host: 10.0.0.9}
  children:
    site:
      vars: {level: site}
      children:
        web:
          hosts:
            web[01:03]: {kind: w}
          vars: {level: web, color: red}
        db:
          hosts:
            db-[a:b]:
    production:
      vars: {color: green, ansible_group_priority: 10}
      hosts:
        web01:
        db-a: {color: own}
"""


def names(inventory: Inventory, pattern: str) -> list[str]:
    return [host.name for host in inventory.select(pattern)]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("all", "lone.example.org web01 web02 web03 db-a db-b"),
        ("*", "lone.example.org web01 web02 web03 db-a db-b"),
        ("web", "web01 web02 web03"),
        ("site", "web01 web02 web03 db-a db-b"),
        ("web02", "web02"),
        ("web0*", "web01 web02 web03"),
        ("web:db", "web01 web02 web03 db-a db-b"),
        ("db,web01", "web01 db-a db-b"),
        ("site:&production", "web01 db-a"),
        ("site:!web", "db-a db-b"),
        ("!web", "lone.example.org db-a db-b"),
        ("site:&production:!db", "web01"),
        ("~web0[23]", "web02 web03"),
        ("~(web|db).*:!production", "web02 web03 db-b"),
        ("~web0\\d:&production", "web01"),
        ("~(?:web|db)-?0?[ab:1]", "web01 db-a db-b"),
        ("web01 db-a", "web01 db-a"),
        ("web[0]", "web01"),
        ("web[-1]", "web03"),
        ("web[0:1]", "web01 web02"),
        ("web[1:]", "web02 web03"),
        ("ungrouped", "lone.example.org"),
        ("nothing*", ""),
    ],
)
def test_patterns(folder: Folder, pattern: str, expected: str) -> None:
    assert names(folder.inventory(NESTED), pattern) == expected.split()


def test_unknown_name_names_the_nearest(folder: Folder) -> None:
    with pytest.raises(HostctlError) as caught:
        folder.inventory(NESTED).select("prodution", "--limit")
    assert str(caught.value) == (
        "--limit: cannot find prodution: neither a host nor a group of the inventory"
    )
    assert caught.value.hint == "did you mean production?"


def test_precedence_of_groups_and_hosts(folder: Folder) -> None:
    inventory = folder.inventory(NESTED)
    web01 = inventory.variables("web01")
    # web is deeper than production: it wins in spite of the priority
    assert (web01["level"], web01["color"], web01["kind"]) == ("web", "red", "w")
    assert inventory.variables("db-a")["color"] == "own"
    assert inventory.variables("db-b") == {"color": "none", "level": "site"}


def test_precedence_of_files(folder: Folder) -> None:
    folder.write(
        group_vars__all="x: inventory all\nall_only: 1\n",
        group_vars__web__a="x: web a\n",
        group_vars__web__b="x: web b\n",
        host_vars__web02="x: host file\n",
        play__group_vars__all="x: play all\ny: play all\n",
        play__group_vars__web="z: play web\n",
        play__host_vars__web01="x: play host\n",
    )
    inventory = folder.inventory(NESTED)
    beside = Path("play")
    assert inventory.variables("web03")["x"] == "web b"
    assert inventory.variables("web02")["x"] == "host file"
    assert inventory.variables("web01", beside)["x"] == "play host"
    assert inventory.variables("db-b", beside)["x"] == "play all"
    assert inventory.variables("web03", beside) | {} == {
        "color": "red", "level": "web", "kind": "w", "all_only": 1,
        "x": "web b", "y": "play all", "z": "play web",
    }  # fmt: skip


def test_several_inventories_are_merged_and_the_later_wins(folder: Folder) -> None:
    folder.file("one.yml", "web: {hosts: {a: {x: 1, y: 1}}}\n")
    folder.file("two.yml", "web: {hosts: {b: , a: {x: 2}}}\n")
    inventory = load_inventory(["one.yml", "two.yml"])
    assert names(inventory, "web") == ["a", "b"]
    assert inventory.variables("a") == {"x": 2, "y": 1}


def test_ini(folder: Folder) -> None:
    folder.file(
        "hosts.ini",
        "alone ansible_host=10.0.0.1\n[web]\nweb[1:2] port=80 # two\n[web:vars]\nflag=True\n"
        "name=plain text\n[site:children]\nweb\n",
    )
    inventory = load_inventory(["hosts.ini"])
    assert names(inventory, "site") == ["web1", "web2"]
    assert inventory.variables("web2") == {"flag": True, "name": "plain text", "port": 80}
    assert names(inventory, "ungrouped") == ["alone"]


def test_no_inventory_is_this_machine() -> None:
    inventory = load_inventory([])
    assert names(inventory, "all") == ["localhost"]
    assert inventory.variables("localhost") == {"ansible_connection": "local"}


def test_errors_of_an_inventory_come_together(folder: Folder) -> None:
    text = "all:\n  host: {}\n  children:\n    web:\n      hosts: [a, b]\n    db: 3\n"
    with pytest.raises(HostctlError) as caught:
        folder.inventory(text)
    assert [str(error) for error in caught.value.errors] == [  # type: ignore[attr-defined]
        "inventory.yml:2:3 (all.host): cannot use 'host' in the group all",
        "inventory.yml:5:14 (all.children.web.hosts): cannot read hosts of the group web: it is no map",
        "inventory.yml:6:5 (all.children.db): cannot read the group db: it is no map",
    ]


def test_a_group_below_itself_is_an_error(folder: Folder) -> None:
    with pytest.raises(HostctlError, match="that is a loop"):
        folder.inventory("a: {children: {b: {children: {a: }}}}\n")


@given(st.integers(0, 300), st.integers(0, 60), st.integers(1, 9), st.integers(1, 5))
def test_ranges(start: int, count: int, stride: int, width: int) -> None:
    end = start + count
    left, right = str(start).zfill(width), str(end).zfill(width)
    padded = len(left) > 1 and left.startswith("0")
    if padded and len(left) != len(right):
        with pytest.raises(ValueError):
            expand(f"web[{left}:{right}]")
        return
    found = expand(f"web[{left}:{right}:{stride}]x")
    numbers = [int(name[3:-1]) for name in found]
    assert numbers == list(range(start, end + 1, stride))
    if padded:
        assert {len(name) for name in found} == {len(left) + 4}


def test_two_ranges_in_one_name() -> None:
    assert expand("r[1:2]-[a:b]") == ["r1-a", "r1-b", "r2-a", "r2-b"]


def test_a_place_that_a_group_does_not_have_is_an_error(folder: Folder) -> None:
    with pytest.raises(HostctlError, match="cannot find web\\[3\\]: web has only 3 hosts"):
        names(folder.inventory(NESTED), "web[3]")
    assert names(folder.inventory("all: {children: {none: {}}}\n"), "none[0]") == []


YAML_PORTS = """
all:
  hosts:
    "web[1:2]:2222": {ansible_user: ops}
    "[2001:db8::1]:2200":
    "2001:db8::2":
    other:22: {ansible_port: 23}
"""
INI_PORTS = """
web[1:2]:2222 ansible_user=ops
[2001:db8::1]:2200
2001:db8::2
other:22 ansible_port=23
"""


@pytest.mark.parametrize(
    ("name", "text"), [("inventory.yml", YAML_PORTS), ("inventory", INI_PORTS)]
)
def test_ports_in_names_of_hosts(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    inventory = load_inventory([tmp_path / name])
    assert {host: inventory.variables(host) for host in inventory.hosts} == {
        "web1": {"ansible_port": 2222, "ansible_user": "ops"},
        "web2": {"ansible_port": 2222, "ansible_user": "ops"},
        "2001:db8::1": {"ansible_port": 2200},
        "2001:db8::2": {},
        "other": {"ansible_port": 23},
    }


def test_hosts_instead_of_a_file(folder: Folder) -> None:
    folder.write(host_vars__web2="color: blue\n")
    inventory = load_inventory(["web[1:2]:2222, [2001:db8::1],lone,"])
    assert inventory.groups["ungrouped"].hosts == ["web1", "web2", "[2001:db8::1]", "lone"]
    assert inventory.variables("web2") == {"ansible_port": 2222, "color": "blue"}


@given(st.text(alphabet="ab*:,&!~[]0-1.", max_size=12))
def test_any_pattern_is_a_selection_or_an_error(pattern: str) -> None:
    inventory = Inventory()
    for name in ("a", "b", "ab"):
        inventory.add_host(name, "ungrouped")
    inventory.settle()
    try:
        found = names(inventory, pattern)
    except HostctlError:
        return
    assert set(found) <= {"a", "b", "ab", "::1"}


@pytest.fixture(scope="session")
def ansible_inventory() -> Path:
    """The real program, in an environment of its own that later sessions reuse."""
    home = (
        Path(os.environ.get("HOSTCTL_TEST_CACHE", tempfile.gettempdir())) / "hostctl-test-ansible"
    )
    program = home / "bin" / "ansible-inventory"
    if not program.exists():
        subprocess.run([sys.executable, "-m", "venv", home], check=True)
        install = [
            home / "bin" / "pip",
            "install",
            "-q",
            "--disable-pip-version-check",
            "ansible-core",
        ]
        subprocess.run(install, check=True, timeout=150)
    return program


def test_listing_is_what_ansible_inventory_prints(folder: Folder, ansible_inventory: Path) -> None:
    folder.write(
        group_vars__all="x: all\n",
        group_vars__web__a="x: web a\n",
        group_vars__web__b="x: web b\nnested: {a: [1, true]}\n",
        host_vars__web02="x: host file\n",
    )
    ours = folder.inventory(NESTED).as_json()
    done = subprocess.run(
        [ansible_inventory, "-i", "inventory.yml", "--list"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": os.environ["PATH"], "HOME": str(folder.path), "LC_ALL": "C.UTF-8"},
    )
    theirs = json.loads(done.stdout)
    assert ours["_meta"]["hostvars"] == theirs["_meta"]["hostvars"]
    del ours["_meta"], theirs["_meta"]

    def ordered(listing: dict[str, dict[str, list[str]]]) -> object:
        # a group that only has children may or may not be listed with nothing in it
        return {
            name: {key: sorted(members) for key, members in group.items()}
            for name, group in listing.items()
            if group
        }

    assert ordered(ours) == ordered(theirs)
