"""Runs on the test machine: what is in an image, as lines that can be compared; and a build by buildah."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from hostctl_host.store.store import Store

# Run in a mount namespace of its own: what it mounts goes with it.
LISTING = r"""
import hashlib, json, os, stat, sys
top, skipped, found = sys.argv[1], set(json.loads(sys.argv[2])), {}
for folder, names, files in os.walk(top):
    for name in [*names, *files]:
        path = os.path.join(folder, name)
        inside = os.path.relpath(path, top)
        status = os.lstat(path)
        if inside in skipped or inside.split("/")[0] in skipped:
            continue
        what = ""
        if stat.S_ISREG(status.st_mode):
            what = hashlib.sha256(open(path, "rb").read()).hexdigest()[:16]
        elif stat.S_ISLNK(status.st_mode):
            what = os.readlink(path)
        found[inside] = f"{status.st_mode:o} {status.st_uid}:{status.st_gid} {what}"
print(json.dumps(found))
"""
# What a builder's own mounts may leave, and the file of buildah's base pull.
NOT_COMPARED = ["proc", "sys", "dev", "run", "etc/resolv.conf", "etc/hosts", "etc/hostname"]


def tree_of(store: Store, name: str) -> dict[str, str]:
    """Path -> type, mode, owner and content of an image in a store."""
    image_id = store.resolve(name)
    assert image_id is not None
    lower = ":".join(store.lower(image_id))
    script = (
        'cd "$1" && mount -t overlay overlay -o "lowerdir=$2:empty" /mnt && shift 2 && exec "$@"'
    )
    argv = ["unshare", "--mount", "sh", "-c", script, "sh", store.links_dir, lower]
    return _listed([*argv, "python3", "-c", LISTING, "/mnt"])


def _listed(argv: list[str]) -> dict[str, str]:
    done = subprocess.run(
        [*argv, json.dumps(NOT_COMPARED)], capture_output=True, text=True, check=True
    )
    found: dict[str, str] = json.loads(done.stdout)
    return found


class Buildah:
    """buildah with a storage of its own."""

    def __init__(self, folder: Path) -> None:
        self._front = ["buildah", "--root", str(folder / "root"), "--runroot", str(folder / "run")]
        self._front += ["--storage-driver", "overlay"]

    def __call__(self, *words: str) -> str:
        done = subprocess.run(
            [*self._front, *words],
            stdin=subprocess.DEVNULL,  # buildah leaves it without blocking
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
            env={**os.environ, "BUILDAH_ISOLATION": "chroot"},
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    def build(self, context: Path, tag: str, arguments: dict[str, str], target: str) -> None:
        words = [
            word for name, value in arguments.items() for word in ("--build-arg", f"{name}={value}")
        ]
        words += ["--target", target] if target else []
        self("bud", "--format", "docker", "--tls-verify=false", "-t", tag, *words, str(context))

    def config(self, tag: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self("inspect", "--type", "image", tag))["Docker"][
            "config"
        ]
        return found

    def tree(self, tag: str) -> dict[str, str]:
        """As `tree_of`."""
        container = self("from", "--pull-never", tag).splitlines()[-1]
        try:
            return _listed(["python3", "-c", LISTING, self("mount", container)])
        finally:
            self("rm", container)
