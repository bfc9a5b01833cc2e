"""Who builds for whom, and the bytes in between: without hosts."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from hostctl_host.contract.errors import HostctlError

from hostctl.fleet.spool import Spool
from hostctl.fleet.yard import Wanted, Yard

WEB = Wanted("web", "digest")


def never() -> bool:
    return False


def yard(*coming: str, order: str = "abc", machine: str = "x86_64") -> Yard:
    made = Yard(order)
    for host in coming:
        made.expect(host)
        made.arrive(host, machine, [WEB])
    return made


def test_the_first_of_the_order_builds_whoever_asks_first() -> None:
    made = yard("c", "b", "a")
    assert [made.builder(host, WEB) for host in "cba"] == ["a", "a", "a"]


def test_who_is_not_coming_is_passed_over() -> None:
    assert yard("b", "c").builder("c", WEB) == "b"


def test_a_host_waits_until_those_before_it_are_known() -> None:
    made = Yard("ab")
    for host in "ab":
        made.expect(host)
    made.arrive("b", "x86_64", [WEB])
    answers: list[str] = []
    thread = threading.Thread(target=lambda: answers.append(made.builder("b", WEB)))
    thread.start()
    thread.join(0.05)
    assert not answers
    made.leave("a")
    thread.join(10)
    assert answers == ["b"]


def test_each_architecture_and_each_build_has_its_own() -> None:
    made = yard("a")
    made.expect("b")
    made.arrive("b", "aarch64", [WEB])
    made.expect("c")
    other = Wanted("web", "another")
    made.arrive("c", "x86_64", [other])
    assert [made.builder(h, w) for h, w in (("a", WEB), ("b", WEB), ("c", other))] == list("abc")


def test_a_named_builder_must_fit() -> None:
    made = yard("a", "b")
    made.expect("c")
    made.arrive("c", "aarch64", [WEB])
    named = Wanted("web", "digest", on="a")
    assert made.builder("b", named) == "a"
    with pytest.raises(HostctlError, match="one is x86_64, the other aarch64"):
        made.builder("c", named)
    with pytest.raises(HostctlError, match="they want different builds"):
        made.builder("b", Wanted("web", "another", on="a"))
    with pytest.raises(HostctlError, match="known too late"):
        made.builder("b", Wanted("web", "digest", on="z"))


def test_what_is_offered() -> None:
    made = yard("a", "b")
    made.builder("b", WEB)
    made.offered("a", "web", {"id": "", "why": "a step"})
    looked = made.offer("a", "web", False, never)
    assert looked is not None and (looked["final"], looked["why"]) == (False, "a step")
    made.offered("a", "web", {"id": "1"})
    made.finished("a", "web", "changed")
    done = made.offer("a", "web", True, never)
    assert done is not None and (done["final"], done["id"]) == (True, "1") and "error" not in done


@pytest.mark.parametrize(
    ("end", "message"),
    [
        (lambda made: made.finished("a", "web", "failed"), "its build on a failed"),
        (lambda made: made.finished("a", "web", "skipped"), "its build on a was not begun"),
        (lambda made: made.offered("a", "web", {"error": "no"}), "it cannot be built on a"),
        (lambda made: made.leave("a"), "a, which builds it, did not get that far"),
    ],
)
def test_what_is_not_built_is_the_others_failure(end: Callable[[Any], None], message: str) -> None:
    made = yard("a", "b")
    made.builder("b", WEB)
    end(made)
    told = made.offer("a", "web", True, never)
    assert told is not None and (told["error"], told["hint"]) == (message, "see a")
    # The next batch builds anew.
    made.leave("a")
    assert made.builder("b", WEB) == "b"


def test_who_has_built_and_left_is_still_the_source() -> None:
    made = yard("a")
    made.builder("a", WEB)
    made.offered("a", "web", {"id": "1"})
    made.finished("a", "web", "ok")
    made.leave("a")
    made.expect("b")
    made.arrive("b", "x86_64", [WEB])
    assert made.builder("b", WEB) == "a"


def test_a_spool_is_asked_for_each_byte_once() -> None:
    spool = Spool(10)
    assert spool.missing(4) == (4, 10)
    assert spool.missing(4) is None and spool.missing(7) is None
    assert spool.missing(0) == (0, 4)
    spool.write(4, b"456789")
    spool.write(0, b"0123")
    assert spool.read(4, never) == b"456789"
    assert spool.read(2, never) == b"23"
    spool.close()


def test_a_reader_waits_for_bytes_or_the_error() -> None:
    spool = Spool(4)
    spool.missing(0)
    read: list[bytes] = []
    thread = threading.Thread(target=lambda: read.append(spool.read(0, never)))
    thread.start()
    spool.write(0, b"01")
    thread.join(10)
    assert read == [b"01"]
    assert spool.read(2, lambda: True) == b""
    spool.fail(HostctlError("gone"))
    assert spool.read(0, never) == b"01"
    with pytest.raises(HostctlError, match="gone"):
        spool.read(2, never)
    spool.close()
