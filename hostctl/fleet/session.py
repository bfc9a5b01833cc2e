"""Runs on the controller: a session: frames to and from one agent, and the two things done with it.

`run_program` drives a plan or an apply, `call` one of the other verbs (ps, logs, exec). Both are in one file, because
what can go wrong in a session is the same for both.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from hostctl_host.contract import frames
from hostctl_host.contract.errors import HostctlError
from hostctl_host.contract.report import Failure, HostReport, HostStatus, report_from_json

from . import launch
from .ask import Asker
from .bundle import Bundle
from .local import LocalConnection
from .pool import FORWARDS, Lease, Pool
from .stream import Connection, Reader, Stream
from .target import Target, Unreachable

if TYPE_CHECKING:
    from .dock import Dock

Frame = tuple[dict[str, Any], bytes]
Reply = Callable[[dict[str, Any]], dict[str, Any]]


@dataclass(frozen=True)
class Options:
    """What a run says about its sessions.

    Attributes:
        bundle: the agent (see `bundle.build`).
        pool: the run's SSH connections.
        timeout: seconds to connect and log in (`--timeout`).
        silence: seconds without a frame after which a host counts as wedged.
        lock_wait: seconds to wait for the host lock.
        holder: who waits or holds it, for other people's messages.
        debug: show the agent's tracebacks.
        uploads: whether a host that lacks the agent gets it; if not, that is the error TooEarly.
    """

    bundle: Bundle
    asker: Asker = field(default_factory=Asker)
    pool: Pool = field(default_factory=Pool, repr=False, compare=False)
    timeout: float = 10.0
    silence: float = 20.0
    lock_wait: float | None = None
    holder: str = ""
    debug: bool = False
    uploads: bool = True


class HostProgram(Protocol):
    """What the desired state has to say during a run (`hostctl/desired`)."""

    def facts(self, facts: dict[str, Any]) -> None:
        """Takes the host's facts, before `first`."""

    def first(self) -> dict[str, Any]:
        """The `document` frame."""

    def blob(self, digest: str) -> bytes:
        """The content of that digest."""

    def answer(self, frame: dict[str, Any]) -> None:
        """Takes a `result` frame."""

    def verdict(self, frame: dict[str, Any]) -> dict[str, Any]:
        """The `verdict` frame for a `result` that asks for one."""

    def next(self) -> dict[str, Any]:
        """The next `tasks` frame."""

    def reply(self, frame: dict[str, Any]) -> dict[str, Any]:
        """The `answer` frame to a `question`."""


