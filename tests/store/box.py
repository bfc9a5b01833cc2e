"""Runs in tests: unpacks layers beside a folder that must stay as it is."""

from __future__ import annotations

import os

import pytest
from hostctl_host.contract.errors import HostctlError
from hostctl_host.store.decompress import decompress
from hostctl_host.store.unpack import Limits, Unpacked, unpack


class Box:
    """A folder `root` that layers are unpacked into, and its neighbour."""

    def __init__(self, work, outside) -> None:
        self.work = work
        self.outside = outside
        self.root = work / "root"

    def unpack(self, data: bytes, limits: Limits | None = None) -> Unpacked:
        chunks = (data[i : i + 1000] for i in range(0, len(data), 1000))
        return unpack(decompress(chunks, str(self.work)), str(self.work), limits)

    def refuses(
        self, data: bytes, ref: str, match: str | None = None, limits: Limits | None = None
    ) -> None:
        with pytest.raises(HostctlError, match=match) as caught:
            self.unpack(data, limits)
        assert caught.value.ref == ref
        assert caught.value.message.startswith("cannot ")
        self.assert_outside_untouched()

    def assert_outside_untouched(self) -> None:
        assert os.listdir(self.outside) == ["victim"]
        status = (self.outside / "victim").stat()
        assert (self.outside / "victim").read_text() == "untouched"
        assert (status.st_nlink, status.st_mode & 0o7777) == (1, 0o644)
        assert sorted(os.listdir(self.work.parent)) == ["outside", "work"]
