"""Bad input: every message is pinned, with its place and its hint."""

from __future__ import annotations

import pytest
from hostctl_host.contract.errors import HostctlError
from hypothesis import given
from hypothesis import strategies as st

from hostctl.playbook.errors import PlaybookErrors

from .conftest import Folder

HEAD = "- hosts: web\n  tasks:\n"


@pytest.mark.parametrize(
    ("playbook", "expected"),
    [
        pytest.param(
            "- hosts: web\n  vars: {a: b: c}\n",
            "site.yml:2:14: cannot read the YAML: did not find expected ',' or '}'",
            id="syntax",
        ),
        pytest.param(
            "- hosts: web\n  name: a: b\n",
            "site.yml:2:10: cannot read the YAML: mapping values are not allowed in this context"
            " | put quotes around a value that contains `: `, and check the indentation",
            id="colon",
        ),
        pytest.param(
            "- hosts: web\n\ttasks: []\n",
            "site.yml:2:1: cannot read the YAML: found a tab character that violates indentation"
            " | indent with spaces: YAML forbids tabs",
            id="tab",
        ),
        pytest.param(
            HEAD + "  - copy: {dest: {{ path }}, content: x}\n",
            "site.yml:3:19: cannot read the YAML: a key must be a plain value"
            ' | put quotes around a value that starts with {{: "{{ name }}"',
            id="unquoted-template",
        ),
        pytest.param(
            HEAD + "  - file: {path: /a, path: /b}\n",
            "site.yml:3:22 ([0].tasks[0].file.path): cannot use the key 'path' twice in one map"
            " | the first one is at line 3; keep one of them",
            id="duplicate-key",
        ),
        pytest.param(
            "hosts: web\n",
            "site.yml:1:1: cannot use the playbook: it is one map, not a list of plays"
            " | begin the play with `- hosts:`",
            id="no-list",
        ),
        pytest.param(
            "services: {web: {image: x}}\n",
            "site.yml:1:1: cannot use the playbook: it is one map, not a list of plays"
            " | a Compose file's services go into a play: `- hosts: all`, then `containers:`",
            id="compose-file",
        ),
        pytest.param("", "site.yml: cannot use the playbook: it is empty", id="empty"),
        pytest.param(
            "- hosts: web\n  taks: []\n",
            "site.yml:2:3 (taks): cannot use the key 'taks' in a play | did you mean tasks?",
            id="play-key",
        ),
        pytest.param(
            "- hosts: web\n  copy: {dest: /a}\n",
            "site.yml:2:3 (copy): cannot use the key 'copy' in a play | a task goes into `tasks:` of a play",
            id="task-as-play",
        ),
        pytest.param(
            "- hosts: web\n  roles: [a]\n",
            "site.yml:2:3 (roles): not supported yet: roles | "
            "write the role's tasks, handlers and vars into the play",
            id="roles",
        ),
        pytest.param(
            HEAD + "  - fil: {path: /a}\n",
            "site.yml:3:5 (tasks[0].fil): cannot use 'fil': neither a kind nor a key of a task"
            " | did you mean file?",
            id="task-key",
        ),
        pytest.param(
            HEAD + "  - apt: {name: a}\n",
            "site.yml:3:5 (tasks[0].apt): not supported yet: apt | use package",
            id="apt",
        ),
        pytest.param(
            HEAD + "  - block: []\n",
            "site.yml:3:5 (tasks[0].block): not supported yet: block | "
            "write its tasks one after another, each with the block's `when`, `become` and `vars`",
            id="block",
        ),
        pytest.param(
            HEAD + "  - command: ls\n    delegate_to: db\n",
            "site.yml:4:5 (tasks[0].delegate_to): not supported yet: delegate_to | "
            "make a play of its own with that host in `hosts:`",
            id="delegate_to",
        ),
        pytest.param(
            HEAD + "  - ansible.builtin.include_tasks: more.yml\n",
            "site.yml:3:5 (tasks[0].ansible.builtin.include_tasks): not supported yet: "
            "ansible.builtin.include_tasks | write its tasks into this playbook",
            id="include_tasks",
        ),
        pytest.param(
            HEAD + "  - file: {path: /a}\n    copy: {dest: /a}\n",
            "site.yml:4:5 (tasks[0].copy): cannot tell what the task does: it names file and copy"
            " | make two tasks of it",
            id="two-kinds",
        ),
        pytest.param(
            HEAD + "  - file: {path: /a, ovner: root}\n",
            "site.yml:3:22 (tasks[0].file.ovner): cannot use the key 'ovner' in file | did you mean owner?",
            id="unknown-key",
        ),
        pytest.param(
            HEAD + "  - file: {path: /a, state: absnt}\n",
            "site.yml:3:29 (tasks[0].file.state): cannot use 'absnt' for state: it is one of"
            " file, touch, directory, link, hard, absent | did you mean absent?",
            id="choice",
        ),
        pytest.param(
            HEAD + "  - group: {name: a, gid: many}\n",
            "site.yml:3:27 (tasks[0].group.gid): cannot use 'many' for gid: it is a whole number",
            id="wrong-type",
        ),
        pytest.param(
            HEAD + "  - file: {path: /a, mode: 644}\n",
            "site.yml:3:28 (tasks[0].file.mode): cannot use mode: a mode is written as a string of"
            " octal digits, such as '0644'",
            id="mode-number",
        ),
        pytest.param(
            HEAD + "  - file: {state: absent}\n",
            "site.yml:3:11 (tasks[0].file): cannot use file: path is missing",
            id="missing-key",
        ),
        pytest.param(
            HEAD + "  - file: {path: '/{{ colr }}'}\n",
            "site.yml:3:18 (tasks[0].file.path): cannot render: the variable colr is undefined"
            " | did you mean color?",
            id="undefined",
        ),
        pytest.param(
            HEAD + "  - file: {path: '/{{ color'}\n",
            "site.yml:3:18 (tasks[0].file.path): cannot read the template: unexpected end of template,"
            " expected 'end of print statement'.",
            id="template-syntax",
        ),
        pytest.param(
            HEAD + "  - command: echo\n    when: colr == 'red'\n",
            "site.yml:4:11 (tasks[0].when): cannot render: the variable colr is undefined"
            " | did you mean color?",
            id="when-undefined",
        ),
        pytest.param(
            HEAD + "  - command: echo\n    loop: {a: 1}\n",
            "site.yml:4:11 (tasks[0].loop): cannot loop over a map | use the filter dict2items",
            id="loop-map",
        ),
        pytest.param(
            HEAD
            + "  - command: echo\n    notify: Relod\n  handlers:\n  - name: Reload\n    command: echo\n",
            "site.yml:4:13 (tasks[0].notify): cannot notify Relod: there is no such handler"
            " | did you mean Reload?",
            id="handler",
        ),
        pytest.param(
            HEAD + "  - template: {src: nope.j2, dest: /a}\n",
            "site.yml:3:21 (tasks[0].template.src): cannot find nope.j2"
            " | looked in templates and .",
            id="no-template",
        ),
        pytest.param(
            HEAD + "  - copy: {dest: /a}\n",
            "site.yml:3:11 (tasks[0].copy): cannot use copy: it has neither src nor content",
            id="copy-without-source",
        ),
        pytest.param(
            "- hosts: wbe\n",
            "site.yml:1:10 (hosts): cannot find wbe: neither a host nor a group of the inventory"
            " | did you mean web?",
            id="hosts",
        ),
        pytest.param(
            "- hosts: web\n  become_user: www\n",
            "site.yml:2:16 (become_user): not supported yet: become_user www",
            id="become-user",
        ),
    ],
)
def test_a_playbook_error(folder: Folder, playbook: str, expected: str) -> None:
    inventory = folder.inventory(
        "all:\n  vars: {color: red}\n  children: {web: {hosts: {web1: , web2: }}}\n"
    )
    assert folder.errors(playbook, inventory=inventory) == [expected]


