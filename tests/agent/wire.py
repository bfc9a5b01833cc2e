"""Runs on this machine, in tests: an agent as a child process, spoken to in frames like a controller does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable

from hostctl_host.contract import frames
from hostctl_host.contract.document import digest
from hostctl_host.contract.report import HostReport, report_from_json

MODULES = Path(__file__).parents[2] / "modules"
START = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); "
    "from hostctl_host.agent.main import main; sys.exit(main(sys.argv[1:]))"
)


class World:
    """A host's two folders, and an agent with kinds of its own."""

    def __init__(self, folder: Path, python: str = sys.executable) -> None:
        self.folder = folder
        self.python = python
        self.data = folder / "data"
        self.run = folder / "run"
        self.agent = folder / "agent"
        package = self.agent / "hostctl_host"
        package.mkdir(parents=True)
        for item in MODULES.iterdir():
            if item.name != "__pycache__":
                (package / item.name).symlink_to(item)

    def kind(self, name: str, source: str) -> None:
        (self.agent / "hostctl_host" / f"{name}.py").write_text(source)

    def start(self, mode: str, *options: str, env: dict[str, str] | None = None) -> Agent:
        argv = [self.python, "-I", "-S", "-c", START, str(self.agent), mode]
        argv += ["--data-dir", str(self.data), "--run-dir", str(self.run), *options]
        return Agent(argv, env or {})

    def execute(
        self, mode: str, document: dict[str, Any], blobs: tuple[bytes, ...] = (), **extra: Any
    ) -> HostReport:
        with self.start(mode) as agent:
            return agent.run(document, blobs, **extra)

    def apply(self, *resources: dict[str, Any], **fields: Any) -> HostReport:
        return self.execute("apply", document(*resources, **fields))

    def plan(self, *resources: dict[str, Any], **fields: Any) -> HostReport:
        return self.execute("plan", document(*resources, **fields))

    def destroy(self, project: str = "shop", mode: str = "apply", **args: Any) -> HostReport:
        with self.start(mode) as agent:
            agent.send({"type": "call", "verb": "destroy", "args": {"project": project, **args}})
            return agent.report()


def document(*resources: dict[str, Any], project: str = "shop", **fields: Any) -> dict[str, Any]:
    return {
        "project": project,
        "source": f"me@desk:/{project}.yml",
        "version": 1,
        "resources": list(resources),
        **fields,
    }


class Agent:
    """One running agent. Every frame that came is in `seen`."""

    def __init__(self, argv: list[str], env: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **env},
        )
        self.seen: list[dict[str, Any]] = []
        self.on_frame: Callable[[dict[str, Any]], None] = lambda frame: None
        self.blobs: dict[str, bytes] = {}
        self.verdicts: dict[str, dict[str, Any]] = {}
        self.tasks: list[dict[str, Any]] = []

    def __enter__(self) -> Agent:
        return self

    def __exit__(self, *_: object) -> None:
        for stream in (self.process.stdin, self.process.stdout):
            stream.close()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        finally:
            self.errors = self.process.stderr.read().decode()
            self.process.stderr.close()

    def send(self, header: dict[str, Any], body: bytes = b"") -> None:
        self.process.stdin.write(frames.pack(header, body))
        self.process.stdin.flush()

    def read(self) -> tuple[dict[str, Any], bytes] | None:
        frame = frames.read(self.process.stdout.read)
        if frame is not None:
            self.seen.append(frame[0])
            self.on_frame(frame[0])
        return frame

    def read_until(self, kind: str) -> dict[str, Any]:
        while True:
            frame = self.read()
            assert frame is not None, f"the agent ended: {self.process.stderr.read().decode()}"
            if frame[0]["type"] == kind:
                return frame[0]

    def run(
        self, document: dict[str, Any], blobs: tuple[bytes, ...] = (), **extra: Any
    ) -> HostReport:
        self.blobs.update({digest(data): data for data in blobs})
        self.send({"type": "document", "document": document, **extra})
        return self.report()

    def report(self) -> HostReport:
        while True:
            frame = self.read()
            assert frame is not None, f"the agent ended: {self.process.stderr.read().decode()}"
            header = frame[0]
            if header["type"] == "need":
                for name in header["digests"]:
                    self.send_blob(name)
            elif header["type"] == "result" and header["verdict"]:
                answer = {"changed": True, "failed": False, **self.verdicts[header["id"]]}
                self.send({"type": "verdict", "id": header["id"], **answer})
            elif header["type"] == "batch":
                self.send({"type": "tasks", **self.tasks.pop(0)})
            elif header["type"] == "report":
                return report_from_json(header["report"])
            elif header["type"] == "error":
                raise AssertionError(header)

    def send_blob(self, name: str, chunk: int = 1 << 20) -> None:
        data = self.blobs[name]
        for offset in range(0, max(len(data), 1), chunk):
            piece = data[offset : offset + chunk]
            last = offset + chunk >= len(data)
            self.send({"type": "blob", "digest": name, "offset": offset, "last": last}, piece)

    def frames(self, kind: str) -> list[dict[str, Any]]:
        return [frame for frame in self.seen if frame["type"] == kind]
