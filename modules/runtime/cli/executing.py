"""Runs on the managed host: `exec`."""

from __future__ import annotations

import os

from ...contract import plainjson
from .. import cgroup, join, process
from ..config import USER, Config, RuntimeFailure
from . import handing, records
from .options import Option, Options, usage
from .records import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .context import Context

_SETS = ("bounding", "effective", "permitted")
_OPTIONS = (
    Option("-p --process", "FILE", "the whole process, as config.json has it"),
    Option("-t --tty", "TTY", "with a terminal of its own", lenient=True),
    Option("-d --detach", "", "do not wait for its end"),
    Option("-u --user", "UID[:GID]", "numbers, or names that the container knows"),
    Option("-g --additional-gids", "GID", "a further group", many=True),
    Option("--cwd", "DIR", "the working directory"),
    Option("-e --env", "NAME=VALUE", "a further environment variable", many=True),
    Option("-c --cap", "CAP", "a further capability", many=True),
    Option("--no-new-privs", "", "it cannot gain rights"),
    Option("--apparmor", "PROFILE", "its AppArmor profile"),
    Option("--process-label", "LABEL", "its SELinux label"),
    Option("--pid-file", "FILE", "write its pid there"),
    Option("--console-socket", "PATH", "the socket that gets the terminal's master side"),
    Option("--preserve-fds", "N", "it gets that many more of the caller's descriptors"),
    Option("--cgroup", "PATH", "a cgroup below the container's, or CONTROLLER:PATH", many=True),
    Option("--ignore-paused", "", "also while the container is paused"),
)


def execute(context: Context, options: Options, words: list[str]) -> int:
    """Run a further program in a running container; the exit code is the program's."""
    if not words:
        raise usage("a container ID is needed")
    record = records.find(context.root, words[0])
    _check_running(record, paused_too=options.on("ignore-paused"))
    config = _configure(record, options, words[1:])
    inside = config["process"]
    detached = options.on("detach")
    terminal = bool(inside.get("terminal"))
    if terminal or options.text("console-socket"):
        handing.check_terminal(options, wanted=terminal, detached=detached)
    from .follow import Signals, follow, hold

    size = inside.get("consoleSize")
    if not detached:
        hold()
    joined = join.start(
        record.pid,
        process.prepare(config, record.bundle),
        _cgroup(record, options),
        stdio=(0, 1, 2),
        terminal=terminal,
        size=(int(size["height"]), int(size["width"])) if size else handing.own_size(),
        detach=detached,
        preserve=handing.preserved(options),
    )
    try:
        if options.text("console-socket"):
            handing.send_terminal(options.text("console-socket"), joined.terminal)
        handing.write_pid(options, joined.program)
    except BaseException:
        joined.kill()
        raise
    if detached:
        return 0
    return follow(joined.pid, Signals(), target=joined.program, terminal=joined.terminal)


def _check_running(record: Record, *, paused_too: bool) -> None:
    status = record.status()
    if status in (records.RUNNING, records.CREATED) or (status == records.PAUSED and paused_too):
        return
    raise RuntimeFailure(
        f"cannot exec in container {record.id}: it is {status}, not running",
        hint=f"resume {record.id}" if status == records.PAUSED else "",
        ref="not-running",
    )


class _Below(cgroup.Cgroup):
    """Cgroups below the container's, another one in each hierarchy."""

    def __init__(self, record: Record, chosen: dict[str, str]) -> None:
        super().__init__(record.cgroup_path, cgroup.detect())
        self._chosen = chosen

    def folders(self) -> list[str]:
        found = {}
        named = {
            **self.hierarchies.v1,
            **({"": self.hierarchies.v2} if self.hierarchies.v2 else {}),
        }
        for controller, root in named.items():
            below = self._chosen.get(controller)
            if below is not None or root not in found:
                below = self._chosen.get("*", "") if below is None else below
                found[root] = os.path.join(root, self.path, below)
        return list(found.values())


