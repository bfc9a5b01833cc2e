"""`plan`, `apply` and `destroy` from the command line, with hosts that answer from memory."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from textwrap import dedent
from typing import Any

import pytest
from hostctl_host.contract.change import Action, Change
from hostctl_host.contract.report import Failure, HostReport, HostStatus, Outcome, Status

from hostctl.fleet.ahead import Ahead

INVENTORY = """
all:
  hosts: {web1: {}, web2: {ansible_user: ops}, web3: {hostctl_data_dir: /srv/h}}
"""
PLAYBOOK = """
- name: One
  hosts: all
  serial: 2
  tasks:
    - directory: {path: /srv/one}
- name: Two
  project: second
  hosts: web1,web2
  become: true
  vars: {title: Hello}
  tasks:
    - name: The page
      copy: {dest: /srv/page, content: "{{ title }}"}
      tags: [page]
"""
CHANGED = HostReport(
    HostStatus.OK,
    (Outcome("file./a", Status.CHANGED, (Change(Action.UPDATE, "mode", "0644", "0600"),)),),
    generation=1,
)
FINE = HostReport(HostStatus.OK, (Outcome("file./a", Status.OK),), generation=1)
FAILED = HostReport(HostStatus.FAILED, failures=(Failure("file./a", "cannot write"),))
GONE = HostReport(HostStatus.UNREACHABLE, failures=(Failure("", "cannot reach web2"),))


@dataclass
class FakeFleet:
    """Answers for hosts, and what was asked: (mode, {host: frame}) for each batch."""

    answers: dict[str, HostReport] = field(default_factory=dict)
    batches: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    targets: dict[str, Any] = field(default_factory=dict)
    forks: int = 0
    lock_wait: float | None = None

    def run_hosts(self, programs, mode, options, on_event, forks, _ahead):
        programs = list(programs)
        frames = {}
        for target, program in programs:
            program.facts({"distribution": "Debian"})
            frames[target.name] = program.first()
            self.targets[target.name] = target
        self.batches.append((mode, frames))
        self.forks, self.lock_wait = forks, options.lock_wait
        return {target.name: self.answers.get(target.name, FINE) for target, _ in programs}

    @property
    def hosts(self) -> list[list[str]]:
        return [list(frames) for _, frames in self.batches]


@pytest.fixture
def fleet(monkeypatch, tmp_path) -> FakeFleet:
    fake = FakeFleet()
    (tmp_path / "inventory.yml").write_text(INVENTORY)
    (tmp_path / "site.yml").write_text(PLAYBOOK)
    monkeypatch.setattr("hostctl.converge.run_hosts", lambda *given: fake.run_hosts(*given))
    monkeypatch.setattr(Ahead, "open", lambda *_: None)
    return fake


def test_plan_says_2_where_something_changes(hostctl, fleet):
    fleet.answers["web2"] = CHANGED
    ended = hostctl("plan", "site.yml")
    assert ended.code == 2
    assert {mode for mode, _ in fleet.batches} == {"plan"}
    assert "\n" + ended.out == dedent("""
        web2:
          ~ file./a
              mode: "0644" → "0600"
          ~ file./a
              mode: "0644" → "0600"

        web1: no changes
        web2: 0 to add, 2 to change, 0 to destroy
        web3: no changes
        Plan: 0 to add, 2 to change, 0 to destroy.
        """)
    assert ended.err == ""


def test_plan_says_0_where_nothing_changes_and_1_where_a_host_fails(hostctl, fleet):
    assert hostctl("plan", "site.yml").code == 0
    fleet.answers["web1"] = FAILED
    assert hostctl("plan", "site.yml").code == 1


@pytest.mark.parametrize(
    ("answers", "code"),
    [
        ({}, 0),
        ({"web1": CHANGED}, 0),
        ({"web1": FAILED}, 2),
        ({"web2": GONE}, 4),
        ({"web1": FAILED, "web2": GONE}, 6),
    ],
)
def test_exit_codes_of_apply(hostctl, fleet, answers, code):
    fleet.answers.update(answers)
    assert hostctl("apply", "--yes", "site.yml").code == code


def test_plays_and_batches_come_one_after_another(hostctl, fleet):
    hostctl("apply", "site.yml")
    assert fleet.hosts == [["web1", "web2"], ["web3"], ["web1", "web2"]]
    assert {mode for mode, _ in fleet.batches} == {"apply"}


def test_a_host_that_failed_is_left_out_of_later_plays(hostctl, fleet):
    fleet.answers["web1"] = FAILED
    ended = hostctl("apply", "site.yml")
    assert fleet.hosts == [["web1", "web2"], ["web3"], ["web2"]]
    assert ended.out.endswith("Apply failed on web1 (1 of 3 hosts).\n")


def test_documents_targets_and_options_arrive(hostctl, fleet):
    hostctl(
        *("apply", "site.yml", "-l", "web2", "-t", "page,other", "--prune", "-f", "7"),
        *("--lock-wait", "30", "-e", "title=Bye"),
    )
    mode, frames = fleet.batches[-1]
    document = frames["web2"]["document"]
    assert (mode, document["project"], document["prune"]) == ("apply", "second", True)
    assert document["partial"] is True
    assert [resource["id"] for resource in document["resources"]] == ["copy./srv/page"]
    assert fleet.hosts == [["web2"], ["web2"]]
    assert fleet.targets["web2"].become is True
    assert fleet.targets["web2"].user == "ops"
    assert (fleet.forks, fleet.lock_wait) == (7, 30.0)


def test_json_is_the_only_thing_on_stdout(hostctl, fleet):
    fleet.answers["web1"] = CHANGED
    ended = hostctl("apply", "site.yml", "--json")
    data = json.loads(ended.out)
    assert data["verb"] == "apply"
    assert data["hosts"]["web1"]["changed"] == 2
    assert data["summary"]["hosts"] == {"ok": 3, "failed": 0, "unreachable": 0, "locked": 0}


def test_no_diff_leaves_text_diffs_out(hostctl, fleet):
    change = Change(Action.UPDATE, "content", "a", "b", diff="@@ -1 +1 @@\n-a\n+b\n")
    fleet.answers["web3"] = HostReport(
        HostStatus.OK, (Outcome("copy./a", Status.CHANGED, (change,)),)
    )
    assert "          +b" in hostctl("plan", "site.yml").out
    assert "+b" not in hostctl("plan", "site.yml", "--no-diff").out


def test_all_errors_of_a_playbook_come_before_any_host(hostctl, fleet, tmp_path):
    (tmp_path / "bad.yml").write_text(
        "- hosts: web1\n"
        "  tasks:\n"
        "    - name: x\n"
        "      copy: {dset: /a, content: a}\n"
        "    - copy: {dest: /b, content: '{{ nobody }}'}\n"
    )
    ended = hostctl("apply", "bad.yml")
    assert (ended.code, ended.out, fleet.batches) == (1, "", [])
    assert "  at bad.yml:4:14 (tasks[0].copy.dset)\n" in ended.err
    assert "     4 |       copy: {dset: /a, content: a}\n       |              ^\n" in ended.err
    assert "did you mean dest?" in ended.err
    assert "nobody" in ended.err
    assert ended.err.endswith("errors, no host was touched.\n")


def test_an_unknown_host_in_limit_is_an_error(hostctl, fleet):
    ended = hostctl("apply", "site.yml", "-l", "wbe1")
    assert (ended.code, fleet.batches) == (1, [])
    assert "cannot find wbe1: neither a host nor a group of the inventory" in ended.err
    assert "did you mean web1?" in ended.err


def test_a_missing_playbook_is_an_error(hostctl, fleet):
    ended = hostctl("plan", "nothing.yml")
    assert ended.code == 1
    assert ended.err.startswith("Error: cannot read nothing.yml: no such file or directory\n")


def test_destroy_undoes_plays_backwards(hostctl, fleet):
    ended = hostctl("destroy", "site.yml", "--yes", "--volumes")
    assert ended.code == 0
    assert fleet.hosts == [["web1", "web2"], ["web1", "web2"], ["web3"]]
    calls = [frames["web1"] for _, frames in fleet.batches if "web1" in frames]
    assert calls == [
        {"type": "call", "verb": "destroy", "args": {"project": name, "volumes": True}}
        for name in ("second", "site")
    ]


def test_destroy_without_a_terminal_needs_yes(hostctl, fleet):
    ended = hostctl("destroy", "site.yml")
    assert (ended.code, fleet.batches) == (1, [])
    assert ended.err == (
        "Error: cannot ask whether to destroy: there is no terminal\n"
        "  hint: hostctl destroy --yes site.yml\n"
    )


@pytest.mark.parametrize(("answer", "code", "modes"), [("y", 0, 2), ("n", 1, 1)])
def test_destroy_shows_what_goes_and_asks(hostctl, fleet, monkeypatch, answer, code, modes):
    fleet.answers = dict.fromkeys(["web1", "web2", "web3"], CHANGED)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("click.confirm", lambda *args, **kwargs: answer == "y")
    ended = hostctl("destroy", "site.yml")
    assert ended.code == code
    assert len({mode for mode, _ in fleet.batches}) == modes
    assert fleet.batches[0][0] == "plan"
    assert "Plan: 0 to add, 5 to change, 0 to destroy.\n" in ended.out


def test_destroy_asks_nothing_where_there_is_nothing(hostctl, fleet, monkeypatch):
    empty = HostReport(HostStatus.OK)
    fleet.answers = dict.fromkeys(["web1", "web2", "web3"], empty)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    ended = hostctl("destroy", "site.yml")
    assert ended.code == 0
    assert ended.out.endswith("Nothing to destroy.\n")
    assert {mode for mode, _ in fleet.batches} == {"plan"}


def test_what_debug_says_is_narration(hostctl, fleet, tmp_path):
    (tmp_path / "say.yml").write_text(
        "- hosts: web1\n  tasks:\n    - name: Say\n      debug: {msg: 'on {{ inventory_hostname }}'}\n"
    )
    ended = hostctl("plan", "say.yml")
    assert ended.err == "web1: Say: on web1\n"


def test_a_plan_leaves_open_what_debug_and_assert_will_say(hostctl, fleet, tmp_path):
    (tmp_path / "say.yml").write_text(
        "- hosts: web1\n"
        "  tasks:\n"
        "    - {command: date, register: out}\n"
        "    - debug: {msg: 'it says {{ out.stdout }}'}\n"
        "    - assert: {that: out.rc == 0}\n"
    )
    plan_each_task_as_unknown(fleet)
    ended = hostctl("plan", "say.yml")
    assert ended.err == "web1: debug: (known after apply)\n"


def plan_each_task_as_unknown(fleet: FakeFleet) -> None:
    """Answer each registered task as an agent in plan mode does, and ask for all that follows."""
    whole = fleet.run_hosts

    def run_hosts(programs, *rest):
        programs = list(programs)
        done = whole(programs, *rest)
        for target, program in programs:
            sent = fleet.batches[-1][1][target.name]["document"]
            while sent.get("more"):
                for resource in sent["resources"]:
                    if resource.get("register"):
                        frame = {"id": resource["id"], "register": resource["register"]}
                        program.answer({"type": "result", **frame, "result": {"unknown": True}})
                sent = program.next()
        return done

    fleet.run_hosts = run_hosts


@pytest.mark.parametrize(("verb", "skip"), [("plan", ""), ("apply", "when: ansible_check_mode")])
def test_a_plan_is_ansibles_check_mode(hostctl, fleet, tmp_path, verb, skip):
    (tmp_path / "site.yml").write_text(
        "- {hosts: web1, tasks: [{file: {path: /a}, when: ansible_check_mode}]}"
    )
    assert hostctl(verb, "site.yml").code == 0
    ((_, frames),) = fleet.batches
    assert frames["web1"]["document"]["resources"][0].get("skip", "") == skip
