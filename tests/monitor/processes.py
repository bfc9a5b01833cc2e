"""Runs in tests: processes of hostctl that belong to a workshop."""

from __future__ import annotations

from pathlib import Path

from hostctl_host.runtime import cgroup

from tests.runtime.workshop import Workshop


def monitors(workshop: Workshop) -> set[int]:
    return processes(workshop, "hostctl-monitor")


def processes(workshop: Workshop, name: str) -> set[int]:
    home = cgroup.Cgroup(cgroup.monitors_path(workshop.paths.run), cgroup.detect())
    return {pid for pid in home.processes() if comm(pid) == name}


def comm(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except FileNotFoundError:
        return ""
