"""Runs on the managed host: `create` and `run`."""

from __future__ import annotations

import os
import socket

from .. import capabilities, cgroup, checks
from ..config import Config, RuntimeFailure, annotation, load, section
from ..container import Container
from ..container import create as create_container
from . import handing, records
from .ending import remove, take_back
from .options import Option, Options, usage
from .records import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .context import Context
    from .follow import Signals

# podman's --group-add keep-groups.
_KEEP_GROUPS = "run.oci.keep_original_groups"
_OPTIONS = (
    Option("-b --bundle", "DIR", "the folder of config.json (default: the current one)"),
    Option("-f --config", "FILE", "another config.json; relative to the bundle"),
    Option("--console-socket", "PATH", "the socket that gets the terminal's master side"),
    Option("--pid-file", "FILE", "write the pid of the first process there"),
    Option("--preserve-fds", "N", "the program gets that many more of the caller's descriptors"),
    Option("--no-pivot", "", "for a root on a ramdisk, where pivot_root cannot be"),
    Option("--no-new-keyring", "", "keep the caller's session keyring"),
    Option("--no-subreaper", "", "accepted: `run` never is one"),
)
_RUN = (
    *_OPTIONS,
    Option("-d --detach", "", "do not wait for its end"),
    Option("--keep", "", "do not delete it when it has ended"),
)


def create(context: Context, options: Options, words: list[str]) -> int:
    """Make the container; its first process waits at a socket in its folder."""
    record, config = _claim(context, options, words)
    lock = record.lock()
    try:
        handing.check_terminal(options, wanted=_terminal(config), detached=True)
        listener = _listen(record)
        container = _make(record, config, options, listener.fileno())
        try:
            _announce(record, container, options, os.fstat(listener.fileno()).st_ino)
        except BaseException:
            container.release()
            raise
        container.leave()
    except BaseException:
        take_back(record)
        raise
    finally:
        os.close(lock)
    return 0


def run(context: Context, options: Options, words: list[str]) -> int:
    """Make it, start it, and stay until its end unless that is not wanted."""
    record, config = _claim(context, options, words)
    detached = options.on("detach")
    lock = record.lock()
    try:
        if _terminal(config) or options.text("console-socket"):
            handing.check_terminal(options, wanted=_terminal(config), detached=detached)
        container = _make(record, config, options, -1)
        try:
            _announce(record, container, options, 0)
            signals = None if detached else _signals()
            if signals and container.terminal >= 0 and not _has_size(config):
                _resize(container.terminal)
            container.start()
        except BaseException:
            container.release()
            raise
    except BaseException:
        take_back(record)
        raise
    finally:
        os.close(lock)
    if signals is None:
        container.leave()
        return 0
    from .follow import follow

    code = follow(container.pid, signals, terminal=container.terminal)
    if not options.on("keep"):
        remove(context, record)
    return code


def _has_size(config: Config) -> bool:
    return bool(section(config, "process", "consoleSize"))


def _resize(terminal: int) -> None:
    from ..join import resize

    size = handing.own_size()
    if any(size):
        resize(terminal, *size)


def _signals() -> Signals:
    from .follow import Signals

    return Signals()


def _claim(context: Context, options: Options, words: list[str]) -> tuple[Record, Config]:
    """Read the bundle, and take the name."""
    if len(words) != 1:
        raise usage("exactly one container ID is needed")
    records.check(words[0])
    bundle = os.path.abspath(options.text("bundle") or ".")
    config = load(bundle, options.text("config") or "config.json")
    checks.check(config)
    if not annotation(config, "hostctl.overlay") and not section(config, "root", "path"):
        raise RuntimeFailure("cannot create the container: no root.path", ref="bundle-broken")
    for text in capabilities.warnings(config):
        context.log("warning", text)
    _complete(config)
    scope = None
    if context.systemd:
        from . import systemd

        scope = systemd.scope(config, words[0])
    path = scope.path if scope else cgroup_path(context, config, words[0])
    record = records.make(
        context.root,
        words[0],
        config,
        bundle=bundle,
        rootfs=os.path.realpath(os.path.join(bundle, section(config, "root", "path") or "")),
        cgroup_path=path,
        unit=scope.unit if scope else "",
        slice=scope.slice if scope else "",
    )
    try:
        _check_empty(path, words[0])
    except BaseException:
        record.remove()
        raise
    return record, config


def _complete(config: Config) -> None:
    """What the caller's own surroundings add to the program's."""
    inside = config["process"]
    inside["env"] = [*(inside.get("env") or ()), *handing.listen_environment()]
    if annotation(config, _KEEP_GROUPS) == "1":
        user = inside.setdefault("user", {})
        user["additionalGids"] = [*(user.get("additionalGids") or ()), *os.getgroups()]


def cgroup_path(context: Context, config: Config, identifier: str) -> str:
    """`linux.cgroupsPath`, below the hierarchies' roots; a folder of our own where it is left out."""
    wanted = str(section(config, "linux", "cgroupsPath") or "")
    if not wanted:
        return cgroup.container_path(context.root, identifier)
    # No part of it leads upwards: normpath ends at the root.
    return os.path.normpath("//" + wanted).strip("/")


def _check_empty(path: str, identifier: str) -> None:
    """Whoever is in the cgroup would be ended, as left over from an earlier container."""
    there = cgroup.Cgroup(path, cgroup.detect()).processes()
    if there:
        raise RuntimeFailure(
            f"cannot create {identifier}: container's cgroup {path} is not empty: "
            f"process {min(there)} is in it",
            hint="end it, or give the container another linux.cgroupsPath",
            ref="cgroup-in-use",
        )


def _make(record: Record, config: Config, options: Options, waiting: int) -> Container:
    holder = None
    if record.unit:
        from . import systemd

        holder = systemd.Holder(systemd.Scope(record.slice, record.unit), config)
    try:
        return create_container(
            config,
            record.bundle,
            cgroup_path=record.cgroup_path,
            stdio=(0, 1, 2),
            waiting=waiting,
            preserve=handing.preserved(options),
            name=record.id,
            pivot=not options.on("no-pivot"),
            holder=holder.pid if holder else 0,
        )
    finally:
        if holder is not None:
            holder.close()


def _announce(record: Record, container: Container, options: Options, waiting: int) -> None:
    record.appoint(container.pid, waiting)
    path = options.text("console-socket")
    if path:
        handing.send_terminal(path, container.terminal)
    handing.write_pid(options, container.pid)


def _listen(record: Record) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    folder = os.open(record.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # A socket's path may be at most 107 bytes long.
        listener.bind(f"/proc/self/fd/{folder}/{os.path.basename(record.socket)}")
    finally:
        os.close(folder)
    listener.listen(16)
    return listener


def _terminal(config: Config) -> bool:
    return bool(config["process"].get("terminal"))


COMMANDS = {
    "create": (create, _OPTIONS, "ID", -1),
    "run": (run, _RUN, "ID", -1),
}
