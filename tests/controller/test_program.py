"""What a host is told: loops, conditions, handlers, facts, variables, tags, batches."""

from __future__ import annotations

from typing import Any

import pytest
from hostctl_host.contract.document import digest, document_from_json
from hostctl_host.contract.errors import HostctlError

from .conftest import First, Folder, ids


def test_loop_makes_one_resource_per_item_with_unique_ids(folder: Folder, resources: First) -> None:
    program = folder.program("""\
        - hosts: web
          tasks:
            - name: make {{ item.name }}
              directory: {path: "/srv/{{ item.name }}"}
              loop: "{{ dirs }}"
            - directory: {path: /srv/a}
          vars: {dirs: [{name: a}, {name: b}]}
        """)
    found = resources(program)
    assert ids(found) == ["directory./srv/a", "directory./srv/b", "directory./srv/a#2"]
    assert found[0]["name"] == "make a (item={'name': 'a'})"
    assert found[1]["where"] == "site.yml:3:7"


def test_loop_control(folder: Folder, resources: First) -> None:
    program = folder.program("""\
        - hosts: web
          tasks:
            - command: "echo {{ i }} {{ who }}"
              name: greet
              loop: [x, y]
              loop_control: {loop_var: who, index_var: i, label: "n{{ i }}"}
        """)
    found = resources(program)
    assert [r["spec"]["cmd"] for r in found] == ["echo 0 x", "echo 1 y"]
    assert [r["name"] for r in found] == ["greet (item=n0)", "greet (item=n1)"]


def test_a_loop_without_a_name_is_called_by_its_kind(folder: Folder, resources: First) -> None:
    program = folder.program("""\
        - hosts: web
          tasks:
            - directory: {path: "/srv/{{ item }}"}
              loop: [a, b]
            - directory: {path: /srv/c}
        """)
    names = [one.get("name", "") for one in resources(program)]
    assert names == ["directory (item=a)", "directory (item=b)", ""]


def test_when_false_is_a_skipped_resource_and_its_arguments_may_be_undefined(
    folder: Folder, resources: First
) -> None:
    program = folder.program("""\
        - hosts: web
          tasks:
            - file: {path: "/{{ nope }}"}
              when: nope is defined
            - file: {path: /a}
              when: [true, "inventory_hostname == 'web2'"]
            - file: {path: /b}
              when: color == 'red'
        """)
    found = resources(program)
    assert [r.get("skip", "") for r in found] == [
        "when: nope is defined",
        "when: inventory_hostname == 'web2'",
        "",
    ]
    assert found[1]["id"] == "file./a"


def test_handlers_and_notify_by_name_and_topic(folder: Folder, resources: First) -> None:
    program = folder.program("""\
        - hosts: web
          tasks:
            - {command: a, notify: [One, topic]}
          handlers:
            - {name: One, command: echo 1}
            - {name: Two, command: "echo {{ color }}", listen: topic}
        """)
    program.facts({})
    document = program.first()["document"]
    assert document["resources"][0]["notify"] == ["One", "Two"]
    assert [(h["id"], h["spec"]["cmd"]) for h in document["handlers"]] == [
        ("handler.One", "echo 1"),
        ("handler.Two", "echo red"),
    ]


def test_facts_are_waited_for_and_then_sent_with_the_first_document(
    folder: Folder, resources: First
) -> None:
    program = folder.program("""\
        - hosts: web
          tasks:
            - {command: "echo {{ ansible_distribution }} {{ ansible_facts.kernel }}"}
            - {command: never, when: ansible_os_family == 'RedHat'}
        """)
    found = resources(program, {"distribution": "Debian", "kernel": "6.1", "os_family": "Debian"})
    assert found[0]["spec"]["cmd"] == "echo Debian 6.1"
    assert found[1]["skip"] == "when: ansible_os_family == 'RedHat'"


def test_a_missing_fact_is_an_error_of_that_host(folder: Folder) -> None:
    program = folder.program("- hosts: web\n  tasks: [{command: '{{ ansible_moon_phase }}'}]\n")
    program.facts({})
    with pytest.raises(HostctlError, match="ansible_moon_phase is undefined"):
        program.first()


def test_set_fact_assert_and_debug(folder: Folder, resources: First) -> None:
    program = folder.program("""\
        - hosts: web
          tasks:
            - set_fact: {greeting: "hi {{ color }}"}
            - debug: {var: greeting}
            - assert: {that: ["greeting == 'hi red'"]}
            - command: echo {{ greeting }}
        """)
    found = resources(program)
    assert ids(found) == ["command.echo hi red"]
    assert program.messages == [("debug", "greeting: hi red")]


