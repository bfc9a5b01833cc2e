"""Attributes of the container's process, read from /proc, and compared with crun where it knows them."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hostctl_host.contract.errors import HostctlError
from hostctl_host.runtime import (
    cgroup,
    join,
    labels,
    process,
    rlimits,
    scheduler,
    syscalls,
    sysctls,
)

from tests.runtime.bundles import Bundle, config, status

pytestmark = pytest.mark.root
_ALL = ("bounding", "effective", "permitted", "inheritable", "ambient")


def _change(**values: Any) -> Any:
    """Values of `process`."""
    return lambda made: made["process"].update(values)


def _running(bundle: Bundle, change: Any) -> Any:
    bundle.write("sleep", "100", change=change)
    return bundle.running()


def test_all_of_it_as_crun_does(tmp_path: Path) -> None:
    """One bundle with everything that Debian's crun knows: the same words from inside."""

    def change(made: dict[str, Any]) -> None:
        sets = {name: ["CAP_CHOWN", "CAP_NET_BIND_SERVICE", "CAP_FLY"] for name in _ALL}
        sets["bounding"].append("CAP_KILL")
        made["process"].update(
            capabilities=sets,
            user={"uid": 12, "gid": 34, "umask": 0o27, "additionalGids": [5, 6]},
            noNewPrivileges=True,
            oomScoreAdj=7,
            cwd="/made/for/it",
            rlimits=[
                {"type": name, "soft": 900 + number, "hard": 1900 + number}
                for name, number in rlimits.NUMBERS.items()
                if name in ("RLIMIT_NOFILE", "RLIMIT_CORE", "RLIMIT_SIGPENDING", "RLIMIT_RTTIME")
            ],
        )
        made["linux"]["sysctl"] = {
            "kernel.msgmax": "9000",
            "net.ipv4.ip_forward": "1",
            "fs.mqueue.msg_max": "20",
        }

    script = (
        "exec 2>&1; grep -E '^(Cap|NoNew|Uid|Gid|Groups|Umask)' /proc/self/status; pwd; umask;"
        " cat /proc/self/limits /proc/self/oom_score_adj /proc/sys/kernel/msgmax"
        " /proc/sys/net/ipv4/ip_forward /proc/sys/fs/mqueue/msg_max; stat -c '%u %g %a' /made /made/for/it"
    )
    bundle = Bundle(tmp_path)
    ours = bundle.run("sh", "-c", script, change=change)
    assert "CapAmb:\t0000000000000401\n" in ours
    assert "CapBnd:\t0000000000000421\n" in ours
    (bundle.root / "made/for/it").rmdir()
    (bundle.root / "made/for").rmdir()
    (bundle.root / "made").rmdir()
    assert ours == bundle.run_by_crun()


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ([("RLIMIT_NOFILE", 1, 2), ("RLIMIT_NOFILE", 1, 2)], "twice"),
        ([("RLIMIT_TIME", 1, 2)], "no such limit"),
        ([("RLIMIT_CPU", 3, 2)], "soft is above hard"),
    ],
)
def test_rlimits_that_cannot_be(entries: list[tuple[str, int, int]], words: str) -> None:
    wanted = [dict(zip(("type", "soft", "hard"), entry)) for entry in entries]
    with pytest.raises(HostctlError, match=words):
        rlimits.prepare({"process": {"rlimits": wanted}})


def test_a_low_limit_holds_for_the_program_alone(tmp_path: Path) -> None:
    """With three open files the container could not have been made."""
    change = _change(rlimits=[{"type": "RLIMIT_NOFILE", "soft": 3, "hard": 3}])
    with _running(Bundle(tmp_path), change) as made:
        lines = Path(f"/proc/{made.pid}/limits").read_text().splitlines()
        assert next(line for line in lines if "open files" in line).split()[3:5] == ["3", "3"]


def test_oom_score_is_left_alone_unless_asked_for(tmp_path: Path) -> None:
    before = Path("/proc/self/oom_score_adj").read_text()
    try:
        Path("/proc/self/oom_score_adj").write_text("17")
        with _running(Bundle(tmp_path), None) as made:
            assert Path(f"/proc/{made.pid}/oom_score_adj").read_text() == "17\n"
    finally:
        Path("/proc/self/oom_score_adj").write_text(before)


