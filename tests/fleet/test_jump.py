"""Jump hosts on whole machines: `inner` answers only `middle`, and `middle` only `gate`."""

from __future__ import annotations

import base64
import dataclasses
import json
import subprocess

import pytest
from hostctl_host.contract.errors import HostctlError

from hostctl.fleet import bundle, ssh
from hostctl.fleet.knownhosts import fingerprint
from hostctl.fleet.login import Passwords
from hostctl.fleet.session import Options, Session, connect
from hostctl.fleet.sshconfig import route
from hostctl.fleet.target import Target, Unreachable
from tests.e2e.command import Hostctl
from tests.lab import Lab, keys

pytestmark = [pytest.mark.root, pytest.mark.lab]

GUARD = """nft -f - <<END
table inet guard {{
    chain input {{
        type filter hook input priority 0
        tcp dport 22 ip saddr != {friend} {verdict}
    }}
}}
END
"""


@pytest.fixture(scope="module")
def chain():
    with Lab({"gate": {}, "middle": {}, "inner": {}}, with_images=False) as made:
        made["middle"].sh(GUARD.format(friend=made["gate"].address, verdict="drop"))
        made["inner"].sh(GUARD.format(friend=made["middle"].address, verdict="reject"))
        yield made


@pytest.fixture(scope="module")
def options():
    made = Options(bundle=bundle.build(), timeout=6.0, silence=5.0)
    yield made
    made.pool.close()


@pytest.fixture
def impatient(options):
    """The same with a short limit and connections of its own."""
    made = Options(bundle=options.bundle, timeout=1.5, silence=5.0)
    yield made
    made.pool.close()


def config(chain, tmp_path, more="", known=None):
    path = tmp_path / "config"
    path.write_text(
        f"{more}\n"
        f"Host gate\n  HostName {chain['gate'].address}\n  User ops\n"
        f"Host middle\n  HostName {chain['middle'].address}\n  User guest\n"
        f"Host *\n  UserKnownHostsFile {known or chain.known_hosts}\n"
        f"  IdentityFile {chain.ssh_key}\n  IdentityAgent none\n"
    )
    return path


def target(chain, name, file, args="", **more) -> Target:
    variables = {"ansible_host": chain[name].address, "ansible_user": "root"}
    variables |= {"ansible_ssh_common_args": f"-F {file} {args}"}
    return Target.from_vars(name, variables | more)


def refused(where: Target, options: Options) -> HostctlError:
    with pytest.raises(Unreachable) as caught:
        connect(where, options).close()
    return caught.value


def shown(name: str) -> str:
    return fingerprint(base64.b64decode(keys.public(keys.host_key(name)).split()[1]))


def known_but(chain, tmp_path, *unknown: str):
    lines = chain.known_hosts.read_text().splitlines(keepends=True)
    path = tmp_path / "known"
    path.write_text("".join(line for line in lines if line.split(",")[0] not in unknown))
    return path


def test_without_the_jump_hosts_nothing_answers(chain, impatient, tmp_path):
    file = config(chain, tmp_path)
    error = refused(target(chain, "middle", file), impatient)
    assert "no answer within" in error.message
    assert "connection refused" in refused(target(chain, "inner", file), impatient).message


def test_one_jump_from_the_variables(chain, options, tmp_path):
    where = target(chain, "middle", config(chain, tmp_path), "-J gate")
    with Session.open(where, "plan", options) as session:
        assert session.facts["hostname"] == "middle"


@pytest.mark.parametrize(
    ("more", "args"),
    [
        ("", "-J gate,middle"),
        ("", "-o ProxyJump=ops@gate:22,guest@middle"),
        ("Host middle\n  ProxyJump gate", "-J middle"),
        ("Host middle\n  ProxyJump gate\nHost 10.213.*\n  ProxyJump middle", ""),
    ],
    ids=["-J", "-o", "middle's own", "only the configuration"],
)
def test_a_chain_of_two(chain, options, tmp_path, more, args):
    file = config(chain, tmp_path, more)
    if not args:  # the addresses of the jump hosts match the pattern as well
        file.write_text(file.read_text().replace("10.213.*", chain["inner"].address))
    with Session.open(target(chain, "inner", file, args), "plan", options) as session:
        assert session.facts["hostname"] == "inner"


def test_a_proxy_command_of_openssh(chain, options, tmp_path):
    file = config(chain, tmp_path)
    args = f"""-o 'ProxyCommand=ssh -F {file} -o BatchMode=yes -W %h:%p gate'"""
    with Session.open(target(chain, "middle", file, args), "plan", options) as session:
        assert session.facts["hostname"] == "middle"


def test_the_key_of_the_first_jump_host_is_unknown(chain, options, tmp_path):
    file = config(chain, tmp_path, known=known_but(chain, tmp_path, "gate"))
    error = refused(target(chain, "inner", file, "-J gate,middle"), options)
    address = chain["gate"].address
    assert error.message == (
        f"cannot trust jump host gate at {address}:22: its key ssh-ed25519 {shown('gate')} is unknown"
    )
    assert f"then type: ssh-keyscan {address} >> {tmp_path}/known" in error.hint
    assert error.ref == "host-key-unknown"


