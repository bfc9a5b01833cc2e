"""Runs on the controller: which machines an SSH connection passes, from variables and ~/.ssh/config.

The parser is the SSH library's; `Include`, which it lacks, is expanded here first.
"""

from __future__ import annotations

import getpass
import glob
import os
import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hostctl_host.contract.errors import HostctlError

from .knownhosts import KnownHosts
from .target import Target

DEFAULT_KEYS = ("~/.ssh/id_ed25519", "~/.ssh/id_ecdsa", "~/.ssh/id_rsa")
USER_CONFIG = "~/.ssh/config"
SYSTEM_CONFIG = "/etc/ssh/ssh_config"

Lookup = Callable[[str], Mapping[str, Any]]


@dataclass(frozen=True)
class Hop:
    """One SSH server on the way; the last one is the host itself.

    Attributes:
        label: what messages call it.
        keys: identity files to try first; `default_keys` are tried after the agent's.
        known_as: the name in known_hosts if it differs (HostKeyAlias).
        proxy_command: a program that reaches it, instead of a TCP connection.
        agent: socket of the SSH agent, "" for none.
        way: the words of OpenSSH that log in to the jump host before it, "" where there is none.
        is_jump: whether it is passed on the way to another.
    """

    label: str
    host: str
    port: int
    user: str
    known: KnownHosts
    keys: tuple[str, ...] = ()
    default_keys: tuple[str, ...] = ()
    known_as: str = ""
    proxy_command: str = ""
    agent: str = ""
    identities_only: bool = False
    way: str = ""
    is_jump: bool = False

    @property
    def place(self) -> str:
        """Address and port for messages."""
        return f"{self.host}:{self.port}"

    @property
    def who(self) -> str:
        """The name, address and part of this machine, for messages."""
        return f"{'jump host ' if self.is_jump else ''}{self.label} at {self.place}"


def route(target: Target, lookup: Lookup) -> tuple[Hop, ...]:
    """The hops to the target, jump hosts first.

    Args:
        lookup: options of `~/.ssh/config` for a host alias.
    """
    options = dict(lookup(target.host))
    given = dict(target.options)
    if "identityfile" in given:
        options["identityfile"] = [given.pop("identityfile")]
    options.update(given)
    if target.user:
        options["user"] = target.user
    if target.port:
        options["port"] = str(target.port)
    hop = _hop(target.name, target.host, options, target.key_file)
    jumps = str(options.get("proxyjump", "none"))
    before = () if jumps == "none" else _jumps(jumps, lookup, ())
    file = given.get("configfile")
    program = f"ssh -F {shlex.quote(file)}" if file else "ssh"
    hops: tuple[Hop, ...] = ()
    way = ""
    for jump, words in before:
        hops += (replace(jump, way=way),)
        passed = [one for _, one in before[: len(hops) - 1]]
        way = " ".join([program, *(["-J", ",".join(passed)] if passed else []), _login(words)])
    return (*hops, replace(hop, way=way))


def _login(words: str) -> str:
    """A ProxyJump item as `ssh` itself takes it: a port needs the form of a URL there."""
    bare = words.removeprefix("ssh://").rpartition("@")[2]
    has_port = re.search(r"\]:\d+$", bare) or bare.count(":") == 1
    return f"ssh://{words.removeprefix('ssh://')}" if has_port else words


def _jumps(text: str, lookup: Lookup, seen: tuple[str, ...]) -> tuple[tuple[Hop, str], ...]:
    """The jump hosts in their order, each with the words that name it."""
    hops: tuple[tuple[Hop, str], ...] = ()
    for index, item in enumerate(text.split(",")):
        match = re.fullmatch(
            r"(?:ssh://)?(?:([^@]+)@)?(\[[^]]+\]|[^:]+|.*:.*:.*?)(?::(\d+))?/?", item.strip()
        )
        if not match:
            raise HostctlError(
                f"cannot read the ProxyJump {item!r}",
                hint="write user@host:port",
                ref="bad-ssh-args",
            )
        user, alias, port = match[1], match[2].strip("[]"), match[3]
        if alias in seen:
            raise HostctlError(
                f"cannot follow ProxyJump: {alias} needs itself", ref="proxy-jump-loop"
            )
        options = dict(lookup(alias))
        options.update({k: v for k, v in (("user", user), ("port", port)) if v})
        own = str(options.get("proxyjump", "none"))
        if index == 0 and own not in ("none", item.strip(), alias):
            hops += _jumps(own, lookup, (*seen, alias))
        hops += ((replace(_hop(alias, alias, options, None), is_jump=True), item.strip()),)
    return hops


