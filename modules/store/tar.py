"""Runs on the managed host: reads tar streams: ustar, pax, GNU long names and sparse files, base-256.

Not `tarfile`: an archive must not decide how much memory reading it takes, names stay bytes, and
this reader costs half of the time. Global pax headers are passed over, as by Docker: what says something
about all entries that follow would have to be kept, and has no limit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from ..contract.errors import HostctlError

BLOCK = 512
_PAX_LIMIT = 1 << 20
_NAME_LIMIT = 4096
_SPARSE_LIMIT = 100_000
_TIME_LIMIT = (1 << 63) - 1
_REGULAR = b"0\x007"
_HEADER_ONLY = b"123456"


class BrokenTar(HostctlError):
    """The bytes are no tar archive, or end inside of an entry."""

    def __init__(self, cause: str) -> None:
        super().__init__(f"cannot read the archive: {cause}", ref="layer-broken")


@dataclass
class Entry:
    """One member. `kind` is tar's type byte; for sparse files `holes` lists (offset, length) of data."""

    name: bytes
    kind: bytes
    mode: int
    uid: int
    gid: int
    size: int
    mtime_ns: int
    linkname: bytes = b""
    device: tuple[int, int] = (0, 0)
    xattrs: dict[bytes, bytes] = field(default_factory=dict)
    data: list[tuple[int, int]] | None = None
    real_size: int = 0


class Stream:
    """Exact reads from chunks of any size, without copying what is passed on."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._chunk = memoryview(b"")

    def pieces(self, size: int) -> Iterator[memoryview]:
        """The next `size` bytes, in pieces."""
        while size:
            if not self._chunk:
                self._chunk = memoryview(next(self._chunks, b""))
                if not self._chunk:
                    raise BrokenTar("it ends inside of an entry")
            piece = self._chunk[:size]
            self._chunk = self._chunk[size:]
            size -= len(piece)
            yield piece

    def read(self, size: int) -> bytes:
        """The next `size` bytes."""
        if size <= len(self._chunk):
            piece = bytes(self._chunk[:size])
            self._chunk = self._chunk[size:]
            return piece
        return b"".join(self.pieces(size))

    def at_end(self) -> bool:
        """Whether nothing follows."""
        while not self._chunk:
            chunk = next(self._chunks, None)
            if chunk is None:
                return True
            self._chunk = memoryview(chunk)
        return False

    def skip(self, size: int) -> None:
        """Pass over the next `size` bytes."""
        for _ in self.pieces(size):
            pass

    def drain(self) -> None:
        """Read on to the end, for the sake of who counts."""
        self._chunk = memoryview(b"")
        for _ in self._chunks:
            pass


class FileStream(Stream):
    """A tar file that can be seeked: what is not asked for is not read."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(())
        self.file = file

    def pieces(self, size: int) -> Iterator[memoryview]:
        while size:
            piece = self.file.read(min(size, 1 << 20))
            if not piece:
                raise BrokenTar("it ends inside of an entry")
            size -= len(piece)
            yield memoryview(piece)

    def read(self, size: int) -> bytes:
        return b"".join(self.pieces(size))

    def at_end(self) -> bool:
        more = self.file.read(1)
        self.file.seek(-len(more), 1)
        return not more

    def skip(self, size: int) -> None:
        self.file.seek(size, 1)

    def drain(self) -> None:
        pass


