"""Runs on the controller: the connection settings of one host, from Ansible's variable names."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hostctl_host.contract.errors import HostctlError
from hostctl_host.contract.fields import parse_size

_TRUE = {"yes", "on", "1", "true", "t", "y"}
_FALSE = {"no", "off", "0", "false", "f", "n", "", "none"}
_FLAGS_WITH_VALUE = {
    "J": "proxyjump",
    "p": "port",
    "l": "user",
    "i": "identityfile",
    "F": "configfile",
}
_SILENT_FLAGS = {"-C", "-q", "-T", "-v", "-vv", "-vvv", "-4", "-6", "-A", "-a", "-x"}

_LEAST_LOG = 1 << 20


class Unreachable(HostctlError):
    """The host could not be reached, known or logged in to, or it stopped answering."""


@dataclass(frozen=True)
class Target:
    """How to reach one host and as whom to act there.

    Attributes:
        name: the inventory name.
        connection: `ssh` or `local`.
        host: address; may be an alias of `~/.ssh/config`.
        port, user, key_file: None where `~/.ssh/config` or the default decides.
        password: SSH password.
        options: OpenSSH options (lower-case names) that win over `~/.ssh/config`.
        python: interpreter on the host; empty for a search.
        become, become_user, become_password: sudo.
        data_dir, run_dir: empty for the default of the user that the agent runs as.
        log_limit: bytes that the logs of all containers may take; -1: any; None: the host's default.
        image_policy: `RELEASES:FREE` (see `modules/store/policy.py`); empty: the host's defaults.
    """

    name: str
    connection: str = "ssh"
    host: str = ""
    port: int | None = None
    user: str | None = None
    key_file: str | None = None
    password: str = field(default="", repr=False)
    options: tuple[tuple[str, str], ...] = ()
    python: str = ""
    become: bool = False
    become_user: str = "root"
    become_password: str = field(default="", repr=False)
    data_dir: str = ""
    run_dir: str = ""
    log_limit: int | None = None
    image_policy: str = ""

    @classmethod
    def from_vars(
        cls, name: str, variables: Mapping[str, Any], *, become: bool | None = None
    ) -> Target:
        """The target from a host's variables, already rendered.

        Args:
            become: the run's need for root; wins over `ansible_become`.
        Raises:
            HostctlError: a value that cannot be used, with the variable in `where`.
        """

        def text(*names: str, default: str = "") -> str:
            for key in names:
                if variables.get(key) not in (None, ""):
                    return str(variables[key])
            return default

        connection = text("ansible_connection", default="local" if name == "localhost" else "ssh")
        if connection in ("smart", "paramiko", "paramiko_ssh"):
            connection = "ssh"
        if connection not in ("ssh", "local"):
            raise _bad(name, "ansible_connection", connection, "use ssh or local")
        method = text("ansible_become_method", default="sudo")
        if method != "sudo":
            raise _bad(name, "ansible_become_method", method, "only sudo is supported yet")
        port = text("ansible_port", "ansible_ssh_port")
        if port and not (port.isdecimal() and 0 < int(port) < 65536):
            raise _bad(name, "ansible_port", port, "use a number from 1 to 65535")
        python = text("ansible_python_interpreter")
        for key in ("hostctl_data_dir", "hostctl_run_dir"):
            if text(key) and not text(key).startswith("/"):
                raise _bad(name, key, text(key), "use an absolute path")
        options: dict[str, str] = {}
        for key in ("ansible_ssh_args", "ansible_ssh_common_args", "ansible_ssh_extra_args"):
            for option, value in parse_ssh_args(text(key), f"{name}, {key}"):
                options.setdefault(option, value)
        for key in ("ansible_host_key_checking", "ansible_ssh_host_key_checking"):
            if key in variables and not _boolean(name, key, variables[key]):
                options.setdefault("stricthostkeychecking", "no")
        wants = _boolean(name, "ansible_become", variables.get("ansible_become", False))
        return cls(
            name=name,
            connection=connection,
            host=text("ansible_host", "ansible_ssh_host", default=name),
            port=int(port) if port else None,
            user=text("ansible_user", "ansible_ssh_user") or None,
            key_file=text("ansible_ssh_private_key_file", "ansible_private_key_file") or None,
            password=text("ansible_password", "ansible_ssh_password", "ansible_ssh_pass"),
            options=tuple(options.items()),
            python="" if python.startswith("auto") else python,
            become=wants if become is None else become,
            become_user=text("ansible_become_user", default="root"),
            become_password=text("ansible_become_password", "ansible_become_pass"),
            data_dir=text("hostctl_data_dir"),
            run_dir=text("hostctl_run_dir"),
            log_limit=_size(name, "hostctl_log_limit", text("hostctl_log_limit")),
            image_policy=_image_policy(
                name, text("hostctl_image_releases"), text("hostctl_image_free")
            ),
        )


def parse_ssh_args(text: str, where: str) -> list[tuple[str, str]]:
    """OpenSSH command-line arguments (`-J a,b -o Key=value`) as options with lower-case names."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise HostctlError(
            f"cannot read the SSH arguments {text!r}: {error}", where=where, ref="bad-ssh-args"
        ) from error
    options: list[tuple[str, str]] = []
    rest = iter(words)
    for word in rest:
        if word in _SILENT_FLAGS:
            continue
        letter = word[1:2] if word.startswith("-") else ""
        if letter != "o" and letter not in _FLAGS_WITH_VALUE:
            raise HostctlError(
                f"cannot use the SSH argument {word!r}: not supported yet",
                where=where,
                hint="use -J, -p, -l, -i, -F or -o Name=value",
                ref="bad-ssh-args",
            )
        value = word[2:] or next(rest, "")
        if letter == "o":
            key, _, value = re.sub(r"^\s*(\w+)(\s*=\s*|\s+)", r"\1=", value).partition("=")
        else:
            key = _FLAGS_WITH_VALUE[letter]
        if not value:
            raise HostctlError(
                f"cannot use the SSH argument {word!r}: its value is missing",
                where=where,
                ref="bad-ssh-args",
            )
        options.append((key.lower(), value))
    return options


def _boolean(name: str, key: str, value: Any) -> bool:
    word = str(value).strip().lower()
    if word not in _TRUE | _FALSE:
        raise _bad(name, key, str(value), "use true or false")
    return word in _TRUE


def _size(name: str, key: str, text: str) -> int | None:
    if not text or text == "-1":
        return -1 if text else None
    try:
        size = int(parse_size(text))
    except ValueError:
        size = 0
    if size < _LEAST_LOG:
        raise _bad(name, key, text, "use a size of at least 1m such as 2g, or -1 for no limit")
    return size


def _image_policy(name: str, releases: str, free: str) -> str:
    """Releases that each service keeps, and what stays free: `RELEASES:BYTES` or `RELEASES:PERCENT%`."""
    if releases and not (releases.isdecimal() and int(releases) > 0):
        raise _bad(name, "hostctl_image_releases", releases, "use a number from 1 on")
    if re.fullmatch(r"\d{1,2}%", free):
        least = free
    else:
        try:
            least = str(int(parse_size(free))) if free else ""
        except ValueError:
            hint = "use a size such as 5g, or percent such as 10%"
            raise _bad(name, "hostctl_image_free", free, hint) from None
    return f"{releases}:{least}" if releases or least else ""


def _bad(name: str, key: str, value: str, hint: str) -> HostctlError:
    return HostctlError(
        f"cannot use {key}: {value!r}", where=name, hint=hint, ref="bad-connection-variable"
    )
