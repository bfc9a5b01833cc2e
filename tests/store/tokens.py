"""Runs in tests: a token server as docker-registry wants it: it knows one user, and signs what he may do."""

from __future__ import annotations

import base64
import http.server
import json
import secrets
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.x509 import load_pem_x509_certificate

from tests.store.registries import certificate, reply

USER, PASSWORD, IDENTITY = "user", "secret", "an-identity-token"


def coded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class TokenServer:
    """Listens on loopback until `stop`. Anybody may pull from `public/`, the user may do everything."""

    def __init__(self, folder: Path) -> None:
        server = self
        self.asked: list[tuple[str, list[str]]] = []
        self.life = 300
        self.bundle = certificate(folder, "tokens")
        pem = (folder / "tokens-key.pem").read_bytes()
        self._key: Any = serialization.load_pem_private_key(pem, None)
        der = load_pem_x509_certificate(self.bundle.read_bytes()).public_bytes(
            serialization.Encoding.DER
        )
        self._chain = [base64.b64encode(der).decode()]

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *args: Any) -> None:
                pass

            def do_GET(self) -> None:
                query = parse_qs(urlsplit(self.path).query)
                wanted = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
                given = self.headers.get("Authorization")
                if given not in (None, wanted):
                    reply(self, 401, b"{}")
                    return
                server.give(self, "password" if given else "nobody", query.get("scope", []))

            def do_POST(self) -> None:
                form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
                if form["refresh_token"] != [IDENTITY] or form["grant_type"] != ["refresh_token"]:
                    reply(self, 401, b"{}")
                    return
                server.give(self, "identity", form.get("scope", [""])[0].split())

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self.server.server_address[1]}"
        self.realm = f"http://{self.host}/token"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def config(self) -> str:
        """The registry's part about it."""
        return (
            f"auth: {{token: {{realm: '{self.realm}', service: registry, issuer: tests, "
            f"rootcertbundle: {self.bundle}}}}}"
        )

    def give(self, handler: Any, who: str, scopes: list[str]) -> None:
        self.asked.append((who, scopes))
        access = []
        for scope in scopes:
            kind, name, actions = scope.split(":")
            rights = actions.split(",")
            if who == "nobody":
                rights = ["pull"] if name.startswith("public/") else []
            access.append({"type": kind, "name": name, "actions": rights})
        key = "access_token" if who == "identity" else "token"
        reply(handler, 200, json.dumps({key: self.token(access)}).encode())

    def token(self, access: list[dict[str, Any]]) -> str:
        now = int(time.time())
        head = {"typ": "JWT", "alg": "ES256", "x5c": self._chain}
        claims = {
            "iss": "tests",
            "aud": "registry",
            "sub": USER,
            "exp": now + self.life,
            "nbf": now - 60,
            "iat": now,
            "jti": secrets.token_hex(8),
            "access": access,
        }
        text = f"{coded(json.dumps(head).encode())}.{coded(json.dumps(claims).encode())}"
        r, s = decode_dss_signature(self._key.sign(text.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{text}.{coded(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()
