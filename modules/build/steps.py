"""Runs on the managed host: the instructions that make a layer: RUN, COPY, ADD and WORKDIR."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..contract.dockerfile import instructions as of
from ..contract.dockerfile.graph import Origin, StagePlan
from ..contract.dockerfile.scope import Scope
from ..contract.errors import HostctlError
from ..runtime.bundle_user import identity
from . import cache
from .programs import Program
from .select import Selection, blobs, contents, select
from .site import failed
from .state import State
from .trees import FILE
from .workshop import Failed

if TYPE_CHECKING:
    from . import downloads
    from .stages import Stages

LAST_LINES = 20


def do_step(
    stages: Stages,
    plan: StagePlan,
    state: State,
    scope: Scope,
    one: of.Instruction,
    place: tuple[int, int],
) -> None:
    """Do one instruction whose variables are replaced, or find what it gave before."""
    step = _Step(stages, plan, state, scope, one, place)
    if isinstance(one, of.Run):
        step.run(one)
    elif isinstance(one, (of.Copy, of.Add)):
        step.copy(one)
    elif isinstance(one, of.Workdir):
        step.workdir(one)
    else:
        raise HostctlError(f"cannot do {one.NAME}: not supported yet", ref="not-supported")


class _Step:
    def __init__(
        self,
        stages: Stages,
        plan: StagePlan,
        state: State,
        scope: Scope,
        one: of.Instruction,
        place: tuple[int, int],
    ) -> None:
        self.stages = stages
        self.site = stages.site
        self.plan = plan
        self.state = state
        self.scope = scope
        self.one = one
        self.event = {
            "event": "step",
            "stage": plan.stage.title,
            "index": place[0],
            "count": place[1],
            "text": one.text,
            "line": one.lines.first,
        }
        self.tail: deque[bytes] = deque(maxlen=LAST_LINES)
        self._partial = b""

    # RUN.

    def run(self, one: of.Run) -> None:
        program = Program(self.stages, self.plan, self.state, self.scope, one)
        key = cache.key("run", self.state.layers, program.identity(), self.site.latest)
        record = self.site.find(key)
        if record is None:
            record = self._do(key, lambda room: self._run(program, room))
        else:
            self._cached()
        self.state.add_layer(record["diff_id"], record["created"], program.history)

    def _run(self, program: Program, room: str) -> dict[str, Any]:
        with program.prepared(room) as arguments:
            done = self.site.task("run", self._output, **arguments, **self._blob(room))
        if done["code"]:
            raise Failed(
                f"cannot build: {self.one.text} ended with exit code {done['code']}",
                "",
                "build-step",
                done["code"],
            )
        return done

    def _blob(self, room: str) -> dict[str, Any]:
        wanted = self.plan.stage.index in self.stages.final
        return {
            "blob": os.path.join(room, "blob") if wanted else "",
            "latest": self.site.latest,
        }

    # COPY and ADD.

    def copy(self, one: of.AnyCopy) -> None:
        origin = Origin("context")
        if isinstance(one, of.Copy) and one.from_:
            origin = self.stages.origin(self.plan, one.from_)
        link = one.link
        layers = [] if link else self.state.layers
        owner = self._owner(one.chown)
        chosen: list[Any] = []
        selection: Selection | None = None
        fetched: list[downloads.Source] = []
        plain = list(one.sources)
        if isinstance(one, of.Add):
            from . import downloads

            plain = [source for source in plain if not downloads.is_remote(source)]
            fetched = [
                downloads.look(self.site, source, one)
                for source in one.sources
                if downloads.is_remote(source)
            ]
            self.site.asked_others = self.site.asked_others or bool(fetched)
        if origin.kind != "context":
            chosen.append([self.stages.layers_of(origin), plain])
        elif plain:
            selection = select(
                self.stages.listing(origin.name), plain, one.exclude, parents=one.parents
            )
            chosen.append(contents(selection.items, one.chmod))
        chosen.append([[item.name, item.content] for item in one.documents])
        chosen.append([item.key for item in fetched])
        destination = self.state.path(one.destination)
        unpack = isinstance(one, of.Add) and one.unpack
        is_add = isinstance(one, of.Add)
        key = cache.key(
            "copy",
            layers,
            [destination, owner, one.chmod, list(one.exclude), one.parents, is_add, unpack],
            chosen,
            self.site.latest,
        )
        record = self.site.find(key)
        if record is None:
            record = self._do(
                key,
                lambda room: self._copy(
                    one, room, layers, destination, owner, origin, plain, selection, fetched
                ),
            )
        else:
            self._cached()
        self.state.add_layer(record["diff_id"], record["created"], self.one.text)

    def _copy(
        self,
        one: of.AnyCopy,
        room: str,
        layers: list[str],
        destination: str,
        owner: list[int] | None,
        origin: Origin,
        plain: Sequence[str],
        selection: Selection | None,
        fetched: list[downloads.Source],
    ) -> dict[str, Any]:
        jobs: list[dict[str, Any]] = []
        count = len(one.sources) + len(one.documents)
        if selection is not None:
            jobs += self._local(one, selection)
        elif plain:
            jobs.append(
                {
                    "cwd": self.site.links,
                    "lower": self.site.lower(self.stages.layers_of(origin)),
                    "sources": list(plain),
                    "exclude": list(one.exclude),
                    "parents": one.parents,
                }
            )
        for number, item in enumerate(one.documents):
            path = os.path.join(room, f"document{number}")
            with open(path, "x", encoding="utf-8", errors="surrogateescape") as file:
                file.write(item.content)
            jobs.append(_document(item.name, path))
        for source in fetched:
            jobs.append(source.job(self.site, room))
        return self.site.task(
            "copy",
            self._output,
            folder=room,
            cwd=self.site.links,
            lower=self.site.lower(layers),
            jobs=jobs,
            destination=destination,
            is_folder=destination.endswith("/") or one.destination in (".", "..") or count > 1,
            chown=owner,
            chmod=one.chmod,
            **self._blob(room),
        )

    def _local(self, one: of.AnyCopy, selection: Selection) -> list[dict[str, Any]]:
        """Files of the context: they are fetched, and archives of ADD unpacked."""
        self.site.fetch(blobs(selection.items))
        jobs: list[dict[str, Any]] = []
        items = []
        for item in selection.items:
            node = item.node
            source = self.site.files.path(node.source) if node.kind == FILE else node.source
            single = item.target and "/" not in item.target and node.kind == FILE
            if isinstance(one, of.Add) and one.unpack is not False and single:
                from .archives import is_archive

                if is_archive(source):
                    jobs.append({"archive": source})
                    continue
            values = (node.kind, node.mode, 0, 0, node.mtime_ns, node.size, source, 0)
            items.append([item.target, item.path, values])
        if items:
            jobs.insert(0, {"items": items, "is_folder": selection.is_folder})
        return jobs

    def _owner(self, chown: str) -> list[int] | None:
        if not chown:
            return None
        user, sign, group = chown.partition(":")
        if not self.site.folder and not (user + group).isdigit():
            layers = [self.site.store.layer_path(item) for item in reversed(self.state.layers)]
        else:
            layers = self.site.directories(self.state.layers) if self.site.folder else []
        uid, gid, _ = identity(chown, (), layers)
        # A number alone is both; a name brings its own group.
        return [uid, uid if user.isdigit() and not sign else gid]

    # WORKDIR.

    def workdir(self, one: of.Workdir) -> None:
        path = self.state.path(one.path).rstrip("/") or "/"
        self.state.set("WorkingDir", path)
        if path == "/":
            self.state.note(one.text)
            return
        owner = self._owner(str(self.state.config.get("User") or ""))
        key = cache.key("workdir", self.state.layers, path, owner, self.site.latest)
        record = self.site.find(key)
        if record is None:
            record = self._do(key, lambda room: self._make(path, owner, room))
        else:
            self._cached()
        if record["length"] == 1024:
            self.state.note(one.text)  # it was there: two empty blocks are no layer
        else:
            self.state.add_layer(record["diff_id"], record["created"], one.text)

    def _make(self, path: str, owner: list[int] | None, room: str) -> dict[str, Any]:
        return self.site.task(
            "copy",
            self._output,
            folder=room,
            cwd=self.site.links,
            lower=self.site.lower(self.state.layers),
            jobs=[],
            destination=path,
            is_folder=True,
            chown=owner,
            chmod="",
            **self._blob(room),
        )

    # What all have in common.

    def _do(self, key: str, work: Any) -> dict[str, Any]:
        self.site.report(**self.event, state="run")
        begin = time.monotonic()
        room = self.site.room()
        try:
            done = work(room)
        except HostctlError as error:
            self._flush()
            tail = b"\n".join(self.tail).decode(errors="replace")
            shown = "".join(f"\n    | {line}" for line in tail.splitlines())
            raise failed(error.message + shown, "", error.hint, error.ref) from error
        self._flush()
        seconds = time.monotonic() - begin
        record = self.site.keep(key, room, done, seconds)
        self.site.events.append(self.event)
        self.site.report(**self.event, state="done", seconds=round(seconds, 2))
        return record

    def _cached(self) -> None:
        self.site.events.append(self.event)
        self.site.report(**self.event, state="cached")

    def _output(self, piece: bytes) -> None:
        lines = (self._partial + piece).split(b"\n")
        self._partial = lines.pop()
        for line in lines:
            self._line(line)

    def _flush(self) -> None:
        if self._partial:
            self._line(self._partial)
            self._partial = b""

    def _line(self, line: bytes) -> None:
        self.tail.append(line[:2000])
        self.site.report(
            event="log",
            stage=self.event["stage"],
            index=self.event["index"],
            count=self.event["count"],
            text=line.decode(errors="replace"),
        )


def _document(name: str, path: str) -> dict[str, Any]:
    size = os.stat(path).st_size
    return {"items": [[name, name, (FILE, 0o644, 0, 0, 0, size, path, 0)]]}