@pytest.mark.parametrize(
    ("unknown", "way"), [("middle", "ssh -F {} gate"), ("inner", "ssh -F {} -J gate middle")]
)
def test_what_to_type_for_a_key_behind_jump_hosts_works(chain, options, tmp_path, unknown, way):
    known = known_but(chain, tmp_path, unknown)
    file = config(chain, tmp_path, known=known)
    where = target(chain, "inner", file, "-J gate,middle")
    error = refused(where, options)
    label = f"{'jump host ' if unknown == 'middle' else ''}{unknown}"
    assert error.message.startswith(
        f"cannot trust {label} at {chain[unknown].address}:22: its key ssh-ed25519 {shown(unknown)}"
    )
    words = error.hint.partition("then type: ")[2].partition(" (or")[0]
    assert words == f"{way.format(file)} ssh-keyscan {chain[unknown].address} >> {known}"
    subprocess.run(["sh", "-ec", words], check=True, capture_output=True, timeout=30)
    connect(where, options).close()


def test_the_key_of_a_jump_host_has_changed(chain, options, tmp_path):
    known = known_but(chain, tmp_path, "middle")
    with known.open("a") as lines:
        lines.write(f"{chain['middle'].address} {keys.public(keys.other_key())}\n")
    file = config(chain, tmp_path, known=known)
    error = refused(target(chain, "inner", file, "-J gate,middle"), options)
    assert error.message.startswith("cannot trust jump host middle at ")
    assert error.ref == "host-key-changed"


def test_a_jump_host_that_lets_nobody_in(chain, options, tmp_path):
    file = config(chain, tmp_path)
    file.write_text(file.read_text().replace(str(chain.ssh_key), str(keys.other_key())))
    where = target(
        chain, "middle", file, "-J gate", ansible_ssh_private_key_file=str(chain.ssh_key)
    )
    error = refused(where, options)
    address = chain["gate"].address
    assert error.message.startswith(f"cannot log in to jump host gate at {address}:22 as ops: none")
    assert "IdentityFile in ~/.ssh/config" in error.hint


def test_a_jump_host_that_may_not_forward(chain, impatient, tmp_path):
    chain["gate"].sh("echo 'DisableForwarding yes' > /etc/ssh/sshd_config.d/no.conf")
    reload = "kill -HUP $(cat /run/sshd.pid); sleep 0.2"
    chain["gate"].sh(reload)
    try:
        error = refused(target(chain, "middle", config(chain, tmp_path), "-J gate"), impatient)
    finally:
        chain["gate"].sh(f"rm /etc/ssh/sshd_config.d/no.conf; {reload}")
    assert error.message == (
        f"cannot reach middle at {chain['middle'].address}:22 through gate: it may not forward there"
    )
    assert error.hint.startswith("allow it in sshd_config of gate: AllowTcpForwarding")


def test_behind_the_jump_host_nothing_listens(chain, impatient, tmp_path):
    file = config(chain, tmp_path)
    error = refused(target(chain, "middle", file, "-J gate", ansible_port=23), impatient)
    address = chain["middle"].address
    assert error.message == (
        f"cannot reach middle at {address}:23 through gate: it cannot connect there"
    )
    assert f"ssh -F {file} gate ssh-keyscan -p 23 {address}" in error.hint


def test_what_hangs_on_the_way_costs_its_limit(chain, impatient, tmp_path):
    """The first jump host, the second, and the shared connection of one that hangs later."""
    file = config(chain, tmp_path)
    where = target(chain, "inner", file, "-J gate,middle")
    for frozen in ("gate", "middle"):
        chain[frozen].freeze()
        try:
            error = refused(where, impatient)
        finally:
            chain[frozen].thaw()
        assert f"cannot reach jump host {frozen} at " in error.message
        assert "answers within" in error.message
    connect(where, impatient).close()
    chain["middle"].freeze()
    try:
        other = dataclasses.replace(where, user="ops")
        error = refused(other, impatient)
    finally:
        chain["middle"].thaw()
    assert error.message.startswith(
        f"cannot reach inner at {chain['inner'].address}:22 through middle: no answer within"
    )


def test_a_jump_host_that_goes_first_leaves_the_rest_closable(chain, impatient, tmp_path):
    file = config(chain, tmp_path)
    lookup = ssh.config_lookup(str(file))
    gate, middle = route(target(chain, "middle", file, "-J gate"), lookup)
    first = ssh.connect(gate, Passwords(), 5)
    second = ssh.connect(middle, Passwords(), 5, first)
    first.close()
    second.close()
    assert not first.alive and not second.alive


def test_hosts_behind_a_jump_host_that_is_down(chain, tmp_path):
    """Through the command: each says it under its own name, the others go on."""
    inventory = tmp_path / "inventory.yml"
    down = f"-F {config(chain, tmp_path)} -J 127.0.0.1:9"
    inventory.write_text(chain.inventory_yaml())
    for name in ("middle", "inner"):
        (tmp_path / "host_vars").mkdir(exist_ok=True)
        (tmp_path / "host_vars" / f"{name}.yml").write_text(
            f"ansible_ssh_common_args: {json.dumps(down)}\n"
        )
    playbook = tmp_path / "play.yml"
    playbook.write_text("- hosts: all\n  tasks:\n  - file: {path: /root/here, state: touch}\n")
    done = Hostctl(chain, inventory)("plan", "--json", str(playbook))
    told = done.json["hosts"]
    assert told["gate"]["status"] == "ok"
    for name in ("middle", "inner"):
        assert told[name]["status"] == "unreachable"
        assert told[name]["failures"][0]["message"] == (
            "cannot reach jump host 127.0.0.1 at 127.0.0.1:9: connection refused"
        )
