"""Runs in both worlds: what `build --check` finds: BuildKit's rules with BuildKit's names and messages, and ours.

Nothing is fetched: of a base image only what the caller knows is known. So an undefined variable in a stage
whose base is not known is reported only where a name that is defined is near.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from posixpath import normpath

from .. import reference
from ..errors import HostctlError
from .errors import DockerfileError
from .expand import expand
from .graph import Graph, Origin
from .ignore import Patterns
from .instructions import (
    Add,
    Arg,
    Cmd,
    Copy,
    Dockerfile,
    Entrypoint,
    Env,
    Expose,
    Healthcheck,
    Instruction,
    Label,
    Lines,
    Maintainer,
    Shell,
    Stage,
    Workdir,
)
from .mistakes import find_mistakes
from .names import nearest
from .parse import located
from .ports import has_host
from .rules import DESCRIPTIONS, EXPERIMENTAL
from .scope import Scope, global_arguments

_WORD = r"(?i:(?:_|^)(?:{})(?:_|$))"
_SECRET = re.compile(
    _WORD.format("apikey|auth|credentials?|key|password|pword|passwd|secret|token")
)
_NO_SECRET = re.compile(_WORD.format("public|file|version"))
_URL = re.compile(r"(?:https?|git|ssh)://|git@")


@dataclass(frozen=True)
class Finding:
    """One thing that could be better.

    Attributes:
        rule: its name, for `# check=skip=`.
        lines: where.
    """

    rule: str
    message: str
    lines: Lines

    @property
    def description(self) -> str:
        return DESCRIPTIONS[self.rule]


def check(
    dockerfile: Dockerfile,
    build_args: Mapping[str, str] | None = None,
    *,
    target: str = "",
    contexts: Collection[str] = (),
    ignore: Patterns | None = None,
    environments: Mapping[str, Mapping[str, str]] | None = None,
) -> list[Finding]:
    """All findings, in the order of the file, without those that its `check` directive skips.

    Args:
        target: look at this stage and what it needs; empty: at all.
        contexts: names of additional build contexts.
        ignore: the context's .dockerignore.
        environments: variables of base images, by the name in FROM.
    Raises:
        DockerfileError: the file cannot be built, whatever its style.
    """
    run = _Check(dockerfile, build_args or {}, contexts, ignore, environments or {})
    run.file()
    needed = {plan.stage.index for plan in run.graph.needed(target)} if target else ()
    for stage in dockerfile.stages:
        if target and stage.index not in needed:
            continue
        run.stage(stage)
    directives = dockerfile.directives
    wanted = [
        one
        for one in dict.fromkeys(run.findings)
        if not {one.rule, "all"} & set(directives.skip)
        and (one.rule not in EXPERIMENTAL or {one.rule, "all"} & set(directives.experimental))
    ]
    return sorted(wanted, key=lambda one: (one.lines.first, one.rule, one.message))


def render(findings: Collection[Finding], dockerfile: Dockerfile) -> str:
    """For people: each rule and message, and the lines that it is about, as Docker shows them."""
    parts = []
    for one in findings:
        parts.append(f"WARNING: {one.rule}: {one.description}\n{one.message}\n")
        first, last = one.lines.first, min(one.lines.last, one.lines.first + 9)
        parts.append(f"{dockerfile.file}:{first}\n")
        for number in range(max(1, first - 2), min(len(dockerfile.source), last + 2) + 1):
            mark = ">>>" if first <= number <= last else "   "
            parts.append(f"{number:4} | {mark} {dockerfile.source[number - 1]}".rstrip() + "\n")
        parts.append("\n")
    count = len(findings)
    were = (
        "no warnings" if not count else f"{count} warning{'s have' if count > 1 else ' has'} been"
    )
    parts.append(f"Check complete, {were} found.\n")
    return "".join(parts)


def refuse(findings: Collection[Finding], dockerfile: Dockerfile) -> None:
    """Findings are warnings, but errors where the file says `# check=error=true`.

    Raises:
        DockerfileError: with the first finding's place and all in its message.
    """
    if findings and dockerfile.directives.error:
        first = next(iter(findings))
        count = len(findings)
        error = DockerfileError(
            f"cannot build with {count} finding{'s' * (count != 1)} of the lint, the first:"
            f" {first.rule}: {first.message}",
            hint="mend them, or take error=true out of the directive check",
            ref="dockerfile-check",
        )
        raise located(error, first.lines, dockerfile.source, dockerfile.file)


class _Check:
    """One pass over one file."""

    def __init__(
        self,
        dockerfile: Dockerfile,
        build_args: Mapping[str, str],
        contexts: Collection[str],
        ignore: Patterns | None,
        environments: Mapping[str, Mapping[str, str]],
    ) -> None:
        self.dockerfile = dockerfile
        self.build_args = build_args
        self.ignore = ignore
        self.environments = environments
        self.arguments = global_arguments(dockerfile, build_args)
        self.graph = Graph(dockerfile, self.arguments, contexts)
        self.findings: list[Finding] = []
        self.scopes: dict[int, tuple[Scope, bool, bool]] = {}
        """By stage: its variables at its end, whether its base is known, and whether WORKDIR was set."""

    def add(self, rule: str, message: str, lines: Lines) -> None:
        self.findings.append(Finding(rule, message, lines))

    def file(self) -> None:
        """What needs all stages together."""
        for warning in self.dockerfile.warnings:
            self.add(warning.rule, warning.message, warning.lines)
        self._casing()
        names = set()
        for stage in self.dockerfile.stages:
            name, lines = stage.name, stage.start.lines
            if name in ("context", "scratch"):
                self.add(
                    "ReservedStageName",
                    f'Stage name should not use the same name as reserved stage "{name}"',
                    lines,
                )
            if name and name in names:
                message = f'Duplicate stage name "{name}", stage names should be unique'
                self.add("DuplicateStageName", message, lines)
            names.add(name)
            self._from(stage)
        for one in self.dockerfile.arguments:
            self._argument(one)

    def _casing(self) -> None:
        keywords = [one for stage in self.dockerfile.stages for one in _all(stage)]
        lower = sum(one.keyword.islower() for one in keywords)
        upper = sum(one.keyword.isupper() for one in keywords)
        case, right = ("lowercase", str.lower) if lower > upper else ("uppercase", str.upper)
        for one in keywords:
            if one.keyword != right(one.keyword):
                self.add(
                    "ConsistentInstructionCasing",
                    f"Command '{one.keyword}' should match the case of the command majority ({case})",
                    one.lines,
                )

    def _from(self, stage: Stage) -> None:
        start = stage.start
        if start.written_name != start.name:
            message = f"Stage name '{start.written_name}' should be lowercase"
            self.add("StageNameCasing", message, start.lines)
        keyword, word = start.keyword, start.as_keyword
        if word and not (
            (keyword.islower() and word.islower()) or (keyword.isupper() and word.isupper())
        ):
            message = f"'{word}' and '{keyword}' keywords' casing do not match"
            self.add("FromAsCasing", message, start.lines)
        self._description(start, "build stage", (start.name,) if start.name else ())
        for text in (start.base, start.platform):
            found = expand(text, self.arguments, self.dockerfile.directives.escape)
            declared = {pair.name for one in self.dockerfile.arguments for pair in one.pairs}
            for name in sorted(found.missing - declared):
                near = nearest(name, {*self.arguments, *declared})
                hint = f" (did you mean {near}?)" if near else ""
                message = f"FROM argument '{name}' is not declared{hint}"
                self.add("UndefinedArgInFrom", message, start.lines)
        self._default_base(stage)
        if start.platform:
            self._platform(stage)

    def _default_base(self, stage: Stage) -> None:
        escape = self.dockerfile.directives.escape
        name = expand(stage.start.base, global_arguments(self.dockerfile, {}), escape).text
        try:
            if name != "scratch":
                reference.parse(name)
        except HostctlError:
            self.add(
                "InvalidDefaultArgInFrom",
                f"Default value for ARG {stage.start.base} results in empty or invalid base image name",
                stage.start.lines,
            )

    def _platform(self, stage: Stage) -> None:
        start = stage.start
        found = expand(start.platform, self.arguments, self.dockerfile.directives.escape)
        if found.used == {"TARGETPLATFORM"} and not found.missing:
            if found.text == self.arguments["TARGETPLATFORM"]:
                self.add(
                    "RedundantTargetPlatform",
                    f"Setting platform to predefined {start.platform} in FROM is redundant"
                    " as this is the default behavior",
                    start.lines,
                )
        elif not (found.used or found.missing):
            parts = filter(None, found.text.split("/")[:2])
            if not any(part in stage.name for part in parts):
                self.add(
                    "FromPlatformFlagConstDisallowed",
                    f'FROM --platform flag should not use constant value "{found.text}"',
                    start.lines,
                )

    def _description(self, one: Instruction, what: str, names: tuple[str, ...]) -> None:
        if one.comments and names and one.comments[-1].split(" ")[0] not in names:
            name = names[0] if len(names) == 1 else "<arg_key>"
            self.add(
                "InvalidDefinitionDescription",
                f"Comment for {what} should follow the format: `# {name} <description>`",
                one.lines,
            )

    def _argument(self, one: Arg) -> None:
        self._description(one, "argument", tuple(pair.name for pair in one.pairs))

    def stage(self, stage: Stage) -> None:
        """One stage, in the order of its instructions; earlier stages have been looked at."""
        base = self.graph.plan(stage.index).base
        scope, known, absolute = self._begin(base)
        last: dict[str, Instruction] = {}
        shell = False
        for one in stage.instructions:
            missing: set[str] = set()
            try:
                expanded = scope.take(one, missing.add)
            except DockerfileError as error:
                source, file = self.dockerfile.source, self.dockerfile.file
                raise located(error, one.lines, source, file) from None
            self._undefined(one, missing, scope, known)
            shell = shell or isinstance(one, Shell)
            if isinstance(one, (Cmd, Entrypoint, Healthcheck)):
                if one.NAME in last:
                    self.add(
                        "MultipleInstructionsDisallowed",
                        f"Multiple {one.NAME} instructions should not be used in the same stage"
                        " because only the last one will be used",
                        last[one.NAME].lines,
                    )
                last[one.NAME] = one
            if isinstance(expanded, Workdir):
                if not absolute and not expanded.path.startswith("/"):
                    self.add(
                        "WorkdirRelativePath",
                        f'Relative workdir "{expanded.path}" can have unexpected results if the'
                        " base image changes",
                        one.lines,
                    )
                absolute = True
            self._instruction(one, expanded, shell)
        self.scopes[stage.index] = scope, known, absolute

    def _begin(self, base: Origin) -> tuple[Scope, bool, bool]:
        if base.kind == "stage" and base.stage in self.scopes:
            scope, known, absolute = self.scopes[base.stage]
            return scope.child(), known, absolute
        known = base.kind == "scratch" or base.name in self.environments
        environment = dict(self.environments.get(base.name, {}))
        environment.setdefault(
            "PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        )
        escape = self.dockerfile.directives.escape
        return Scope(environment, self.arguments, self.build_args, escape), known, False

    def _undefined(self, one: Instruction, missing: set[str], scope: Scope, known: bool) -> None:
        for name in sorted(missing - set(scope.arguments)):
            near = nearest(name, {*scope.variables, *scope.arguments} - {"PATH"})
            if near or known:
                hint = f" (did you mean ${near}?)" if near else ""
                self.add("UndefinedVar", f"Usage of undefined variable '${name}'{hint}", one.lines)

    def _instruction(self, one: Instruction, expanded: Instruction, shell: bool) -> None:
        for rule, message in find_mistakes(one):
            self.add(rule, message, one.lines)
        if isinstance(one, Maintainer):
            message = "Maintainer instruction is deprecated in favor of using label"
            self.add("MaintainerDeprecated", message, one.lines)
        elif isinstance(one, (Cmd, Entrypoint)) and one.command.shell and not shell:
            self.add(
                "JSONArgsRecommended",
                f"JSON arguments recommended for {one.NAME} to prevent unintended behavior"
                " related to OS signals",
                one.lines,
            )
        elif isinstance(one, (Env, Label, Arg)):
            self._pairs(one)
        elif isinstance(expanded, Expose):
            self._ports(expanded)
        elif isinstance(expanded, (Copy, Add)) and self.ignore:
            self._ignored(expanded, self.ignore)

    def _pairs(self, one: Env | Label | Arg) -> None:
        if any(pair.legacy for pair in one.pairs):
            self.add(
                "LegacyKeyValueFormat",
                f'"{one.NAME} key=value" should be used instead of legacy "{one.NAME} key value" format',
                one.lines,
            )
        if isinstance(one, Label):
            return
        for pair in one.pairs:
            if _SECRET.search(pair.name) and not _NO_SECRET.search(pair.name):
                self.add(
                    "SecretsUsedInArgOrEnv",
                    "Do not use ARG or ENV instructions for sensitive data"
                    f' ({one.NAME} "{pair.name}")',
                    one.lines,
                )
        if isinstance(one, Arg):
            self._argument(one)

    def _ports(self, one: Expose) -> None:
        for port in one.ports:
            if has_host(port):
                self.add(
                    "ExposeInvalidFormat",
                    f"EXPOSE instruction should not define an IP address or host-port mapping,"
                    f" found '{port}'",
                    one.lines,
                )
            protocol = port.partition("/")[2]
            if protocol != protocol.lower():
                message = f"Defined protocol '{port}' in EXPOSE instruction should be lowercase"
                self.add("ExposeProtoCasing", message, one.lines)

    def _ignored(self, one: Copy | Add, ignore: Patterns) -> None:
        # What `!` takes back below an ignored folder cannot be told from the patterns alone.
        if ignore.negated or (isinstance(one, Copy) and one.from_):
            return
        for source in one.sources:
            path = normpath(source).lstrip("/")
            if not _URL.match(source) and path and ignore.excludes(path):
                self.add(
                    "CopyIgnoredFile",
                    f'Attempting to {one.NAME.title()} file "{path}" that is excluded by'
                    " .dockerignore",
                    one.lines,
                )


def _all(stage: Stage) -> Iterator[Instruction]:
    yield stage.start
    yield from stage.instructions
