"""Runs on the test machine: what containers are wished for, what is killed, and how each life must have ended.

A *life* is one first process of a container. Its monitor, being its parent, knows how it ends. Whoever
kills a monitor notes the lives that it watched: their ends are lost, and only theirs may be.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .host import IMAGE, Agent, Driven, agent_pid, born, inside

PROJECT = "chaos"
NETWORKS = ("one", "two")
POLICIES = ("no", "no", "no", "always", "unless-stopped", "on-failure")


@dataclass(frozen=True)
class Nature:
    """A kind of program: how it ends when it is asked to, or hurt.

    Attributes:
        stopped: its exit code after the stop signal.
        hurt: signal -> exit code.
        catches: the signal that it is ready for once it has begun.
    """

    command: tuple[str, ...]
    stopped: int
    hurt: dict[signal.Signals, int]
    catches: signal.Signals | None = None
    init: bool = False


NATURES = {
    "plain": Nature(("sleep", "100000"), 143, {signal.SIGKILL: 137}, init=True),
    "trap": Nature(
        (
            "sh",
            "-c",
            "trap 'exit 7' TERM; trap 'exit 3' USR1; echo up; while :; do sleep 100000 & wait; done",
        ),
        7,
        {signal.SIGKILL: 137, signal.SIGUSR1: 3},
        catches=signal.SIGUSR1,
    ),
    "deaf": Nature(
        ("sh", "-c", "trap '' TERM; trap 'exit 4' USR2; while :; do sleep 100000 & wait; done"),
        137,
        {signal.SIGKILL: 137, signal.SIGUSR2: 4},
        catches=signal.SIGUSR2,
    ),
}


@dataclass
class Wish:
    """One container as it is declared."""

    name: str
    nature: Nature
    policy: str
    networks: tuple[str, ...] = ()
    port: int = 0
    checked: bool = False
    state: str = "started"
    revision: int = 0

    def resource(self) -> dict[str, Any]:
        spec: dict[str, Any] = {
            "name": self.name,
            "image": IMAGE,
            "command": list(self.nature.command),
            "init": self.nature.init,
            "restart": self.policy,
            "environment": {"REVISION": str(self.revision)},
            "stop_grace_period": 0.3 if self.nature.stopped == 137 else 2.0,
            "state": self.state,
        }
        if self.networks:
            spec["networks"] = [{"network": f"{PROJECT}_{name}"} for name in self.networks]
        else:
            spec["network_mode"] = "none"
        if self.port:
            spec["ports"] = [{"target": 80, "published": self.port}]
        if self.checked:
            spec["healthcheck"] = {"test": ["CMD", "true"], "interval": 0.5, "retries": 1000}
        needs = [f"image.{IMAGE}", *(f"network.{PROJECT}_{name}" for name in self.networks)]
        return {
            "id": f"container.{self.name}",
            "kind": "container",
            "needs": needs,
            "spec": spec,
        }


def wishes(rng: random.Random, count: int) -> list[Wish]:
    """So many different containers."""
    made = []
    for number in range(count):
        networks = rng.choice(((), (), ("one",), ("two",), NETWORKS))
        made.append(
            Wish(
                f"{PROJECT}-c{number}-1",
                NATURES[rng.choice(sorted(NATURES))],
                rng.choice(POLICIES),
                networks,
                port=20000 + number if networks and rng.random() < 0.5 else 0,
                checked=rng.random() < 0.3,
            )
        )
    return made


@dataclass
class Storm:
    """Everything that is done to one host, in an order that the seed gives."""

    driven: Driven
    rng: random.Random
    wishes: list[Wish]
    watched_no_more: set[tuple[int, int]] = field(default_factory=set)
    lives: set[tuple[str, int, int]] = field(default_factory=set)
    kills: dict[str, int] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """What is wished for now; what is absent is not declared."""
        networks = [
            {
                "id": f"network.{PROJECT}_{name}",
                "kind": "network",
                "spec": {"name": f"{PROJECT}_{name}", "subnet": subnet},
            }
            for name, subnet in zip(NETWORKS, ("172.29.1.0/24", "172.29.2.0/24"), strict=True)
        ]
        declared = [wish for wish in self.wishes if wish.state != "absent"]
        self.rng.shuffle(declared)
        resources = [*networks, *(wish.resource() for wish in declared)]
        return self.driven.document(*resources, prune=True)

    # what is wished for

    def change_wishes(self) -> None:
        """Some are to be started again, some stopped, some gone."""
        for wish in self.wishes:
            dice = self.rng.random()
            if dice < 0.45:
                wish.state, wish.revision = "started", wish.revision + 1
            elif dice < 0.6:
                wish.state = "stopped"
            elif dice < 0.7:
                wish.state = "absent"
            else:
                wish.state = "started"

    # what is killed

    def disturbed_apply(self) -> None:
        """A run in which something is killed every few hundredths of a second, in the end the agent."""
        agent = self.driven.start()
        over = threading.Event()
        reader = threading.Thread(target=self._read, args=(agent, self.document(), over))
        reader.start()
        ends = time.monotonic() + self.rng.uniform(0.2, 2.5)
        while time.monotonic() < ends and not over.is_set():
            time.sleep(self.rng.uniform(0.005, 0.08))
            self.kill_caretaker()
        if not over.is_set() and (pid := agent_pid(agent)):
            self._count("agent")
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        reader.join(60)
        assert not reader.is_alive(), "the run does not end"
        crashed = [f for f in agent.frames("error") if f["ref"] == "agent-crashed"]
        assert not crashed, crashed

    def _read(self, agent: Agent, document: dict[str, Any], over: threading.Event) -> None:
        """All that the agent says, to its end."""
        try:
            agent.send({"type": "document", "document": document})
            while (frame := agent.read()) is not None and frame[0]["type"] != "report":
                continue
        except Exception as error:  # a frame that was cut off by the kill
            if not isinstance(error, (OSError, ValueError)) and "Frame" not in type(error).__name__:
                raise
        finally:
            over.set()
            with contextlib.suppress(OSError):
                agent.__exit__()

    def kill_caretaker(self) -> None:
        """One of zygote, the one that waits, monitors, their children, the resolver."""
        there = self.driven.caretakers()
        if not there:
            return
        # The few are as likely as the many.
        name = self.rng.choice(sorted(set(there.values())))
        pid = self.rng.choice(sorted(pid for pid, comm in there.items() if comm == name))
        self.end(pid, name)

    def kill_monitor_of(self, wish: Wish) -> None:
        pid = self.driven.machine_pid(self.driven.state(wish.name).get("monitor", 0))
        if pid:
            self.end(pid, "hostctl-monitor")

    def end(self, pid: int, name: str) -> None:
        """SIGKILL a caretaker, and note whose ends nobody will be told."""
        halted: set[int] = set()
        with contextlib.suppress(OSError):
            self._note(pid, halted)
            self._count(name)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        for child in halted:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGCONT)

    def _note(self, pid: int, halted: set[int]) -> None:
        """A monitor's lives are its children; one whose act is killed gives up its container, too.

        Nothing is born between the look and the kill: its acts are halted as well, which may be making one.
        """
        os.kill(pid, signal.SIGSTOP)
        until(lambda: status(pid) in "TtZX", 5)
        for child in set(children(pid)) & self.driven.caretakers().keys():
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGSTOP)
                halted.add(child)
                until(lambda child=child: status(child) in "TtZX", 5)  # type: ignore[misc]
        family = {pid, parent(pid)} - {0, self.driven.host.pid}
        for one in family:
            for child in children(one):
                with contextlib.suppress(OSError):
                    self.watched_no_more.add((inside(child), born(child)))
        monitors = {inside(one) for one in family}
        for wish in self.wishes:
            found = self.driven.state(wish.name)
            if found.get("monitor") in monitors:
                self.watched_no_more.add((found["pid"], found["start_time"]))

    def hurt(self, wish: Wish) -> int:
        """End the container's program from outside; the exit code that it must have."""
        number = self.rng.choice(sorted(wish.nature.hurt))
        pid = self.driven.machine_pid(self.driven.state(wish.name)["pid"])
        self._count(number.name)
        os.kill(pid, number)
        return wish.nature.hurt[number]

    def _count(self, name: str) -> None:
        self.kills[name] = self.kills.get(name, 0) + 1

    # what is so

    def life(self, wish: Wish) -> tuple[int, int]:
        found = self.driven.state(wish.name)
        return found.get("pid", 0), found.get("start_time", 0)

    def take_note(self) -> None:
        """Count the lives that there are."""
        for wish in self.wishes:
            life = self.life(wish)
            if life[0]:
                self.lives.add((wish.name, *life))

    def ready(self, wish: Wish) -> None:
        """Wait until the program is as far as to catch what it catches."""
        if wish.nature.catches is None:
            return
        pid = self.driven.machine_pid(self.driven.state(wish.name)["pid"])
        bit = 1 << (wish.nature.catches - 1)
        until(lambda: int(fields(pid)["SigCgt"], 16) & bit, 20)


def until(condition: Callable[[], object], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.002)


def fields(pid: int) -> dict[str, str]:
    """/proc/PID/status."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def status(pid: int) -> str:
    try:
        return fields(pid)["State"][0]
    except OSError:
        return "X"


def parent(pid: int) -> int:
    return int(fields(pid)["PPid"])


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