@pytest.mark.parametrize(
    ("service", "expected"),
    [
        pytest.param(
            "{image: a, helthcheck: {}}",
            "site.yml:3:26 (containers.web.helthcheck): cannot use the key 'helthcheck' in container",
            id="unknown",
        ),
        pytest.param(
            "{image: a, develop: {}}",
            "site.yml:3:26 (containers.web.develop): not supported yet: develop",
            id="compose-key",
        ),
        pytest.param(
            "{}", "site.yml:3:15 (containers.web): cannot use the container web: image is missing"
        ),
        pytest.param(
            "{image: a, ports: ['80:x']}",
            "site.yml:3:34 (containers.web.ports[0]): cannot use ports[0]: '80:x' is no port; write it"
            ' like "8080:80" or "127.0.0.1:53:53/udp"',
        ),
        pytest.param(
            "{image: a, mem_limit: lots}",
            "site.yml:3:37 (containers.web.mem_limit): cannot use mem_limit: 'lots' is no size; write a"
            " number with b, k, m or g, such as 128m",
        ),
        pytest.param(
            "{image: a, restart: sometimes}",
            "site.yml:3:35 (containers.web.restart): cannot use restart: 'sometimes' is no restart policy;"
            " no, always, unless-stopped, on-failure or on-failure:N",
        ),
        pytest.param(
            "{image: a, volumes: ['dat:/x']}",
            "site.yml:3:36 (containers.web.volumes[0]): cannot find the volume dat: it is not declared in"
            " volumes | did you mean data?",
        ),
        pytest.param(
            "{image: a, networks: [bakc]}",
            "site.yml:3:37 (containers.web.networks[0]): cannot find the network bakc: it is not declared in"
            " networks | did you mean back?",
        ),
        pytest.param(
            "{image: a, depends_on: [wbe]}",
            "site.yml:3:38 (containers.web.depends_on.wbe): cannot find the container wbe: it is not declared"
            " in containers | did you mean web?",
        ),
        pytest.param(
            "{image: a, depends_on: [web]}",
            "site.yml:3:38 (containers.web.depends_on): cannot order the containers: web -> web is a circle",
        ),
        pytest.param(
            "{image: a, depends_on: {web: {condition: healthy}}}",
            "site.yml:3:56 (containers.web.depends_on.web.condition): cannot use depends_on.web.condition:"
            " 'healthy' is no condition; service_started, service_healthy, service_completed_successfully",
        ),
        pytest.param(
            "{image: a, environment: {A: '${HOME}'}}",
            "site.yml:3:43 (containers.web.environment.A): cannot use ${HOME} here: playbooks have Jinja only,"
            " `$` is an ordinary character | write {{ home }} or {{ lookup('env', 'HOME') }};"
            " for a literal ${ write {{ '${' }}",
        ),
        pytest.param(
            "{image: a, network_mode: host, networks: [back]}",
            "site.yml:3:56 (containers.web.networks): cannot use networks together with network_mode host",
        ),
        pytest.param(
            "{image: a, container_name: x, deploy: {replicas: 2}}",
            "site.yml:3:42 (containers.web.container_name): cannot make 2 replicas of web: container_name allows one",
        ),
        pytest.param(
            "{image: a, ports: ['8080:80'], deploy: {replicas: 2}}",
            "site.yml:3:34 (containers.web.ports[0]): cannot publish port 8080 of 2 replicas of web: only one of"
            ' them can have it | write a range such as "8080-8081:80", or "80" for free ports',
        ),
        pytest.param(
            "{image: a, deploy: {replicas: 2, placement: {}}}",
            "site.yml:3:48 (containers.web.deploy.placement): not supported yet: deploy.placement",
        ),
        pytest.param(
            "{image: a, volumes: ['./x:/x']}",
            "site.yml:3:36 (containers.web.volumes[0]): cannot bind ./x: a relative path means this machine, and"
            " the host is another one | copy the files with a copy task and bind their absolute path on the host",
        ),
        pytest.param(
            "{image: a, command: 'echo \"'}",
            "site.yml:3:35 (containers.web.command): cannot use command: 'echo \"' cannot be split:"
            " no closing quotation",
        ),
    ],
)
def test_a_service_error(folder: Folder, service: str, expected: str) -> None:
    playbook = f"- hosts: web\n  containers:\n    web:      {service}\n  networks: {{back: }}\n  volumes: {{data: }}\n"
    found = folder.errors(playbook)
    assert found[0].startswith(expected) if "helthcheck" in service else found == [expected]


