"""Runs on the managed host: the one door to other programs (the only file that imports subprocess)."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..contract.errors import HostctlError

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
) -> Completed:
    """Run a program to its end, without a shell, in its own session, with a deadline.

    Raises:
        HostctlError: the program is missing, did not end in time, or (with `check`) failed.
    """
    whole_env = {"PATH": PATH, "LANG": "C.UTF-8", "HOME": os.environ.get("HOME", "/root")}
    if "TMPDIR" in os.environ:
        whole_env["TMPDIR"] = os.environ["TMPDIR"]
    whole_env.update(env or {})
    data = input.encode() if isinstance(input, str) else input
    try:
        done = subprocess.run(
            list(argv),
            input=data,
            stdin=subprocess.DEVNULL if data is None else None,
            capture_output=True,
            timeout=timeout,
            env=whole_env,
            cwd=cwd,
            start_new_session=True,
            check=False,
        )
    except FileNotFoundError as error:
        raise HostctlError(
            f"cannot run {argv[0]}: there is no such program", ref="program-missing"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise HostctlError(
            f"cannot finish {argv[0]}: not done after {timeout:g} s", ref="program-timeout"
        ) from error
    result = Completed(
        done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
    )
    if check and result.code != 0:
        last = (result.stderr.strip() or result.stdout.strip()).splitlines()[-3:]
        raise HostctlError(
            f"cannot run {' '.join(argv[:3])}: exit code {result.code}: {' / '.join(last)}",
            ref="program-failed",
        )
    return result
