"""Runs on the test machine: one lab host, from its namespaces to its sshd."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from . import cgroups, keys, network, python, roots
from .paths import REGISTRY_PORT, WORK
from .shell import LabError, run

NAMESPACES = ("--mount", "--pid", "--net", "--uts", "--ipc", "--cgroup")


@dataclass(frozen=True)
class HostOptions:
    """What a test may ask of a host.

    Attributes:
        suite: the Debian release (`bullseye` has Python 3.9).
        python: None removes `python3`; a version such as "3.6" puts a real old one in its place.
        groups: inventory groups of this host.
        user: the inventory's `ansible_user`: root, ops (sudo), opspw (sudo with password), guest.
        ip_forward: whether the host forwards IPv4 from the start; Debian's default is that it does not.
        unified: version 2 of cgroups alone, as far as the host can see (this machine may give it no controllers).
        init: `tini`, or a real `systemd` (with journald, logind and D-Bus) as PID 1.
    """

    suite: str = "bookworm"
    python: str | None = "3"
    groups: tuple[str, ...] = ("web",)
    user: str = "root"
    ip_forward: bool = False
    unified: bool = False
    init: str = "tini"

    @property
    def root(self) -> Path:
        """The read-only root file system below its own layer."""
        return roots.host_root(self.suite, with_systemd=self.init == "systemd")


@dataclass
class LabHost:
    """A host of a lab; it can be stopped (as by pulling the plug) and started again."""

    name: str
    slot: int
    number: int
    options: HostOptions

    @property
    def address(self) -> str:
        """Its IPv4 address on the lab's bridge."""
        return network.address(self.slot, self.number)

    @property
    def address6(self) -> str:
        """Its IPv6 address on the lab's bridge."""
        return network.address6(self.slot, self.number)

    @property
    def work(self) -> Path:
        """Its folder on this machine: writable layer, `data` (its /var/lib/hostctl), logs."""
        return WORK / str(self.slot) / self.name

    @property
    def data(self) -> Path:
        """Its /var/lib/hostctl, as this machine sees it."""
        return self.work / "data"

    @property
    def ssh_key(self) -> Path:
        """The private key that opens it."""
        return keys.client_key()

    @property
    def cgroup(self) -> str:
        """The name of its subtree in every cgroup hierarchy."""
        return f"{self.slot}-{self.name}"

    @property
    def pid(self) -> int:
        """Its PID 1, as this machine sees it."""
        return int((self.work / "pid").read_text())

    def launch(self, names: dict[str, str]) -> None:
        """Start its namespaces and network; `ready` waits for the rest."""
        for folder in ("root", "upper", "work", "data", "seed"):
            (self.work / folder).mkdir(parents=True, exist_ok=True)
        self.data.chmod(0o700)
        self._seed(names)
        cgroups.make(self.cgroup)
        table = self.work / "cgroups"
        mounts = [(h.type, h.options, h.target) for h in cgroups.hierarchies()]
        if self.options.unified:
            mounts = [("cgroup2", "rw", Path("/sys/fs/cgroup"))]
        table.write_text("".join(f"{kind} {words} {at}\n" for kind, words, at in mounts))
        boot = Path(__file__).with_name("boot.sh")
        lower = self.options.root
        argv = [
            *cgroups.joining(self.cgroup, leaf=""),
            "unshare",
            *NAMESPACES,
            "--fork",
            "--kill-child",
        ]
        with (self.work / "boot.log").open("ab") as log:
            unshare = subprocess.Popen(
                [*argv, "sh", str(boot), str(self.work), str(lower), str(table), self.options.init],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={"PATH": os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")},
            )
        self._unshare = unshare
        pid = self._first_child(unshare)
        (self.work / "pid").write_text(str(pid))
        network.connect(self.slot, self.number, pid)
        cgroups.settle(self.cgroup)

    def ready(self, timeout: float = 20) -> None:
        """Wait until its sshd greets, and systemd has nothing left to start."""
        deadline = time.monotonic() + timeout
        self._wait_for_sshd(deadline)
        if self.options.init == "systemd":
            state = self.run(
                ["systemctl", "is-system-running", "--wait"], check=False, timeout=timeout
            )
            if state.stdout.strip() != "running":
                failed = self.run(["systemctl", "--failed", "--no-pager"], check=False).stdout
                raise LabError(f"host {self.name} is {state.stdout}{state.stderr}{failed}")

    def _wait_for_sshd(self, deadline: float) -> None:
        while True:
            try:
                with socket.create_connection((self.address, 22), timeout=1) as connection:
                    if connection.recv(4) == b"SSH-":
                        return
            except OSError:
                pass
            if self._unshare.poll() is not None or time.monotonic() > deadline:
                log = (self.work / "boot.log").read_text()
                raise LabError(f"host {self.name} does not come up:\n{log}")
            time.sleep(0.01)

    def run(
        self,
        argv: Sequence[str],
        *,
        input: str | bytes | None = None,
        check: bool = True,
        timeout: float = 60,
        env: dict[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a program as root inside the host, without SSH; never part of what is tested."""
        inside = ["env", "-i", "HOME=/root", f"PATH={PATH}", "LANG=C.UTF-8"]
        inside += [f"{name}={value}" for name, value in (env or {}).items()]
        done = subprocess.run(
            [*self.entering(), *inside, *argv],
            input=input.encode() if isinstance(input, str) else input,
            stdin=subprocess.DEVNULL if input is None else None,
            capture_output=True,
            timeout=timeout,
            check=False,
        )
        text = subprocess.CompletedProcess(
            list(argv),
            done.returncode,
            done.stdout.decode(errors="replace"),
            done.stderr.decode(errors="replace"),
        )
        if check and text.returncode:
            raise LabError(f"{self.name}: {argv}: exit {text.returncode}\n{text.stderr}")
        return text

    def sh(self, script: str, **options: object) -> str:
        """The output of a shell script inside the host."""
        return self.run(["sh", "-ec", script], **options).stdout  # type: ignore[arg-type]

    def entering(self) -> list[str]:
        """The words that start a program inside the host: its namespaces, its cgroups, its root."""
        joined = ["nsenter", f"--target={self.pid}", "--all", "--root", "--"]
        return [*cgroups.joining(self.cgroup), *joined, "env", "--chdir=/"]

    def ssh(self, user: str = "root") -> list[str]:
        """The words of an OpenSSH client that logs in with the lab's key."""
        known = WORK / str(self.slot) / "known_hosts"
        options = [f"-oUserKnownHostsFile={known}", "-oBatchMode=yes", "-oIdentitiesOnly=yes"]
        return [
            "ssh",
            "-F",
            "/dev/null",
            *options,
            "-i",
            str(self.ssh_key),
            f"{user}@{self.address}",
        ]

    def stop(self) -> None:
        """Pull the plug: every process dies at once; what is on its disk stays."""
        process = getattr(self, "_unshare", None)
        if process and process.poll() is None:
            # With PID 1 the kernel ends all others; unshare reaps it and ends too.
            with contextlib.suppress(ProcessLookupError, FileNotFoundError):
                os.kill(self.pid, signal.SIGKILL)
                process.wait(10)
        self._clear()

    def shutdown(self, timeout: float = 60) -> None:
        """Let systemd stop its units in their order and power off; `start` boots it again."""
        self.run(["systemctl", "poweroff", "--no-wall"], check=False)
        try:
            self._unshare.wait(timeout)
        except subprocess.TimeoutExpired as error:
            jobs = self.run(["systemctl", "list-jobs", "--no-pager"], check=False)
            raise LabError(f"host {self.name} does not power off:\n{jobs.stdout}") from error
        self._clear()

    def reboot(self) -> None:
        """Shut it down in order and boot it again."""
        self.shutdown()
        self.start()

    def _clear(self) -> None:
        """Remove what outlives its processes, but its disk."""
        process = getattr(self, "_unshare", None)
        cgroups.kill(self.cgroup)
        if process:
            process.wait(10)
        cgroups.remove(self.cgroup)
        link = f"{network.bridge_name(self.slot)}-{self.number}"
        with contextlib.suppress(LabError):  # the kernel removes it with the namespace, soon
            run(["ip", "link", "delete", link])

    def start(self, names: dict[str, str] | None = None) -> None:
        """Start it (again); `/run` and `/tmp` are new."""
        self.launch(names or json.loads((self.work / "names").read_text()))
        self.ready()

    def freeze(self) -> None:
        """Make it hang: it accepts connections and says nothing."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        for pid in cgroups.processes(self.cgroup) - {self.pid}:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def _first_child(self, unshare: subprocess.Popen[bytes]) -> int:
        children = Path(f"/proc/{unshare.pid}/task/{unshare.pid}/children")
        while unshare.poll() is None:
            # The shell that joins the cgroups becomes unshare; it never forks before that.
            if words := children.read_text().split():
                return int(words[0])
            time.sleep(0.002)
        log = (self.work / "boot.log").read_text()
        raise LabError(f"host {self.name} does not start:\n{log}")

    def _seed(self, names: dict[str, str]) -> None:
        """The files that make this host different from the others, copied over its root."""
        (self.work / "names").write_text(json.dumps(names))
        machine = network.address(self.slot, 1)
        known = [f"127.0.0.1 localhost\n::1 localhost\n127.0.1.1 {self.name}\n"]
        known += [f"{machine} deb.debian.org registry.lab\n"]
        known += [f"{address} {name}\n" for name, address in names.items() if name != self.name]
        key = keys.host_key(self.name)
        machine_id = uuid.uuid5(uuid.NAMESPACE_DNS, f"{self.name}.{self.slot}.lab").hex
        seed = {
            "etc/hostname": f"{self.name}\n",
            "etc/hosts": "".join(known),
            "etc/resolv.conf": f"nameserver {machine}\noptions timeout:1 attempts:1\n",
            "etc/machine-id": f"{machine_id}\n",
            "etc/ssh/authorized_keys": keys.public(keys.client_key()) + "\n",
            "etc/ssh/ssh_host_ed25519_key": key.read_text(),
            "etc/ssh/ssh_host_ed25519_key.pub": keys.public(key) + "\n",
            "etc/lab": f"registry={machine}:{REGISTRY_PORT}\n",
        }
        for name, text in seed.items():
            path = self.work / "seed" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            path.chmod(0o600 if name.endswith("_key") else 0o644)
        prepare = self.work / "prepare"
        steps = [python.prepare(self.options.python)]
        # Said in both cases: a network namespace begins with what this machine has.
        steps += [f"echo {self.options.ip_forward:d} > /proc/sys/net/ipv4/ip_forward\n"]
        prepare.write_text("#!/bin/sh -eu\n" + "".join(steps))
        prepare.chmod(0o755)


PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
