"""Runs on the managed host: JSON for processes that are many and small, or start in a hurry.

The standard module brings along re and enum, a megabyte and 15 ms; its C half does the work without
them. Where there is no such half, the standard module is used.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

try:
    from _json import encode_basestring_ascii, make_encoder, make_scanner
except ImportError:
    from json import dumps, loads
else:

    class _Rules:
        """How the scanner makes values; what a newer Python asks for beside these is None."""

        strict = True
        parse_float = float
        parse_int = int

        @staticmethod
        def parse_constant(name: str) -> float:
            raise ValueError(f"{name} is no JSON")

        def __getattr__(self, name: str) -> None:
            return None

    def _unknown(value: object) -> object:
        raise TypeError(f"{type(value).__name__} is no JSON")

    _scan = make_scanner(_Rules())  # type: ignore[arg-type]

    def _encoder(sort_keys: bool) -> Any:
        quoted = encode_basestring_ascii
        return make_encoder(None, _unknown, quoted, None, ": ", ", ", sort_keys, False, False)

    _encode, _encode_sorted = _encoder(False), _encoder(True)

    def loads(text: str | bytes) -> Any:  # type: ignore[misc]
        """The value of a JSON text. Raises ValueError."""
        plain = (text.decode() if isinstance(text, bytes) else text).strip(" \t\n\r")
        try:
            value, end = _scan(plain, 0)
        except StopIteration:
            raise ValueError("no JSON value where one should be") from None
        if end != len(plain):
            raise ValueError("something follows the JSON value")
        return value

    def dumps(value: object, *, sort_keys: bool = False) -> str:  # type: ignore[misc]
        """The JSON text of a value, ASCII, in one line."""
        return "".join((_encode_sorted if sort_keys else _encode)(value, 0))


__all__ = ["dumps", "loads"]
