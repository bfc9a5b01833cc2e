"""Runs in both worlds: Compose's short and long form of volumes and tmpfs mounts."""

from __future__ import annotations

import posixpath
import re
from typing import Any, Callable

from ..fields import FieldError, Short, parse_size
from .values import parse_labels, text

TMPFS_FLAGS = ("ro", "rw", "exec", "noexec", "suid", "nosuid", "dev", "nodev")


def parse_volumes(value: Any) -> Any:
    """`SOURCE:TARGET[:OPTIONS]` (a path is a bind, a word a named volume), `TARGET`, or the long form."""
    if not isinstance(value, (list, tuple)):
        return value
    return tuple(_mount(item, index) for index, item in enumerate(value))


def _mount(item: Any, index: int) -> Any:
    if isinstance(item, dict):
        return _long_mount(item, index)
    if not isinstance(item, str):
        return item
    parts = item.split(":")
    if len(parts) > 3 or not all(parts):
        raise FieldError(f"{item!r} is no volume; write SOURCE:TARGET or SOURCE:TARGET:ro", index)
    source, target = ("", parts[0]) if len(parts) == 1 else (parts[0], parts[1])
    bind = source.startswith(("/", ".", "~"))
    out = {"type": "bind" if bind else "volume", "source": source}
    out["target"] = container_path(target, index)
    for option in parts[2].split(",") if len(parts) == 3 else []:
        out.update(_short_option(option, bind, index))
    return out


def _short_option(option: str, bind: bool, index: int) -> dict[str, Any]:
    if option in ("ro", "rw"):
        return {"read_only": option == "ro"}
    if option in _CONSISTENCY:
        return {}
    if option in ("z", "Z"):
        return {"selinux": option}
    if option == "nocopy" and not bind:
        return {"nocopy": True}
    if option in PROPAGATION and bind:
        return {"propagation": option}
    if option == "idmap" and bind:
        return {"idmap": True}
    known = f"ro, rw, z, Z, {', '.join((*PROPAGATION, 'idmap')) if bind else 'nocopy'}"
    what = "a bind" if bind else "a volume"
    raise FieldError(f"{option!r} is no option of {what}; {known}", index)


_CONSISTENCY = ("cached", "delegated", "consistent", "default")
"""What they mean concerns Docker's virtual machine on other systems; on Linux all are the same."""
PROPAGATION = ("private", "rprivate", "shared", "rshared", "slave", "rslave")
_RECURSIVE = ("enabled", "disabled", "writable", "readonly")
_NO_TYPE_HERE = {
    "image": "not supported yet: the volume type image",
    "npipe": "npipe is a pipe of Windows; there is none on Linux",
    "cluster": "cluster volumes belong to Docker's Swarm; declare a volume with driver_opts",
}


def _long_mount(item: dict[str, Any], index: int) -> dict[str, Any]:
    kind = item.get("type", "volume")
    if isinstance(kind, str) and kind in _NO_TYPE_HERE:
        raise FieldError(_NO_TYPE_HERE[kind], index, "type")
    if kind not in ("volume", "bind", "tmpfs"):
        raise FieldError(f"{kind!r} is no type of volume; volume, bind or tmpfs", index, "type")
    out: dict[str, Any] = {}
    for key, value in item.items():
        if key == "consistency":
            if value not in _CONSISTENCY:
                raise FieldError(f"{value!r} is no consistency", index, key)
        elif key in ("volume", "bind", "tmpfs", "image"):
            if key != kind:
                raise FieldError(f"{key} is for the type {key}, and this is a {kind}", index, key)
            out.update(_options(key, value, index))
        elif not str(key).startswith("x-"):
            out[key] = value
    if isinstance(out.get("target"), str):
        out["target"] = container_path(out["target"], index, "target")
    if kind == "bind" and not out.get("source"):
        raise FieldError("a bind needs its source: a path on the host", index)
    if kind == "tmpfs" and out.get("source"):
        raise FieldError("a tmpfs is new memory: it has no source", index, "source")
    if out.get("subpath") and not out.get("source"):
        raise FieldError("an anonymous volume is new: it has no parts", index, "volume", "subpath")
    return out