def test_all_errors_of_a_playbook_at_once(folder: Folder) -> None:
    playbook = """\
    - hosts: web
      become_usr: root
      tasks:
        - file: {path: /a, ovner: x}
        - command: echo {{ nope }}
        - file: {path: relative}
      containers:
        a: {image: x, ports: ["80:80"], networks: [front]}
        b: {image: x, ports: ["80:81"]}
    """
    assert [line.split(" | ")[0] for line in folder.errors(playbook)] == [
        "site.yml:2:3 (become_usr): cannot use the key 'become_usr' in a play",
        "site.yml:4:24 (tasks[0].file.ovner): cannot use the key 'ovner' in file",
        "site.yml:5:16 (tasks[1].command.cmd): cannot render: the variable nope is undefined",
        "site.yml:6:20 (tasks[2].file.path): cannot use path: 'relative' is not absolute;"
        " paths on a host start with /",
        "site.yml:8:48 (containers.a.networks[0]): cannot find the network front: it is not declared in networks",
        "site.yml:9:27 (containers.b.ports[0]): cannot publish port 80/tcp twice: site-a-1 (site.yml:8:27)"
        " and site-b-1 both take it",
    ]


def test_undefined_in_a_template_file_names_file_and_line(folder: Folder) -> None:
    folder.file("templates/a.j2", "one\n{% for x in [1] %}\n{{ x }} {{ nme }}\n{% endfor %}\n")
    found = folder.errors(HEAD + "  - template: {src: a.j2, dest: /a}\n  vars: {name: 1}\n")
    assert found == [
        "templates/a.j2:3: cannot render: the variable nme is undefined | did you mean name?"
    ]


