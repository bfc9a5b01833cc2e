"""Runs on the test machine: images of real services, from Debian packages; their layers are made once, then cached."""

from __future__ import annotations

import hashlib
from typing import Any

from tests.lab import oci
from tests.lab.images import BASE, PATH, SETUP
from tests.lab.paths import CACHE
from tests.lab.roots import debian_root
from tests.lab.shell import locked

# The JIT compiler's library would be two thirds of the image.
POSTGRES_SETUP = r"""
rm -rf usr/lib/*/libLLVM* usr/lib/postgresql/15/lib/llvmjit* usr/lib/postgresql/15/lib/bitcode usr/lib/llvm*
echo 'postgres:x:998:998::/data:/bin/sh' >> etc/passwd
echo 'postgres:x:998:' >> etc/group
mkdir -p data
chown 998:998 data
"""
REDIS_SETUP = r"""
echo 'redis:x:999:999::/data:/bin/sh' >> etc/passwd
echo 'redis:x:999:' >> etc/group
mkdir -p data
chown 999:999 data
"""
SYSTEMD_SETUP = r"""
rm -f etc/machine-id
: > etc/machine-id
ln -sf /lib/systemd/system/multi-user.target etc/systemd/system/default.target
mkdir -p etc/systemd/system/multi-user.target.wants
cat > etc/systemd/system/ticker.service <<'END'
[Service]
ExecStart=/bin/sleep infinity
ExecStop=/bin/sh -c 'echo stopped > /state/ticker'
Restart=always
[Install]
WantedBy=multi-user.target
END
ln -s ../ticker.service etc/systemd/system/multi-user.target.wants/ticker.service
mkdir -p state
for unit in systemd-networkd systemd-resolved systemd-timesyncd systemd-udevd getty@tty1 \
    systemd-firstboot systemd-modules-load systemd-sysctl systemd-binfmt systemd-logind; do
    ln -sf /dev/null etc/systemd/system/$unit.service
done
"""

RUN_POSTGRES = """
[ -s /data/PG_VERSION ] || initdb -D /data -A trust -E UTF8 --locale=C > /dev/null
exec postgres -D /data -k /tmp -c listen_addresses= -c shared_buffers=32MB -c max_connections=20
"""
POSTGRES: dict[str, Any] = {
    "Env": [PATH + ":/usr/lib/postgresql/15/bin", "PGHOST=/tmp"],
    "User": "postgres",
    "Cmd": ["sh", "-ec", RUN_POSTGRES],
    "Volumes": {"/data": {}},
}
REDIS: dict[str, Any] = {
    "Env": [PATH],
    "User": "redis",
    "WorkingDir": "/data",
    "Volumes": {"/data": {}},
    "Cmd": ["redis-server", "--appendonly", "yes", "--appendfsync", "always", "--save", ""],
}
SYSTEMD: dict[str, Any] = {
    "Env": [PATH, "container=oci"],
    "Cmd": ["/lib/systemd/systemd"],
    "StopSignal": "SIGRTMIN+3",
}
IMAGES = {
    "postgres": ((*BASE, "postgresql-15", "postgresql-client-15"), POSTGRES_SETUP, POSTGRES),
    "redis": ((*BASE, "redis-server", "redis-tools"), REDIS_SETUP, REDIS),
    "systemd": ((*BASE, "systemd", "dbus", "mount", "procps"), SYSTEMD_SETUP, SYSTEMD),
}


def push(registry: str, name: str) -> str:
    """The reference of an image that the registry has now."""
    packages, setup, config = IMAGES[name]
    oci.push(registry, name, "1", [_layer(packages, SETUP + setup)], config)
    return f"{registry}/{name}:1"


def _layer(packages: tuple[str, ...], setup: str) -> oci.Layer:
    key = hashlib.sha256(repr((packages, setup)).encode()).hexdigest()[:12]
    kept = CACHE / "layers" / key
    with locked(kept.with_suffix(".lock")):
        if not kept.is_dir():
            made = oci.folder_layer(debian_root("bookworm", packages, setup, variant="extract"))
            new = kept.with_suffix(".new")
            new.mkdir(parents=True, exist_ok=True)
            (new / "blob").write_bytes(made.blob)
            (new / "diff_id").write_text(made.diff_id)
            new.rename(kept)
    return oci.Layer((kept / "blob").read_bytes(), (kept / "diff_id").read_text())
