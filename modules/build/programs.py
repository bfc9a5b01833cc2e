"""Runs on the managed host: what a RUN runs: its arguments, environment, mounts, and the container for it."""

from __future__ import annotations

import fcntl
import os
import secrets as random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from ..contract.dockerfile import instructions as of
from ..contract.dockerfile.graph import Origin, StagePlan
from ..contract.dockerfile.scope import Scope, proxy_environment
from ..contract.errors import HostctlError
from .state import DEFAULT_PATH, State, words

if TYPE_CHECKING:
    from .stages import Stages

_ETC = ("resolv.conf", "hosts", "hostname")
_PLACES = ("/proc", "/sys", "/dev", *(f"/etc/{name}" for name in _ETC))
_PIDS = 16384


class Program:
    """One RUN.

    Attributes:
        history: what the image's history says.
    """

    def __init__(
        self, stages: Stages, plan: StagePlan, state: State, scope: Scope, one: of.Run
    ) -> None:
        self.stages = stages
        self.site = stages.site
        self.plan = plan
        self.state = state
        self.one = one
        self.arguments = words(state, one.command)
        self.documents: dict[str, str] = {}
        script = one.command.shebang
        if script is not None:
            # As the kernel reads it: the interpreter, and the rest of the line as one argument.
            first = script.content.split("\n", 1)[0][2:].strip().split(None, 1)
            path = f"/dev/pipes/{script.name}"
            self.documents[path] = script.content
            self.arguments = [*first, path]
        if not self.arguments:
            raise HostctlError("cannot do RUN: there is nothing to run", ref="build-step")
        given = {name: value for name, value in scope.arguments.items() if value is not None}
        self.environment = {"PATH": DEFAULT_PATH, **state.environment}
        self.environment.update(
            {name: value for name, value in given.items() if name not in scope.environment}
        )
        listed = " ".join(f"{name}={value}" for name, value in sorted(given.items()))
        front = f"|{len(given)} {listed} " if given else ""
        self.history = f"RUN {front}{' '.join(self.arguments)}"
        self.network = one.network or self.site.build.network or "default"
        if self.network not in ("default", "host", "none"):
            raise HostctlError(
                f"cannot use network {self.network} for a build: default, host or none",
                ref="build-network",
            )
        if one.security not in ("", "sandbox"):
            raise HostctlError(
                "cannot do RUN --security=insecure: not allowed", ref="not-supported"
            )

    def identity(self) -> list[Any]:
        """What the result depends on, beside the layers below; no secret's value and no proxy."""
        return [
            self.arguments,
            sorted(self.environment.items()),
            self.state.cwd,
            str(self.state.config.get("User") or ""),
            self.network,
            sorted(self.documents.items()),
            [self._mount_identity(mount) for mount in self.one.mounts],
        ]

    def _mount_identity(self, mount: of.Mount) -> list[Any]:
        content: Any = None
        if mount.type == "bind":
            origin = self._origin(mount)
            if origin.kind == "context":
                from .select import contents, select

                listing = self.stages.listing(origin.name)
                content = contents(select(listing, [mount.source or "/"]).items, "")
            else:
                content = [self.stages.layers_of(origin), mount.source]
        return [mount.type, mount.target, mount.id, mount.env, mount.read_only, content]

    def _origin(self, mount: of.Mount) -> Origin:
        if not mount.from_:
            return Origin("context")
        return self.stages.origin(self.plan, mount.from_)

    @contextmanager
    def prepared(self, room: str) -> Iterator[dict[str, Any]]:
        """The worker's task, while what it needs is there."""
        from ..runtime.cgroup import base

        self._room = room
        self._stubs = list(_PLACES)
        self._files: list[dict[str, Any]] = []
        self._mounts: list[dict[str, Any]] = []
        self._lent_env: dict[str, str] = {}
        self._agents = 0
        with ExitStack() as stack:
            for number, mount in enumerate(self.one.mounts):
                self._add(mount, number, stack)
            for path, content in self.documents.items():
                self._file("document", path, content.encode("utf-8", "surrogateescape"), 0o755)
            yield {
                "folder": room,
                "config": self._config(),
                "cgroup": f"{base(self.site.host.paths.run)}/builds/{random.token_hex(6)}",
                "files": self._files,
                "stubs": self._stubs,
            }

    def _config(self) -> dict[str, Any]:
        from ..container import Spec, Ulimit
        from ..runtime.bundle import make_config
        from ..runtime.seccomp import build as filters
        from ..runtime.seccomp import install

        wanted = self.site.build
        ulimits = {name: Ulimit(*_pair(value)) for name, value in sorted(wanted.ulimits.items())}
        spec = Spec(
            name="build",
            image="build",
            command=tuple(self.arguments),
            entrypoint=(),
            user=str(self.state.config.get("User") or ""),
            working_dir=self.state.cwd,
            hostname="buildkitsandbox",
            network_mode="none" if self.network == "none" else "host",
            shm_size=wanted.shm_size,
            ulimits=ulimits,
            pids_limit=_PIDS,
        )
        config = make_config(
            spec,
            {},
            folder=self._room,
            layers=self.site.lower(self.state.layers),
            links_dir=self.site.links,
            volumes={},
        )
        env = {**self.environment, **proxy_environment(wanted.args), **self._lent_env}
        config["process"]["env"] = [f"{name}={value}" for name, value in env.items()]
        config["mounts"] = self._usual(config["mounts"]) + self._mounts
        if config["linux"].get("seccomp"):
            path = os.path.join(self._room, "bundle", install.FILE)
            with open(path, "xb") as file:
                file.write(filters.file_content(config["linux"]["seccomp"], os.uname().machine))
        return config

    def _usual(self, mounts: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The container's usual mounts; names of the host's network, as the program uses it."""
        found = []
        for entry in mounts:
            name = os.path.basename(entry["destination"])
            if entry["destination"] == f"/etc/{name}" and name in _ETC:
                if name == "hostname":
                    continue
                path = os.path.join(self._room, name)
                with open(path, "x", encoding="utf-8") as file:
                    file.write(self._etc(name))
                os.chmod(path, 0o644)
                entry = {**entry, "source": path, "options": ["bind", "rprivate", "ro"]}
            found.append(entry)
        return found

    def _etc(self, name: str) -> str:
        if name == "hosts":
            lines = [
                "127.0.0.1\tlocalhost buildkitsandbox",
                "::1\tlocalhost ip6-localhost ip6-loopback",
            ]
            lines += [
                f"{address}\t{host}"
                for host, address in sorted(self.site.build.extra_hosts.items())
            ]
            return "\n".join(lines) + "\n"
        if self.network == "none":
            return ""
        try:
            with open("/etc/resolv.conf", encoding="utf-8", errors="replace") as file:
                return file.read()
        except OSError:
            return ""

    # Mounts of its own.

    def _add(self, mount: of.Mount, number: int, stack: ExitStack) -> None:
        target = self.state.path(mount.target).rstrip("/") if mount.target else ""
        if mount.type == "secret":
            self._secret(mount, target)
        elif mount.type == "tmpfs":
            options = ["nosuid", "nodev", "mode=1777"]
            options += [f"size={mount.size}"] if mount.size else []
            self._mount(target, "tmpfs", "tmpfs", options)
        elif mount.type == "ssh":
            self._agent(mount, target, number, stack)
        elif mount.type == "cache":
            self._mount(target, "bind", self._cache(mount, target, stack), ["rbind", "rprivate"])
        else:
            access = "ro" if mount.read_only else "rw"
            source = self._tree(mount, number)
            self._mount(target, "bind", source, ["rbind", "rprivate", access])

    def _mount(self, target: str, kind: str, source: str, options: list[str]) -> None:
        if not target:
            raise HostctlError(f"cannot mount a {kind}: it has no target", ref="build-mount")
        self._stubs.append(target)
        self._mounts.append(
            {"destination": target, "type": kind, "source": source, "options": options}
        )

    def _secret(self, mount: of.Mount, target: str) -> None:
        name = mount.id or os.path.basename(mount.target)
        value = self.site.files.lent.secret(name)
        if value is None:
            if mount.required:
                raise HostctlError(
                    f"cannot build: the secret {name} was not given",
                    hint=f"add --secret id={name},src=FILE, or {name} to the build's secrets",
                    ref="build-secret",
                )
            return
        if mount.env:
            self._lent_env[mount.env] = value.decode(errors="surrogateescape")
        if target or not mount.env:
            mode = 0o400 if mount.mode is None else mount.mode
            self._file(name, target or f"/run/secrets/{name}", value, mode, mount)

    def _agent(self, mount: of.Mount, target: str, number: int, stack: ExitStack) -> None:
        """The socket of an SSH agent, for as long as the step takes."""
        from .lent import agent_socket

        name = mount.id or "default"
        if name not in self.site.build.ssh:
            if mount.required:
                raise HostctlError(
                    f"cannot build: the SSH agent {name} was not given",
                    hint=f"add --ssh {name}, or {name} to the build's ssh",
                    ref="build-ssh",
                )
            return
        path = os.path.join(self._room, f"agent{number}")
        mode = 0o600 if mount.mode is None else mount.mode
        ask = self.site.files.lent.agent(name)
        stack.enter_context(agent_socket(path, mount.uid or 0, mount.gid or 0, mode, ask))
        # As BuildKit counts them: agents only.
        target = target or f"/run/buildkit/ssh_agent.{self._agents}"
        self._agents += 1
        self._mount(target, "bind", path, ["rbind", "rprivate"])
        if "SSH_AUTH_SOCK" not in self.environment:
            self._lent_env.setdefault("SSH_AUTH_SOCK", target)

    def _file(
        self, name: str, target: str, value: bytes, mode: int, mount: of.Mount | None = None
    ) -> None:
        self._stubs.append(target)
        owner = mount or of.Mount()
        self._files.append(
            {
                "name": name,
                "value": value.hex(),
                "target": target,
                "uid": owner.uid or 0,
                "gid": owner.gid or 0,
                "mode": mode,
            }
        )

    def _cache(self, mount: of.Mount, target: str, stack: ExitStack) -> str:
        """A folder that stays from build to build; locked where it is not to be shared."""
        from .cache import key

        parent = os.path.join(self.site.data, "build", "mounts")
        name = key(mount.id or target, mount.from_, mount.source)[:32]
        for number in range(1000):
            path = os.path.join(parent, name if not number else f"{name}-{number}")
            os.makedirs(path, 0o700, exist_ok=True)
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            stack.callback(os.close, fd)
            how = fcntl.LOCK_SH if mount.sharing in ("", "shared") else fcntl.LOCK_EX
            if mount.sharing == "private":
                how |= fcntl.LOCK_NB
            try:
                fcntl.flock(fd, how)
            except BlockingIOError:
                continue
            break
        os.utime(path)  # the time of its last use
        inside = os.path.join(path, "data")
        if not os.path.isdir(inside):
            os.mkdir(inside)
            os.chmod(inside, 0o755 if mount.mode is None else mount.mode)
            os.chown(inside, mount.uid or 0, mount.gid or 0)
        return inside

    def _tree(self, mount: of.Mount, number: int) -> str:
        """A folder that holds what a bind shows: a copy, so that nothing written there stays."""
        origin = self._origin(mount)
        folder = os.path.join(self._room, f"bind{number}")
        os.makedirs(os.path.join(folder, "upper"))
        os.mkdir(os.path.join(folder, "work"))
        job: dict[str, Any]
        source = mount.source or "/"
        if origin.kind == "context":
            from .select import blobs, select
            from .trees import FILE

            chosen = select(self.stages.listing(origin.name), [source])
            self.site.fetch(blobs(chosen.items))
            items = []
            for item in chosen.items:
                node = item.node
                path = self.site.files.path(node.source) if node.kind == FILE else node.source
                values = (node.kind, node.mode, 0, 0, node.mtime_ns, node.size, path, 0)
                items.append([item.target, item.path, values])
            job = {"items": items, "is_folder": False}
        else:
            layers = self.site.lower(self.stages.layers_of(origin))
            job = {
                "cwd": self.site.links,
                "lower": layers,
                "sources": [source],
                "exclude": [],
                "parents": False,
            }
        self.site.task(
            "copy",
            lambda _: None,
            folder=folder,
            cwd=self.site.links,
            lower=self.site.lower([]),
            jobs=[job],
            destination="/tree",
            is_folder=False,
            chown=None,
            chmod="",
            blob="",
            latest=None,
        )
        return os.path.join(folder, "upper", "tree")


def _pair(value: Any) -> tuple[int, int]:
    if isinstance(value, dict):
        return int(value["soft"]), int(value["hard"])
    return int(value), int(value)
