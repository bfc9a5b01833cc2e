"""Runs on the managed host, in short-lived children of a monitor: one look at a container's health.

Meanings of Docker's HEALTHCHECK (Dockerfile reference): starting until the first success, unhealthy after
`retries` failures in a row; failures of the start period do not count.
"""

from __future__ import annotations

import _socket as socket
import os
import time

from ..agent.paths import Paths
from ..contract.errors import HostctlError
from ..runtime import syscalls
from . import program, state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

STARTING, HEALTHY, UNHEALTHY = "starting", "healthy", "unhealthy"
_OUTPUT = 4096
_KEPT = 5
_TIMED_OUT = -1


def first_wait(check: dict[str, Any]) -> float:
    """Seconds from the container's start to the first look."""
    return float(check["start_interval"] if check["start_period"] else check["interval"])


def new(check: dict[str, Any] | None) -> dict[str, Any] | None:
    """The health of a container that has just been started."""
    return _new() if check else None


def _new() -> dict[str, Any]:
    return {"status": STARTING, "failing": 0, "log": []}


def look(paths: Paths, name: str, pid: int, check: dict[str, Any]) -> dict[str, Any]:
    """Look once: `start` and `end` (seconds since 1970), `exit_code` (0 is healthy) and `output`."""
    begun = time.time()
    kind = check["test"][0]
    try:
        if kind in ("TCP", "HTTP"):
            code, output = _connect(pid, check)
        else:
            words = list(check["test"][1:])
            words = ["/bin/sh", "-c", *words] if kind == "CMD-SHELL" else words
            plan = program.plan(paths, name, words)
            code, output = program.run(paths, name, pid, plan, check["timeout"])
    except program.TooLong:
        code, output = _TIMED_OUT, f"Health check exceeded timeout ({check['timeout']:g}s)"
    except (HostctlError, OSError) as error:
        code, output = 1, str(error)
    return {
        "start": round(begun, 3),
        "end": round(time.time(), 3),
        "exit_code": code,
        "output": output[-_OUTPUT:],
    }


def judge(now: state.State, seen: dict[str, Any], check: dict[str, Any]) -> float:
    """Write the look into the state; seconds until the next."""
    health = now.health or _new()
    early = health["status"] == STARTING and seen["start"] - now.started_at < check["start_period"]
    if seen["exit_code"] == 0:
        health["status"], health["failing"] = HEALTHY, 0
    elif not early:
        health["failing"] += 1
        if health["failing"] >= check["retries"]:
            health["status"] = UNHEALTHY
    health["log"] = [*health["log"], seen][-_KEPT:]
    now.health = health
    still = early and health["status"] == STARTING
    return float(check["start_interval"] if still else check["interval"])


def _connect(pid: int, check: dict[str, Any]) -> tuple[int, str]:
    """A connection inside the container's network namespace; nothing of the image is needed."""
    theirs = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    syscalls.setns(theirs, syscalls.CLONE_NEWNET)
    peer = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    peer.settimeout(check["timeout"])
    kind, port, *more = check["test"]
    try:
        peer.connect(("127.0.0.1", int(port)))
        if kind == "TCP":
            return 0, f"port {port} accepts connections"
        path, wanted = more
        peer.sendall(
            f"GET {path} HTTP/1.1\r\nHost: localhost:{port}\r\nUser-Agent: hostctl\r\n"
            "Connection: close\r\n\r\n".encode()
        )
        return _answered(_first_line(peer), wanted)
    except TimeoutError:
        raise program.TooLong from None
    finally:
        peer.close()


def _first_line(peer: socket.socket) -> str:
    data = b""
    while b"\n" not in data and len(data) < _OUTPUT:
        chunk = peer.recv(_OUTPUT)
        if not chunk:
            break
        data += chunk
    return data.partition(b"\n")[0].decode("latin-1").strip()


def _answered(line: str, wanted: str) -> tuple[int, str]:
    first, _, last = wanted.partition("-")
    words = line.split()
    known = len(words) > 1 and words[0].startswith("HTTP/") and words[1].isdigit()
    good = known and int(first) <= int(words[1]) <= int(last or first)
    return (0 if good else 1), line or "the connection was closed without an answer"