class Session:
    """Frames over one running agent. `send` and `close` may be called from any thread."""

    def __init__(
        self, target: Target, connection: Connection, stream: Stream, reader: Reader, debug: bool
    ) -> None:
        self.target = target
        self.facts: dict[str, Any] = {}
        self._connection = connection
        self._stream = stream
        self._reader = reader
        self._debug = debug
        self._lock = threading.Lock()

    @classmethod
    def open(cls, target: Target, mode: str, options: Options) -> Session:
        """Connect, start the agent (uploading it if it is missing) and take its hello.

        Args:
            mode: `plan`, `apply` or `serve`.
        Raises:
            Unreachable: the host cannot be reached, trusted or logged in to, or is silent.
            HostctlError: it can, but the agent does not start there.
        """
        connection = connect(target, options)
        try:
            args: tuple[str, ...] = (mode,)
            if options.lock_wait is not None:
                args += ("--lock-wait", f"{options.lock_wait:g}")
            if options.holder:
                args += ("--holder", options.holder)
            if target.log_limit is not None:
                args += ("--log-limit", str(target.log_limit))
            if target.image_policy:
                args += ("--image-policy", target.image_policy)
            password = target.become_password
            if target.become and not password:
                password = options.asker.become()
            stream, reader = launch.start(
                connection,
                target,
                options.bundle,
                args,
                options.silence,
                password,
                options.uploads,
            )
            session = cls(target, connection, stream, reader, options.debug)
            try:
                session._greet(options.bundle.digest)
            except BaseException:
                stream.close()
                raise
        except TimeoutError as error:
            connection.close()
            raise _silent(target, options.silence) from error
        except (ConnectionError, EOFError) as error:
            connection.close()
            raise _lost(target, str(error)) from error
        except BaseException:
            connection.close()
            raise
        return session

    def _greet(self, digest: str) -> None:
        frame = self._read()
        header: dict[str, Any] = frame[0] if frame else {"type": "nothing"}
        if header["type"] == "error":
            raise _agent_error(self.target, header)
        if header["type"] != "hello":
            raise self._died()
        if header.get("version") != frames.PROTOCOL or (header.get("agent") or digest) != digest:
            raise HostctlError(
                f"cannot use the agent on {self.target.name}: it speaks protocol "
                f"{header.get('version')} as {str(header.get('agent'))[:12]}, "
                f"expected {frames.PROTOCOL} as {digest[:12]}",
                where=self.target.name,
                hint="remove the folder agents/ in the host's hostctl folder and try again",
                ref="agent-version",
            )
        self.facts = dict(header.get("facts") or {})

    def send(self, header: dict[str, Any], body: bytes = b"") -> None:
        """Send one frame. Raises Unreachable."""
        data = frames.pack(header, body)
        try:
            with self._lock:
                self._stream.write(data)
        except TimeoutError as error:
            raise _silent(self.target, self._reader.timeout) from error
        except ConnectionError:
            pass  # the agent's last words are in the reading direction

    def events(self) -> Iterator[Frame]:
        """The agent's frames, heartbeats left out, until the stream ends.

        Raises:
            Unreachable: neither a frame nor a heartbeat came in time, or the connection broke.
            HostctlError: the agent died; its last words on stderr are in the message.
        """
        while True:
            try:
                frame = self._read()
            except TimeoutError as error:
                raise _silent(self.target, self._reader.timeout) from error
            except (ConnectionError, EOFError) as error:
                raise _lost(self.target, str(error)) from error
            if frame is None:
                return
            if frame[0]["type"] != "heartbeat":
                yield frame

    def _read(self) -> Frame | None:
        try:
            return frames.read(self._reader.exactly)
        except (frames.BrokenFrame, ValueError) as error:
            raise self._died() from error

    def _died(self) -> HostctlError:
        code = self._stream.exit_code(1)
        text = self._stream.errors().decode(errors="replace").strip()
        lines = [line for line in text.splitlines() if line.strip()]
        words = lines[-1].strip() if lines else "it said nothing"
        ending = "" if code in (None, 0) else f" (exit code {code})"
        if code == 137 or code == -9:
            ending = " (killed, perhaps out of memory)"
        return HostctlError(
            f"cannot go on with {self.target.name}: the agent ended{ending}: {words[:300]}",
            where=self.target.name,
            hint=text
            if self._debug and len(lines) > 1
            else "run it again; what was done is kept. More: --debug",
            ref="agent-died",
        )

    def close(self) -> None:
        """End the session: the agent sees the end of its input and stops."""
        self._stream.end()
        self._stream.close()
        self._connection.close()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def connect(target: Target, options: Options) -> Connection | Lease[Any]:
    """A connection to the target: over SSH, or to this machine."""
    if target.connection == "local":
        return LocalConnection()
    from . import ssh
    from .login import Passwords
    from .sshconfig import route

    given = dict(target.options)
    hops = route(target, ssh.config_lookup(given.get("configfile")))

    def dial(until: int) -> ssh.SshConnection:
        """The connection to that hop, through the shared ones before it."""
        through = None
        if until:
            jump = options.pool.lease(hops[:until], "", lambda: dial(until - 1), FORWARDS)
            through = jump.connection
        password = target.password if until == len(hops) - 1 else ""
        asker = options.asker if until == len(hops) - 1 else options.asker.for_keys()
        return ssh.connect(hops[until], Passwords(password, asker), options.timeout, through)

    return options.pool.lease(hops, target.password, lambda: dial(len(hops) - 1))


