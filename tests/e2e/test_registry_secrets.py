"""Passwords of registries: they reach the host that pulls, work, and are written down nowhere."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import Lab
from tests.store.registries import RunningRegistry, start_registry
from tests.store.test_faults import BCRYPT
from tests.store.test_pull import make_image

from .command import PROGRAM, Done

pytestmark = pytest.mark.root
RIGHT, WRONG = "secret", "wr0ng-Passw0rd-of-this-test"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab({"pulls": {}}, with_images=False) as made:
        yield made


@pytest.fixture(scope="module")
def registry(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegistry]:
    folder = tmp_path_factory.mktemp("registry")
    (folder / "htpasswd").write_text(f"user:{BCRYPT}\n")
    basic = "Basic " + base64.b64encode(b"user:secret").decode()
    auth = f"auth: {{htpasswd: {{realm: r, path: {folder}/htpasswd}}}}"
    running = start_registry(str(folder), auth, auth=basic, address=lab.address)
    yield running
    running.stop()


class Watch:
    """Collects the arguments and environments of all programs while a block runs."""

    def __enter__(self) -> Watch:
        self.seen: set[bytes] = set()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._end.wait(0.05):
            for entry in Path("/proc").glob("[0-9]*"):
                for name in ("cmdline", "environ"):
                    try:
                        self.seen.add((entry / name).read_bytes())
                    except OSError:
                        continue


class Operator:
    """Someone with a home, an inventory and one playbook."""

    def __init__(self, lab: Lab, folder: Path, image: str) -> None:
        self.lab, self.folder = lab, folder
        host = image.partition("/")[0]
        self.variables = folder / "variables.yml"
        self.variables.write_text(json.dumps({"hostctl_registries": {host: {"insecure": True}}}))
        self.book = folder / "play.yml"
        play = {"project": "guarded", "hosts": "all", "become": True, "images": {image: {}}}
        self.book.write_text(json.dumps([play]))
        self.image = image

    def know(self, password: str) -> None:
        entry = base64.b64encode(f"user:{password}".encode()).decode()
        folder = self.folder / ".docker"
        folder.mkdir(exist_ok=True)
        auths = {"auths": {self.image.partition("/")[0]: {"auth": entry}}}
        (folder / "config.json").write_text(json.dumps(auths))

    def __call__(self, verb: str, *words: str, given: str = "") -> Done:
        options = ["--inventory", str(self.lab.inventory), "-e", f"@{self.variables}", *words]
        done = subprocess.run(
            [str(PROGRAM), verb, *options],
            input=given,
            capture_output=True,
            text=True,
            timeout=120,
            env={**self.lab.environment(), "HOME": str(self.folder), "HOSTCTL_DEBUG": "1"},
            check=False,
        )
        return Done(done.returncode, done.stdout, done.stderr)


def forms(password: str) -> list[bytes]:
    """The password as it could be written anywhere."""
    pair = f"user:{password}".encode()
    return [password.encode(), base64.b64encode(pair), base64.b64encode(password.encode())]


def on_disk(lab: Lab, words: list[bytes]) -> list[str]:
    """Files of the host in which one of these words stands."""
    patterns = [part for word in words for part in ("-e", word.decode())]
    places = ["/var/lib/hostctl", "/run", "/var/log", "/tmp", "/var/tmp", "/root", "/home", "/etc"]
    options = ["grep", "-rlaF", "--devices=skip", *patterns, "--", *places]
    done = lab["pulls"].run(options, check=False)
    return [line for line in done.stdout.splitlines() if line]


def test_passwords_are_written_down_nowhere(
    lab: Lab, registry: RunningRegistry, tmp_path: Path
) -> None:
    made = make_image("guarded")
    image = registry.push("team/guarded", "1", made)
    operator = Operator(lab, tmp_path, image)
    operator.know(WRONG)
    with Watch() as watch:
        outputs = [operator("plan", str(operator.book)), operator("apply", str(operator.book))]
        outputs.append(operator("pull", "--debug", image))
        assert [done.code for done in outputs] == [1, 2, 2]
        assert all("does not allow it" in done.out + done.err for done in outputs)
        operator.know(RIGHT)
        passing = [
            operator("apply", "--json", str(operator.book)),
            operator("pull", "--json", image),
            operator("push", image, f"{registry.host}/team/copy:2"),
        ]
        assert [done.code for done in passing] == [0, 0, 0], passing
    assert passing[0].changed() == {"pulls": [f"create image.{image}"]}
    [row] = passing[1].json["hosts"]["pulls"]
    assert (row["digest"], row["status"]) == (made.digest, "up to date")
    said = "".join(done.out + done.err for done in (*outputs, *passing)).encode()
    everything = [said, *watch.seen]
    assert any(b"hostctl" in text for text in watch.seen)
    for word in forms(WRONG):
        assert not any(word in text for text in everything)
    # "secret" itself is a word of many programs; as a login it is not.
    for word in forms(RIGHT)[1:]:
        assert not any(word in text for text in everything)
    words = [*forms(WRONG), *forms(RIGHT)[1:]]
    assert on_disk(lab, words) == []
    lab["pulls"].run(["tee", "/var/lib/hostctl/planted"], input=b"x" + words[1] + b"x")
    assert on_disk(lab, words) == ["/var/lib/hostctl/planted"]


def test_login_asks_the_registry_from_a_host(
    lab: Lab, registry: RunningRegistry, tmp_path: Path
) -> None:
    operator = Operator(lab, tmp_path, f"{registry.host}/x:1")
    words = ("-l", "pulls", "-u", "user", "--password-stdin", registry.host)
    refused = operator("login", *words, given=WRONG)
    assert refused.code == 1
    assert "cannot log in to" in refused.err and "check user and password" in refused.err
    assert WRONG not in refused.err + refused.out
    assert not (tmp_path / ".docker").exists()
    assert operator("login", *words, given=RIGHT).code == 0
    kept = json.loads((tmp_path / ".docker" / "config.json").read_text())
    assert list(kept["auths"]) == [registry.host]
    assert os.stat(tmp_path / ".docker" / "config.json").st_mode & 0o777 == 0o600
