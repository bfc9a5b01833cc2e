"""The agent's parts that need no agent: graph, journal, handlers, facts, files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hostctl_host.agent.facts import collect
from hostctl_host.agent.files import private_folder, write_atomic
from hostctl_host.agent.graph import in_order, run_graph
from hostctl_host.agent.handlers import Handlers
from hostctl_host.agent.journal import Journal
from hostctl_host.agent.ledger import identity, redact_undo
from hostctl_host.contract.document import Resource

EDITABLE = Path(__file__).parents[2] / "build" / "editable"


def test_in_order_keeps_the_given_order_where_it_may() -> None:
    needs = {"a": ["c"], "b": [], "c": [], "d": ["a", "elsewhere"]}
    assert in_order(list("abcd"), needs) == ["b", "c", "a", "d"]


def test_in_order_leaves_out_a_cycle() -> None:
    assert in_order(list("abc"), {"a": ["b"], "b": ["a"], "c": []}) == ["c"]


@pytest.mark.parametrize("workers", [1, 3, 8])
def test_run_graph_waits_for_needs(workers: int) -> None:
    needs = {str(n): [str(m) for m in range(n) if n % (m + 2) == 0] for n in range(40)}
    finished: set[str] = set()
    lock = threading.Lock()

    def work(name: str) -> None:
        with lock:
            assert set(needs[name]) <= finished
        time.sleep(0.0005)
        with lock:
            finished.add(name)

    run_graph(in_order(list(needs), needs), needs, work, workers)
    assert len(finished) == 40


def test_run_graph_stops_at_an_exception_that_work_does_not_handle() -> None:
    started: list[str] = []

    def work(name: str) -> None:
        started.append(name)
        time.sleep(0.01)
        if name == "0":
            raise KeyError(name)

    with pytest.raises(KeyError):
        run_graph([str(n) for n in range(50)], {}, work, 2)
    assert len(started) < 10


def test_a_journal_tells_the_next_run_what_is_owed(tmp_path: Path) -> None:
    path = str(tmp_path / "p" / "journal.jsonl")
    journal = Journal(path)
    journal.intend({"file.a": {"kind": "file"}})
    journal.act("file.a", ["one"])
    journal.done("file.a", True)
    journal.act("file.b", ["two"])
    journal.done("file.b", False)
    journal.act("file.c", ["three", "four"])
    journal.ran("four")
    journal.ran("one")
    again = Journal(path)
    assert again.intents == {"file.a": {"kind": "file"}}
    assert again.notified == ["three", "four"]
    again.close(["three"])
    last = Journal(path)
    assert (last.intents, last.notified) == ({}, ["three"])
    last.close([])
    assert not os.path.exists(path)


def test_a_journal_survives_a_line_that_was_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_text('{"act": "a", "notify": ["x"]}\n{"act": "b", "noti')
    journal = Journal(str(path))
    assert journal.notified == ["x"]
    journal.act("c", ["y"])
    assert Journal(str(path)).notified == ["x", "y"]


def test_handlers_come_in_definition_order_and_once() -> None:
    handlers = Handlers(["late"])
    handlers.define(Resource(f"handler.{name}", "command") for name in ("a", "b"))
    handlers.notify(["b"])
    handlers.notify(["a"], certain=False)
    handlers.notify(["b"])
    found = []
    while due := handlers.next():
        found.append((due[0][0].id, due[1]))
    assert found == [("handler.a", False), ("handler.b", True)]
    assert handlers.owed(all_defined=False) == ["late"]
    assert handlers.owed(all_defined=True) == []


def test_facts_have_ansibles_names() -> None:
    facts = collect()
    assert facts["hostname"] == os.uname().nodename.split(".")[0]
    assert facts["distribution"] == "Debian"
    assert facts["os_family"] == "Debian"
    assert facts["distribution_version"].startswith(facts["distribution_major_version"])
    assert facts["pkg_mgr"] == "apt"
    assert facts["processor_vcpus"] == os.cpu_count()
    assert facts["memtotal_mb"] > 100
    assert facts["user_id"] == "root" or os.geteuid() != 0
    assert json.loads(json.dumps(facts)) == facts


def test_nothing_heavy_is_imported_before_the_hello() -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import hostctl_host.agent.main as m; "
        "m.collect(); print(' '.join(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, str(EDITABLE)],
        capture_output=True,
        text=True,
        check=True,
    )
    # ast for inspect, which a stand-in has the name of until it is used.
    heavy = {"argparse", "ast", "ctypes", "dataclasses", "hashlib", "logging", "pathlib"}
    heavy |= {
        "pyroute2",
        "random",
        "secrets",
        "socket",
        "ssl",
        "subprocess",
        "tempfile",
        "threading",
    }
    assert heavy & set(done.stdout.split()) == set()


def test_write_atomic_removes_what_a_killed_writer_left(tmp_path: Path) -> None:
    with subprocess.Popen(["true"]) as gone:
        pass
    leftover = tmp_path / f".a.hostctl-{gone.pid}-00000000"
    leftover.write_text("half")
    mine = tmp_path / f".a.hostctl-{os.getpid()}-00000000"
    mine.write_text("in the making")
    write_atomic(str(tmp_path / "a"), b"new", 0o640)
    assert sorted(path.name for path in tmp_path.iterdir()) == [mine.name, "a"]
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640


def test_private_folders_are_private_all_the_way(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        private_folder(str(tmp_path / "a" / "b"))
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700


def test_a_path_is_one_thing_whoever_declares_it() -> None:
    assert identity("copy./etc/motd") == identity("template./etc/motd")
    assert identity("package./etc/motd") != identity("file./etc/motd")


def test_an_undo_does_not_hold_what_was_declared_as_secret() -> None:
    secret = Resource("user.a", "user", {"name": "a", "password": "hash"}, no_log=True)
    undo = {"name": "a", "password": "hash", "state": "absent", "remove": True}
    assert redact_undo(undo, secret, {"name"}) == {"name": "a", "state": "absent", "remove": True}
