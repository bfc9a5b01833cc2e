"""Runs on the controller: the group `hostctl system`: what hostctl takes on the hosts."""

from __future__ import annotations

from .group import lazy_group

command = lazy_group(
    "system", "What hostctl takes on the hosts.", {"df": "system_df", "prune": "system_prune"}
)
