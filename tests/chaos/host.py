"""Runs on the test machine: a lab host that is driven as `apply` drives it, in frames, and looked at from outside."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import tarfile
import tempfile
import zlib
from pathlib import Path
from typing import Any

from hostctl_host.contract.report import HostReport

from hostctl.fleet import bundle
from tests.agent.wire import Agent, document
from tests.lab import Lab, LabHost, cgroups, oci

BUSYBOX = "/usr/bin/busybox"
APPLETS = ("sh", "sleep", "echo", "true", "cat")
IMAGE = "box"
DATA, RUN = "/var/lib/hostctl", "/run/hostctl"


def busybox_layer() -> oci.Layer:
    """A root of one static program, which starts faster than anything that has libraries to load."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for name in ("bin", "etc", "tmp", "proc", "sys", "dev", "run", "root"):
            (root / name).mkdir()
        shutil.copy(BUSYBOX, root / "bin" / "busybox")
        for name in APPLETS:
            (root / "bin" / name).symlink_to("busybox")
        (root / "etc" / "passwd").write_text("root:x:0:0::/:/bin/sh\napp:x:1000:1000::/:/bin/sh\n")
        (root / "etc" / "group").write_text("root:x:0:\napp:x:1000:\n")
        return oci.folder_layer(root)


def push_busybox(registry: str) -> str:
    """The reference of an image that the registry has now."""
    oci.push(registry, IMAGE, "1", [busybox_layer()], {"Cmd": ["sleep", "100000"]})
    return f"{registry}/{IMAGE}:1"


class Driven:
    """A lab host with this checkout's agent in its place, and a project with images on it.

    Args:
        images: name -> reference in the lab's registry.
    """

    def __init__(self, lab: Lab, name: str, project: str, images: dict[str, str]) -> None:
        self.host: LabHost = lab[name]
        self.project = project
        self.images = [
            {
                "id": f"image.{image}",
                "kind": "image",
                "spec": {"name": image, "pull": reference, "insecure": True},
            }
            for image, reference in images.items()
        ]
        packed = bundle.build()
        self.agent = self.host.data / "agents" / packed.digest
        with tarfile.open(fileobj=io.BytesIO(zlib.decompress(packed.data))) as archive:
            archive.extractall(self.agent, filter="data")
        self.run_dir = Path(f"/proc/{self.host.pid}/root{RUN}")

    def start(self, mode: str = "apply") -> Agent:
        """An agent, as a session starts it; `agent_pid` finds it."""
        program = f"{DATA}/agents/{self.agent.name}/start.py"
        argv = [*self.host.entering(), "python3", "-I", "-S", program, mode]
        return Agent([*argv, "--data-dir", DATA, "--run-dir", RUN, "--lock-wait", "30"], {})

    def document(self, *resources: dict[str, Any], **fields: Any) -> dict[str, Any]:
        return document(*self.images, *resources, project=self.project, **fields)

    def apply(self, *resources: dict[str, Any], **fields: Any) -> HostReport:
        """A run; what it reports."""
        with self.start() as agent:
            return agent.run(self.document(*resources, **fields))

    def execute(self, name: str, *argv: str, **args: Any) -> tuple[int, str]:
        """A program in a running container: its exit code, and what it printed."""
        with self.start("serve") as agent:
            args = {"name": name, "command": list(argv), **args}
            agent.send({"type": "call", "verb": "exec", "args": args})
            said = b""
            while (frame := agent.read()) is not None:
                if frame[0]["type"] == "data":
                    said += frame[1]
                elif frame[0]["type"] in ("done", "error"):
                    break
        assert frame is not None
        return int(frame[0].get("code", -1)), said.decode() + str(frame[0].get("message", ""))

    def log(self, name: str) -> str:
        """What the container has printed."""
        path = self.host.data / "containers" / name / "log" / "container.log"
        lines = path.read_text().splitlines() if path.exists() else []
        return "".join(json.loads(line)["log"] for line in lines)

    def destroy(self) -> HostReport:
        with self.start() as agent:
            args = {"project": self.project, "volumes": True}
            agent.send({"type": "call", "verb": "destroy", "args": args})
            return agent.report()

    def state(self, name: str) -> dict[str, Any]:
        """What the host has written down about a container; empty where there is nothing."""
        try:
            found = json.loads((self.run_dir / "containers" / name / "state.json").read_text())
        except FileNotFoundError:
            return {}
        return dict(found)

    def caretakers(self) -> dict[int, str]:
        """Zygote, monitors, their children and the resolver: pid (as this machine sees it) -> name."""
        found: dict[int, str] = {}
        for hierarchy in cgroups.hierarchies():
            group = hierarchy.target / "hostctl-lab" / self.host.cgroup / "hostctl" / "monitors"
            with contextlib.suppress(OSError):
                for pid in (group / "cgroup.procs").read_text().split():
                    with contextlib.suppress(OSError):
                        found[int(pid)] = Path(f"/proc/{pid}/comm").read_text().strip()
        return found

    def machine_pid(self, pid: int) -> int:
        """A pid of the host as this machine sees it; 0 where it is gone."""
        return self.processes().get(pid, 0)

    def processes(self) -> dict[int, int]:
        """All processes of the host: pid there -> pid here."""
        found = {}
        for pid in cgroups.processes(self.host.cgroup):
            with contextlib.suppress(OSError):
                found[inside(pid)] = pid
        return found

    def zombies(self) -> list[str]:
        """What has ended on the host and was not waited for."""
        lines = self.host.sh("ps -e -o pid=,stat=,comm=").splitlines()
        return [line for line in lines if line.split()[1].startswith("Z")]


def agent_pid(agent: Agent) -> int:
    """The agent, which `nsenter` has forked in the host's pid namespace; 0 where it is not there (yet)."""
    pid = agent.process.pid
    try:
        words = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return 0
    return int(words[0]) if words else 0


def inside(pid: int) -> int:
    """The pid in the lab host's namespace, one below this machine's own; raises OSError for what is outside."""
    depth = len(_numbers("self"))
    numbers = _numbers(str(pid))
    if len(numbers) <= depth:
        raise ProcessLookupError(f"{pid} is no process of the host")
    return int(numbers[depth])


def _numbers(pid: str) -> list[str]:
    """Its pids in all nested pid namespaces, from the one that /proc is of inwards."""
    text = Path(f"/proc/{pid}/status").read_text()
    return text.partition("NSpid:")[2].partition("\n")[0].split()


def born(pid: int) -> int:
    """Field 22 of /proc/PID/stat: with the pid it names one life."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
