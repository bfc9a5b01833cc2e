"""Runs on the managed host: the agent, on one page.

What is imported up here comes before the hello; all else is imported where it is used, because fifty
agents may start on one machine at once.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from ..contract.frames import PROTOCOL
from .channel import Channel, ControllerGone
from .facts import collect

AT_BOOT = ("boot", "shutdown")
CALLS = ("serve", "store")
"""For verbs other than a run. `store` is for those that enter no container, and so need no shielded interpreter."""


def main(argv: Sequence[str]) -> int:
    """Serve one connection: `MODE --data-dir D --run-dir R [--lock-wait S] [--holder TEXT] [--digest SHA]`
    `[--log-limit BYTES] [--image-policy RELEASES:FREE]`.

    The modes `boot` and `shutdown` are for the host's init, and have no connection.

    Returns:
        0 if a report, or the answer of a verb, was sent; 1 if not.
    """
    from ..contract.later import later

    # dataclasses imports it to describe classes that have no docstring: an eighth of the agent's start.
    later("inspect")
    options = _parse(argv)
    if options["mode"] in AT_BOOT:
        from . import boot
        from .host import Paths

        act = boot.boot if options["mode"] == "boot" else boot.shutdown
        return act(Paths(options["data_dir"], options["run_dir"]))
    channel = Channel.over_stdio()
    facts = collect()
    channel.send("hello", version=PROTOCOL, agent=options["digest"], facts=facts)
    try:
        return _serve(options, channel, facts)
    except ControllerGone:
        return 1
    except Exception as error:
        channel.send("error", **_explain(error))
        return 1
    finally:
        channel.close()


def _serve(options: dict[str, Any], channel: Channel, facts: dict[str, Any]) -> int:
    from .host import Host, Paths

    paths = Paths(options["data_dir"], options["run_dir"])
    host = Host(paths, writable=options["mode"] == "apply", facts=facts)
    if options["mode"] in CALLS:
        from .calls import answer

        return answer(host, channel, outside=options["mode"] == "store")

    from .lock import acquire

    lock = acquire(
        paths.run,
        exclusive=host.writable,
        who=options["holder"],
        action=options["mode"],
        wait=options["lock_wait"],
        channel=channel,
    )
    if lock is None:
        return 1
    try:
        warnings = () if host.writable else _seal(host)
        channel.listen()
        if host.writable:
            from ..monitor import limit
            from ..store import policy

            limit.keep(paths, options["log_limit"])
            policy.keep(paths.data, options["image_policy"])
        return _run(host, channel, warnings)
    finally:
        lock.release()


def _seal(host: Any) -> tuple[str, ...]:
    from . import seal

    host.snapshot = seal.snapshot(host.paths)
    return seal.seal()


def _run(host: Any, channel: Channel, warnings: tuple[str, ...]) -> int:
    from dataclasses import replace

    from ..contract.errors import HostctlError
    from ..contract.report import report_to_json
    from .ahead import RUNS, import_ahead
    from .runs import Session

    session = Session(host.paths, channel, host, writing=host.writable)
    import_ahead(RUNS, host.paths, channel)
    header, _ = channel.receive()
    if header["type"] == "document":
        report = session.apply_document(header)
    elif header["type"] == "call" and header.get("verb") == "destroy":
        args = header.get("args") or {}
        report = session.destroy(args["project"], bool(args.get("volumes")))
    else:
        raise HostctlError(
            f"cannot use a {header['type']} frame here: a document or destroy must come first",
            ref="protocol",
        )
    if host.writable:
        from .leftovers import collect

        collect(host.paths)
    report = replace(report, warnings=(*warnings, *report.warnings))
    channel.send("report", report=report_to_json(report))
    return 0


def _explain(error: Exception) -> dict[str, Any]:
    from ..contract.errors import HostctlError

    if isinstance(error, HostctlError):
        return {"ref": error.ref, "message": str(error), "hint": error.hint}
    import os

    if os.environ.get("HOSTCTL_DEBUG"):
        import traceback

        traceback.print_exc()
    text = " ".join(f"cannot go on: {type(error).__name__}: {error}".split())
    hint = "set HOSTCTL_DEBUG=1 on the host to see where it comes from"
    return {"ref": "agent-crashed", "message": text, "hint": hint}


def _parse(argv: Sequence[str]) -> dict[str, Any]:
    """The options by name. argparse would cost more than all the rest before the hello."""
    options: dict[str, Any] = {"holder": "", "digest": "", "lock_wait": "0"}
    options.update(log_limit="", image_policy="")
    words = list(argv)
    options["mode"] = words.pop(0) if words else ""
    while len(words) >= 2 and words[0].startswith("--"):
        name, value, *words = words
        options[name[2:].replace("-", "_")] = value
    known = {"mode", "data_dir", "run_dir", "lock_wait", "holder", "digest"}
    known |= {"log_limit", "image_policy"}
    modes = ("plan", "apply", *CALLS, *AT_BOOT)
    if words or options.keys() != known or options["mode"] not in modes:
        sys.stderr.write(
            f"usage: ({'|'.join(modes)}) --data-dir D --run-dir R [--lock-wait S] ...\n"
        )
        raise SystemExit(2)
    options["lock_wait"] = float(options["lock_wait"])
    return options
