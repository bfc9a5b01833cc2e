"""Runs in tests: packages: what dpkg's status file says, and what the plan makes of apt's simulation."""

from __future__ import annotations

from hostctl_host import package
from hostctl_host.contract.change import UNKNOWN, Action, Reason
from hostctl_host.package import Observed, Spec

STATUS = b"""Package: adduser
Status: install ok installed
Version: 3.134

Package: curl
Status: deinstall ok config-files
Version: 7.88

Package: nginx
Status: install ok half-configured
Version: 1.22
Description: a server
 Package: of words
"""


def test_reads_dpkg_status() -> None:
    assert package._installed(STATUS, "adduser") == ("3.134", False)
    assert package._installed(STATUS, "curl") == ("", False)
    assert package._installed(STATUS, "nginx") == ("1.22", True)
    assert package._installed(STATUS, "of") == ("", False)


def test_the_plan_names_what_comes_along() -> None:
    changes = package.diff(Spec(("nginx",)), Observed({}, {"nginx": "1.22", "libgd3": "2.3"}))
    assert [(c.action, c.field, c.after, c.reason) for c in changes] == [
        (Action.CREATE, "nginx", "1.22", Reason.ABSENT),
        (Action.CREATE, "libgd3", "2.3", Reason.DEPENDENCY),
    ]


def test_without_lists_the_version_is_known_after_apply() -> None:
    (change,) = package.diff(Spec(("nginx",)), Observed({}, None))
    assert change.after == UNKNOWN
    assert change.note == "apt's lists are fetched first"


def test_installed_is_no_change_and_undo_removes_only_what_is_new() -> None:
    assert package.diff(Spec(("curl",)), Observed({"curl": "7.88"}, {})) == []
    back = package.undo(
        Spec(("curl", "nginx")), Observed({"curl": "1"}, {"nginx": "1", "libgd3": "1"}), None
    )
    assert back == Spec(("nginx", "libgd3"), "absent", purge=True)
    assert package.undo(Spec(("curl",)), Observed({"curl": "1"}, {}), None) is None


def test_half_installed_is_repaired() -> None:
    (change,) = package.diff(Spec(("nginx",)), Observed({"nginx": "1.22"}, {}, broken=True))
    assert (change.before, change.after) == ("half installed", "installed")
