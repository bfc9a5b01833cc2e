"""Runs in both worlds: which variables hold where: global, predefined and platform arguments, ARG, ENV.

Source: the Dockerfile reference, "Scope" and "Predefined ARGs". ARG and ENV share one set of names; what comes
later in the file holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from .apply import Missing, expand_instruction
from .errors import DockerfileError
from .expand import expand
from .instructions import Arg, Dockerfile, Env, Instruction, Pair
from .parse import located

PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")
"""Build arguments that every RUN gets, in both cases, without ARG; they are in no history and no cache key."""

_ALWAYS = (*PROXIES, *(name.lower() for name in PROXIES), "SOURCE_DATE_EPOCH")


@dataclass(frozen=True)
class Platform:
    """An operating system and processor in OCI's words."""

    os: str = "linux"
    architecture: str = "amd64"
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(filter(None, (self.os, self.architecture, self.variant)))


def global_arguments(
    dockerfile: Dockerfile,
    build_args: Mapping[str, str],
    *,
    target: str = "",
    build: Platform = Platform(),
    platform: Platform = Platform(),
    missing: Missing | None = None,
) -> dict[str, str]:
    """What FROM may use, and what an ARG without a default takes: platform arguments and those before FROM.

    Args:
        build_args: given by the user; they go before defaults.
        target: name of the stage that is built (TARGETSTAGE).
        build: the platform that builds (BUILDPLATFORM); `platform`: that of the image (TARGETPLATFORM).
        missing: is told each name without a value that a default uses.
    Raises:
        DockerfileError: a default that cannot be expanded.
    """
    names = {"TARGETSTAGE": target or dockerfile.stages[-1].name or "default"}
    for prefix, one in (("BUILD", build), ("TARGET", platform)):
        names[f"{prefix}PLATFORM"] = str(one)
        names[f"{prefix}OS"] = one.os
        names[f"{prefix}OSVERSION"] = ""
        names[f"{prefix}ARCH"] = one.architecture
        names[f"{prefix}VARIANT"] = one.variant
    names = {name: build_args.get(name, value) for name, value in names.items()}
    for instruction in dockerfile.arguments:
        for pair in instruction.pairs:
            value = build_args.get(pair.name)
            if value is None and pair.value is not None:
                try:
                    found = expand(pair.value, names, dockerfile.directives.escape)
                except DockerfileError as error:
                    raise located(
                        error, instruction.lines, dockerfile.source, dockerfile.file
                    ) from None
                if missing is not None:
                    for name in sorted(found.missing):
                        missing(name)
                value = found.text
            if value is not None:
                names[pair.name] = value
    return names


def proxy_environment(build_args: Mapping[str, str]) -> dict[str, str]:
    """What RUN gets of the predefined proxy arguments, each in upper and lower case."""
    found = {}
    for name, value in build_args.items():
        if name.upper() in PROXIES:
            found[name.upper()] = found[name.lower()] = value
    return found


def unused_arguments(dockerfile: Dockerfile, build_args: Mapping[str, str]) -> tuple[str, ...]:
    """Build arguments that no ARG declares, for a warning."""
    declared = {pair.name for one in dockerfile.arguments for pair in one.pairs}
    for stage in dockerfile.stages:
        for one in stage.instructions:
            if isinstance(one, Arg):
                declared |= {pair.name for pair in one.pairs}
    predefined = (*_ALWAYS, "TARGETSTAGE")
    return tuple(
        sorted(
            name
            for name in set(build_args) - declared
            if name not in predefined and not name.startswith(("BUILDKIT_", "TARGET", "BUILD"))
        )
    )


class Scope:
    """The variables of one stage while its instructions are gone through in order.

    Attributes:
        environment: of the image: its base's and every ENV so far.
        arguments: of each ARG so far its value, None where it has none; RUN's history names them.
        variables: both together, as an expansion and RUN see them.
    """

    def __init__(
        self,
        environment: Mapping[str, str],
        global_arguments: Mapping[str, str],
        build_args: Mapping[str, str],
        escape: str = "\\",
    ) -> None:
        self.environment = dict(environment)
        self.arguments: dict[str, str | None] = {}
        self.variables = dict(environment)
        self.escape = escape
        self._global = global_arguments
        self._build_args = build_args

    def child(self) -> Scope:
        """The scope of a stage that is FROM this one as it is now: ARGs are inherited, too."""
        scope = Scope(self.environment, self._global, self._build_args, self.escape)
        scope.arguments = dict(self.arguments)
        scope.variables = dict(self.variables)
        return scope

    def take(self, one: Instruction, missing: Missing | None = None) -> Instruction:
        """The instruction with its variables replaced; after ARG and ENV the scope knows theirs.

        Raises:
            DockerfileError: without a place; the caller knows the file (`parse.located`).
        """
        if isinstance(one, Arg):
            return replace(one, pairs=tuple(self._argument(pair, missing) for pair in one.pairs))
        expanded = expand_instruction(one, self.variables, self.escape, missing)
        if isinstance(expanded, Env):
            values = {pair.name: pair.value or "" for pair in expanded.pairs}
            self.environment.update(values)
            self.variables.update(values)
        return expanded

    def _argument(self, pair: Pair, missing: Missing | None) -> Pair:
        value = self._build_args.get(pair.name)
        if value is None and pair.value is not None:
            found = expand(pair.value, self.variables, self.escape)
            if missing is not None:
                for name in sorted(found.missing):
                    missing(name)
            value = found.text
        elif value is None:
            value = self._global.get(pair.name)
        self.arguments[pair.name] = value
        if value is not None:
            self.variables[pair.name] = value
        return replace(pair, value=value)
