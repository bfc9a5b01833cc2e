"""Runs on the managed host, in the agent: what a container's monitor is told: `monitor.json`.

What the image says is kept beside it (`image_...`), so that a change of the spec alone can be written anew.
Source of the defaults: Compose's and Docker's references of `healthcheck`, OCI image-spec 1.1 (config.md).
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

from ..contract.errors import CannotApply
from ..contract.service import Healthcheck, Logging
from ..contract.spec import encode

if TYPE_CHECKING:
    from ..container import Spec

UNLIMITED = 1 << 62
"""Bytes that no log reaches."""
_DEFAULTS = {
    "interval": 30.0,
    "timeout": 30.0,
    "retries": 3,
    "start_period": 0.0,
    "start_interval": 5.0,
}
_IMAGE_KEYS = {
    "interval": "Interval",
    "timeout": "Timeout",
    "retries": "Retries",
    "start_period": "StartPeriod",
    "start_interval": "StartInterval",
}


def settings(spec: Spec, image: dict[str, Any]) -> dict[str, Any]:
    """monitor.json of a container.

    `healthcheck` is None, or `test`, `interval`, `timeout`, `start_period`, `start_interval` (seconds) and
    `retries`. `test` is Docker's `[CMD, PROGRAM, ...]` or `[CMD-SHELL, LINE]`, or one of our own probes of the
    container's network: `[HTTP, PORT, PATH, STATUS]` with STATUS `200` or `200-399`, or `[TCP, PORT]`.

    Args:
        image: the image's configuration, or what `image_part` kept of it.
    Raises:
        CannotApply: the image's stop signal is none.
    """
    kept = image_part(image)
    return {
        "restart": spec.restart,
        "restart_on": spec.restart_on,
        "stop_signal": signal_number(spec.stop_signal or kept["config"]["StopSignal"]),
        "stop_grace_period": spec.stop_grace_period,
        "log": _log(spec.logging or Logging(), spec.image),
        "healthcheck": healthcheck(spec.healthcheck, kept["config"]["Healthcheck"]),
        "post_start": [encode(hook) for hook in spec.post_start],
        "pre_stop": [encode(hook) for hook in spec.pre_stop],
        "tty": spec.tty,
        "stdin_open": spec.stdin_open,
        "image": kept,
    }


def image_part(image: dict[str, Any]) -> dict[str, Any]:
    """What of the image's configuration decides here."""
    config = image.get("config") or {}
    return {
        "config": {
            "StopSignal": config.get("StopSignal") or "SIGTERM",
            "Healthcheck": config.get("Healthcheck") or {},
        }
    }


def _log(wanted: Logging, image: str) -> dict[str, Any]:
    if wanted.driver == "journald":
        return {"driver": wanted.driver, "tag": wanted.tag, "image": image}
    return {
        "driver": wanted.driver,
        "max_size": wanted.max_size or UNLIMITED,
        "max_file": wanted.max_file,
        "compress": wanted.compress,
    }


def healthcheck(wanted: Healthcheck | None, image: dict[str, Any]) -> dict[str, Any] | None:
    """The check that holds: each part from the spec, else from the image, else Docker's default.

    Args:
        image: `Healthcheck` of the image's configuration, times in nanoseconds; empty for none.
    """
    own = wanted or Healthcheck()
    test = _test(own) or [str(word) for word in image.get("Test") or ()]
    if not test or test[0] == "NONE":
        return None
    found: dict[str, Any] = {"test": test}
    for name, default in _DEFAULTS.items():
        given = image.get(_IMAGE_KEYS[name]) or 0
        inherited = given if name == "retries" else given / 1e9
        found[name] = getattr(own, name) or inherited or default
    return found


def _test(own: Healthcheck) -> list[str]:
    if own.http is not None:
        return ["HTTP", str(own.http.port), own.http.path, own.http.status]
    if own.tcp is not None:
        return ["TCP", str(own.tcp.port)]
    return list(own.test)


def signal_number(name: str) -> int:
    """A signal's number from `SIGTERM`, `TERM`, `SIGRTMIN+3` or `15`.

    Raises:
        CannotApply: there is no such signal.
    """
    upper = name.upper()
    upper = upper if upper.startswith("SIG") or upper.isdigit() else f"SIG{upper}"
    base, sign, offset = upper.replace("-", "+-").partition("+")
    try:
        number = int(upper) if upper.isdigit() else int(signal.Signals[base]) + int(offset or 0)
    except (KeyError, ValueError):
        number = 0
    if not 0 < number < signal.NSIG or (sign and not base.startswith("SIGRT")):
        raise CannotApply(
            f"cannot use stop signal {name}: there is no such signal",
            hint="see signal(7), such as SIGTERM",
        )
    return number
