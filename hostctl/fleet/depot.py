"""Runs on the controller: an image on the host that has it: its manifest, and blobs that leave it once."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Any

from hostctl_host.contract.errors import HostctlError

from .session import Call, Session, call
from .spool import Spool

_GRACE = 5.0


class Depot:
    """One image of one host, opened when it is first asked for. Threads may use it at the same time.

    Args:
        host: its name, for messages.
        image: what it is called there.
        dial: opens a `serve` session to that host.
        spools: blobs of that host by digest, shared by its depots.
    """

    def __init__(
        self, host: str, image: str, dial: Callable[[], Session], spools: dict[str, Spool]
    ) -> None:
        self.host = host
        self._image = image
        self._dial = dial
        self._spools = spools
        self._lock = threading.Lock()
        self._session: Session | None = None
        self._call: Call | None = None
        self._thread: threading.Thread | None = None
        self._told: dict[str, Any] = {}
        self._mine: list[Spool] = []
        self._error: HostctlError | None = None

    def manifest(self) -> dict[str, Any]:
        """What the host tells of the image: `raw`, `digest`, `media_type`, `pinned`, `source`, `id`, `blobs`.

        Raises:
            HostctlError: it cannot be had.
        """
        with self._lock:
            if self._error is not None:
                raise self._error
            if not self._told:
                try:
                    self._open()
                except HostctlError as error:
                    self._error = _explained(self._image, self.host, error)
                    raise self._error from error
            return self._told

    def blob(self, digest: str, offset: int) -> Spool:
        """The blob, which comes from that byte on. Raises HostctlError."""
        told = self.manifest()
        with self._lock:
            assert self._call is not None
            spool = self._spools.get(digest)
            if spool is None or spool.error is not None:
                spool = self._spools[digest] = Spool(told["blobs"][digest])
            if spool not in self._mine:
                self._mine.append(spool)
            if self._error is not None:
                spool.fail(self._error)
            elif (wanted := spool.missing(offset)) is not None:
                header = {"type": "give", "digest": digest, "offset": wanted[0], "end": wanted[1]}
                self._call.session.send(header)
            return spool

    @property
    def failed(self) -> bool:
        """Whether nothing more can be had from it; another may be opened."""
        return self._error is not None

    def close(self) -> None:
        """End the session; who still reads gets an error. One that is still being dialled is not waited for."""
        session, thread = self._session, self._thread
        if session is not None:
            with contextlib.suppress(HostctlError, OSError):
                session.close()
        if thread is not None:
            thread.join(_GRACE)

    def _open(self) -> None:
        self._session = self._dial()
        self._call = call(self._session, "image give", {"image": self._image})
        frames = iter(self._call)
        for header, _ in frames:
            if header["type"] == "row":
                self._told = header["data"]
                break
        else:
            raise HostctlError("it told nothing of the image", ref="protocol")
        self._thread = threading.Thread(
            target=self._read, args=(frames,), name=f"depot-{self.host}", daemon=True
        )
        self._thread.start()

    def _read(self, frames: Any) -> None:
        try:
            for header, body in frames:
                if header["type"] == "data" and header["digest"] in self._spools:
                    self._spools[header["digest"]].write(header["offset"], body)
            raise HostctlError("it ended before everything was sent", ref="connection-lost")
        except HostctlError as error:
            self._fail(_explained(self._image, self.host, error))
        except Exception as error:  # a closed file or stream: the run is over, or this is a bug
            self._fail(HostctlError(f"cannot get {self._image} from {self.host}: {error}"))

    def _fail(self, error: HostctlError) -> None:
        with self._lock:
            self._error = error
            mine = list(self._mine)
        for spool in mine:
            spool.fail(error)


def _explained(image: str, host: str, error: HostctlError) -> HostctlError:
    return HostctlError(
        f"cannot get {image} from {host}: {error.message}", hint=error.hint, ref=error.ref
    )
