"""Runs on the managed host: goes through the stages that a target needs, each in its order, several at once.

The page to read first. A step is looked up in the cache by all that it depends on, and done only where it is not
there. In a look (a plan) the first such step ends it.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from ..contract.build import IMAGE
from ..contract.dockerfile import instructions as of
from ..contract.dockerfile.errors import DockerfileError
from ..contract.dockerfile.graph import Graph, Origin, StagePlan
from ..contract.dockerfile.parse import located, parse, parse_trigger
from ..contract.dockerfile.scope import Platform, Scope, global_arguments
from ..contract.errors import HostctlError
from ..store.manifest import parse_platform
from .bases import base_state
from .select import blobs, select
from .site import Site
from .state import DEFAULT_PATH, State, configure
from .steps import do_step
from .trees import Listing

if TYPE_CHECKING:
    from ..contract.dockerfile.lint import Finding

AT_ONCE = 4


class _Outcome:
    """What a stage has come to. (`concurrent.futures` would bring `logging` along.)"""

    def __init__(self) -> None:
        self._ended = threading.Event()
        self._found: tuple[State, Scope] | BaseException | None = None

    def end(self, found: tuple[State, Scope] | BaseException) -> None:
        self._found = found
        self._ended.set()

    def result(self) -> tuple[State, Scope]:
        """Waits for it; raises what the stage raised."""
        self._ended.wait()
        assert self._found is not None
        if isinstance(self._found, BaseException):
            raise self._found
        return self._found


class Stages:
    """The stages of one build.

    Attributes:
        current: the instruction that a look ended at, with its stage; None before.
    """

    def __init__(self, site: Site) -> None:
        build = site.build
        self.site = site
        self.dockerfile = parse(build.dockerfile_inline, build.dockerfile or "Dockerfile")
        system, architecture, variant = parse_platform("")
        platform = Platform(system, architecture, variant)
        _check_platform(build.platforms)
        self.arguments = global_arguments(
            self.dockerfile, build.args, target=build.target, build=platform, platform=platform
        )
        self.graph = Graph(self.dockerfile, self.arguments, build.additional_contexts)
        self.plans = self.graph.needed(build.target)
        if self.dockerfile.directives.error:
            from ..contract.dockerfile import lint

            lint.refuse(self.findings(), self.dockerfile)
        self.current: tuple[StagePlan, of.Instruction] | None = None
        self._states = {plan.stage.index: _Outcome() for plan in self.plans}
        self._listings: dict[str, Listing] = {}
        self._lock = threading.Lock()
        self.final = self._chain()

    def findings(self) -> list[Finding]:
        """What the lint says of the stages that are built."""
        from ..contract.dockerfile import lint

        build = self.site.build
        target = str(self.plans[-1].stage.index)
        return lint.check(
            self.dockerfile, build.args, target=target, contexts=build.additional_contexts
        )

    def _chain(self) -> set[int]:
        """The stages whose layers are part of the image."""
        by_index = {plan.stage.index: plan for plan in self.plans}
        index, found = self.plans[-1].stage.index, set()
        while index in by_index:
            found.add(index)
            base = by_index[index].base
            index = base.stage if base.kind == "stage" else -1
        return found

    def run(self) -> State:
        """The target's state. Raises HostctlError at the first step that fails, NotBuilt in a look."""
        target = self.plans[-1].stage.index
        if len(self.plans) == 1 or not self.site.folder:
            for plan in self.plans:
                self._states[plan.stage.index].end(self._stage(plan))
            return self._states[target].result()[0]
        self.site.workshop.start()
        waiting = list(self.plans)
        threads = [
            threading.Thread(target=self._take, args=(waiting,), daemon=True)
            for _ in range(min(AT_ONCE, len(waiting)))
        ]
        for thread in threads:
            thread.start()
        try:
            for plan in self.plans:
                self._states[plan.stage.index].result()
        except BaseException:
            waiting.clear()
            self.site.workshop.close()
            raise
        finally:
            for thread in threads:
                thread.join()
        return self._states[target].result()[0]

    def ask_ahead(self) -> None:
        """Let the files come that COPY and ADD take from contexts, while the steps before them are done.

        What cannot be told before those are done, or is wrong, waits for its turn.
        """
        for plan in self.plans:
            for one in plan.stage.instructions:
                if not isinstance(one, (of.Copy, of.Add)) or any("$" in s for s in one.sources):
                    continue
                try:
                    taken = self._from_context(plan, one)
                except HostctlError:
                    continue
                self.site.files.ask(taken)

    def _from_context(self, plan: StagePlan, one: of.AnyCopy) -> set[str]:
        """Digests of the files that an instruction takes."""
        name = one.from_ if isinstance(one, of.Copy) else ""
        origin = self.origin(plan, name) if name else Origin("context")
        sources = [item for item in one.sources if "://" not in item and "@" not in item]
        if origin.kind != "context" or not sources:
            return set()
        if origin.name and self.site.build.additional_contexts[origin.name].startswith(IMAGE):
            return set()
        listing = self.listing(origin.name)
        return blobs(select(listing, sources, one.exclude, parents=one.parents).items)

    def _take(self, waiting: list[StagePlan]) -> None:
        """One thread: the next stage that nobody does. In order, so whom it waits for is being done."""
        while True:
            with self._lock:
                if not waiting:
                    return
                plan = waiting.pop(0)
            outcome = self._states[plan.stage.index]
            try:
                outcome.end(self._stage(plan))
            except BaseException as error:
                outcome.end(error)
                return

    def _stage(self, plan: StagePlan) -> tuple[State, Scope]:
        escape = self.dockerfile.directives.escape
        state, scope = self._base(plan)
        triggers = state.config.pop("OnBuild", None) or ()
        steps: list[of.Instruction] = [
            _placed(parse_trigger(text, escape), plan.stage.start) for text in triggers
        ]
        steps += plan.stage.instructions
        for number, one in enumerate(steps, 1):
            self.current = (plan, one)
            try:
                expanded = scope.take(one)
                if not configure(state, expanded):
                    do_step(self, plan, state, scope, expanded, (number, len(steps)))
            except DockerfileError as error:
                raise self._located(error, one) from None
            except HostctlError as error:
                if error.where:
                    raise
                raise self._located(error, one) from error
        return state, scope

    def _base(self, plan: StagePlan) -> tuple[State, Scope]:
        self.current = (plan, plan.stage.start)
        if plan.base.kind == "stage":
            before, scope = self._states[plan.base.stage].result()
            return before.fork(), scope.child()
        try:
            if plan.platform:
                _check_platform((plan.platform,))
            state = self.image_state(plan.base)
        except HostctlError as error:
            if error.where:
                raise
            raise self._located(error, plan.stage.start) from error
        build = self.site.build
        scope = Scope(
            state.environment, self.arguments, build.args, self.dockerfile.directives.escape
        )
        return state, scope

    def image_state(self, origin: Origin) -> State:
        """A base that is no stage."""
        if origin.kind == "scratch":
            return State(config={"Env": [f"PATH={DEFAULT_PATH}"]})
        reference = origin.name
        if origin.kind == "context":
            reference = self.site.build.additional_contexts[origin.name]
            if not reference.startswith(IMAGE):
                raise HostctlError(
                    f"cannot begin with the context {origin.name}: it is a folder, no image",
                    hint="write docker-image://REFERENCE for it",
                    ref="build-base",
                )
            reference = reference[len(IMAGE) :]
        return base_state(self.site, reference, origin.hint)

    def origin(self, plan: StagePlan, name: str) -> Origin:
        """What `--from=NAME` means in a stage."""
        found = plan.origins.get(name) or self.graph.origin(name, plan.stage.index)
        named = self.site.build.additional_contexts.get(found.name, "")
        if found.kind == "context" and named.startswith(IMAGE):
            return Origin("image", named[len(IMAGE) :])
        return found

    def layers_of(self, origin: Origin) -> list[str]:
        """The layers of a stage or image that something is taken from."""
        if origin.kind == "stage":
            return self._states[origin.stage].result()[0].layers
        return self.image_state(origin).layers

    def listing(self, name: str = "") -> Listing:
        """The context, or one with a name."""
        import json

        build = self.site.build
        digest = build.additional_contexts[name] if name else build.context
        with self._lock:
            if digest not in self._listings:
                raw = self.site.files.read(digest) if digest else b"[]"
                self._listings[digest] = Listing(json.loads(raw or b"[]"))
            return self._listings[digest]

    def where(self, one: of.Instruction) -> str:
        """File and line of an instruction."""
        return f"{self.dockerfile.file}:{one.lines.first}"

    def _located(self, error: HostctlError, one: of.Instruction) -> DockerfileError:
        found = DockerfileError(error.message, hint=error.hint, ref=error.ref)
        return located(found, one.lines, self.dockerfile.source, self.dockerfile.file)


def _placed(trigger: of.Instruction, start: of.From) -> of.Instruction:
    """A trigger stands where the FROM stands that brought it."""
    from dataclasses import replace

    return replace(trigger, lines=start.lines)


def _check_platform(wanted: tuple[str, ...]) -> None:
    own = parse_platform("")
    for text in wanted:
        if parse_platform(text)[:2] != own[:2]:
            raise HostctlError(
                f"cannot build for {text}: this host builds for {own[0]}/{own[1]} alone",
                hint="build on a host of that platform, or leave the platform out",
                ref="build-platform",
            )
