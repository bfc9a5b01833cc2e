"""`ps`, `logs` and `exec` over several hosts, with agents that answer from memory."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from textwrap import dedent
from typing import Any

import pytest
from hostctl_host.contract.errors import HostctlError

from hostctl.fleet.target import Target, Unreachable

INVENTORY = "all: {hosts: {web1: {}, web2: {}}}\n"
NO_CONTAINER = HostctlError("cannot find the container shop-db-1", ref="no-container")


@dataclass
class Answer:
    """The frames of one call, and what was asked."""

    frames: list[tuple[dict[str, Any], bytes]] = field(default_factory=list)
    code: int = 0
    error: HostctlError | None = None
    asked: tuple[str, dict[str, Any]] | None = None

    def __iter__(self):
        if self.error is not None:
            raise self.error
        return iter(self.frames)


@dataclass
class FakeSession:
    """Stands for an open session with the agent of one host."""

    target: Target
    answer: Answer


@pytest.fixture
def fleet(monkeypatch, tmp_path) -> dict[str, Answer]:
    """Host name -> what its agent answers; the inventory has web1 and web2."""
    (tmp_path / "inventory.yml").write_text(INVENTORY)
    answers = {"web1": Answer(), "web2": Answer()}

    def on_targets(hosts, targets, work):
        results = {}
        for target in targets:
            try:
                results[target.name] = work(FakeSession(target, answers[target.name]))
            except HostctlError as error:
                results[target.name] = error
        return results

    def call(session, verb, args):
        session.answer.asked = (verb, args)
        return session.answer

    monkeypatch.setattr("hostctl.cli.hosts.on_targets", on_targets)
    monkeypatch.setattr("hostctl.fleet.session.call", call)
    return answers


def row(**data: Any) -> tuple[dict[str, Any], bytes]:
    return {"type": "row", "data": data}, b""


def output(body: bytes, **fields: Any) -> tuple[dict[str, Any], bytes]:
    return {"type": "data", "stream": "stdout", **fields}, body


def test_ps_lists_hosts_together(hostctl, fleet):
    fleet["web1"].frames = [
        row(
            name="shop-web-2", image="nginx:1", status="running (3 s)", ports="0.0.0.0:8080->80/tcp"
        ),
        row(name="shop-web-1", image="nginx:1", status="exited (1)", ports=""),
    ]
    fleet["web2"].frames = [row(name="db", image="redis:7", status="running (2 d)", ports="")]
    ended = hostctl("ps", "-a")
    assert fleet["web1"].asked == ("ps", {"all": True, "project": ""})
    assert ended.code == 0
    assert "\n" + ended.out == dedent("""
        HOST   NAME         IMAGE     STATUS          PORTS
        web1   shop-web-1   nginx:1   exited (1)
        web1   shop-web-2   nginx:1   running (3 s)   0.0.0.0:8080->80/tcp
        web2   db           redis:7   running (2 d)
        """)


def test_ps_leaves_the_host_out_where_there_is_one(hostctl, fleet):
    fleet["web2"].frames = [row(name="db", image="redis:7", status="running (2 d)", ports="")]
    assert hostctl("ps", "-l", "web2").out == (
        "NAME   IMAGE     STATUS          PORTS\ndb     redis:7   running (2 d)\n"
    )


def test_ps_says_which_hosts_failed_and_shows_the_others(hostctl, fleet):
    fleet["web1"].error = Unreachable("cannot reach web1: timed out", ref="timeout")
    fleet["web2"].frames = [row(name="db")]
    ended = hostctl("ps", "--json")
    assert ended.code == 4
    assert ended.err == "Error: cannot reach web1: timed out\n"
    assert json.loads(ended.out) == {"version": 1, "hosts": {"web2": [{"name": "db"}]}}


def test_logs_of_several_hosts_are_whole_lines_behind_their_names(hostctl, fleet):
    fleet["web1"].frames = [output(b"one\ntw", name="web"), output(b"o\n", name="web")]
    fleet["web2"].frames = [output(b"three", name="web")]
    ended = hostctl("logs", "-f", "--tail", "5", "-t", "web")
    assert fleet["web1"].asked == (
        "logs",
        {"names": ["web"], "follow": True, "tail": 5, "timestamps": True},
    )
    assert ended.out == "web1 web | one\nweb1 web | two\nweb2 web | three\n"


def test_logs_of_one_container_are_the_bytes_themselves(hostctl, fleet):
    fleet["web1"].frames = [output(b"one\ntwo", name="web")]
    assert hostctl("logs", "-l", "web1", "web").out == "one\ntwo"


def test_exec_runs_where_the_container_is(hostctl, fleet):
    fleet["web1"].error = NO_CONTAINER
    fleet["web2"].frames = [output(b"hi\n")]
    fleet["web2"].code = 7
    ended = hostctl("exec", "-u", "app", "-e", "A=1", "shop-db-1", "sh", "-c", "echo hi; exit 7")
    assert (ended.code, ended.err) == (7, "")
    assert ended.out == "web2 | hi\n"
    assert fleet["web2"].asked == (
        "exec",
        {
            "name": "shop-db-1",
            "command": ["sh", "-c", "echo hi; exit 7"],
            "user": "app",
            "workdir": "",
            "env": ["A=1"],
            "stdin": False,
            "tty": False,
        },
    )


def test_exec_fails_where_no_host_has_the_container(hostctl, fleet):
    fleet["web1"].error = fleet["web2"].error = NO_CONTAINER
    ended = hostctl("exec", "shop-db-1", "true")
    assert ended.code == 125
    assert "cannot find the container shop-db-1" in ended.err


def test_exec_keeps_streams_apart(hostctl, fleet):
    fleet["web1"].frames = [output(b"out\n"), ({"type": "data", "stream": "stderr"}, b"err\n")]
    ended = hostctl("exec", "-l", "web1", "web", "true")
    assert (ended.out, ended.err) == ("out\n", "err\n")


def test_exec_attaches_to_one_host_only(hostctl, fleet):
    ended = hostctl("exec", "-it", "web", "sh")
    assert ended.code == 1
    assert ended.err == (
        "Error: cannot attach to 2 hosts at once\n"
        "  hint: choose one: hostctl exec -it -l web1 web ...\n"
    )
