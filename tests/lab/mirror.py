"""Runs on the test machine as a lab's service: a Debian mirror for hosts that have no way out.

Hosts know the bridge address as deb.debian.org; this fetches what they ask for from the real one.
Packages never change under one name, so they are kept; indexes are always asked for again.
Nothing but Debian's archive can be reached through it. Arguments: address, cache folder.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ORIGIN = "http://deb.debian.org"
ALLOWED = re.compile(r"/debian(-security)?/(dists|pool)/[A-Za-z0-9._+~/:%-]+")


class Mirror(BaseHTTPRequestHandler):
    """One request for a file of the archive."""

    protocol_version = "HTTP/1.1"
    cache: Path

    def do_GET(self) -> None:
        """Answer from the cache, or fetch, keep and answer."""
        if not ALLOWED.fullmatch(self.path) or ".." in self.path:
            self.send_error(403, "only Debian's archive")
            return
        kept = self.cache / self.path.replace("/", "_")
        if "/pool/" in self.path and kept.exists():
            self._answer(kept)
            return
        fresh = tempfile.NamedTemporaryFile(dir=self.cache, delete=False)  # noqa: SIM115
        try:
            with fresh, urllib.request.urlopen(ORIGIN + self.path, timeout=60) as answer:
                shutil.copyfileobj(answer, fresh)
            self._answer(Path(fresh.name))
            if "/pool/" in self.path:
                os.replace(fresh.name, kept)
        except urllib.error.HTTPError as error:
            self.send_error(error.code)
        except OSError as error:
            self.send_error(502, str(error))
        finally:
            Path(fresh.name).unlink(missing_ok=True)

    def _answer(self, file: Path) -> None:
        with file.open("rb") as content:
            self.send_response(200)
            self.send_header("Content-Length", str(os.fstat(content.fileno()).st_size))
            self.end_headers()
            shutil.copyfileobj(content, self.wfile)

    def log_message(self, format: str, *args: object) -> None:
        """Keep quiet."""


if __name__ == "__main__":
    Mirror.cache = Path(sys.argv[2])
    ThreadingHTTPServer((sys.argv[1], 80), Mirror).serve_forever()