def _cgroup(record: Record, options: Options) -> cgroup.Cgroup:
    """Where the program is to be. Raises RuntimeFailure for what is not there, or not the container's."""
    chosen: dict[str, str] = {}
    for text in options.all("cgroup"):
        controllers, _, path = text.rpartition(":")
        if ".." in path.split("/"):
            raise usage(f"--cgroup {path} leads out of the container's cgroup")
        for controller in controllers.split(",") if controllers else ("*",):
            chosen[controller] = path.strip("/")
    if not chosen:
        return record.cgroup()
    made = _Below(record, chosen)
    unknown = {*chosen} - {"*", *made.hierarchies.v1}
    missing = [folder for folder in made.folders() if not os.path.isdir(folder)]
    if unknown or missing:
        raise RuntimeFailure(
            f"cannot run in that cgroup: there is no {', '.join([*sorted(unknown), *missing])}",
            hint="make it first; the path is relative to the container's cgroup",
            ref="no-such-cgroup",
        )
    return made


def _configure(record: Record, options: Options, command: list[str]) -> Config:
    """The container's configuration with another process."""
    config = dict(record.config())
    if options.text("process"):
        config["process"] = _read(options.text("process"))
        config["annotations"] = _without_user(config)
    else:
        config["process"] = _changed(dict(config["process"]), options, command)
        if options.text("user"):
            _set_user(config, options.text("user"))
    for identifier in options.all("additional-gids"):
        user = config["process"].setdefault("user", {})
        user["additionalGids"] = [*(user.get("additionalGids") or ()), int(identifier)]
    return config


def _read(path: str) -> dict[str, Any]:
    try:
        with open(path, "rb") as stream:
            found = plainjson.loads(stream.read())
    except (OSError, ValueError) as error:
        raise RuntimeFailure(f"cannot read {path}: {error}", ref="bad-process") from error
    if not isinstance(found, dict):
        raise RuntimeFailure(f"cannot read {path}: it is no process", ref="bad-process")
    return found


def _changed(inside: dict[str, Any], options: Options, command: list[str]) -> dict[str, Any]:
    if not command:
        raise usage("a command is needed, or --process")
    inside["args"] = command
    inside["terminal"] = options.on("tty")
    inside["env"] = [*(inside.get("env") or ()), *options.all("env")]
    inside.pop("consoleSize", None)
    if options.text("cwd"):
        inside["cwd"] = options.text("cwd")
    if options.on("no-new-privs"):
        inside["noNewPrivileges"] = True
    if options.text("apparmor"):
        inside["apparmorProfile"] = options.text("apparmor")
    if options.text("process-label"):
        inside["selinuxLabel"] = options.text("process-label")
    more = [name.upper() for name in options.all("cap")]
    if more:
        more = [name if name.startswith("CAP_") else f"CAP_{name}" for name in more]
        sets = dict(inside.get("capabilities") or {})
        for name in _SETS:
            sets[name] = [*(sets.get(name) or ()), *more]
        inside["capabilities"] = sets
    return inside


def _set_user(config: Config, text: str) -> None:
    uid, _, gid = text.partition(":")
    if uid.isdigit() and (gid.isdigit() or not gid):
        user = dict(config["process"].get("user") or {})
        user.update({"uid": int(uid), "gid": int(gid or 0)})
        config["process"]["user"] = user
        config["annotations"] = _without_user(config)
    else:
        config["annotations"] = {**(config.get("annotations") or {}), USER: text}
    environment = config["process"]["env"]
    config["process"]["env"] = [item for item in environment if not item.startswith("HOME=")]


def _without_user(config: Config) -> dict[str, str]:
    known = config.get("annotations") or {}
    return {name: value for name, value in known.items() if name != USER}


COMMANDS = {"exec": (execute, _OPTIONS, "ID COMMAND [ARGUMENT...]", 0)}
