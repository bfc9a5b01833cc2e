"""Runs under the host's Python 3.9 inside a test namespace: executes lines of Python sent by the test.

Each line of standard input is a JSON string of code; the answer is one JSON line: {"value": ...} with what the
code bound to `out`, or {"error": {"type", "message", ...}}.
"""

import ctypes
import json
import os
import select
import socket
import struct
import subprocess
import sys
import threading
import time
import traceback

from hostctl_host.agent.host import Host, Paths  # noqa: F401
from hostctl_host.net import endpoint  # noqa: F401


def enter(pid, action):
    """What `action()` returns, run in a thread that has entered the network namespace of `pid`."""
    box = []

    def inside():
        fd = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.setns(fd, 0) != 0:
            raise OSError(ctypes.get_errno(), "setns")
        os.close(fd)
        box.append(action())

    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    return box[0]


def tcp_echo(port, text):
    """Answer each TCP connection on the port with a text and the peer's address."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("0.0.0.0", port))
    listener.listen(16)

    def serve():
        while True:
            one, peer = listener.accept()
            with one:
                one.sendall(f"{text} {peer[0]}".encode())

    threading.Thread(target=serve, daemon=True).start()


def udp_echo(port, text):
    """Answer each datagram on the port with a text."""
    one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    one.bind(("0.0.0.0", port))

    def serve():
        while True:
            data, peer = one.recvfrom(2048)
            one.sendto(text.encode() + b" " + data, peer)

    threading.Thread(target=serve, daemon=True).start()


def udp_record(address, port):
    """A list that receives every datagram sent to the port."""
    one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    one.bind((address, port))
    seen = []

    def serve():
        while True:
            seen.append(one.recv(2048).decode())

    threading.Thread(target=serve, daemon=True).start()
    return seen


def give_loopback_away(gateway, source):
    """Let this namespace send packets for 127.0.0.1 to its neighbour, as an attacker would."""
    for mine in ("127.0.0.0/8", "127.0.0.1"):
        subprocess.run(
            ["ip", "route", "del", "local", mine, "dev", "lo", "table", "local"], check=True
        )
    subprocess.run(["ip", "route", "add", "127.0.0.1", "via", gateway, "src", source], check=True)


def tcp_ask(address, port, timeout=1.0):
    """What a TCP server says, or "refused", "timeout", "unreachable"."""
    try:
        with socket.create_connection((address, port), timeout) as one:
            return one.recv(1000).decode()
    except socket.timeout:
        return "timeout"
    except ConnectionRefusedError:
        return "refused"
    except OSError:
        return "unreachable"


def udp_ask(address, port, timeout=1.0, source_port=0):
    """What a UDP server answers to "ping", or "timeout"."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.settimeout(timeout)
        one.bind(("", source_port))
        one.sendto(b"ping", (address, port))
        try:
            return one.recv(2048).decode()
        except (socket.timeout, ConnectionRefusedError):
            return "timeout"


def packet(name, kind=1, edns=False):
    """A DNS query for a name."""
    labels = b"".join(bytes([len(p)]) + p.encode() for p in name.split("."))
    extra = b"\0" + struct.pack(">HHIH", 41, 4096, 0, 0) if edns else b""
    head = struct.pack(">HHHHHH", 0x1234, 0x0100, 1, 0, 0, 1 if edns else 0)
    return head + labels + b"\0" + struct.pack(">HH", kind, 1) + extra


def answers(data):
    """[code, truncated, [A addresses or raw hex]] of a DNS response to a query made by `packet`."""
    _, flags, _, count, _, _ = struct.unpack_from(">HHHHHH", data)
    offset = 12
    while data[offset]:
        offset += data[offset] + 1
    offset += 5
    found = []
    for _ in range(count):
        kind, _, _, size = struct.unpack_from(">HHIH", data, offset + 2)
        body = data[offset + 12 : offset + 12 + size]
        found.append(socket.inet_ntoa(body) if kind == 1 else body.decode("latin-1"))
        offset += 12 + size
    return [flags & 0xF, bool(flags & 0x200), sorted(found)]


