"""Runs on the managed host: the one door to other programs (the only file that imports subprocess)."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Callable

from ..contract.errors import HostctlError

# How often a program that may be stopped is thought of, and how long it may take to end when asked.
_GLANCE = 0.5
_GRACE = 5.0

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Completed:
    """A program's end: its exit code (negative: the signal) and what it printed, decoded leniently."""

    code: int
    stdout: str
    stderr: str


def run(
    argv: Sequence[str],
    *,
    input: str | bytes | None = None,
    timeout: float = 300,
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
    check: bool = False,
    stop_with: Callable[[], bool] | None = None,
) -> Completed:
    """Run a program to its end, without a shell, in its own session, with a deadline.

    Args:
        stop_with: once it says True, the program and its children are ended. Without it a program runs to
            its end whatever happens to the controller: a package manager must not be stopped half-way.
    Raises:
        ControllerGone: stopped.
        HostctlError: the program is missing, did not end in time, or (with `check`) failed.
    """
    whole_env = {"PATH": PATH, "LANG": "C.UTF-8", "HOME": os.environ.get("HOME", "/root")}
    if "TMPDIR" in os.environ:
        whole_env["TMPDIR"] = os.environ["TMPDIR"]
    whole_env.update(env or {})
    data = input.encode() if isinstance(input, str) else input
    process = _begin(
        argv,
        stdin=subprocess.DEVNULL if data is None else subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=whole_env,
        cwd=cwd,
    )
    with process:
        try:
            out, err = _communicate(process, data, timeout, stop_with)
        except subprocess.TimeoutExpired as error:
            raise HostctlError(
                f"cannot finish {argv[0]}: not done after {timeout:g} s", ref="program-timeout"
            ) from error
        finally:
            if process.poll() is None:
                _signal(process, signal.SIGKILL)
    result = Completed(
        process.returncode, out.decode(errors="replace"), err.decode(errors="replace")
    )
    if check and result.code != 0:
        last = (result.stderr.strip() or result.stdout.strip()).splitlines()[-3:]
        raise HostctlError(
            f"cannot run {' '.join(argv[:3])}: exit code {result.code}: {' / '.join(last)}",
            ref="program-failed",
        )
    return result


def lines(argv: Sequence[str]) -> Iterator[bytes]:
    """What a program prints, line by line, without keeping it; it is ended when nobody reads on.

    Raises:
        HostctlError: the program is missing.
    """
    env = {"PATH": PATH, "LANG": "C.UTF-8"}
    process = _begin(argv, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=env)
    with process:
        try:
            yield from process.stdout or ()
        finally:
            if process.poll() is None:
                _signal(process, signal.SIGKILL)


def _begin(argv: Sequence[str], **how: Any) -> subprocess.Popen[bytes]:
    """The program, in a session of its own; `how` is Popen's."""
    try:
        return subprocess.Popen(list(argv), stdout=subprocess.PIPE, start_new_session=True, **how)
    except FileNotFoundError as error:
        raise HostctlError(
            f"cannot run {argv[0]}: there is no such program", ref="program-missing"
        ) from error


def _communicate(
    process: subprocess.Popen[bytes],
    data: bytes | None,
    timeout: float,
    stop_with: Callable[[], bool] | None,
) -> tuple[bytes, bytes]:
    end = time.monotonic() + timeout
    while True:
        left = max(end - time.monotonic(), 0)
        try:
            return process.communicate(data, left if stop_with is None else min(left, _GLANCE))
        except subprocess.TimeoutExpired:
            data = None  # what was given at first is still being written
            if stop_with is not None and stop_with():
                _stop(process)
            if time.monotonic() >= end:
                # children that hold the pipes would keep their reader waiting
                _signal(process, signal.SIGKILL)
                raise


def _stop(process: subprocess.Popen[bytes]) -> None:
    from .channel import ControllerGone

    _signal(process, signal.SIGTERM)
    try:
        process.communicate(timeout=_GRACE)
    except subprocess.TimeoutExpired:
        _signal(process, signal.SIGKILL)
    raise ControllerGone


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    """To the whole session's group: the program leads it."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)
