"""Runs in tests of virtual machines: the power goes in the middle of something, and what is there afterwards."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator

import pytest

from tests.lab.paths import REGISTRY_PORT

from .conftest import POLITE, Site
from .machines import GATEWAY
from .stalling import Stalling

pytestmark = pytest.mark.root

REDIS = """\
  volumes: {data: {}}
  containers:
    db:
      image: redis
      command: [redis-server, --protected-mode, "no", --dir, /data, --appendonly, "yes", --appendfsync, always]
      volumes: ["data:/data"]
      ports: ["6379:6379"]
      restart: always
"""
PULLS = f"""\
- hosts: {{host}}
  project: pulls
  become: true
  images:
    nginx: {{{{pull: "{{{{{{{{ registry }}}}}}}}/nginx:1", insecure: true}}}}
    shell: {{{{pull: "{GATEWAY}:{{port}}/shell:1", insecure: true}}}}
  containers:
    web: {{{{image: nginx, restart: always}}}}
    sh: {{{{image: shell, command: [sh, -c, "{POLITE}"], restart: always, depends_on: [web]}}}}
"""
COUNT = 12
"""Containers that are made one after the other, each after the one before it."""

# Of each blob its digest; of each layer that came as one, every file as it is in the archive.
STORE = r"""
import gzip, hashlib, io, json, os, sys, tarfile
root = "/var/lib/hostctl/store"
wrong, layers, files = [], 0, 0
for name in sorted(os.listdir(root + "/blobs/sha256")):
    with open(root + "/blobs/sha256/" + name, "rb") as stream:
        data = stream.read()
    if hashlib.sha256(data).hexdigest() != name:
        wrong.append("blob " + name)
    if data[:2] != b"\x1f\x8b":
        continue
    data = gzip.decompress(data)
    layer = root + "/layers/" + hashlib.sha256(data).hexdigest()
    if not os.path.isdir(layer):
        continue
    layers += 1
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for member in archive:
            if not member.isfile() or os.path.basename(member.name).startswith(".wh."):
                continue
            files += 1
            content = archive.extractfile(member).read()
            try:
                with open(os.path.join(layer, member.name), "rb") as stream:
                    same = stream.read() == content
            except OSError:
                same = False
            if not same:
                wrong.append(layer + "/" + member.name)
