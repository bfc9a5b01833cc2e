"""Runs on the controller: `hostctl attach`: this terminal as a running container's input and output."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING

import click

from .options import HostOptions, host_options

if TYPE_CHECKING:
    from hostctl.fleet.session import Call, Session

    from .terminal import Keys


@click.command("attach")
@click.argument("container")
@click.option("--no-stdin", is_flag=True, help="Only show its output.")
@click.option(
    "--sig-proxy/--no-sig-proxy",
    default=True,
    help="Send signals on to it (without a terminal; the default).",
)
@click.option(
    "--detach-keys",
    default=None,
    metavar="KEYS",
    help="Leave a container with a terminal running (ctrl-p,ctrl-q).",
)
@host_options()
def command(
    container: str, no_stdin: bool, sig_proxy: bool, detach_keys: str | None, hosts: HostOptions
) -> int:
    """Attach to a running container; exit as it does."""
    from .exec import ended, one_host
    from .hosts import on_targets, targets_without_playbook
    from .terminal import DETACH_KEYS, Keys

    keys = Keys(DETACH_KEYS if detach_keys is None else detach_keys)
    targets = targets_without_playbook(hosts)
    one_host(targets, f"hostctl attach -l {targets[0].name} {container}")

    def run(session: Session) -> int:
        from hostctl.fleet.session import call

        answer = call(session, "attach", {"name": container, "stdin": not no_stdin})
        return _follow(answer, keys, no_stdin=no_stdin, sig_proxy=sig_proxy)

    return ended(on_targets(hosts, targets, run))


def _follow(answer: Call, keys: Keys, *, no_stdin: bool, sig_proxy: bool) -> int:
    """Until the container ends, or somebody detaches."""
    from .terminal import PROXIED, on_resize, on_signals, pump_stdin, raw_terminal

    with ExitStack() as stack:
        for header, body in answer:
            if header["type"] == "row":
                tty = bool(header["data"]["tty"])
                typed = bool(header["data"]["stdin"]) and not no_stdin
                if tty and sys.stdout.isatty():
                    stack.enter_context(on_resize(answer.resize))
                if tty and typed and sys.stdin.isatty():
                    stack.enter_context(raw_terminal())
                if sig_proxy and not tty:
                    stack.enter_context(on_signals(PROXIED, answer.signal))
                if typed:
                    pump_stdin(answer.stdin, answer.eof, keys if tty else None, answer.detach)
            elif header["type"] == "data":
                stream = sys.stderr if header.get("stream") == "stderr" else sys.stdout
                stream.buffer.write(body)
                stream.buffer.flush()
    return answer.code or 0
