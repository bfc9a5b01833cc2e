"""What watches over a container, seen from inside of it: out of reach, unless the playbook gives the host away."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hostctl_host import container
from hostctl_host.container import Mount
from hostctl_host.contract.service import Healthcheck
from hostctl_host.monitor import client, program
from hostctl_host.runtime import cgroup, join

from tests.kinds.shop import Shop, open_shop

from .workshop import until

pytestmark = pytest.mark.root

# Every way to look into a process, or to take hold of it, that root has.
TRY = """
import ctypes, json, os, signal, sys
libc = ctypes.CDLL(None, use_errno=True)
SEIZE, PIDFD_OPEN, PIDFD_GETFD = 0x4206, 434, 438
def works(act):
    try:
        return act() is not None
    except OSError:
        return False
def seize(pid):
    if libc.ptrace(SEIZE, pid, 0, 0):
        raise OSError
    return True  # let go at our end
def taken(pid):
    pidfd = libc.syscall(PIDFD_OPEN, pid, 0)
    if libc.syscall(PIDFD_GETFD, pidfd, 0, 0) < 0:
        raise OSError
    return True
def tries(pid):
    proc = f"/proc/{pid}"
    return {
        "root": works(lambda: os.listdir(proc + "/root/")),
        "descriptors": works(lambda: os.readlink(proc + "/fd/" + os.listdir(proc + "/fd")[0])),
        "environment": works(lambda: open(proc + "/environ").read()),
        "program": works(lambda: os.readlink(proc + "/exe")),
        "folder": works(lambda: os.stat(proc + "/cwd/")),
        "memory": works(lambda: os.close(os.open(proc + "/mem", os.O_RDWR)) or True),
        "maps": works(lambda: open(proc + "/maps").read()),
        "namespace": works(lambda: os.close(os.open(proc + "/ns/mnt", os.O_RDONLY)) or True),
        "descriptor taken": works(lambda: taken(pid)),
        "seized": works(lambda: seize(pid)),
    }
seen = sorted(int(name) for name in os.listdir("/proc") if name.isdigit())
print(json.dumps({"seen": seen, "tried": {pid: tries(pid) for pid in map(int, sys.argv[1:]) if pid in seen}}))
"""
PYTHON = ("/usr/bin/python3", "-I", "-S", "/tmp/try.py")
USR = Mount("/usr", "bind", "/usr", read_only=True)


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    with open_shop(tmp_path, monkeypatch) as made:
        for name in ("lib", "lib64"):
            (made.layer / name).symlink_to(f"usr/{name}")
        (made.layer / "usr").mkdir(exist_ok=True)
        (made.layer / "tmp" / "try.py").write_text(TRY)
        yield made


def caretakers(shop: Shop) -> list[int]:
    """Zygote, its waiting child, and the monitors."""
    home = cgroup.Cgroup(cgroup.monitors_path(shop.paths.run), cgroup.detect())
    return sorted(home.processes())


def tried(shop: Shop, **fields: Any) -> tuple[list[int], dict[int, dict[str, bool]]]:
    """What the container sees, and what it could do with each of those who watch over it."""
    watched = shop.spec("watched")
    shop.converge(container, watched)
    pids = [*caretakers(shop), client.status(shop.paths, watched.name).pid]
    argv = " ".join((*PYTHON, *map(str, pids)))
    printed = shop.run("a", argv, volumes=(USR,), **fields)
    found = json.loads(printed.splitlines()[-1])
    tries = {int(pid): ways for pid, ways in found["tried"].items()}
    assert caretakers(shop)[:2] == pids[:2]
    return found["seen"], {pid: tries[pid] for pid in pids if pid in tries}


def open_ways(tries: dict[str, bool]) -> set[str]:
    return {way for way, works in tries.items() if works}


@pytest.mark.parametrize("added", [(), ("CAP_SYS_PTRACE",)])
def test_a_container_sees_its_own_processes_alone(shop: Shop, added: tuple[str, ...]) -> None:
    seen, tries = tried(shop, cap_add=added)
    assert seen == [1] or seen == [1, 2]
    # Number 1, and maybe 2, are its own; nobody else has so low a number here.
    assert set(tries) <= {1, 2}


def test_in_the_hosts_pid_namespace_nobody_else_can_be_looked_into(shop: Shop) -> None:
    """They have rights that a container lacks, and so the kernel refuses each way."""
    seen, tries = tried(shop, pid="host")
    assert os.getpid() in seen
    *watchers, other = tries
    assert len(watchers) >= 3
    for pid in watchers:
        assert open_ways(tries[pid]) == set(), pid
    # Another container of the same rights is its equal: that is what sharing the namespace means.
    assert "seized" in open_ways(tries[other])


def test_the_right_to_trace_in_the_hosts_pid_namespace_is_that_of_the_hosts_root(
    shop: Shop,
) -> None:
    """As the guide says; with Docker it is so, too."""
    _, tries = tried(shop, pid="host", cap_add=("CAP_SYS_PTRACE",))
    assert {"root", "seized"} <= open_ways(next(iter(tries.values())))


HUNT = """
import os, time
own, got, end = set(os.listdir("/proc")), set(), time.time() + 4
while time.time() < end:
    for pid in set(os.listdir("/proc")) - own:
        if not pid.isdigit():
            continue
        own.add(pid)
        try:
            fd = os.open(f"/proc/{pid}/mem", os.O_RDWR)
            lines = open(f"/proc/{pid}/status").read().splitlines()
            got |= {line.split()[1] for line in lines if line.startswith(("CapEff", "CapPrm", "CapBnd"))}
            os.close(fd)
        except OSError:
            continue
