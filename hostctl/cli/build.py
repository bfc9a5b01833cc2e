"""Runs on the controller: `hostctl build`: an image from a Dockerfile, on this machine or on chosen hosts."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from hostctl_host.contract.errors import HostctlError

from .options import HostOptions, host_options

if TYPE_CHECKING:
    from hostctl.credentials import Lent, Logins
    from hostctl.desired.content import Content
    from hostctl.fleet.session import Session

MODE = "store"


@click.command("build")
@click.argument("path", default=".", metavar="PATH")
@click.option("-t", "--tag", "tags", multiple=True, metavar="NAME", help="Its name; repeatable.")
@click.option("-f", "--file", "file", default="", metavar="FILE", help="Default: PATH/Dockerfile.")
@click.option("--target", default="", metavar="STAGE", help="Build only up to this stage.")
@click.option(
    "--build-arg",
    "arguments",
    multiple=True,
    metavar="NAME[=VALUE]",
    help="An ARG's value; without one, that of the environment; repeatable.",
)
@click.option(
    "--secret",
    "secrets",
    multiple=True,
    metavar="id=ID,src=FILE|env=NAME",
    help="For RUN --mount=type=secret; repeatable.",
)
@click.option(
    "--ssh",
    "agents",
    multiple=True,
    metavar="ID[=SOCKET|KEY[,KEY]]",
    help="For RUN --mount=type=ssh: `default` is your SSH agent; repeatable.",
)
@click.option("--no-cache", is_flag=True, help="Do every step again.")
@click.option("--pull", is_flag=True, help="Ask registries for newer base images.")
@click.option("--check", is_flag=True, help="Only check the Dockerfile.")
@click.option("--label", "labels", multiple=True, metavar="NAME=VALUE", help="Repeatable.")
@click.option("--network", default="", metavar="MODE", help="Of RUN: default, host or none.")
@click.option("--add-host", "hosts_", multiple=True, metavar="NAME:ADDRESS", help="Repeatable.")
@click.option("--shm-size", default="", metavar="SIZE", help="Of /dev/shm, such as 128m.")
@click.option("--ulimit", "ulimits", multiple=True, metavar="NAME=SOFT[:HARD]", help="Of RUN.")
@click.option("--build-context", "contexts", multiple=True, metavar="NAME=PATH", help="Repeatable.")
@click.option("--platform", default="", metavar="OS/ARCH", help="The host's own alone.")
@click.option("--iidfile", default="", metavar="FILE", help="Write the image's id there.")
@click.option("-q", "--quiet", is_flag=True, help="Print only the image's id.")
@click.option(
    "--progress", type=click.Choice(["auto", "plain", "quiet"]), default="auto", show_default=True
)
@host_options(without="f")
def command(path: str, file: str, hosts: HostOptions, **options: Any) -> int:
    """Build an image from a Dockerfile. PATH is the context; `-` reads the Dockerfile from stdin."""
    dockerfile, text = _dockerfile(path, file)
    if options["check"]:
        return _check(path, text, dockerfile, options)
    from hostctl_host.contract.reference import parse_tag

    from hostctl.fleet.ahead import Ahead
    from hostctl.fleet.target import Target

    for name in options["tags"]:
        parse_tag(name)
    from .hosts import connections, on_targets, session_options

    variables = connections(hosts)
    targets = [Target.from_vars(name, found) for name, found in variables.items()]
    quiet = options["quiet"] or options["progress"] == "quiet"
    sessions = session_options(hosts)
    with Ahead(MODE, sessions, hosts.forks) as ahead:
        # The agents start while the context is read.
        ahead.open(targets)
        from hostctl.desired.content import Content

        content = Content()
        build = _request(content, path, dockerfile, text, options)
        asked = Asked(variables, build, _lent(options))
        arguments = {"build": build, "names": list(options["tags"])}

        def run(session: Session) -> str:
            shown = None if quiet else Shown(session.target.name if len(targets) > 1 else "")
            return _follow(session, content, arguments, asked, shown)

        results = on_targets(hosts, targets, run, MODE, ahead, sessions)
    return _reported(results, options)


def _dockerfile(path: str, file: str) -> tuple[Path | None, str]:
    if path == "-" or file == "-":
        return None, _text(sys.stdin.buffer.read())
    place = Path(file) if file else Path(path) / "Dockerfile"
    if not file and not place.exists() and (Path(path) / "Containerfile").exists():
        place = Path(path) / "Containerfile"
    try:
        return place, _text(place.read_bytes())
    except OSError as error:
        raise HostctlError(
            f"cannot read the Dockerfile {place}: {error.strerror}",
            hint="name it with -f, or give the folder that holds it",
            ref="dockerfile-missing",
        ) from error


def _text(raw: bytes) -> str:
    """As it is written: a heredoc keeps the ends of its lines."""
    return raw.decode("utf-8", "surrogateescape")


def _check(path: str, text: str, place: Path | None, options: dict[str, Any]) -> int:
    from .checking import check_dockerfile

    return check_dockerfile(
        text,
        place,
        Path(path) if path != "-" else None,
        arguments=_pairs(options["arguments"], environment=True),
        target=options["target"],
        contexts=_pairs(options["contexts"]),
    )


def _request(
    content: Content, path: str, dockerfile: Path | None, text: str, options: dict[str, Any]
) -> dict[str, Any]:
    """The build as it travels (`contract/build.py`, encoded)."""
    from hostctl_host.contract.build import Build
    from hostctl_host.contract.fields import parse_size
    from hostctl_host.contract.spec import encode

    from hostctl.desired.context import listing

    folder = Path(path)
    if path != "-" and not folder.is_dir():
        raise HostctlError(
            f"cannot use the context {path}: it is no folder",
            hint="give the folder that holds the files, and the Dockerfile with -f",
            ref="build-context",
        )
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    arguments = _pairs(options["arguments"], environment=True)
    epoch = arguments.get("SOURCE_DATE_EPOCH", epoch)
    if epoch and not epoch.isdecimal():
        raise HostctlError(f"cannot use SOURCE_DATE_EPOCH={epoch}: it is no number of seconds")
    contexts = {
        name: where if where.startswith("docker-image://") else listing(content, Path(where), None)
        for name, where in _pairs(options["contexts"]).items()
    }
    build = Build(
        context="" if path == "-" else listing(content, folder, dockerfile),
        dockerfile=str(dockerfile or "Dockerfile"),
        dockerfile_inline=text,
        args=arguments,
        target=options["target"],
        labels=_pairs(options["labels"]),
        no_cache=options["no_cache"],
        pull=options["pull"],
        ssh=tuple(sorted(_agents(options["agents"]))),
        network=options["network"],
        shm_size=parse_size(options["shm_size"]) if options["shm_size"] else 0,
        ulimits=_ulimits(options["ulimits"]),
        additional_contexts=contexts,
        extra_hosts=dict(item.partition(":")[::2] for item in options["hosts_"]),
        platforms=(options["platform"],) if options["platform"] else (),
        epoch=int(epoch) if epoch else -1,
    )
    found: dict[str, Any] = encode(build)
    return found


def _ulimits(items: tuple[str, ...]) -> dict[str, dict[str, int]]:
    found = {}
    for item in items:
        name, _, values = item.partition("=")
        soft, _, hard = values.partition(":")
        try:
            found[name] = {"soft": int(soft), "hard": int(hard or soft)}
        except ValueError:
            raise HostctlError(
                f"cannot use --ulimit {item}", hint="write NAME=SOFT or NAME=SOFT:HARD", ref="usage"
            ) from None
    return found


def _pairs(items: tuple[str, ...], *, environment: bool = False) -> dict[str, str]:
    found = {}
    for item in items:
        name, sign, value = item.partition("=")
        if not sign and environment:
            if name not in os.environ:
                continue
            value = os.environ[name]
        found[name] = value
    return found


def _lent(options: dict[str, Any]) -> Lent:
    """What the build's steps may ask for."""
    from hostctl.credentials import Lent

    lent = Lent()
    for name, value in _secrets(options["secrets"]).items():
        lent.secret("", name, value)
    for name, sources in _agents(options["agents"]).items():
        lent.agent("", name, sources)
    lent.check()
    return lent


