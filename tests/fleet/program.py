"""Runs in tests: what the stand-in agent is told, and how a session with it is opened."""

from __future__ import annotations

import os

from hostctl.fleet.session import Session


class Program:
    """A host program whose document tells the stand-in what to do."""

    def __init__(self, behave: str = "", **more: object) -> None:
        self.document = {"type": "document", "behave": behave, **more}
        self.seen: list[object] = []
        self.blobs = {"a" * 64: b"", "b" * 64: os.urandom((3 << 20) + 17)}

    def facts(self, facts):
        self.seen.append(("facts", facts["uid"]))

    def first(self):
        return self.document

    def blob(self, digest):
        return self.blobs[digest]

    def answer(self, frame):
        self.seen.append(("answer", frame["id"]))

    def verdict(self, frame):
        return {"type": "verdict", "id": frame["id"], "changed": True, "message": "as said"}

    def next(self):
        return {"type": "tasks", "resources": [], "more": False}


def opened(target, options, mode="apply"):
    return Session.open(target, mode, options)
