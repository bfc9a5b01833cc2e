"""Runs on the managed host: verbs other than a run: `call` in, rows and data out, `done` at the end."""

from __future__ import annotations

import importlib
from typing import Any

from ..contract.errors import HostctlError
from .ahead import CALLS, import_ahead
from .channel import Channel
from .host import Host

_PACKAGE = __package__.rpartition(".")[0]
# verb -> (module, function(host, args, channel) -> exit code), imported when called
VERBS = {
    "ps": ("monitor.verbs", "ps"),
    "build": ("build.verb", "build"),
    "logs": ("monitor.verbs", "logs"),
    "exec": ("monitor.verbs", "exec_"),
    "attach": ("monitor.verbs", "attach"),
    "stop": ("runtime.verbs", "stop"),
    "start": ("runtime.verbs", "start"),
    "restart": ("runtime.verbs", "restart"),
    "pull": ("store.remote", "pull"),
    "push": ("store.remote", "push"),
    "login": ("store.remote", "login"),
    "images": ("store.shown", "images"),
    "image inspect": ("store.shown", "inspect"),
    "image history": ("store.shown", "history"),
    "image tag": ("store.removing", "tag"),
    "image rm": ("store.removing", "rm"),
    "image prune": ("store.removing", "prune"),
    "image save": ("store.saving", "save"),
    "image load": ("store.loading", "load"),
    "image import": ("store.loading", "import_"),
    "image give": ("store.shipping", "give"),
    "image take": ("store.shipping", "take"),
    "system df": ("store.usage", "df"),
}

_OUTSIDE = ("build.", "store.")


def answer(host: Host, channel: Channel, outside: bool) -> int:
    """Answer the one call of this connection.

    Args:
        outside: this process must not enter a container (`runtime/guard.py`): verbs that may are refused.
    """
    channel.listen()
    if not outside:
        import_ahead(CALLS, host.paths, channel)
    header, _ = channel.receive()
    verb = str(header.get("verb", ""))
    known = verb in VERBS and not (outside and not VERBS[verb][0].startswith(_OUTSIDE))
    if header["type"] != "call" or not known:
        raise HostctlError(
            f"cannot answer {verb or header['type']}: this agent knows {', '.join(VERBS)}",
            ref="verb-unknown",
        )
    module, function = VERBS[verb]
    args: dict[str, Any] = header.get("args") or {}
    code = getattr(importlib.import_module(f"{_PACKAGE}.{module}"), function)(host, args, channel)
    channel.send("done", code=int(code or 0))
    return 0