def _options(key: str, value: Any, index: int) -> dict[str, Any]:
    """The options that belong to one type, as plain fields."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise FieldError(f"the options of {key} are a map", index, key)
    readers = _READERS[key]
    out: dict[str, Any] = {}
    for name, part in value.items():
        if name in readers:
            field, read = readers[name]
            out[field] = read(part, index, key, name)
        elif not str(name).startswith("x-"):
            raise FieldError(f"{name!r} is no key of {key}; {', '.join(readers)}", index, key, name)
    return out


def _flag(value: Any, *where: str | int) -> bool:
    if not isinstance(value, bool):
        raise FieldError(f"{value!r} is neither true nor false", *where)
    return value


def _choice(*known: str) -> Callable[..., str]:
    def read(value: Any, *where: str | int) -> str:
        if value not in known:
            raise FieldError(f"{value!r} is none of {', '.join(known)}", *where)
        return str(value)

    return read


def _subpath(value: Any, *where: str | int) -> str:
    """Below the volume, as a plain path: what it resolves to there is the host's to watch."""
    if not isinstance(value, str) or "\0" in value:
        raise FieldError(f"{value!r} is no path", *where)
    clean = posixpath.normpath(value)
    if clean.startswith("/") or ".." in value.split("/"):
        raise FieldError(f"{value!r} leads out of the volume; write a path below it", *where)
    return "" if clean == "." else clean


def _labels(value: Any, *where: str | int) -> Any:
    try:
        return parse_labels(value)
    except FieldError as error:
        raise FieldError(str(error), *where, *error.path) from error


def container_path(path: str, *where: str | int) -> str:
    """An absolute path in the container without `.`, `..` and doubled slashes, as Compose makes it.

    Raises:
        FieldError: it is relative, or the root itself.
    """
    if not path.startswith("/") or "\0" in path:
        raise FieldError(f"{path!r}: the path in the container must start with /", *where)
    clean = posixpath.normpath("/" + path.lstrip("/"))
    if clean == "/":
        raise FieldError(
            f"{path!r}: nothing can be mounted over the container's whole root", *where
        )
    return clean


def _size(value: Any, *where: str | int) -> Any:
    try:
        return parse_size(value)
    except ValueError as error:
        raise FieldError(str(error), *where) from error


def _mode(value: Any, *where: str | int) -> Any:
    if isinstance(value, str):
        digits = value[2:] if value.startswith("0o") else value
        if not re.fullmatch("[0-7]{3,4}", digits):
            raise FieldError(f"{value!r} is no mode; write octal digits, such as '1777'", *where)
        return int(digits, 8)
    return value


_READERS: dict[str, dict[str, tuple[str, Callable[..., Any]]]] = {
    "volume": {
        "nocopy": ("nocopy", _flag),
        "subpath": ("subpath", _subpath),
        "labels": ("labels", _labels),
    },
    "bind": {
        "propagation": ("propagation", _choice(*PROPAGATION)),
        "create_host_path": ("create_host_path", _flag),
        "selinux": ("selinux", _choice("z", "Z")),
        "recursive": ("recursive", _choice(*_RECURSIVE)),
        "idmap": ("idmap", _flag),
    },
    "tmpfs": {"size": ("tmpfs_size", _size), "mode": ("tmpfs_mode", _mode)},
    "image": {},
}


def parse_volumes_from(value: Any) -> Any:
    """`SERVICE[:ro]` or `container:NAME[:ro]`, as a list."""
    if isinstance(value, str):
        value = (value,)
    if not isinstance(value, (list, tuple)):
        return value
    for index, item in enumerate(value):
        if not isinstance(item, str) or not re.fullmatch(r"(container:)?[^:/\s]+(:ro|:rw)?", item):
            raise FieldError(
                f"{item!r} is no container; write SERVICE, SERVICE:ro or container:NAME", index
            )
    return tuple(value)


def parse_tmpfs(value: Any) -> Any:
    """One path or several, each with options (`/run:size=64m,mode=755`)."""
    if isinstance(value, str):
        value = (value,)
    if not isinstance(value, (list, tuple)):
        return value
    return tuple(
        _tmpfs(item, index) if isinstance(item, str) else item for index, item in enumerate(value)
    )


def _tmpfs(item: str, index: int) -> str:
    path, sign, options = item.partition(":")
    for option in options.split(",") if sign else ():
        name, _, setting = option.partition("=")
        good = (
            option in TMPFS_FLAGS
            or (name in ("size", "nr_inodes") and re.fullmatch(r"\d+[bkmgt%]?", setting.lower()))
            or (name == "mode" and re.fullmatch("[0-7]{3,5}", setting))
            or (name in ("uid", "gid") and setting.isdigit())
        )
        if not good:
            raise FieldError(
                f"{option!r} is no option of a tmpfs; size=, mode=, uid=, gid=, nr_inodes=,"
                f" {', '.join(TMPFS_FLAGS)}",
                index,
            )
    return container_path(path, index) + sign + options


def parse_driver_opts(value: Any) -> Any:
    """A map of texts; numbers and truth values are written as text, too."""
    if not isinstance(value, dict):
        return value
    return {str(name): "" if item is None else text(item) for name, item in value.items()}


DRIVER_OPTS = Short(parse_driver_opts)
TMPFS = Short(parse_tmpfs)
VOLUMES = Short(parse_volumes)
VOLUMES_FROM = Short(parse_volumes_from)
