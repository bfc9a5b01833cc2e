"""Runs on the managed host in tests: an agent that only speaks the protocol; the document says what it does."""

import os
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from hostctl_host.contract import frames

lock = threading.Lock()


def send(header, body=b""):
    with lock:
        os.write(1, frames.pack(header, body))


def exactly(size):
    data = b""
    while len(data) < size:
        piece = os.read(0, size - len(data))
        if not piece:
            break
        data += piece
    return data


def receive():
    frame = frames.read(exactly)
    if frame is None:
        if os.environ.get("HOSTCTL_TEST_EOF"):
            open(os.environ["HOSTCTL_TEST_EOF"], "w").close()
        os._exit(0)
    return frame


def beat():
    while True:
        time.sleep(0.3)
        send({"type": "heartbeat"})


def report(**more):
    return {
        "status": "ok", "generation": 1, "changes": [], "failures": [], "warnings": [], "resources": []
    } | more  # fmt: skip


def main():
    digest = os.path.basename(os.path.dirname(os.path.abspath(__file__)))
    facts = {"argv": sys.argv[1:], "uid": os.geteuid(), "python": list(sys.version_info[:2])}
    facts["home"] = os.environ.get("HOME", "")
    send({"type": "hello", "version": frames.PROTOCOL, "agent": digest, "facts": facts})
    header, _ = receive()
    if header["type"] == "call":
        return call(header)
    behave = header.get("behave", "")
    if behave != "wedge":
        threading.Thread(target=beat, daemon=True).start()
    if behave in ("wedge", "slow"):
        time.sleep(7 if behave == "slow" else 60)
    if behave == "crash":
        sys.stderr.write("Traceback (most recent call last):\n  line\nRuntimeError: boom\n")
        return 7
    if behave == "locked":
        send(
            {
                "type": "locked",
                "holder": {"who": "ann@desk", "action": "apply", "since": 36000},
            }
        )
        return 0
    if behave == "error":
        send({"type": "error", "ref": "x", "message": "cannot do it", "hint": "do that"})
        return 0
    if behave == "noise":
        sys.stderr.write("x" * (12 << 20))
        sys.stderr.flush()
    if behave == "mark":
        with open(header["mark"], "w") as out:
            out.write("started")
        receive()
    if behave == "program":
        return program()
    send({"type": "report", "report": report()})
    return 0


def program():
    import hashlib

    send({"type": "need", "digests": ["a" * 64, "b" * 64]})
    sums = []
    for _ in range(2):
        whole, last = b"", False
        while not last:
            header, body = receive()
            assert header["type"] == "blob" and header["offset"] == len(whole), header
            whole, last = whole + body, header["last"]
        sums.append(f"{len(whole)} {hashlib.sha256(whole).hexdigest()}")
    send({"type": "progress", "id": "command.x", "state": "apply", "message": "running"})
    send(
        {
            "type": "result",
            "id": "command.x",
            "register": "out",
            "result": {"rc": 1},
            "verdict": True,
        }
    )
    verdict, _ = receive()
    send({"type": "batch", "done": 1})
    tasks, _ = receive()
    send({"type": "report", "report": report(warnings=[*sums, verdict["message"], tasks["type"]])})
    return 0


def call(header):
    send({"type": "row", "data": {"verb": header["verb"], **header["args"]}})
    while True:
        frame, body = receive()
        if frame["type"] == "eof":
            send({"type": "done", "code": 3})
            return 0
        send({"type": "data", "stream": "stdout"}, body.upper())


sys.exit(main())