class TarReader:
    """Iterates over the entries; the content of one must be read through `pieces` or is skipped."""

    def __init__(self, source: Stream | Iterable[bytes]) -> None:
        self._stream = source if isinstance(source, Stream) else Stream(source)
        self._left = 0
        self._padding = 0

    def pieces(self, size: int) -> Iterator[memoryview]:
        """The next `size` bytes of the current entry's content."""
        for piece in self._stream.pieces(size):
            self._left -= len(piece)
            yield piece

    def __iter__(self) -> Iterator[Entry]:
        pax: dict[str, bytes] = {}
        name = link = b""
        while True:
            self._skip()
            if self._stream.at_end():
                return
            block = self._stream.read(BLOCK)
            if not block.strip(b"\0"):
                # The end is two empty blocks; what follows still belongs to the digest.
                self._stream.drain()
                return
            _check(block)
            kind, size = block[156:157], _number(block[124:136], "size")
            if kind in b"xgLK" and kind != b"\0":
                self._begin(size)
                if size > (_PAX_LIMIT if kind in b"xg" else _NAME_LIMIT + 1):
                    raise BrokenTar(f"a header of {size} bytes")
                content = b"".join(self.pieces(size))
                if kind == b"x":
                    pax = _pax(content)
                elif kind == b"L":
                    name = content.rstrip(b"\0")
                elif kind == b"K":
                    link = content.rstrip(b"\0")
                continue
            entry = self._entry(block, kind, size, pax, name, link)
            pax, name, link = {}, b"", b""
            yield entry

    def _begin(self, size: int) -> None:
        self._left, self._padding = size, -size % BLOCK

    def _skip(self) -> None:
        self._stream.skip(self._left + self._padding)
        self._left = self._padding = 0

    def _entry(
        self, block: bytes, kind: bytes, size: int, pax: dict[str, bytes], name: bytes, link: bytes
    ) -> Entry:
        if not name:
            name = _text(block[0:100])
            prefix = _text(block[345:500])
            if prefix and block[257:263] == b"ustar\0":
                name = prefix + b"/" + name
        if kind == b"S":
            sparse = self._old_sparse(block)
            kind = b"0"
        else:
            sparse = None
        if "size" in pax:
            size = _decimal(pax["size"], "size")
        if kind in _HEADER_ONLY:
            size = 0
        self._begin(size)
        entry = Entry(
            name=pax.get("path", name),
            kind=kind,
            mode=_number(block[100:108], "mode") & 0o7777,
            uid=_decimal(pax["uid"], "uid") if "uid" in pax else _number(block[108:116], "uid"),
            gid=_decimal(pax["gid"], "gid") if "gid" in pax else _number(block[116:124], "gid"),
            size=size,
            mtime_ns=_time(pax["mtime"])
            if "mtime" in pax
            else _number(block[136:148], "time") * 1_000_000_000,
            linkname=pax.get("linkpath", link or _text(block[157:257])),
            device=(_number(block[329:337], "device"), _number(block[337:345], "device"))
            if kind in b"34" and kind != b"\0"
            else (0, 0),
            real_size=size,
        )
        if kind in _REGULAR:
            entry.kind = b"5" if kind != b"7" and entry.name.endswith(b"/") else b"0"
        entry.mtime_ns = max(-_TIME_LIMIT, min(_TIME_LIMIT, entry.mtime_ns))
        for key, value in pax.items():
            if key.startswith("SCHILY.xattr."):
                entry.xattrs[key[13:].encode("utf-8", "surrogateescape")] = value
        if sparse is not None:
            entry.data, entry.real_size = sparse
        elif any(key.startswith("GNU.sparse.") for key in pax):
            self._pax_sparse(entry, pax)
        if len(entry.name) > _NAME_LIMIT or len(entry.linkname) > _NAME_LIMIT:
            raise BrokenTar("a name of more than 4096 bytes")
        if b"\0" in entry.name or b"\0" in entry.linkname:
            raise BrokenTar("a name with a zero byte")
        if entry.data is not None:
            _check_sparse(entry)
        return entry

    def _old_sparse(self, block: bytes) -> tuple[list[tuple[int, int]], int]:
        """GNU's own sparse header: four pairs in it, more in extension blocks."""
        real_size = _number(block[483:495], "size")
        pairs = _pairs(block[386:482])
        extended = block[482] == 1
        while extended:
            more = self._stream.read(BLOCK)
            pairs += _pairs(more[:504])
            extended = more[504] == 1
            if len(pairs) > _SPARSE_LIMIT:
                raise BrokenTar("too many pieces of a sparse file")
        return pairs, real_size

    def _pax_sparse(self, entry: Entry, pax: dict[str, bytes]) -> None:
        """The pax formats 0.1 (map in a header) and 1.0 (map before the data)."""
        if "GNU.sparse.name" in pax:
            entry.name = pax["GNU.sparse.name"]
        real = pax.get("GNU.sparse.realsize", pax.get("GNU.sparse.size", b""))
        entry.real_size = _decimal(real, "size")
        if "GNU.sparse.map" in pax:
            numbers = [_decimal(n, "sparse map") for n in pax["GNU.sparse.map"].split(b",")]
        elif pax.get("GNU.sparse.major") == b"1":
            count = self._line(entry)
            if count > _SPARSE_LIMIT:
                raise BrokenTar("too many pieces of a sparse file")
            numbers = [self._line(entry) for _ in range(2 * count)]
            rest = -(entry.size - self._left) % BLOCK
            entry.size = self._left - rest
            for _ in self.pieces(min(rest, self._left)):
                pass
        else:
            raise BrokenTar("a sparse file of an unknown format")
        entry.data = list(zip(numbers[::2], numbers[1::2]))

    def _line(self, entry: Entry) -> int:
        digits = bytearray()
        while self._left:
            byte = b"".join(self.pieces(1))
            if byte == b"\n":
                return _decimal(bytes(digits), "sparse map")
            digits += byte
            if len(digits) > 20:
                break
        raise BrokenTar(f"the map of the sparse file {entry.name!r} is broken")


