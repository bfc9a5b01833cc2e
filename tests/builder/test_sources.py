"""ADD of what is elsewhere (URLs, git), further contexts, and what a build tells its steps: limits, shared caches."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.builder.test_build import steps
from tests.builder.test_services import layer_text
from tests.builder.trees import tree_of
from tests.store.layers import TestImage, member, tar
from tests.store.registries import start_registry


class Site:
    """A web server whose files tests change; it counts what is asked for."""

    def __init__(self) -> None:
        self.files: dict[str, tuple[bytes, dict[str, str]]] = {}
        self.asked: list[str] = []
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self.answer(body=False)

            def do_GET(self) -> None:
                self.answer(body=True)

            def answer(self, *, body: bool) -> None:
                site.asked.append(f"{self.command} {self.path}")
                content, headers = site.files.get(self.path, (None, {}))
                self.send_response(404 if content is None else 200)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content or b"")))
                self.end_headers()
                if body and content:
                    self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        self._handler = Handler

    @contextmanager
    def serving(self) -> Iterator[Site]:
        with served(self._handler) as self.url:
            yield self


@contextmanager
def served(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = False  # its end waits for them
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def site() -> Iterator[Site]:
    with Site().serving() as found:
        yield found


def test_a_url_is_fetched_once_for_each_of_its_versions(hostctl, context, site) -> None:
    modified = "Sun, 09 Sep 2001 01:46:40 GMT"
    site.files["/file"] = (b"one", {"ETag": '"1"', "Last-Modified": modified})
    folder = context(f"FROM BASE\nADD {site.url}/file /a/\nADD --chmod=755 {site.url}/file /b\n")
    hostctl("build", "-t", "url:1", str(folder))
    tree = tree_of(hostctl.store, "url:1")
    sha = hashlib.sha256(b"one").hexdigest()[:16]
    assert tree["a/file"] == f"100600 0:0 {sha}"
    assert tree["b"] == f"100755 0:0 {sha}"
    site.asked.clear()
    assert steps(hostctl("build", "-t", "url:1", str(folder))) == []
    assert set(site.asked) == {"HEAD /file"}
    site.files["/file"] = (b"two", {"ETag": '"2"', "Last-Modified": modified})
    hostctl("build", "-t", "url:1", str(folder))
    assert layer_text(hostctl, "url:1", "a/file") == "two"


def test_a_url_without_a_version_is_fetched_each_time(hostctl, context, site) -> None:
    site.files["/file"] = (b"one", {})
    folder = context(f"FROM BASE\nADD {site.url}/file /a/\n")
    for content in (b"one", b"two"):
        site.files["/file"] = (content, {})
        hostctl("build", "-t", "url:2", str(folder))
        assert layer_text(hostctl, "url:2", "a/file") == content.decode()


def test_checksums(hostctl, context, site) -> None:
    site.files["/file"] = (b"right", {})
    good = f"sha256:{hashlib.sha256(b'right').hexdigest()}"
    text = f"FROM BASE\nADD --checksum=SUM {site.url}/file /a\n"
    hostctl("build", "-t", "sum:1", str(context(text.replace("SUM", good))))
    site.asked.clear()
    assert (
        steps(
            hostctl(
                "build", "-t", "sum:1", "--label", "x=y", str(context(text.replace("SUM", good)))
            )
        )
        == []
    )
    assert site.asked == []  # its content is known
    bad = f"sha256:{'0' * 64}"
    done = hostctl("build", "-t", "sum:2", str(context(text.replace("SUM", bad))), code=2)
    assert f"expected {bad}, got {good}" in done.stderr
    assert "Dockerfile:2" in done.stderr
    assert hostctl.store.image("sum:2") is None


def test_a_url_that_is_not_there(hostctl, context, site) -> None:
    folder = context(f"FROM BASE\nADD {site.url}/nothing /a\n")
    done = hostctl("build", str(folder), code=2)
    assert f"cannot get {site.url}/nothing" in done.stderr
    assert "404" in done.stderr or "Not Found" in done.stderr


def git(*words: str, cwd: Path) -> str:
    env = {**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}
    for who in ("AUTHOR", "COMMITTER"):
        env.update(
            {
                f"GIT_{who}_NAME": "a",
                f"GIT_{who}_EMAIL": "a@b",
                f"GIT_{who}_DATE": "1000000000 +0000",
            }
        )
    done = subprocess.run(
        ["git", *words], cwd=cwd, env=env, check=True, text=True, stdout=subprocess.PIPE, timeout=60
    )
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """The address of a repository that a plain web server has, and its work tree."""
    work = tmp_path / "work"
    work.mkdir()
    git("init", "-q", "-b", "main", cwd=work)
    (work / "top").write_text("first")
    (work / "sub").mkdir()
    (work / "sub" / "file").write_text("in the folder")
    git("add", ".", cwd=work)
    git("commit", "-qm", "1", cwd=work)
    git("tag", "-a", "-m", "t", "v1", cwd=work)

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *args: object) -> None:
            super().__init__(*args, directory=str(tmp_path))  # type: ignore[arg-type]

        def log_message(self, *_: object) -> None:
            pass

    with served(Handler) as url:
        publish(work)
        yield f"{url}/repo.git", work


def publish(work: Path) -> None:
    git("clone", "-q", "--bare", str(work), str(work.parent / "new.git"), cwd=work)
    git("update-server-info", cwd=work.parent / "new.git")
    subprocess.run(["rm", "-rf", str(work.parent / "repo.git")], check=True)
    (work.parent / "new.git").rename(work.parent / "repo.git")


def test_git(hostctl, context, repository) -> None:
    url, work = repository
    text = (
        f"FROM BASE\nADD {url} /main/\nADD {url}#v1:sub /sub/\nADD --keep-git-dir=true {url}#main /kept/\n"
        f"ADD {url}#{git('rev-parse', 'HEAD', cwd=work)} /commit/\n"
    )
    folder = context(text)
    hostctl("build", "-t", "git:1", str(folder))
    tree = tree_of(hostctl.store, "git:1")
    assert {
        "main/top",
        "main/sub/file",
        "sub/file",
        "kept/top",
        "kept/.git/HEAD",
        "commit/top",
    } <= tree.keys()
    assert not [path for path in tree if path.startswith(("main/.git", "sub/.git", "sub/sub"))]
    assert steps(hostctl("build", "-t", "git:1", str(folder))) == []
    (work / "top").write_text("second")
    git("commit", "-qam", "2", cwd=work)
    publish(work)
    done = hostctl("build", "-t", "git:1", str(folder))
    assert steps(done)[0] == f"ADD {url} /main/"
    assert layer_text(hostctl, "git:1", "main/top") == "second"
    assert layer_text(hostctl, "git:1", "commit/top") == "first"


def test_what_git_does_not_have(hostctl, context, repository) -> None:
    url, _ = repository
    done = hostctl("build", str(context(f"FROM BASE\nADD {url}#nowhere /x\n")), code=2)
    assert "cannot find nowhere" in done.stderr
    done = hostctl("build", str(context(f"FROM BASE\nADD {url}#main:no /x\n")), code=2)
    assert "cannot find the folder no" in done.stderr
    done = hostctl(
        "build", str(context(f"FROM BASE\nADD --checksum={'1' * 40} {url}#main /x\n")), code=2
    )
    assert f"expected commit {'1' * 40}" in done.stderr


def test_further_contexts(hostctl, context, tmp_path, registry) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "file").write_text("from a folder")
    (other / "left-out").write_text("x")
    (other / ".dockerignore").write_text("left-out\n")
    folder = context(
        "FROM BASE AS stage\nRUN echo never > /f\nFROM base-of-mine\nCOPY --from=other file /file\n"
        "COPY --from=other . /all/\nCOPY --from=img /etc/passwd /passwd\n"
        "RUN --mount=type=bind,from=other,target=/o cat /o/file > /seen\nCOPY --from=stage /etc/group /g\n"
        "RUN --mount=type=bind,from=img,source=/etc/lab,target=/lab test -d /lab/opaque\n"
    )
    words = [f"other={other}", f"img=docker-image://{registry}/shell:1"]
    words += [
        f"base-of-mine=docker-image://{registry}/base:1",
        f"stage=docker-image://{registry}/shell:1",
    ]
    arguments = [word for one in words for word in ("--build-context", one)]
    done = hostctl("build", "-t", "contexts:1", *arguments, str(folder))
    assert "echo never" not in done.stderr  # the context of that name stands for the stage
    assert layer_text(hostctl, "contexts:1", "seen") == "from a folder"
    tree = tree_of(hostctl.store, "contexts:1")
    assert "all/file" in tree
    assert "all/left-out" not in tree
    assert tree["passwd"] == tree["etc/passwd"]
    (other / "file").write_text("changed")
    again = hostctl("build", "-t", "contexts:1", *arguments, str(folder))
    assert "COPY --from=other file /file" in steps(again)


def test_limits_shm_and_names(hostctl, context) -> None:
    folder = context(
        "FROM SHELL:1\nRUN ulimit -Sn > /soft && ulimit -Hn > /hard && "
        "findmnt -nbo SIZE /dev/shm > /shm && getent hosts registry.lan | awk '{print $1}' > /host\n"
    )
    words = [
        "--ulimit",
        "nofile=100:200",
        "--shm-size",
        "8m",
        "--add-host",
        "registry.lan:192.0.2.7",
    ]
    hostctl("build", "-t", "limits:1", *words, str(folder))
    assert layer_text(hostctl, "limits:1", "soft") == "100\n"
    assert layer_text(hostctl, "limits:1", "hard") == "200\n"
    assert layer_text(hostctl, "limits:1", "shm").strip() == str(8 << 20)
    assert layer_text(hostctl, "limits:1", "host") == "192.0.2.7\n"


WAIT = "for i in $(seq 600); do test -e {0} && break; sleep 0.1; done; test -e {0}"


def test_private_caches_are_apart_while_both_are_used(hostctl, context) -> None:
    mounts = "--mount=type=cache,id=private,target=/p,sharing=private --mount=type=cache,id=meet,target=/m"
    folder = context(
        f"FROM BASE AS one\nRUN {mounts} touch /p/mine /m/one && {WAIT.format('/m/two')}\n"
        f"FROM BASE AS two\nRUN {mounts} {WAIT.format('/m/one')} && test ! -e /p/mine && touch /m/two\n"
        "FROM BASE\nCOPY --from=one /etc/passwd /1\nCOPY --from=two /etc/passwd /2\n"
    )
    hostctl("build", "-t", "private:1", str(folder))


def test_locked_caches_are_waited_for(hostctl, context) -> None:
    mount = "--mount=type=cache,id=locked,target=/l,sharing=locked"
    stage = "FROM BASE AS {0}\nRUN {1} mkdir /l/alone && sleep 0.3 && rmdir /l/alone && echo {0} >> /l/done\n"
    folder = context(
        "".join(stage.format(name, mount) for name in ("one", "two", "three"))
        + "FROM BASE\nCOPY --from=one /etc/passwd /1\nCOPY --from=two /etc/passwd /2\n"
        f"COPY --from=three /etc/passwd /3\nRUN {mount} sort /l/done\n"
    )
    done = hostctl("build", "-t", "locked:1", str(folder))
    shown = [line.split("| ")[1] for line in done.stderr.splitlines() if "| " in line]
    assert shown == ["one", "three", "two"]


def test_the_lint_speaks_in_builds_too_and_harms_none(hostctl, context) -> None:
    folder = context("FROM BASE\nMAINTAINER me\nENV a b\n")
    for _ in range(2):  # the second is from the cache
        done = hostctl("build", "-t", "lint:1", str(folder))
        assert re.search(
            r"2 warnings found .*:\n - MaintainerDeprecated: .* \(line 2\)\n - ", done.stderr
        )
    assert "warning" not in hostctl("build", "-q", "-t", "lint:1", str(folder)).stderr
    assert "warning" not in hostctl("build", str(context("FROM BASE\n"))).stderr


def test_line_ends_of_other_systems(hostctl, context) -> None:
    """As BuildKit: gone where a line ends, kept in a document."""
    folder = context("")
    base = context("FROM BASE\n").joinpath("Dockerfile").read_text().strip()
    text = (
        f"{base}\nRUN echo one \\\n && echo two > /two\nCOPY <<END /document\nfirst\nsecond\nEND\n"
    )
    (folder / "Dockerfile").write_bytes(text.replace("\n", "\r\n").encode())
    hostctl("build", "-t", "crlf:1", str(folder))
    assert layer_text(hostctl, "crlf:1", "two") == "two\n"
    assert tree_of(hostctl.store, "crlf:1")["document"].endswith(
        hashlib.sha256(b"first\r\nsecond\r\n").hexdigest()[:16]
    )


def test_pull_asks_for_newer_bases(hostctl, tmp_path) -> None:
    registry = start_registry(str(tmp_path / "registry"))
    try:
        folder = tmp_path / "own"
        folder.mkdir()
        (folder / "Dockerfile").write_text(f"FROM {registry.host}/moves:1\nCOPY Dockerfile /d\n")
        for content, words in (("first", []), ("second", []), ("second", ["--pull"])):
            registry.push("moves", "1", TestImage([tar(member("base", content.encode()))]))
            hostctl("build", "-t", "pull:1", *words, str(folder))
            wanted = content if words or content == "first" else "first"
            assert layer_text(hostctl, "pull:1", "base") == wanted
    finally:
        registry.stop()
