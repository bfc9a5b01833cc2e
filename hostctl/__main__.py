"""Runs on the controller: the entry point, the only place that prints errors and sets exit codes.

Nothing is imported at the top but what the interpreter has: `hostctl --version` answers before all else.
"""

from __future__ import annotations

import errno
import gc
import os
import sys
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from hostctl_host.contract.errors import HostctlError

# 2 is what `plan` says where there are changes, so a wrong command line is an error like any other: 1.
ERROR = 1
INTERRUPTED = 130


COLLECT_EVERY = 100_000
"""Allocations between two looks for cyclic garbage: imports alone would cause a hundred of them."""


def main() -> NoReturn:
    """Run the command line and end the process at once: taking modules apart is a tenth of a short run."""
    gc.set_threshold(COLLECT_EVERY)
    code = run(sys.argv[1:])
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:  # the reader has gone, or the disk is full
            code = code or ERROR
    os._exit(code)


def run(args: list[str]) -> int:
    """Run the command line; returns the exit code."""
    debug = "--debug" in args
    try:
        return _run(args)
    except KeyboardInterrupt:
        sys.stderr.write("\nInterrupted.\n")
        return INTERRUPTED
    except BrokenPipeError:
        _silence_stdout()
        return ERROR
    except Exception as error:
        if debug:
            raise
        _print_error(_as_hostctl_error(error), as_json="--json" in args)
        return ERROR


def _run(args: list[str]) -> int:
    if args in (["--version"], ["version"]):
        from hostctl import __version__

        sys.stdout.write(f"hostctl {__version__}\n")
        return 0
    import click

    from hostctl.cli import cli

    if not sys.warnoptions:
        # Python's own warnings, such as of a user's regular expression, are for programmers.
        import warnings

        warnings.simplefilter("ignore")
    try:
        code = cli.main(args=args, prog_name="hostctl", standalone_mode=False)
        sys.stdout.flush()
    except click.Abort as abort:
        raise KeyboardInterrupt from abort
    except click.ClickException as error:
        from hostctl.cli.habits import taught

        taught(error).show()
        return ERROR
    return code if isinstance(code, int) else 0


def _as_hostctl_error(error: Exception) -> HostctlError:
    """What is no HostctlError is a bug or the machine's trouble; say so in one line."""
    from hostctl_host.contract.errors import HostctlError

    if isinstance(error, HostctlError):
        return error
    if isinstance(error, OSError) and error.filename:
        return HostctlError(f"cannot use {error.filename}: {error.strerror}", ref="os-error")
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return HostctlError("cannot write any more: the disk is full", ref="os-error")
    return HostctlError(
        f"cannot go on: {type(error).__name__}: {error}",
        hint="this is a fault in hostctl; run the same command with --debug for the traceback",
        ref="internal",
    )


def _print_error(error: HostctlError, as_json: bool) -> None:
    from hostctl.report.errors import errors_to_json, render_errors
    from hostctl.report.style import Style

    if as_json:
        import json

        sys.stdout.write(json.dumps(errors_to_json(error), indent=2, ensure_ascii=False) + "\n")
    sys.stderr.write(render_errors(error, Style.of(sys.stderr)))


def _silence_stdout() -> None:
    """The reader has gone: keep the interpreter from complaining about it at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
