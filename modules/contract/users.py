"""Runs in both worlds: what a container with a user namespace (`userns_mode: private`) cannot have.

Its users have no rights on the host, so the kernel lets them neither mount nor change what is the host's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .fields import FieldError

if TYPE_CHECKING:
    from ..container import Spec

USERS = 1 << 16
"""How many users, and as many groups, such a container has: 0 to 65535."""
_HOST = {
    "pid": "the processes of the host would not be its own, and it could not mount /proc",
    "ipc": "the host's message queues would not be its own, and it could not mount them",
    "cgroup": "the host's cgroups would not be its own, and it could not mount them",
}


def check_users(spec: Spec) -> None:
    """Raise FieldError with the key's path."""
    if not spec.userns_mode:
        for index, mount in enumerate(spec.volumes):
            if mount.idmap:
                raise FieldError(
                    "idmap shows owners to a user namespace; set userns_mode: private, or leave it out",
                    "volumes",
                    index,
                )
        return
    for key, why in _HOST.items():
        if getattr(spec, key) == "host":
            raise FieldError(
                f"not with userns_mode: {spec.userns_mode}: {why}; leave one of them out", key
            )
    if spec.privileged:
        raise FieldError(
            f"not with userns_mode: {spec.userns_mode}, which takes away the host's rights; for rights within"
            " its own namespaces write cap_add: [ALL]",
            "privileged",
        )
    if spec.pid and spec.ipc and spec.pid != spec.ipc and "shareable" != spec.ipc != "none":
        raise FieldError(
            f"{spec.pid} and {spec.ipc} have two user namespaces, and a container is in one;"
            " share both with one of them, or leave out userns_mode of all",
            "ipc",
        )
    _check_numbers(spec)


def _check_numbers(spec: Spec) -> None:
    numbers: list[tuple[str, tuple[str | int, ...]]] = [
        (part, ("user",)) for part in spec.user.split(":")
    ]
    numbers += [(group, ("group_add", index)) for index, group in enumerate(spec.group_add)]
    for key in ("secrets", "configs"):
        for index, grant in enumerate(getattr(spec, key)):
            numbers += [(str(one), (key, index)) for one in (grant.uid, grant.gid)]
    for text, path in numbers:
        if text.isdigit() and int(text) >= USERS:
            raise FieldError(
                f"with userns_mode: {spec.userns_mode} there are users and groups 0 to {USERS - 1}: not {text}",
                *path,
            )
