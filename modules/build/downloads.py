"""Runs on the managed host: what ADD takes from elsewhere: files by URL, and git repositories."""

from __future__ import annotations

import email.utils
import hashlib
import os
import re
import urllib.parse
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..contract.dockerfile import instructions as of
from ..contract.errors import HostctlError
from . import cache
from .trees import FILE

if TYPE_CHECKING:
    from .site import Site

_SECONDS = 60.0
_FETCH_SECONDS = 900.0
_GIT = re.compile(r"(git://|git@[^:/]+:|ssh://).+|https?://[^#?]+\.git(#.*)?$")
_COMMIT = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")


def is_remote(source: str) -> bool:
    """Whether a source of ADD is no path."""
    return is_git(source) or bool(re.match(r"https?://", source))


def is_git(source: str) -> bool:
    """Whether it is a git repository."""
    return bool(_GIT.match(source))


@dataclass
class Source:
    """One source that is not on this host.

    Attributes:
        key: what tells its content: a checksum, a commit, or what the server says of it.
    """

    url: str
    key: str
    one: of.Add
    head: dict[str, str] = field(default_factory=dict)

    def job(self, site: Site, room: str) -> dict[str, Any]:
        """Bring it here; the worker's job."""
        if is_git(self.url):
            return {
                "folder": _clone(self.url, self.key, room),
                "exclude": [] if self.one.keep_git_dir else [".git"],
            }
        site.report(event="log", stage="", index=0, count=0, text=f"downloading {self.url}")
        folder = os.path.join(room, hashlib.sha256(self.url.encode()).hexdigest()[:12])
        os.mkdir(folder)
        name = posix_name(self.url)
        path = os.path.join(folder, name)
        found, head = download(self.url, path)
        wanted = self.one.checksum.rpartition(":")[2]
        if wanted and found != wanted:
            raise HostctlError(
                f"cannot use {self.url}: expected sha256:{wanted}, got sha256:{found}",
                hint="the file has changed, or the checksum is of another one",
                ref="digest-mismatch",
            )
        if self.one.unpack:
            return {"archive": path}
        times = (
            email.utils.parsedate_to_datetime(head["Last-Modified"])
            if head.get("Last-Modified")
            else None
        )
        mtime = int(times.timestamp()) * 1_000_000_000 if times else 0
        size = os.stat(path).st_size
        return {"items": [[name, self.url, (FILE, 0o600, 0, 0, mtime, size, path, 0)]]}


def posix_name(url: str) -> str:
    """The name that a file gets in a folder."""
    name = os.path.basename(urllib.parse.urlsplit(url).path)
    if not name:
        raise HostctlError(
            f"cannot add {url}: its path has no file name",
            hint="name the file in the destination, and add a path to the URL",
            ref="build-source",
        )
    return urllib.parse.unquote(name).replace("/", "_")


def look(site: Site, source: str, one: of.Add) -> Source:
    """What tells the source's content, without fetching it where that can be."""
    if is_git(source):
        return Source(source, _commit(source, one.checksum), one)
    if one.checksum:
        if not re.fullmatch(r"sha256:[0-9a-f]{64}", one.checksum):
            raise HostctlError(
                f"cannot use the checksum {one.checksum}", hint="write sha256: and 64 digits"
            )
        return Source(source, one.checksum, one)
    head = _head(source)
    told = [head.get(name, "") for name in ("ETag", "Last-Modified", "Content-Length")]
    if not (told[0] or told[1]):
        import secrets

        told.append(secrets.token_hex(8))  # it may be another file each time
    return Source(source, cache.key(source, told), one, head)


def _head(url: str) -> dict[str, str]:
    import urllib.request

    try:
        request = urllib.request.Request(url, method="HEAD", headers={"User-Agent": "hostctl"})
        with urllib.request.urlopen(request, timeout=_SECONDS) as answer:
            return dict(answer.headers.items())
    except OSError as error:
        raise _unreachable(url, error) from error


