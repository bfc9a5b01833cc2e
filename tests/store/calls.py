"""Runs in tests: verbs of the agent, called without a connection, and archives sent to them as the controller does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hostctl_host.agent.host import Host
from hostctl_host.store import loading, removing, saving, shown, usage

from hostctl.cli.archive_file import Archive, opened

VERBS = {
    "images": shown.images,
    "inspect": shown.inspect,
    "history": shown.history,
    "tag": removing.tag,
    "rm": removing.rm,
    "prune": removing.prune,
    "df": usage.df,
    "save": saving.save,
    "load": loading.load,
    "import": loading.import_,
}


class Wire:
    """A channel whose other end is this test; `archive` answers what `load` wants, `input` what `import` waits for."""

    gone = False

    def __init__(self, archive: Archive | None = None, data: bytes = b"") -> None:
        self.rows: list[dict[str, Any]] = []
        self.data = b""
        self.sent = 0
        self._archive = archive
        self._input = data
        self._handlers: dict[str, Any] = {}

    def on(self, kind: str, handler: Any) -> None:
        self._handlers[kind] = handler

    def on_gone(self, handler: Any) -> None:
        pass

    def stop_if_gone(self) -> None:
        pass

    def send(self, kind: str, body: bytes = b"", **fields: Any) -> None:
        if kind == "data":
            self.data += body
            return
        row = fields["data"]
        if "wanted" in row and self._archive is not None:
            self._feed(list(self._archive.stream(row["wanted"])))
        elif row.get("ready"):
            self._feed([self._input])
        else:
            self.rows.append(row)

    def _feed(self, pieces: list[bytes]) -> None:
        for piece in pieces:
            self.sent += len(piece)
            self._handlers["stdin"]({}, piece)
        self._handlers["eof"]({}, b"")


def call(host: Host, verb: str, **args: Any) -> list[dict[str, Any]]:
    """The rows that a verb answers with."""
    wire = Wire()
    assert VERBS[verb](host, args, wire) == 0  # type: ignore[arg-type]
    return wire.rows


def save(host: Host, path: Path, *names: str) -> Path:
    """`hostctl save -o PATH`."""
    wire = Wire()
    saving.save(host, {"names": list(names)}, wire)  # type: ignore[arg-type]
    path.write_bytes(wire.data)
    return path


def load(host: Host, path: Path) -> tuple[list[dict[str, Any]], int]:
    """`hostctl load -i PATH`: its rows, and the bytes that travelled."""
    with opened(str(path)) as archive:
        wire = Wire(archive)
        args = {"members": archive.members, "links": archive.links, "platform": ""}
        loading.load(host, args, wire)  # type: ignore[arg-type]
    return wire.rows, wire.sent


def import_(host: Host, data: bytes, **args: Any) -> dict[str, Any]:
    """`hostctl import`: its row."""
    wire = Wire(data=data)
    loading.import_(host, args, wire)  # type: ignore[arg-type]
    return wire.rows[-1]
