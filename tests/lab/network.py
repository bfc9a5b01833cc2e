"""Runs on the test machine: one bridge per lab, one veth pair per host (iproute2 only).

The machine itself is `10.213.SLOT.1` on the bridge and reaches every host; it forwards nothing.
"""

from __future__ import annotations

from pathlib import Path

from .paths import NETWORK, PREFIX
from .shell import run


def bridge_name(slot: int) -> str:
    """The bridge of a lab."""
    return f"{PREFIX}{slot}"


def address(slot: int, number: int) -> str:
    """The IPv4 address of a host (1 is the machine)."""
    return f"{NETWORK}.{slot}.{number}"


def address6(slot: int, number: int) -> str:
    """The IPv6 address of a host (1 is the machine)."""
    return f"fd00:213:{slot}::{number}"


def make_bridge(slot: int) -> None:
    """The lab's bridge with the machine's addresses."""
    name = bridge_name(slot)
    run(
        ["ip", "-batch", "-"],
        stdin=f"link add {name} type bridge\n"
        f"addr add {address(slot, 1)}/24 dev {name}\n"
        f"addr add {address6(slot, 1)}/64 dev {name} nodad\n"
        f"link set {name} up\n",
    )


def connect(slot: int, number: int, pid: int) -> None:
    """Join the network namespace of a process to the bridge as its eth0."""
    outside = f"{bridge_name(slot)}-{number}"
    mac = f"02:d5:00:00:{slot:02x}:{number:02x}"  # as of a real card: it is the same after a reboot
    run(
        ["ip", "-batch", "-"],
        stdin=f"link add {outside} type veth peer name eth0 address {mac} netns {pid}\n"
        f"link set {outside} master {bridge_name(slot)} up\n",
    )
    run(
        ["nsenter", f"--net=/proc/{pid}/ns/net", "ip", "-batch", "-"],
        stdin="link set lo up\n"
        f"addr add {address(slot, number)}/24 dev eth0\n"
        f"addr add {address6(slot, number)}/64 dev eth0 nodad\n"
        "link set eth0 up\n"
        f"route add default via {address(slot, 1)}\n"
        f"route add default via {address6(slot, 1)}\n",
    )


def remove(slot: int) -> None:
    """Remove the lab's bridge and what is left of its veth pairs."""
    name = bridge_name(slot)
    links = [path.name for path in Path("/sys/class/net").iterdir()]
    for link in [*(link for link in links if link.startswith(f"{name}-")), name]:
        if Path("/sys/class/net", link).exists():
            try:
                run(["ip", "link", "delete", link])
            except Exception:
                if Path("/sys/class/net", link).exists():
                    raise
