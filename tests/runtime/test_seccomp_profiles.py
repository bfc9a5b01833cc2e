"""`linux.seccomp` and Docker's profiles: what is read from them, and what the errors teach."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hostctl_host.runtime.config import RuntimeFailure
from hostctl_host.runtime.seccomp import profile, spec


def document(**changes: Any) -> dict[str, Any]:
    rule = {"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}
    return {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule], **changes}


def rule(**changes: Any) -> dict[str, Any]:
    return document(syscalls=[{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", **changes}])


def argument(**changes: Any) -> dict[str, Any]:
    return rule(args=[{"index": 0, "value": 1, "op": "SCMP_CMP_EQ", **changes}])


@pytest.mark.parametrize(
    ("wanted", "key", "hint"),
    [
        ([], "linux.seccomp", "an object"),
        ({}, "defaultAction", "one of SCMP_ACT_KILL"),
        (document(defaultAction="DENY"), "'DENY' as linux.seccomp.defaultAction", "SCMP_ACT_ALLOW"),
        (document(defaultAction="SCMP_ACT_NOTIFY"), "defaultAction", "name the calls"),
        (document(defaultErrnoRet=1), "an errno with SCMP_ACT_ALLOW", "remove it"),
        (document(architectures=["amd64"]), "architectures[0]", "SCMP_ARCH_X86_64"),
        (document(architectures="X86"), "architectures", "a list"),
        (document(flags=["TSYNC"]), "flags[0]", "SECCOMP_FILTER_FLAG_TSYNC"),
        (document(syscalls=["mkdir"]), "syscalls[0]", "an object"),
        (document(listenerMetadata="x"), "listenerMetadata", "listenerPath"),
        (document(listenerPath="run/x"), "listenerPath", "absolute"),
        (document(listenerPath=3), "listenerPath", "a text"),
        (rule(names=[]), "no system call", "name at least one"),
        (rule(names=[3]), "syscalls[0].names[0]", "a name"),
        (rule(action="ALLOW"), "syscalls[0].action", "SCMP_ACT_ALLOW"),
        (rule(errnoRet=4095), "syscalls[0].errnoRet", "from 0 to 4094"),
        (rule(errnoRet=True), "syscalls[0].errnoRet", "a number"),
        (rule(action="SCMP_ACT_KILL", errnoRet=1), "an errno with SCMP_ACT_KILL", "SCMP_ACT_TRACE"),
        (rule(action="SCMP_ACT_NOTIFY"), "listenerPath", "socket"),
        (
            rule(action="SCMP_ACT_NOTIFY", names=["write"]),
            "SCMP_ACT_NOTIFY for write",
            "take write",
        ),
        (argument(index=6), "args[0].index", "from 0 to 5"),
        (argument(value=-1), "args[0].value", "18446744073709551615"),
        (argument(valueTwo="1"), "args[0].valueTwo", "a number"),
        (argument(op="=="), "args[0].op", "SCMP_CMP_MASKED_EQ"),
        (argument(op=None), "nothing as linux.seccomp.syscalls[0].args[0].op", "SCMP_CMP_NE"),
    ],
)
def test_errors_name_the_key_and_what_may_stand_there(wanted: Any, key: str, hint: str) -> None:
    with pytest.raises(RuntimeFailure) as caught:
        spec.parse(wanted)
    error = caught.value
    assert error.message.startswith("cannot use ")
    assert key in error.message
    assert hint in error.hint
    assert (error.where, error.ref) == ("config.json", "bad-seccomp")


def test_flags() -> None:
    assert spec.parse(document()).flags == spec.SPEC_ALLOW
    assert spec.parse(document(flags=[])).flags == 0
    names = [f"SECCOMP_FILTER_FLAG_{name}" for name in ("TSYNC", "LOG", "WAIT_KILLABLE_RECV")]
    # Nobody receives: there is nothing to wait for, and the kernel would refuse the flag.
    assert spec.parse(document(flags=names)).flags == spec.TSYNC | spec.LOG
    notifying = rule(action="SCMP_ACT_NOTIFY")
    notifying.update(flags=names, listenerPath="/run/x.sock")
    assert spec.parse(notifying).flags == (
        spec.TSYNC | spec.LOG | spec.WAIT_KILLABLE_RECV | spec.NEW_LISTENER | spec.TSYNC_ESRCH
    )


def test_architectures_of_other_machines_are_passed_over() -> None:
    found = spec.parse(document(architectures=["SCMP_ARCH_S390X", "SCMP_ARCH_ARM"]))
    assert found.architectures == ["arm"]


def lowered(conditions: dict[str, Any], *capabilities: str, machine: str = "x86_64") -> bool:
    """Whether a rule with these conditions holds."""
    wanted = {
        "defaultAction": "SCMP_ACT_ERRNO",
        "syscalls": [{"names": ["mount"], "action": "SCMP_ACT_ALLOW", **conditions}],
    }
    found = profile.lower(wanted, {*capabilities}, machine, (4, 19))
    assert found is not None
    return bool(found["syscalls"])


@pytest.mark.parametrize(
    ("conditions", "holds"),
    [
        ({}, True),
        ({"includes": {}, "excludes": {}}, True),
        ({"includes": {"caps": ["CAP_A"]}}, True),
        ({"includes": {"caps": ["CAP_A", "CAP_C"]}}, False),
        ({"excludes": {"caps": ["CAP_C"]}}, True),
        ({"excludes": {"caps": ["CAP_C", "CAP_A"]}}, False),
        ({"includes": {"arches": ["amd64", "x32"]}}, True),
        ({"includes": {"arches": ["arm64"]}}, False),
        ({"excludes": {"arches": ["amd64"]}}, False),
        ({"includes": {"minKernel": "4.19"}}, True),
        ({"includes": {"minKernel": "4.20"}}, False),
        ({"includes": {"minKernel": "4.9"}}, True),
        ({"excludes": {"minKernel": "4.8"}}, False),
        ({"includes": {"caps": ["CAP_A"], "minKernel": "5.0"}}, False),
    ],
)
def test_conditions_of_dockers_format(conditions: dict[str, Any], holds: bool) -> None:
    assert lowered(conditions, "CAP_A", "CAP_B") is holds


def test_lowering() -> None:
    wanted = {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 38,
        "archMap": [
            {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]},
            {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": None},
        ],
        "syscalls": [{"name": "mount", "action": "SCMP_ACT_ALLOW", "comment": "", "args": []}],
    }
    rules = [{"names": ["mount"], "action": "SCMP_ACT_ALLOW"}]
    for machine, architectures in {
        "x86_64": ["SCMP_ARCH_X86_64"],
        "aarch64": ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
    }.items():
        assert profile.lower(wanted, set(), machine, (6, 1)) == {
            "defaultAction": "SCMP_ACT_ERRNO",
            "defaultErrnoRet": 38,
            "architectures": architectures,
            "syscalls": rules,
        }
    assert profile.lower({}, set(), "x86_64", (6, 1)) is None


def test_dockers_choice() -> None:
    capabilities = ["CAP_CHOWN"]
    builtin = profile.for_container(capabilities)
    assert builtin is not None
    assert builtin == profile.for_container(capabilities, "builtin")
    assert profile.for_container(capabilities, "unconfined") is None
    assert profile.for_container(capabilities, privileged=True) is None
    own = json.dumps(document())
    assert profile.for_container(capabilities, own, privileged=True) == document()
    allowed = {name for entry in builtin["syscalls"] for name in entry["names"]}
    assert "mount" not in allowed
    more = profile.for_container(["CAP_SYS_ADMIN"])
    assert more is not None
    assert "mount" in {name for entry in more["syscalls"] for name in entry["names"]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot read the seccomp profile"),
        ("[]", "no object"),
        ('{"syscalls": ["mount"]}', "`syscalls` is no list of objects"),
        ('{"syscalls": [{"includes": ["CAP_CHOWN"]}]}', "`includes` and `excludes` are objects"),
        ('{"syscalls": [{"name": "a", "names": ["b"]}]}', "both `name: a` and `names`"),
        (
            '{"defaultAction": "x", "architectures": ["y"], "archMap": [{}]}',
            "both `architectures` and `archMap`",
        ),
        (
            '{"syscalls": [{"names": ["b"], "includes": {"minKernel": "new"}}]}',
            "`minKernel: new` is no version",
        ),
    ],
)
def test_profiles_that_cannot_be_read(text: str, message: str) -> None:
    with pytest.raises(RuntimeFailure, match=message) as caught:
        profile.for_container([], text)
    assert caught.value.where == "security_opt: seccomp"
    assert caught.value.hint


def test_a_machine_without_a_table() -> None:
    with pytest.raises(RuntimeFailure, match="on riscv64") as caught:
        profile.default_profile(set(), "riscv64", (6, 1))
    assert "seccomp=unconfined" in caught.value.hint
