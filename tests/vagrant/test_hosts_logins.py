"""Runs in tests of virtual machines: inconvenient logins, and a host without Python."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.e2e.test_passwords import Terminal

from .conftest import Site

pytestmark = pytest.mark.root

PASSWORD = "vm-secret 'quoted'"
ODD = """set -e
id odd > /dev/null 2>&1 || useradd --create-home --shell /bin/dash odd
install -d -m 0700 -o odd -g odd /home/odd/.ssh
install -m 0600 -o odd -g odd /home/vagrant/.ssh/authorized_keys /home/odd/.ssh/authorized_keys
echo 'odd ALL=(ALL) PASSWD: ALL' > /etc/sudoers.d/odd
chmod 0440 /etc/sudoers.d/odd
chpasswd
mount --bind /home/odd /home/odd
mount -o remount,bind,ro /home/odd
mount -t tmpfs -o noexec,mode=1777 tmpfs /tmp
"""
UNDO = """
umount /tmp; umount /home/odd; loginctl terminate-user odd 2> /dev/null
sleep 1; userdel --force --remove odd; rm -f /etc/sudoers.d/odd
"""
BOOK = """\
  tasks: [copy: {dest: /etc/odd, content: "odd\\n"}]
  containers: {web: {image: shell, command: [sleep, infinity], restart: always}}
"""
AS_ODD = ("-e", "ansible_user=odd")


@pytest.fixture
def odd(site: Site) -> Iterator[Site]:
    """A user whose shell is dash, whose home is read-only and whose sudo asks; /tmp is noexec."""
    site.vm.run(["sh", "-c", ODD], input=f"odd:{PASSWORD}\n")
    yield site
    site.clear()
    site.vm.run(["sh", "-c", UNDO], check=False)


def test_an_odd_login(odd: Site) -> None:
    """dash, a read-only home, noexec /tmp and a sudo that asks: the password is enough, however it is given."""
    site = odd
    assert "noexec" in site.vm.sh("findmnt -no OPTIONS /tmp").split(",")
    assert "ro" in site.vm.sh("findmnt -no OPTIONS /home/odd").split(",")
    book = site.write(BOOK, "odd")
    secret = ("-e", json.dumps({"ansible_become_password": PASSWORD}))
    done = site("apply", *AS_ODD, *secret, book)
    assert PASSWORD not in done.out + done.err
    assert site.changed("plan", *AS_ODD, *secret, book) == []
    assert site.vm.sh("cat /etc/odd") == "odd\n"
    assert site.ps()["odd-web-1"] == "running"
    assert site.vm.sh("find /home/odd /tmp -user odd -newer /etc/odd") == ""

    wrong = site.hostctl(
        "apply", *AS_ODD, "-e", "ansible_become_password=no", str(book), timeout=300
    )
    assert wrong.code == 2
    assert "wrong sudo password" in wrong.out
    none = site.hostctl("apply", *AS_ODD, str(book), timeout=300)
    assert none.code == 2
    assert "ansible_become_password" in none.out and "-K" in none.out

    argv = site.hostctl.argv("apply", *AS_ODD, "-K", str(book))
    terminal = Terminal(argv[1:], site.machines.environment())
    terminal.wait_for("sudo password: ")
    terminal.type(PASSWORD + "\n")
    assert terminal.end() == 0, terminal.shown
    assert PASSWORD not in terminal.shown


@pytest.fixture
def pythons(site: Site) -> Iterator[Site]:
    yield site
    site.vm.sh(
        "for away in /usr/bin/python3*.away; do [ -e $away ] && mv $away ${away%.away}; done; true"
    )


def test_no_python(pythons: Site) -> None:
    """A host without Python: the plan says that, and what to type there."""
    site = pythons
    book = site.write("  tasks: [copy: {dest: /etc/odd, content: x}]\n", "odd")
    site.vm.sh("for name in /usr/bin/python3 /usr/bin/python3.[0-9]*; do mv $name $name.away; done")
    none = site.hostctl("plan", str(book), timeout=300)
    assert none.code == 1
    assert "there is no python3" in none.out
    assert "apt install python3-minimal" in none.out