@pytest.mark.parametrize(
    ("entry", "found"),
    [
        ({"policy": "SCHED_BATCH", "nice": 5}, (3, 0, 5, 0)),
        ({"policy": "SCHED_IDLE"}, (5, 0, 0, 0)),
        (
            {"policy": "SCHED_OTHER", "nice": -3, "flags": ["SCHED_FLAG_RESET_ON_FORK"]},
            (0, 1, -3, 0),
        ),
    ],
)
def test_scheduler(tmp_path: Path, entry: dict[str, Any], found: tuple[int, ...]) -> None:
    with _running(Bundle(tmp_path), _change(scheduler=entry)) as made:
        assert syscalls.sched_getattr(made.pid)[:4] == found


def test_real_time_takes_a_share_of_it(tmp_path: Path) -> None:
    """On version 1 a cgroup has no real time by itself, and its parents need as much."""
    entry = {"policy": "SCHED_FIFO", "priority": 7}
    bundle = Bundle(tmp_path)
    bundle.path = f"hostctl-test-{os.getpid()}"

    def change(made: dict[str, Any]) -> None:
        made["process"]["scheduler"] = entry
        made["linux"]["resources"] = {"cpu": {"realtimeRuntime": 1000, "realtimePeriod": 1000000}}

    root = cgroup.detect().v1.get("cpu")
    if root is None or not Path(root, "cpu.rt_runtime_us").exists():
        change = _change(scheduler=entry)
    with _running(bundle, change) as made:
        assert syscalls.sched_getattr(made.pid)[:4] == (1, 0, 0, 7)


@pytest.mark.parametrize(
    "entry",
    [{"policy": "SCHED_FAST"}, {"policy": "SCHED_OTHER", "flags": ["SCHED_FLAG_FAST"]}],
)
def test_schedulers_that_do_not_exist(entry: dict[str, Any]) -> None:
    with pytest.raises(HostctlError, match="unknown"):
        scheduler.Scheduler(entry)


def test_io_priority(tmp_path: Path) -> None:
    entry = {"class": "IOPRIO_CLASS_BE", "priority": 6}
    with _running(Bundle(tmp_path), _change(ioPriority=entry)) as made:
        assert syscalls.ioprio_get(made.pid) == 2 << 13 | 6
    with pytest.raises(HostctlError, match="IOPRIO_CLASS_BE 8"):
        process.prepare(_process(ioPriority={"class": "IOPRIO_CLASS_BE", "priority": 8}))


def test_personality(tmp_path: Path) -> None:
    def change(made: dict[str, Any]) -> None:
        made["linux"]["personality"] = {"domain": "LINUX32"}

    machine = {"x86_64": "i686", "aarch64": "armv8l"}[platform.machine()]
    assert Bundle(tmp_path).run("uname", "-m", change=change) == f"{machine}\n"
    made = config("true")
    made["linux"]["personality"] = {"domain": "SOLARIS"}
    with pytest.raises(HostctlError, match="SOLARIS"):
        process.prepare(made)


def _process(**values: Any) -> dict[str, Any]:
    made = config("true")
    made["process"].update(values)
    return made


def test_labels_are_refused_where_the_kernel_has_none() -> None:
    """Where it has, they are written for the next exec: there this proves the refusal's counterpart."""
    if not labels.has_apparmor():
        with pytest.raises(HostctlError, match="does not run with AppArmor"):
            process.prepare(_process(apparmorProfile="docker-default"))
        assert process.prepare(_process(apparmorProfile="unconfined")).labels is None
    if not labels.has_selinux():
        with pytest.raises(HostctlError, match="does not run with SELinux"):
            process.prepare(_process(selinuxLabel="system_u:system_r:container_t:s0"))
        with pytest.raises(HostctlError, match="does not run with SELinux"):
            labels.label_mounts({"linux": {"mountLabel": "x"}}, [])
    assert labels.with_context("size=1m", "a:s0:c1,c2") == 'size=1m,context="a:s0:c1,c2"'
    written = labels.Labels("profile", "label").writes
    assert [value for value, _ in written] == ["exec profile", "label"]


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("net.ipv4.ip_forward", "net/ipv4/ip_forward"),
        ("net/ipv4/conf/eth0.1/forwarding", "net/ipv4/conf/eth0.1/forwarding"),
        ("net.ipv4.conf.eth0/1.forwarding", "net/ipv4/conf/eth0.1/forwarding"),
    ],
)
def test_both_spellings_of_a_parameter(name: str, path: str) -> None:
    assert sysctls.path_of(name) == path


