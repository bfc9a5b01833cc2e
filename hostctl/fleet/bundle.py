"""Runs on the controller: packs the host side into the archive that hosts get once per digest.

The archive is a reproducible tar (sorted, no times, fixed modes), named by its sha256 and compressed for
the way. Packing costs more than a whole no-op run, so it is cached under `~/.cache/hostctl/bundles` by a
fingerprint of the files' names, sizes and times; a normal run reads only the digest from there.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import hostctl_host
from hostctl_host.contract.errors import HostctlError

START = b'''"""Runs on the managed host: starts the agent that lies beside this file."""
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
if sys.argv[1:2] == ["serve"]:  # the mode in which programs are run in containers
    from hostctl_host.runtime.guard import ensure

    ensure()
from hostctl_host.agent.main import main

code = main(sys.argv[1:])
for stream in (sys.stdout, sys.stderr):
    try:
        stream.flush()
    except OSError:
        pass
os._exit(code)  # taking modules and threads apart would take longer than many an answer
'''


@dataclass(frozen=True)
class Bundle:
    """The agent as hosts get it.

    Attributes:
        digest: sha256 of the tar, the agent's name on every host.
        path: the cached archive (zlib-compressed tar).
    """

    digest: str
    path: str = field(repr=False)

    @property
    def data(self) -> bytes:
        """The compressed archive; read only when a host lacks it."""
        return Path(self.path).read_bytes()


def build(kinds: str | os.PathLike[str] | None = None) -> Bundle:
    """The bundle of this hostctl, with a user's own kinds.

    Args:
        kinds: a `modules/` folder beside the playbook; its files are added as kinds.
    Raises:
        HostctlError: a user's kind has the name of a built-in one.
    """
    files = _files(kinds)
    fingerprint = _fingerprint(files)
    folder = cache_dir() / "bundles"
    known = folder / f"{fingerprint}.digest"
    try:
        digest = known.read_text()
        if (folder / digest).is_file():
            return Bundle(digest, str(folder / digest))
    except OSError:
        pass
    tar = pack(files, core=core(files, set(_files(None))))
    digest = hashlib.sha256(tar).hexdigest()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _write(folder / digest, zlib.compress(tar, 9))
    _write(known, digest.encode())
    _forget_old(folder, digest)
    return Bundle(digest, str(folder / digest))


def cache_dir() -> Path:
    """`~/.cache/hostctl`, made 0700."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    folder = Path(base, "hostctl")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def core(files: dict[str, str], own: set[str]) -> str:
    """Which hostctl this is, whatever kinds of a user's own come with it: what a host starts at boot.

    Args:
        own: the names of hostctl's own files.
    """
    whole = hashlib.sha256(START)
    for name in sorted(own):
        content = Path(files[name]).read_bytes()
        whole.update(f"{name}\0{len(content)}\0".encode() + content)
    return whole.hexdigest()


def pack(files: dict[str, str], start: bytes = START, core: str = "") -> bytes:
    """The files (name in the archive -> path here), `start.py` and `core` as a reproducible tar."""
    import io
    import tarfile

    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        content = {name: Path(path).read_bytes() for name, path in files.items()}
        content["start.py"] = start
        content["core"] = core.encode()
        for name in sorted(content):
            member = tarfile.TarInfo(name)
            member.size = len(content[name])
            member.mode = 0o600
            archive.addfile(member, io.BytesIO(content[name]))
    return stream.getvalue()


def _files(kinds: str | os.PathLike[str] | None) -> dict[str, str]:
    """Name in the archive -> path on this machine."""
    host_side = next(iter(hostctl_host.__path__))
    found: dict[str, str] = {}
    _collect(host_side, "hostctl_host", found)
    for path in sorted(Path(kinds).glob("*.py")) if kinds else ():
        name = f"hostctl_host/{path.name}"
        if path.name == "__init__.py":
            continue
        if name in found:
            raise HostctlError(
                f"cannot use your kind {path.stem!r}: hostctl has a kind of that name",
                where=str(path),
                hint="rename the file; its name is the task's key in the playbook",
                ref="kind-exists",
            )
        found[name] = str(path)
    return found


def _collect(folder: str, prefix: str, found: dict[str, str]) -> None:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith((".", "__pycache__")):
                continue
            name = f"{prefix}/{entry.name}"
            if entry.is_dir():
                _collect(entry.path, name, found)
            elif not entry.name.endswith((".pyc", "~")):
                found[name] = entry.path


def _fingerprint(files: dict[str, str]) -> str:
    whole = hashlib.sha256(START)
    for name in sorted(files):
        status = os.stat(files[name])
        whole.update(f"{name}\0{files[name]}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return whole.hexdigest()[:32]


def _write(path: Path, data: bytes) -> None:
    """Replace the file at once; another hostctl may read it at this moment."""
    temp = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    with open(os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as stream:
        stream.write(data)
    os.replace(temp, path)


def _forget_old(folder: Path, keep: str, limit: int = 20) -> None:
    """Keep the newest archives only; a checkout under development makes one per edit."""
    entries = sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in entries[2 * limit :]:
        if path.name != keep:
            with contextlib.suppress(OSError):
                path.unlink()