def test_a_false_assertion_stops_the_host(folder: Folder) -> None:
    program = folder.program(
        "- hosts: web\n  tasks: [{assert: {that: color == 'blue', fail_msg: not blue}}]\n"
    )
    program.facts({})
    with pytest.raises(HostctlError, match="cannot go on: not blue"):
        program.first()


def test_precedence_of_play_task_and_extra_variables(folder: Folder, resources: First) -> None:
    folder.file("extra.yml", "b: file\nc: file\nd: file\n")
    program = folder.program(
        """\
        - hosts: web
          vars: {a: play, b: play, c: play, d: play}
          vars_files: [extra.yml]
          tasks:
            - {command: "echo {{ color }} {{ a }} {{ b }} {{ c }} {{ d }}", vars: {c: task, d: task}}
        """,
        extra_vars={"d": "extra"},
    )
    assert resources(program)[0]["spec"]["cmd"] == "echo red play file task extra"


def test_hostvars_and_groups(folder: Folder, resources: First) -> None:
    program = folder.program("""\
        - hosts: web
          tasks:
            - {command: "echo {{ hostvars['web1'].color }} {{ groups.db | join }} {{ group_names | join }}"}
        """)
    assert resources(program)[0]["spec"]["cmd"] == "echo red db1 web"


def test_content_travels_by_digest(folder: Folder) -> None:
    folder.file("files/a.bin", b"\x00\xff")
    folder.file("templates/t.j2", "{{ color }}\n")
    program = folder.program("""\
        - hosts: web
          tasks:
            - copy: {dest: /a/, src: a.bin}
            - template: {dest: /t, src: t.j2}
            - copy: {dest: /c, content: "x\\n"}
        """)
    program.facts({})
    document = program.first()["document"]
    blobs = [b"\x00\xff", b"red\n", b"x\n"]
    assert document["content"] == {digest(data): len(data) for data in blobs}
    assert [program.blob(digest(data)) for data in blobs] == blobs
    specs = [r["spec"] for r in document["resources"]]
    assert specs[0] == {"dest": "/a/a.bin", "digest": digest(blobs[0])}
    assert not any("src" in spec or "content" in spec for spec in specs)


def test_tags(folder: Folder, resources: First) -> None:
    playbook = """\
        - hosts: web
          tasks:
            - {command: a, tags: x}
            - {command: b, tags: [y, z]}
            - {command: c}
            - {command: d, tags: always}
            - {command: e, tags: never}
          containers: {app: {image: i}}
        """

    def chosen(**options: Any) -> str:
        program = folder.program(playbook, **options)
        return "".join(r["spec"]["cmd"] for r in resources(program) if r["kind"] == "command")

    assert chosen() == "abcd"
    assert chosen(tags=["x,z"]) == "abd"
    assert chosen(skip_tags=["x"]) == "bcd"
    assert chosen(tags=["never"]) == "de"
    assert chosen(tags=["untagged"]) == "cd"
    limited = folder.program(playbook, tags=["x"])
    limited.facts({})
    document = document_from_json(limited.first()["document"])
    assert document.partial and not any(r.kind == "container" for r in document.resources)


@pytest.mark.parametrize(
    ("serial", "expected"), [("1", [1, 1, 1]), ("50%", [1, 1, 1]), ("[1, 2]", [1, 2]), ("10", [3])]
)
def test_serial(folder: Folder, serial: str, expected: list[int]) -> None:
    play = folder.compile(f"- hosts: all\n  serial: {serial}\n").plays[0]
    assert [len(batch) for batch in play.batches] == expected


def test_limit_and_become(folder: Folder) -> None:
    program = folder.compile(
        "- hosts: all\n  tasks: [{command: a, become: true}]\n", limit="web:!web2"
    )
    assert [host.name for host in program.hosts] == ["web1"]
    assert program.plays[0].programs["web1"].become
    assert program.plays[0].batches[0][0].name == "web1"


def test_connection_variables_are_rendered(folder: Folder) -> None:
    inventory = folder.inventory(
        "all: {hosts: {a: {net: 10.0.0, ansible_host: '{{ net }}.1', ansible_port: 22}}}\n"
    )
    program = folder.program("- hosts: a\n  remote_user: joe\n", "a", inventory=inventory)
    assert program.connection == {
        "ansible_host": "10.0.0.1",
        "ansible_port": 22,
        "ansible_user": "joe",
    }


