"""Runs on the managed host: the one door to ctypes: system calls that Python 3.9 does not offer.

Kernel names throughout. Symbols are bound when first used, so that the module imports anywhere.
Each wrapper raises OSError with the call's name and what it was about. Longer than most files
because constants live here and nowhere else.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

CLONE_INTO_CGROUP = 0x200000000
CLONE_FILES = 0x400
CLONE_NEWTIME = 0x00000080
CLONE_PARENT = 0x00008000
CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_RDONLY = 0x1
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_SYNCHRONOUS = 0x10
MS_REMOUNT = 0x20
MS_MANDLOCK = 0x40
MS_DIRSYNC = 0x80
MS_NOSYMFOLLOW = 0x100
MS_NOATIME = 0x400
MS_NODIRATIME = 0x800
MS_BIND = 0x1000
MS_MOVE = 0x2000
MS_REC = 0x4000
MS_SILENT = 0x8000
MS_UNBINDABLE = 0x20000
MS_PRIVATE = 0x40000
MS_SLAVE = 0x80000
MS_SHARED = 0x100000
MS_RELATIME = 0x200000
MS_I_VERSION = 0x800000
MS_STRICTATIME = 0x1000000
MS_LAZYTIME = 0x2000000

MNT_FORCE = 0x1
MNT_DETACH = 0x2
UMOUNT_NOFOLLOW = 0x8

MOUNT_ATTR_RDONLY = 0x1
MOUNT_ATTR_NOSUID = 0x2
MOUNT_ATTR_NODEV = 0x4
MOUNT_ATTR_NOEXEC = 0x8
MOUNT_ATTR__ATIME = 0x70
MOUNT_ATTR_RELATIME = 0x0
MOUNT_ATTR_NOATIME = 0x10
MOUNT_ATTR_STRICTATIME = 0x20
MOUNT_ATTR_NODIRATIME = 0x80
MOUNT_ATTR_IDMAP = 0x100000
MOUNT_ATTR_NOSYMFOLLOW = 0x200000

AT_FDCWD = -100
AT_SYMLINK_NOFOLLOW = 0x100
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000
OPEN_TREE_CLONE = 0x1
OPEN_TREE_CLOEXEC = os.O_CLOEXEC
MOVE_MOUNT_F_EMPTY_PATH = 0x4
MOVE_MOUNT_T_EMPTY_PATH = 0x40
FSCONFIG_SET_FLAG = 0
FSCONFIG_SET_STRING = 1
FSCONFIG_CMD_CREATE = 6

LANDLOCK_RULE_PATH_BENEATH = 1
# Writing to files, removing, and making anything: what Landlock's first version can forbid of that.
LANDLOCK_ACCESS_FS_WRITES = 0x2 | 0x1FF0

RESOLVE_NO_XDEV = 0x1
RESOLVE_NO_MAGICLINKS = 0x2
RESOLVE_NO_SYMLINKS = 0x4
RESOLVE_BENEATH = 0x8
RESOLVE_IN_ROOT = 0x10

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_KEEPCAPS = 8
PR_SET_NAME = 15
PR_CAPBSET_READ = 23
PR_CAPBSET_DROP = 24
PR_SET_SECUREBITS = 28
PR_SET_MM = 35
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
PR_CAP_AMBIENT_CLEAR_ALL = 4

# Numbers 424 and above are the same on every architecture.
_NR_PIDFD_SEND_SIGNAL = 424
_NR_OPEN_TREE = 428
_NR_MOVE_MOUNT = 429
_NR_FSOPEN = 430
_NR_FSCONFIG = 431
_NR_FSMOUNT = 432
_NR_PIDFD_OPEN = 434
_NR_CLONE3 = 435
_NR_CLOSE_RANGE = 436
_NR_OPENAT2 = 437
_NR_MOUNT_SETATTR = 442
_NR_LANDLOCK_CREATE_RULESET = 444
_NR_LANDLOCK_ADD_RULE = 445
_NR_LANDLOCK_RESTRICT_SELF = 446

_NR_BY_MACHINE = {
    "x86_64": {
        "clone": 56,
        "pivot_root": 155,
        "capget": 125,
        "capset": 126,
        "bpf": 321,
        "rt_sigaction": 13,
        "seccomp": 317,
        "ioprio_set": 251,
        "ioprio_get": 252,
        "sched_setattr": 314,
        "sched_getattr": 315,
        "prctl": 157,
        "wait4": 61,
    },
    "aarch64": {
        "clone": 220,
        "pivot_root": 41,
        "capget": 90,
        "capset": 91,
        "bpf": 280,
        "rt_sigaction": 134,
        "seccomp": 277,
        "ioprio_set": 30,
        "ioprio_get": 31,
        "sched_setattr": 274,
        "sched_getattr": 275,
        "prctl": 167,
        "wait4": 260,
    },
}

_CAPABILITY_VERSION_3 = 0x20080522
_SIGCHLD = 17


class _Lazy:
    """The C library, opened on first use, and the syscall numbers of this machine."""

    def __init__(self) -> None:
        self._libc: ctypes.CDLL | None = None
        self._locked: ctypes.PyDLL | None = None
        self._numbers: dict[str, int] | None = None

    @property
    def libc(self) -> ctypes.CDLL:
        if self._libc is None:
            self._libc = ctypes.CDLL(None, use_errno=True)
            self._libc.syscall.restype = ctypes.c_long
            self._libc.mount.argtypes = (
                ctypes.c_char_p,
                ctypes.c_char_p,
                ctypes.c_char_p,
                ctypes.c_ulong,
                ctypes.c_char_p,
            )
            self._libc.umount2.argtypes = (ctypes.c_char_p, ctypes.c_int)
            self._libc.unshare.argtypes = (ctypes.c_int,)
            self._libc.setns.argtypes = (ctypes.c_int, ctypes.c_int)
            self._libc.prctl.argtypes = (ctypes.c_int, *(ctypes.c_ulong,) * 4)
            self._libc.setdomainname.argtypes = (ctypes.c_char_p, ctypes.c_size_t)
            self._libc.syncfs.argtypes = (ctypes.c_int,)
            self._libc.personality.argtypes = (ctypes.c_ulong,)
        return self._libc

    @property
    def locked(self) -> ctypes.PyDLL:
        """The same, keeping the GIL: nobody else may hold it in a child."""
        if self._locked is None:
            self._locked = ctypes.PyDLL(None, use_errno=True)
            self._locked.syscall.restype = ctypes.c_long
        return self._locked

    def number(self, name: str) -> int:
        if self._numbers is None:
            machine = os.uname().machine
            if machine not in _NR_BY_MACHINE:
                raise OSError(errno.ENOSYS, f"cannot make system calls on {machine}: unknown here")
            self._numbers = _NR_BY_MACHINE[machine]
        return self._numbers[name]


_lazy = _Lazy()


def bind() -> None:
    """Open the C library and learn the numbers now: for a process that forks others which need them."""
    _lazy.number("clone")
    _ = _lazy.libc, _lazy.locked


def oserror(call: str, what: str = "") -> OSError:
    """The errno of the last call as an OSError that names the call and what it was about."""
    code = ctypes.get_errno()
    error = OSError(code, f"{call}: {os.strerror(code)}")
    if what:
        error.filename = what
    return error


def _syscall(name: str, number: int, *args: object, what: str = "") -> int:
    result = int(_lazy.libc.syscall(ctypes.c_long(number), *args))
    if result < 0:
        raise oserror(name, what)
    return result


def clone(flags: int, cgroup: int = -1) -> int:
    """fork() with namespaces: the child's pid in the parent, 0 in the child.

    With the descriptor of a version 2 cgroup the child is born there where the kernel can (Linux 5.7):
    moving it later makes the kernel wait for a grace period of up to 13 ms.

    Only for single-threaded callers. The C library does not see this fork; Python is told
    afterwards. All pointers are null, so the different argument orders of the architectures do not
    matter.
    """
    api = _lazy.locked
    number = ctypes.c_long(_lazy.number("clone"))
    zero = ctypes.c_long(0)
    arguments = (number, ctypes.c_ulong(flags | _SIGCHLD), zero, zero, zero, zero)
    # flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid (2), cgroup
    signal = 0 if flags & CLONE_PARENT else _SIGCHLD
    born = struct.pack(
        "=11Q", flags | CLONE_INTO_CGROUP, 0, 0, 0, signal, *(0,) * 5, max(cgroup, 0)
    )
    buffer = ctypes.create_string_buffer(born, len(born))
    clone3 = (ctypes.c_long(_NR_CLONE3), buffer, ctypes.c_size_t(len(born)))
    ctypes.pythonapi.PyOS_BeforeFork()
    pid = int(api.syscall(*clone3)) if cgroup >= 0 else -1
    if pid < 0:
        pid = int(api.syscall(*arguments))
    if pid == 0:
        ctypes.pythonapi.PyOS_AfterFork_Child()
        return 0
    ctypes.pythonapi.PyOS_AfterFork_Parent()
    if pid < 0:
        raise oserror("clone", f"flags {flags:#x}")
    return pid


def frugal(name: str, *arguments: int | bytes, told: bool = True) -> Callable[[], int]:
    """A system call made ready: calling the function copies hardly any page that forks share.

    It returns the call's result, negative where it failed. A `clone` tells Python in the child, unless
    `told` is False: a child of a single thread may do without.
    """
    call = ctypes.PyDLL(None).syscall
    call.restype = ctypes.c_long
    ready: list[object] = [ctypes.c_long(_lazy.number(name))]
    ready += [
        ctypes.c_char_p(one) if isinstance(one, bytes) else ctypes.c_ulong(one)
        for one in (*arguments, *(0,) * (5 - len(arguments)))
    ]
    if name != "clone" or not told:
        return lambda: call(*ready)
    api = ctypes.pythonapi
    before, born, after = api.PyOS_BeforeFork, api.PyOS_AfterFork_Child, api.PyOS_AfterFork_Parent
    balanced = sys.version_info >= (3, 13)  # the child gives back locks, and dies without them

    def clone() -> int:
        if balanced:
            before()
        pid: int = call(*ready)
        if pid == 0:
            born()
        elif balanced:
            after()
        return pid

    return clone


def unshare(flags: int) -> None:
    if _lazy.libc.unshare(flags) != 0:
        raise oserror("unshare", f"flags {flags:#x}")


def setns(fd: int, flags: int) -> None:
    """Enter the namespace behind `fd`: a namespace file, or a pidfd with several CLONE_NEW flags."""
    if _lazy.libc.setns(fd, flags) != 0:
        raise oserror("setns", f"flags {flags:#x}")


def pidfd_open(pid: int) -> int:
    """A descriptor of the process (close-on-exec) that polls readable once it has ended."""
    return _syscall(
        "pidfd_open", _NR_PIDFD_OPEN, ctypes.c_int(pid), ctypes.c_uint(0), what=f"pid {pid}"
    )


def pidfd_send_signal(pidfd: int, signal: int) -> None:
    _syscall(
        "pidfd_send_signal",
        _NR_PIDFD_SEND_SIGNAL,
        ctypes.c_int(pidfd),
        ctypes.c_int(signal),
        None,
        ctypes.c_uint(0),
        what=f"signal {signal}",
    )


def close_range(first: int, last: int = 0xFFFFFFFF) -> None:
    """Close all descriptors from `first` to `last`; kernels before 5.9 take the slow way."""
    try:
        _syscall(
            "close_range",
            _NR_CLOSE_RANGE,
            ctypes.c_uint(first),
            ctypes.c_uint(last),
            ctypes.c_uint(0),
        )
    except OSError:
        for name in os.listdir("/proc/self/fd"):
            if first <= int(name) <= last:
                os.closerange(int(name), int(name) + 1)


def mount(source: str | None, target: str, fstype: str | None, flags: int, data: str = "") -> None:
    status = _lazy.libc.mount(
        None if source is None else os.fsencode(source),
        os.fsencode(target),
        None if fstype is None else os.fsencode(fstype),
        flags,
        os.fsencode(data) if data else None,
    )
    if status != 0:
        raise oserror("mount", target)


def umount2(target: str, flags: int = 0) -> None:
    if _lazy.libc.umount2(os.fsencode(target), flags) != 0:
        raise oserror("umount2", target)


def pivot_root(new_root: str, put_old: str) -> None:
    _syscall(
        "pivot_root",
        _lazy.number("pivot_root"),
        ctypes.c_char_p(os.fsencode(new_root)),
        ctypes.c_char_p(os.fsencode(put_old)),
        what=new_root,
    )


class _MountAttr(ctypes.Structure):
    _fields_ = (
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    )


def mount_setattr(
    path: str,
    attr_set: int = 0,
    attr_clr: int = 0,
    *,
    recursive: bool = False,
    propagation: int = 0,
    userns_fd: int = 0,
    dir_fd: int = AT_FDCWD,
) -> None:
    """Change attributes of a mount (with `recursive` of all below it). Linux 5.12; ENOSYS before.

    An empty `path` means the mount behind `dir_fd`.
    """
    attributes = _MountAttr(attr_set, attr_clr, propagation, userns_fd)
    flags = (AT_RECURSIVE if recursive else 0) | (0 if path else AT_EMPTY_PATH)
    _syscall(
        "mount_setattr",
        _NR_MOUNT_SETATTR,
        ctypes.c_int(dir_fd),
        ctypes.c_char_p(os.fsencode(path)),
        ctypes.c_uint(flags),
        ctypes.byref(attributes),
        ctypes.c_size_t(ctypes.sizeof(attributes)),
        what=path,
    )


def open_tree(path: str, flags: int, dir_fd: int = AT_FDCWD) -> int:
    """A descriptor of a mount; with OPEN_TREE_CLONE of a private copy that hangs nowhere yet."""
    return _syscall(
        "open_tree",
        _NR_OPEN_TREE,
        ctypes.c_int(dir_fd),
        ctypes.c_char_p(os.fsencode(path)),
        ctypes.c_uint(flags | OPEN_TREE_CLOEXEC),
        what=path,
    )


def move_mount(from_fd: int, to_fd: int) -> None:
    """Hang the mount behind `from_fd` on the file or folder behind `to_fd`."""
    _syscall(
        "move_mount",
        _NR_MOVE_MOUNT,
        ctypes.c_int(from_fd),
        ctypes.c_char_p(b""),
        ctypes.c_int(to_fd),
        ctypes.c_char_p(b""),
        ctypes.c_uint(MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH),
    )


class _OpenHow(ctypes.Structure):
    _fields_ = (
        ("flags", ctypes.c_uint64),
        ("mode", ctypes.c_uint64),
        ("resolve", ctypes.c_uint64),
    )


def fsopen(fstype: str) -> int:
    """A context in which a file system of that type is put together. Linux 5.2; ENODEV: no such type."""
    name = ctypes.c_char_p(os.fsencode(fstype))
    return _syscall("fsopen", _NR_FSOPEN, name, ctypes.c_uint(1), what=fstype)


def fsconfig(context: int, command: int, key: str | None = None, value: str | None = None) -> None:
    """Set one parameter of the file system (an FSCONFIG_SET_ command), or FSCONFIG_CMD_CREATE it."""
    _syscall(
        "fsconfig",
        _NR_FSCONFIG,
        ctypes.c_int(context),
        ctypes.c_uint(command),
        ctypes.c_char_p(None if key is None else os.fsencode(key)),
        ctypes.c_char_p(None if value is None else os.fsencode(value)),
        ctypes.c_int(0),
        what=key or "",
    )


def fsmount(context: int, attributes: int = 0) -> int:
    """A descriptor of the file system, mounted with MOUNT_ATTR_ flags; it hangs nowhere yet."""
    flags = ctypes.c_uint(1)
    return _syscall("fsmount", _NR_FSMOUNT, ctypes.c_int(context), flags, ctypes.c_uint(attributes))


def openat2(dir_fd: int, path: str, flags: int, mode: int = 0, resolve: int = 0) -> int:
    """open() whose path resolution is bound by `resolve`; a rename beside it is tried again."""
    how = _OpenHow(flags | os.O_CLOEXEC, mode, resolve)
    for attempt in range(100):
        try:
            return _syscall(
                "openat2",
                _NR_OPENAT2,
                ctypes.c_int(dir_fd),
                ctypes.c_char_p(os.fsencode(path)),
                ctypes.byref(how),
                ctypes.c_size_t(ctypes.sizeof(how)),
                what=path,
            )
        except OSError as error:
            if error.errno != errno.EAGAIN or attempt == 99:
                raise
    raise AssertionError("unreachable")


def prctl(option: int, arg2: int = 0, arg3: int = 0, arg4: int = 0, arg5: int = 0) -> int:
    result = int(_lazy.libc.prctl(option, arg2, arg3, arg4, arg5))
    if result < 0:
        raise oserror("prctl", f"option {option}")
    return result


class _SockFprog(ctypes.Structure):
    _fields_ = (("len", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def seccomp(flags: int, program: bytes) -> int:
    """Filter this thread's system calls from now on; a descriptor with SECCOMP_FILTER_FLAG_NEW_LISTENER.

    The program is classic BPF, 8 bytes an instruction. Raises OSError: EACCES without CAP_SYS_ADMIN and
    no_new_privs, EINVAL for a program or flags that this kernel does not take. seccomp(2).
    """
    return _syscall(
        "seccomp",
        _lazy.number("seccomp"),
        ctypes.c_uint(1),  # SECCOMP_SET_MODE_FILTER
        ctypes.c_uint(flags),
        ctypes.byref(_SockFprog(len(program) // 8, program)),
    )


def set_process_name(name: str) -> None:
    """The name in /proc/PID/comm and in `ps` (15 bytes)."""
    buffer = ctypes.create_string_buffer(os.fsencode(name)[:15])
    prctl(PR_SET_NAME, ctypes.addressof(buffer))


def default_action(number: int) -> None:
    """SIG_DFL for a signal, also for the two that the C library keeps to itself."""
    _syscall(
        "rt_sigaction",
        _lazy.number("rt_sigaction"),
        ctypes.c_int(number),
        ctypes.create_string_buffer(32),
        None,
        ctypes.c_size_t(8),
        what=f"signal {number}",
    )


class _CapHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _CapData(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


class _LandlockRuleset(ctypes.Structure):
    _fields_ = (("handled_access_fs", ctypes.c_uint64),)


class _LandlockPathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


def landlock_writes_only_beneath(*folders: str) -> None:
    """From here on this thread and its children write only beneath these, and trace only one another.

    Needs no_new_privs or CAP_SYS_ADMIN. Linux 5.13; ENOSYS or EOPNOTSUPP where it is off.
    """
    ruleset = _LandlockRuleset(LANDLOCK_ACCESS_FS_WRITES)
    fd = _syscall(
        "landlock_create_ruleset",
        _NR_LANDLOCK_CREATE_RULESET,
        ctypes.byref(ruleset),
        ctypes.c_size_t(ctypes.sizeof(ruleset)),
        ctypes.c_uint32(0),
    )
    try:
        for folder in folders:
            parent = os.open(folder, os.O_PATH | os.O_CLOEXEC)
            try:
                rule = _LandlockPathBeneath(LANDLOCK_ACCESS_FS_WRITES, parent)
                _syscall(
                    "landlock_add_rule",
                    _NR_LANDLOCK_ADD_RULE,
                    ctypes.c_int(fd),
                    ctypes.c_int(LANDLOCK_RULE_PATH_BENEATH),
                    ctypes.byref(rule),
                    ctypes.c_uint32(0),
                    what=folder,
                )
            finally:
                os.close(parent)
        _syscall(
            "landlock_restrict_self",
            _NR_LANDLOCK_RESTRICT_SELF,
            ctypes.c_int(fd),
            ctypes.c_uint32(0),
        )
    finally:
        os.close(fd)


def capset(effective: int, permitted: int, inheritable: int) -> None:
    """Set three capability sets of this thread; each is a mask with bit N for capability N."""
    header = _CapHeader(_CAPABILITY_VERSION_3, 0)
    data = (_CapData * 2)()
    for half in (0, 1):
        shift = 32 * half
        data[half].effective = (effective >> shift) & 0xFFFFFFFF
        data[half].permitted = (permitted >> shift) & 0xFFFFFFFF
        data[half].inheritable = (inheritable >> shift) & 0xFFFFFFFF
    _syscall("capset", _lazy.number("capset"), ctypes.byref(header), ctypes.byref(data))


def capget() -> tuple[int, int, int]:
    """The effective, permitted and inheritable sets of this thread."""
    header = _CapHeader(_CAPABILITY_VERSION_3, 0)
    data = (_CapData * 2)()
    _syscall("capget", _lazy.number("capget"), ctypes.byref(header), ctypes.byref(data))
    return (
        data[0].effective | data[1].effective << 32,
        data[0].permitted | data[1].permitted << 32,
        data[0].inheritable | data[1].inheritable << 32,
    )


_BPF_PROG_LOAD = 5
_BPF_PROG_ATTACH = 8
_BPF_PROG_DETACH = 9
_BPF_PROG_GET_FD_BY_ID = 13
_BPF_PROG_QUERY = 16
_BPF_PROG_TYPE_CGROUP_DEVICE = 15
_BPF_CGROUP_DEVICE = 6
_BPF_F_ALLOW_MULTI = 2
_BPF_F_REPLACE = 4


def _bpf(command: int, attributes: bytes) -> int:
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    return _syscall(
        "bpf",
        _lazy.number("bpf"),
        ctypes.c_int(command),
        buffer,
        ctypes.c_uint(len(attributes)),
        what=f"command {command}",
    )


def attach_device_program(cgroup_fd: int, program: bytes, *, replace: bool = False) -> None:
    """Load a device program and put it on the cgroup, which then keeps it.

    With `replace` it takes the place of those that are there: of one in a single step (Linux 5.6), of
    several by their removal afterwards; all must allow, so nothing is allowed too much meanwhile.
    """
    code = ctypes.create_string_buffer(program, len(program))
    licence = ctypes.create_string_buffer(b"Apache-2.0")
    load = struct.pack(
        "=IIQQIIQII",
        _BPF_PROG_TYPE_CGROUP_DEVICE,
        len(program) // 8,
        ctypes.addressof(code),
        ctypes.addressof(licence),
        0,
        0,
        0,
        0,
        0,
    )
    fds = [_bpf(_BPF_PROG_LOAD, load)]
    try:
        fds.extend(
            _bpf(_BPF_PROG_GET_FD_BY_ID, struct.pack("=III", number, 0, 0))
            for number in (device_programs(cgroup_fd) if replace else ())
        )
        attach = (cgroup_fd, fds[0], _BPF_CGROUP_DEVICE)
        if len(fds) == 2:
            try:
                flags = _BPF_F_ALLOW_MULTI | _BPF_F_REPLACE
                _bpf(_BPF_PROG_ATTACH, struct.pack("=IIIII", *attach, flags, fds[1]))
                return
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
        _bpf(_BPF_PROG_ATTACH, struct.pack("=IIII", *attach, _BPF_F_ALLOW_MULTI))
        for fd in fds[1:]:
            _bpf(_BPF_PROG_DETACH, struct.pack("=III", cgroup_fd, fd, _BPF_CGROUP_DEVICE))
    finally:
        for fd in fds:
            os.close(fd)


def device_programs(cgroup_fd: int) -> list[int]:
    """Numbers of the device programs on the cgroup itself."""
    numbers = (ctypes.c_uint32 * 64)()
    query = struct.pack(
        "=IIIIQIIQQQ",
        cgroup_fd,
        _BPF_CGROUP_DEVICE,
        0,
        0,
        ctypes.addressof(numbers),
        len(numbers),
        0,
        0,
        0,
        0,
    )
    buffer = ctypes.create_string_buffer(query, len(query))
    _syscall(
        "bpf",
        _lazy.number("bpf"),
        ctypes.c_int(_BPF_PROG_QUERY),
        buffer,
        ctypes.c_uint(len(query)),
        what="query",
    )
    count = struct.unpack_from("=I", buffer.raw, 24)[0]
    return list(numbers[:count])


_IOPRIO_WHO_PROCESS = 1


def ioprio_set(priority: int) -> None:
    """The I/O priority of this process: class << 13 | level."""
    _syscall(
        "ioprio_set",
        _lazy.number("ioprio_set"),
        ctypes.c_int(_IOPRIO_WHO_PROCESS),
        ctypes.c_int(0),
        ctypes.c_int(priority),
    )


def ioprio_get(pid: int) -> int:
    return _syscall(
        "ioprio_get",
        _lazy.number("ioprio_get"),
        ctypes.c_int(_IOPRIO_WHO_PROCESS),
        ctypes.c_int(pid),
        what=f"pid {pid}",
    )


# size, policy, flags, nice, priority, runtime, deadline, period, util_min, util_max
_SCHED_ATTR = "=IIQiIQQQII"


def sched_setattr(
    policy: int, flags: int, nice: int, priority: int, runtime: int, deadline: int, period: int
) -> None:
    """The scheduling of this thread; times in nanoseconds. Utilisation clamps are reset where flagged."""
    reset = 0xFFFFFFFF
    packed = struct.pack(
        _SCHED_ATTR,
        struct.calcsize(_SCHED_ATTR),
        policy,
        flags,
        nice,
        priority,
        runtime,
        deadline,
        period,
        reset,
        reset,
    )
    buffer = ctypes.create_string_buffer(packed, len(packed))
    number = _lazy.number("sched_setattr")
    _syscall("sched_setattr", number, ctypes.c_int(0), buffer, ctypes.c_uint(0))


def sched_getattr(pid: int) -> tuple[int, ...]:
    """Policy, flags, nice, priority, runtime, deadline, period of a thread."""
    size = struct.calcsize(_SCHED_ATTR)
    buffer = ctypes.create_string_buffer(size)
    _syscall(
        "sched_getattr",
        _lazy.number("sched_getattr"),
        ctypes.c_int(pid),
        buffer,
        ctypes.c_uint(size),
        ctypes.c_uint(0),
        what=f"pid {pid}",
    )
    return struct.unpack(_SCHED_ATTR, buffer.raw)[1:8]


def setdomainname(name: str) -> None:
    value = os.fsencode(name)
    if _lazy.libc.setdomainname(value, len(value)) != 0:
        raise oserror("setdomainname", name)


def syncfs(fd: int) -> None:
    """Write what the file system behind `fd` holds in memory."""
    if _lazy.libc.syncfs(fd) != 0:
        raise oserror("syncfs")


def personality(persona: int) -> int:
    return int(_lazy.libc.personality(persona))


def malloc_trim() -> None:
    """Give freed heap back to the kernel, where the C library can (glibc)."""
    trim = getattr(_lazy.libc, "malloc_trim", None)
    if trim is not None:
        trim(ctypes.c_size_t(0))
