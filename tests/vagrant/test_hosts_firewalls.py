"""Runs in tests of virtual machines: firewalls of the host that are switched on, loaded again and switched off."""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from .conftest import Site

pytestmark = pytest.mark.root

BOOK = """\
  containers:
    web: {image: nginx, ports: ["8080:80"], restart: always}
"""
RULES = "/etc/nftables.conf"
MINE = """\
flush ruleset
table inet mine {
  chain input {
    type filter hook input priority 0; policy drop;
    ct state established accept
    iif lo accept
    tcp dport 22 accept
  }
}
"""
PATIENCE = 180.0
INSTALL = "DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends {} > /dev/null 2>&1"


def page(site: Site) -> str:
    """What somebody on another machine gets."""
    try:
        url = f"http://{site.vm.address}:8080/"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return str(answer.status)
    except (urllib.error.URLError, OSError):
        return "nothing"


def answers(site: Site) -> None:
    """The page is there, soon: nobody does anything for it."""
    deadline = time.monotonic() + PATIENCE
    while page(site) != "200":
        assert time.monotonic() < deadline, site.vm.sh("nft list ruleset")


def warnings(site: Site, verb: str, book: object) -> list[str]:
    found: list[str] = site(verb, book).json["hosts"][site.vm.name]["warnings"]
    return found


def does_what_it_is_told(site: Site, book: object, owner: str) -> None:
    """The warning of the plan names the owner, and what it says to type is enough, for good."""
    (warning,) = warnings(site, "plan", book)
    assert f"the firewall of {owner} " in warning
    site.vm.sh(warning.split("to let it through: ")[1])
    answers(site)
    assert warnings(site, "plan", book) == []


@pytest.fixture
def rules(site: Site) -> Iterator[Site]:
    """The file of nftables.service is as it was, and the service off."""
    site.vm.sh(f"cp -p {RULES} {RULES}.kept")
    yield site
    site.vm.sh(
        f"mv {RULES}.kept {RULES}; systemctl stop nftables; systemctl reset-failed nftables || true"
    )


@pytest.mark.core
def test_nftables_service(rules: Site) -> None:
    """All rules are flushed: by hand, by a start, a reload, a restart, a stop; the port answers again by itself."""
    site = rules
    book = site.write(BOOK)
    site("apply", book)
    answers(site)
    site.vm.run(["sh", "-c", f"cat > {RULES}"], input=MINE)
    pid = site.vm.container_pid("shop-web-1")
    for act in ("start", "reload", "restart", "stop"):
        site.vm.systemctl(act, "nftables")
        # Nobody has loaded ours yet, or somebody has: it has to be there in the end, as it was.
        site.vm.wait_until("nft list table inet hostctl > /dev/null 2>&1", timeout=PATIENCE)
        answers(site)
        mine = "table inet mine" in site.vm.sh("nft list tables")
        assert mine == (act != "stop"), act
    site.vm.sh("nft flush ruleset")
    answers(site)
    assert site.changed("plan", book) == []
    assert site.vm.container_pid("shop-web-1") == pid


@pytest.fixture
def ufw(site: Site) -> Iterator[Site]:
    site.vm.sh(f"{INSTALL.format('ufw')}; systemctl enable --now ufw", timeout=900)
    yield site
    site.clear()
    site.vm.sh("ufw --force reset; systemctl disable --now ufw; nft flush ruleset", timeout=300)


@pytest.mark.nightly
def test_ufw(ufw: Site) -> None:
    """ufw refuses what is routed: the plan says what to type, and that holds after its reload and restart."""
    site = ufw
    site.vm.sh("ufw allow 22/tcp; ufw --force enable", timeout=300)
    book = site.write(BOOK)
    assert len(warnings(site, "apply", book)) == 1
    assert page(site) == "nothing"
    does_what_it_is_told(site, book, "ufw")
    for words in ("ufw reload", "systemctl restart ufw"):
        site.vm.sh(words, timeout=300)
        answers(site)
    assert site.changed("plan", book) == []


@pytest.fixture
def firewalld(site: Site) -> Iterator[Site]:
    site.vm.sh(
        f"{INSTALL.format('firewalld netbase')}; systemctl enable --now firewalld", timeout=900
    )
    yield site
    site.clear()
    # With what the scenario has told it for good.
    site.vm.sh("systemctl disable --now firewalld; rm -f /etc/firewalld/zones/*; nft flush ruleset")


@pytest.mark.nightly
def test_firewalld(firewalld: Site) -> None:
    """firewalld lets in what is redirected, not what containers begin: what the plan says to type helps, for good."""
    site = firewalld
    site.vm.wait_until("firewall-cmd --state > /dev/null 2>&1", timeout=PATIENCE)
    book = site.write(BOOK)
    assert len(warnings(site, "apply", book)) == 1
    does_what_it_is_told(site, book, "firewalld")
    for words in ("firewall-cmd --reload", "systemctl restart firewalld"):
        site.vm.sh(words, timeout=300)
        answers(site)
    assert site.changed("plan", book) == []
