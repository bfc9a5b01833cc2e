"""Runs on the managed host: makes an image of a distribution's packages: mmdebstrap, or debootstrap.

The result is one uncompressed layer with fixed times, without caches and logs, and with an empty
machine-id. Equal specs with equal packages give equal layers.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ..contract.document import canonical, digest
from ..contract.errors import CannotObserve, HostctlError
from ..contract.spec import encode
from .fetch import Source
from .manifest import (
    OCI_CONFIG,
    OCI_LAYER,
    OCI_MANIFEST,
    Descriptor,
    Manifest,
    parse_manifest,
    parse_platform,
)
from .staging import remove_tree

if TYPE_CHECKING:
    from ..image import Bootstrap

EPOCH = 1_704_067_200
_CREATED = "2024-01-01T00:00:00Z"
_DEADLINE = 3600.0
_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
LABEL = "io.hostctl.bootstrap"
TOOLS = ("mmdebstrap", "debootstrap")
"""In order of preference."""

# Everything that a killed agent would leave behind (mounts, processes) goes with its namespaces.
_JAIL = [
    "setpriv",
    "--pdeathsig",
    "KILL",
    "unshare",
    "--mount",
    "--pid",
    "--fork",
    "--kill-child",
    "--mount-proc",
]


def identity(spec: Bootstrap) -> str:
    """What the image's source is recorded as: equal for equal specs."""
    return "bootstrap:" + digest(canonical(encode(spec)))


def tool() -> str:
    """The first of `TOOLS` that this host has, or empty."""
    from ..agent.run import PATH

    for name in TOOLS:
        if any(os.access(os.path.join(folder, name), os.X_OK) for folder in PATH.split(":")):
            return name
    return ""


def missing_tool(name: str) -> str:
    """The package that brings one of `TOOLS`; empty where the host has one.

    Raises:
        CannotObserve: there is no way to install one; `name` is the image that needs it.
    """
    if tool():
        return ""
    if not os.path.exists("/usr/bin/apt-get"):
        raise CannotObserve(
            f"cannot bootstrap {name}: this host has neither {' nor '.join(TOOLS)}, and no apt-get",
            hint=f"install {' or '.join(TOOLS)} there, or ship the image as an archive",
            ref="program-missing",
        )
    return TOOLS[0]


class FileSource(Source):
    """Blobs that lie in files or in memory, by digest."""

    def __init__(self, files: dict[str, str], data: dict[str, bytes]) -> None:
        self._files = files
        self._data = data

    def stream(self, blob: Descriptor) -> Iterator[bytes]:
        """The blob's bytes."""
        if blob.digest in self._data:
            yield self._data[blob.digest]
            return
        with open(self._files[blob.digest], "rb") as file:
            while True:
                chunk = file.read(1 << 20)
                if not chunk:
                    return
                yield chunk


def make(spec: Bootstrap, name: str, folder: str) -> tuple[Manifest, FileSource]:
    """Bootstrap into `folder` (empty, removed by the caller); the network is used here.

    Raises:
        HostctlError: `bootstrap-failed` with the program's last lines, or `program-missing`.
    """
    program = tool()
    if not program:
        raise HostctlError(
            f"cannot bootstrap {name}: this host has neither mmdebstrap nor debootstrap",
            hint="apt-get install mmdebstrap",
            ref="program-missing",
        )
    tar = os.path.join(folder, "layer.tar")
    if program == "mmdebstrap":
        _run(_JAIL + _mmdebstrap(spec, tar), folder, name)
    else:
        tree = os.path.join(folder, "tree")
        _run(_JAIL + _debootstrap(spec, tree), folder, name)
        _strip(tree)
        _run(_pack(tree, tar), folder, name)
        remove_tree(tree)
    return _image(spec, name, tar)


def _mmdebstrap(spec: Bootstrap, tar: str) -> list[str]:
    return [
        "mmdebstrap",
        "--mode=root",
        "--format=tar",
        f"--variant={spec.variant}",
        f"--components={','.join(spec.components)}",
        *([f"--include={','.join(spec.packages)}"] if spec.packages else []),
        "--aptopt=Acquire::Retries 3",
        "--",
        spec.suite,
        tar,
        *([spec.mirror] if spec.mirror else []),
    ]


