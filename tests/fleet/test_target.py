"""Ansible's connection variables and OpenSSH's configuration as a way to a host."""

from __future__ import annotations

import pytest
from hostctl_host.contract.errors import HostctlError

from hostctl.fleet.knownhosts import Entry, host_name
from hostctl.fleet.ssh import config_lookup
from hostctl.fleet.sshconfig import config_text, route
from hostctl.fleet.target import Target, parse_ssh_args


def test_all_variables():
    target = Target.from_vars(
        "web1",
        {
            "ansible_host": "10.0.0.1",
            "ansible_port": "2222",
            "ansible_user": "deploy",
            "ansible_ssh_private_key_file": "~/k",
            "ansible_password": "p1",
            "ansible_ssh_common_args": "-J gate -o StrictHostKeyChecking=accept-new",
            "ansible_python_interpreter": "/usr/bin/python3.11",
            "ansible_become": "yes",
            "ansible_become_user": "app",
            "ansible_become_password": "p2",
            "hostctl_data_dir": "/srv/h",
            "hostctl_run_dir": "/run/h",
            "hostctl_log_limit": "2g",
        },
    )
    assert target == Target(
        name="web1",
        host="10.0.0.1",
        port=2222,
        user="deploy",
        key_file="~/k",
        password="p1",
        options=(("proxyjump", "gate"), ("stricthostkeychecking", "accept-new")),
        python="/usr/bin/python3.11",
        become=True,
        become_user="app",
        become_password="p2",
        data_dir="/srv/h",
        run_dir="/run/h",
        log_limit=2 << 30,
    )
    assert "p1" not in repr(target)
    assert "p2" not in repr(target)


def test_defaults():
    assert Target.from_vars("web1", {}) == Target(name="web1", host="web1")
    assert Target.from_vars("web1", {"hostctl_log_limit": -1}).log_limit == -1
    assert Target.from_vars("localhost", {}).connection == "local"
    assert Target.from_vars("a", {"ansible_become": False}, become=True).become is True
    assert Target.from_vars("a", {"ansible_python_interpreter": "auto_silent"}).python == ""


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"ansible_connection": "docker"}, "cannot use ansible_connection: 'docker'"),
        ({"ansible_port": "ssh"}, "cannot use ansible_port: 'ssh'"),
        ({"ansible_port": 70000}, "cannot use ansible_port: '70000'"),
        ({"ansible_become": "maybe"}, "cannot use ansible_become: 'maybe'"),
        ({"ansible_become_method": "su"}, "cannot use ansible_become_method: 'su'"),
        ({"hostctl_log_limit": "10%"}, "cannot use hostctl_log_limit: '10%'"),
        ({"hostctl_log_limit": 1000}, "cannot use hostctl_log_limit: '1000'"),
        ({"hostctl_data_dir": "srv"}, "cannot use hostctl_data_dir: 'srv'"),
        (
            {"ansible_ssh_common_args": "-w 1"},
            "cannot use the SSH argument '-w': not supported yet",
        ),
    ],
)
def test_bad_variables(variables, message):
    with pytest.raises(HostctlError) as caught:
        Target.from_vars("web1", variables)
    assert caught.value.message == message
    assert caught.value.where.startswith("web1")


def test_ssh_arguments():
    assert parse_ssh_args("-C -Ja,b -o 'User ann' -oPort=1 -o ProxyCommand='x -o y=z'", "") == [
        ("proxyjump", "a,b"),
        ("user", "ann"),
        ("port", "1"),
        ("proxycommand", "x -o y=z"),
    ]


CONFIG = """
Include more.conf
Host web
  HostName 10.1.1.1
  Port 2200
  User ann
  IdentityFile ~/.ssh/web
  StrictHostKeyChecking accept-new
  UserKnownHostsFile ~/.ssh/a ~/.ssh/b
Match originalhost web user ann
  HostKeyAlias the-web
Match exec "test 1 = 1"
  HashKnownHosts yes
Host far
  ProxyJump bob@gate:2022,inner
Host *
  ProxyJump none
  Port 23
"""


@pytest.fixture
def lookup(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "config").write_text(CONFIG)
    (tmp_path / ".ssh" / "more.conf").write_text("Host web\n  IdentitiesOnly yes\n")
    config_lookup.cache_clear()
    yield config_lookup()
    config_lookup.cache_clear()


def test_ssh_config(lookup, tmp_path):
    (hop,) = route(Target.from_vars("web", {}), lookup)
    home = f"{tmp_path}/.ssh"
    assert (hop.host, hop.port, hop.user) == ("10.1.1.1", 2200, "ann")
    assert hop.keys == (f"{home}/web",)
    assert hop.known.files == (f"{home}/a", f"{home}/b", "/etc/ssh/ssh_known_hosts")
    assert (hop.known.policy, hop.known.hashed) == ("accept-new", True)
    assert (hop.known_as, hop.identities_only) == ("the-web", True)


def test_variables_win_over_ssh_config(lookup):
    variables = {
        "ansible_user": "root",
        "ansible_port": 22,
        "ansible_ssh_private_key_file": "/k",
        "ansible_ssh_common_args": "-o StrictHostKeyChecking=yes",
    }
    (hop,) = route(Target.from_vars("web", variables), lookup)
    assert (hop.user, hop.port, hop.keys[0], hop.known.policy) == ("root", 22, "/k", "yes")


def test_jump_hosts(lookup):
    hops = route(Target.from_vars("far", {"ansible_user": "c"}), lookup)
    assert [(hop.host, hop.port) for hop in hops] == [("gate", 2022), ("inner", 23), ("far", 23)]
    assert [hop.user for hop in hops][::2] == ["bob", "c"]


def test_include_inside_a_block_keeps_the_block(tmp_path):
    (tmp_path / "inner").write_text("Host b\n  User inner\n")
    (tmp_path / "config").write_text(f"Host a\n  Include {tmp_path}/inner\n  Port 5\n")
    text = config_text(str(tmp_path / "config"))
    assert text.split("\n")[:5] == ["Host a", "Host b", "  User inner", "Host a", "  Port 5"]


@pytest.mark.parametrize(
    ("patterns", "name", "matches"),
    [
        ("web1", "web1", True),
        ("web1", "web10", False),
        ("*.example.com,!bad.example.com", "a.example.com", True),
        ("*.example.com,!bad.example.com", "bad.example.com", False),
        ("[web1]:2222", "[web1]:2222", True),
        ("[web1]:2222", "web1", False),
        ("WEB1", "web1", True),
    ],
)
def test_known_hosts_patterns(patterns, name, matches):
    assert Entry(patterns, "ssh-ed25519", b"", "").matches(name) is matches


def test_known_hosts_name():
    assert host_name("a", 22) == "a"
    assert host_name("a", 23) == "[a]:23"
