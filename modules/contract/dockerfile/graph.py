"""Runs in both worlds: which stages a target needs, and where each takes from: stages, images, contexts."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from .errors import DockerfileError
from .expand import expand
from .instructions import Copy, Dockerfile, Instruction, Onbuild, Run, Stage
from .names import did_you_mean, nearest
from .parse import located


@dataclass(frozen=True)
class Origin:
    """Where files or a base come from.

    Attributes:
        kind: `stage`, `image`, `context` (one with a name), or `scratch`.
        name: of the image or context; of a stage its title.
        stage: index of the stage, else -1.
        hint: a stage that the name of an image may have meant, for when there is no such image.
    """

    kind: str
    name: str = ""
    stage: int = -1
    hint: str = ""


@dataclass(frozen=True)
class StagePlan:
    """One stage that is needed.

    Attributes:
        platform: `os/architecture[/variant]` of its base; empty: the target's.
        origins: what `--from` and `from=` mean in it, by what is written there.
    """

    stage: Stage
    base: Origin
    platform: str
    origins: Mapping[str, Origin]

    @property
    def needs(self) -> tuple[int, ...]:
        """Indexes of the stages that must be built before."""
        found = {one.stage for one in (self.base, *self.origins.values()) if one.kind == "stage"}
        return tuple(sorted(found))


class Graph:
    """The stages of one file, with the global arguments and named contexts of one build."""

    def __init__(
        self,
        dockerfile: Dockerfile,
        arguments: Mapping[str, str],
        contexts: Collection[str] = (),
    ) -> None:
        """
        Args:
            arguments: `scope.global_arguments`.
            contexts: names of additional build contexts; one goes before a stage or an image of its name.
        """
        self.dockerfile = dockerfile
        self.arguments = arguments
        self.contexts = {name.lower(): name for name in contexts}

    def find(self, target: str) -> int:
        """Index of the stage that is the target: a name, an index, or the last one where it is empty.

        Raises:
            DockerfileError: there is none.
        """
        stages = self.dockerfile.stages
        if not target:
            return stages[-1].index
        for stage in reversed(stages):
            if stage.name == target.lower():
                return stage.index
        if (
            target.isascii()
            and target.isdecimal()
            and len(target) < 9
            and int(target) < len(stages)
        ):
            return int(target)
        names = [stage.name for stage in stages if stage.name]
        raise DockerfileError(
            f"cannot find the stage {target!r}",
            where=self.dockerfile.file,
            hint=did_you_mean(target, names) or "no stage has a name; write FROM IMAGE AS NAME",
            ref="dockerfile-target",
        )

    def needed(self, target: str = "") -> tuple[StagePlan, ...]:
        """The target's stage, last, and all that it needs, each after those it needs itself.

        Triggers of base images are not known here; `origin` says what they take from.

        Raises:
            DockerfileError: no such target; a base that cannot be; a stage that takes from a later one.
        """
        waiting = [self.find(target)]
        found: dict[int, StagePlan] = {}
        while waiting:
            index = waiting.pop()
            if index not in found:
                found[index] = self.plan(index)
                waiting.extend(found[index].needs)
        return tuple(found[index] for index in sorted(found))

    def plan(self, index: int) -> StagePlan:
        """One stage. Raises DockerfileError as `needed` does."""
        stage = self.dockerfile.stages[index]
        base, platform = self.base(stage)
        if self._replaced(stage):
            stage = replace(stage, instructions=())
        origins: dict[str, Origin] = {}
        # Triggers of a base in this file run in this stage, before its own instructions.
        for one in (*self._triggers(base), *stage.instructions):
            for name in taken_from(one):
                try:
                    origins[name] = self.origin(name, index)
                except DockerfileError as error:
                    raise self._located(error, one) from None
        return StagePlan(stage, base, platform, origins)

    def base(self, stage: Stage) -> tuple[Origin, str]:
        """Where a stage begins, and the platform of its `--platform`."""
        try:
            name = self._expand(stage.start.base)
            platform = self._expand(stage.start.platform)
            if not name:
                raise DockerfileError(
                    f"cannot use FROM {stage.start.base}: it is empty",
                    hint="give its ARG a default before the first FROM, or --build-arg",
                    ref="dockerfile-base",
                )
            if stage.start.platform and not platform:
                raise DockerfileError(
                    f"cannot use --platform={stage.start.platform}: it is empty",
                    ref="dockerfile-base",
                )
        except DockerfileError as error:
            raise self._located(error, stage.start) from None
        if self._replaced(stage):
            return Origin("context", self.contexts[stage.name]), platform
        if name == "scratch":
            return Origin("scratch", name), platform
        for earlier in reversed(self.dockerfile.stages[: stage.index]):
            if earlier.name and earlier.name == name:
                return Origin("stage", earlier.title, earlier.index), platform
        return self._outside(name), platform

    def origin(self, name: str, index: int) -> Origin:
        """What `--from=NAME` or `from=NAME` means in the stage with this index.

        Raises:
            DockerfileError: a stage that is not before it.
        """
        stages = self.dockerfile.stages
        if name.isascii() and name.isdecimal() and len(name) < 9:
            if int(name) >= len(stages):
                raise DockerfileError(
                    f"cannot take from stage {name}: there are {len(stages)}, counted from 0",
                    ref="dockerfile-stage",
                )
            return self._before(stages[int(name)], name, index)
        lower = name.lower()
        if lower == "scratch":
            return Origin("scratch", name)
        if lower in self.contexts:
            return Origin("context", self.contexts[lower])
        for stage in [*reversed(stages[:index]), *stages[index:]]:
            if stage.name and stage.name == lower:
                return self._before(stage, name, index)
        return self._outside(name)

    def _replaced(self, stage: Stage) -> bool:
        """Whether a context has the stage's name: it is the whole stage, whose instructions do not count."""
        return stage.name in self.contexts and stage.name not in ("scratch", "context")

    def _before(self, stage: Stage, name: str, index: int) -> Origin:
        if stage.index >= index:
            cause = "it is this stage itself" if stage.index == index else "it comes later"
            raise DockerfileError(
                f"cannot take from stage {name}: {cause}",
                hint="move its FROM, and what follows it, further up",
                ref="dockerfile-stage",
            )
        return Origin("stage", stage.title, stage.index)

    def _outside(self, name: str) -> Origin:
        if name.lower() in self.contexts:
            return Origin("context", self.contexts[name.lower()])
        near = nearest(name, [stage.name for stage in self.dockerfile.stages if stage.name])
        return Origin("image", name, hint=f"did you mean the stage {near}?" if near else "")

    def _triggers(self, base: Origin) -> tuple[Instruction, ...]:
        if base.kind != "stage":
            return ()
        instructions = self.dockerfile.stages[base.stage].instructions
        triggers = (one.instruction for one in instructions if isinstance(one, Onbuild))
        return tuple(one for one in triggers if one is not None)

    def _expand(self, word: str) -> str:
        return expand(word, self.arguments, self.dockerfile.directives.escape).text

    def _located(self, error: DockerfileError, one: Instruction) -> DockerfileError:
        return located(error, one.lines, self.dockerfile.source, self.dockerfile.file)


def taken_from(one: Instruction) -> tuple[str, ...]:
    """What an instruction names with `--from` and `from=`."""
    if isinstance(one, Copy):
        return (one.from_,) if one.from_ else ()
    if isinstance(one, Run):
        return tuple(mount.from_ for mount in one.mounts if mount.from_)
    return ()
