"""Runs on the managed host: the shapes of config.json, looked at before anything in it is used.

What each facility can judge only itself (names, ranges, combinations) is in its own `prepare`. Keys that
are unknown are left alone, as the specification asks. Source: OCI runtime-spec 1.2, config-schema.json.
"""

from __future__ import annotations

from .config import Config, RuntimeFailure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

_WORDS = {dict: "an object", list: "a list", str: "a text", bool: "true or false", int: "a number"}
_SETS = ("bounding", "effective", "permitted", "inheritable", "ambient")
_SHAPES: tuple[tuple[str, type], ...] = (
    ("ociVersion", str),
    ("hostname", str),
    ("domainname", str),
    ("annotations", dict),
    ("hooks", dict),
    ("mounts", list),
    ("root", dict),
    ("root.path", str),
    ("root.readonly", bool),
    ("process", dict),
    ("process.args", list),
    ("process.cwd", str),
    ("process.env", list),
    ("process.user", dict),
    ("process.user.uid", int),
    ("process.user.gid", int),
    ("process.user.umask", int),
    ("process.user.additionalGids", list),
    ("process.terminal", bool),
    ("process.noNewPrivileges", bool),
    ("process.consoleSize", dict),
    ("process.capabilities", dict),
    *((f"process.capabilities.{name}", list) for name in _SETS),
    ("process.rlimits", list),
    ("linux", dict),
    ("linux.namespaces", list),
    ("linux.timeOffsets", dict),
    ("linux.devices", list),
    ("linux.resources", dict),
    ("linux.sysctl", dict),
    ("linux.rootfsPropagation", str),
    ("linux.cgroupsPath", str),
    ("linux.maskedPaths", list),
    ("linux.readonlyPaths", list),
)
_TEXTS = (
    "process.args",
    "process.env",
    *(f"process.capabilities.{name}" for name in _SETS),
    "linux.maskedPaths",
    "linux.readonlyPaths",
)
_ITEMS: tuple[tuple[str, dict[str, type]], ...] = (
    ("process.rlimits", {"type": str, "soft": int, "hard": int}),
    ("linux.namespaces", {"type": str}),
    ("linux.devices", {"type": str, "path": str}),
)
"""Lists of objects, and what each object needs."""


def check(config: Config) -> None:
    """Raise RuntimeFailure for the first value that is not what its key takes."""
    for path, kind in _SHAPES:
        value = _value(config, path)
        if value is not None and (not isinstance(value, kind) or _is_flag(value, kind)):
            _refuse(f"{path} is not {_WORDS[kind]}")
    _check_version(config)
    for path in _TEXTS:
        for item in _value(config, path) or ():
            if not isinstance(item, str) or "\0" in item:
                _refuse(f"{path} holds something else than texts without null bytes")
    for path, keys in _ITEMS:
        for number, item in enumerate(_value(config, path) or ()):
            _check_item(f"{path}[{number}]", item, keys)
    for item in _value(config, "process.user.additionalGids") or ():
        if not isinstance(item, int) or isinstance(item, bool):
            _refuse("process.user.additionalGids holds something else than numbers")
    if "\0" in (_value(config, "linux.cgroupsPath") or ""):
        _refuse("linux.cgroupsPath holds a null byte")
    for item in _value(config, "process.env") or ():
        if item[:1] in ("", "="):
            _refuse("process.env holds a variable without a name")
    for name, value in (config.get("annotations") or {}).items():
        if not isinstance(value, str):
            _refuse(f"the annotation {name} is not a text")
    for number, mount in enumerate(config.get("mounts") or ()):
        _check_mount(f"mounts[{number}]", mount)


def _check_version(config: Config) -> None:
    version = config.get("ociVersion")
    if not isinstance(version, str) or version.split(".")[0] != "1" or version.count(".") < 2:
        _refuse(
            f"its ociVersion is {version or 'missing'}",
            "this runtime follows version 1 of the OCI runtime specification, such as 1.2.0",
        )


def _check_item(where: str, item: Any, keys: dict[str, type]) -> None:
    if not isinstance(item, dict):
        _refuse(f"{where} is not an object")
    for key, kind in keys.items():
        value = item.get(key)
        if not isinstance(value, kind) or _is_flag(value, kind):
            _refuse(f"{where}.{key} is not {_WORDS[kind]}")


def _check_mount(where: str, mount: Any) -> None:
    if not isinstance(mount, dict):
        _refuse(f"{where} is not an object")
    for key in ("destination", "type", "source"):
        value = mount.get(key)
        if value is not None and (not isinstance(value, str) or "\0" in value):
            _refuse(f"{where}.{key} is not a text")
    options = mount.get("options") or []
    if not isinstance(options, list) or not all(isinstance(item, str) for item in options):
        _refuse(f"{where}.options is not a list of texts")


def _value(config: Config, path: str) -> Any:
    value: Any = config
    for key in path.split("."):
        if not isinstance(value, dict):
            return None  # its own entry has said so, or it is not there
        value = value.get(key)
    return value


def _is_flag(value: object, kind: type) -> bool:
    """Python's true is a number as well."""
    return kind is int and isinstance(value, bool)


def _refuse(what: str, hint: str = "correct config.json") -> NoReturn:
    raise RuntimeFailure(f"cannot create the container: {what}", hint=hint, ref="bundle-broken")
