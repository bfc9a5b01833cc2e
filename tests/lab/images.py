"""Runs on the test machine: the images that tests use, from Debian packages, made once and kept as
the content of a registry.

| image | what it is |
|---|---|
| `base:1` | one layer: dash, coreutils |
| `shell:1` | base; curl, nc, ip, ps, mount, python3-minimal; whiteouts in `/etc/lab` |
| `shell:multi` | an index: amd64 is `shell:1`, arm64 is nothing that could run |
| `nginx:1`, `nginx:2` | base, nginx-light; logs to stdout and stderr, sites from `/etc/nginx/conf.d` |
| `redis:1`, `redis:2` | base, redis; runs as `redis` in the volume `/data`; `/etc/lab/version` differs |
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from . import oci
from .paths import CACHE
from .roots import debian_root, remove_tree
from .services import serving
from .shell import locked

BASE = ("base-files", "base-passwd", "coreutils", "dash", "grep", "libc-bin", "sed")
SHELL = (
    *BASE,
    "curl",
    "findutils",
    "hostname",
    "iproute2",
    "mawk",
    "mount",
    "netcat-openbsd",
    "procps",
    "python3-minimal",
    "tar",
    "util-linux",
)
NGINX = (*BASE, "nginx-light")
REDIS = (*BASE, "redis-server")

PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

SETUP = r"""set -eu
cd "$1"
cp usr/share/base-passwd/passwd.master etc/passwd
cp usr/share/base-passwd/group.master etc/group
rm -rf dev/* var/lib/apt var/cache/apt var/log/* etc/resolv.conf etc/hostname etc/fstab tmp/*
"""

SHELL_SETUP = r"""
ln -sf nc.openbsd usr/bin/nc
ln -sf mawk usr/bin/awk
mkdir -p etc/lab/opaque
echo below > etc/lab/gone
echo below > etc/lab/opaque/below
"""

NGINX_SETUP = r"""
rm -rf etc/nginx/sites-* var/lib/nginx
mkdir -p var/lib/nginx var/log/nginx
echo '<!doctype html><title>nginx</title><p>Welcome to nginx in the lab.' > usr/share/nginx/html/index.html
cat > etc/nginx/nginx.conf <<'END'
user www-data;
worker_processes 1;
pid /run/nginx.pid;
error_log /dev/stderr notice;
events { worker_connections 256; }
http {
    include mime.types;
    access_log /dev/stdout;
    include conf.d/*.conf;
}
END
cat > etc/nginx/conf.d/default.conf <<'END'
server {
    listen 80 default_server;
    root /usr/share/nginx/html;
}
END
"""

REDIS_SETUP = r"""
echo 'redis:x:999:999::/var/lib/redis:/usr/sbin/nologin' >> etc/passwd
echo 'redis:x:999:' >> etc/group
mkdir -p data
chown 999:999 data
"""

NGINX_CONFIG = {
    "Env": [PATH, "NGINX_VERSION=1.22.1"],
    "Cmd": ["nginx", "-g", "daemon off;"],
    "ExposedPorts": {"80/tcp": {}},
    "StopSignal": "SIGQUIT",
}
REDIS_CONFIG = {
    "Env": [PATH],
    "User": "redis",
    "WorkingDir": "/data",
    "Volumes": {"/data": {}},
    "Cmd": ["redis-server", "--protected-mode", "no", "--dir", "/data"],
    "ExposedPorts": {"6379/tcp": {}},
}
SHELL_CONFIG = {"Env": [PATH], "Cmd": ["sh"]}


def registry_content() -> Path:
    """The storage of a registry that has all images."""
    sources = b"".join(Path(__file__).with_name(f).read_bytes() for f in ("images.py", "oci.py"))
    content = CACHE / "registry" / hashlib.sha256(sources).hexdigest()[:12]
    with locked(content.with_suffix(".lock")):
        if not content.exists():
            new = content.with_suffix(".new")
            remove_tree(new)
            new.mkdir(parents=True)
            _fill(new)
            new.rename(content)
    return content


def _fill(storage: Path) -> None:
    with serving(storage, storage.with_suffix(".yml")) as address:
        _push_all(address)


def _push_all(registry: str) -> None:
    base_root = _root(BASE, "")
    base = oci.folder_layer(base_root)
    oci.push(registry, "base", "1", [base], SHELL_CONFIG)

    tools = oci.folder_layer(_root(SHELL, SHELL_SETUP), base_root)
    holes = oci.files_layer(
        {
            "etc/lab/.wh.gone": "",
            "etc/lab/opaque/.wh..wh..opq": "",
            "etc/lab/opaque/above": "above\n",
        }
    )
    shell = [base, tools, holes]
    oci.push(registry, "shell", "1", shell, SHELL_CONFIG)
    _push_index(registry, shell)

    nginx = oci.folder_layer(_root(NGINX, NGINX_SETUP), base_root)
    redis = oci.folder_layer(_root(REDIS, REDIS_SETUP), base_root)
    for version in ("1", "2"):
        last = oci.files_layer({"etc/lab/version": f"{version}\n"})
        labels = {"Labels": {"org.opencontainers.image.version": version}}
        oci.push(registry, "nginx", version, [base, nginx, last], NGINX_CONFIG | labels)
        oci.push(registry, "redis", version, [base, redis, last], REDIS_CONFIG | labels)


def _push_index(registry: str, layers: list[oci.Layer]) -> None:
    _, amd64 = oci.manifest(layers, SHELL_CONFIG)
    empty = oci.files_layer({"etc/lab/version": "arm64\n"})
    config, arm64 = oci.manifest([empty], {"Cmd": ["nothing"]})
    oci.push_blob(registry, "shell", empty.blob)
    oci.push_blob(registry, "shell", config)
    described: list[dict[str, Any]] = []
    for architecture, blob in (("arm64", arm64), ("amd64", amd64)):
        oci.put_manifest(registry, "shell", oci.digest(blob), blob, oci.MANIFEST)
        platform = {"os": "linux", "architecture": architecture}
        described.append({**oci.describe(blob, oci.MANIFEST), "platform": platform})
    index = {"schemaVersion": 2, "mediaType": oci.INDEX, "manifests": described}
    oci.put_manifest(registry, "shell", "multi", json.dumps(index).encode(), oci.INDEX)


def _root(packages: tuple[str, ...], setup: str) -> Path:
    return debian_root("bookworm", packages, SETUP + setup, variant="extract")
