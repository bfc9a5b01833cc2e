"""Runs on the test machine: a secret over SSH: from an environment variable to a container, and to nothing else.

The tests of this file are the steps of one story: each takes up where the one before it stopped.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.command import Hostctl
from tests.lab import Lab

pytestmark = [pytest.mark.root, pytest.mark.lab]

PLAYBOOK = str(Path(__file__).with_name("secrets.yml"))
FIRST, SECOND = "pa55-gr4ndfather", "pa55-cl0ck"
# Whole folders, the output of every process, the arguments and environments of all.
SEARCH = r"""
grep -rlaF -e "$1" /var/lib/hostctl /run/hostctl /tmp /var/log /root /home 2>/dev/null || true
for place in /proc/[0-9]*; do
    grep -laF -e "$1" "$place/cmdline" "$place/environ" 2>/dev/null || true
done
"""


@pytest.fixture
def hostctl(own: Lab, monkeypatch: pytest.MonkeyPatch) -> Hostctl:
    monkeypatch.setenv("SAFE_DB_PASSWORD", FIRST)
    return Hostctl(own)


def holders(lab: Lab, value: str) -> list[str]:
    """Files of the host, processes included, that hold the value. The search itself does not."""
    half = len(value) // 2
    script = SEARCH.replace('"$1"', f'"{value[:half]}""{value[half:]}"')
    return lab["web1"].sh(script).split()


def said(*outputs: str) -> str:
    return "\n".join(outputs)


def test_plan_and_apply_say_nothing_of_the_value(hostctl: Hostctl, own: Lab) -> None:
    plan = hostctl("plan", "-vvv", PLAYBOOK)
    assert plan.code == 2, plan.err
    assert "+ secret.safe_db_password" in plan.out and "+greeting = hello" in plan.out
    assert holders(own, FIRST) == []
    done = hostctl("apply", "--yes", "-vvv", "--json", PLAYBOOK)
    assert done.code == 0, done.out + done.err
    assert FIRST not in said(plan.out, plan.err, done.out, done.err)


def test_the_container_has_it_and_the_host_has_it_once(hostctl: Hostctl, own: Lab) -> None:
    script = "cat /run/secrets/db_password /etc/db/key /site; stat -c '%u:%g %a' /etc/db/key"
    told = hostctl("exec", "safe-db-1", "sh", "-c", script)
    assert told.code == 0, told.err
    assert told.out.count(FIRST) == 2 and "greeting = hello" in told.out
    assert "999:999 400" in told.out
    assert hostctl("exec", "safe-plain-1", "ls", "/run/secrets").code != 0
    assert holders(own, FIRST) == ["/run/hostctl/secrets/safe_db_password"]
    assert own["web1"].sh("stat -c %a /run/hostctl/secrets/safe_db_password").strip() == "600"


def test_what_is_written_down_is_a_hash_of_this_host(own: Lab) -> None:
    import hashlib

    plain = hashlib.sha256(FIRST.encode()).hexdigest()
    assert holders(own, plain) == []
    text = own["web1"].sh("cat /var/lib/hostctl/projects/safe/generations/1.json")
    (found,) = [r for r in json.loads(text)["document"]["resources"] if r["kind"] == "secret"]
    assert set(found["spec"]) == {"keyed_hash"}


def test_the_second_apply_changes_nothing(hostctl: Hostctl) -> None:
    assert hostctl("plan", PLAYBOOK).code == 0
    done = hostctl("apply", "--yes", "--json", PLAYBOOK)
    assert done.json["hosts"]["web1"]["changes"] == []


def test_another_value_replaces_the_one_that_uses_it(
    hostctl: Hostctl, own: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAFE_DB_PASSWORD", SECOND)
    plan = hostctl("plan", PLAYBOOK)
    assert plan.code == 2 and "secret db_password changed  (forces replacement)" in plan.out
    done = hostctl("apply", "--yes", "--json", PLAYBOOK)
    assert done.code == 0, done.out
    assert done.changed()["web1"] == [
        "update secret.safe_db_password",
        "replace container.safe-db-1",
    ]
    told = hostctl("exec", "safe-db-1", "cat", "/run/secrets/db_password")
    assert SECOND in told.out
    assert holders(own, FIRST) == []
    assert FIRST not in said(plan.out, plan.err, done.out, done.err)
    assert SECOND not in said(plan.out, plan.err, done.out, done.err)


def test_a_missing_variable_is_said_before_the_host_is_touched(
    hostctl: Hostctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SAFE_DB_PASSWORD")
    done = hostctl("apply", "--yes", PLAYBOOK)
    assert done.code == 1
    assert "the environment variable SAFE_DB_PASSWORD is not set" in done.err


def test_destroy_leaves_nothing_of_it(hostctl: Hostctl, own: Lab) -> None:
    done = hostctl("destroy", "--yes", PLAYBOOK)
    assert done.code == 0, done.out + done.err
    assert holders(own, SECOND) == []
    left = own["web1"].sh("ls -A /run/hostctl/secrets /var/lib/hostctl/secrets")
    assert left.split() == ["/run/hostctl/secrets:", "/var/lib/hostctl/secrets:"]
