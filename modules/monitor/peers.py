"""Runs on the managed host, before a container is started: the other containers whose namespaces it joins.

config.json names them; where their namespaces are is known only while they run.
"""

from __future__ import annotations

from ..contract import plainjson
from ..runtime.config import PEERS, Config, RuntimeFailure, annotation
from . import state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..agent.paths import Paths

_FILES = {"pid": "pid", "ipc": "ipc", "user": "user"}


def resolve(config: Config, paths: Paths, name: str) -> Config:
    """The config with a path for each namespace that is another container's, and its shared memory.

    Raises:
        RuntimeFailure: that container does not run.
    """
    wanted = annotation(config, PEERS)
    if not wanted:
        return config
    linux = config["linux"]
    for kind, other in sorted(plainjson.loads(wanted).items()):
        found = state.read(paths.container_run(other))
        if found is None or not state.container_alive(found):
            raise RuntimeFailure(
                f"cannot start {name}: it shares {kind} with {other}, which does not run",
                hint=f"start {other} first",
                ref="no-namespace",
            )
        path = f"/proc/{found.pid}/ns/{_FILES[kind]}"
        linux["namespaces"] = [
            {"type": kind, "path": path} if entry["type"] == kind else entry
            for entry in linux["namespaces"]
        ]
        if kind == "ipc":
            config["mounts"] = [
                _shared(entry, found.pid) if entry["destination"] == "/dev/shm" else entry
                for entry in config["mounts"]
            ]
    return config


def _shared(entry: dict[str, object], pid: int) -> dict[str, object]:
    """Shared memory of POSIX is a file system, not a part of the IPC namespace: it comes along."""
    options = ["bind", "rprivate", "nosuid", "noexec", "nodev"]
    source = f"/proc/{pid}/root/dev/shm"
    return {**entry, "type": "bind", "source": source, "options": options}