def _debootstrap(spec: Bootstrap, tree: str) -> list[str]:
    return [
        "debootstrap",
        f"--variant={spec.variant}",
        f"--components={','.join(spec.components)}",
        *([f"--include={','.join(spec.packages)}"] if spec.packages else []),
        spec.suite,
        tree,
        *([spec.mirror] if spec.mirror else []),
    ]


def _pack(tree: str, tar: str) -> list[str]:
    return [
        *("tar", "--create", f"--file={tar}", f"--directory={tree}", "--sort=name"),
        *(f"--mtime=@{EPOCH}", "--clamp-mtime", "--numeric-owner", "--format=pax"),
        *("--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime", "--xattrs"),
        *("--exclude=./dev/*", "."),
    ]


def _strip(tree: str) -> None:
    """What mmdebstrap leaves out by itself: caches, logs, the machine's identity."""
    for folder in ("var/cache/apt", "var/lib/apt/lists", "var/log", "var/cache/ldconfig"):
        for parent, _, files in os.walk(os.path.join(tree, folder)):
            for file in files:
                os.unlink(os.path.join(parent, file))
    for file in (
        "etc/resolv.conf",
        "etc/hostname",
        "var/lib/dpkg/lock",
        "var/lib/dpkg/lock-frontend",
    ):
        path = os.path.join(tree, file)
        if os.path.lexists(path):
            os.unlink(path)
    machine_id = os.path.join(tree, "etc/machine-id")
    if os.path.lexists(machine_id):
        os.unlink(machine_id)
        with open(machine_id, "xb"):
            pass


def _run(argv: list[str], folder: str, name: str) -> None:
    from ..agent.run import run

    env = {"SOURCE_DATE_EPOCH": str(EPOCH), "TMPDIR": folder, "DEBIAN_FRONTEND": "noninteractive"}
    done = run(argv, env=env, timeout=_DEADLINE)
    if done.code != 0:
        lines = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith(("E:", "W:"))] or lines
        raise HostctlError(
            f"cannot bootstrap {name}: {' / '.join(errors[-4:]) or f'exit code {done.code}'}",
            hint="check suite, packages and mirror, and that the host reaches the mirror",
            ref="bootstrap-failed",
        )


def _image(spec: Bootstrap, name: str, tar: str) -> tuple[Manifest, FileSource]:
    total = hashlib.sha256()
    with open(tar, "rb") as file:
        while True:
            chunk = file.read(1 << 20)
            if not chunk:
                break
            total.update(chunk)
    layer = "sha256:" + total.hexdigest()
    config = json.dumps(_config(spec, layer), sort_keys=True).encode()
    config_digest = "sha256:" + digest(config)
    raw = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": {"mediaType": OCI_CONFIG, "digest": config_digest, "size": len(config)},
            "layers": [{"mediaType": OCI_LAYER, "digest": layer, "size": os.path.getsize(tar)}],
        },
        sort_keys=True,
    ).encode()
    manifest = parse_manifest(raw, "sha256:" + digest(raw), OCI_MANIFEST, name)
    return manifest, FileSource({layer: tar}, {config_digest: config})


def _config(spec: Bootstrap, layer: str) -> dict[str, Any]:
    system, architecture, variant = parse_platform("")
    environment = {**dict([_PATH.split("=", 1)]), **spec.environment}
    command = spec.command or (() if spec.entrypoint else ("/bin/bash",))
    settings: dict[str, Any] = {
        "Env": [f"{key}={value}" for key, value in environment.items()],
        "Cmd": list(command) or None,
        "Entrypoint": list(spec.entrypoint) or None,
        "User": spec.user,
        "WorkingDir": spec.working_dir,
        "StopSignal": spec.stop_signal,
        "Labels": {LABEL: identity(spec).partition(":")[2]},
    }
    return {
        "created": _CREATED,
        "os": system,
        "architecture": architecture,
        **({"variant": variant} if variant else {}),
        "config": {key: value for key, value in settings.items() if value},
        "rootfs": {"type": "layers", "diff_ids": [layer]},
        "history": [{"created": _CREATED, "created_by": f"hostctl bootstrap {spec.suite}"}],
    }
