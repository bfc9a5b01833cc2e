"""What tasks return: registers, verdicts, what waits for them, and what a plan cannot know."""

from __future__ import annotations

from .conftest import First, Folder, ids

REGISTER = """\
- hosts: web
  tasks:
    - {command: whoami, register: who}
    - {command: "echo {{ who.stdout }}", register: again}
    - {file: {path: /last}}
  containers:
    app: {image: a}
"""


def test_a_task_that_needs_a_result_waits_for_it(folder: Folder, resources: First) -> None:
    program = folder.program(REGISTER)
    program.facts({})
    first = program.first()["document"]
    assert ids(first["resources"]) == ["command.whoami"] and first["more"]
    program.answer(
        {"id": "command.whoami", "register": "who", "result": {"stdout": "root", "rc": 0}}
    )
    second = program.next()
    assert ids(second["resources"]) == [
        "command.echo root", "file./last", "boot.hostctl", "image.docker.io/library/a:latest",
            "network.site_default",
        "container.site-app-1",
    ]  # fmt: skip
    assert second["more"] is False


def test_one_name_may_be_registered_twice(folder: Folder) -> None:
    program = folder.program("""\
        - hosts: web
          tasks:
            - {command: one, register: r}
            - {command: "use {{ r.stdout }}"}
            - {command: two, register: r}
            - {command: "use {{ r.stdout }}"}
        """)
    program.facts({})
    assert ids(program.first()["document"]["resources"]) == ["command.one"]
    program.answer({"id": "command.one", "result": {"stdout": "1"}})
    second = program.next()
    assert ids(second["resources"]) == ["command.use 1", "command.two"] and second["more"]
    program.answer({"id": "command.two", "result": {"stdout": "2"}})
    assert ids(program.next()["resources"]) == ["command.use 2"]


def test_a_registered_loop_is_ansibles_map_of_results(folder: Folder) -> None:
    program = folder.program("""\
        - hosts: web
          tasks:
            - {command: "echo {{ item }}", loop: [a, b], register: r}
            - command: "echo {{ r.results | map(attribute='stdout') | join('+') }} {{ r.changed }}"
              loop: "{{ r.results }}"
              when: item.item == 'b'
        """)
    program.facts({})
    program.first()
    program.answer({"id": "command.echo a", "result": {"stdout": "A", "changed": False}})
    program.answer({"id": "command.echo b", "result": {"stdout": "B", "changed": True}})
    found = program.next()["resources"]
    assert [r.get("skip", "") for r in found] == ["when: item.item == 'b'", ""]
    assert found[1]["spec"]["cmd"] == "echo A+B True"


def test_a_skipped_task_registers_that_it_was_skipped(folder: Folder, resources: First) -> None:
    program = folder.program("""\
        - hosts: web
          tasks:
            - {command: a, when: false, register: r}
            - {command: b, when: r is skipped}
            - {command: c, when: not (r is changed)}
        """)
    found = resources(program)
    assert [bool(r.get("skip")) for r in found] == [True, False, False]


def test_verdicts(folder: Folder) -> None:
    program = folder.program("""\
        - hosts: web
          tasks:
            - command: a
              register: r
              changed_when: "'new' in r.stdout"
              failed_when: [r.rc != 0, r.rc != 3]
            - {command: b, changed_when: false}
            - {command: "echo {{ r.changed }}"}
        """)
    program.facts({})
    first = program.first()["document"]["resources"]
    assert [r.get("verdict", False) for r in first] == [True, True]
    frame = {"id": "command.a", "register": "r", "verdict": True}
    frame["result"] = {"stdout": "new", "rc": 3, "changed": False}
    program.answer(frame)
    assert program.verdict(frame) == {
        "type": "verdict", "id": "command.a", "changed": True, "failed": False, "message": "",
    }  # fmt: skip
    constant = {
        "id": "command.b",
        "register": "",
        "verdict": True,
        "result": {"changed": True, "rc": 0},
    }
    program.answer(constant)
    assert program.verdict(constant)["changed"] is False
    assert ids(program.next()["resources"]) == ["command.echo True"]


def test_a_failed_verdict_says_why(folder: Folder) -> None:
    program = folder.program("""\
        - hosts: web
          tasks:
            - {command: a, register: r, failed_when: r.rc == 4}
        """)
    program.facts({})
    program.first()
    frame = {"id": "command.a", "verdict": True, "result": {"rc": 4, "changed": True}}
    program.answer(frame)
    verdict = program.verdict(frame)
    assert (verdict["failed"], verdict["message"]) == (True, "failed_when: r.rc == 4")


