"""`import`: an image from a tar, with changes of its config, from a file or from an address."""

from __future__ import annotations

import gzip
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from hostctl_host.agent.host import Host
from hostctl_host.contract.dockerfile.changes import parse_change
from hostctl_host.contract.errors import HostctlError
from hostctl_host.store.store import Store

from hostctl.cli import cli
from tests.store import calls
from tests.store.layers import member, sha256, tar
from tests.store.test_exchange import tool

pytestmark = pytest.mark.root

ROOT = tar(member("etc/"), member("etc/motd", b"hi"))


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    """An http server: `/root.tar`, `/root.tar.gz`, `/short` (breaks off), `/moved` (to the first)."""
    packed = gzip.compress(ROOT, mtime=0)

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            files = {"/root.tar": ROOT, "/root.tar.gz": packed, "/short": ROOT}
            if self.path == "/moved":
                self.send_response(302)
                self.send_header("Location", "/root.tar")
                self.end_headers()
            elif self.path in files:
                data = files[self.path]
                self.send_response(200)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data[:700] if self.path == "/short" else data)
            else:
                self.send_error(404)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def config(host: Host, name: str) -> dict:
    store = Store(host.paths.data)
    return store.config(store.resolve(name) or "")


def test_changes_of_the_config(host: Host, tmp_path: Path) -> None:
    changes = [
        "ENV A=1 B='x y'",
        "env PATH=/bin:$A",
        'CMD ["sh", "-c", "echo $A"]',
        "ENTRYPOINT exec top -b",
        "EXPOSE 80 53/udp",
        "LABEL a=b c='d e'",
        "LABEL a=$A",
        "USER 7:8",
        "VOLUME /data /more",
        "WORKDIR /srv",
        "WORKDIR sub/",
        "STOPSIGNAL SIGINT",
        "HEALTHCHECK --interval=5s CMD true",
        "ONBUILD RUN echo more",
    ]
    calls.import_(host, ROOT, name="root:1", changes=changes)
    assert config(host, "root:1")["config"] == {
        "Env": ["A=1", "B=x y", "PATH=/bin:1"],
        "Cmd": ["sh", "-c", "echo $A"],
        "Entrypoint": ["/bin/sh", "-c", "exec top -b"],
        "ExposedPorts": {"80/tcp": {}, "53/udp": {}},
        "Labels": {"a": "1", "c": "d e"},
        "User": "7:8",
        "Volumes": {"/data": {}, "/more": {}},
        "WorkingDir": "/srv/sub",
        "StopSignal": "SIGINT",
        "Healthcheck": {"Test": ["CMD-SHELL", "true"], "Interval": 5_000_000_000},
        "OnBuild": ["RUN echo more"],
    }
    assert len(config(host, "root:1")["history"]) == 1
    archive = calls.save(host, tmp_path / "s.tar", "root:1")
    found = json.loads(tool("skopeo", "inspect", "--config", f"oci-archive:{archive}"))
    assert found["config"]["WorkingDir"] == "/srv/sub"


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("RUN true", "cannot change an image by RUN: it is no instruction of the config"),
        ("COPY a b", "cannot change an image by COPY"),
        ("FROM x", "cannot change an image by FROM"),
        ('SHELL ["sh"]', "cannot change an image by SHELL"),
        ("", "cannot change an image by nothing"),
        ("# only words", "cannot change an image by nothing"),
        ("ENVY A=1", "there is no such instruction"),
        ("ENV", "ENV"),
        ("CMD a\nRUN b", "cannot change an image by RUN"),
    ],
)
def test_what_is_no_change(text: str, cause: str) -> None:
    with pytest.raises(HostctlError) as caught:
        parse_change(text)
    assert cause in caught.value.message
    assert caught.value.where.startswith("--change")
    ended = CliRunner().invoke(cli, ["import", "-c", text, "nothing.tar"], standalone_mode=False)
    assert isinstance(ended.exception, HostctlError), "before a file or a host is touched"
    assert ended.exception.message == caught.value.message


@pytest.mark.parametrize("name", ["root.tar", "root.tar.gz", "moved"])
def test_from_an_address(host: Host, site: str, name: str) -> None:
    data = gzip.compress(ROOT, mtime=0) if name.endswith("gz") else ROOT
    args = {"url": f"{site}/{name}", "origin": f"{site}/{name}", "checksum": sha256(data)}
    calls.import_(host, b"", name="root:1", **args)
    found = config(host, "root:1")
    assert found["rootfs"]["diff_ids"] == [sha256(ROOT)]
    assert found["history"][0]["comment"] == f"Imported from {site}/{name}"


@pytest.mark.parametrize(
    ("name", "checksum", "ref", "cause"),
    [
        ("root.tar", "sha256:" + "0" * 64, "digest-mismatch", "expected sha256:0000"),
        ("nothing", "", "build-download", "Not Found"),
        ("short", "", "build-download", "it ended after 700 of"),
    ],
)
def test_what_does_not_come_right(
    host: Host, site: str, name: str, checksum: str, ref: str, cause: str
) -> None:
    with pytest.raises(HostctlError, match=cause) as caught:
        calls.import_(
            host, b"", name="root:1", url=f"{site}/{name}", origin=name, checksum=checksum
        )
    assert caught.value.ref == ref
    assert Store(host.paths.data).images() == ()


def test_a_checksum_of_what_is_sent(host: Host) -> None:
    calls.import_(host, ROOT, name="root:1", checksum=sha256(ROOT), origin="root.tar")
    with pytest.raises(HostctlError, match=r"cannot import root\.tar: expected sha256:"):
        calls.import_(host, ROOT, name="root:2", checksum=sha256(b""), origin="root.tar")
    assert [image.name for image in Store(host.paths.data).images()] == ["docker.io/library/root:1"]


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        (("--checksum", "md5:1", "x.tar"), "cannot use the checksum md5:1"),
        (("https://ada:secret@example.org/x.tar", "x"), "with a login in it"),
    ],
)
def test_what_is_refused_before_a_host_is_asked(words: tuple[str, ...], cause: str) -> None:
    ended = CliRunner().invoke(cli, ["import", *words], standalone_mode=False)
    assert isinstance(ended.exception, HostctlError)
    assert cause in ended.exception.message
    assert "secret" not in str(ended.exception) + ended.exception.hint
