"""Runs on the managed host: what all verbs of the OCI command line know: the global options, and the log."""

from __future__ import annotations

import os
import sys

from .options import Option, Options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...contract.errors import HostctlError

DEFAULT_ROOT = "/run/hostctl-oci"
GLOBAL = (
    Option("--root", "DIR", f"where containers are kept (default: {DEFAULT_ROOT})"),
    Option("--log", "FILE", "write errors and warnings there too"),
    Option("--log-format", "FORMAT", "of that file: text or json (default: text)"),
    Option("--log-level", "LEVEL", "debug, info, warning or error (default: warning)"),
    Option("--debug", "", "the same as --log-level debug"),
    Option("--systemd-cgroup", "", "cgroups are scopes of systemd, which must run here"),
    Option("--cgroup-manager", "MANAGER", "cgroupfs, systemd or disabled (default: cgroupfs)"),
    Option("--rootless", "VALUE", "accepted: hostctl needs root, or root in a user namespace"),
    Option("--criu", "FILE", "accepted: there are no checkpoints"),
    Option("-v -V --version", "", "the versions"),
    Option("-h -? --help", "", "this text"),
)
_LEVELS = ("debug", "info", "warning", "error")
# What podman and containerd look for in a runtime's message, to exit with these codes themselves.
_KNOWN_BY = {127: "executable file not found in $PATH", 126: "permission denied"}


class Context:
    """The global options, understood."""

    def __init__(self, options: Options) -> None:
        self.root = os.path.abspath(options.text("root") or DEFAULT_ROOT)
        self.systemd = options.on("systemd-cgroup") or options.text("cgroup-manager") == "systemd"
        self.without_cgroup = options.text("cgroup-manager") == "disabled"
        self.debug = options.on("debug")
        self._file = options.text("log")
        self._json = options.text("log-format") == "json"
        level = "debug" if self.debug else options.text("log-level", "warning")
        self._level = _LEVELS.index(level) if level in _LEVELS else 2

    def log(self, level: str, message: str) -> None:
        """A line in the file of --log, if the level is wanted; a file that cannot be written is no failure.

        What only --debug wants is said on stderr where there is no such file.
        """
        if _LEVELS.index(level) < self._level or not (self._file or level == "debug"):
            return
        import time

        moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        if self._json:
            from ...contract import plainjson

            line = plainjson.dumps({"level": level, "msg": message, "time": moment})
        else:
            line = f'time="{moment}" level={level} msg="{_escape(message)}"'
        if not self._file:
            sys.stderr.write(line + "\n")
            return
        try:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
            fd = os.open(self._file, flags, 0o600)
        except OSError:
            return
        try:
            os.write(fd, line.encode("utf-8", "replace") + b"\n")
        finally:
            os.close(fd)

    def fail(self, error: HostctlError) -> None:
        """Say it in one line, on stderr and in the log."""
        message = str(error)
        known = _KNOWN_BY.get(getattr(error, "code", 0), "")
        if known and known not in message.lower():
            message += f" ({known})"
        message = " ".join(message.split())
        self.log("error", message)
        hint = f"; {error.hint}" if error.hint else ""
        sys.stderr.write(f"{message}{hint}\n")


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
