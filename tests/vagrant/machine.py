"""Runs on the test machine, inside the space: one virtual machine, used over SSH as `vagrant` with sudo."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.lab.shell import LabError, run

PATIENCE = 600.0
"""Seconds for whatever must happen at some time; a machine without KVM may take minutes to boot."""

BOOT_ID = "/proc/sys/kernel/random/boot_id"


@dataclass
class Machine:
    """A virtual machine that is up, or will be.

    Attributes:
        name: what Vagrant, libvirt's domain (with a prefix) and the inventory call it.
        address: its IPv4 address.
        folder: the space's folder.
    """

    name: str
    address: str
    folder: Path

    @property
    def console(self) -> str:
        """What its serial console has said so far: the kernel's messages above all."""
        return (self.folder / "console" / f"{self.name}.log").read_text(errors="replace")

    @property
    def domain(self) -> str:
        """Its name for `virsh`."""
        return f"vagrant_{self.name}"

    def ssh(self, *, shared: bool = False) -> list[str]:
        """The words of an OpenSSH client for it.

        Args:
            shared: over one connection for all that ask for it, which costs less than a login each.
        """
        words = ["ssh", "-F", str(self.folder / "ssh_config"), "-oBatchMode=yes"]
        words += ["-oConnectTimeout=20", "-oServerAliveInterval=10", "-oServerAliveCountMax=6"]
        if shared:
            words += ["-oControlMaster=auto", "-oControlPersist=120"]
            words += [f"-oControlPath={self.folder}/{self.name}.mux"]
        return [*words, self.name]

    def run(
        self,
        argv: Sequence[str],
        *,
        input: str = "",
        check: bool = True,
        timeout: float = 180,
        sudo: bool = True,
        shared: bool = True,
    ) -> subprocess.CompletedProcess[str]:
        """Run a program on it, as root.

        Args:
            argv: its words; no shell takes them apart.
            input: its standard input.
            check: whether another exit code than 0 is a failure.
            timeout: in seconds.
            sudo: False runs it as the user `vagrant`.
            shared: False logs in anew for it.

        Raises:
            LabError: it failed, or SSH did.
        """
        words = shlex.join([*(["sudo", "-n"] if sudo else []), *argv])
        done = subprocess.run(
            [*self.ssh(shared=shared), words],
            input=input,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
        )
        if check and done.returncode:
            raise LabError(
                f"{self.name}: {words}: exit {done.returncode}\n{done.stderr}{done.stdout}"
            )
        return done

    def sh(self, script: str, **options: object) -> str:
        """The output of a shell script on it, as root."""
        return self.run(["sh", "-ec", script], **options).stdout  # type: ignore[arg-type]

    def systemctl(self, *words: str, check: bool = True) -> str:
        """The output of systemctl on it."""
        return self.run(["systemctl", *words], check=check).stdout.strip()

    def container_pid(self, name: str) -> int:
        """The first process of a running container."""
        return int(json.loads(self.sh(f"cat /run/hostctl/containers/{name}/state.json"))["pid"])

    def wait_until(self, script: str, timeout: float = PATIENCE) -> None:
        """Wait until a shell script ends well there; looks once a second."""
        looked = self.run(
            [
                "sh",
                "-c",
                f"i=0; until {script}; do i=$((i+1)); [ $i -lt {timeout:.0f} ]; sleep 1; done",
            ],
            check=False,
            timeout=timeout * 3,
        )
        if looked.returncode:
            raise LabError(
                f"{self.name}: never came true: {script}\n{looked.stdout}{looked.stderr}"
            )

    def ready(self, *, after: str = "") -> None:
        """Wait until somebody can log in and systemd has nothing left to start.

        Args:
            after: the `boot_id` of a boot that is over.
        """
        deadline = time.monotonic() + PATIENCE
        while not self._answers(after):
            if time.monotonic() > deadline:
                raise LabError(f"{self.name} is not up; its console:\n{self.console[-5000:]}")
            self.disconnect()
            time.sleep(1)

    def _answers(self, after: str) -> bool:
        words = ["sh", "-c", f"cat {BOOT_ID}; systemctl is-system-running --wait"]
        try:
            told = self.run(words, check=False, timeout=PATIENCE).stdout.split()
        except subprocess.TimeoutExpired:
            return False
        return told[:1] != [after] and told[1:] in (["running"], ["degraded"])

    def boot_id(self) -> str:
        """Another one after each boot."""
        return self.sh(f"cat {BOOT_ID}").strip()

    def reboot(self) -> None:
        """Shut it down in order and boot it again."""
        before = self.boot_id()
        self.run(["systemctl", "reboot", "--no-wall"], check=False)
        self.ready(after=before)

    def cut_power(self) -> None:
        """Kill its QEMU: what it has not written to its disk is lost. Of this machine's memory nothing is."""
        pid = int(Path(f"/run/libvirt/qemu/{self.domain}.pid").read_text())
        handle = os.pidfd_open(pid)
        try:
            signal.pidfd_send_signal(handle, signal.SIGKILL)
        finally:
            os.close(handle)
        deadline = time.monotonic() + PATIENCE
        while self.is_on():
            if time.monotonic() > deadline:
                raise LabError(f"{self.name}: libvirt does not see that its QEMU has ended")
            time.sleep(0.2)
        self.disconnect()

    def power_on(self) -> None:
        """Boot it after `cut_power`, and wait until it is ready."""
        run(["virsh", "-q", "start", self.domain])
        self.ready()

    def is_on(self) -> bool:
        """Whether its QEMU runs."""
        return run(["virsh", "-q", "domstate", self.domain]).strip() == "running"

    def disconnect(self) -> None:
        """End the shared connection; the next one who asks for it makes it again."""
        words = [*self.ssh(shared=True)[:-1], "-O", "exit", self.name]
        subprocess.run(words, capture_output=True, timeout=60, check=False)
        (self.folder / f"{self.name}.mux").unlink(missing_ok=True)
