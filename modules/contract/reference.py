"""Runs in both worlds: image references as people write them, in Docker's full form."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .errors import HostctlError

DEFAULT_HOST = "docker.io"
DEFAULT_TAG = "latest"
_NAME_LIMIT = 255

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_PATH = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_HOST = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-fA-F:.]+\])(?::[0-9]{{1,5}})?")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True)
class Reference:
    """One image in one registry. Exactly what `str()` gives is the name of a tag in the store.

    Attributes:
        host: registry, with its port where one was written.
        path: repository inside of it (`library/nginx`).
        tag: may be empty where there is a digest.
        digest: `sha256:...`; what it names can never change.
    """

    host: str
    path: str
    tag: str = ""
    digest: str = ""

    @property
    def name(self) -> str:
        """Registry and repository, without tag and digest."""
        return f"{self.host}/{self.path}"

    @property
    def target(self) -> str:
        """What the registry is asked for: the digest, or else the tag."""
        return self.digest or self.tag

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.name}{tag}" + (f"@{self.digest}" if self.digest else "")


def parse(text: str) -> Reference:
    """`[host[:port]/]name[:tag][@digest]` by Docker's rules.

    What stands before the first `/` is a host if it has a dot or a colon, or is `localhost`;
    `nginx` is `docker.io/library/nginx:latest`.

    Raises:
        HostctlError: with ref `image-reference`.
    """
    rest, at, digest = text.partition("@")
    if at and not _DIGEST.fullmatch(digest):
        raise _error(text, f"the digest {digest!r} is not sha256: and 64 lowercase hex digits")
    first, slash, after = rest.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost" or first != first.lower()):
        host, rest = first, after
    else:
        host = DEFAULT_HOST
    path, colon, tag = rest.partition(":")
    if colon and not _TAG.fullmatch(tag):
        raise _error(
            text, f"the tag {tag!r} may have letters, digits, '_', '.', '-' and 128 characters"
        )
    if (
        not _HOST.fullmatch(host)
        or int(host.rpartition(":")[2] or 0 if _has_port(host) else 0) > 65535
    ):
        raise _error(text, f"{host!r} is no registry host")
    if not path:
        raise _error(text, "it has no name")
    if not _PATH.fullmatch(path):
        hint = f"write {text.replace(path, path.lower(), 1)}" if path != path.lower() else ""
        raise _error(
            text,
            f"{path!r} may have lowercase letters, digits and '.', '_', '-' between them",
            hint,
        )
    if host in ("index.docker.io", "registry-1.docker.io"):
        host = DEFAULT_HOST
    if host == DEFAULT_HOST and "/" not in path:
        path = f"library/{path}"
    if len(host) + 1 + len(path) > _NAME_LIMIT:
        raise _error(text, f"a name has at most {_NAME_LIMIT} characters")
    return Reference(host, path, tag or ("" if digest else DEFAULT_TAG), digest)


def parse_tag(text: str) -> Reference:
    """A name that something may be given: a reference without a digest, which only content has.

    Raises:
        HostctlError: with ref `image-reference`.
    """
    found = parse(text)
    if found.digest:
        raise _error(
            text, "what is made here gets its digest by being made", "leave out @sha256:..."
        )
    return found


def canonical_name(name: str) -> str:
    """The name under which the store keeps a tag: the full reference, or the text where it is none.

    Keys of `images:` may be words that no registry would accept; they stay as they are.
    """
    try:
        return str(parse(name))
    except HostctlError:
        return name


def _has_port(host: str) -> bool:
    return ":" in host.rpartition("]")[2]


def _error(text: str, cause: str, hint: str = "") -> HostctlError:
    return HostctlError(
        f"cannot use {text!r} as an image: {cause}",
        hint=hint
        or "write [host[:port]/]name[:tag][@sha256:...], such as docker.io/library/nginx:1",
        ref="image-reference",
    )