def _hop(label: str, alias: str, options: Mapping[str, Any], key_file: str | None) -> Hop:
    files = shlex.split(str(options.get("userknownhostsfile", "~/.ssh/known_hosts")))
    shared = shlex.split(str(options.get("globalknownhostsfile", "/etc/ssh/ssh_known_hosts")))
    policy = str(options.get("stricthostkeychecking", "yes")).lower()
    policy = {"off": "no", "false": "no", "accept-new": "accept-new", "no": "no"}.get(policy, "yes")
    keys = [key_file] if key_file else []
    keys += [str(path) for path in options.get("identityfile", ()) if str(path) != "none"]
    agent = str(options.get("identityagent", "SSH_AUTH_SOCK"))
    if agent in ("SSH_AUTH_SOCK", "none"):
        agent = os.environ.get("SSH_AUTH_SOCK", "") if agent != "none" else ""
    host = str(options.get("hostname", alias))
    user = str(options.get("user", "")) or getpass.getuser()
    port = int(options.get("port", 22))
    command = str(options.get("proxycommand") or "")
    for token, value in (("%h", host), ("%p", str(port)), ("%r", user), ("%n", alias)):
        command = command.replace(token, value)
    return Hop(
        label=label,
        host=host,
        port=port,
        user=user,
        known=KnownHosts(
            files=tuple(_first_user_file(files) + shared),
            policy=policy,
            hashed=str(options.get("hashknownhosts", "no")).lower() in ("yes", "true"),
        ),
        keys=tuple(dict.fromkeys(os.path.expanduser(path) for path in keys)),
        default_keys=() if keys else tuple(map(os.path.expanduser, DEFAULT_KEYS)),
        known_as=str(options.get("hostkeyalias", "")),
        proxy_command="" if command == "none" else command,
        agent=os.path.expanduser(agent),
        identities_only=str(options.get("identitiesonly", "no")).lower() in ("yes", "true"),
    )


def _first_user_file(files: list[str]) -> list[str]:
    return [os.path.expanduser(path) for path in files if path != "none"] or [os.devnull]


def config_text(path: str | None = None) -> str:
    """The text of the user's and the system's configuration with every `Include` expanded.

    Args:
        path: another file instead of both (`-F`); `none` for no configuration.
    """
    if path == "none":
        return ""
    names = [path] if path else [USER_CONFIG, SYSTEM_CONFIG]
    return "\n".join(_expand(os.path.expanduser(name), 0) + "\nHost *\n" for name in names)


def _expand(path: str, depth: int) -> str:
    try:
        text = Path(path).read_text()
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise HostctlError(f"cannot read {path}: {error}", ref="ssh-config-unreadable") from error
    if depth > 16:
        raise HostctlError(
            f"cannot read {path}: Include goes deeper than 16", ref="ssh-config-loop"
        )
    folder = "/etc/ssh" if path.startswith("/etc/ssh/") else os.path.expanduser("~/.ssh")
    lines: list[str] = []
    block = "Host *"
    for line in text.splitlines():
        key, _, value = re.sub(r"[\s=]+", " ", line.strip(), count=1).partition(" ")
        if key.lower() in ("host", "match"):
            block = line
        if key.lower() != "include":
            lines.append(line)
            continue
        for pattern in shlex.split(value):
            whole = os.path.join(folder, os.path.expanduser(pattern))
            for name in sorted(glob.glob(whole)):
                lines.append(_expand(name, depth + 1))
                lines.append(block)  # what follows still belongs to the block around the Include
    return "\n".join(lines)
