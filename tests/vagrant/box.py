"""Runs on the test machine: a Vagrant box of a Debian release, made from its packages and cached.

The box is a file system without partitions or boot loader; its kernel and initrd lie beside it, for
QEMU to boot them directly. Its host keys are the same in every machine made from it, and everybody
has the private key that opens it (Vagrant ships it): it is for throw-away networks alone.
"""

from __future__ import annotations

import glob
import hashlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.lab.paths import CACHE
from tests.lab.roots import debian_root, remove_tree
from tests.lab.shell import LabError, locked, run

SUITES = ("bullseye", "bookworm", "trixie")
"""Debian 11 (kernel 5.10, Python 3.9), 12 (6.1, 3.11) and 13 (6.12, 3.13)."""

PACKAGES = (
    "apparmor",
    "ca-certificates",
    "curl",
    "dbus",
    "iproute2",
    "mount",
    "nftables",
    "openssh-server",
    "procps",
    "python3",
    "sudo",
    "systemd",
    "systemd-sysv",
    "udev",
)

KERNELS = {"bullseye": "linux-image-5.10.0-32-cloud-amd64"}
"""Of a release that is archived: the kernel of its last point release, which mirrors keep."""

OFFLINE = ("firewalld", "netbase", "tree", "ufw")
"""Packages that machines may install though they reach no mirror: apt has their files already."""

DISK = "6G"

KEYS = "/usr/share/rubygems-integration/all/gems/vagrant-*/keys/vagrant.pub"
"""Vagrant's public key that everybody knows, as its Debian package installs it."""

SETUP = r"""set -eu
cd "$1"
chroot . useradd --create-home --shell /bin/bash vagrant
echo 'vagrant ALL=(ALL) NOPASSWD: ALL' > etc/sudoers.d/vagrant
chmod 0440 etc/sudoers.d/vagrant
mkdir -m 0700 home/vagrant/.ssh
cat > home/vagrant/.ssh/authorized_keys <<END
@KEY@
END
chroot . chown -R vagrant:vagrant /home/vagrant/.ssh
rm -f etc/ssh/ssh_host_*
chroot . ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key
cat > etc/ssh/sshd_config.d/vm.conf <<END
UseDNS no
PrintMotd no
MaxStartups 200
HostKey /etc/ssh/ssh_host_ed25519_key
END
echo '/dev/vda / ext4 defaults 0 0' > etc/fstab
echo vm > etc/hostname
printf '127.0.0.1 localhost\n127.0.1.1 vm\n' > etc/hosts
printf '[Match]\nName=eth0\n[Network]\nDHCP=yes\n' > etc/systemd/network/eth0.network
chroot . systemctl enable systemd-networkd
chroot . systemctl mask systemd-networkd-wait-online.service apt-daily.timer apt-daily-upgrade.timer \
    e2scrub_all.timer e2scrub_reap.service fstrim.timer systemd-pcrphase.service > /dev/null 2>&1
mkdir -p var/log/journal
cat > etc/apt/apt.conf.d/90vm <<END
Acquire::Check-Valid-Until "false"; Acquire::Languages "none"; Acquire::GzipIndexes "true";
END
cp /etc/resolv.conf etc/resolv.conf
chroot . apt-get update -q > /dev/null
chroot . env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends --download-only \
    @OFFLINE@ > /dev/null
: > etc/resolv.conf
printf 'MODULES=list\nCOMPRESS=gzip\n' > etc/initramfs-tools/conf.d/vm
printf 'virtio_pci\nvirtio_blk\next4\n' >> etc/initramfs-tools/modules
chroot . update-initramfs -u > /dev/null 2>&1
: > etc/machine-id
"""


@dataclass(frozen=True)
class Box:
    """The files of a box that has been made."""

    name: str
    folder: Path

    @property
    def file(self) -> Path:
        """What `vagrant box add` takes: a tar of metadata and disk."""
        return self.folder / "debian.box"

    @property
    def kernel(self) -> Path:
        """Its kernel."""
        return self.folder / "vmlinuz"

    @property
    def initrd(self) -> Path:
        """What loads the kernel's modules for its disk."""
        return self.folder / "initrd.img"


def make(suite: str) -> Box:
    """The cached box of this release; made where there is none of these inputs.

    Raises:
        LabError: a program is missing or failed, with its output.
    """
    keys = sorted(glob.glob(KEYS))
    if not keys:
        raise LabError("vagrant is missing: run scripts/install-vm-needs")
    key = Path(keys[-1]).read_text().strip()
    setup = SETUP.replace("@KEY@", key).replace("@OFFLINE@", " ".join(OFFLINE))
    packages = (*PACKAGES, KERNELS.get(suite, "linux-image-cloud-amd64"))
    inputs = hashlib.sha256(repr((suite, packages, setup, DISK, 1)).encode()).hexdigest()[:12]
    box = Box(f"hostctl-{suite}-{inputs}", CACHE / "boxes" / f"{suite}-{inputs}")
    with locked(box.folder.with_suffix(".lock")):
        if not box.folder.is_dir():
            try:
                root = debian_root(suite, packages, setup)
            except LabError as error:  # of a mirror's bad moment; a fault of ours is there again
                print(f"making the box once more: {error}", file=sys.stderr)
                root = debian_root(suite, packages, setup)
            new = box.folder.with_suffix(".new")
            remove_tree(new)
            new.mkdir(parents=True)
            _pack(root, new)
            new.rename(box.folder)
            remove_tree(root)  # the box has it all
    return box


def _pack(root: Path, new: Path) -> None:
    """The box file, kernel and initrd in a folder."""
    (kernel,) = root.glob("boot/vmlinuz-*")
    (initrd,) = root.glob("boot/initrd.img-*")
    run(["cp", kernel, new / "vmlinuz"])
    run(["cp", initrd, new / "initrd.img"])
    raw, disk = new / "disk.raw", new / "box.img"
    # Both features are newer than the oldest kernel that is to mount it.
    features = "^orphan_file,^metadata_csum_seed"
    run(["mke2fs", "-q", "-t", "ext4", "-O", features, "-d", root, raw, DISK], timeout=600)
    run(["qemu-img", "convert", "-O", "qcow2", raw, disk], timeout=600)
    raw.unlink()
    about = {"provider": "libvirt", "format": "qcow2", "virtual_size": int(DISK[:-1])}
    (new / "metadata.json").write_text(json.dumps(about))
    run(["tar", "-C", new, "-cf", new / "debian.box", "metadata.json", "box.img"], timeout=600)
    disk.unlink()
