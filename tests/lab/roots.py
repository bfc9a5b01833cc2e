"""Runs on the test machine: Debian root file systems from mmdebstrap, made once, then cached."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from pathlib import Path

from . import systemd
from .paths import CACHE
from .shell import LabError, locked, run

MIRROR = os.environ.get("HOSTCTL_LAB_MIRROR", "http://deb.debian.org/debian")
WEEK = 7 * 86400
NO_DOCS = (
    "path-exclude=/usr/share/doc/*",
    "path-exclude=/usr/share/man/*",
    "path-exclude=/usr/share/locale/*",
    "path-exclude=/usr/share/info/*",
)

HOST_PACKAGES = (
    "ca-certificates",
    "curl",
    "iproute2",
    "mount",
    "nftables",
    "openssh-server",
    "procps",
    "python3",
    "sudo",
    "tini",
)

OPS_PASSWORD = "lab-secret"

HOST_SETUP = rf"""set -eu
cd "$1"
rm -f etc/ssh/ssh_host_*
chroot . useradd --create-home --shell /bin/bash ops
chroot . useradd --create-home --shell /bin/bash opspw
echo 'opspw:{OPS_PASSWORD}' | chroot . chpasswd
echo 'ops ALL=(ALL) NOPASSWD: ALL' > etc/sudoers.d/ops
echo 'opspw ALL=(ALL) PASSWD: ALL' > etc/sudoers.d/opspw
chmod 0440 etc/sudoers.d/ops etc/sudoers.d/opspw
chroot . useradd --create-home --shell /bin/bash guest
cat > etc/ssh/sshd_config.d/lab.conf <<END
PermitRootLogin yes
PasswordAuthentication yes
AuthorizedKeysFile .ssh/authorized_keys /etc/ssh/authorized_keys
MaxStartups 200
MaxSessions 200
PrintMotd no
END
echo 'Acquire::Check-Valid-Until "false"; Acquire::Languages "none";' > etc/apt/apt.conf.d/90lab
mkdir -p -m 0700 var/lib/hostctl
"""


def host_root(suite: str = "bookworm", *, with_systemd: bool = False) -> Path:
    """A root for a lab host: sshd, Python, and the users ops, opspw and guest (no sudo)."""
    packages, setup = HOST_PACKAGES, HOST_SETUP
    if with_systemd:
        packages, setup = packages + systemd.PACKAGES, setup + systemd.SETUP
    return debian_root(suite, packages, setup, keep_lists=True)


def debian_root(
    suite: str,
    packages: tuple[str, ...],
    setup: str = "",
    *,
    variant: str = "apt",
    keep_lists: bool = False,
) -> Path:
    """The cached root of these packages; with package lists it is made anew each week."""
    key = hashlib.sha256(repr((suite, packages, setup, variant, keep_lists, 1)).encode())
    root = CACHE / "roots" / f"{suite}-{key.hexdigest()[:12]}"
    with locked(root.with_suffix(".lock")):
        stale = keep_lists and root.is_dir() and time.time() - root.stat().st_ctime > WEEK
        if root.is_dir() and not (stale and _unused(root)):
            return root
        new = root.with_suffix(".new")
        remove_tree(new)
        _bootstrap(new, suite, packages, setup, variant, keep_lists)
        remove_tree(root)
        new.rename(root)
    return root


def _bootstrap(
    new: Path, suite: str, packages: tuple[str, ...], setup: str, variant: str, keep_lists: bool
) -> None:
    if not shutil.which("mmdebstrap"):
        raise LabError("mmdebstrap is missing: run scripts/install-test-needs")
    script = new.with_suffix(".setup")
    script.write_text(setup)
    argv = ["mmdebstrap", "--quiet", "--mode=root", f"--variant={variant}"]
    argv += [f"--include={','.join(packages)}"]
    argv += [f"--dpkgopt={option}" for option in NO_DOCS]
    if variant == "extract":  # nothing runs in it that would make /bin a link to /usr/bin
        argv += ["--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr"]
    if keep_lists:
        argv += ["--skip=cleanup/apt/lists"]
    security = MIRROR.rstrip("/") + "-security"
    sources = f"deb {MIRROR} {suite} main\ndeb {security} {suite}-security main\n"
    try:
        run([*argv, suite, new, "-"], stdin=sources, timeout=900)
        run(["sh", script, new])  # hooks of mmdebstrap would not run in an extracted root
    except BaseException:
        remove_tree(new)
        raise
    finally:
        script.unlink()


def _unused(root: Path) -> bool:
    """Whether no lab that is up has this root as its lower layer."""
    for mounts in Path("/proc").glob("[0-9]*/mountinfo"):
        try:
            if f"lowerdir={root}," in mounts.read_text():
                return False
        except OSError:
            continue
    return True


def remove_tree(path: Path) -> None:
    """Remove a folder and all below it; nothing to do when it is not there."""
    if path.exists() or path.is_symlink():
        run(["rm", "-rf", "--one-file-system", path], timeout=120)
