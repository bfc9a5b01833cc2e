"""A real docker-registry on loopback, a way to fill it, and a proxy that breaks things."""

from __future__ import annotations

import http.client
import http.server
import json
import os
import socket
import subprocess
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable

from tests.store.layers import TestImage, sha256


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class RunningRegistry:
    """docker-registry with its data in a temporary folder."""

    host: str
    process: subprocess.Popen[bytes]
    tls: bool = False
    auth: str = ""

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()

    def _call(self, method: str, path: str, body: bytes = b"", kind: str = "") -> tuple[int, Any]:
        import ssl

        context = ssl._create_unverified_context()
        connection = (
            http.client.HTTPSConnection(self.host, context=context)
            if self.tls
            else http.client.HTTPConnection(self.host)
        )
        headers = {"Content-Type": kind or "application/octet-stream"}
        if self.auth:
            headers["Authorization"] = self.auth
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        answer.read()
        connection.close()
        return answer.status, answer.headers

    def push_blob(self, name: str, data: bytes) -> None:
        status, headers = self._call("POST", f"/v2/{name}/blobs/uploads/")
        assert status == 202, status
        place = headers["Location"].split(self.host, 1)[-1]
        mark = "&" if "?" in place else "?"
        status, _ = self._call("PUT", f"{place}{mark}digest={sha256(data)}", data)
        assert status == 201, status

    def push_manifest(self, name: str, target: str, data: bytes, kind: str) -> None:
        status, _ = self._call("PUT", f"/v2/{name}/manifests/{target}", data, kind)
        assert status == 201, status

    def push(self, name: str, tag: str, image: TestImage) -> str:
        """The reference of the pushed image."""
        for data in image.blobs().values():
            self.push_blob(name, data)
        self.push_manifest(name, tag, image.manifest, image.media_type)
        return f"{self.host}/{name}:{tag}"

    def push_index(self, name: str, tag: str, images: dict[str, TestImage]) -> str:
        entries = []
        for platform, image in images.items():
            self.push(name, image.digest, image)
            system, architecture = platform.split("/")[:2]
            entries.append(
                {
                    "mediaType": image.media_type,
                    "digest": image.digest,
                    "size": len(image.manifest),
                    "platform": {"os": system, "architecture": architecture},
                }
            )
        kind = "application/vnd.oci.image.index.v1+json"
        data = json.dumps({"schemaVersion": 2, "mediaType": kind, "manifests": entries}).encode()
        self.push_manifest(name, tag, data, kind)
        return f"{self.host}/{name}:{tag}"


def start_registry(
    folder: str,
    extra: str = "",
    tls: bool = False,
    auth: str = "",
    clients: str = "",
    address: str = "127.0.0.1",
) -> RunningRegistry:
    """`clients` is the CA that clients' certificates have to come from."""
    clients = f", clientcas: [{clients}]" if clients else ""
    host = f"{address}:{free_port()}"
    os.makedirs(folder, exist_ok=True)
    config = os.path.join(folder, "config.yml")
    with open(config, "w") as file:
        file.write(
            "version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\n"
            f"storage: {{filesystem: {{rootdirectory: {folder}/data}}}}\n{extra}\n"
            f"http:\n  addr: {host}\n  relativeurls: true\n"
            + (
                f"  tls: {{certificate: {folder}/cert.pem, key: {folder}/key.pem{clients}}}\n"
                if tls
                else ""
            )
        )
    process = subprocess.Popen(
        ["docker-registry", "serve", config],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    name, port = host.split(":")
    for _ in range(200):
        try:
            socket.create_connection((name, int(port)), 1).close()
            return RunningRegistry(host, process, tls, auth)
        except OSError:
            time.sleep(0.02)
    process.kill()
    raise AssertionError("docker-registry does not start")


@dataclass
class Proxy:
    """Passes requests on to a registry; `fault` may answer instead (it gets handler and count)."""

    upstream: str
    fault: Callable[[http.server.BaseHTTPRequestHandler, int], bool] = lambda handler, count: False
    seen: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        proxy = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args: Any) -> None:
                pass

            def do_GET(self) -> None:
                proxy.seen.append((self.command, self.path, dict(self.headers)))
                count = sum(1 for _, path, _ in proxy.seen if path == self.path)
                if proxy.fault(self, count):
                    return
                sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                given = {key: ", ".join(self.headers.get_all(key, [])) for key in self.headers}
                status, headers, body = proxy.fetch(self.command, self.path, given, sent)
                self.send_response_only(status)
                for key, value in headers:
                    if key.lower() not in ("transfer-encoding", "connection"):
                        self.send_header(key, value)
                self.end_headers()
                self.wfile.write(body)

            do_HEAD = do_POST = do_PATCH = do_PUT = do_GET

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.host = f"127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()

    def fetch(
        self, method: str, path: str, headers: dict[str, str], sent: bytes = b""
    ) -> tuple[int, Any, bytes]:
        connection = http.client.HTTPConnection(self.upstream)
        connection.request(method, path, sent or None, {**headers, "Host": self.upstream})
        answer = connection.getresponse()
        body = answer.read()
        found = answer.getheaders()
        connection.close()
        return answer.status, found, body

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()


def certificate(folder: Path, name: str, *options: str) -> Path:
    """Make `NAME.pem` and `NAME-key.pem`, signed by themselves, for 127.0.0.1."""
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-nodes", "-days", "2"),
            *("-pkeyopt", "ec_paramgen_curve:prime256v1", "-subj", f"/CN={name}"),
            *("-keyout", f"{name}-key.pem", "-out", f"{name}.pem"),
            *("-addext", "subjectAltName=IP:127.0.0.1", *options),
        ],
        cwd=folder,
        check=True,
        capture_output=True,
    )
    return folder / f"{name}.pem"


def reply(
    handler: Any, status: int, body: bytes = b"", headers: dict[str, str] | None = None
) -> bool:
    handler.send_response_only(status)
    handler.send_header("Content-Length", str(len(body)))
    for key, value in (headers or {}).items():
        handler.send_header(key, value)
    handler.end_headers()
    handler.wfile.write(body)
    return True
