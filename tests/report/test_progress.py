"""Progress: live lines on a terminal, narration elsewhere."""

from __future__ import annotations

import io

from hostctl.report.progress import Progress, holder_text
from hostctl.report.style import Style

WAITING = {
    "type": "waiting",
    "holder": {"who": "ada@laptop", "host": "web1", "pid": 7, "action": "apply"},
}


def changed(resource: str, message: str = "") -> dict:
    return {"type": "progress", "id": resource, "state": "changed", "message": message}


def test_without_a_terminal_only_waiting_is_told_and_only_once():
    stream = io.StringIO()
    with Progress(stream, Style(), live=False) as progress:
        progress.start("web1")
        progress.event("web1", changed("file./a"))
        progress.event("web1", WAITING)
        progress.event("web1", WAITING)
        progress.finish("web1")
    assert stream.getvalue() == ("web1: waits for the lock held by ada@laptop (apply, pid 7)\n")


def test_verbose_tells_each_finished_resource():
    stream = io.StringIO()
    with Progress(stream, Style(), live=False, verbose=1) as progress:
        progress.event("web1", {"type": "progress", "id": "file./a", "state": "observe"})
        progress.event("web1", changed("file./a", "written"))
    assert stream.getvalue() == "web1: changed file./a: written\n"


def test_live_lines_are_erased_in_the_end():
    stream = io.StringIO()
    with Progress(stream, Style(), live=True) as progress:
        progress.start("web1")
        progress.tell("a note")
        assert stream.getvalue().endswith("a note\nweb1  connecting\n")
    assert stream.getvalue().endswith("\x1b[1A\r\x1b[J")


def test_live_line_counts_and_shows_the_last_message(monkeypatch):
    monkeypatch.setattr("hostctl.report.progress._INTERVAL", 0)
    stream = io.StringIO()
    progress = Progress(stream, Style(), live=True)
    progress.start("web1")
    progress.event("web1", changed("file./a"))
    progress.event("web1", {"type": "heartbeat"})
    pulling = {"type": "progress", "id": "image.x", "state": "apply", "message": "pulls 3 of 5"}
    progress.event("web1", pulling)
    assert stream.getvalue().endswith("web1    1 done  apply image.x: pulls 3 of 5\n")


def test_a_holder_that_says_nothing_is_still_a_sentence():
    assert holder_text({}) == "the lock held by another hostctl (run)"