def _agents(items: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """Id -> socket or key files, as docker build reads them."""
    found = {}
    for item in items:
        name, _, given = item.partition("=")
        found[name or "default"] = tuple(path for path in given.split(",") if path)
    return found


def _secrets(items: tuple[str, ...]) -> dict[str, bytes]:
    """Id -> value, as docker build reads them: a file, or a variable of the environment."""
    found = {}
    for item in items:
        fields = dict(part.partition("=")[::2] for part in item.split(","))
        source = fields.get("src") or fields.get("source") or ""
        name = fields.get("id") or source or fields.get("env", "")
        variable = fields.get("env") or ("" if source else name)
        try:
            found[name] = (
                Path(source).read_bytes() if source else os.environb[os.fsencode(variable)]
            )
        except (OSError, KeyError):
            raise HostctlError(
                f"cannot read the secret {name}: there is no {source or f'variable {variable}'}",
                hint="write --secret id=NAME,src=FILE or id=NAME,env=VARIABLE",
                ref="build-secret",
            ) from None
    return found


class Asked:
    """What a host is told only if it asks: one that has built the very same before needs none of it.

    Args:
        variables: host -> its connection variables.
    """

    def __init__(
        self,
        variables: dict[str, dict[str, Any]],
        build: dict[str, Any],
        lent: Lent,
    ) -> None:
        self._variables = variables
        self._build = build
        self._lent = lent
        self._lock = threading.Lock()
        self._keyring: Logins | None = None
        self._logins: dict[str, Logins] = {}

    def fields(self, host: str) -> dict[str, Any]:
        """Of the frame `told`: the logins of its base images, settings of registries."""
        from hostctl.credentials import bases

        return self._of(host).for_references(bases(self._build))

    def reply(self, host: str, frame: dict[str, Any]) -> dict[str, Any]:
        """The `answer` frame to a `question`."""
        return self._of(host).reply(frame)

    def _of(self, host: str) -> Logins:
        from hostctl.credentials import Logins

        with self._lock:
            self._keyring = self._keyring or Logins(lent=self._lent)
            if host not in self._logins:
                self._logins[host] = self._keyring.of(host, self._variables[host])
                self._logins[host].building.add("")
            return self._logins[host]

    def held(self, host: str) -> bool:
        """Whether there are rules for what may be built from, so that nothing is to be taken from memory."""
        return self._variables[host].get("hostctl_trust") is not None


def _reported(results: dict[str, Any], options: dict[str, Any]) -> int:
    """The ids on stdout and in --iidfile, failures on stderr; the exit code."""
    from .hosts import report_failures

    ids = sorted({result for result in results.values() if isinstance(result, str)})
    for one in ids:
        click.echo(f"sha256:{one}")
    if options["iidfile"] and len(ids) == 1:
        Path(options["iidfile"]).write_text(f"sha256:{ids[0]}")
    return report_failures(results)


def _follow(
    session: Session,
    content: Content,
    arguments: dict[str, Any],
    asked: Asked,
    shown: Shown | None,
) -> str:
    """Until the image is there: its id (hex)."""
    from hostctl.fleet.session import call, send_blob

    image, name = "", session.target.name
    arguments = {**arguments, "held": asked.held(name)}
    for header, _ in call(session, "build", arguments, lambda frame: asked.reply(name, frame)):
        if header["type"] == "need":
            for digest in header["digests"]:
                send_blob(session, digest, content.read(digest))
        elif header["type"] == "want":
            session.send({"type": "told", **asked.fields(session.target.name)})
        elif header["type"] == "row":
            event = header["data"]
            if event["event"] == "image":
                image = event["id"]
            elif shown is not None:
                shown.event(event)
    if shown is not None:
        shown.end()
    return image


class Shown:
    """The build's progress as plain lines on stderr."""

    def __init__(self, host: str) -> None:
        self._prefix = f"{host}: " if host else ""
        self._warnings: list[str] = []

    def event(self, event: dict[str, Any]) -> None:
        """Show one row of the agent's answer."""
        place = ""
        if event.get("stage"):
            place = f"[{event['stage']} {event['index']}/{event['count']}] "
        text = event.get("text", "")
        if event["event"] == "warning":
            self._warnings.append(f" - {event['rule']}: {text} (line {event['line']})")
            return
        if event["event"] == "step":
            ending = {"cached": " (cached)", "done": f" ({event.get('seconds', 0):g} s)"}
            if event["state"] == "done":
                return
            text += ending.get(event["state"], "")
            sys.stderr.write(f"{self._prefix}{place}{text}\n")
        else:
            sys.stderr.write(f"{self._prefix}{place}| {text}\n")
        sys.stderr.flush()

    def end(self) -> None:
        """What the lint has found comes last, where it is seen."""
        count = len(self._warnings)
        if count:
            title = f"{count} warning{'s' if count > 1 else ''} found (hostctl build --check shows more):"
            for line in (title, *self._warnings):
                sys.stderr.write(f"{self._prefix}{line}\n")