def _check(block: bytes) -> None:
    wanted = _number(block[148:156], "checksum")
    if sum(block) - sum(block[148:156]) + 256 != wanted:
        raise BrokenTar("a header's checksum is wrong")


def _text(raw: bytes) -> bytes:
    return raw.partition(b"\0")[0]


def _number(raw: bytes, what: str) -> int:
    """Octal digits, or base 256 where the first bit is set; only a time may be negative."""
    if raw[0] & 0x80:
        if raw[0] & 0x40 and what != "time":
            raise BrokenTar(f"a negative {what}")
        number = int.from_bytes(raw, "big") & ((1 << (8 * len(raw) - 1)) - 1)
        return number - (1 << (8 * len(raw) - 1)) if raw[0] & 0x40 else number
    digits = raw.strip(b" \0").partition(b"\0")[0]
    try:
        return int(digits or b"0", 8)
    except ValueError:
        raise BrokenTar(f"{digits!r} is no {what}") from None


def _decimal(raw: bytes, what: str) -> int:
    if not raw.isdigit() or len(raw) > 20:
        raise BrokenTar(f"{raw[:40]!r} is no {what}")
    return int(raw)


def _time(raw: bytes) -> int:
    """Nanoseconds of a pax time: seconds with an optional fraction, perhaps negative."""
    negative = raw.startswith(b"-")
    seconds, _, fraction = raw.lstrip(b"-").partition(b".")
    nanos = _decimal(seconds or b"0", "time") * 1_000_000_000
    nanos += _decimal((fraction[:9] or b"0").ljust(9, b"0"), "time")
    return -nanos if negative else nanos


def _pax(content: bytes) -> dict[str, bytes]:
    """The records of a pax header: `LENGTH KEY=VALUE\\n`. Format 0.0's repeated keys become a map."""
    records: dict[str, bytes] = {}
    numbers: list[bytes] = []
    position = 0
    while position < len(content):
        space = content.find(b" ", position, position + 21)
        if space < 0:
            raise BrokenTar("a pax header without lengths")
        length = _decimal(content[position:space], "length")
        record = content[space + 1 : position + length]
        key, equals, value = record.partition(b"=")
        if length < 5 or position + length > len(content) or not equals or value[-1:] != b"\n":
            raise BrokenTar("a pax header with wrong lengths")
        name = key.decode("utf-8", "surrogateescape")
        if name in ("GNU.sparse.offset", "GNU.sparse.numbytes"):
            numbers.append(value[:-1])
        else:
            records[name] = value[:-1]
        position += length
    if numbers:
        records["GNU.sparse.map"] = b",".join(numbers)
    return records


def _pairs(raw: bytes) -> list[tuple[int, int]]:
    pairs = []
    for start in range(0, len(raw), 24):
        if not raw[start]:
            break
        offset, length = raw[start : start + 12], raw[start + 12 : start + 24]
        pairs.append((_number(offset, "offset"), _number(length, "length")))
    return pairs


def _check_sparse(entry: Entry) -> None:
    position = 0
    for offset, length in entry.data or ():
        if offset < position or offset + length > entry.real_size:
            raise BrokenTar(f"the map of the sparse file {entry.name!r} is broken")
        position = offset + length
    if sum(length for _, length in entry.data or ()) != entry.size:
        raise BrokenTar(f"the map of the sparse file {entry.name!r} does not fit its data")
