"""Runs on the managed host: the kind `secret`: a value that containers get as a file, and nobody else.

The controller reads the value; the document carries its digest, and what is kept of the document carries a
hash that only this host can make. See `agent/values.py` for where the value lies.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from .agent import values_kind
from .agent.host import Host
from .agent.values_kind import Declared, Observed
from .contract.change import Change
from .contract.compose import LABELS
from .contract.fields import check_name


@dataclass(frozen=True)
class Spec:
    """A secret. `name` is the full name (`shop_db_password`); `digest` is set by the controller.

    Exactly one of `file` (beside the playbook), `environment` (a variable where hostctl runs) and `external`.
    """

    name: str
    file: str = ""
    environment: str = ""
    external: bool = False
    labels: Annotated[dict[str, str], LABELS] = field(default_factory=dict)
    digest: str = ""
    state: Literal["present", "absent"] = "present"

    def __post_init__(self) -> None:
        """Raise FieldError (the controller adds file and line): names become files of the host."""
        check_name(self.name, "name")


def _declared(spec: Spec) -> Declared:
    return Declared("secret", spec.name, spec.digest, True, spec.external, spec.labels, spec.state)


def content(spec: Spec) -> tuple[str, ...]:
    return (spec.digest,) if spec.digest else ()


def observe(spec: Spec, host: Host) -> Observed:
    return values_kind.observe(_declared(spec), host)


def diff(spec: Spec, observed: Observed) -> list[Change]:
    return values_kind.diff(_declared(spec), observed)


def apply(
    spec: Spec,
    observed: Observed,
    changes: list[Change],
    host: Host,
) -> dict[str, Any] | None:
    return values_kind.apply(_declared(spec), host)


def undo(spec: Spec, observed: Observed, host: Host) -> Spec | None:
    """Absent if it was absent; external ones and those that were there are left alone."""
    return None if spec.external or observed.present else Spec(spec.name, state="absent")
