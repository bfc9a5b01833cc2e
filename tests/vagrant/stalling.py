"""Runs in tests of virtual machines: a registry that stops in the middle of a large layer until it is told to go on."""

from __future__ import annotations

import threading
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType

LARGE = 1 << 20


class Stalling:
    """A door in front of a real registry, on a port of every address, while it is entered.

    Attributes:
        port: of the door.
        stalled: half of a large layer has been sent, and no more of it will come.
    """

    def __init__(self, registry: str) -> None:
        self.stalled = threading.Event()
        self._open = threading.Event()
        door = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                door._answer(self, registry)

            def do_HEAD(self) -> None:
                door._answer(self, registry)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("0.0.0.0", 0), Handler)
        self._server.daemon_threads = False  # `server_close` waits for them
        self._thread = threading.Thread(target=self._server.serve_forever)
        self.port = int(self._server.server_address[1])

    def __enter__(self) -> Stalling:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.go_on()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def go_on(self) -> None:
        """From now on everything is sent."""
        self._open.set()

    def _answer(self, request: BaseHTTPRequestHandler, registry: str) -> None:
        told = {k: v for k, v in request.headers.items() if k in ("Accept", "Range")}
        asked = urllib.request.Request(
            f"http://{registry}{request.path}", headers=told, method=request.command
        )
        try:
            with urllib.request.urlopen(asked, timeout=60) as answer:
                status, headers, body = answer.status, answer.headers, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                status, headers, body = error.code, error.headers, error.read()
        request.send_response(status)
        for name, value in headers.items():
            if name.lower() not in ("connection", "date", "server", "transfer-encoding"):
                request.send_header(name, value)
        request.end_headers()
        try:
            self._send(request, body)
        except OSError:
            pass  # whoever asked is gone

    def _send(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        half = len(body) // 2
        request.wfile.write(body[:half])
        request.wfile.flush()
        if len(body) > LARGE and not self._open.is_set():
            self.stalled.set()
            self._open.wait()
        request.wfile.write(body[half:])
