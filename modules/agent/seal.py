"""Runs on the managed host: what makes a plan unable to write: the kernel, not the kinds' good will.

Before a plan reads its document, the agent moves into mount and pid namespaces of its own, where every
mount is read-only and no device but null, zero and random exists, and gives up all capabilities but the
two that reading needs. Where there is Landlock it closes the way that is left: /proc/PID/root of a process
of the same user that has no more rights (root in a container without capabilities). `/tmp` stays visible,
because playbooks declare files there; scratch space is a tmpfs of its own on /dev/shm, which TMPDIR names.
Sockets are not covered: kinds that speak to a daemon use its reading verbs in `observe`.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import stat
from typing import NoReturn

from ..contract.errors import HostctlError
from ..runtime import mountinfo, syscalls
from .host import Paths

CAP_DAC_OVERRIDE = 1
CAP_DAC_READ_SEARCH = 2
KEPT = 1 << CAP_DAC_OVERRIDE | 1 << CAP_DAC_READ_SEARCH

_SCRATCH = "/dev/shm"
_DEVICES = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9)}
_MOUNT_FLAGS = {
    "ro": syscalls.MS_RDONLY,
    "nosuid": syscalls.MS_NOSUID,
    "nodev": syscalls.MS_NODEV,
    "noexec": syscalls.MS_NOEXEC,
    "noatime": syscalls.MS_NOATIME,
    "nodiratime": syscalls.MS_NODIRATIME,
    "relatime": syscalls.MS_RELATIME,
}


def snapshot(paths: Paths) -> dict[str, str]:
    """What only a capability can read, read before it is given up: our table, and those of others."""
    from ..net import firewall, foreign

    return {"nft": firewall.snapshot(paths), **foreign.read()}


def seal() -> tuple[str, ...]:
    """Never return to a process that can write: the caller goes on as the sealed child.

    The process that called stays behind only to pass on the child's end. Single-threaded callers only.

    Returns:
        Warnings, where this user may have less than the whole seal.
    Raises:
        HostctlError: root cannot be sealed here.
    """
    namespaces = syscalls.CLONE_NEWNS | syscalls.CLONE_NEWPID
    if os.geteuid() == 0:
        try:
            syscalls.unshare(namespaces)
        except OSError as error:
            raise HostctlError(
                f"cannot plan without writing: {error.strerror}",
                hint="the agent's root lacks CAP_SYS_ADMIN here (a container?); run it on the machine itself",
                ref="seal-refused",
            ) from error
        warnings: tuple[str, ...] = ()
    else:
        warnings = _unshare_unprivileged(namespaces)
        if warnings:
            _drop_rights()
            fenced = _fence()
            what = (
                "changes no file's content" if fenced else "writes nothing by the kinds' good will"
            )
            return (f"{warnings[0]}: a plan {what}; more cannot be enforced",)
    alive, held = os.pipe()
    child = os.fork()
    if child:
        os.close(alive)
        _relay(child)
    os.close(held)
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
    if _hung_up(alive):
        os._exit(1)  # the parent died before its death could be signalled
    os.close(alive)
    _freeze_mounts()
    _drop_rights()
    _fence()
    return warnings


def _unshare_unprivileged(namespaces: int) -> tuple[str, ...]:
    uid, gid = os.geteuid(), os.getegid()
    try:
        syscalls.unshare(syscalls.CLONE_NEWUSER | namespaces)
    except OSError as error:
        return (f"this host does not let user {uid} make namespaces ({error.strerror})",)
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{uid} {uid} 1"),
        ("gid_map", f"{gid} {gid} 1"),
    ):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as stream:
            stream.write(text)
    return ()


def _hung_up(fd: int) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLHUP)
    return bool(poll.poll(0))


def _relay(child: int) -> NoReturn:
    while True:
        try:
            _, status = os.waitpid(child, 0)
            break
        except InterruptedError:
            continue
    os._exit(os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status))


def _freeze_mounts() -> None:
    """All mounts read-only and private to this process; a new /dev on top."""
    root = os.geteuid() == 0
    syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)
    # In a user namespace no device can be made anew, so those that are there must stay usable;
    # an ordinary user can do little with them.
    wanted = syscalls.MOUNT_ATTR_RDONLY | (syscalls.MOUNT_ATTR_NODEV if root else 0)
    try:
        syscalls.mount_setattr("/", wanted, recursive=True)
    except OSError as error:
        if error.errno != errno.ENOSYS:
            raise
        _remount_each(syscalls.MS_RDONLY | (syscalls.MS_NODEV if root else 0))
    if root:
        _small_dev()
    if os.path.isdir(_SCRATCH):
        flags = syscalls.MS_NOSUID | syscalls.MS_NODEV
        syscalls.mount("tmpfs", _SCRATCH, "tmpfs", flags, "mode=1777,size=64m")
        os.environ["TMPDIR"] = _SCRATCH


def _small_dev() -> None:
    syscalls.mount("tmpfs", "/dev", "tmpfs", syscalls.MS_NOSUID, "mode=755,size=64k")
    for name, (major, minor) in _DEVICES.items():
        os.mknod(f"/dev/{name}", stat.S_IFCHR | 0o666, os.makedev(major, minor))
        os.chmod(f"/dev/{name}", 0o666)
    os.mkdir(_SCRATCH)
    os.symlink("/proc/self/fd", "/dev/fd")
    flags = syscalls.MS_REMOUNT | syscalls.MS_BIND | syscalls.MS_RDONLY | syscalls.MS_NOSUID
    syscalls.mount(None, "/dev", None, flags)


def _remount_each(wanted: int) -> None:
    """The same for kernels before 5.12: one remount for each mount, keeping the flags that it has."""
    for mount in list(mountinfo.read()):
        target = mount.path
        flags = wanted
        for option in mount.flags:
            flags |= _MOUNT_FLAGS.get(option, 0)
        try:
            syscalls.mount(None, target, None, syscalls.MS_REMOUNT | syscalls.MS_BIND | flags)
        except OSError as error:
            # Below another mount: no path leads there for a kind either.
            if error.errno not in (errno.ENOENT, errno.EINVAL) or target == "/":
                raise


def _drop_rights() -> None:
    """Keep two capabilities to read with, in no set that could give more back; nothing exec'd gains any."""
    for capability in range(_last_capability() + 1):
        if not KEPT >> capability & 1:
            try:
                syscalls.prctl(syscalls.PR_CAPBSET_DROP, capability)
            except PermissionError:
                break  # an ordinary user has no capability to lose
    try:
        syscalls.prctl(syscalls.PR_CAP_AMBIENT, syscalls.PR_CAP_AMBIENT_CLEAR_ALL)
    except OSError:
        pass  # Linux before 4.3 has no ambient set
    syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
    _, permitted, _ = syscalls.capget()
    syscalls.capset(permitted & KEPT, permitted & KEPT, 0)


def _fence() -> bool:
    """Landlock, if the kernel has it: no writing elsewhere, no looking into processes outside."""
    try:
        syscalls.landlock_writes_only_beneath("/dev")
    except OSError:
        return False
    return True


def _last_capability() -> int:
    try:
        with open("/proc/sys/kernel/cap_last_cap", encoding="ascii") as stream:
            return int(stream.read())
    except (OSError, ValueError):
        return 63
