"""Debian's podman with hostctl's runtime in the place of its own: the same words, the same exit codes."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tarfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from hostctl_host.runtime import cgroup
from hostctl_host.runtime.cli import wrapping

from tests.runtime.bundles import fill_root
from tests.runtime.workshop import until

pytestmark = pytest.mark.root
# podman's own limits are higher than what a container that runs these tests may have.
CONF = '[containers]\ndefault_ulimits = ["nofile=1024:4096", "nproc=1024:2048"]\n'


class Podman:
    """podman with storage, state and a cgroup of its own below one folder."""

    def __init__(self, folder: Path, runtime: Path) -> None:
        self.folder = folder
        self.group = f"hostctl-test/podman-{uuid.uuid4().hex[:8]}"
        self.runtime = runtime
        conf = folder / "containers.conf"
        conf.write_text(CONF)
        self.environment = {**os.environ, "CONTAINERS_CONF": str(conf), "TMPDIR": str(folder)}
        self.options = [
            *("--root", str(folder / "root"), "--runroot", str(folder / "run")),
            *("--tmpdir", str(folder / "tmp"), "--storage-driver", "vfs"),
            *("--cgroup-manager", "cgroupfs", "--events-backend", "none"),
            *("--runtime", str(runtime)),
        ]

    def result(self, *words: str, input: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["podman", *self.options, *words],
            check=False,
            input=input,
            capture_output=True,
            text=True,
            env=self.environment,
            timeout=60,
        )

    def __call__(self, *words: str, code: int = 0, input: str = "") -> str:
        ran = self.result(*words, input=input)
        assert ran.returncode == code, (ran.returncode, ran.stdout, ran.stderr)
        return ran.stdout

    def run(self, *words: str, code: int = 0, input: str = "") -> str:
        more = ("--network", "none", "--cgroup-parent", f"/{self.group}")
        return self("run", *more, *words, code=code, input=input)


@pytest.fixture(scope="module")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Podman]:
    folder = tmp_path_factory.mktemp("podman")
    runtime = folder / "hostctl-runtime"
    # The wrapper as it is, but for a root of its own: podman's --runtime-flag is not for its cleanup.
    text = wrapping.text().replace(
        "sys.argv[1:]", f"['--root', {str(folder / 'oci')!r}, *sys.argv[1:]]"
    )
    runtime.write_text(text)
    runtime.chmod(0o755)
    made = Podman(folder, runtime)
    fill_root(folder / "image")
    with tarfile.open(folder / "image.tar", "w") as archive:
        archive.add(folder / "image", ".")
    made("import", str(folder / "image.tar"), "box")
    try:
        yield made
    finally:
        made("rm", "--all", "--force", "--time", "0")
        shutil.rmtree(folder / "root")
        cgroup.release(cgroup.Cgroup(made.group, cgroup.detect()))
        leave_no_folder()


def leave_no_folder() -> None:
    """podman makes its folders also where a controller is no mount, among plain files then."""
    for path in Path("/sys/fs/cgroup").glob("*/hostctl-test"):
        if not (path / "cgroup.procs").exists():
            shutil.rmtree(path)
    for path in ("hostctl-test", "libpod_parent"):
        for parent in cgroup.Cgroup(path, cgroup.detect()).folders():
            for inner, _, _ in os.walk(parent, topdown=False):
                try:
                    os.rmdir(inner)
                except OSError:
                    continue  # others are in it


def test_run_gives_output_and_exit_code(podman: Podman) -> None:
    assert podman.run("--rm", "box", "sh", "-c", "echo hello; exit 3", code=3) == "hello\n"
    assert podman.run("--rm", "-i", "box", "cat", input="in\n") == "in\n"
    assert podman("ps", "--all", "--quiet") == ""


@pytest.mark.parametrize(("program", "code"), [("no-such-program", 127), ("/etc", 126)])
def test_a_program_that_cannot_run(podman: Podman, program: str, code: int) -> None:
    podman.run("--rm", "box", program, code=code)


def test_a_container_in_the_background_and_programs_in_it(podman: Podman) -> None:
    script = "echo out; echo err >&2; exec sleep 1000"
    podman.run("--detach", "--name", "a", "box", "sh", "-c", script)
    try:
        assert podman("ps", "--format", "{{.Names}}") == "a\n"
        assert podman("logs", "a").splitlines() == ["out"]
        assert podman.result("logs", "a").stderr == "err\n"
        assert podman("exec", "a", "echo", "in") == "in\n"
        assert podman("exec", "-i", "a", "cat", input="given") == "given"
        assert podman("exec", "--tty", "a", "tty") == "/dev/pts/0\n"
        assert podman("exec", "--user", "5:6", "--env", "A=b", "--workdir", "/tmp", "a", "sh", "-c",
                      "id -u; echo $A; pwd") == "5\nb\n/tmp\n"  # fmt: skip
        podman("exec", "a", "sh", "-c", "exit 9", code=9)
        podman("exec", "a", "no-such-program", code=127)
        podman("exec", "--detach", "a", "touch", "/tmp/done")
        until(lambda: not podman.result("exec", "a", "test", "-e", "/tmp/done").returncode)
        assert "sleep 1000" in podman("top", "a")
    finally:
        podman("rm", "--force", "--time", "0", "a")


def test_stop_kill_wait_and_start_again(podman: Podman) -> None:
    script = "trap 'exit 4' TERM; echo up; while :; do sleep 0.05; done"
    podman.run("--detach", "--name", "b", "box", "sh", "-c", script)
    try:
        until(lambda: "up" in podman("logs", "b"))
        podman("stop", "--time", "10", "b")
        assert podman("wait", "b") == "4\n"
        podman("start", "b")
        assert podman("inspect", "b", "--format", "{{.State.Status}}") == "running\n"
        podman("pause", "b")
        assert podman("inspect", "b", "--format", "{{.State.Status}}") == "paused\n"
        podman("unpause", "b")
        podman("kill", "b")
        assert podman("wait", "b") == "137\n"
        podman("rm", "b")
    finally:
        podman("rm", "--force", "--ignore", "--time", "0", "b")


def test_isolation_as_asked_for(podman: Podman, tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    (tmp_path / "f").write_text("of the host\n")
    script = (
        "id -u; id -g; cat /v/f; hostname; pwd; touch /data/x 2>&1; touch /v/x 2>&1; touch /t/x;"
        "ulimit -n; cat /proc/self/status; stat -f -c '%b %S' /t"
    )
    out = podman.run(
        *("--rm", "--user", "5:6", "--read-only", "--volume", f"{tmp_path}:/v:ro"),
        *("--tmpfs", "/t:size=1m,mode=1777", "--hostname", "box1", "--workdir", "/data"),
        *(
            "--ulimit",
            "nofile=77:88",
            "--ulimit",
            "nproc=99",
            "--cap-drop",
            "all",
            "--security-opt",
            "no-new-privileges",
        ),
        *("box", "sh", "-c", script),
    ).splitlines()
    assert out[:5] == ["5", "6", "of the host", "box1", "/data"]
    assert "Read-only file system" in out[5]
    assert "Read-only file system" in out[6]
    assert out[7] == "77"
    status = dict(line.split(":\t", 1) for line in out[8:-1])
    assert status["NoNewPrivs"] == "1"
    assert int(status["CapBnd"], 16) == 0
    assert status["Seccomp"] == "2"
    blocks, size = out[-1].split()
    assert int(blocks) * int(size) == 1 << 20


def test_limits_and_their_change(podman: Podman) -> None:
    podman.run("-d", "--name", "c", "--memory", "64m", "--pids-limit", "50", "box", "sleep", "1000")
    try:
        identifier = podman("inspect", "c", "--format", "{{.Id}}").strip()
        folders = cgroup.Cgroup(f"{podman.group}/libpod-{identifier}", cgroup.detect()).folders()

        def value(name: str) -> str:
            paths = [Path(folder, name) for folder in folders]
            return next(path for path in paths if path.exists()).read_text().strip()

        assert (value("memory.limit_in_bytes"), value("pids.max")) == (str(64 << 20), "50")
        podman("update", "--memory", "32m", "c")
        assert value("memory.limit_in_bytes") == str(32 << 20)
    finally:
        podman("rm", "--force", "--time", "0", "c")


def test_init_terminal_and_namespaces(podman: Podman) -> None:
    out = podman.run("--rm", "--init", "box", "cat", "/proc/1/cmdline", "/proc/self/stat")
    assert out.startswith("/run/podman-init\0")
    assert re.search(r"\0([2-9]) \(cat\)", out)
    assert podman.run("--rm", "--tty", "box", "tty") == "/dev/pts/0\n"
    own = os.readlink("/proc/self/ns/uts")
    assert (
        podman.run("--rm", "--uts", "host", "box", "readlink", "/proc/self/ns/uts").strip() == own
    )
    assert podman.run("--rm", "box", "readlink", "/proc/self/ns/uts").strip() != own
    mapped = podman.run("--rm", "--uidmap", "0:300000:1000", "box", "cat", "/proc/self/uid_map")
    assert mapped.split() == ["0", "300000", "1000"]


def test_runc_and_we_give_the_same_process(podman: Podman) -> None:
    """What a program sees of itself is the same under runc, whose config.json comes from podman as well."""
    words = ("--rm", "--cap-add", "NET_ADMIN", "--user", "7:8", "box", "cat", "/proc/self/status")
    wanted = (
        "Uid",
        "Gid",
        "Groups",
        "CapInh",
        "CapPrm",
        "CapEff",
        "CapBnd",
        "CapAmb",
        "NoNewPrivs",
        "Seccomp",
        "Umask",
    )
    ours = podman.run(*words)
    theirs = podman("--runtime", "/usr/sbin/runc", "run", "--network", "none",
                    "--cgroup-parent", f"/{podman.group}", *words)  # fmt: skip
    assert _picked(ours, wanted) == _picked(theirs, wanted)


PROFILE = {
    "defaultAction": "SCMP_ACT_ALLOW",
    "architectures": ["SCMP_ARCH_X86_64"],
    "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}],
}
OPTIONS = [
    ("--pid=host --ipc=host --uts=host", "readlink /proc/self/ns/pid /proc/self/ns/ipc; hostname"),
    ("--network=host", "readlink /proc/self/ns/net"),
    ("--device=/dev/null:/dev/x:rw --device-cgroup-rule=c_42:*_rwm", "stat -c '%a %t:%T' /dev/x"),
    ("--ulimit=nofile=100:200 --ulimit=core=0:0", "ulimit -n; ulimit -Hn; ulimit -c"),
    ("--sysctl=net.ipv4.ip_forward=1", "cat /proc/sys/net/ipv4/ip_forward"),
    ("--sysctl=kernel.core_pattern=x", "true"),
    ("--read-only", "touch /x; touch /tmp/x /run/x /dev/shm/x && echo fine"),
    ("--read-only --read-only-tmpfs=false", "touch /tmp/x"),
    ("--tmpfs=/t:rw,size=64k,mode=1770,uid=5", "stat -c '%a %u' /t; grep ' /t ' /proc/mounts"),
    ("--security-opt=seccomp=unconfined", "grep ^Seccomp: /proc/self/status"),
    ("--security-opt=seccomp=PROFILE", "mkdir /tmp/a"),
    ("--security-opt=mask=/data:/etc/passwd", "ls /data; cat /etc/passwd"),
    ("--security-opt=proc-opts=hidepid=2", "grep ' /proc ' /proc/mounts"),
    ("--cap-drop=all --cap-add=chown", "grep ^Cap /proc/self/status"),
    ("--user=5 --cap-add=net_admin", "grep ^Cap /proc/self/status"),
    ("--privileged", "grep -E '^(Cap|Seccomp:)' /proc/self/status; ls /dev | grep -v core"),
    (
        "--cpus=0.5 --memory=32m --memory-swap=64m --pids-limit=30 --cpuset-cpus=0",
        "grep ^Cpus_allowed: /proc/self/status",
    ),
    (
        "--oom-score-adj=200 --umask=0077 --group-add=77",
        "cat /proc/self/oom_score_adj; umask; id -G",
    ),
    ("--group-add=keep-groups", "id -G"),
    ("--userns=host", "cat /proc/self/uid_map"),
    (
        "--uidmap=0:100000:5000 --gidmap=0:100000:5000",
        "cat /proc/self/uid_map; stat -c %u /proc /data; touch /x",
    ),
    ("--hostname=h1 --shm-size=1m", "hostname; cat /etc/hostname; grep /dev/shm /proc/mounts"),
    ("--volume=FOLDER:/v:ro", "touch /v/x; cat /v/file"),
    ("--volume=FOLDER:/v:rslave,nosuid,nodev,noexec", "grep ' /v ' /proc/mounts | cut -d' ' -f2,4"),
    ("--volume=FOLDER:/v:O", "touch /v/new; ls /v"),
    ("--mount=type=image,src=box,dst=/img", "cat /img/data/f"),
    ("--preserve-fds=1 --env=A=b --workdir=/w", "ls /proc/self/fd | wc -l; pwd; echo $A"),
    ("--cgroups=disabled", "echo fine"),
    ("--timeout=1", "exec sleep 30"),
    ("--init", "cat /proc/1/comm; exit 5"),
]


@pytest.mark.parametrize(("options", "script"), OPTIONS, ids=[row[0] for row in OPTIONS])
def test_options_have_the_same_effect_as_with_runc(
    podman: Podman, options: str, script: str
) -> None:
    folder = podman.folder / "shared"
    folder.mkdir(exist_ok=True)
    (folder / "file").write_text("of the host\n")
    (podman.folder / "profile.json").write_text(json.dumps(PROFILE))
    places = {"FOLDER": str(folder), "PROFILE": str(podman.folder / "profile.json"), "_": " "}
    words = options.split()
    for name, place in places.items():
        words = [word.replace(name, place) for word in words]
    found = []
    for runtime in (podman.runtime, "/usr/sbin/runc"):
        ran = podman.result(
            *("--runtime", str(runtime), "run", "--rm", "--cgroup-parent", f"/{podman.group}"),
            *([] if "--network" in options else ["--network=none"]),
            *words,
            *("box", "sh", "-c", script),
        )
        found.append((ran.returncode, ran.stdout))
    assert found[0] == found[1]


def test_pods_health_and_copies(podman: Podman) -> None:
    podman("pod", "create", "--name", "pod", "--network", "none", "--cgroup-parent", f"/{podman.group}",
           "--infra-image", "box", "--infra-command", "/bin/sleep 1000", "--share", "ipc,uts,net,pid")  # fmt: skip
    try:
        health = ("--health-cmd", "test -e /tmp/well", "--health-interval", "disable")
        podman("run", "-d", "--pod", "pod", "--name", "inner", *health, "box", "sleep", "1000")
        assert podman("exec", "inner", "cat", "/proc/1/cmdline") == "/bin/sleep\x001000\0"
        podman("healthcheck", "run", "inner", code=1)
        (podman.folder / "well").write_text("x")
        podman("cp", str(podman.folder / "well"), "inner:/tmp/well")
        podman("healthcheck", "run", "inner")
        (row,) = json.loads(podman("stats", "--no-stream", "--format", "json", "inner"))
        assert row["pids"] == "1"
        podman("pod", "pause", "pod")
        podman("exec", "inner", "true", code=255)
        podman("pod", "unpause", "pod")
        podman("pod", "stop", "--time", "0", "pod")
        podman("pod", "start", "pod")
        podman("exec", "inner", "true")
    finally:
        podman("pod", "rm", "--force", "--time", "0", "pod")


def _picked(text: str, names: tuple[str, ...]) -> dict[str, str]:
    found = dict(line.split(":\t", 1) for line in text.splitlines())
    return {name: found[name].strip() for name in names}


def test_nothing_is_left(podman: Podman) -> None:
    podman.run("--rm", "box", "true")
    assert json.loads(podman("ps", "--all", "--format", "json")) == []
    until(lambda: not _listed(podman))  # podman removes it in the background


def _listed(podman: Podman) -> str:
    words = [str(podman.runtime), "list", "-q"]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout
