"""Network namespaces as hosts and containers, each with a worker that runs code under the host's Python."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
WORKER = Path(__file__).with_name("worker.py")
PYTHON = Path("~/.pyenv/versions/3.9.18/bin/python3").expanduser()


class RemoteError(Exception):
    """What the code in a worker raised."""

    def __init__(self, error: dict[str, str]) -> None:
        super().__init__(f"{error['type']}: {error['message']}\n{error['trace']}")
        self.type, self.message = error["type"], error["message"]
        self.ref, self.hint = error["ref"], error["hint"]


class Worker:
    """A process in a namespace that executes code sent to it."""

    def __init__(self, prefix: list[str]) -> None:
        python = str(PYTHON if PYTHON.exists() else shutil.which("python3"))
        env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT / "build" / "editable")}
        self._process = subprocess.Popen(
            [*prefix, python, str(WORKER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=env,
            text=True,
        )
        self.call("pass")

    @property
    def pid(self) -> int:
        return self._process.pid

    def call(self, code: str) -> Any:
        """Run code; its variable `out` comes back. Raises RemoteError."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(code) + "\n")
        self._process.stdin.flush()
        reply = json.loads(self._process.stdout.readline())
        if "error" in reply:
            raise RemoteError(reply["error"])
        return reply["value"]

    def get(self, expression: str) -> Any:
        """The value of one expression."""
        return self.call(f"out = {expression}")

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


class Machine(Worker):
    """A host: a named network namespace with a worker whose `paths` and `host` are its folders."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder
        self.resolv_conf = Path("/etc/netns") / name / "resolv.conf"
        self.resolv_conf.parent.mkdir(parents=True)
        self.resolv_conf.write_text("nameserver 127.0.0.1\n")
        ip("netns", "add", name)
        self.ip("link", "set", "lo", "up")
        # A network namespace begins with what this machine has, which may forward.
        forward = "echo 0 > /proc/sys/net/ipv4/ip_forward"
        subprocess.run(["ip", "netns", "exec", name, "sh", "-c", forward], check=True)
        super().__init__(["ip", "netns", "exec", name])
        self.call(
            f"paths = Paths({str(folder / 'data')!r}, {str(folder / 'run')!r})\n"
            "host = Host(paths=paths, project='shop')\n"
            "from hostctl_host import network, volume\n"
            "from hostctl_host.net import addresses, dns_client, firewall, links, netlink, ports\n"
            "os.makedirs(paths.run, 0o700)\n"
        )
        self.containers: list[Container] = []

    def ip(self, *arguments: str) -> str:
        """`ip` inside this host."""
        return ip("-n", self.name, *arguments)

    def run(self, *argv: str) -> str:
        """A command inside this host."""
        done = subprocess.run(
            ["ip", "netns", "exec", self.name, *argv], capture_output=True, text=True, check=True
        )
        return done.stdout

    def apply(self, **spec: Any) -> list[dict[str, Any]]:
        """observe, diff, apply, observe, diff of the kind network; the changes. It has to converge."""
        return self.call(
            f"spec = network.Spec(**{spec!r})\n"
            "seen = network.observe(spec, host)\n"
            "changes = network.diff(spec, seen)\n"
            "if changes: network.apply(spec, seen, changes, host)\n"
            "left = network.diff(spec, network.observe(spec, host))\n"
            "assert not left, left\n"
            "out = [[c.action.value, c.field] for c in changes]"
        )

    def plan(self, **spec: Any) -> list[list[str]]:
        """The changes as [action, field] that the kind network would make."""
        return self.call(
            f"spec = network.Spec(**{spec!r})\n"
            "changes = network.diff(spec, network.observe(spec, host))\n"
            "out = [[c.action.value, c.field] for c in changes]"
        )

    def publish(self, container: str, **port: Any) -> None:
        """Add a published port to a container's record, without loading the firewall."""
        path = self.folder / "data" / "containers" / container / "network.json"
        record = json.loads(path.read_text())
        address = record["endpoints"][0]["address"].partition("/")[0]
        record["ports"].append({"host_ip": "", "protocol": "tcp", "address": address, **port})
        path.write_text(json.dumps(record))

    def container(
        self, name: str, *networks: str, names: tuple[str, ...] = (), dns: bool = False
    ) -> Container:
        """A running container in the networks, with its record on disk."""
        one = Container(self, name, networks, names)
        self.containers.append(one)
        if dns:
            one.start_dns()
        return one

    def close(self) -> None:
        for one in self.containers:
            one.close()
        pids = self.get("dns_processes(paths.run)")
        super().close()
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        ip("netns", "del", self.name)
        shutil.rmtree(self.resolv_conf.parent)
        with contextlib.suppress(OSError):
            self.resolv_conf.parent.parent.rmdir()


class Container(Worker):
    """A namespace attached as the runtime attaches a container."""

    def __init__(
        self, machine: Machine, name: str, networks: tuple[str, ...], names: tuple[str, ...]
    ) -> None:
        self.name, self._machine = name, machine
        super().__init__(["ip", "netns", "exec", machine.name, "unshare", "-n"])
        self.network = machine.call(
            "endpoints = []\n"
            f"for number, net in enumerate({networks!r}):\n"
            "    record = addresses.load(paths, net)\n"
            f"    address = addresses.allocate(paths, net, {name!r})\n"
            "    endpoints.append({'network': net, 'bridge': record['bridge'], 'interface': f'eth{number}',\n"
            f"        'veth': addresses.veth_name(paths, {name!r}, number), 'address': address + '/24',\n"
            "        'gateway': '' if record['internal'] else record['gateway'],\n"
            f"        'mac': addresses.mac_of(address), 'names': {list(names)!r}}})\n"
            "out = {'mode': 'bridge', 'endpoints': endpoints, 'ports': [], 'dns': True}\n"
            "import json, os\n"
            f"os.makedirs(paths.container({name!r}), exist_ok=True)\n"
            f"json.dump(out, open(paths.container({name!r}) + '/network.json', 'w'))\n"
        )
        machine.call(f"endpoint.attach({self.network!r}, {self.pid})")
        self.call(f"endpoint.configure({self.network!r})")

    @property
    def address(self) -> str:
        return str(self.network["endpoints"][0]["address"].partition("/")[0])

    def start_dns(self) -> None:
        """What its monitor does: sockets from inside, names, and the hand-over."""
        nets = [e["network"] for e in self.network["endpoints"]]
        self._machine.call(
            f"endpoint.publish_names(paths, {self.network!r}, {self.name!r})\n"
            "hands = globals().setdefault('hands', {})\n"
            f"hands[{self.name!r}] = dns_client.Hand(paths)\n"
            f"sockets = enter({self.pid}, endpoint.dns_sockets)\n"
            f"hands[{self.name!r}].register({self.name!r}, {nets!r}, sockets)\n"
        )

    def end(self) -> None:
        """It ends: the kernel takes its links, the records go."""
        self._machine.call(
            f"endpoint.withdraw_names(paths, {self.network!r}, {self.name!r})\n"
            f"hand = globals().get('hands', {{}}).pop({self.name!r}, None)\n"
            "if hand is not None: hand.close()\n"
        )
        self._machine.containers.remove(self)
        self.close()
        shutil.rmtree(self._machine.folder / "data" / "containers" / self.name)
        for one in self.network["endpoints"]:
            self._machine.call(f"addresses.release(paths, {one['network']!r}, {self.name!r})")


def ip(*arguments: str) -> str:
    """`ip` with its output; raises on failure."""
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
