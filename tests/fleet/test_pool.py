"""Hosts that are the same login share a connection, up to what the server allows."""

from __future__ import annotations

import pytest
from hostctl_host.contract.report import HostStatus

from hostctl.fleet.fleet import run_hosts
from hostctl.fleet.pool import Pool
from hostctl.fleet.target import Target, Unreachable

from .test_session import Program

pytestmark = pytest.mark.root


def logins(server, user: str) -> int:
    return (server.folder / "log").read_text().count(f"Accepted publickey for {user} ")


@pytest.mark.parametrize(("user", "most"), [("free", 2), ("single", 10)])
def test_ten_hosts_of_one_login(user, most, server, options):
    variables = server.variables(ansible_user=user)
    work = [(Target.from_vars(f"h{n}", variables), Program()) for n in range(10)]
    before = logins(server, user)
    for _ in range(2):
        reports = run_hosts(work, "apply", options, lambda *_: None)
        assert not [report.failures for report in reports.values() if report.failures]
        assert [report.status for report in reports.values()] == [HostStatus.OK] * 10
    made = logins(server, user) - before
    if user == "free":
        assert made == most
    else:
        assert made > most
    options.pool.close()


def test_a_jump_host_is_passed_by_one_connection(server, options):
    jump = f"plain@127.0.0.1:{server.port}"
    config = server.folder / "jump-config"
    config.write_text(
        f"Host 127.0.0.1\n  UserKnownHostsFile {server.known_hosts}\n  IdentityFile {server.key}\n"
    )
    args = f"-F {config} -J {jump}"
    variables = server.variables(ansible_user="free", ansible_ssh_common_args=args)
    work = [(Target.from_vars(f"h{n}", variables), Program()) for n in range(12)]
    before = logins(server, "plain"), logins(server, "free")
    reports = run_hosts(work, "apply", options, lambda *_: None)
    assert [report.status for report in reports.values()] == [HostStatus.OK] * 12
    assert (logins(server, "plain") - before[0], logins(server, "free") - before[1]) == (1, 2)


class Fake:
    alive = True

    def run(self, command):
        return command

    def close(self):
        self.alive = False


def test_a_broken_connection_is_replaced():
    pool, made = Pool(), []

    def connect():
        made.append(Fake())
        return made[-1]

    pool.lease((), "", connect).close()
    made[0].close()
    lease = pool.lease((), "", connect)
    assert len(made) == 2
    lease.close()
    pool.lease((), "", connect)
    assert len(made) == 2
    pool.lease((), "another password", connect)
    assert len(made) == 3


def test_a_failed_login_is_told_by_every_host():
    pool = Pool()
    for name in ("a", "b"):

        def connect(name=name):
            raise Unreachable(f"cannot reach {name}")

        with pytest.raises(Unreachable, match=f"cannot reach {name}"):
            pool.lease((), "", connect)