print(*got)
"""


def test_who_may_trace_takes_hold_of_nobody_with_more_rights(shop: Shop) -> None:
    """Programs that come into a container, of healthchecks and exec, are seen there before they begin."""
    (shop.layer / "tmp" / "hunt.py").write_text(HUNT)
    check = Healthcheck(test=("CMD", "true"), interval=0.05)
    argv = " ".join((*PYTHON[:-1], "/tmp/hunt.py"))
    added = ("CAP_SYS_PTRACE",)
    spec = shop.spec("a", argv, volumes=(USR,), cap_add=added, healthcheck=check)
    shop.converge(container, spec)
    status = Path(f"/proc/{client.status(shop.paths, spec.name).pid}/status").read_text()
    until(lambda: client.status(shop.paths, spec.name).status == "exited", 20)
    assert shop.output(spec.name).split() == [status.partition("CapBnd:")[2].split()[0]]


@pytest.mark.parametrize("terminal", [False, True])
def test_programs_in_a_container_that_may_trace(shop: Shop, terminal: bool) -> None:
    """They are as elsewhere: user, folder, rights, terminal, exit code."""
    added = ("CAP_SYS_PTRACE",)
    spec = shop.spec("a", working_dir="/made", cap_add=added, user="app:app", pids_limit=50)
    shop.converge(container, spec)
    now = client.status(shop.paths, spec.name)
    script = (
        "id -u; pwd; umask; tty >/dev/null && echo terminal; grep CapEff /proc/self/status; exit 7"
    )
    wanted = program.plan(shop.paths, spec.name, ["sh", "-c", script], terminal=terminal)
    code, printed = run_program(shop, spec.name, now.pid, wanted, terminal)
    shown = ["1000", "/made", "0022", *(["terminal"] if terminal else [])]
    assert printed.split() == [*shown, "CapEff:", "0000000000000000"]
    assert code == 7


def run_program(shop: Shop, name: str, pid: int, wanted: Any, terminal: bool) -> tuple[int, str]:
    own = cgroup.Cgroup(cgroup.container_path(shop.paths.run, name), cgroup.detect())
    reading, writing = os.pipe()
    null = os.open("/dev/null", os.O_RDWR)
    joined = join.start(pid, wanted, own, stdio=(null, writing, writing), terminal=terminal)
    os.close(writing)
    os.close(null)
    source = joined.terminal if terminal else reading
    said = b""
    with contextlib.suppress(OSError):  # EIO: the terminal's other side is closed
        while data := os.read(source, 4096):
            said += data
    code = joined.wait()
    os.close(reading)
    if terminal:
        os.close(joined.terminal)
    return code, said.decode()


def test_a_monitor_outlives_what_a_container_sends_it(shop: Shop) -> None:
    """Its pipes are all that a container has of its monitor: what comes out of them is text."""
    nasty = (
        'printf \'\\000\\377\\376{"log": "x"}\\n\\033[2J\'; head -c 200000 /dev/zero; echo; '
        "exec 3<>/proc/self/fd/1; echo through >&3; ls -l /proc/self/fd/1 >&2; echo end; sleep 1000"
    )
    spec = shop.spec("a", nasty)
    shop.converge(container, spec)
    until(lambda: "end\n" in shop.output(spec.name))
    now = client.status(shop.paths, spec.name)
    assert now.watched
    assert "through\n" in shop.output(spec.name)
    os.kill(now.pid, signal.SIGKILL)
    until(lambda: client.status(shop.paths, spec.name).status == "exited")
    assert client.status(shop.paths, spec.name).exit_code == 137


DANGEROUS = (
    "/proc/sysrq-trigger",
    "/proc/sys/kernel/core_pattern",
    "/proc/sys/kernel/modprobe",
    "/proc/sys/vm/panic_on_oom",
    "/proc/sys/fs/binfmt_misc/register",
    "/proc/irq/default_smp_affinity",
    "/proc/acpi/wakeup",
    "/sys/kernel/uevent_helper",
    "/sys/power/state",
    "/sys/fs/cgroup/memory/memory.limit_in_bytes",
    "/sys/fs/cgroup/release_agent",
    "/sys/module/printk/parameters/time",
)


def test_nothing_of_the_kernels_can_be_written_by_any_root(shop: Shop) -> None:
    """Not as they are, not after a try to mount them anew, not from further namespaces."""
    writes = "; ".join(
        f"( : > {path} ) 2>/dev/null && echo opened {path}"
        f"; ( echo x > {path} ) 2>/dev/null && echo written {path}"
        for path in DANGEROUS
    )
    script = f"""
    w() {{ {writes}; true; }}
    w
    for place in /proc/sys /proc/irq /proc/sysrq-trigger /sys /sys/fs/cgroup /proc/kcore; do
        mount -o remount,rw $place 2>/dev/null && echo remounted $place
        umount $place 2>/dev/null && echo unmounted $place
    done
    mkdir /tmp/p && mount -t proc proc /tmp/p 2>/dev/null && echo mounted
    mount -t sysfs sysfs /tmp/p 2>/dev/null && echo mounted
    mount -t cgroup -o memory cgroup /tmp/p 2>/dev/null && echo mounted
    unshare -Urm true 2>/dev/null && echo unshared
    nsenter -t 1 -m true 2>/dev/null && echo entered
    w
    echo done
    """
    assert shop.run("a", script, cap_add=("CAP_SYS_PTRACE", "CAP_NET_ADMIN")) == "done\n"