UNKNOWN = """\
- hosts: web
  tasks:
    - {command: whoami, register: who}
    - {file: {path: /sure}, when: who.stdout == 'root'}
    - {file: {path: "/{{ who.stdout }}"}}
    - {file: {path: /plain}, when: who is succeeded}
    - {command: "{{ item }}", loop: "{{ who.stdout_lines }}"}
  containers:
    app: {image: a, environment: {WHO: "{{ who.stdout }}"}}
    other: {image: a}
"""


def test_unknown_results_make_what_depends_on_them_uncertain(folder: Folder) -> None:
    program = folder.program(UNKNOWN)
    program.facts({})
    program.first()
    program.answer({"id": "command.whoami", "register": "who", "result": {"unknown": True}})
    found = {r["id"]: r for r in program.next()["resources"]}
    assert found["file./sure"]["maybe"] and "skip" not in found["file./sure"]
    assert found["file./plain"]["maybe"]
    uncertain = [r for r in found.values() if r.get("skip", "").startswith("may change")]
    assert {r["kind"] for r in uncertain} == {"file", "command", "container"}
    assert all(
        r["skip"] == "may change: who is known after apply" and r["maybe"] for r in uncertain
    )
    assert "container.site-other-1" in found


def test_a_result_that_never_came_is_unknown(folder: Folder) -> None:
    program = folder.program(
        "- hosts: web\n  tasks: [{command: a, register: r}, {command: '{{ r.stdout }}'}]\n"
    )
    program.facts({})
    program.first()
    assert program.next()["resources"][0]["skip"] == "may change: r is known after apply"


def test_a_constant_verdict_holds_in_a_plan_and_an_open_one_stays_open(folder: Folder) -> None:
    program = folder.program("""\
        - hosts: web
          tasks:
            - {command: a, register: r, changed_when: false, failed_when: r.rc > 1}
            - {command: b, when: r is changed}
            - {command: c, when: r.rc == 1}
        """)
    program.facts({})
    program.first()
    frame = {"id": "command.a", "register": "r", "verdict": True, "result": {"unknown": True}}
    program.answer(frame)
    verdict = program.verdict(frame)
    assert (verdict["changed"], verdict["failed"]) == (False, False)
    found = {r["id"]: r for r in program.next()["resources"]}
    assert found["command.b"]["skip"] == "when: r is changed"
    assert found["command.c"]["maybe"] and "skip" not in found["command.c"]


OPEN = """\
- hosts: web
  tasks:
    - {command: "echo {{ item }}", loop: [a, b], register: each}
    - {command: list, register: listing}
    - {set_fact: {both: "{{ listing.stdout }}"}}
    - {set_fact: {many: "{{ item }}"}, loop: "{{ listing.stdout_lines }}"}
    - {debug: {var: listing}}
    - {debug: {msg: "{{ item }}"}, loop: "{{ listing.stdout_lines }}"}
    - {debug: {msg: "all of {{ listing }}"}}
    - {debug: {msg: "{{ both | default('x') }}"}}
    - {copy: {dest: "/{{ item }}", content: ""}, name: write, loop: "{{ listing.stdout_lines }}"}
    - {file: {path: "/{{ both }}"}}
    - {file: {path: /a}, when: both == 'x'}
    - {file: {path: /b}, when: each is changed}
    - {file: {path: /c}, when: many is defined}
    - {file: {path: /d}, when: listing is defined}
"""


def test_what_depends_on_unknown_results_stays_open_in_a_plan(folder: Folder) -> None:
    program = folder.program(OPEN)
    program.facts({})
    frame = program.first()["document"]
    found = list(frame["resources"])
    while frame["more"]:
        for one in frame["resources"]:
            program.answer({"id": one["id"], "result": {"unknown": True}})
        frame = program.next()
        found += frame["resources"]
    assert [text for _, text in program.messages] == ["(known after apply)"] * 4
    files = [one for one in found if one["kind"] == "file"]
    assert [one["name"] for one in found if one["kind"] == "copy"] == ["write"]
    assert [one.get("maybe", False) for one in files] == [True, True, True, True, False]