def dns_ask(name, kind=1, tcp=False, edns=False, timeout=5.0, server="127.0.0.11"):
    """`answers` of the resolver for a name, or "timeout"."""
    data = packet(name, kind, edns)
    try:
        if tcp:
            with socket.create_connection((server, 53), timeout) as one:
                one.sendall(struct.pack(">H", len(data)) + data)
                size = struct.unpack(">H", one.recv(2, socket.MSG_WAITALL))[0]
                return answers(one.recv(size, socket.MSG_WAITALL))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
            one.settimeout(timeout)
            one.sendto(data, (server, 53))
            return answers(one.recv(65536))
    except socket.timeout:
        return "timeout"


def dns_upstream(address="127.0.0.1"):
    """A resolver on this host, UDP and TCP: any name is 192.0.2.7; `big.example` is cut over UDP."""

    def respond(data, tcp):
        kind = struct.unpack_from(">H", data, data.index(b"\0", 12) + 1)[0]
        question = data[12 : data.index(b"\0", 12) + 5]
        big = b"big" in question
        count = 0 if kind != 1 else (100 if big and tcp else 0 if big else 1)
        flags = 0x8180 | (0x200 if big and not tcp else 0)
        record = b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 60, 4) + socket.inet_aton("192.0.2.7")
        return data[:2] + struct.pack(">HHHHH", flags, 1, count, 0, 0) + question + record * count

    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    datagrams.bind((address, 53))
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((address, 53))
    listener.listen(8)

    def udp():
        while True:
            data, peer = datagrams.recvfrom(4096)
            datagrams.sendto(respond(data, False), peer)

    def tcp():
        while True:
            one, _ = listener.accept()
            with one:
                size = struct.unpack(">H", one.recv(2, socket.MSG_WAITALL))[0]
                found = respond(one.recv(size, socket.MSG_WAITALL), True)
                one.sendall(struct.pack(">H", len(found)) + found)

    for serve in (udp, tcp):
        threading.Thread(target=serve, daemon=True).start()


def dns_flood(name, seconds):
    """Ask for a name again and again, one query at a time: [asked, answered, longest wait in seconds]."""
    asked = answered = 0
    longest = 0.0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        began = time.monotonic()
        asked += 1
        reply = dns_ask(name, timeout=3.0)
        answered += reply != "timeout" and reply[0] == 0 and len(reply[2]) > 0
        longest = max(longest, time.monotonic() - began)
    return [asked, answered, longest]


def keep_dns(hands, ended):
    """What a monitor does besides: watch its connection and bring the DNS process back."""

    def watch(hand):
        while not ended.is_set():
            poll = select.poll()
            poll.register(hand.fileno(), select.POLLIN)
            if poll.poll(100) and not ended.is_set():
                hand.restore()

    for hand in list(hands.values()):
        threading.Thread(target=watch, args=(hand,), daemon=True).start()


def dns_processes(run_dir):
    """Pids of the DNS processes of a run folder."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as stream:
                words = stream.read().split(b"\0")
        except OSError:
            continue
        if any(b".net.dns import main" in word for word in words) and run_dir.encode() in words:
            found.append(int(pid))
    return found


def describe(error):
    """An exception for the test."""
    return {
        "type": type(error).__name__,
        "message": str(error),
        "ref": getattr(error, "ref", ""),
        "hint": getattr(error, "hint", ""),
        "trace": traceback.format_exc(),
    }


def main():
    names = globals()
    for line in sys.stdin:
        names["out"] = None
        try:
            exec(json.loads(line), names)
            reply = {"value": names["out"]}
        except Exception as error:
            reply = {"error": describe(error)}
        print(json.dumps(reply), flush=True)


if __name__ == "__main__":
    main()
