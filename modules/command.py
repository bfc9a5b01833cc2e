"""Runs on the managed host: the kind `command`: a program with arguments, without a shell.

It runs on every apply unless `creates` or `removes` says that there is nothing to do; it never runs in plan.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Annotated, Any

from .agent.host import Host
from .contract.change import Action, Change, Reason
from .contract.fields import DURATION


@dataclass(frozen=True)
class Spec:
    """A program to run. Exactly one of `cmd` (split like a shell does) and `argv`.

    `creates`: not run if this path (a glob) exists; `removes`: not run if it does not.
    """

    cmd: str = ""
    argv: tuple[str, ...] = ()
    chdir: str = ""
    creates: str = ""
    removes: str = ""
    stdin: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    timeout: Annotated[float, DURATION] = 3600.0


@dataclass(frozen=True)
class Observed:
    """Whether there is something to do, and why not."""

    needed: bool
    reason: str = ""


def observe(spec: Spec, host: Host) -> Observed:
    if spec.creates and _exists(spec.creates, spec.chdir):
        return Observed(False, f"{spec.creates} exists")
    if spec.removes and not _exists(spec.removes, spec.chdir):
        return Observed(False, f"{spec.removes} does not exist")
    return Observed(True)


def _exists(pattern: str, chdir: str) -> bool:
    path = os.path.join(chdir, pattern)
    if os.path.lexists(path):
        return True
    if not any(letter in path for letter in "*?["):
        return False
    import glob

    return bool(glob.glob(path))


def diff(spec: Spec, observed: Observed) -> list[Change]:
    if not observed.needed:
        return []
    reason = Reason.ABSENT if spec.creates else Reason.ALWAYS
    return [Change(Action.RUN, "command", after=" ".join(_argv(spec)), reason=reason)]


def apply(spec: Spec, observed: Observed, changes: list[Change], host: Host) -> dict[str, Any]:
    """Run it. A failure is part of the result (`failed`, `rc`, `msg`), so that `failed_when` can judge it."""
    from .agent.run import run
    from .contract.errors import CannotApply

    argv = _argv(spec)
    if spec.chdir and not os.path.isdir(spec.chdir):
        raise CannotApply(
            f"cannot run {argv[0]} in {spec.chdir}: there is no such folder",
            hint=f"declare `directory: {{path: {spec.chdir}}}` before it, or correct `chdir`",
        )
    done = run(
        argv,
        input=spec.stdin or None,
        env=spec.environment,
        cwd=spec.chdir or None,
        timeout=spec.timeout,
        stop_with=host.gone,
    )
    result: dict[str, Any] = {
        "cmd": argv,
        "rc": done.code,
        "stdout": done.stdout.rstrip("\n"),
        "stderr": done.stderr.rstrip("\n"),
        "stdout_lines": done.stdout.splitlines(),
        "stderr_lines": done.stderr.splitlines(),
    }
    if done.code != 0:
        last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-3:]
        why = f"exit code {done.code}" if done.code > 0 else f"killed by signal {-done.code}"
        result["failed"] = True
        result["msg"] = f"cannot run {argv[0]}: {why}" + (f": {' / '.join(last)}" if last else "")
    return result


def _argv(spec: Spec) -> list[str]:
    if spec.argv:
        return list(spec.argv)
    import shlex

    return shlex.split(spec.cmd)
