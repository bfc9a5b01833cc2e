"""A real sshd on loopback in a mount namespace of its own: /etc, /home and sudo are the test's."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

SETUP = r"""
set -e
mkdir -p "$1/etc-upper" "$1/etc-work" /run/sshd
mount --make-rprivate /
mount -t overlay overlay -o "lowerdir=/etc,upperdir=$1/etc-upper,workdir=$1/etc-work" /etc
mount -t tmpfs -o mode=755 tmpfs /home
for user in plain asks free nosudo nopython oldpython noisy frozen single; do
  useradd -M -p '*' -s /bin/sh -d "/home/$user" "$user"
  mkdir -p "/home/$user/.ssh"
  cp "$1/user.pub" "/home/$user/.ssh/authorized_keys"
  chown -R "$user:" "/home/$user"
done
printf '%s\n' plain:Right-1 asks:Right-1 nosudo:Right-1 | chpasswd -c SHA256 -s 1000
printf '#!/bin/sh\necho Welcome to the machine\nexec /bin/sh "$@"\n' > /etc/noisy-shell
chmod 755 /etc/noisy-shell
usermod -s /etc/noisy-shell noisy
printf 'asks ALL=(ALL) ALL\nfree ALL=(ALL) NOPASSWD: ALL\nDefaults lecture=never\n' > /etc/sudoers.d/test
chmod 440 /etc/sudoers.d/test
mkdir -p "$1/bin-none" "$1/bin-old"
for program in sh id cat; do
  ln -s "$(command -v $program)" "$1/bin-none/$program"
  ln -s "$(command -v $program)" "$1/bin-old/$program"
done
printf '#!/bin/sh\necho 3.7.3\n' > "$1/bin-old/python3"
chmod 755 "$1/bin-old/python3" "$1"
mkdir -p "$1/full"
mount -t tmpfs -o size=64k,mode=700 tmpfs "$1/full"
mount -o bind /home/frozen /home/frozen
mount -o remount,bind,ro /home/frozen
exec /usr/sbin/sshd -D -e -f "$1/sshd_config"
"""


@dataclass
class Sshd:
    """A running server; `key` and `encrypted_key` may log in as every user, root included."""

    port: int
    folder: Path
    process: subprocess.Popen[bytes]

    @property
    def key(self) -> str:
        return str(self.folder / "user")

    @property
    def host_key(self) -> str:
        """`TYPE BASE64` of the host key."""
        return " ".join((self.folder / "host.pub").read_text().split()[:2])

    @property
    def known_hosts(self) -> str:
        return str(self.folder / "known_hosts")

    def variables(self, **more: object) -> dict[str, object]:
        """Inventory variables of a host that is this server."""
        return {
            "ansible_host": "127.0.0.1",
            "ansible_port": self.port,
            "ansible_user": "root",
            "ansible_ssh_private_key_file": self.key,
            "ansible_ssh_common_args": f"-F none -o UserKnownHostsFile={self.known_hosts}",
        } | more

    def stop(self) -> None:
        os.killpg(self.process.pid, signal.SIGTERM)
        self.process.wait(10)


def start(folder: Path) -> Sshd:
    """Start one; the folder must lie on a file system that overlayfs accepts as upper."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("host", "user"):
        _keygen(folder / name)
    port = free_port()
    config = f"""
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host
PidFile none
PermitRootLogin yes
StrictModes no
UsePAM no
PasswordAuthentication yes
KbdInteractiveAuthentication no
MaxStartups 500:30:600
MaxSessions 50
AuthorizedKeysFile {folder}/user.pub
Match User single
  MaxSessions 1
Match User nopython
  SetEnv PATH={folder}/bin-none
Match User oldpython
  SetEnv PATH={folder}/bin-old
"""
    (folder / "sshd_config").write_text(config)
    log = (folder / "log").open("wb")
    process = subprocess.Popen(
        ["unshare", "--mount", "sh", "-c", SETUP, "setup", str(folder)],
        stdout=log,
        stderr=log,
        start_new_session=True,
    )
    server = Sshd(port, folder, process)
    _wait_open(server)
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {server.host_key}\n")
    return server


def _keygen(path: Path, passphrase: str = "", kind: str = "ed25519") -> None:
    subprocess.run(
        ["ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-f", str(path), "-a", "1"], check=True
    )


keygen = _keygen


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_open(server: Sshd) -> None:
    for _ in range(100):
        if server.process.poll() is not None:
            break
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", server.port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError((server.folder / "log").read_text())
