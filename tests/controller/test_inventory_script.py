"""Inventories that are programs, compared with the real ansible-inventory."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

import pytest
from hostctl_host.contract.errors import HostctlError

from hostctl.inventory import Inventory, load_inventory, script

from .conftest import Folder
from .test_inventory import ansible_inventory  # noqa: F401

LIST = {
    "web": {"hosts": ["web1", "web2"], "vars": {"level": "web", "port": 80}, "children": ["edge"]},
    "edge": ["edge1"],
    "site": {"children": ["web", "later"], "vars": {"level": "site"}},
    "alone": {"ansible_host": "10.0.0.9"},
    "later": {"hosts": []},
}
HOSTS = {
    "web1": {"port": 8080, "tags": ["a", {"b": None}]},
    "edge1": {"ansible_host": "10.0.0.1"},
    "in-no-group": {"x": 1},
}


def program(folder: Folder, body: str, *, name: str = "hosts.py", mode: int = 0o755) -> Path:
    path = folder.file(name, body)
    path.chmod(mode)
    return path


def listing(folder: Folder, *, meta: bool) -> Path:
    """A script that says LIST, and HOSTS with it or one by one; it notes each call."""
    said = {**LIST, "_meta": {"hostvars": HOSTS}} if meta else LIST
    return program(
        folder,
        "#!/usr/bin/env python3\nimport json, sys\n"
        f"open({str(folder.path / 'calls')!r}, 'a').write(' '.join(sys.argv[1:]) + '\\n')\n"
        "if sys.argv[1] == '--list':\n"
        f"    print(json.dumps({said!r}))\n"
        f"elif sys.argv[2] in {HOSTS!r}:\n"
        f"    print(json.dumps({HOSTS!r}[sys.argv[2]]))\n",
    )


def refused(path: Path) -> HostctlError:
    with pytest.raises(HostctlError) as caught:
        load_inventory([path])
    return caught.value


@pytest.mark.parametrize("meta", [True, False])
def test_it_says_what_ansible_inventory_prints(
    folder: Folder,
    ansible_inventory: Path,  # noqa: F811
    meta: bool,
) -> None:
    folder.write(group_vars__site="color: blue\n")
    path = listing(folder, meta=meta)
    ours = load_inventory([path]).as_json()
    calls = (folder.path / "calls").read_text().splitlines()
    each = [f"--host {name}" for name in ("alone", "edge1", "web1", "web2")]
    assert sorted(calls) == sorted(["--list", *([] if meta else each)])
    done = subprocess.run(
        [ansible_inventory, "-i", path, "--list"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": os.environ["PATH"], "HOME": str(folder.path), "LC_ALL": "C.UTF-8"},
    )
    theirs = json.loads(done.stdout, object_hook=lambda one: one.get("__ansible_unsafe", one))
    known = {host: values for host, values in ours["_meta"]["hostvars"].items() if values}
    assert known == {host: v for host, v in theirs["_meta"]["hostvars"].items() if v}
    assert known["web1"]["port"] == 8080 and known["web2"]["color"] == "blue"

    def members(told: dict[str, dict[str, list[str]]]) -> object:
        return {
            name: {key: sorted(found) for key, found in group.items() if found}
            for name, group in told.items()
            if name != "_meta" and any(group.values())
        }

    assert members(ours) == members(theirs)


def test_it_is_one_of_several(folder: Folder) -> None:
    folder.file("inventory/a.ini", "[web]\nweb1 port=1\nweb9\n")
    body = '#!/bin/sh\necho \'{"web": ["web1"], "_meta": {"hostvars": {"web1": {"port": 2}}}}\'\n'
    program(folder, body, name="inventory/b.sh")
    made: Inventory = load_inventory([folder.path / "inventory"])
    assert [host.name for host in made.select("web")] == ["web1", "web9"]
    assert made.hosts["web1"].vars["port"] == 2


def test_a_script_that_may_not_run_has_a_hint(folder: Folder) -> None:
    path = program(folder, "#!/usr/bin/env python3\nprint({})\n", mode=0o644)
    error = refused(path)
    assert error.message == "cannot run the inventory script: it is not executable"
    assert error.hint == f"type: chmod +x {path}"


def test_an_executable_ini_file_is_no_script(folder: Folder) -> None:
    made = load_inventory([program(folder, "[web]\nweb1\n", name="hosts")])
    assert list(made.hosts) == ["web1"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("echo no login >&2; exit 3", "--list` failed (exit code 3): no login"),
        ("kill -9 $$", "--list` failed (killed by signal 9)"),
        ("echo hello", "--list` printed no JSON: "),
        ("true", "--list` printed no JSON: "),
        ("echo '[1]'", "--list` printed no JSON object"),
        ("""echo '{"web": 3}'""", "the group web is neither a map nor a list"),
        ("""echo '{"web": {"hosts": "web1"}}'""", "hosts of the group web is no list"),
        ("""echo '{"a": {"children": ["b"]}, "b": {"children": ["a"]}}'""", "is a loop"),
        ("""echo '{"a": ["h"], "_meta": {"hostvars": {"h": 3}}}'""", "variables of the host h"),
    ],
)
def test_what_it_may_say_wrong(folder: Folder, body: str, message: str) -> None:
    error = refused(program(folder, f"#!/bin/sh\n{body}\n"))
    assert error.message.startswith("cannot read the inventory: ")
    assert message in error.message
    assert error.where.endswith("hosts.py") and error.hint


def test_a_missing_interpreter(folder: Folder) -> None:
    error = refused(program(folder, "#!/no/such/python\n"))
    assert error.message.startswith("cannot run the inventory script: ")
    assert "interpreter" in error.hint


def test_one_that_hangs_is_killed_with_all_that_it_started(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script, "DEADLINE", 0.5)
    pid = folder.path / "pid"
    path = program(folder, f"#!/bin/sh\nsleep 60 & echo $! > {pid}; wait\n")
    begin = time.monotonic()
    error = refused(path)
    assert time.monotonic() - begin < 3
    assert "gave no answer within" in error.message
    for _ in range(100):
        stat = Path(f"/proc/{pid.read_text().strip()}/stat")
        if not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z":
            break
        time.sleep(0.02)
    else:
        raise AssertionError("what it started still runs")
