"""The entry point: version before imports, errors printed once, exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from hostctl_host.contract.errors import HostctlError

from hostctl import __version__
from hostctl.cli import VERBS


def loaded_by(*args: str) -> set[str]:
    """Modules that a run of hostctl has loaded."""
    code = (
        "import sys; from hostctl.__main__ import run; run(sys.argv[1:]);"
        "sys.stderr.write(' '.join(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *args], capture_output=True, text=True, check=True
    )
    return set(done.stderr.split())


def test_version(hostctl):
    assert hostctl("--version").out == f"hostctl {__version__}\n"
    assert hostctl("version").out == f"hostctl {__version__}\n"
    assert json.loads(hostctl("version", "--json").out)["version"] == __version__


def test_version_loads_next_to_nothing():
    heavy = {"click", "pydantic", "jinja2", "yaml", "paramiko", "rich", "json", "dataclasses"}
    assert not loaded_by("--version") & heavy


def test_a_verb_loads_no_other_verb():
    loaded = loaded_by("version", "--json")
    assert "hostctl.cli.version" in loaded
    assert not loaded & {f"hostctl.cli.{verb}" for verb in VERBS if verb != "version"}


def test_every_verb_explains_itself(hostctl):
    help_text = hostctl("--help").out
    for verb in VERBS:
        assert verb in help_text
        ended = hostctl(verb, "--help")
        assert ended.code == 0
        assert ended.out.startswith(f"Usage: hostctl {verb}")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["plan"], "Missing argument 'PLAYBOOK'"),
        (["frobnicate"], "No such command 'frobnicate'"),
        (["up"], "No such command 'up'. Instead: hostctl apply PLAYBOOK; "),
        (["up", "-d"], "No such command 'up'. Instead: hostctl apply PLAYBOOK; "),
        (["down", "-v"], "Instead: hostctl destroy PLAYBOOK; with --volumes"),
        (
            ["run", "--rm", "redis"],
            "declare it under `containers:` of a playbook, then hostctl apply",
        ),
        (
            ["apply", "--check", "site.yml"],
            "No such option '--check'. Instead: hostctl plan PLAYBOOK",
        ),
        (["apply", "-C", "site.yml"], "No such option '-C'. Instead: hostctl plan PLAYBOOK"),
        (["apply", "--become", "site.yml"], "Instead: write `become: true` into the play"),
        (["ps", "-q"], "No such option '-q'. Instead: --json has everything"),
        (["-i", "hosts.yml", "plan", "site.yml"], "options follow the verb: hostctl plan -i ..."),
        (["exec", "--detach", "a", "ls"], "Instead: leave it out"),
        (["aply", "site.yml"], "Did you mean 'apply'?"),
        (["plan", "site.yml", "--frob"], "No such option"),
    ],
)
def test_a_wrong_command_line_exits_1_because_2_means_changes(hostctl, args, message):
    ended = hostctl(*args)
    assert ended.code == 1
    assert message in ended.err
    assert ended.out == ""


def test_an_error_is_printed_once_on_stderr(hostctl, monkeypatch):
    def fail(*args, **kwargs):
        raise HostctlError("cannot go there", where="web1", hint="go elsewhere", ref="there")

    monkeypatch.setattr("hostctl.inventory.load_inventory", fail)
    ended = hostctl("inventory")
    assert (ended.code, ended.out) == (1, "")
    assert ended.err == "Error: cannot go there\n  at web1\n  hint: go elsewhere\n"
    as_json = hostctl("inventory", "--json")
    assert as_json.code == 1
    assert json.loads(as_json.out)["errors"][0]["ref"] == "there"


def test_a_fault_of_hostctl_is_one_line_without_debug(hostctl, monkeypatch):
    def fail(*args, **kwargs):
        raise ZeroDivisionError("oh")

    monkeypatch.setattr("hostctl.inventory.load_inventory", fail)
    ended = hostctl("inventory")
    assert ended.code == 1
    assert ended.err.startswith("Error: cannot go on: ZeroDivisionError: oh\n  hint: ")
    with pytest.raises(ZeroDivisionError):
        hostctl("inventory", "--debug")


def test_an_interrupt_exits_130(hostctl, monkeypatch):
    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("hostctl.inventory.load_inventory", stop)
    assert hostctl("inventory").code == 130


def test_a_reader_that_goes_away_is_no_error(tmp_path):
    reader, writer = os.pipe()
    os.close(reader)
    code = "from hostctl.__main__ import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "inventory", "--list"],
        stdout=writer,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
        check=False,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, b"")


def test_shell_completion(tmp_path):
    env = {**os.environ, "_HOSTCTL_COMPLETE": "bash_complete", "COMP_WORDS": "hostctl ap"}
    done = subprocess.run(
        [sys.executable, "-c", "from hostctl.__main__ import main; main()"],
        env={**env, "COMP_CWORD": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "plain,apply\n"


@pytest.mark.parametrize("args", [["--version"], ["ps", "--help"]])
def test_a_full_disk_is_said(args: list[str]) -> None:
    argv = [sys.executable, "-m", "hostctl", *args]
    with open("/dev/full", "wb") as full:
        done = subprocess.run(argv, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "Error: cannot write any more: the disk is full\n"
