"""Runs on the test machine: a host whose own firewall forwards nothing, from the warning to a page. One story."""

from __future__ import annotations

import json
import re
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from tests.e2e.command import Hostctl
from tests.lab import Lab

pytestmark = [pytest.mark.root, pytest.mark.lab]

STRICT = "add table inet strict; add chain inet strict passage { type filter hook forward priority 0; policy drop; }"
SAYS = r"network site_default: the firewall \(table inet strict, chain passage\) drops "


@pytest.fixture(scope="module")
def own(own: Lab) -> Lab:
    own["web1"].run(["nft", STRICT])
    return own


@pytest.fixture(scope="module")
def book(own: Lab, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("strict") / "site.yml"
    play = {
        "hosts": "all",
        "project": "site",
        "images": {"nginx": {"pull": f"{own.registry.url}/nginx:1", "insecure": True}},
        "containers": {"web": {"image": "nginx", "ports": ["8080:80"]}},
    }
    path.write_text(json.dumps([play]))
    return str(path)


def page(lab: Lab) -> str:
    try:
        with urlopen(f"http://{lab['web1'].address}:8080/", timeout=2) as answer:
            return str(answer.status)
    except (URLError, OSError):
        return "nothing"


def test_plan_and_apply_tell(own: Lab, hostctl: Hostctl, book: str) -> None:
    plan = hostctl("plan", book)
    assert re.search("! " + SAYS, plan.out), plan.out + plan.err
    (warning,) = hostctl("plan", "--json", book).json["hosts"]["web1"]["warnings"]
    assert re.match(SAYS, warning)
    done = hostctl("apply", "--yes", book)
    assert done.code == 0, done.out + done.err
    assert f"! {warning}" in done.out
    assert hostctl("apply", "--yes", "--json", book).json["hosts"]["web1"]["warnings"] == [warning]
    assert page(own) == "nothing"


def test_what_it_says_is_enough(own: Lab, hostctl: Hostctl, book: str) -> None:
    (warning,) = hostctl("plan", "--json", book).json["hosts"]["web1"]["warnings"]
    own["web1"].sh(warning.split("to let it through: ")[1].partition("; that lasts")[0])
    assert page(own) == "200"
    for verb in ("plan", "apply"):
        assert "! network" not in hostctl(verb, book).out
        assert hostctl(verb, "--json", book).json["hosts"]["web1"]["warnings"] == []


def test_nothing_else_of_it_was_touched(own: Lab, hostctl: Hostctl, book: str) -> None:
    rules = own["web1"].sh("nft list table inet strict")
    assert hostctl("destroy", "--yes", book).code == 0
    assert own["web1"].sh("nft list table inet strict") == rules
    assert "policy drop" in rules
