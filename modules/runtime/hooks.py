"""Runs on the managed host: programs that a bundle wants run at moments of its container's life.

prestart and createRuntime run in the parent, createContainer in the container's first process before it
leaves the host's tree, startContainer there just before the program, poststart and poststop again on the
host. Each gets the container's state as JSON. Source: OCI runtime-spec 1.2 config.md, runtime.md.
"""

from __future__ import annotations

import os

from ..contract import plainjson
from . import programs
from .config import Config, RuntimeFailure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, NoReturn

KINDS = (
    "prestart",
    "createRuntime",
    "createContainer",
    "startContainer",
    "poststart",
    "poststop",
)
STATUS = {"startContainer": "created", "poststart": "running", "poststop": "stopped"}
_CREATING = "creating"
_VERSION = "1.2.0"


class Hook:
    """One program; `timeout` in seconds, 0 for none; without an `env` it has this process's own."""

    def __init__(self, path: str, args: list[str], env: list[str] | None, timeout: float) -> None:
        self.path = path
        self.args = args
        self.env = env
        self.timeout = timeout


class Hooks:
    """All hooks of a bundle, and what they are told.

    Attributes:
        pid: the first process, seen from the host; 0 until it is known.
    """

    def __init__(self, kinds: dict[str, list[Hook]], state: dict[str, Any]) -> None:
        self.kinds = kinds
        self.pid = 0
        self._state = state

    def any(self, *kinds: str) -> bool:
        return any(self.kinds[kind] for kind in kinds)

    def run(self, kind: str, cwd: str = "") -> None:
        """Run the hooks of a kind, in order. Raises RuntimeFailure with the first that fails."""
        if not self.kinds[kind]:
            return
        status = STATUS.get(kind, _CREATING)
        state = {**self._state, "status": status, "pid": 0 if kind == "poststop" else self.pid}
        text = plainjson.dumps(state).encode()
        for hook in self.kinds[kind]:
            _run(kind, hook, text, cwd)

    def run_poststop(self) -> list[RuntimeFailure]:
        """Run all of them whatever happens; what went wrong is only worth a warning."""
        failures = []
        hooks = self.kinds["poststop"]
        for hook in hooks:
            try:
                Hooks({"poststop": [hook]}, self._state).run("poststop")
            except RuntimeFailure as error:
                failures.append(error)
        return failures


def prepare(config: Config, name: str, bundle: str) -> Hooks | None:
    """Parse `hooks`; None where there are none.

    Args:
        name: the container's id, as hooks are told it.
        bundle: its folder.
    """
    found = {kind: _parse(config, kind) for kind in KINDS} if config.get("hooks") else {}
    if not any(found.values()):
        return None
    state: dict[str, Any] = {
        "ociVersion": str(config.get("ociVersion") or _VERSION),
        "id": name,
        "bundle": os.path.abspath(bundle),
        "annotations": dict(config.get("annotations") or {}),
    }
    return Hooks(found, state)


def _parse(config: Config, kind: str) -> list[Hook]:
    entries = config["hooks"].get(kind) or ()
    if not isinstance(entries, (list, tuple)):
        _refuse(f"hooks.{kind} is not a list", "write [{...}]")
    return [_hook(kind, entry) for entry in entries]


def _hook(kind: str, entry: Any) -> Hook:
    path = entry.get("path") if isinstance(entry, dict) else None
    if not isinstance(path, str) or not path.startswith("/"):
        _refuse(f"a {kind} hook has no absolute path", "name a program, such as /usr/bin/true")
    timeout = entry.get("timeout")
    if timeout is not None and (not isinstance(timeout, (int, float)) or timeout <= 0):
        _refuse(f"the timeout of the {kind} hook {path} is {timeout}", "seconds, more than 0")
    args = [str(item) for item in entry.get("args") or (path,)]
    env = [str(item) for item in entry["env"]] if entry.get("env") else None
    return Hook(path, args, env, float(timeout or 0))


def _refuse(what: str, hint: str) -> NoReturn:
    raise RuntimeFailure(f"cannot create the container: {what}", hint=hint, ref="bad-hook")


def _run(kind: str, hook: Hook, state: bytes, cwd: str) -> None:
    # As crun and runc do it, where the specification leaves it open.
    environment = dict(os.environ) if hook.env is None else _environment(hook.env)
    status, words = programs.run(
        hook.path, hook.args, environment, told=state, cwd=cwd, seconds=hook.timeout
    )
    if status == 0:
        return
    if status is None:
        reason = f"did not end within {hook.timeout:g} s"
    elif os.WIFSIGNALED(status):
        reason = f"was ended by signal {os.WTERMSIG(status)}"
    else:
        reason = f"ended with exit code {os.WEXITSTATUS(status)}"
    raise RuntimeFailure(
        f"cannot go on: the {kind} hook {hook.path} {reason}" + (f": {words}" if words else ""),
        hint="correct it, or remove it from the hooks of config.json",
        ref="hook-failed",
    )


def _environment(items: Sequence[str]) -> dict[str, str]:
    return dict(item.partition("=")[::2] for item in items)