def test_undefined_inside_a_variable_names_where_the_variable_is(folder: Folder) -> None:
    folder.file("group_vars/all.yml", "a: '{{ b }}'\nb: '{{ c_missing }}'\n")
    found = folder.errors(HEAD + "  - command: echo {{ a }}\n")
    assert found == [
        "group_vars/all.yml:2:4 (b): cannot render: the variable c_missing is undefined"
        " | define it in vars, or write {{ c_missing | default(...) }}"
    ]


def test_an_error_of_some_hosts_names_them(folder: Folder) -> None:
    folder.file("host_vars/web1.yml", "own: 1\n")
    found = folder.errors(HEAD + "  - command: echo {{ own }}\n")
    assert found[0].startswith(
        "site.yml:3:14 (tasks[0].command.cmd): cannot render: the variable own is undefined (on web2)"
    )


def test_unknown_host_in_limit(folder: Folder) -> None:
    found = folder.errors("- hosts: web\n", limit="wbe1")
    assert found == [
        "--limit: cannot find wbe1: neither a host nor a group of the inventory | did you mean web1?"
    ]


def test_errors_render_as_a_list(folder: Folder) -> None:
    with pytest.raises(PlaybookErrors) as caught:
        folder.compile("- hosts: web\n  taks: []\n  serail: 1\n")
    assert str(caught.value) == (
        "cannot use what is written: 2 errors\n"
        "site.yml:2:3 (taks): cannot use the key 'taks' in a play\n  did you mean tasks?\n"
        "site.yml:3:3 (serail): cannot use the key 'serail' in a play\n  did you mean serial?"
    )


_KEYS = """
    hosts tasks vars command file path loop when register notify containers image ports volumes
    networks images deploy environment name tags serial handlers copy
"""
_junk = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from(["a", "{{ x }}", "{{", "/a", "80:80"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(_KEYS.split()), inner, max_size=4)
    ),
    max_leaves=14,
)


@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(["hosts", "tasks", "vars", "containers", "images", "handlers"]), _junk
        )
    )
)
def test_no_playbook_is_a_crash(value: object) -> None:
    import os
    import tempfile
    from pathlib import Path

    import yaml

    from hostctl.desired import compile_playbook
    from hostctl.inventory import Inventory

    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "p.yml"
        path.write_text(yaml.safe_dump(value))
        try:
            compile_playbook(path, Inventory.local())
        except PlaybookErrors as errors:
            assert all(error.message for error in errors.errors)
        except HostctlError as error:  # pragma: no cover
            raise AssertionError(f"not collected: {error}") from error
        assert os.path.exists(path)