named = [one["digest"][7:] for one in json.load(open(root + "/index.json"))["manifests"]]
wrong += ["no manifest " + name for name in named if not os.path.exists(root + "/blobs/sha256/" + name)]
print(json.dumps({"wrong": wrong, "layers": layers, "files": files, "named": len(named)}))
"""


def store(site: Site) -> dict[str, int]:
    """Nothing in the image store is other than its name says; how much there is."""
    done = site.vm.run(["python3", "-"], input=STORE, timeout=600)
    found: dict[str, int] = json.loads(done.stdout)
    assert not found.pop("wrong"), done.stdout
    return found


class Redis:
    """A client that waits for each answer."""

    def __init__(self, address: str) -> None:
        self._socket = socket.create_connection((address, 6379), timeout=120)
        self._answers = self._socket.makefile("rb")

    def __call__(self, *words: str) -> str:
        """Raises OSError where the connection ends."""
        packed = "".join(f"${len(word)}\r\n{word}\r\n" for word in words)
        self._socket.sendall(f"*{len(words)}\r\n{packed}".encode())
        line = self._answers.readline().decode()
        if not line.endswith("\r\n"):
            raise ConnectionResetError
        if line.startswith("$") and line != "$-1\r\n":
            return self._answers.readline().decode().strip()
        return line.strip()

    def close(self) -> None:
        self._answers.close()
        self._socket.close()


class Writes(threading.Thread):
    """Writes number after number; `acknowledged` is the last that the database says it has."""

    def __init__(self, address: str) -> None:
        super().__init__()
        self.acknowledged = 0
        self.enough = threading.Event()
        self._redis = Redis(address)

    def run(self) -> None:
        try:
            while self._redis("SET", f"n{self.acknowledged + 1}", "x" * 200) == "+OK":
                self.acknowledged += 1
                if self.acknowledged >= 50:
                    self.enough.set()
        except OSError:
            pass

    def close(self) -> None:
        self._redis.close()
        self.join()


@pytest.fixture
def stalling() -> Iterator[Stalling]:
    with Stalling(f"127.0.0.1:{REGISTRY_PORT}") as registry:
        yield registry


def cut_amid(site: Site, book: object, moment: str) -> None:
    """Start an apply, cut the power at a moment that a shell condition on the machine tells, and boot again."""
    apply = site.hostctl.start("apply", "--yes", "--limit", site.vm.name, str(book))
    try:
        site.vm.sh(f"until {moment}; do sleep 0.05; done", timeout=600)
        site.vm.cut_power()
        site.vm.power_on()
        site.vm.wait_until("systemctl is-active -q hostctl")
        out, err = apply.communicate(timeout=600)
    finally:
        apply.kill()
        apply.communicate()
    assert apply.returncode in (2, 4), out + err
    assert "Traceback" not in out + err


def test_amid_a_pull_and_writes(site: Site, stalling: Stalling) -> None:
    """Half a layer is there and a database has said what it has: that is kept, half a layer is nothing."""
    vm, book = site.vm, site.write(REDIS, "redis")
    site("apply", book)
    pulls = site.folder / "pulls.yml"
    pulls.write_text(PULLS.format(host=vm.name, port=stalling.port))
    site.adopt("pulls", pulls)
    writes = Writes(vm.address)
    writes.start()
    try:
        half = "find /var/lib/hostctl/store/tmp -name blob -size +1000k | grep -q ."
        whole = "grep -q nginx /var/lib/hostctl/store/index.json"
        assert writes.enough.wait(timeout=300)
        cut_amid(site, pulls, f"{half} && {whole}")
    finally:
        writes.close()
    assert stalling.stalled.is_set()

    site.wait_for("redis-db-1", "running")
    redis = Redis(vm.address)
    try:
        lost = [n for n in range(1, writes.acknowledged + 1) if redis("EXISTS", f"n{n}") != ":1"]
    finally:
        redis.close()
    assert (lost, writes.acknowledged >= 50) == ([], True)
    before = store(site)
    assert before["named"] >= 2, before
    assert "redis" in site("images").out

    stalling.go_on()
    assert site.changed("plan", book) == []
    site("apply", pulls)
    assert site.changed("plan", pulls) == []
    assert site.ps() == dict.fromkeys(("pulls-sh-1", "pulls-web-1", "redis-db-1"), "running")
    after = store(site)
    assert after["layers"] > before["layers"] and after["files"] > 1000, after
    assert vm.sh("find /var/lib/hostctl/store/tmp -type f -size +0") == ""


def begun(site: Site, names: list[str]) -> list[float]:
    """When each of the containers was started."""
    states = " ".join(f"/var/lib/hostctl/containers/{name}/state.json" for name in names)
    found = site.vm.sh(f"for state in {states}; do cat $state; echo; done").splitlines()
    return [float(json.loads(line)["started_at"]) for line in found if line]


def test_amid_an_apply(site: Site) -> None:
    """Some containers run, one is being made, the rest is to come; after the boot the same apply makes the rest."""
    vm = site.vm
    chain = "".join(
        f'    c{n}: {{image: shell, command: [sh, -c, "{POLITE}"], restart: always, volumes: ["v:/v"]'
        f"{f', depends_on: [c{n - 1}]' if n else ''}}}\n"
        for n in range(COUNT)
    )
    book = site.write(f"  volumes: {{v: {{}}}}\n  containers:\n{chain}")
    cut_amid(site, book, "test -e /run/hostctl/containers/shop-c2-1/state.json")
    names = [f"shop-c{n}-1" for n in range(COUNT)]
    assert set(site.ps()) < set(names)  # the last was not reached
    site("apply", book)
    assert site.changed("plan", book) == []
    assert site.ps() == dict.fromkeys(names, "running")
    kept = vm.sh("ls /var/lib/hostctl/containers").split()
    assert sorted(kept) == sorted(names)
    times = begun(site, names)
    assert times == sorted(times)
    vm.systemctl("restart", "hostctl")
    site.wait_for(names[-1], "running")
    again = begun(site, names)
    assert again == sorted(again) and again[0] > times[-1]
    store(site)
