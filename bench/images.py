"""Runs on the developer's machine: the cases of images: pulls from a real registry on the target's own loopback."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import random
import statistics
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from . import hostctl
from .engines import docker, podman
from .measure import RUNS, Row, run, seconds
from .peers import CACHE, WORK, inside, program, target

LAYERS = 5
LAYER_MB = 50
FILES = 1000
PORT = 5555
NAME = f"127.0.0.1:{PORT}/bench/pull:1"
BASE = f"127.0.0.1:{PORT}/bench/pull:base"
_OCI = "application/vnd.oci.image"


def pull() -> Iterator[Row]:
    """250 MB in 5 layers, cold, and with all but the top layer present."""
    with target() as place, _registry():
        inventory = hostctl.inventory(place)
        ours = [hostctl.COMMAND, "pull", "-q", "-i", str(inventory)]
        engines = (docker(place).command, podman(place).command)
        dockers = [*engines[0], "pull", "-q"]
        theirs = [*engines[1], "pull", "-q", "--tls-verify=false"]
        cold: dict[str, list[float]] = {"ours": [], "docker": [], "podman": []}
        warm: dict[str, list[float]] = {"ours": [], "docker": []}
        for _ in range(RUNS + 1):
            for name, command in (("ours", ours), ("docker", dockers), ("podman", theirs)):
                _forget(engines)
                cold[name].append(seconds(lambda command=command: run([*command, NAME])))  # type: ignore[misc]
                if name in warm:
                    _forget(engines)
                    run([*command, BASE])
                    run(["sync"])
                    warm[name].append(seconds(lambda command=command: run([*command, NAME])))  # type: ignore[misc]
        _forget(engines)
        hostctl.forget()
    middle = {name: statistics.median(times[1:]) for name, times in cold.items()}
    best = min(("docker", "podman"), key=lambda name: middle[name])
    yield Row("pull of 250 MB in 5 layers", f"{best} pull", middle["ours"], middle[best], 0.8)
    yield Row(
        "the same, all but the top layer present",
        "docker pull",
        statistics.median(warm["ours"][1:]),
        statistics.median(warm["docker"][1:]),
        0.5,
    )


def _forget(engines: Sequence[list[str]]) -> None:
    """No engine has the image, nor any layer of it; nothing waits to be written."""
    store = CACHE / "data" / "h1" / "store"
    subprocess.run(["rm", "-rf", str(store)], check=True)
    for command in engines:
        for name in (NAME, BASE):
            subprocess.run([*command, "rmi", "-f", name], capture_output=True, check=False)
    run(["sync"])


@contextlib.contextmanager
def _registry() -> Iterator[None]:
    """A docker-registry in the target's network namespace, with the image in it."""
    if not program("docker-registry"):
        run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", "docker-registry"])
    config = WORK / "registry.yml"
    config.write_text(
        f"version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n"
        f"storage: {{filesystem: {{rootdirectory: {CACHE / 'registry'}}}}}\n"
        f"http: {{addr: '127.0.0.1:{PORT}'}}\n"
    )
    daemon = subprocess.Popen(
        inside(["docker-registry", "serve", str(config)]), stderr=subprocess.DEVNULL
    )
    try:
        _fill()
        yield
    finally:
        daemon.terminate()
        daemon.wait(30)


def _fill() -> None:
    """Push the image with skopeo, unless the registry has it from an earlier run."""
    show = ["skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{NAME}"]
    end = time.monotonic() + 20
    while True:
        done = subprocess.run(inside(show), capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return
        if "refused" not in done.stderr or time.monotonic() > end:
            break
        time.sleep(0.1)
    layout = CACHE / "pull-layout"
    _layout(layout)
    for name, tag in ((BASE, "base"), (NAME, "1")):
        copy = ["skopeo", "copy", "-q", "--dest-tls-verify=false", f"oci:{layout}:{tag}"]
        run(inside([*copy, f"docker://{name}"]))


def _layout(folder: Path) -> None:
    """An OCI layout with two tags: all layers, and all but the top one. About two thirds of it compress."""
    chance = random.Random(1)
    words = [chance.randbytes(6).hex().encode() for _ in range(4000)]
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True, exist_ok=True)

    def put(data: bytes, kind: str) -> dict[str, object]:
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        return {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(data)}

    layers, ids = [], []
    for number in range(LAYERS):
        plain = _layer(number, chance, words)
        ids.append("sha256:" + hashlib.sha256(plain).hexdigest())
        layers.append(put(gzip.compress(plain, 6, mtime=0), f"{_OCI}.layer.v1.tar+gzip"))
    manifests = []
    for tag, count in (("base", LAYERS - 1), ("1", LAYERS)):
        rootfs = {"type": "layers", "diff_ids": ids[:count]}
        image = {"architecture": "amd64", "os": "linux", "config": {}, "rootfs": rootfs}
        config = put(json.dumps(image).encode(), f"{_OCI}.config.v1+json")
        kind = f"{_OCI}.manifest.v1+json"
        content = {
            "schemaVersion": 2,
            "mediaType": kind,
            "config": config,
            "layers": layers[:count],
        }
        named = {"annotations": {"org.opencontainers.image.ref.name": tag}}
        manifests.append({**put(json.dumps(content).encode(), kind), **named})
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": manifests}))


def _layer(number: int, chance: random.Random, words: list[bytes]) -> bytes:
    size = (LAYER_MB << 20) // FILES
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for file in range(FILES):
            random_part = chance.randbytes(size // 3)
            text = b" ".join(chance.choices(words, k=size // 12))
            data = (random_part + text)[:size]
            entry = tarfile.TarInfo(f"layer{number}/{file // 50}/{file}")
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return stream.getvalue()


CASES: dict[str, Callable[[], Iterator[Row]]] = {"pull": pull}
