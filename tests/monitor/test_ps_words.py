"""Runs on the test machine: how `ps` says what a container does."""

from __future__ import annotations

import pytest
from hostctl_host.monitor import state, verbs

NOW = 1_000_000.0


@pytest.mark.parametrize(
    ("known", "words"),
    [
        ({"status": "exited", "exit_code": 137, "oom": True}, "Exited (137, out of memory)"),
        ({"status": "exited", "exit_code": 137}, "Exited (137)"),
        (
            {"status": "exited", "exit_code": 137, "oom": True, "finished_at": NOW - 180},
            "Exited (137, out of memory) 3 minutes ago",
        ),
        ({"status": "exited", "exit_code": None, "lost": True}, "Exited (?)"),
        (
            {"status": "restarting", "exit_code": 137, "oom": True, "finished_at": NOW - 1},
            "Restarting (137, out of memory) 1 second ago",
        ),
        # What killed the last life says nothing about this one.
        ({"status": "running", "started_at": NOW - 5, "exit_code": 137}, "Up 5 seconds"),
        ({"status": "created"}, "Created"),
    ],
)
def test_words(known: dict[str, object], words: str) -> None:
    assert verbs.words(state.State("a", **known), NOW) == words
