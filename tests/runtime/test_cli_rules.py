"""The OCI command line by the rules of the runtime specification, case by case of runtime-tools' validation."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hostctl_host.runtime import cgroup

from tests.runtime.bundles import MAPPING, give_users
from tests.runtime.command import Command
from tests.runtime.workshop import until

pytestmark = pytest.mark.root

Change = Callable[[dict[str, Any]], None]


def _set(path: str, value: Any) -> Change:
    def change(config: dict[str, Any]) -> None:
        *parents, last = path.split(".")
        for name in parents:
            config = config.setdefault(name, {})
        config[last] = value

    return change


def _both(*changes: Change) -> Change:
    def change(config: dict[str, Any]) -> None:
        for one in changes:
            one(config)

    return change


def _run(oci: Command, script: str, change: Change | None = None, code: int = 0) -> str:
    bundle = oci.bundle("a", "sh", "-c", script, change=change)
    return oci("run", "-b", str(bundle.folder), "a", code=code)


@pytest.mark.parametrize("verb", ["create", "start", "state", "kill", "delete"])
def test_a_verb_without_an_id_or_of_no_container_is_an_error(oci: Command, verb: str) -> None:
    oci(verb, code=1)
    if verb != "create":
        assert "does not exist" in oci(verb, "none", code=1)


def test_an_id_is_taken_once(oci: Command) -> None:
    oci.created("a", "sleep", "100")
    pid = oci.state("a")["pid"]
    bundle = oci.bundle("a", "sleep", "100")
    assert "exists already" in oci("create", "-b", str(bundle.folder), "a", code=1)
    assert (oci.status("a"), oci.state("a")["pid"]) == ("created", pid)
    for bad in ("", "a/b", "..", "a b"):
        oci("create", "-b", str(bundle.folder), bad, code=1)


def test_start_executes_once_and_never_a_stopped_one(oci: Command) -> None:
    bundle = oci.created("a", "sh", "-c", "echo called >> /output; exec sleep 0.3")
    assert not (bundle.root / "output").exists()
    oci("start", "a")
    oci("start", "a", code=1)
    until(lambda: oci.status("a") == "stopped")
    oci("start", "a", code=1)
    assert (bundle.root / "output").read_text() == "called\n"


def test_what_is_changed_in_config_json_later_is_not_seen(oci: Command) -> None:
    bundle = oci.created("a", "sh", "-c", "echo first")
    path = bundle.folder / "config.json"
    path.write_text(path.read_text().replace("echo first", "echo second"))
    oci("start", "a")
    until(lambda: bundle.output.read_text() == "first\n")


def test_kill_of_what_does_not_run_is_an_error_without_effect(oci: Command) -> None:
    oci.started("a", "true")
    until(lambda: oci.status("a") == "stopped")
    oci("kill", "a", "KILL", code=1)
    assert oci.status("a") == "stopped"


def test_delete_of_a_running_one_is_an_error_without_effect(oci: Command) -> None:
    oci.started("a", "sleep", "100")
    pid = oci.state("a")["pid"]
    assert "not stopped" in oci("delete", "a", code=1)
    assert (oci.status("a"), oci.state("a")["pid"]) == ("running", pid)


@pytest.mark.parametrize("signal", ["TERM", "USR1", "USR2", "HUP"])
def test_kill_sends_that_signal(oci: Command, signal: str) -> None:
    script = f"trap 'echo got {signal}; exit' {signal}; echo up; while :; do sleep 0.05; done"
    bundle = oci.started("a", "sh", "-c", script)
    until(lambda: "up" in bundle.output.read_text())
    oci("kill", "a", signal)
    until(lambda: bundle.output.read_text() == f"up\ngot {signal}\n")


def test_delete_leaves_a_cgroup_that_is_not_the_containers(oci: Command) -> None:
    other = cgroup.Cgroup(f"{oci.group}-other", cgroup.detect())
    cgroup.make(other)
    oci.created("a", "true")
    other.join(oci.state("a")["pid"])
    oci("start", "a")
    until(lambda: oci.status("a") == "stopped")
    oci("delete", "a")
    assert all(os.path.isdir(folder) for folder in other.folders())
    cgroup.release(other)


def test_pid_file(oci: Command) -> None:
    bundle = oci.bundle("a", "sleep", "100")
    path = oci.folder / "pid"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    oci("create", "--pid-file", str(path), "-b", str(bundle.folder), "a", **quiet)
    assert path.read_text() == str(oci.state("a")["pid"])


@pytest.mark.parametrize("version", ["invalid", "2.0.0", "", None])
def test_another_version_is_refused(oci: Command, version: str | None) -> None:
    _run(oci, "true", _set("ociVersion", version), code=1)


def test_unknown_properties_and_annotations_are_ignored(oci: Command) -> None:
    change = _both(
        _set("unknown", "x"), _set("annotations", {"org.x": ""}), _set("linux.unknown", {"a": 1})
    )
    assert _run(oci, "echo ran", change) == "ran\n"


@pytest.mark.parametrize("key", ["linux.maskedPaths", "linux.readonlyPaths"])
def test_relative_paths_and_endless_links_are_no_masks(oci: Command, key: str) -> None:
    assert "relative" in _run(oci, "true", _set(key, ["data"]), code=1)
    bundle = oci.bundle("a", "true", change=_set(key, ["/loop"]))
    (bundle.root / "loop").symlink_to("../loop")
    oci("run", "-b", str(bundle.folder), "a", code=1)
    assert _run(oci, "echo ran", _set(key, ["/not/there", "/etc/passwd/x"])) == "ran\n"


def test_masks_of_all_kinds_of_files(oci: Command) -> None:
    paths = ["/data", "/data/f", "/etc/passwd", "/fifo", "/device"]
    script = "ls /data | wc -l; cat /etc/passwd; cat /fifo; touch /data/x 2>&1"
    bundle = oci.bundle("a", "sh", "-c", script, change=_set("linux.maskedPaths", paths))
    os.mkfifo(bundle.root / "fifo")
    os.mknod(bundle.root / "device", 0o020666, os.makedev(1, 5))
    out = oci("run", "-b", str(bundle.folder), "a", code=1)
    assert out.startswith("0\n") and "Read-only file system" in out


@pytest.mark.parametrize(
    ("name", "told"),
    [("shared", "shared:"), ("slave", ""), ("private", ""), ("unbindable", "unbindable")],
)
def test_propagation_of_the_root(oci: Command, name: str, told: str) -> None:
    found = _run(oci, "cat /proc/self/mountinfo", _set("linux.rootfsPropagation", name))
    (line,) = [line for line in found.splitlines() if line.split()[4] == "/"]
    fields = " ".join(line.partition(" - ")[0].split()[6:])
    assert fields.startswith(told)
    if not told:
        assert "shared" not in fields and "unbindable" not in fields


@pytest.mark.parametrize("kind", ["ipc", "network", "pid", "uts", "user"])
def test_namespaces_joined_by_path_of_the_right_kind_only(oci: Command, kind: str) -> None:
    file = {"network": "net"}.get(kind, kind)
    holder = ["unshare", "--fork", f"--{file}", *(["-r"] if kind == "user" else []), "sleep", "100"]
    with subprocess.Popen(holder) as outer:
        inner = f"/proc/{outer.pid}/task/{outer.pid}/children"
        until(lambda: Path(inner).read_text().strip())
        pid = Path(inner).read_text().split()[0]

        def join(path: str) -> Change:
            def change(config: dict[str, Any]) -> None:
                spaces = [s for s in config["linux"]["namespaces"] if s["type"] != kind]
                config["linux"]["namespaces"] = [*spaces, {"type": kind, "path": path}]

            return change

        try:
            theirs = os.readlink(f"/proc/{pid}/ns/{file}")
            if kind != "user":
                said = _run(oci, f"readlink /proc/self/ns/{file}", join(f"/proc/{pid}/ns/{file}"))
                assert said.strip() == theirs
            wrong = "uts" if kind != "uts" else "ipc"
            said = _run(oci, "true", join(f"/proc/{pid}/ns/{wrong}"), code=1)
            assert "namespace" in said
            assert _run(oci, "true", join("/not/there"), code=1)
        finally:
            os.kill(int(pid), 9)
            outer.wait()


@pytest.mark.parametrize("kind", ["ipc", "network", "pid", "uts", "cgroup"])
def test_a_namespace_that_is_not_listed_is_the_runtimes_own(oci: Command, kind: str) -> None:
    file = {"network": "net"}.get(kind, kind)

    def change(config: dict[str, Any]) -> None:
        spaces = [s for s in config["linux"]["namespaces"] if s["type"] != kind]
        config["linux"]["namespaces"] = spaces
        config.pop("hostname")

    said = _run(oci, f"readlink /proc/self/ns/{file}", change)
    assert said.strip() == os.readlink(f"/proc/self/ns/{file}")


def test_user_capabilities_limits_and_root(oci: Command) -> None:
    sets = {
        name: ["CAP_KILL", "CAP_CHOWN"]
        for name in ("bounding", "effective", "permitted", "inheritable", "ambient")
    }
    change = _both(
        _set("process.user", {"uid": 10, "gid": 11, "additionalGids": [5, 6], "umask": 0o27}),
        _set("process.capabilities", sets),
        _set("process.rlimits", [{"type": "RLIMIT_NOFILE", "soft": 700, "hard": 800}]),
        _set("process.oomScoreAdj", 100),
        _set("root.readonly", True),
        _set("hostname", "hostname-specific"),
    )
    script = "id -u; id -g; id -G; umask; hostname; ulimit -n; cat /proc/self/oom_score_adj; "
    script += "grep ^Cap /proc/self/status; touch /x 2>&1"
    out = _run(oci, script, change, code=1).splitlines()
    assert out[:7] == ["10", "11", "11 5 6", "0027", "hostname-specific", "700", "100"]
    assert {line.split()[1] for line in out[7:12]} == {"0000000000000021"}
    assert "Read-only file system" in out[12]
    twice = [{"type": "RLIMIT_NOFILE", "soft": 1, "hard": 2}] * 2
    _run(oci, "true", _set("process.rlimits", twice), code=1)
    _run(oci, "true", _set("process.rlimits", [{"type": "RLIMIT_X", "soft": 1, "hard": 2}]), code=1)


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("process.user", {"uid": 4294967295, "gid": 0}, "user or group 4294967295"),
        ("process.user", {"uid": 5, "gid": -1}, "user or group -1"),
        ("process.user", {"uid": 0, "gid": 0, "additionalGids": [-5]}, "user or group -5"),
        ("process.env", ["PATH=/bin", "=secret"], "a variable without a name"),
        ("process.args", [""], "nothing to run"),
        ("hostname", "a" * 65, "longer than 64 bytes"),
        ("domainname", "a" * 65, "longer than 64 bytes"),
    ],
)
def test_what_the_kernel_would_not_take_or_understand_is_refused(
    oci: Command, key: str, value: Any, reason: str
) -> None:
    said = _run(oci, "id", _set(key, value), code=1)
    assert reason in said
    assert "secret" not in said


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("linux", 1, "linux is not an object"),
        ("root", {"path": True}, "root.path is not a text"),
        ("annotations", [1], "annotations is not an object"),
        ("linux.namespaces", [{"type": []}], "linux.namespaces[0].type is not a text"),
        ("linux.devices", [None], "linux.devices[0] is not an object"),
        ("linux.cgroupsPath", "a\0b", "null byte"),
        ("process.capabilities", {"bounding": [{}]}, "process.capabilities.bounding holds"),
        ("process.rlimits", [{"type": "RLIMIT_CORE", "soft": "x"}], "[0].soft is not a number"),
        ("process.user", {"uid": 0, "gid": 0, "additionalGids": ["x"]}, "additionalGids holds"),
    ],
)
def test_a_value_of_the_wrong_kind_is_named(
    oci: Command, key: str, value: Any, reason: str
) -> None:
    bundle = oci.bundle("a", "true")
    _set(key, value)(bundle.config)
    (bundle.folder / "config.json").write_text(json.dumps(bundle.config))
    assert reason in oci("run", "-b", str(bundle.folder), "a", code=1)


def test_an_entry_of_the_image_makes_nobody_root(oci: Command) -> None:
    bundle = oci.bundle("a", "id", change=_set("annotations", {"hostctl.user": "app"}))
    (bundle.root / "etc/passwd").write_text("app:x:4294967295:5:app:/:/bin/sh\n")
    assert "user or group 4294967295" in oci("run", "-b", str(bundle.folder), "a", code=1)


def test_mappings_of_users(oci: Command) -> None:
    def change(config: dict[str, Any]) -> None:
        config["linux"]["namespaces"].append({"type": "user"})
        config["linux"]["uidMappings"] = config["linux"]["gidMappings"] = MAPPING

    assert _run(oci, "cat /proc/self/uid_map", change).split() == ["0", "200000", "65536"]


def test_recursive_binds(oci: Command) -> None:
    outer = oci.folder / "outer"
    (outer / "inner").mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "none", str(outer / "inner")], check=True)
    try:
        (outer / "inner" / "f").write_text("x")

        def bind(*options: str) -> Change:
            entry = {
                "destination": "/mnt/deep",
                "type": "none",
                "source": str(outer),
                "options": list(options),
            }

            def change(config: dict[str, Any]) -> None:
                config["mounts"].append(entry)

            return change

        assert _run(oci, "cat /mnt/deep/inner/f", bind("rbind")) == "x"
        assert _run(oci, "ls /mnt/deep/inner", bind("bind")) == ""
        assert "Read-only" in _run(
            oci, "touch /mnt/deep/inner/g 2>&1", bind("rbind", "rro"), code=1
        )
    finally:
        subprocess.run(["umount", str(outer / "inner")], check=True)


def _hooks(oci: Command, **kinds: list[list[str]]) -> Change:
    return _set(
        "hooks",
        {
            kind: [{"path": words[0], "args": words} for words in hooks]
            for kind, hooks in kinds.items()
        },
    )


def test_a_failing_prestart_hook_leaves_no_container(oci: Command) -> None:
    bundle = oci.bundle("a", "touch", "/ran", change=_hooks(oci, prestart=[["/bin/false"]]))
    assert "prestart hook /bin/false" in oci("create", "-b", str(bundle.folder), "a", code=1)
    oci("state", "a", code=1)
    assert not (bundle.root / "ran").exists()


def test_failing_poststop_hooks_are_warnings_and_the_rest_goes_on(oci: Command) -> None:
    log = oci.folder / "log"
    hooks = [["/bin/false"], ["/bin/sh", "-c", f"cat > {oci.folder}/stopped"]]
    oci.started("a", "true", change=_hooks(oci, poststop=hooks))
    until(lambda: oci.status("a") == "stopped")
    oci("--log", str(log), "delete", "a")
    assert "level=warning" in log.read_text()
    assert json.loads((oci.folder / "stopped").read_text())["status"] == "stopped"
    oci("state", "a", code=1)


def test_a_hook_that_takes_too_long_is_ended(oci: Command) -> None:
    hook = {"path": "/bin/sleep", "args": ["sleep", "1000"], "timeout": 1}
    bundle = oci.bundle("a", "true", change=_set("hooks", {"prestart": [hook]}))
    assert "did not end within 1 s" in oci("create", "-b", str(bundle.folder), "a", code=1)


@pytest.mark.parametrize("users", [False, True])
def test_devices_have_the_owner_and_mode_that_are_asked_for(oci: Command, users: bool) -> None:
    """Also where a user namespace may make none, and the host has no node of that number."""
    device = {"path": "/dev/foo", "type": "b", "major": 1, "minor": 5, "uid": 10, "gid": 11}
    zero = {"path": "/dev/zero2", "type": "c", "major": 1, "minor": 5, "fileMode": 0o640}

    def change(config: dict[str, Any]) -> None:
        config["linux"]["devices"] = [device, zero]
        if users:
            give_users(config)

    script = (
        "stat -c '%u:%g %a %t:%T %F' /dev/foo /dev/zero2 /dev/null; head -c 2 /dev/zero2 | wc -c"
    )
    script += "; echo x > /dev/null && mknod /dev/y c 1 3 2>/dev/null; echo $?"
    out = _run(oci, script, change).splitlines()
    assert out[:3] == [
        "10:11 666 1:5 block special file",
        "0:0 640 1:5 character special file",
        "0:0 666 1:3 character special file",
    ]
    assert out[3:] == ["2", "1" if users else "0"]
