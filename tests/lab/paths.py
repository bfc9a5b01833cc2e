"""Runs on the test machine: where the lab keeps what it caches and what it must clean up."""

from __future__ import annotations

import os
from pathlib import Path

CACHE = Path(os.environ.get("HOSTCTL_LAB_CACHE", "/var/cache/hostctl-lab"))
"""Debian roots, images, the mirror's cache, keys: safe to delete while no lab is up."""

WORK = CACHE / "work"
"""Writable layers and data folders of the labs that are up, on a real file system."""

RUN = Path(os.environ.get("HOSTCTL_LAB_RUN", "/run/hostctl-lab"))
"""One folder per lab that is up (or was, when its owner got killed)."""

NETWORK = "10.213"
PREFIX = "hclab"
CGROUP = "hostctl-lab"
REGISTRY_PORT = 5000
