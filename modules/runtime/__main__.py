"""Runs on the managed host: the OCI runtime's command line, `python3 -m hostctl_host.runtime VERB`.

A verb's file is imported when it is used: podman calls three to five of them for each container.
"""

from __future__ import annotations

import sys

from ..contract.errors import HostctlError
from .cli.context import GLOBAL, Context
from .cli.options import Option, help_of, parse, usage

VERBS = {
    "create": ("making", "make a container that waits for `start`"),
    "start": ("starting", "execute the program of a created container"),
    "run": ("making", "create and start a container, and wait for its end"),
    "state": ("querying", "what a container is, as JSON"),
    "list": ("querying", "all containers"),
    "kill": ("ending", "send a signal to a container"),
    "delete": ("ending", "remove what is left of a container"),
    "exec": ("executing", "run a further program in a container"),
    "ps": ("counting", "the processes of a container"),
    "events": ("counting", "what a container uses, and whether its memory ran out"),
    "pause": ("limiting", "stop all processes of a container for the time being"),
    "resume": ("limiting", "let them go on"),
    "update": ("limiting", "change the limits of a container"),
    "spec": ("describing", "write a config.json to start from"),
    "features": ("describing", "what this runtime can do, as JSON"),
    "wrapper": ("wrapping", "write an executable for `podman --runtime`"),
}
"""Verb -> the file in `cli/` that has the function of its name, and what it does."""
_ENTERING = ("create", "run", "exec")
_HELP = Option("-h -? --help", "", "this text")


def main(words: list[str]) -> int:
    """The exit code: 0, 1 after an error, or that of the program that was run."""
    context = None
    try:
        options, rest = parse(GLOBAL, words, most=0)
        context = Context(options)
        if options.on("version"):
            from .cli.describing import version

            return version()
        verb = rest[0] if rest else ""
        if options.on("help") or verb in ("", "help"):
            sys.stdout.write(_overview())
            return 0 if options.on("help") or verb else 1
        if verb not in VERBS:
            raise usage(f"there is no verb {verb}")
        if verb in _ENTERING:
            from .guard import ensure

            ensure()
        return _run(verb, context, rest[1:])
    except HostctlError as error:
        return _failed(context, error)
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            return 1
        what = f": {error.filename}" if error.filename else ""
        return _failed(context, HostctlError(f"cannot go on{what}: {error.strerror or error}"))
    except Exception as error:
        return _failed(context, HostctlError(f"cannot go on: {type(error).__name__}: {error}"))


def _failed(context: Context | None, error: HostctlError) -> int:
    if context is None:
        sys.stderr.write(f"{error}\n")
    else:
        context.fail(error)
        if context.debug:
            import traceback

            traceback.print_exc()
    return 1


def _run(verb: str, context: Context, words: list[str]) -> int:
    from importlib import import_module

    module = import_module(f".cli.{VERBS[verb][0]}", __package__)
    act, table, arguments, most = module.COMMANDS[verb]
    options, rest = parse((*table, _HELP), words, most=most)
    if options.on("help"):
        sys.stdout.write(
            f"Usage: {verb} [OPTION...] {arguments}\n\n{VERBS[verb][1]}\n\n"
            + help_of((*table, _HELP))
        )
        return 0
    # Without the other words: they may hold a program's environment.
    context.log("debug", f"{verb} {rest[0] if rest else ''}".rstrip())
    result: int = act(context, options, rest)
    return result


def _overview() -> str:
    verbs = "".join(f"  {verb:<10} {text}\n" for verb, (_, text) in VERBS.items())
    return (
        "Usage: [OPTION...] VERB [OPTION...]\n\nRuns containers from OCI bundles.\n\n"
        f"{verbs}\n{help_of(GLOBAL)}"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
