"""Runs on the managed host: asks systemd about a unit, as D-Bus messages on its own socket.

`systemctl show` is not an alternative: it refuses a systemd that is outside of its pid namespace, and a plan
has one of its own. Nothing but property reads is packed here, so no kind can change anything through it.
Format: D-Bus specification, "Message Protocol"; names: org.freedesktop.systemd1(5).
"""

from __future__ import annotations

import os
import struct
import sys

from ..contract.errors import CannotObserve

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket

PRIVATE = "/run/systemd/private"  # root's; there with and without a D-Bus daemon
SYSTEM_BUS = "/run/dbus/system_bus_socket"
DEADLINE = 30.0  # seconds for one answer

_SUFFIXES = (
    *(".service", ".socket", ".target", ".timer", ".path", ".mount", ".automount"),
    *(".swap", ".slice", ".scope", ".device"),
)
_CALL, _ERROR = 1, 3
_PATH, _INTERFACE, _MEMBER, _ERROR_NAME, _REPLY_SERIAL, _DESTINATION, _SIGNATURE = (
    1,
    2,
    3,
    4,
    5,
    6,
    8,
)
_ORDER, _MARK = ("<", b"l") if sys.byteorder == "little" else (">", b"B")


def runs() -> bool:
    """Whether systemd is this host's init: sd_booted(3)."""
    return os.path.isdir("/run/systemd/system")


def properties(unit: str, names: tuple[str, ...]) -> dict[str, str]:
    """These properties of a unit (strings as they are, booleans as `yes` and `no`).

    Args:
        unit: without a suffix, a service. systemd loads what it does not know yet; there is always an answer.
    Raises:
        CannotObserve: systemd cannot be asked, or does not accept the name.
    """
    whole = unit if unit.endswith(_SUFFIXES) else f"{unit}.service"
    try:
        with _Bus() as bus:
            manager = "/org/freedesktop/systemd1"
            path = bus.call(manager, "org.freedesktop.systemd1.Manager", "LoadUnit", whole)
            of = ("org.freedesktop.DBus.Properties", "Get", "org.freedesktop.systemd1.Unit")
            return {name: bus.call(path, *of, name) for name in names}
    except (OSError, ValueError, struct.error) as error:
        raise CannotObserve(
            f"cannot ask systemd about {unit}: {error or type(error).__name__}",
            hint=f"try `systemctl status {unit}` on the host",
        ) from error


class _Bus:
    """A connection that has logged in as this process's user."""

    def __init__(self) -> None:
        import socket

        self._socket: socket.socket = socket.socket(socket.AF_UNIX)
        self._serial = 0
        private = os.geteuid() == 0
        try:
            self._socket.settimeout(DEADLINE)
            self._socket.connect(PRIVATE if private else SYSTEM_BUS)
            who = str(os.geteuid()).encode().hex().encode()
            # In one piece: systemd would leave a message that it reads together with BEGIN alone lying.
            self._socket.sendall(b"\0AUTH EXTERNAL " + who + b"\r\nBEGIN\r\n")
            answer = b""
            while not answer.endswith(b"\r\n"):
                answer += self._read(1)
            if not answer.startswith(b"OK"):
                raise ValueError("it does not accept this user")
            if not private:
                name = "org.freedesktop.DBus"
                self.call("/org/freedesktop/DBus", name, "Hello", to=name)
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> _Bus:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def call(
        self,
        path: str,
        interface: str,
        member: str,
        *arguments: str,
        to: str = "org.freedesktop.systemd1",
    ) -> str:
        """Call a method that takes strings; the first value of its answer."""
        self._serial += 1
        self._socket.sendall(_message(self._serial, path, interface, member, arguments, to))
        while True:
            kind, fields, body, order = self._message()
            if fields.get(_REPLY_SERIAL) != self._serial:
                continue  # a signal
            if kind == _ERROR:
                raise ValueError(_value(body, 0, b"s", order)[0] or str(fields.get(_ERROR_NAME)))
            signature = str(fields.get(_SIGNATURE, "")).encode()
            return str(_value(body, 0, signature[:1], order)[0]) if signature else ""

    def _message(self) -> tuple[int, dict[int, str | int], bytes, str]:
        start = self._read(16)
        order = "<" if start[:1] == b"l" else ">"
        body_size, _, fields_size = struct.unpack(f"{order}III", start[4:])
        header = self._read(fields_size + -fields_size % 8)
        fields: dict[int, str | int] = {}
        at = 0
        while at < fields_size:
            at += -at % 8
            code = header[at]
            fields[code], at = _value(header, at + 1, b"v", order)
        return start[1], fields, self._read(body_size), order

    def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            piece = self._socket.recv(size - len(data))
            if not piece:
                raise ValueError("it closed the connection")
            data += piece
        return data


def _message(
    serial: int, path: str, interface: str, member: str, arguments: tuple[str, ...], to: str
) -> bytes:
    fields = b""
    wanted = [(_PATH, b"o", path), (_INTERFACE, b"s", interface), (_MEMBER, b"s", member)]
    wanted += [(_DESTINATION, b"s", to)]
    for code, kind, text in wanted:
        fields += bytes(-len(fields) % 8) + bytes([code, 1]) + kind + b"\0" + _string(text)
    if arguments:
        letters = b"s" * len(arguments)
        fields += bytes(-len(fields) % 8) + bytes([_SIGNATURE, 1]) + b"g\0"
        fields += bytes([len(letters)]) + letters + b"\0"
    body = b""
    for text in arguments:
        body += bytes(-len(body) % 4) + _string(text)
    start = _MARK + bytes([_CALL, 0, 1])
    sizes = struct.pack(f"{_ORDER}III", len(body), serial, len(fields))
    return start + sizes + fields + bytes(-len(fields) % 8) + body


def _string(text: str) -> bytes:
    data = text.encode()
    return struct.pack(f"{_ORDER}I", len(data)) + data + b"\0"


def _value(data: bytes, at: int, kind: bytes, order: str) -> tuple[str | int, int]:
    """The value of this type at this place, and the place behind it."""
    if kind == b"v":
        size = data[at]
        inner = data[at + 1 : at + 1 + size]
        return _value(data, at + size + 2, inner, order)
    if kind == b"g":
        size = data[at]
        return data[at + 1 : at + 1 + size].decode(), at + size + 2
    at += -at % 4
    (number,) = struct.unpack_from(f"{order}I", data, at)
    if kind in (b"s", b"o"):
        return data[at + 4 : at + 4 + number].decode(), at + number + 5
    if kind == b"b":
        return ("yes" if number else "no"), at + 4
    if kind in (b"u", b"i"):
        return int(number), at + 4
    raise ValueError(f"an answer of type {kind.decode()} is not expected")