@pytest.mark.parametrize(
    "name", ["net/../kernel/core_pattern", "kernel.core_pattern", "kernel", "", "/net/x"]
)
def test_parameters_of_the_host_are_refused(tmp_path: Path, name: str) -> None:
    def change(made: dict[str, Any]) -> None:
        made["linux"]["sysctl"] = {name: "|/x"}

    before = Path("/proc/sys/kernel/core_pattern").read_text()
    with pytest.raises(HostctlError, match="cannot set sysctl"):
        Bundle(tmp_path).run("true", change=change)
    assert Path("/proc/sys/kernel/core_pattern").read_text() == before


def test_exec_runs_on_its_cpus(tmp_path: Path) -> None:
    wanted = max(os.sched_getaffinity(0))
    bundle = Bundle(tmp_path)
    made = config("sh", "-c", "grep Cpus_allowed_list /proc/self/status")
    made["process"]["execCPUAffinity"] = {"initial": "0", "final": str(wanted)}
    bundle.write("sleep", "100")
    out = os.open(tmp_path / "exec", os.O_RDWR | os.O_CREAT)
    with bundle.running() as there:
        own = cgroup.Cgroup(bundle.path, cgroup.detect())
        joined = join.start(there.pid, process.prepare(made), own, stdio=(out, out, out))
        assert joined.wait() == 0
        assert status(there.pid, "Cpus_allowed_list") == _list(os.sched_getaffinity(0))
    os.close(out)
    assert (tmp_path / "exec").read_text().split()[1] == str(wanted)
    assert scheduler.cpus("0-2,7") == {0, 1, 2, 7}
    for text in ("3-1", "a", "1-", "-1"):
        with pytest.raises(HostctlError, match="cannot read the CPUs"):
            scheduler.cpus(text)


@pytest.mark.parametrize("bounding", [[], ["CAP_SYS_PTRACE"]])
def test_exec_makes_no_working_directory(tmp_path: Path, bounding: list[str]) -> None:
    """That of a container is made, as in Docker; a further program's must be there."""

    def change(made: dict[str, Any]) -> None:
        made["process"]["cwd"] = "/own"
        made["process"]["capabilities"] = {"bounding": bounding}

    bundle = Bundle(tmp_path)
    bundle.write("sleep", "100", change=change)
    with bundle.running() as there, open(os.devnull, "r+b") as null:
        own = cgroup.Cgroup(bundle.path, cgroup.detect())
        stdio = [null.fileno()] * 3
        for cwd, code in (("/missing", 127), ("/etc/passwd", 126)):
            bundle.config["process"].update(cwd=cwd, args=["true"])
            with pytest.raises(HostctlError, match=f"working directory {cwd}: ") as caught:
                join.start(there.pid, process.prepare(bundle.config), own, stdio=stdio)
            assert getattr(caught.value, "code", None) == code
        root = f"/proc/{there.pid}/root"
        assert os.path.isdir(f"{root}/own") and not os.path.exists(f"{root}/missing")


def _list(numbers: set[int]) -> str:
    first, last = min(numbers), max(numbers)
    assert numbers == set(range(first, last + 1))
    return f"{first}-{last}" if last > first else str(first)


@pytest.mark.parametrize(
    ("args", "code"), [(["nothing"], 127), (["/bin/nothing"], 127), (["/etc/passwd"], 126)]
)
def test_exit_codes_of_what_cannot_run(tmp_path: Path, args: list[str], code: int) -> None:
    bundle = Bundle(tmp_path)
    with pytest.raises(HostctlError) as caught:
        bundle.run(*args)
    assert getattr(caught.value, "code", None) == code


def test_signals_are_as_after_a_boot(tmp_path: Path) -> None:
    """Ignored ones and the mask would survive exec; Python ignores two."""
    with _running(Bundle(tmp_path), None) as made:
        assert status(made.pid, "SigIgn") == status(made.pid, "SigBlk") == "0" * 16


def test_capabilities_that_cannot_be_given_are_in_the_log(tmp_path: Path) -> None:
    """By the command line, as the specification wants warnings."""
    bundle = Bundle(tmp_path)
    sets = {"bounding": ["CAP_FLY"], "permitted": ["CAP_FLY"]}
    bundle.write("true", change=_change(capabilities=sets))
    log = tmp_path / "log"
    words = ("--root", str(tmp_path / "state"), "--log", str(log), "run", "-b", str(bundle.folder))
    module = Path(labels.__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-m", "hostctl_host.runtime", *words, f"t{os.getpid()}"],
        env={**os.environ, "PYTHONPATH": str(module)},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
        timeout=20,
    )
    assert done.returncode == 0, done.stderr
    assert 'level=warning msg="cannot give CAP_FLY: unknown capability"' in log.read_text()
