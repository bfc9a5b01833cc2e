"""Runs on the managed host, in a build's worker: runs one program in a container of its own, packs what it changed."""

from __future__ import annotations

import os
import stat
from typing import Any

from ..contract.errors import HostctlError
from ..runtime import container
from ..runtime import syscalls as sys
from ..runtime.config import FILES
from ..store.layer import pack


def run(
    *,
    output: int,
    folder: str,
    config: dict[str, Any],
    cgroup: str,
    files: list[dict[str, Any]],
    stubs: list[str],
    blob: str,
    latest: int | None,
) -> dict[str, Any]:
    """Run the program to its end.

    Args:
        output: takes its stdout and stderr.
        folder: has `bundle/rootfs`, `upper` and `work`.
        config: the OCI config.json.
        files: secrets: `{"name", "value" (hex), "target", "uid", "gid", "mode"}`; they exist in memory only.
        stubs: paths that mounts may have to make in the tree; what was made for them alone is taken away.
        blob: where the layer's tar goes; empty: it is only hashed.
        latest: see `layer.pack`.
    Returns:
        `{"code": exit code}`; of a program that ended well also `diff_id`, `length`, `size`.
    """
    held = _hold(files, config)
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    upper = os.path.join(folder, "upper")
    made = container.create(
        config,
        os.path.join(folder, "bundle"),
        cgroup_path=cgroup,
        stdio=(null, output, output),
    )
    try:
        made.start()
        for fd in (output, null, *held):
            os.close(fd)
        _, status = os.waitpid(made.pid, 0)
    finally:
        made.release()
    code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)
    if code != 0:
        return {"code": code}
    clean(upper, stubs, _lower(config))
    return {"code": 0, **packed(upper, blob, latest)}


def packed(upper: str, blob: str, latest: int | None) -> dict[str, Any]:
    """The layer of an upper folder: `diff_id` (hex), `length` of its tar and `size` of its files."""
    if not blob:
        found = pack(upper, None, latest)
    else:
        with open(blob, "xb") as file:
            found = pack(upper, file, latest)
    return {"diff_id": found.diff_id, "length": found.length, "size": found.size}


def _hold(files: list[dict[str, Any]], config: dict[str, Any]) -> list[int]:
    """The secrets' values, each in a file in memory that the runtime reads by its descriptor."""
    import json

    held, entries = [], []
    for item in files:
        fd = os.memfd_create("secret", os.MFD_CLOEXEC)
        os.write(fd, bytes.fromhex(item.pop("value")))
        held.append(fd)
        entries.append({**item, "source": f"/proc/self/fd/{fd}"})
    if entries:
        config["annotations"][FILES] = json.dumps(entries)
    return held


def _lower(config: dict[str, Any]) -> list[str]:
    import json

    overlay = json.loads(config["annotations"]["hostctl.overlay"])
    return [os.path.join(overlay["cwd"], name) for name in overlay["lower"]]


def clean(upper: str, stubs: list[str], lower: list[str]) -> None:
    """Remove what is there only as a mount's place: empty files and folders that no layer below has.

    A folder that was copied up for one is as it was below, times included, and goes too.
    """
    for path in sorted(stubs, key=lambda item: -item.count("/")):
        parts = [part for part in path.split("/") if part]
        if not parts or any(part == ".." for part in parts):
            continue
        for depth in range(len(parts), 0, -1):
            name = "/".join(parts[:depth])
            if not _remove_stub(os.path.join(upper, name), name, lower):
                break


def _remove_stub(path: str, name: str, lower: list[str]) -> bool:
    """Whether there is nothing any more at that path of the upper folder."""
    try:
        status = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    below = next(
        (os.lstat(p) for root in lower if os.path.lexists(p := os.path.join(root, name))), None
    )
    if stat.S_ISREG(status.st_mode) and status.st_size == 0 and below is None:
        os.unlink(path)
        return True
    if not stat.S_ISDIR(status.st_mode):
        return False
    same = ("st_mode", "st_uid", "st_gid")
    if below is not None and any(getattr(status, key) != getattr(below, key) for key in same):
        return False
    try:
        os.rmdir(path)
    except OSError:
        if below is not None:
            os.utime(path, ns=(below.st_atime_ns, below.st_mtime_ns))
        return False
    return True


def mount_overlay(folder: str, cwd: str, lower: list[str], *, writable: bool = True) -> str:
    """Mount a tree at `folder/merged`, in a mount namespace that ends with this process; its path."""
    from ..runtime.rootfs import off_switches

    target = os.path.join(folder, "merged")
    os.makedirs(target, 0o755, exist_ok=True)
    os.chdir(cwd)
    try:
        if not writable and len(lower) == 1:
            sys.mount(lower[0], target, None, sys.MS_BIND)
            return target
        options = ["lowerdir=" + ":".join(lower)]
        if writable:
            options += [f"upperdir={folder}/upper", f"workdir={folder}/work"]
        options += off_switches()
        data = ",".join(options)
        if len(data) >= 4095:
            raise HostctlError(
                "cannot mount the image: it has too many layers", ref="too-many-layers"
            )
        sys.mount("overlay", target, "overlay", 0, data)
    finally:
        os.chdir("/")
    return target
