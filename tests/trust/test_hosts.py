"""`hostctl_trust` and logins of helpers on real hosts: plan says no, nothing starts, nobody is asked for nothing."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.command import PROGRAM, Done
from tests.lab import Lab
from tests.store.layers import sha256
from tests.store.registries import RunningRegistry, start_registry
from tests.store.test_faults import BCRYPT
from tests.trust.signing import Key, sign

pytestmark = pytest.mark.lab

SLEEP = ["sleep", "100097"]
HELPER = """#!/bin/sh
read -r server
echo "$1 $server" >> {folder}/asked
echo '{{"ServerURL": "x", "Username": "user", "Secret": "secret"}}'
"""


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab({"web1": {}, "web2": {}}) as made:
        yield made


@pytest.fixture(scope="module")
def registry(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegistry]:
    """It wants a login for everything."""
    folder = tmp_path_factory.mktemp("registry")
    (folder / "htpasswd").write_text(f"user:{BCRYPT}\n")
    basic = "Basic " + base64.b64encode(b"user:secret").decode()
    auth = f"auth: {{htpasswd: {{realm: r, path: {folder}/htpasswd}}}}"
    running = start_registry(str(folder), auth, auth=basic, address=lab.address)
    yield running
    running.stop()


class Operator:
    """Someone whose logins are in a helper, with an inventory that has rules."""

    def __init__(self, lab: Lab, folder: Path, registry: str) -> None:
        self.lab, self.folder = lab, folder
        self.settings = {registry: {"insecure": True}}
        self.inventory = folder / "inventory.yml"
        self.rules({})
        program = folder / "bin" / "docker-credential-counts"
        program.parent.mkdir()
        program.write_text(HELPER.format(folder=folder))
        program.chmod(0o755)
        (folder / ".docker").mkdir()
        (folder / ".docker" / "config.json").write_text('{"credsStore": "counts"}')

    def rules(self, rules: dict[str, Any]) -> None:
        """The inventory with these; they stand in a file of their own."""
        (self.folder / "group_vars").mkdir(exist_ok=True)
        (self.folder / "group_vars" / "all.yml").write_text(
            json.dumps({"hostctl_trust": rules}, indent=1) if rules else ""
        )
        self.inventory.write_text(self.lab.inventory_yaml(hostctl_registries=self.settings))

    @property
    def asked(self) -> list[str]:
        """Calls of the helper since the last look."""
        path = self.folder / "asked"
        lines = path.read_text().splitlines() if path.exists() else []
        path.write_text("")
        return lines

    def play(self, image: str, **more: Any) -> str:
        container = {"image": image, "command": SLEEP, "stop_grace_period": "0s"}
        play = {"project": "held", "hosts": "all", "become": True}
        path = self.folder / "play.yml"
        path.write_text(json.dumps([{**play, "containers": {"app": container}, **more}]))
        return str(path)

    def __call__(self, verb: str, *words: str) -> Done:
        path = f"{self.folder}/bin:{os.environ['PATH']}"
        done = subprocess.run(
            [str(PROGRAM), verb, "--inventory", str(self.inventory), *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=150,
            env={**self.lab.environment(), "HOME": str(self.folder), "PATH": path},
            check=False,
        )
        return Done(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def operator(lab: Lab, registry: RunningRegistry, tmp_path: Path) -> Iterator[Operator]:
    made = Operator(lab, tmp_path, registry.host)
    yield made
    made.rules({})
    made("destroy", "--yes", made.play("x"))
    for host in lab.hosts.values():
        host.run(["rm", "-rf", "/var/lib/hostctl/store", "/var/lib/hostctl/build"])


def push_shell(lab: Lab, registry: RunningRegistry, name: str) -> str:
    """The lab's `base:1`, copied into the registry; its digest."""
    subprocess.run(
        [
            *("skopeo", "copy", "--quiet", "--src-tls-verify=false", "--dest-tls-verify=false"),
            *("--dest-creds", "user:secret", f"docker://{lab.registry.url}/base:1"),
            f"docker://{registry.host}/{name}:1",
        ],
        stdin=subprocess.DEVNULL,
        check=True,
    )
    shown = subprocess.run(
        [
            *("skopeo", "inspect", "--raw", "--tls-verify=false", "--creds", "user:secret"),
            f"docker://{registry.host}/{name}:1",
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        check=True,
    )
    return sha256(shown.stdout)


def containers(lab: Lab) -> list[str]:
    """Processes of the container on all hosts."""
    argv = ["pgrep", "-fx", " ".join(SLEEP)]
    return [
        line for host in lab.hosts.values() for line in host.run(argv, check=False).stdout.split()
    ]


def test_plan_and_apply_refuse_and_a_signature_lets_through(
    lab: Lab, registry: RunningRegistry, operator: Operator
) -> None:
    name, key = "held/app", Key()
    digest = push_shell(lab, registry, name)
    reference = f"{registry.host}/{name}"
    (operator.folder / "group_vars").mkdir(exist_ok=True)
    (operator.folder / "group_vars" / "shop.pub").write_text(key.public)
    operator.rules({"default": "reject", registry.host: {"signed": "shop.pub"}})
    where = f"{operator.folder}/group_vars/all.yml:4:3"
    book = operator.play(f"{reference}:1")
    for verb, code in (("plan", 1), ("apply", 2)):
        done = operator(verb, book)
        assert done.code == code, done.err
        assert (
            f"cannot trust {reference}@{digest}: hostctl_trust, {registry.host} ({where}) wants a signature:"
            f" {digest} is not signed"
        ) in done.out + done.err
        assert f"cosign sign --key KEY {reference}@{digest}" in done.out + done.err
    assert containers(lab) == []
    for host in lab.hosts.values():
        listed = host.run(["find", "/var/lib/hostctl", "-path", "*/store/layers/*"], check=False)
        assert listed.stdout == "", "something was pulled"
    sign(registry, reference, digest, Key())
    assert "it was not made with the key of the rule" in operator("plan", book).out
    sign(registry, reference, digest, key)
    done = operator("apply", "--json", book)
    assert done.code == 0, done.out + done.err
    assert done.changed()["web1"][:1] == done.changed()["web2"][:1]
    assert len(containers(lab)) == 2
    assert operator("plan", book).code == 0
    operator.rules({"default": "reject"})
    done = operator("plan", book)
    assert done.code == 1
    assert (
        f"hostctl_trust, default ({operator.folder}/group_vars/all.yml:3:3) says reject" in done.out
    )
    assert len(containers(lab)) == 2, "what runs is left alone"


def test_pull_and_build_obey(lab: Lab, registry: RunningRegistry, operator: Operator) -> None:
    name, key = "held/base", Key()
    digest = push_shell(lab, registry, name)
    reference = f"{registry.host}/{name}"
    (operator.folder / "Dockerfile").write_text(f"FROM {reference}:1\nRUN echo made > /made\n")
    build = ("build", "-q", "-t", "shop/made:1", str(operator.folder))
    operator.rules({registry.host: {"signed": key.public}})
    for words in (("pull", f"{reference}:1"), build):
        done = operator(*words)
        assert done.code == 2
        assert f"{digest} is not signed" in done.err
    assert operator("images", "-q").out == ""
    sign(registry, reference, digest, key)
    assert operator(*build).code == 0
    done = operator("pull", "--json", f"{reference}:1")
    assert [row["status"] for rows in done.json["hosts"].values() for row in rows] == [
        "up to date"
    ] * 2
    assert operator(*build).code == 0
    operator.rules({registry.host: "reject"})
    for words in (("pull", f"{reference}:1"), build):
        done = operator(*words)
        assert done.code == 2, words
        assert "says reject" in done.err
    operator.rules({"default": "reject"})
    assert operator("plan", operator.play("shop/made:1")).code == 2, "what was built here is local"


def test_a_helper_is_asked_when_a_host_needs_the_registry(
    lab: Lab, registry: RunningRegistry, operator: Operator
) -> None:
    push_shell(lab, registry, "held/lazy")
    book = operator.play(f"{registry.host}/held/lazy:1")
    assert operator.asked == []
    assert operator("apply", book).code == 0
    assert operator.asked == [f"get {registry.host}"], "once for two hosts"
    for verb in ("apply", "plan"):
        assert operator(verb, book).code == 0
    assert operator.asked == [], "nothing is to be pulled"
    done = operator("pull", "--json", f"{registry.host}/held/lazy:1")
    assert done.code == 0
    assert operator.asked == [f"get {registry.host}"]


def test_what_is_wrong_with_rules_is_said_before_a_host_is_asked(
    registry: RunningRegistry, operator: Operator
) -> None:
    operator.rules({"default": "perhaps", "a.example": {"signed": "nothing.pub"}})
    done = operator("plan", operator.play(f"{registry.host}/x:1"))
    assert done.code == 1
    assert f"{operator.folder}/group_vars/all.yml:3:3" in done.err
    assert "nothing.pub: no such file or directory" in done.err
    assert done.err.count("cannot use hostctl_trust") == 2, "not once for each host"
    assert operator("pull", f"{registry.host}/x:1").code == 1
