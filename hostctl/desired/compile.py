"""Runs on the controller: a playbook and an inventory into the programs of all hosts, before any is touched.

What only rendering needs is imported where rendering begins: by then it is known which hosts are meant, and
they can be dialled meanwhile (`on_plays`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hostctl_host.contract.errors import HostctlError

from ..credentials import Logins
from ..inventory import Inventory, InventoryHost
from ..inventory.files import read_variables
from ..playbook.errors import Collector, PlaybookErrors
from ..playbook.keys import LOCAL
from ..playbook.kinds import Kinds
from ..playbook.model import Play, Task
from ..playbook.parse import parse_playbook
from ..template import Deferred, Engine, Scope, TemplateError, UnknownResult
from ..template.engine import has_template, is_template
from .names import Ids
from .plays import CompiledPlay, Program, batches, yard_of
from .tags import Tags
from .variables import HostState, connection_variables, scope_for

if TYPE_CHECKING:
    from ..fleet.yard import Yard
    from .content import Content
    from .draft import Rendered
    from .graph import GraphLowering
    from .pins import Pins
    from .program import HostProgram
    from .render import Renderer


def compile_playbook(
    path: Path | str,
    inventory: Inventory,
    *,
    limit: str = "",
    tags: Iterable[str] = (),
    skip_tags: Iterable[str] = (),
    extra_vars: Mapping[str, Any] | None = None,
    prune: bool = False,
    check_mode: bool = False,
    pins: Pins | None = None,
    on_plays: Callable[[list[CompiledPlay]], None] = lambda _: None,
) -> Program:
    """Read, check and render a playbook for all its hosts.

    Args:
        check_mode: what `ansible_check_mode` says: True where nothing will be done.
        pins: the playbook's lock file, where there is one.
        on_plays: called as soon as it is known which hosts are meant and how they are reached, before
            anything is rendered for them, if nothing was wrong so far.
    Raises:
        PlaybookErrors: everything that is wrong with it, at once.
    """
    compiler = _Compiler(
        Path(path), inventory, Tags.of(tags, skip_tags), dict(extra_vars or {}), prune, check_mode
    )
    compiler.pins = pins
    try:
        return compiler.program(limit, on_plays)
    except PlaybookErrors:
        raise
    except HostctlError as error:
        compiler.errors.take(error)
        raise PlaybookErrors(compiler.errors.errors) from error


class _Compiler:
    def __init__(
        self,
        path: Path,
        inventory: Inventory,
        tags: Tags,
        extra: dict[str, Any],
        prune: bool,
        check_mode: bool,
    ) -> None:
        self.path = path
        self.inventory = inventory
        self.tags = tags
        self.extra = extra
        self.prune = prune
        self.check_mode = check_mode
        self.errors = Collector()
        self.kinds = Kinds(path.parent)
        self.engine = Engine(path.parent)
        self.logins = Logins()
        self.states: dict[str, HostState] = {}
        self.ids: dict[tuple[str, str], Ids] = {}
        self.pins: Pins | None = None

    def program(self, limit: str, on_plays: Callable[[list[CompiledPlay]], None]) -> Program:
        chosen = self._limit(limit)
        book = parse_playbook(self.path, self.kinds.names, self.errors)
        plays = [self._play(play, chosen) for play in book.plays]
        if not self.errors.errors:
            on_plays(plays)
        for compiled in plays:
            self._fill(compiled)
        self._several_plays(plays)
        for play in plays:
            self._check_static(play.play)
            self._trials(play)
            if play.yard is not None:
                self._add_builders(play, play.yard)
        self.errors.check()
        for state in self.states.values():
            state.restart()
        return Program(self.path, plays, self.kinds, self._source())

    @cached_property
    def content(self) -> Content:
        from .content import Content

        return Content()

    @cached_property
    def renderer(self) -> Renderer:
        from .render import Renderer

        return Renderer(self.engine, self.kinds, self.content)

    def _lowering(self, play: Play) -> GraphLowering:
        from .graph import GraphLowering

        return GraphLowering(play, self.engine, self.kinds, self.content, self.logins.lent)

    def _trials(self, play: CompiledPlay) -> None:
        """Render for every host; an error that not all of them have names those that do."""
        found: dict[tuple[str, str], tuple[HostctlError, list[str]]] = {}
        for name, program in play.programs.items():
            own = Collector()
            program.trial(own)
            for error in own.errors:
                found.setdefault((error.message, error.where), (error, []))[1].append(name)
        for error, names in found.values():
            if len(names) < len(play.programs):
                shown = ", ".join(names[:3]) + (
                    f" and {len(names) - 3} more" if len(names) > 3 else ""
                )
                error.message += f" (on {shown})"
            self.errors.take(error)

    def _limit(self, limit: str) -> set[str] | None:
        if not limit:
            return None
        try:
            return {host.name for host in self.inventory.select(limit, "--limit")}
        except HostctlError as error:
            self.errors.take(error)
            return None

    def _play(self, play: Play, chosen: set[str] | None) -> CompiledPlay:
        hosts = [host for host in self._hosts(play) if chosen is None or host.name in chosen]
        tasks = [task for task in play.tasks if self.tags.wants((*play.tags, *task.tags))]
        groups = batches(hosts, play.serial)
        reached = {host.name: self._connection(host, play) for host in hosts}
        return CompiledPlay(play.name, play.project, play, hosts, groups, tasks, reached)

    def _fill(self, compiled: CompiledPlay) -> None:
        """What each host of the play is told."""
        play = compiled.play
        files = self._vars_files(play)
        graph = self._lowering(play)
        compiled.yard = yard_of(compiled, pinning=self.pins is not None and self.pins.refresh)
        wanted = not graph.empty and self.tags.wants(play.tags)
        # what holds no template is the same on all hosts: rendered once
        shared: dict[int, Rendered | None] = {
            id(task): None for task in compiled.tasks if _is_static(task, play)
        }
        for host in compiled.hosts:
            compiled.programs[host.name] = self._host_program(
                host, compiled, graph if wanted else None, files, shared
            )

    def _host_program(
        self,
        host: InventoryHost,
        compiled: CompiledPlay,
        graph: GraphLowering | None,
        files: list[dict[str, Any]],
        shared: dict[int, Rendered | None],
    ) -> HostProgram:
        from hostctl_host.contract.document import Document

        from .program import HostProgram

        play = compiled.play
        names = [one.name for one in compiled.hosts]
        batch = next(
            ([one.name for one in group] for group in compiled.groups if host in group), names
        )
        magic: dict[str, Any] = {
            "ansible_play_hosts": names,
            "ansible_play_hosts_all": names,
            "ansible_play_batch": batch,
        }
        magic.update(ansible_play_name=play.name, play_hosts=names)
        magic.update(ansible_check_mode=self.check_mode)

        def scope() -> Scope:
            return scope_for(
                host.name,
                self.inventory,
                self.engine,
                self.states.setdefault(host.name, HostState()),
                states=self.states,
                extra=self.extra,
                files=files,
                play=play.vars,
                magic=magic,
            )

        program = HostProgram(
            host,
            play,
            compiled.tasks,
            graph.lower if graph else None,
            renderer=self.renderer,
            scope=scope,
            state=self.states.setdefault(host.name, HostState()),
            ids=self.ids.setdefault((host.name, play.project), Ids()),
            options=Document(
                project=play.project,
                source=self._source(),
                prune=self.prune or play.prune,
                partial=self.tags.limited,
            ),
            shared=shared,
        )
        program.become = compiled.become
        program.connection = compiled.connections[host.name]
        program.logins = self.logins.of(host.name, program.connection, self.errors.take)
        program.pins = self.pins
        if compiled.yard is not None:
            from ..fleet.dock import Dock

            on_pin = self.pins.take if self.pins else None
            program.dock = Dock(compiled.yard, host.name, on_pin=on_pin)
        return program

    def _add_builders(self, compiled: CompiledPlay, yard: Yard) -> None:
        """Hosts that `on:` names and that are not among the first that are reached."""
        from .elsewhere import Builder, builders_of

        for host in builders_of(compiled, self.inventory, self.errors):
            connection = self._connection(host, compiled.play)
            compiled.builders[host.name] = Builder(
                host,
                compiled.project,
                self._source(),
                yard,
                self.content,
                connection,
                self.logins.of(host.name, connection, self.errors.take),
            )

    def _connection(self, host: InventoryHost, play: Play) -> dict[str, Any]:
        inventory_scope = scope_for(
            host.name,
            self.inventory,
            self.engine,
            HostState(facts={}),
            extra=self.extra,
            play=play.vars,
        )
        try:
            found = connection_variables(host.name, self.inventory, self.engine, inventory_scope)
        except TemplateError as error:
            self.errors.take(error)
            return {}
        except (Deferred, UnknownResult):
            return {}
        return {
            **{key: value for key, value in play.connection.items() if key not in found},
            **found,
        }

    def _hosts(self, play: Play) -> list[InventoryHost]:
        if not play.hosts:
            return []
        pattern = play.hosts
        place = play.place("hosts")
        try:
            if is_template(pattern):
                scope = Scope([self.extra, play.vars], self.engine.value)
                value = self.engine.text(scope, pattern, place)
                pattern = ",".join(value) if isinstance(value, list) else str(value)
            return self.inventory.select(pattern, str(place))
        except TemplateError as error:
            self.errors.take(error)
        except HostctlError as error:
            self.errors.take(error)
        return []

    def _vars_files(self, play: Play) -> list[dict[str, Any]]:
        out = []
        for index, raw in enumerate(play.vars_files):
            place = play.place("vars_files", index)
            try:
                scope = Scope([self.extra, play.vars], self.engine.value)
                name = str(self.engine.text(scope, raw, place)) if is_template(raw) else str(raw)
                path = self.engine.find(name, "vars")
                if path is None:
                    self.errors.add(
                        f"cannot find the variables {name}", where=place, ref="file-missing"
                    )
                    continue
                out.append(read_variables(os.fspath(path)))
            except HostctlError as error:
                self.errors.take(error)
        return out

    def _check_static(self, play: Play) -> None:
        """Keys of every task and section, also of those that have to wait or are not for any host."""
        from .validate import check_keys

        for task in (*play.tasks, *play.handlers):
            if task.kind not in LOCAL:
                spec, where = self.kinds.spec(task.kind), task.args_where
                extra = frozenset(("env_file",) if task.kind == "container" else ())
                check_keys(spec, task.kind, task.args, where, self.errors, extra)
            if task.become is False and play.become:
                self.errors.add(
                    "not supported yet: become: false in a play that becomes",
                    where=task.place("become"),
                    ref="not-supported",
                )
        if play.environment and not any(
            task.kind == "command" for task in (*play.tasks, *play.handlers)
        ):
            self.errors.add(
                "not supported yet: environment of a play without command tasks",
                where=play.place("environment"),
                hint="containers have an environment of their own; no other kind runs a program of yours",
                ref="not-supported",
            )
        self._lowering(play).check(self.errors)
        seen: dict[str, Task] = {}
        for handler in play.handlers:
            if handler.name in seen:
                self.errors.add(
                    f"cannot use the handler {handler.name} twice",
                    where=handler.where,
                    ref="handler-twice",
                )
            seen[handler.name] = handler

    def _several_plays(self, plays: list[CompiledPlay]) -> None:
        """Plays of one project on one host: each documents a part; what none of them has shows in the last.

        Not in the first: what waits for results in later plays has no ids yet.
        """
        parts: dict[tuple[str, str], list[HostProgram]] = {}
        for play in plays:
            for name, program in play.programs.items():
                parts.setdefault((name, play.project), []).append(program)
        for several in parts.values():
            if len(several) > 1:
                *early, last = several
                for program in early:
                    program.leave_rest()
                last.complete(self.prune or any(one.play.prune for one in several))

    def _source(self) -> str:
        import pwd

        try:
            user = pwd.getpwuid(os.getuid()).pw_name
        except KeyError:
            user = str(os.getuid())
        return f"{user}@{os.uname().nodename}:{os.path.abspath(self.path)}"


def _is_static(task: Task, play: Play) -> bool:
    plain = all(isinstance(condition, bool) for condition in task.when)
    parts = (task.args, task.loop, task.name, task.label, list(task.notify))
    flags = (task.ignore_errors, task.no_log)
    return (
        plain
        and task.kind not in ("template", "container")
        and task.kind not in LOCAL
        and not any(has_template(part) for part in (*parts, *flags))
        and not (task.kind == "command" and has_template(play.environment))
        and not any(isinstance(flag, str) for flag in (*flags, play.no_log))
    )
