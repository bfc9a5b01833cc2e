"""Runs on the managed host: the container's program: who runs it, where, with what, and its exec."""

from __future__ import annotations

import _signal as signal
import errno
import os

from . import capabilities, rlimits, users
from . import syscalls as sys
from .cgroup_files import write
from .config import USER, Config, RuntimeFailure, annotation, section
from .seccomp import install as seccomp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from .ioprio import IoPriority
    from .labels import Labels
    from .personality import Personality
    from .scheduler import Affinity, Scheduler

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_NOT_FOUND, _NOT_EXECUTABLE = 127, 126
_UNTOLD = (32, 33)
_NO_ID = (1 << 32) - 1


class Process:
    """What `prepare` found. `user` is `name[:group]` to look up inside, and beats the numbers."""

    def __init__(self, config: Config, bundle: str = "") -> None:
        process = config["process"]
        user = process.get("user") or {}
        self.args = [str(item) for item in process.get("args") or ()]
        self.env = [str(item) for item in process.get("env") or ()]
        self.cwd = str(process.get("cwd") or "/")
        self.uid = int(user.get("uid") or 0)
        self.gid = int(user.get("gid") or 0)
        self.groups = [int(gid) for gid in user.get("additionalGids") or ()]
        self.umask = int(user["umask"]) if user.get("umask") is not None else 0o022
        self.user = annotation(config, USER)
        self.no_new_privileges = bool(process.get("noNewPrivileges"))
        self.oom_score_adj = process.get("oomScoreAdj")
        self.capabilities = capabilities.prepare(config)
        self.rlimits = rlimits.prepare(config)
        self.seccomp = seccomp.prepare(config, bundle)
        self.labels = _labels(config)
        self.attributes = _attributes(config)
        self.affinity = _affinity(config)


def _labels(config: Config) -> Labels | None:
    process = config["process"]
    if not process.get("apparmorProfile") and not process.get("selinuxLabel"):
        return None
    from . import labels

    return labels.prepare(config)


def _attributes(config: Config) -> list[IoPriority | Personality | Scheduler]:
    """What few containers have, and so is imported for them alone."""
    process = config["process"]
    found: list[IoPriority | Personality | Scheduler] = []
    if process.get("ioPriority"):
        from .ioprio import IoPriority

        found.append(IoPriority(process["ioPriority"]))
    if (config.get("linux") or {}).get("personality"):
        from .personality import Personality

        found.append(Personality(config["linux"]["personality"]))
    if process.get("scheduler"):
        from .scheduler import Scheduler

        # Last: whoever is scheduled to run rarely should have little left to do.
        found.append(Scheduler(process["scheduler"]))
    return found


def _affinity(config: Config) -> Affinity | None:
    if not config["process"].get("execCPUAffinity"):
        return None
    from .scheduler import Affinity

    return Affinity(config["process"]["execCPUAffinity"])


def prepare(config: Config, bundle: str = "") -> Process:
    """Parse `process`, and find the filter of its system calls, which may lie in the bundle."""
    args = section(config, "process", "args")
    if not args or args[0] == "":
        raise RuntimeFailure("cannot create the container: nothing to run", ref="nothing-to-run")
    process = Process(config, bundle)
    if not process.cwd.startswith("/"):
        raise RuntimeFailure(
            f"cannot use working directory {process.cwd!r}: not an absolute path", ref="bad-cwd"
        )
    _check_identity(process)
    return process


def enter_host(process: Process) -> None:
    """Child, while it still sees the host's /proc, and before it gives up what this takes."""
    score = process.oom_score_adj
    if score is not None:
        try:
            write("/proc/self/oom_score_adj", str(score))
        except OSError as error:
            raise RuntimeFailure(
                f"cannot set oom_score_adj to {score}: {os.strerror(error.errno or 0)}",
                hint="it is -1000 to 1000, and lower than the runtime's own only with CAP_SYS_RESOURCE",
                ref="bad-oom-score",
            ) from error
    rlimits.raise_ceilings(process.rlimits)
    if process.labels is not None:
        process.labels.enter()
    if process.seccomp is not None and process.seccomp.listener is not None:
        process.seccomp.listener.enter_host()


def enter_affinity(wanted: set[int]) -> None:
    """Child of `exec`, before and after it is moved into the container's cgroup."""
    from . import scheduler

    scheduler.enter_affinity(wanted)


def close_all_but(*keep: int) -> None:
    """Close every descriptor but 0 to 2 and `keep`."""
    first = 3
    for fd in sorted(keep):
        if fd > first:
            sys.close_range(first, fd - 1)
        first = max(fd + 1, first)
    sys.close_range(first)


def enter_cwd(process: Process, *keep: int, make: bool) -> None:
    """Child, inside its root: the working directory, which is made if missing where `make` says so.

    A container's own is, as in Docker, while the root is still writable; that of a further program is not.
    Folders of the host that are still open here could be reached through /proc/self/fd: all but
    `keep` and 0 to 2 are closed before the working directory, which the image names, is entered.
    """
    held = process.labels.filenos() if process.labels is not None else ()
    close_all_but(*keep, *seccomp.filenos(process.seccomp), *held)
    # A folder that is made here is for everybody to enter, whatever the program's files are to be.
    os.umask(0o022)
    _enter_cwd(process.cwd, make)
    os.umask(process.umask)


