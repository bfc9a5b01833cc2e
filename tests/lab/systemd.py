"""Runs on the test machine: what makes a lab host boot a real systemd.

It is told through `container=` that kernel and hardware are not its own. What would still reach past the host's
namespaces, or come at an hour of its own, is masked.
"""

from __future__ import annotations

PACKAGES = ("dbus", "libpam-systemd", "systemd", "systemd-sysv")

MASKED = (
    # settings and file systems of the kernel that this machine and all hosts share
    "systemd-sysctl.service",
    "systemd-modules-load.service",
    "systemd-binfmt.service",
    "modprobe@.service",
    "proc-sys-fs-binfmt_misc.automount",
    "sys-kernel-config.mount",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "sys-fs-fuse-connections.mount",
    "dev-hugepages.mount",
    # they would take dpkg's lock, or wake up, in the middle of a test
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "fstrim.timer",
)

SETUP = f"""
for unit in {" ".join(MASKED)}; do
    ln -sf /dev/null "etc/systemd/system/$unit"
done
"""
