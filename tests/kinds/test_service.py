"""Runs in tests: services of a real systemd, over real SSH."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.command import Done, Hostctl
from tests.lab import Lab, LabHost

pytestmark = [pytest.mark.root, pytest.mark.lab]

UNIT = """[Service]
ExecStart=/bin/sh -c 'echo {word} >> /run/starts; exec sleep infinity'
ExecReload=/bin/sh -c 'echo reload >> /run/reloads'
[Install]
WantedBy=multi-user.target
"""


@pytest.fixture(scope="module")
def machine() -> Iterator[Lab]:
    with Lab({"sd": {"init": "systemd"}}, with_images=False) as made:
        yield made


@pytest.fixture
def host(machine: Lab) -> Iterator[LabHost]:
    """A host with the unit `pulse`, neither running nor enabled."""
    made = machine["sd"]
    unit = UNIT.format(word="first")
    made.run(["tee", "/etc/systemd/system/pulse.service"], input=unit)
    made.sh("systemctl daemon-reload")
    yield made
    made.sh("systemctl disable --now pulse; systemctl reset-failed pulse || true")
    made.sh("rm -rf /etc/systemd/system/pulse.service* /run/starts /run/reloads")
    made.sh("systemctl daemon-reload; rm -rf /var/lib/hostctl/projects")


class Play:
    """A playbook of tasks, planned and applied on the host."""

    def __init__(self, machine: Lab, folder: Path) -> None:
        self.hostctl = Hostctl(machine)
        self.path = folder / "pulse.yml"

    def write(self, tasks: str, more: str = "") -> Play:
        self.path.write_text(f"- hosts: all\n  tasks:\n{tasks}\n{more}")
        return self

    def __call__(self, verb: str, code: int = 0) -> Done:
        words = ("--yes",) if verb == "destroy" else ()
        done = self.hostctl(verb, "--json", *words, str(self.path))
        assert done.code == code, done.out + done.err
        return done


@pytest.fixture
def play(machine: Lab, tmp_path: Path) -> Play:
    return Play(machine, tmp_path)


def fields(done: Done) -> list[tuple[str, object, object]]:
    return [(c["field"], c["before"], c["after"]) for c in done.json["hosts"]["sd"]["changes"]]


def failure(done: Done) -> dict[str, str]:
    (found,) = done.json["hosts"]["sd"]["failures"]
    return found


def show(host: LabHost, name: str) -> str:
    return host.run(["systemctl", "show", "--value", f"--property={name}", "pulse"]).stdout.strip()


def test_started_and_enabled_and_back(host: LabHost, play: Play) -> None:
    play.write("  - service: {name: pulse, state: started, enabled: true}")
    wanted = [("enabled", False, True), ("state", "inactive", "started")]
    assert fields(play("plan", 2)) == wanted
    assert (show(host, "ActiveState"), show(host, "UnitFileState")) == ("inactive", "disabled")
    assert fields(play("apply")) == wanted
    assert (show(host, "ActiveState"), show(host, "UnitFileState")) == ("active", "enabled")
    assert fields(play("apply")) == []
    play("destroy")
    assert (show(host, "ActiveState"), show(host, "UnitFileState")) == ("inactive", "disabled")


def test_stopped_and_disabled(host: LabHost, play: Play) -> None:
    host.sh("systemctl enable --now pulse")
    play.write("  - service: {name: pulse.service, state: stopped, enabled: false}")
    play("apply")
    assert (show(host, "ActiveState"), show(host, "UnitFileState")) == ("inactive", "disabled")
    play("plan")


def test_what_ended_by_itself_is_started_again(host: LabHost, play: Play) -> None:
    play.write("  - service: {name: pulse, state: started}")
    play("apply")
    host.sh("systemctl kill --signal=KILL pulse; while systemctl is-active -q pulse; do :; done")
    assert fields(play("plan", 2)) == [("state", "failed", "started")]
    play("apply")
    assert show(host, "ActiveState") == "active"


def test_restarted_is_another_process_and_reloaded_the_same(host: LabHost, play: Play) -> None:
    host.sh("systemctl start pulse")
    first = show(host, "MainPID")
    play.write("  - service: {name: pulse, state: reloaded}")("apply")
    assert show(host, "MainPID") == first
    assert host.sh("cat /run/reloads").split() == ["reload"]
    play.write("  - service: {name: pulse, state: restarted}")("apply")
    assert show(host, "MainPID") not in (first, "0")


def test_a_handler_restarts_only_after_a_change(host: LabHost, play: Play) -> None:
    host.sh("systemctl start pulse")
    play.write(
        "  - copy: {dest: /etc/pulse.conf, content: one}\n    notify: again",
        "  handlers:\n  - name: again\n    service: {name: pulse, state: restarted}\n",
    )
    first = show(host, "MainPID")
    play("apply")
    second = show(host, "MainPID")
    play("apply")
    assert first != second == show(host, "MainPID")
    play("destroy")


def test_a_changed_unit_file_needs_daemon_reload(host: LabHost, play: Play) -> None:
    host.sh("systemctl start pulse")
    unit = UNIT.format(word="second").replace("\n", "\\n")
    play.write(
        f'  - copy: {{dest: /etc/systemd/system/pulse.service, content: "{unit}"}}\n'
        "  - service: {name: pulse, daemon_reload: true, state: restarted}"
    )
    play("apply")
    assert host.sh("cat /run/starts").split() == ["first", "second"]
    host.sh("rm -rf /var/lib/hostctl/projects")  # the unit file stays: it is the fixture's


def test_daemon_reload_alone_is_done_where_it_is_needed(host: LabHost, play: Play) -> None:
    play.write("  - service: {name: pulse, daemon_reload: true}")
    play("plan")
    host.sh("systemctl start pulse")
    host.run(["tee", "/etc/systemd/system/pulse.service"], input=UNIT.format(word="second"))
    assert show(host, "NeedDaemonReload") == "yes"
    assert fields(play("plan", 2)) == [("daemon_reload", "needed", "done")]
    play("apply")
    assert show(host, "NeedDaemonReload") == "no"
    play("plan")


@pytest.mark.parametrize("state", ["state: started", "state: restarted", "enabled: true"])
def test_no_such_unit_is_known_in_the_plan(host: LabHost, play: Play, state: str) -> None:
    told = failure(play.write(f"  - service: {{name: pules, {state}}}")("plan", 1))
    assert told["message"] == "cannot look at service pules: there is no such unit"
    assert "systemctl list-unit-files" in told["hint"]
    failure(play("apply", 2))


def test_a_missing_unit_is_stopped_already(host: LabHost, play: Play) -> None:
    play.write("  - service: {name: pules, state: stopped, enabled: false}")("plan")


def test_a_unit_that_the_same_run_makes(host: LabHost, play: Play) -> None:
    unit = UNIT.format(word="new").replace("\n", "\\n")
    play.write(
        f'  - copy: {{dest: /etc/systemd/system/fresh.service, content: "{unit}"}}\n'
        "  - service: {name: fresh, state: started, enabled: true}"
    )
    (change,) = [
        change
        for change in play("plan", 2).json["hosts"]["sd"]["changes"]
        if change["resource"].startswith("service")
    ]
    assert change["certain"] is False
    play("apply")
    assert host.sh("systemctl is-active fresh; systemctl is-enabled fresh").split() == [
        *("active", "enabled")
    ]
    play("plan")
    play("destroy")
    assert host.run(["systemctl", "is-active", "fresh"], check=False).stdout.strip() == "inactive"
    assert not host.sh("ls /etc/systemd/system/multi-user.target.wants").count("fresh")


def test_a_masked_unit(host: LabHost, play: Play) -> None:
    host.sh("ln -s /dev/null /etc/systemd/system/hidden.service")
    told = failure(play.write("  - service: {name: hidden, state: started}")("plan", 1))
    assert told["message"] == "cannot look at service hidden: it is masked"
    assert "systemctl unmask hidden" in told["hint"]


def test_a_name_that_systemd_refuses(host: LabHost, play: Play) -> None:
    told = failure(play.write("  - service: {name: 'a/b', state: started}")("plan", 1))
    assert told["message"].startswith("cannot ask systemd about a/b: ")


def test_a_unit_that_cannot_start_says_where_to_look(host: LabHost, play: Play) -> None:
    host.sh("mkdir /etc/systemd/system/pulse.service.d")
    drop = "[Service]\nExecStartPre=/bin/false\n"
    host.run(["tee", "/etc/systemd/system/pulse.service.d/x.conf"], input=drop)
    host.sh("systemctl daemon-reload")
    told = failure(play.write("  - service: {name: pulse, state: started}")("apply", 2))
    assert told["message"].startswith("cannot start pulse: ")
    assert told["hint"] == "look at `journalctl -u pulse -n 20` on the host"