def enter(process: Process) -> None:
    """Child, last: become the user, with exactly the wanted rights."""
    reset_signals()
    _identify(process)
    for fd in (0, 1, 2):
        # Programs reopen /dev/stdout by name: their user must own the pipes.
        if process.uid and os.fstat(fd).st_uid == 0 and _is_pipe(fd):
            os.fchown(fd, process.uid, process.gid)
    for attribute in process.attributes:
        attribute.enter()
    rlimits.enter(process.rlimits)
    # As runc and crun do it: a filter takes CAP_SYS_ADMIN unless no_new_privs is set, and then comes last,
    # so that a profile needs to allow nothing of what is done here.
    if process.seccomp is not None and not process.no_new_privileges:
        seccomp.enter(process.seccomp)
    capabilities.enter_bounding(process.capabilities)
    os.setgroups(process.groups)
    os.setresgid(process.gid, process.gid, process.gid)
    os.setresuid(process.uid, process.uid, process.uid)
    if process.no_new_privileges:
        sys.prctl(sys.PR_SET_NO_NEW_PRIVS, 1)
    capabilities.enter(process.capabilities)
    if process.seccomp is not None and process.no_new_privileges:
        seccomp.enter(process.seccomp)


def _is_pipe(fd: int) -> bool:
    return (os.fstat(fd).st_mode & 0o170000) == 0o010000


def _identify(process: Process) -> None:
    if process.user:
        identity = users.lookup(process.user)
        process.uid, process.gid = identity.uid, identity.gid
        process.groups = sorted({*process.groups, *identity.groups})
        _check_identity(process)
    if not any(item.startswith("HOME=") for item in process.env):
        process.env.append("HOME=" + users.home_of(process.uid))


def _check_identity(process: Process) -> None:
    """To the kernel, -1 is no number: the program would stay root."""
    for number in (process.uid, process.gid, *process.groups):
        if not 0 <= number < _NO_ID:
            raise RuntimeFailure(
                f"cannot run as user or group {number}: it is not 0 to {_NO_ID - 1}",
                hint="correct the user, or its entry in the container's /etc/passwd or /etc/group",
                ref="bad-user",
            )


def _enter_cwd(path: str, make: bool) -> None:
    try:
        try:
            os.chdir(path)
        except FileNotFoundError:
            if not make:
                raise
            os.makedirs(path, 0o755)
            os.chdir(path)
    except OSError as error:
        missing = error.errno == errno.ENOENT
        raise RuntimeFailure(
            f"cannot enter the working directory {path}: {error.strerror}",
            ref="bad-cwd",
            code=_NOT_FOUND if missing else _NOT_EXECUTABLE,
        ) from error
    if not os.getcwd().startswith("/"):
        raise RuntimeFailure(f"cannot enter {path}: it is outside the container", ref="bad-cwd")


def reset_signals() -> None:
    """Ignored signals and the mask survive exec; Python ignores SIGPIPE."""
    for number in range(1, signal.NSIG):
        # Handlers end with exec; the C library does not tell about its own two.
        if number in _UNTOLD or signal.getsignal(number) == signal.SIG_IGN:
            sys.default_action(number)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def check(process: Process) -> None:
    """Child, inside its root: refuse what `execute` would refuse, for somebody who does not wait for that."""
    name, path = process.args[0], _environment(process).get("PATH", DEFAULT_PATH)
    last: OSError | None = None
    for candidate in candidates(name, path):
        if os.access(candidate, os.X_OK) and not os.path.isdir(candidate):
            return
        if os.path.lexists(candidate):
            last = OSError(errno.EACCES, os.strerror(errno.EACCES))
    raise _unexecutable(name, last)


def execute(process: Process) -> NoReturn:
    """Replace this process by the program, found by the PATH of its own environment."""
    environment = _environment(process)
    name = process.args[0]
    last: OSError | None = None
    for path in candidates(name, environment.get("PATH", DEFAULT_PATH)):
        try:
            os.execve(path, process.args, environment)
        except OSError as error:
            if last is None or error.errno not in (errno.ENOENT, errno.ENOTDIR):
                last = error
    raise _unexecutable(name, last)


def _environment(process: Process) -> dict[str, str]:
    return dict(item.partition("=")[::2] for item in process.env)


def _unexecutable(name: str, last: OSError | None) -> RuntimeFailure:
    missing = last is None or last.errno in (errno.ENOENT, errno.ENOTDIR)
    if missing and os.path.exists(name) and "/" in name:
        reason = "its interpreter or loader does not exist in the image"
    elif missing:
        reason = "no such program in the image" + ("" if "/" in name else "'s PATH")
    elif last is not None and last.errno == errno.ENOEXEC:
        reason = "not a program of this machine's kind, and without a #! line"
    else:
        reason = str(last.strerror) if last is not None else ""
    return RuntimeFailure(
        f"cannot run {name}: {reason}",
        hint="correct `command` or `entrypoint`, or the image",
        ref="program-missing" if missing else "program-not-executable",
        code=_NOT_FOUND if missing else _NOT_EXECUTABLE,
    )


def candidates(name: str, path: str) -> list[str]:
    """Where a program may be. An empty part of PATH is not the working directory."""
    if "/" in name:
        return [name]
    return [os.path.join(folder, name) for folder in path.split(":") if folder]
