"""Runs on the managed host: an image while it is built: layers, config and history, and the instructions that set them.

Source: OCI image-spec (config.md); the Dockerfile reference; Docker for what history says.
"""

from __future__ import annotations

import copy
import posixpath
from dataclasses import dataclass, field
from typing import Any

from ..contract.dockerfile import instructions as of
from ..contract.dockerfile.ports import exposed_ports

DEFAULT_SHELL = ["/bin/sh", "-c"]
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass
class State:
    """What a stage is at one of its instructions.

    Attributes:
        layers: hex diff ids, the lowest first.
        config: the image config's `config`.
        history: `created_by`, `empty_layer`, and `created` where a layer's time is known.
        blobs: hex diff id -> descriptor of the layer's blob, of layers that came with a base.
        command_set: CMD was set in this stage; ENTRYPOINT resets one that came with the base.
    """

    layers: list[str] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    blobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    author: str = ""
    shell: list[str] = field(default_factory=lambda: list(DEFAULT_SHELL))
    command_set: bool = False

    def fork(self) -> State:
        """The start of a stage that is FROM this one."""
        found = copy.deepcopy(self)
        found.command_set = False
        return found

    @property
    def environment(self) -> dict[str, str]:
        """The image's variables."""
        return dict(item.partition("=")[::2] for item in self.config.get("Env") or ())

    @property
    def cwd(self) -> str:
        return str(self.config.get("WorkingDir") or "/")

    def path(self, name: str) -> str:
        """A destination or working directory made absolute; a trailing slash stays."""
        whole = posixpath.normpath(posixpath.join("/", self.cwd, name))
        whole = "/" + whole.lstrip("/")
        return whole + "/" if name.endswith("/") and whole != "/" else whole

    def add_layer(self, diff_id: str, created: str, text: str) -> None:
        """A step has made a layer."""
        self.layers.append(diff_id)
        self.history.append({"created": created, "created_by": text})

    def note(self, text: str) -> None:
        """A step has made none."""
        self.history.append({"created_by": text, "empty_layer": True})

    def set(self, name: str, value: Any) -> None:
        """A field of the config; an empty value takes it away."""
        if value:
            self.config[name] = value
        else:
            self.config.pop(name, None)

    def set_env(self, values: dict[str, str]) -> None:
        """Variables of ENV, in the place of older ones of their names."""
        merged = {**self.environment, **values}
        self.set("Env", [f"{name}={value}" for name, value in merged.items()])


def configure(state: State, one: of.Instruction) -> bool:
    """Do an instruction that changes only the config; False where it is none of these."""
    if isinstance(one, of.Env):
        state.set_env({pair.name: pair.value or "" for pair in one.pairs})
    elif isinstance(one, of.Label):
        labels = {**(state.config.get("Labels") or {})}
        labels.update({pair.name: pair.value or "" for pair in one.pairs})
        state.set("Labels", labels)
    elif isinstance(one, of.User):
        state.set("User", one.user)
    elif isinstance(one, of.Expose):
        ports = {**(state.config.get("ExposedPorts") or {})}
        ports.update({port: {} for port in exposed_ports(one.ports)})
        state.set("ExposedPorts", ports)
    elif isinstance(one, of.Volume):
        volumes = {**(state.config.get("Volumes") or {})}
        volumes.update({path: {} for path in one.paths})
        state.set("Volumes", volumes)
    elif isinstance(one, of.Entrypoint):
        state.set("Entrypoint", words(state, one.command))
        if not state.command_set:
            state.set("Cmd", None)
    elif isinstance(one, of.Cmd):
        state.set("Cmd", words(state, one.command))
        state.command_set = True
    elif isinstance(one, of.Shell):
        state.shell = list(one.words)
        state.set("Shell", list(one.words))
    elif isinstance(one, of.Stopsignal):
        state.set("StopSignal", one.signal)
    elif isinstance(one, of.Healthcheck):
        state.set("Healthcheck", _health(one))
    elif isinstance(one, of.Onbuild):
        state.set("OnBuild", [*(state.config.get("OnBuild") or ()), one.trigger])
    elif isinstance(one, of.Maintainer):
        state.author = one.name
    elif not isinstance(one, of.Arg):
        return False
    state.note(described(one))
    return True


def described(one: of.Instruction) -> str:
    """The instruction as `docker history` shows it."""
    if isinstance(one, (of.Env, of.Label)):
        return f"{one.NAME} " + " ".join(f"{pair.name}={pair.value}" for pair in one.pairs)
    if isinstance(one, of.Arg):
        return "ARG " + " ".join(
            pair.name if pair.value is None else f"{pair.name}={pair.value}" for pair in one.pairs
        )
    return one.text


def words(state: State, command: of.Command) -> list[str]:
    """The argument list of a command, with the shell before the shell form."""
    if not command.words:
        return []
    return [*state.shell, command.script] if command.shell else list(command.words)


def _health(one: of.Healthcheck) -> dict[str, Any]:
    found: dict[str, Any] = {"Test": list(one.test)}
    for name, seconds in (
        ("Interval", one.interval),
        ("Timeout", one.timeout),
        ("StartPeriod", one.start_period),
        ("StartInterval", one.start_interval),
    ):
        if seconds:
            found[name] = round(seconds * 1_000_000_000)
    if one.retries:
        found["Retries"] = one.retries
    return found