def test_omit_leaves_a_key_out(folder: Folder, resources: First) -> None:
    program = folder.program(
        "- hosts: web\n  tasks: [{file: {path: /a, owner: '{{ nobody | default(omit) }}', group: g}}]\n"
    )
    assert resources(program)[0]["spec"] == {"path": "/a", "group": "g"}


def test_a_users_own_kind(folder: Folder, resources: First) -> None:
    folder.file(
        "modules/greeting.py",
        "from __future__ import annotations\nfrom dataclasses import dataclass\n"
        "from .contract.fields import SIZE\nfrom typing import Annotated\n\n"
        "@dataclass(frozen=True)\nclass Spec:\n    name: str\n    room: Annotated[int, SIZE] = 0\n",
    )
    compiled = folder.compile("- hosts: web\n  tasks: [{greeting: {name: hi, room: 2k}}]\n")
    assert list(compiled.modules) == ["greeting"]
    found = resources(compiled.plays[0].programs["web1"])
    assert (found[0]["id"], found[0]["spec"]) == ("greeting.hi", {"name": "hi", "room": 2048})


def test_two_plays_of_one_project_make_no_orphans_of_each_other(folder: Folder) -> None:
    compiled = folder.compile(
        "- {hosts: web, prune: true, tasks: [{command: a, notify: h}],"
        " handlers: [{name: h, command: h}]}\n"
        "- {hosts: all, tasks: [{command: a}]}\n"
    )
    first, second = (play.programs["web1"] for play in compiled.plays)
    first.facts({})
    second.facts({})
    documents = [program.document() for program in (first, second)]
    assert [document.partial for document in documents] == [True, False]
    assert [document.also for document in documents] == [(), ("command.a", "handler.h")]
    assert documents[1].prune
    assert [r.id for document in documents for r in document.resources] == [
        "command.a",
        "command.a#2",
    ]
    alone = compiled.plays[1].programs["db1"]
    alone.facts({})
    document = alone.document()
    assert (document.partial, document.also, document.prune) == (False, (), False)


def test_localhost_is_this_machine_where_the_inventory_has_none(folder: Folder) -> None:
    compiled = folder.compile(
        "- hosts: localhost\n  tasks: [{command: 'echo {{ inventory_hostname }}'}]\n"
    )
    program = compiled.plays[0].programs["localhost"]
    assert program.connection["ansible_connection"] == "local"
    assert "localhost" not in compiled.plays[0].play.vars


def test_environment_of_a_play_reaches_commands_and_no_container(
    folder: Folder, resources: First
) -> None:
    program = folder.program("""\
        - hosts: web
          environment: {PROXY: a, MODE: "{{ color }}"}
          tasks:
            - {command: a, environment: {PROXY: b}}
          containers:
            web: {image: nginx}
        """)
    found = {one["kind"]: one["spec"] for one in resources(program)}
    assert found["command"]["environment"] == {"PROXY": "b", "MODE": "red"}
    assert "environment" not in found["container"]


def test_environment_of_a_play_that_nothing_uses_is_no_silent_nothing(folder: Folder) -> None:
    assert folder.errors("""\
        - hosts: web
          environment: {http_proxy: "http://proxy:3128"}
          tasks:
            - package: {name: nginx}
            - file: {path: /a}
        """) == [
        "site.yml:2:16 (environment): not supported yet: environment of a play without command tasks"
        " | containers have an environment of their own; no other kind runs a program of yours"
    ]


@pytest.mark.parametrize("check_mode", [True, False])
def test_check_mode_is_a_variable(folder: Folder, resources: First, check_mode: bool) -> None:
    program = folder.program(
        "- {hosts: web, tasks: [{file: {path: /a}, when: ansible_check_mode}]}",
        check_mode=check_mode,
    )
    assert [one.get("skip", "") for one in resources(program)] == [
        "" if check_mode else "when: ansible_check_mode"
    ]


def test_several_plays_limited_by_tags_stay_a_part(folder: Folder) -> None:
    compiled = folder.compile(
        "- {hosts: web, tags: [x], tasks: [{command: a}]}\n"
        "- {hosts: web, tags: [x], tasks: [{command: b}]}\n",
        tags=["x"],
    )
    for play in compiled.plays:
        program = play.programs["web1"]
        program.facts({})
        assert program.document().partial
