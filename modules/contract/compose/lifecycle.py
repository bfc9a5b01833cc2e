"""Runs in both worlds: how a container is started, kept up and stopped."""

from __future__ import annotations

import re
from typing import Any

from ..fields import FieldError, Short, parse_size
from .values import text

CONDITIONS = ("service_started", "service_healthy", "service_completed_successfully")


def parse_depends_on(value: Any) -> Any:
    """Names of services, or a map with `condition`, `restart` and `required`."""
    if isinstance(value, (list, tuple)):
        return {str(name): {} for name in value}
    if not isinstance(value, dict):
        return value
    for name, body in value.items():
        if body is not None and not isinstance(body, dict):
            raise FieldError("what a container depends on is a map with condition", name)
        for key, item in (body or {}).items():
            if key not in ("condition", "restart", "required"):
                raise FieldError(
                    f"{key!r} is no key here; condition, restart or required", name, key
                )
            if key == "condition" and item not in CONDITIONS:
                raise FieldError(f"{item!r} is no condition; {', '.join(CONDITIONS)}", name, key)
    return {str(name): body or {} for name, body in value.items()}


def parse_restart(value: Any) -> Any:
    """no, always, unless-stopped, on-failure or on-failure:N."""
    if value is False:
        return "no"
    if isinstance(value, str) and not re.fullmatch(
        r"no|always|unless-stopped|on-failure(:\d+)?", value
    ):
        raise FieldError(
            f"{value!r} is no restart policy; no, always, unless-stopped, on-failure or on-failure:N"
        )
    return value


def parse_signal(value: Any) -> Any:
    """A signal as `SIGTERM`, from `TERM`, `SIGTERM` or its number."""
    import signal

    if isinstance(value, bool) or not isinstance(value, (str, int)) or value == "":
        return value
    name = str(value).upper()
    if name.isdigit():
        try:
            return signal.Signals(int(name)).name
        except ValueError:
            raise FieldError(f"{value!r} is no signal") from None
    name = name if name.startswith("SIG") else f"SIG{name}"
    realtime = re.fullmatch(r"SIGRT(MIN\+|MAX-)\d+", name)
    if not realtime and name not in signal.Signals.__members__:
        raise FieldError(f"{value!r} is no signal; write it like SIGTERM")
    return name


def parse_restart_on(value: Any) -> Any:
    """unhealthy: a container that its healthcheck finds unhealthy is restarted."""
    if isinstance(value, str) and value not in ("", "unhealthy"):
        raise FieldError(f"{value!r} is nothing to restart on; unhealthy, or leave it out")
    return value


def parse_platform(value: Any) -> Any:
    """OS/ARCHITECTURE[/VARIANT]."""
    if isinstance(value, str) and not re.fullmatch(r"|[a-z0-9]+/[a-z0-9_]+(/[a-z0-9]+)?", value):
        raise FieldError(f"{value!r} is no platform; write it like linux/amd64")
    return value


def parse_logging(value: Any) -> Any:
    """Compose's `driver` and `options`, as plain keys; what options there are depends on the driver."""
    if not isinstance(value, dict) or not {"options", "driver"} & value.keys():
        return value
    for key in value:
        if key not in ("driver", "options"):
            raise FieldError(f"{key!r} is no key here; driver or options", key)
    driver = value.get("driver") or "json-file"
    if not isinstance(driver, str) or driver not in _LOG_OPTIONS:
        raise FieldError(f"not supported yet: the logging driver {driver}", "driver")
    options = value.get("options") or {}
    if not isinstance(options, dict):
        raise FieldError("options are a map", "options")
    out: dict[str, Any] = {"driver": driver}
    for key, item in options.items():
        known_options = _LOG_OPTIONS[driver]
        if key not in known_options:
            known = ", ".join(known_options) or f"{driver} has none"
            raise FieldError(
                f"not supported yet: the logging option {key} ({known})", "options", key
            )
        try:
            out[key.replace("-", "_")] = known_options[key](item)
        except ValueError as error:
            raise FieldError(str(error), "options", key) from error
    return out


def _log_size(value: Any) -> int:
    """Docker's -1 is no limit; less than a page could not hold a line."""
    if str(value) == "-1":
        return 0
    size = parse_size(value)
    if not isinstance(size, int) or size < 4096:
        raise ValueError(f"{value!r} is no size of a log; at least 4k, or -1 for no limit")
    return size


def _log_files(value: Any) -> int:
    if not re.fullmatch(r"[1-9]\d{0,3}", str(value)):
        raise ValueError(f"{value!r} is no number of files; at least 1")
    return int(value)


def _log_compress(value: Any) -> bool:
    if text(value) not in ("true", "false"):
        raise ValueError(f"{value!r} is neither true nor false")
    return bool(text(value) == "true")


def _log_tag(value: Any) -> str:
    if not re.fullmatch(r"[^\x00-\x1f\x7f]{1,128}", str(value)):
        raise ValueError(f"{value!r} is no tag; 1 to 128 characters on one line")
    return str(value)


_LOG_OPTIONS: dict[str, dict[str, Any]] = {
    "json-file": {"max-size": _log_size, "max-file": _log_files, "compress": _log_compress},
    "journald": {"tag": _log_tag},
    "none": {},
}

DEPENDS_ON = Short(parse_depends_on)
LOGGING = Short(parse_logging)
PLATFORM = Short(parse_platform)
RESTART = Short(parse_restart)
RESTART_ON = Short(parse_restart_on)
SIGNAL = Short(parse_signal)
