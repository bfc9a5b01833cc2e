"""The OCI command line's words: options, help, errors, what `spec` and `features` print, and the wrapper."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys

import pytest

from tests.runtime.command import Command

pytestmark = pytest.mark.root


def test_what_is_wrong_is_one_line_on_stderr_and_in_the_log(oci: Command) -> None:
    log = oci.folder / "log"
    bundle = oci.bundle("a", "no-such-program")
    for form in ("text", "json"):
        said = oci(
            *("--log", str(log), "--log-format", form),
            *("create", "-b", str(bundle.folder), "a"),
            code=1,
        )
        assert said.count("\n") == 1
        assert "executable file not found in $PATH" in said  # what podman and containerd look for
    text, line = log.read_text().splitlines()
    assert text.startswith('time="20')
    assert 'level=error msg="cannot run no-such-program' in text
    entry = json.loads(line)
    assert sorted(entry) == ["level", "msg", "time"]
    assert entry["level"] == "error"
    assert entry["msg"].startswith("cannot run no-such-program")
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    assert not list(oci.root.iterdir())


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["nonsense"], "no verb nonsense"),
        (["--nonsense", "list"], "no option --nonsense"),
        (["list", "--nonsense"], "no option --nonsense"),
        (["state"], "exactly one container ID"),
        (["create", "-b"], "-b needs a value"),
        (["list", "-f", "xml"], "table or json"),
        (["update", "--memory", "much", "none"], "does not exist"),
        (["delete", "none"], "does not exist"),
        (["exec", "none", "true"], "does not exist"),
        (["--systemd-cgroup", "list", "--x=1"], "no option --x"),
    ],
)
def test_a_wrong_command_line(oci: Command, words: list[str], reason: str) -> None:
    assert reason in oci(*words, code=1)


def test_debug_says_what_is_done_and_no_secret(oci: Command) -> None:
    oci.started("a", "sleep", "100")
    log = oci.folder / "log"
    words = ("exec", "-e", "PASSWORD=hunter2", "a", "echo", "-n")
    process = oci.popen("--debug", *words, stderr=subprocess.PIPE)
    said = process.communicate(timeout=10)[1]
    assert 'level=debug msg="exec a"' in said
    oci("--debug", "--log", str(log), *words)
    assert 'level=debug msg="exec a"' in log.read_text()
    assert "hunter2" not in said + log.read_text()


def test_help_and_version_name_everything(oci: Command) -> None:
    whole = oci("--help")
    for verb in ("create", "start", "state", "kill", "delete", "exec", "features", "--root"):
        assert verb in whole
    assert "--preserve-fds" in oci("exec", "--help")
    assert "spec: 1.2.0" in oci("-v")


def test_the_hosts_interpreter_cannot_be_reached_through_the_wrapper(oci: Command) -> None:
    path = oci.folder / "hostctl-runtime"
    oci("wrapper", str(path))
    bundle = oci.bundle("a", "sh", "-c", "sleep 100")
    words = [str(path), "--root", str(oci.root), "create", "-b", str(bundle.folder), "a"]
    quiet = subprocess.DEVNULL
    subprocess.run(words, stdin=quiet, stdout=quiet, stderr=quiet, check=True)
    executable = f"/proc/{oci.state('a')['pid']}/exe"
    assert os.statvfs(executable).f_flag & os.ST_RDONLY


def test_the_wrapper_is_the_same_command_line(oci: Command) -> None:
    path = oci.folder / "hostctl-runtime"
    oci("wrapper", str(path))
    assert stat.S_IMODE(path.stat().st_mode) == 0o755
    ran = subprocess.run(
        [path, "--root", oci.root, "--version"],
        capture_output=True,
        text=True,
        env={},
        cwd="/",
        check=True,
    )
    assert ran.stdout == oci("--version")
    failed = subprocess.run(
        [path, "state", "none"], capture_output=True, text=True, env={}, check=False
    )
    assert (failed.returncode, failed.stdout) == (1, "")


def test_spec_and_features(oci: Command) -> None:
    bundle = oci.bundle("a", "true")
    (bundle.folder / "config.json").unlink()
    oci("spec", "--bundle", str(bundle.folder))
    assert "exists already" in oci("spec", "--bundle", str(bundle.folder), code=1)
    path = bundle.folder / "config.json"
    config = json.loads(path.read_text())
    config["process"].update({"args": ["cat", "/proc/self/uid_map"], "terminal": False})
    config["linux"]["cgroupsPath"] = f"/{oci.group}/a"
    path.write_text(json.dumps(config))
    oci("run", "-b", str(bundle.folder), "a")
    path.unlink()
    oci("spec", "--rootless", "--bundle", str(bundle.folder))
    kinds = {item["type"] for item in json.loads(path.read_text())["linux"]["namespaces"]}
    assert kinds - {"cgroup"} == {"user", "pid", "ipc", "uts", "mount"}
    known = json.loads(oci("features"))
    assert known["ociVersionMax"] == "1.2.0"
    assert (known["linux"]["cgroup"]["systemd"], known["linux"]["intelRdt"]) == (
        True,
        {"enabled": False},
    )
    assert "org.systemd.property." in known["potentiallyUnsafeConfigAnnotations"]
    theirs = json.loads(
        subprocess.run(["runc", "features"], capture_output=True, check=True).stdout
    )
    assert set(theirs["hooks"]) <= set(known["hooks"])
    # These two are the file system's own: it gets them as it gets all that is unknown.
    assert set(theirs["mountOptions"]) - {"acl", "noacl"} <= set(known["mountOptions"])
    assert set(theirs["linux"]["namespaces"]) <= set(known["linux"]["namespaces"])
    assert set(theirs["linux"]["capabilities"]) <= set(known["linux"]["capabilities"])
    seccomp = known["linux"]["seccomp"]
    assert set(theirs["linux"]["seccomp"]["actions"]) <= set(seccomp["actions"])
    assert set(theirs["linux"]["seccomp"]["operators"]) <= set(seccomp["operators"])


def test_a_state_costs_few_modules() -> None:
    program = (
        "import sys; from hostctl_host.runtime.__main__ import main; main(['state', 'none']);"
        "print(*sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    ran = subprocess.run(
        [sys.executable, "-S", "-c", program],
        capture_output=True,
        text=True,
        env=environment,
        check=True,
    )
    loaded = set(ran.stdout.split())
    assert not loaded & {"argparse", "json", "re", "subprocess", "socket", "typing", "enum"}
