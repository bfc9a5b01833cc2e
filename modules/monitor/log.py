"""Runs on the managed host, in a monitor: the container's log in Docker's json-file format, rotated.

One object a line: `log` (with its newline, without it where a line was cut), `stream`, `time`. Nothing
here may stop the container: what cannot be written is dropped, counted, and said once it can be.
"""

from __future__ import annotations

import fcntl
import os
import time
import zlib
from _json import encode_basestring

from . import apart

MAX_LINE = 16 << 10
MAX_SIZE, MAX_FILE = 10 << 20, 3
NAME = "container.log"


class Log:
    """The open log of one container.

    Args:
        folder: where container.log and the rotated container.log.1.gz ... lie.
        max_size: bytes after which it is rotated.
        max_file: how many files are kept, the open one included.
    """

    def __init__(self, folder: str, max_size: int = MAX_SIZE, max_file: int = MAX_FILE) -> None:
        self._path = os.path.join(folder, NAME)
        self._max_size = max(max_size, 4096)
        self._max_file = max(max_file, 1)
        self._fd = -1
        self._size = 0
        self._partial = {"stdout": b"", "stderr": b""}
        self._second = 0
        self._prefix = ""
        self.dropped = 0

    def attach(self, fd: int) -> None:
        """Write to this descriptor instead of a file of its own."""
        self._fd = fd

    def feed(self, stream: str, data: bytes) -> None:
        """Take bytes of a stream; whole lines are written, the rest waits for its newline."""
        data = self._partial[stream] + data
        end = f'","stream":"{stream}","time":"{self._now()}"}}\n'
        lines = data.split(b"\n")
        rest = lines.pop()
        out = []
        for line in lines:
            if len(line) > MAX_LINE:
                out.extend(_cut(line, end))
                line = line[len(line) // MAX_LINE * MAX_LINE :]
            out.append(_open(line) + "\\n" + end)
        while len(rest) >= MAX_LINE:
            out.append(_open(rest[:MAX_LINE]) + end)
            rest = rest[MAX_LINE:]
        self._partial[stream] = rest
        if out:
            self._write(out)

    def flush(self) -> None:
        """Write what still waits for a newline: the container has ended."""
        for stream, rest in self._partial.items():
            if rest:
                self._partial[stream] = b""
                self._write([_open(rest) + f'","stream":"{stream}","time":"{self._now()}"}}\n'])

    def close(self) -> None:
        self.flush()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _now(self) -> str:
        whole, nano = divmod(time.time_ns(), 1_000_000_000)
        if whole != self._second:
            self._second = whole
            self._prefix = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole))
        return f"{self._prefix}.{nano:09d}Z"

    def _write(self, entries: list[str]) -> None:
        if self.dropped:
            text = f"hostctl dropped {self.dropped} log lines: the disk was full\\n"
            end = f'","stream":"stderr","time":"{self._now()}"}}\n'
            entries = ['{"log":"' + text + end, *entries]
        data = "".join(entries).encode("utf-8", "replace")
        if len(data) > self._max_size and len(entries) > 1:
            half = len(entries) // 2
            self._write(entries[:half])
            self._write(entries[half:])
            return
        try:
            if self._fd >= 0 and self._size + len(data) > self._max_size and self._size:
                self._rotate()
            if self._fd < 0:
                self._open()
            written = os.write(self._fd, data)
            if written < len(data):
                os.ftruncate(self._fd, self._size)
                raise OSError(28, "no space left")
            self._size += written
            self.dropped = 0
        except OSError:
            self.dropped += len(entries) - (1 if self.dropped else 0)

    def _open(self) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        self._fd = os.open(self._path, flags, 0o600)
        self._size = os.lseek(self._fd, 0, os.SEEK_END)

    def _rotate(self) -> None:
        """container.log becomes .1, .1.gz becomes .2.gz, the oldest goes."""
        _wait(f"{self._path}.1")
        os.close(self._fd)
        self._fd = -1
        if self._max_file == 1:
            os.unlink(self._path)
            return
        for number in range(self._max_file - 1, 0, -1):
            for suffix in ("", ".gz"):
                old = f"{self._path}.{number}{suffix}"
                if not os.path.exists(old):
                    continue
                if number == self._max_file - 1:
                    os.unlink(old)
                else:
                    os.rename(old, f"{self._path}.{number + 1}{suffix}")
        os.rename(self._path, f"{self._path}.1")
        self._compress(f"{self._path}.1")

    def _compress(self, path: str) -> None:
        """In a process of its own: the container's output goes on meanwhile."""
        lock = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        fcntl.flock(lock, fcntl.LOCK_EX)
        apart.alone(compress, path, lock)
        os.close(lock)


def _open(line: bytes) -> str:
    """The line as an opened JSON string."""
    return '{"log":' + encode_basestring(line.decode("utf-8", "replace"))[:-1]


def _cut(line: bytes, end: str) -> list[str]:
    """The full pieces of a line that is too long for one entry."""
    return [
        _open(line[at : at + MAX_LINE]) + end
        for at in range(0, len(line) // MAX_LINE * MAX_LINE, MAX_LINE)
    ]


def compress(path: str, lock: int) -> None:
    """PATH becomes PATH.gz; a crash leaves PATH, and a temp file that the next one replaces.

    Args:
        lock: the open file, locked: held until the end of this process.
    """
    os.closerange(3, lock)
    os.closerange(lock + 1, lock + 64)
    temp = f"{path}.gz.tmp"
    packer = zlib.compressobj(6, zlib.DEFLATED, 31)
    with open(path, "rb") as source, open(temp, "wb", opener=_private) as target:
        while True:
            chunk = source.read(256 << 10)
            if not chunk:
                break
            target.write(packer.compress(chunk))
        target.write(packer.flush())
    os.rename(temp, f"{path}.gz")
    os.unlink(path)


def _wait(path: str) -> None:
    """Until nobody compresses that file any more."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    fcntl.flock(fd, fcntl.LOCK_EX)
    os.close(fd)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
