"""Ways out of a container that must not be there."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from hostctl_host.contract.errors import HostctlError
from hostctl_host.runtime import cgroup, guard, join, process, targets

from tests.runtime.bundles import Bundle, status, wait_for

pytestmark = pytest.mark.root


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return Bundle(tmp_path)


def _join(bundle: Bundle, pid: int, *command: str) -> tuple[int, str]:
    """Run a further program in the container: its exit code, and what it printed."""
    bundle.config["process"]["args"] = list(command)
    reading, writing = os.pipe()
    null = os.open("/dev/null", os.O_RDWR)
    try:
        own = cgroup.Cgroup(bundle.path, cgroup.detect())
        plan = process.prepare(bundle.config)
        joined = join.start(pid, plan, own, stdio=(null, writing, writing))
        os.close(writing)
        with open(reading) as stream:
            printed = stream.read()
        return joined.wait(), printed
    finally:
        os.close(null)


def test_a_target_that_turns_into_a_link_while_it_is_mounted(tmp_path: Path) -> None:
    """Somebody swaps a folder and a link to the outside, again and again: nothing is ever made there."""
    root, outside = tmp_path / "root", tmp_path / "outside"
    (root / "a").mkdir(parents=True)
    outside.mkdir()
    (root / "b").symlink_to(outside)
    done = threading.Event()

    def swap() -> None:
        while not done.is_set():
            for one, other in (("a", "c"), ("b", "a"), ("a", "b"), ("c", "a")):
                with contextlib.suppress(OSError):
                    os.rename(root / one, root / other)

    thread = threading.Thread(target=swap)
    thread.start()
    fd = os.open(root, os.O_PATH | os.O_DIRECTORY)
    inside = 0
    try:
        for number in range(400):
            try:
                target = targets.target_fd(fd, f"/a/{number}", folder=True)
            except OSError:
                continue
            inside += os.readlink(f"/proc/self/fd/{target}").startswith(str(root))
            os.close(target)
    finally:
        done.set()
        thread.join()
        os.close(fd)
    assert list(outside.iterdir()) == []
    assert inside


def test_proc_is_not_mounted_over_a_link(bundle: Bundle) -> None:
    (bundle.root / "proc").rmdir()
    (bundle.root / "proc").symlink_to("tmp")
    bundle.write("true")
    with pytest.raises(HostctlError, match="/proc") as caught:
        bundle.create()
    assert "link in the image" in caught.value.hint


def test_the_interpreter_cannot_be_written_to(tmp_path: Path) -> None:
    """What a container would do that has executed /proc/self/exe: open it once nobody executes it."""
    code = (
        "import os, sys; from hostctl_host.runtime import guard; guard.ensure(); "
        "fd = os.open('/proc/self/exe', os.O_PATH); os.set_inheritable(fd, True); "
        "os.execv('/bin/sh', ['sh', '-c', 'echo x 1<>/proc/self/fd/%d' % fd])"
    )
    own = tmp_path / "python"
    own.write_bytes(Path(os.path.realpath(sys.executable)).read_bytes())
    own.chmod(0o755)
    before = own.read_bytes()
    environment = {
        "PYTHONPATH": ":".join(sys.path),
        "PYTHONHOME": sys.base_prefix,
        "PATH": "/usr/bin:/bin",
    }
    done = subprocess.run(
        [str(own), "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert "Read-only file system" in done.stderr, done
    assert own.read_bytes() == before


def test_the_interpreter_can_be_sealed_instead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard.sys, "open_tree", _not_there)
    fd = guard.executable()
    try:
        with pytest.raises(PermissionError):
            os.write(fd, b"x")
        words = [f"/proc/self/fd/{fd}", "-I", "-S", "-c", "print(1)"]
        done = subprocess.run(words, pass_fds=(fd,), capture_output=True, text=True, check=False)
        assert (
            done.returncode == 0 or "encodings" in done.stderr
        )  # its library is found by its path
    finally:
        os.close(fd)


def _not_there(*_: object) -> int:
    raise OSError(38, "no such call")


def test_only_three_descriptors_are_inherited(bundle: Bundle, tmp_path: Path) -> None:
    leak = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    os.set_inheritable(leak, True)
    try:
        script = "echo here; while :; do sleep 1; done"
        bundle.write("sh", "-c", script)
        with bundle.running() as made:
            wait_for(bundle.output, "here")
            assert os.listdir(f"/proc/{made.pid}/fd") == ["0", "1", "2"]
            code, printed = _join(
                bundle, made.pid, "sh", "-c", "ls /proc/$$/fd; cd /proc/$$/cwd; /bin/pwd -P"
            )
        assert (code, printed.split()[:3]) == (0, ["0", "1", "2"])
        assert printed.split()[-1] == "/"
        assert len([word for word in printed.split() if word.isdigit() and int(word) < 10]) == 3
    finally:
        os.close(leak)


@pytest.mark.parametrize("cwd", ["/proc/self/fd/3", "/proc/self/fd/7", "/proc/1/cwd/../../.."])
def test_a_working_directory_outside(bundle: Bundle, cwd: str) -> None:
    def change(config: dict[str, Any]) -> None:
        config["process"]["cwd"] = cwd

    try:
        printed = bundle.run("sh", "-c", "ls /; ls .", change=change)
    except HostctlError as error:
        assert "working directory" in error.message or "outside" in error.message
    else:
        assert "rootfs" not in printed


def test_release_agents_cannot_be_set(bundle: Bundle) -> None:
    def change(config: dict[str, Any]) -> None:
        config["mounts"].append(
            {
                "destination": "/sys/fs/cgroup",
                "type": "cgroup",
                "source": "cgroup",
                "options": ["ro", "nosuid", "nodev", "noexec"],
            }
        )

    script = (
        "for d in /sys/fs/cgroup/*; do echo /x > $d/release_agent; echo 1 > $d/notify_on_release; done;"
        " mkdir /m; mount -t cgroup -o memory m /m && echo mounted; find /sys/fs/cgroup -name release_agent"
    )
    printed = bundle.run("sh", "-c", script, change=change)
    assert "mounted" not in printed
    assert "Read-only file system" in printed
    for path in Path("/sys/fs/cgroup").glob("*/release_agent"):
        assert path.read_text().strip() == ""


def test_nodes_of_layers_and_new_ones_open_nothing(bundle: Bundle) -> None:
    (bundle.root / "tmp" / "disk").unlink(missing_ok=True)
    os.mknod(bundle.root / "tmp" / "disk", 0o60666, os.makedev(254, 0))
    os.mknod(bundle.root / "tmp" / "mem", 0o20666, os.makedev(1, 1))

    def change(config: dict[str, Any]) -> None:
        config["linux"]["resources"] = {"devices": [{"allow": False, "access": "rwm"}]}

    script = "head -c1 /tmp/disk; head -c1 /tmp/mem; mknod /tmp/d b 254 0; head -c1 /tmp/d; head -c1 /dev/zero | wc -c"
    printed = bundle.run("sh", "-c", script, change=change)
    assert printed.count("Operation not permitted") >= 3
    assert printed.endswith("1\n")


def test_masked_and_read_only_paths(bundle: Bundle) -> None:
    def change(config: dict[str, Any]) -> None:
        config["linux"]["maskedPaths"] = ["/proc/version", "/proc/not-there", "/data"]
        config["linux"]["readonlyPaths"] = ["/proc/sys", "/proc/sysrq-trigger", "/proc/bus"]

    script = (
        "wc -c < /proc/version; ls /data; echo x > /data/y; echo h > /proc/sysrq-trigger;"
        " echo 1 > /proc/sys/vm/drop_caches; umount /proc/version; mount -o remount,rw /proc/sys"
    )
    printed = bundle.run("sh", "-c", script, change=change)
    assert printed.startswith("0\n")
    assert printed.count("Read-only file system") >= 2
    assert "of the image" not in printed
    assert printed.count("ermi") >= 2  # permission denied, or not permitted


def test_nobody_traces_what_still_knows_the_host(bundle: Bundle) -> None:
    """In a pid namespace with others: the first process before its program, and one that joins."""
    bundle.write("sleep", "100")
    with bundle.running() as first:
        other = Bundle(bundle.folder.parent)

        def change(config: dict[str, Any]) -> None:
            spaces = [one for one in config["linux"]["namespaces"] if one["type"] != "pid"]
            spaces.append({"type": "pid", "path": f"/proc/{first.pid}/ns/pid"})
            config["linux"]["namespaces"] = spaces

        other.write("sleep", "100", change=change)
        made = other.create()
        try:
            inner = status(made.pid, "NSpid").split()[-1]
            script = f"ls -l /proc/{inner}/fd; ls /proc/{inner}/root/; readlink /proc/{inner}/exe"
            code, printed = _join(bundle, first.pid, "sh", "-c", script)
        finally:
            other.end(made)
    assert code != 0
    assert printed.count("Permission denied") >= 2
    assert "python" not in printed


def test_setuid_programs_give_nothing_with_no_new_privs(bundle: Bundle) -> None:
    # Not busybox, which gives such rights up by itself.
    libraries = subprocess.run(["ldd", "/bin/cat"], capture_output=True, text=True, check=True)
    for word in (*libraries.stdout.split(), "/bin/cat"):
        if word.startswith("/"):
            copy = Path(f"{bundle.root}/{word}") if word != "/bin/cat" else bundle.root / "data/cat"
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(Path(word).read_bytes())
            copy.chmod(0o4755)

    def user(config: dict[str, Any]) -> None:
        config["process"]["user"] = {"uid": 1000, "gid": 1000}

    def strict(config: dict[str, Any]) -> None:
        user(config)
        config["process"]["noNewPrivileges"] = True

    script = "/data/cat /proc/self/status | grep ^Uid:"
    assert bundle.run("sh", "-c", script, change=user).split() == ["Uid:", "1000", "0", "0", "0"]
    bundle.output.unlink()
    printed = bundle.run("sh", "-c", script, change=strict)
    assert printed.split() == ["Uid:", *["1000"] * 4]


def test_the_hosts_processes_are_not_there(bundle: Bundle) -> None:
    script = f"ls -d /proc/[0-9]*; kill -0 {os.getpid()} && echo seen; echo $$"
    printed = bundle.run("sh", "-c", script)
    assert "seen" not in printed
    assert {line for line in printed.splitlines() if line.startswith("/proc")} <= {
        "/proc/1",
        "/proc/2",
    }
    assert printed.endswith("1\n")


def test_programs_join_a_user_namespace_too(tmp_path: Path) -> None:
    from tests.runtime.bundles import give_users

    for one in (tmp_path, *tmp_path.parents):
        if one.stat().st_mode & 0o777 == 0o700:
            one.chmod(0o711)
    bundle = Bundle(tmp_path, shifted=True)
    bundle.write("sleep", "100", change=give_users)
    with bundle.running() as made:
        script = "id -u; readlink /proc/self/ns/user; cat /proc/self/uid_map; grep CapEff /proc/self/status"
        code, printed = _join(bundle, made.pid, "sh", "-c", script)
        assert code == 0, printed
        uid, namespace, mapping, rights = printed.splitlines()
        assert namespace == os.readlink(f"/proc/{made.pid}/ns/user")
        assert rights.split()[1] == status(made.pid, "CapEff")
    assert (uid, mapping.split()) == ("0", ["0", "200000", "65536"])