def run_program(
    session: Session,
    program: HostProgram,
    on_event: Callable[[dict[str, Any]], None],
    dock: Dock | None = None,
) -> HostReport:
    """Drive a run to its report: document, blobs, results, verdicts, further tasks.

    Args:
        on_event: sees the frames that are for people: `waiting`, `progress`, `result`.
        dock: takes the frames about images that hosts have from each other.
    Returns:
        The agent's report; status `locked` or `failed` where it gave up.
    Raises:
        Unreachable, HostctlError: as `Session.events`.
    """
    program.facts(session.facts)
    session.send(program.first())
    for header, _ in session.events():
        if dock is not None and dock.frame(session, header):
            continue
        match header["type"]:
            case "need":
                for digest in header["digests"]:
                    send_blob(session, digest, program.blob(digest))
            case "result":
                on_event(header)
                program.answer(header)
                if header.get("verdict"):
                    session.send(program.verdict(header))
            case "batch":
                session.send(program.next())
            case "question":
                session.send(program.reply(header))
            case "report":
                return report_from_json(header["report"])
            case "locked":
                return _locked(session.target, header)
            case "error":
                failure = Failure("", str(header["message"]), str(header.get("hint", "")))
                return HostReport(HostStatus.FAILED, failures=(failure,))
            case _:
                on_event(header)
    raise session._died()


def send_blob(session: Session, digest: str, data: bytes) -> None:
    """Send the content of a digest, in pieces."""
    offset = 0
    while True:
        piece = data[offset : offset + frames.BLOB_CHUNK]
        last = offset + len(piece) >= len(data)
        header = {"type": "blob", "digest": digest, "offset": offset, "last": last}
        session.send(header, piece)
        offset += len(piece)
        if last:
            return


def _locked(target: Target, header: dict[str, Any]) -> HostReport:
    holder = header.get("holder") or {}
    who = holder.get("who") or "another run"
    since = (
        time.strftime(" since %H:%M:%S", time.localtime(holder["since"]))
        if holder.get("since")
        else ""
    )
    action = f" ({holder['action']})" if holder.get("action") else ""
    failure = Failure(
        "",
        f"cannot lock {target.name}: {who}{action} holds it{since}",
        "wait until it ends, or give --lock-wait SECONDS",
    )
    return HostReport(HostStatus.LOCKED, failures=(failure,))


class Call:
    """One verb's answer: iterate over its `row` and `data` frames; `code` is there at the end.

    Args:
        reply: the `answer` frame to a `question`; for verbs whose hosts have some.
    """

    def __init__(
        self, session: Session, verb: str, args: dict[str, Any], reply: Reply | None = None
    ) -> None:
        self.session = session
        self._reply = reply
        self.code: int | None = None
        session.send({"type": "call", "verb": verb, "args": args})

    def __iter__(self) -> Iterator[Frame]:
        for header, body in self.session.events():
            if header["type"] == "done":
                self.code = int(header.get("code", 0))
                return
            if header["type"] == "error":
                raise _agent_error(self.session.target, header)
            if header["type"] == "question" and self._reply is not None:
                self.session.send(self._reply(header))
                continue
            yield header, body
        raise self.session._died()

    def stdin(self, data: bytes) -> None:
        """Input for `exec` and `attach`; from any thread."""
        self.session.send({"type": "stdin"}, data)

    def eof(self) -> None:
        """The end of the input."""
        self.session.send({"type": "eof"})

    def resize(self, rows: int, columns: int) -> None:
        """The terminal's new size."""
        self.session.send({"type": "resize", "rows": rows, "columns": columns})

    def signal(self, number: int) -> None:
        """A signal for the container's first process (`attach`)."""
        self.session.send({"type": "signal", "number": number})

    def detach(self) -> None:
        """Leave it running (`attach`): the answer ends."""
        self.session.send({"type": "detach"})


def call(session: Session, verb: str, args: dict[str, Any], reply: Reply | None = None) -> Call:
    """Call a verb (see `agent/calls.py`) on a `serve` session."""
    return Call(session, verb, args, reply)


def _agent_error(target: Target, header: dict[str, Any]) -> HostctlError:
    return HostctlError(
        str(header["message"]),
        where=target.name,
        hint=str(header.get("hint", "")),
        ref=str(header.get("ref", "agent-error")),
    )


def _silent(target: Target, seconds: float) -> Unreachable:
    return Unreachable(
        f"cannot go on with {target.name}: no sign of life for {seconds:.0f} s",
        hint="the host or the network hangs; run it again, what was done is kept",
        ref="host-silent",
    )


def _lost(target: Target, cause: str) -> Unreachable:
    return Unreachable(
        f"cannot go on with {target.name}: the connection broke: {cause or 'closed by the host'}",
        hint="run it again; what was done is kept",
        ref="connection-lost",
    )
