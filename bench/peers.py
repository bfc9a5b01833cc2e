"""Runs on the developer's machine: installs the peers, and the one target that all tools work on.

The target is a network namespace with an sshd and a dockerd on this machine's own file system: hostctl and
its peers get the same kernel, disk and SSH server, and this machine's network stays as it is.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .measure import run

CACHE = Path("/var/cache/hostctl-bench")
WORK = Path("/run/hostctl-bench")
NAMESPACE = "hcbench"
PREFIX = "10.214.7"
PORT = 2222
APT = {
    "docker-compose": "docker-compose",
    "dockerd": "docker.io",
    "iptables": "iptables",
    "sshd": "openssh-server",
    "nft": "nftables",
}


@dataclass(frozen=True)
class Target:
    """Where everything is measured: `addresses[0]` is the host, the others reach the same sshd."""

    addresses: tuple[str, ...]
    key: Path
    known_hosts: Path
    docker_host: str
    image: Path


def install() -> None:
    """Install the peers: Debian's docker and docker-compose, PyPI's ansible and pyinfra."""
    missing = [package for name, package in APT.items() if not program(name)]
    if missing:
        run(["apt-get", "update", "-qq"])
        run(
            ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing],
            env={"DEBIAN_FRONTEND": "noninteractive"},
        )
    venv = CACHE / "venv"
    if not (venv / "bin" / "pyinfra").exists():
        run(["python3", "-m", "venv", str(venv)])
        run(
            [str(venv / "bin" / "pip"), "install", "-q", "ansible", "pyinfra", "docker", "requests"]
        )


def program(name: str) -> bool:
    """Whether it is installed."""
    return bool(shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin:/sbin"))


def tool(name: str) -> str:
    """Path of a peer that came from PyPI."""
    return str(CACHE / "venv" / "bin" / name)


@contextlib.contextmanager
def target(addresses: int = 1) -> Iterator[Target]:
    """Bring the target up; everything it started is ended and removed afterwards."""
    install()
    _work_folder()
    for engine in ("docker", "podman"):
        # What a killed run left there would be in the way of names.
        shutil.rmtree(CACHE / engine, ignore_errors=True)
    names = tuple(f"{PREFIX}.{number}" for number in range(2, 2 + addresses))
    daemons: list[subprocess.Popen[bytes]] = []
    try:
        _network(names)
        key, known_hosts = _keys(names)
        daemons.append(_sshd())
        daemons.append(_dockerd())
        socket = f"unix://{WORK}/docker.sock"
        _wait(["docker", "-H", socket, "version"])
        yield Target(names, key, known_hosts, socket, _image(socket))
    finally:
        for daemon in reversed(daemons):
            daemon.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                daemon.wait(30)
        _clean()
        _unmount()
        # BuildKit leaves one below.
        for part in ("docker/buildkit", "docker"):
            for cgroup in Path("/sys/fs/cgroup").glob(f"*/{part}"):
                cgroup.rmdir()


def _work_folder() -> None:
    """In memory, as /run is on any host; a container's or a build machine's own /run may not be."""
    _unmount()
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True, mode=0o700)
    run(["mount", "-t", "tmpfs", "-o", "mode=0700", "hostctl-bench", str(WORK)])


def _unmount() -> None:
    subprocess.run(["umount", "--recursive", "--lazy", str(WORK)], capture_output=True, check=False)


def inside(argv: list[str]) -> list[str]:
    """The command, run in the target's network namespace (and this machine's mounts)."""
    return ["nsenter", f"--net=/run/netns/{NAMESPACE}", *argv]


def _network(addresses: tuple[str, ...]) -> None:
    _clean()
    run(["ip", "netns", "add", NAMESPACE])
    run(
        [
            "ip",
            "link",
            "add",
            "hcbench0",
            "type",
            "veth",
            "peer",
            "name",
            "eth0",
            "netns",
            NAMESPACE,
        ]
    )
    run(["ip", "address", "add", f"{PREFIX}.1/24", "dev", "hcbench0"])
    run(["ip", "link", "set", "hcbench0", "up"])
    for address in addresses:
        run(inside(["ip", "address", "add", f"{address}/24", "dev", "eth0"]))
    for link in ("lo", "eth0"):
        run(inside(["ip", "link", "set", link, "up"]))


def _clean() -> None:
    listed = subprocess.run(
        ["ip", "netns", "pids", NAMESPACE], capture_output=True, text=True, check=False
    )
    for pid in listed.stdout.split():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
    subprocess.run(["ip", "netns", "delete", NAMESPACE], capture_output=True, check=False)
    subprocess.run(["ip", "link", "delete", "hcbench0"], capture_output=True, check=False)


def _keys(addresses: tuple[str, ...]) -> tuple[Path, Path]:
    for name in ("host", "client"):
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(WORK / name)])
    host_key = " ".join((WORK / "host.pub").read_text().split()[:2])
    known = WORK / "known_hosts"
    known.write_text("".join(f"[{address}]:{PORT} {host_key}\n" for address in addresses))
    (WORK / "authorized_keys").write_text((WORK / "client.pub").read_text())
    return WORK / "client", known


def _sshd() -> subprocess.Popen[bytes]:
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    (WORK / "home").mkdir(mode=0o700)
    config = WORK / "sshd_config"
    config.write_text(
        f"Port {PORT}\nHostKey {WORK}/host\nAuthorizedKeysFile {WORK}/authorized_keys\n"
        "PermitRootLogin prohibit-password\nStrictModes no\nMaxStartups 200\nMaxSessions 100\n"
        "UsePAM no\nPidFile none\nSubsystem sftp internal-sftp\n"
        # A home without shell files: what a developer's own .bashrc costs is no tool's doing.
        f"SetEnv HOME={WORK}/home\n"
    )
    return subprocess.Popen(
        inside(["/usr/sbin/sshd", "-D", "-e", "-f", str(config)]), stderr=subprocess.DEVNULL
    )


def _dockerd() -> subprocess.Popen[bytes]:
    log = (WORK / "dockerd.log").open("wb")
    command = ["dockerd", "--data-root", str(CACHE / "docker"), "--exec-root", str(WORK / "docker")]
    command += ["--pidfile", str(WORK / "docker.pid"), "-H", f"unix://{WORK}/docker.sock"]
    return subprocess.Popen(inside(command), stdout=log, stderr=log)


def _wait(argv: list[str], limit: float = 60) -> None:
    end = time.monotonic() + limit
    while subprocess.run(argv, capture_output=True, check=False).returncode != 0:
        if time.monotonic() > end:
            raise TimeoutError(f"not ready after {limit:g} s: {' '.join(argv)}")
        time.sleep(0.2)


def _image(socket: str) -> Path:
    """A small image with a shell, in dockerd as `bench:1` and as the archive that hostctl ships."""
    archive = CACHE / "bench-image.tar"
    docker = ["docker", "-H", socket]
    if not archive.exists():
        if not program("busybox") or not Path("/bin/busybox").exists():
            run(["apt-get", "install", "-y", "-qq", "busybox-static"])
        root = CACHE / "root"
        shutil.rmtree(root, ignore_errors=True)
        (root / "bin").mkdir(parents=True)
        shutil.copy("/bin/busybox", root / "bin" / "busybox")
        for name in ("sh", "sleep", "true"):
            (root / "bin" / name).symlink_to("busybox")
        (root / "etc").mkdir()
        (root / "etc" / "passwd").write_text("root:x:0:0:root:/:/bin/sh\n")
        tar = CACHE / "root.tar"
        run(["tar", "-C", str(root), "-cf", str(tar), "."])
        run([*docker, "import", "--change", 'CMD ["sleep", "1000000"]', str(tar), "bench:1"])
        run([*docker, "save", "-o", str(archive), "bench:1"])
    run([*docker, "load", "-q", "-i", str(archive)])
    return archive
