"""Runs on the controller: `hostctl exec`: a command in a running container, on one host or on many."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import click
from hostctl_host.contract.errors import HostctlError

from .options import HostOptions, host_options

if TYPE_CHECKING:
    from hostctl.fleet.session import Call, Session
    from hostctl.fleet.target import Target

    from .prefix import Prefixer

ABSENT = ("no-container", "no-image")
FAILED = 125
"""The program could not be run, for another reason than itself (126 and 127); as Docker's."""


@click.command("exec", context_settings={"allow_interspersed_args": False})
@click.argument("container")
@click.argument("words", nargs=-1, required=True, metavar="COMMAND...", type=click.UNPROCESSED)
@click.option("-i", "--interactive", is_flag=True, help="Send stdin to the command.")
@click.option("-t", "--tty", is_flag=True, help="Give the command a terminal.")
@click.option("-u", "--user", default="", metavar="USER", help="As this user.")
@click.option("-w", "--workdir", default="", metavar="PATH", help="In this folder.")
@click.option("-e", "--env", multiple=True, metavar="NAME=VALUE", help="Environment; repeatable.")
@host_options(without="ie")
def command(
    container: str,
    words: tuple[str, ...],
    interactive: bool,
    tty: bool,
    user: str,
    workdir: str,
    env: tuple[str, ...],
    hosts: HostOptions,
) -> int:
    """Run a command in a running container, on every host that has it; exit as the command does."""
    from .hosts import on_targets, targets_without_playbook

    if words[0] == "--" and len(words) > 1:  # as after kubectl's and podman-compose's exec
        words = words[1:]
    targets = targets_without_playbook(hosts)
    if interactive or tty:
        one_host(targets, f"hostctl exec -it -l {targets[0].name} {container} ...")
    arguments: dict[str, Any] = {
        "name": container,
        "command": list(words),
        "user": user,
        "workdir": workdir,
        "env": list(env),
        "stdin": interactive,
        "tty": tty,
    }
    if tty:
        from .terminal import window_size

        arguments["rows"], arguments["columns"] = window_size()
    out, err = _outputs([target.name for target in targets])

    def run(session: Session) -> int:
        from hostctl.fleet.session import call

        return _follow(call(session, "exec", arguments), session.target.name, out, err, arguments)

    return ended(on_targets(hosts, targets, run))


def one_host(targets: list[Target], instead: str) -> None:
    """Raises HostctlError where there are several: one terminal is for one program."""
    if len(targets) > 1:
        raise HostctlError(
            f"cannot attach to {len(targets)} hosts at once",
            hint=f"choose one: {instead}",
            ref="several-hosts",
        )


def ended(results: dict[str, Any]) -> int:
    """The highest exit code of a program; `FAILED` where one could not be run. Failures are said on stderr."""
    from .hosts import report_failures

    results = without_absent(results)
    codes = [code for code in results.values() if isinstance(code, int)]
    return max([*codes, FAILED if report_failures(results) else 0])


def without_absent(results: dict[str, Any]) -> dict[str, Any]:
    """The results of those hosts that have the container or image, where at least one has it."""
    here = {
        name: result
        for name, result in results.items()
        if not (isinstance(result, HostctlError) and result.ref in ABSENT)
    }
    return here or results


def _outputs(names: list[str]) -> tuple[Prefixer, Prefixer]:
    from hostctl.report.style import Style

    from .prefix import Prefixer

    pair = tuple(
        Prefixer(stream.buffer, Style.of(stream), prefixed=len(names) > 1)
        for stream in (sys.stdout, sys.stderr)
    )
    for output in pair:
        output.expect(names)
    return pair[0], pair[1]


def _follow(
    answer: Call, host: str, out: Prefixer, err: Prefixer, arguments: dict[str, Any]
) -> int:
    """Until the command ends: its output here, our input there."""
    with ExitStack() as stack:
        if arguments["tty"] and sys.stdin.isatty():
            from .terminal import on_resize, raw_terminal

            stack.enter_context(raw_terminal())
            stack.enter_context(on_resize(answer.resize))
        if arguments["stdin"]:
            from .terminal import pump_stdin

            pump_stdin(answer.stdin, answer.eof)
        for header, body in answer:
            if header["type"] == "data":
                (err if header.get("stream") == "stderr" else out).write(host, body)
    out.finish(host)
    err.finish(host)
    return answer.code or 0