def download(url: str, path: str) -> tuple[str, dict[str, str]]:
    """Get a file into a new one: its sha256 (hex) and the answer's headers.

    Raises:
        HostctlError: `build-download`; also where the answer ends too early.
    """
    import http.client
    import urllib.request

    digest = hashlib.sha256()
    try:
        request = urllib.request.Request(url, headers={"User-Agent": "hostctl"})
        with urllib.request.urlopen(request, timeout=_SECONDS) as answer, open(path, "xb") as file:
            while True:
                piece = answer.read(1 << 20)
                if not piece:
                    break
                digest.update(piece)
                file.write(piece)
            promised = answer.headers.get("Content-Length", "")
            if promised.isdigit() and file.tell() < int(promised):
                raise ConnectionError(f"it ended after {file.tell()} of {promised} bytes")
            return digest.hexdigest(), dict(answer.headers.items())
    except (OSError, http.client.HTTPException) as error:
        raise _unreachable(url, error) from error


def _unreachable(url: str, error: Exception) -> HostctlError:
    cause = str(getattr(error, "reason", "") or getattr(error, "strerror", "") or error)
    return HostctlError(
        f"cannot get {url}: {cause}",
        hint="check the address, and that the host reaches it",
        ref="build-download",
    )


def _parts(source: str) -> tuple[str, str, str]:
    """Repository, ref and folder of `REPOSITORY#REF:FOLDER`."""
    url, _, fragment = source.partition("#")
    ref, _, folder = fragment.partition(":")
    return url, ref, folder


def _commit(source: str, checksum: str) -> str:
    from ..agent.run import run

    url, ref, _ = _parts(source)
    if _COMMIT.fullmatch(ref):
        return ref
    done = run(
        ["git", "ls-remote", "--", url, ref or "HEAD"], timeout=_SECONDS, env=_ENV, check=True
    )
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    # An annotated tag's own commit stands in a line of its own.
    peeled = [commit for commit, name in lines if name.endswith("^{}")]
    found = (peeled or [commit for commit, _ in lines] or [""])[0]
    if not found:
        raise HostctlError(f"cannot find {ref} in {url}", ref="build-source")
    if checksum and not found.startswith(checksum):
        raise HostctlError(
            f"cannot use {source}: expected commit {checksum}, got {found}", ref="digest-mismatch"
        )
    return found


_ENV = {"GIT_TERMINAL_PROMPT": "0"}


def _clone(source: str, commit: str, room: str) -> str:
    from ..agent.run import run

    url, ref, folder = _parts(source)
    target = os.path.join(room, f"git-{commit[:12]}")
    here = ["git", "-C", target]
    run(["git", "init", "--quiet", target], timeout=_SECONDS, env=_ENV, check=True)
    # Not every server gives a commit by its name, and those that only serve files give no part of a history.
    for wanted in (
        ["--depth=1", "--", url, commit],
        ["--depth=1", "--", url, ref or "HEAD"],
        ["--", url, "+refs/*:refs/remotes/origin/*"],
    ):
        done = run([*here, "fetch", "--quiet", *wanted], timeout=_FETCH_SECONDS, env=_ENV)
        if run([*here, "cat-file", "-e", f"{commit}^{{commit}}"], timeout=_SECONDS).code == 0:
            break
    else:
        raise HostctlError(
            f"cannot get {url}: {done.stderr.strip() or 'it has no commit ' + commit}",
            hint="check the address and the ref, and that the host reaches it",
            ref="build-download",
        )
    quiet = ["-c", "advice.detachedHead=false"]
    run([*here, *quiet, "checkout", "--quiet", commit], timeout=_FETCH_SECONDS, check=True)
    if os.path.exists(os.path.join(target, ".gitmodules")):
        update = ["submodule", "--quiet", "update", "--init", "--recursive", "--depth=1"]
        run([*here, *update], timeout=_FETCH_SECONDS, env=_ENV, check=True)
    inside = os.path.realpath(os.path.join(target, folder.lstrip("/")))
    if not (inside + "/").startswith(os.path.realpath(target) + "/") or not os.path.isdir(inside):
        raise HostctlError(f"cannot find the folder {folder} in {url}", ref="build-source")
    return inside
