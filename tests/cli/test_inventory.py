"""`hostctl inventory`, and where the inventory comes from."""

from __future__ import annotations

import json
import subprocess
import sys
from textwrap import dedent

INVENTORY = """
all:
  children:
    web:
      hosts: {web1: {ansible_host: 192.0.2.1}, web2: {}}
      vars: {port: 80}
    db:
      hosts: {db1: {}}
"""


def test_graph(hostctl, tmp_path):
    (tmp_path / "inventory.yml").write_text(INVENTORY)
    assert "\n" + hostctl("inventory").out == dedent("""
        @all:
          |--@db:
          |  |--db1
          |--@ungrouped:
          |--@web:
          |  |--web1
          |  |--web2
        """)


def test_list_is_ansibles_json_limited(hostctl, tmp_path):
    (tmp_path / "inventory.yml").write_text(INVENTORY)
    ended = hostctl("inventory", "--list", "-l", "web1")
    assert json.loads(ended.out) == {
        "_meta": {"hostvars": {"web1": {"ansible_host": "192.0.2.1", "port": 80}}},
        "all": {"children": ["ungrouped", "web", "db"]},
        "web": {"hosts": ["web1"]},
        "db": {"hosts": []},
    }


def test_an_unknown_host_is_an_error_with_the_nearest_name(hostctl, tmp_path):
    (tmp_path / "inventory.yml").write_text(INVENTORY)
    ended = hostctl("inventory", "-l", "wb1")
    assert ended.code == 1
    assert "cannot find wb1: neither a host nor a group of the inventory" in ended.err
    assert "did you mean web1?" in ended.err


def test_without_an_inventory_it_is_this_machine(hostctl):
    assert "localhost" in hostctl("inventory").out


def test_the_environment_names_inventories(hostctl, tmp_path, monkeypatch):
    (tmp_path / "a.yml").write_text("all: {hosts: {a: {}}}\n")
    (tmp_path / "b.yml").write_text("all: {hosts: {b: {}}}\n")
    monkeypatch.setenv("HOSTCTL_INVENTORY", "a.yml:b.yml")
    listing = json.loads(hostctl("inventory", "--list").out)
    assert listing["ungrouped"]["hosts"] == ["a", "b"]
    explicit = json.loads(hostctl("inventory", "--list", "-i", "b.yml").out)
    assert explicit["ungrouped"]["hosts"] == ["b"]


def test_no_warning_of_python_is_shown(tmp_path):
    (tmp_path / "inventory.yml").write_text(INVENTORY)
    argv = ("-i", "inventory.yml", "-l", "~[[w]eb1")
    done = subprocess.run(
        [sys.executable, "-m", "hostctl", "inventory", *argv],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "web1" in done.stdout
    assert done.stderr == ""
