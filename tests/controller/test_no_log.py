"""What `no_log` keeps back on the controller: of a play, a task, and what was made from its result."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hostctl_host.contract.errors import HostctlError

from .conftest import Folder

First = Callable[..., list[dict[str, Any]]]


def test_a_play_hides_all_that_it_makes(folder: Folder, resources: First) -> None:
    program = folder.program("""\
        - hosts: web
          project: shop
          no_log: true
          tasks:
            - {command: "login s3cret", name: log in, notify: [again]}
            - {command: "echo {{ item }}", loop: [s3cret]}
            - {file: {path: /a}}
            - {file: {path: /open}, no_log: false}
          handlers:
            - {name: again, command: "login s3cret"}
          containers:
            web: {image: nginx}
        """)
    program.facts({})
    document = program.first()["document"]
    shown = {r["id"]: r.get("no_log", False) for r in document["resources"]}
    assert shown.pop("file./open") is False
    assert len(shown) == 7 and all(shown.values())
    assert [h.get("no_log") for h in document["handlers"]] == [True]
    named = [(r["id"], r.get("name", "")) for r in document["resources"]]
    assert "s3cret" not in str(named)
    assert named[0] == ("command.log-in", "log in")


def test_no_log_of_a_play_may_be_a_template(folder: Folder, resources: First) -> None:
    program = folder.program("""\
        - hosts: all
          no_log: "{{ quiet }}"
          vars: {quiet: true}
          tasks:
            - {file: {path: /a}}
        """)
    assert resources(program)[0]["no_log"] is True


SECRETS = """\
- hosts: web
  tasks:
    - {command: token, register: token, no_log: true}
    - {set_fact: {header: "Bearer {{ token.stdout }}"}}
    - {debug: {var: token}}
    - {debug: {msg: "it is {{ header }}"}}
    - {debug: {msg: "{{ item }}"}, loop: "{{ token.stdout_lines }}"}
    - {debug: {msg: "{{ indirect }}"}, vars: {indirect: "{{ header }}"}}
    - {debug: {msg: "it went well"}, when: token.rc == 0}
    - {debug: {msg: "{{ known }}"}, no_log: true}
  vars: {known: s3cret}
"""


def run(folder: Folder, playbook: str) -> Any:
    program = folder.program(playbook)
    program.facts({})
    program.first()
    program.answer({"id": "command.command", "result": {"rc": 0, "stdout": "s3cret"}})
    program.next()
    return program


def test_debug_says_nothing_that_a_hidden_task_returned(folder: Folder) -> None:
    said = [text for _, text in run(folder, SECRETS).messages]
    assert said == [*["(hidden)"] * 4, "it went well", "(hidden)"]


@pytest.mark.parametrize(
    "task",
    [
        "{fail: {msg: 'got {{ token.stdout }}'}}",
        "{assert: {that: [false], fail_msg: 'got {{ token.stdout }}'}}",
    ],
)
def test_fail_and_assert_say_nothing_of_it_either(folder: Folder, task: str) -> None:
    with pytest.raises(HostctlError) as caught:
        run(folder, SECRETS.replace("{debug: {var: token}}", task))
    assert "s3cret" not in str(caught.value) and "(hidden)" in str(caught.value)


def test_a_result_that_replaces_a_hidden_one_is_shown(folder: Folder) -> None:
    program = folder.program("""\
        - hosts: web
          tasks:
            - {command: token, register: token, no_log: true}
            - {command: date, register: token}
            - {debug: {msg: "{{ token.stdout }}"}}
        """)
    program.facts({})
    program.first()
    program.answer({"id": "command.command", "result": {"stdout": "s3cret"}})
    program.answer({"id": "command.date", "result": {"stdout": "today"}})
    program.next()
    assert [text for _, text in program.messages] == ["today"]
