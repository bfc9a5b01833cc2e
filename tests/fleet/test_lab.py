"""The same on whole machines: Debian 11, other users, hosts without a fitting Python, a real jump host."""

from __future__ import annotations

import pytest
from hostctl_host.contract.errors import HostctlError

from hostctl.fleet import bundle
from hostctl.fleet.session import Options, Session
from hostctl.fleet.target import Target
from tests.lab import OPS_PASSWORD, Lab

pytestmark = [pytest.mark.root, pytest.mark.lab]


@pytest.fixture(scope="module")
def machines():
    hosts = {"old": {"suite": "bullseye"}, "ancient": {"python": "3.6"}, "bare": {"python": None}}
    with Lab(hosts, with_images=False) as made:
        yield made


@pytest.fixture(scope="module")
def options():
    made = Options(bundle=bundle.build())
    yield made
    made.pool.close()


def target(machines, name, args="", **more) -> Target:
    return Target.from_vars(
        name,
        {
            "ansible_host": machines[name].address,
            "ansible_user": "root",
            "ansible_ssh_private_key_file": str(machines.ssh_key),
            "ansible_ssh_common_args": f"-F none -o UserKnownHostsFile={machines.known_hosts} {args}",
        }
        | more,
    )


def failure(where, options) -> HostctlError:
    with pytest.raises(HostctlError) as caught:
        Session.open(where, "plan", options).close()
    return caught.value


@pytest.mark.parametrize(
    ("user", "become", "password"),
    [("root", False, ""), ("ops", True, ""), ("opspw", True, OPS_PASSWORD), ("guest", False, "")],
)
@pytest.mark.parametrize("mode", ["plan", "serve"])
def test_debian_11(machines, options, user, become, password, mode):
    where = target(
        machines,
        "old",
        ansible_user=user,
        ansible_become=become,
        ansible_become_password=password,
    )
    with Session.open(where, mode, options) as session:
        assert session.facts["distribution"] == "Debian"
        assert str(session.facts["distribution_major_version"]) == "11"
        assert session.facts["user_id"] == ("root" if become else user)


def test_the_agent_lies_where_the_design_says(machines, options):
    Session.open(target(machines, "old"), "plan", options).close()
    folder = f"/var/lib/hostctl/agents/{options.bundle.digest}"
    assert machines["old"].sh(f"stat -c '%a %U' {folder} /var/lib/hostctl").split() == [
        *("700", "root"),
        *("700", "root"),
    ]


def test_sudo_refuses_a_guest(machines, options):
    where = target(machines, "old", ansible_user="guest", ansible_become=True)
    assert failure(where, options).ref in ("sudo-refused", "sudo-password-needed")


def test_python_too_old(machines, options):
    where = target(machines, "ancient", ansible_python_interpreter="/usr/bin/python3")
    error = failure(where, options)
    assert error.message.startswith("cannot manage ancient: /usr/bin/python3 is Python 3.6")
    assert error.ref == "python-too-old"


def test_no_python(machines, options):
    error = failure(target(machines, "bare"), options)
    assert error.message == "cannot manage bare: there is no python3"


def test_through_another_machine(machines, options):
    config = machines.folder / "jump"
    config.write_text(
        f"Host gate\n  HostName {machines['bare'].address}\n  User ops\n"
        f"Host *\n  UserKnownHostsFile {machines.known_hosts}\n  IdentityFile {machines.ssh_key}\n"
    )
    where = target(machines, "old", ansible_ssh_common_args=f"-F {config} -J gate")
    with Session.open(where, "plan", options) as session:
        assert str(session.facts["distribution_major_version"]) == "11"
