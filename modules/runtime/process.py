"""Runs on the managed host: the container's program: who runs it, where, with what, and its exec."""

from __future__ import annotations

import errno
import os
import signal

from . import capabilities, rlimits, users
from . import syscalls as sys
from .config import USER, Config, RuntimeFailure, annotation, section

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_NOT_FOUND, _NOT_EXECUTABLE = 127, 126


class Process:
    """What `prepare` found. `user` is `name[:group]` to look up inside, and beats the numbers."""

    def __init__(self, config: Config) -> None:
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


def prepare(config: Config) -> Process:
    """Parse `process`."""
    if not section(config, "process", "args"):
        raise RuntimeFailure("cannot create the container: nothing to run", ref="nothing-to-run")
    process = Process(config)
    if not process.cwd.startswith("/"):
        raise RuntimeFailure(
            f"cannot use working directory {process.cwd!r}: not an absolute path", ref="bad-cwd"
        )
    return process


def enter_host(process: Process) -> None:
    """Child, while it still sees the host's /proc, and before it gives up what this takes."""
    score = process.oom_score_adj
    try:
        with open("/proc/self/oom_score_adj", "w", encoding="ascii") as stream:
            stream.write(str(score or 0))
    except OSError as error:
        if score is not None:
            raise RuntimeFailure(
                f"cannot set oom_score_adj to {score}: {error.strerror}", ref="bad-oom-score"
            ) from error
    rlimits.enter(process.rlimits)


def close_all_but(keep: int) -> None:
    """Close every descriptor but 0 to 2 and `keep`."""
    if keep > 3:
        sys.close_range(3, keep - 1)
    sys.close_range(max(keep + 1, 3))


def enter_cwd(process: Process, keep: int) -> None:
    """Child, inside its root while that is writable: the working directory is made if missing.

    Folders of the host that are still open here could be reached through /proc/self/fd: all but
    `keep` and 0 to 2 are closed before the working directory, which the image names, is entered.
    """
    close_all_but(keep)
    os.umask(process.umask)
    _enter_cwd(process.cwd)


def enter(process: Process) -> None:
    """Child, last: become the user, with exactly the wanted rights."""
    _reset_signals()
    _identify(process)
    for fd in (0, 1, 2):
        # Programs reopen /dev/stdout by name: their user must own the pipes.
        if process.uid and os.fstat(fd).st_uid == 0 and _is_pipe(fd):
            os.fchown(fd, process.uid, process.gid)
    capabilities.enter_bounding(process.capabilities)
    os.setgroups(process.groups)
    os.setresgid(process.gid, process.gid, process.gid)
    os.setresuid(process.uid, process.uid, process.uid)
    if process.no_new_privileges:
        sys.prctl(sys.PR_SET_NO_NEW_PRIVS, 1)
    capabilities.enter(process.capabilities)


def _is_pipe(fd: int) -> bool:
    return (os.fstat(fd).st_mode & 0o170000) == 0o010000


def _identify(process: Process) -> None:
    if process.user:
        identity = users.lookup(process.user)
        process.uid, process.gid = identity.uid, identity.gid
        process.groups = sorted({*process.groups, *identity.groups})
    if not any(item.startswith("HOME=") for item in process.env):
        process.env.append("HOME=" + users.home_of(process.uid))


def _enter_cwd(path: str) -> None:
    try:
        try:
            os.chdir(path)
        except FileNotFoundError:
            os.makedirs(path, 0o755)
            os.chdir(path)
    except OSError as error:
        raise RuntimeFailure(
            f"cannot enter the working directory {path}: {error.strerror}",
            ref="bad-cwd",
            code=_NOT_EXECUTABLE,
        ) from error
    if not os.getcwd().startswith("/"):
        raise RuntimeFailure(f"cannot enter {path}: it is outside the container", ref="bad-cwd")


def _reset_signals() -> None:
    """Ignored signals and the mask survive exec; Python ignores SIGPIPE."""
    for number in range(1, signal.NSIG):
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            sys.default_action(number)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def execute(process: Process) -> NoReturn:
    """Replace this process by the program, found by the PATH of its own environment."""
    environment = dict(item.partition("=")[::2] for item in process.env)
    name = process.args[0]
    last: OSError | None = None
    for path in candidates(name, environment.get("PATH", DEFAULT_PATH)):
        try:
            os.execve(path, process.args, environment)
        except OSError as error:
            if last is None or error.errno not in (errno.ENOENT, errno.ENOTDIR):
                last = error
    missing = last is None or last.errno in (errno.ENOENT, errno.ENOTDIR)
    if missing and os.path.exists(name) and "/" in name:
        reason = "its interpreter or loader does not exist in the image"
    elif missing:
        reason = "no such program in the image" + ("" if "/" in name else "'s PATH")
    elif last is not None and last.errno == errno.ENOEXEC:
        reason = "not a program of this machine's kind, and without a #! line"
    else:
        reason = str(last.strerror) if last is not None else ""
    raise RuntimeFailure(
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
