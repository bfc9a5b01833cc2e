"""Logins of registries: Docker's and Podman's files, helpers, `hostctl login` and what a host is told."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hostctl_host.contract.document import Resource
from hostctl_host.contract.errors import HostctlError

from hostctl.cli import cli
from hostctl.credentials import Keyring, Logins, bases
from hostctl.credentials.files import docker_file

HELPER = """#!/bin/sh
# A credential helper that keeps each login in a file.
folder={folder}
echo "$1" >> {folder}/calls
read -r line
case $1 in
get) name=$(echo "$line" | tr -c 'a-zA-Z0-9\\n' _)
     if [ -e $folder/$name ]; then cat $folder/$name
     else echo "credentials not found in native keychain"; exit 1; fi;;
store) name=$(echo "$line" | sed 's/.*"ServerURL": "\\([^"]*\\)".*/\\1/' | tr -c 'a-zA-Z0-9\\n' _)
     echo "$line" > $folder/$name;;
erase) rm $folder/$(echo "$line" | tr -c 'a-zA-Z0-9\\n' _);;
esac
"""


def coded(user: str, password: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


class Home:
    """An operator's home folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.kept = folder / "kept"
        self.kept.mkdir()

    def docker(self, **content: Any) -> None:
        self._write(self.folder / ".docker" / "config.json", content)

    def podman(self, **content: Any) -> None:
        self._write(self.folder / "run" / "containers" / "auth.json", content)

    def helper(self, name: str, text: str = HELPER) -> None:
        program = self.folder / "bin" / f"docker-credential-{name}"
        program.parent.mkdir(exist_ok=True)
        program.write_text(text.format(folder=self.kept))
        program.chmod(0o755)

    @property
    def config(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(docker_file().read_text())
        return found

    def _write(self, path: Path, content: dict[str, Any]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    for name in ("DOCKER_CONFIG", "REGISTRY_AUTH_FILE", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    return Home(tmp_path)


def login(*words: str, given: str = "") -> Any:
    return CliRunner().invoke(cli, list(words), input=given, standalone_mode=False)


def test_nothing_is_known_without_files(home: Home) -> None:
    assert Keyring().find("quay.io/a/b") is None


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("reg.example:5000", "reg.example:5000/a"),
        ("https://reg.example/v1/", "reg.example/a/b"),
        ("http://reg.example", "reg.example/a"),
        ("reg.example/v2/", "reg.example/a"),
        ("https://index.docker.io/v1/", "docker.io/library/nginx"),
        ("docker.io", "docker.io/library/nginx"),
    ],
)
def test_names_under_which_dockers_file_knows_a_registry(home: Home, key: str, name: str) -> None:
    home.docker(auths={key: coded("ada", "a:b")})
    assert Keyring().find(name) == {"username": "ada", "password": "a:b"}
    assert Keyring().find("other.example/a") is None


def test_podmans_namespaces(home: Home) -> None:
    home.podman(
        auths={
            "quay.io": coded("all", "1"),
            "quay.io/org": coded("org", "2"),
            "quay.io/org/app": coded("app", "3"),
        }
    )
    found = {name: Keyring().find(f"quay.io/{name}") for name in ("x", "org/x", "org/app", "organ")}
    assert {name: entry and entry["username"] for name, entry in found.items()} == {
        "x": "all",
        "org/x": "org",
        "org/app": "app",
        "organ": "all",
    }


def test_an_identity_token_and_plain_fields(home: Home) -> None:
    home.docker(
        auths={
            "a.example": {**coded("00000000", ""), "identitytoken": "tok"},
            "b.example": {"username": "bob", "password": "pw"},
            "c.example": {},
        }
    )
    assert Keyring().find("a.example/x") == {"identitytoken": "tok"}
    assert Keyring().find("b.example/x") == {"username": "bob", "password": "pw"}
    assert Keyring().find("c.example/x") is None


def test_helpers_are_asked_once_and_for_their_registry_only(home: Home) -> None:
    home.helper("one")
    home.docker(
        credHelpers={"a.example": "one"},
        auths={"a.example": coded("file", "x"), "b.example": coded("file", "y")},
    )
    answer = {"ServerURL": "a.example", "Username": "ada", "Secret": "pw"}
    (home.kept / "a_example").write_text(json.dumps(answer))
    keyring = Keyring()
    for name in ("a.example/x", "a.example/y", "a.example/x"):
        assert keyring.find(name) == {"username": "ada", "password": "pw"}
    assert keyring.find("b.example/x") == {"username": "file", "password": "y"}
    assert (home.kept / "calls").read_text() == "get\n"
    (home.kept / "a_example").write_text(json.dumps({**answer, "Username": "<token>"}))
    assert Keyring().find("a.example/x") == {"identitytoken": "pw"}
    (home.kept / "a_example").unlink()
    assert Keyring().find("a.example/x") == {"username": "file", "password": "x"}


@pytest.mark.parametrize(
    ("store", "text", "cause"),
    [
        ("missing", "", "it is not installed"),
        ("../bin/x", "", "that is no name of a program"),
        ("sick", "#!/bin/sh\necho locked keychain\nexit 1\n", "locked keychain"),
        ("odd", '#!/bin/sh\necho \'{{"Secret": "hidden"}}\'\n', "its answer is not what"),
    ],
)
def test_a_helper_that_fails_is_a_problem_of_those_who_need_it(
    home: Home, store: str, text: str, cause: str
) -> None:
    if text:
        home.helper(store, text)
    home.docker(credsStore=store)
    found = Keyring().find("a.example/x")
    assert found is not None and list(found) == ["problem"]
    assert cause in found["problem"] and "hidden" not in found["problem"]


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        ("{", "it is not JSON"),
        ("[]", "no JSON object"),
        ('{"auths": {"a.example": {"auth": "c2VjcmV0"}}}', "a.example is not base64"),
    ],
)
def test_a_broken_file_says_what_and_never_what_is_in_it(
    home: Home, content: str, cause: str
) -> None:
    home.docker()
    docker_file().write_text(content)
    found = Keyring().find("a.example/x")
    assert found is not None
    assert cause in found["problem"] and "secret" not in found["problem"]
    assert "c2VjcmV0" not in found["problem"]


def test_login_and_logout_keep_all_else(home: Home) -> None:
    home.docker(auths={"other.example": coded("x", "y")}, HttpHeaders={"a": "b"})
    home.podman(auths={"reg.example:5000": coded("old", "old")})
    done = login(
        *["login", "-u", "ada", "--password-stdin", "--no-check", "reg.example:5000"], given="pw\n"
    )
    assert done.exception is None
    assert home.config == {
        "auths": {"other.example": coded("x", "y"), "reg.example:5000": coded("ada", "pw")},
        "HttpHeaders": {"a": "b"},
    }
    assert docker_file().stat().st_mode & 0o777 == 0o600
    assert Keyring().find("reg.example:5000/x") == {"username": "ada", "password": "pw"}
    done = login("logout", "--json", "https://reg.example:5000/v1/")
    assert len(json.loads(done.output)["removed"]) == 2
    assert Keyring().find("reg.example:5000/x") is None
    assert home.config["HttpHeaders"] == {"a": "b"}


def test_login_to_a_helper(home: Home) -> None:
    home.helper("box")
    home.docker(credsStore="box")
    words = ["login", "-u", "ada", "--password-stdin", "--no-check", "--json"]
    done = login(*words, given="pw\n")
    assert json.loads(done.output) == {
        "version": 1,
        "registry": "docker.io",
        "stored": "docker-credential-box",
    }
    assert home.config["auths"] == {"https://index.docker.io/v1/": {}}
    assert "pw" not in docker_file().read_text()
    assert Keyring().find("docker.io/library/x") == {"username": "ada", "password": "pw"}
    login("logout")
    assert Keyring().find("docker.io/library/x") is None


@pytest.mark.parametrize(
    ("words", "ref"),
    [
        ("login -u ada -p pw reg.example", "password-option"),
        ("login --password-stdin reg.example", "no-username"),
        ("login reg.example", "no-terminal"),
        ("login -u ada --password-stdin --no-check reg.example", "no-password"),
        ("login -u ada --password-stdin nodots", "image-reference"),
    ],
)
def test_logins_that_cannot_be(home: Home, words: str, ref: str) -> None:
    done = login(*words.split())
    assert isinstance(done.exception, HostctlError)
    assert done.exception.ref == ref
    assert not docker_file().exists()


def image(**spec: Any) -> Resource:
    return Resource(f"image.{spec['name']}", "image", spec)


def test_a_host_is_told_what_its_images_need(home: Home) -> None:
    home.docker(
        auths={
            "a.example": coded("a", "1"),
            "b.example": coded("b", "2"),
            "mirror.example": coded("m", "3"),
            "c.example": coded("c", "4"),
        }
    )
    variables = {
        "hostctl_registries": {
            "a.example": {"mirrors": ["mirror.example/proxy"], "insecure": True},
            "c.example": {"username": "vault", "password": "5"},
            "z.example": {"insecure": True},
        }
    }
    logins = Logins().of("web1", variables)
    resources = [
        image(name="a.example/x:1"),
        image(name="app", pull="c.example/y:1"),
        image(name="b.example/made:1", bootstrap={"suite": "bookworm"}),
        image(name="b.example/old:1", state="absent"),
        Resource("file./b", "file", {"path": "/b"}),
    ]
    assert logins.for_images(resources) == {
        "credentials": {
            "mirror.example/proxy/x": {"username": "m", "password": "3"},
            "a.example/x": {"username": "a", "password": "1"},
            "c.example/y": {"username": "vault", "password": "5"},
        },
        "registries": {
            "a.example": {"insecure": True, "mirrors": ["mirror.example/proxy"]},
            "c.example": {},
        },
    }
    assert logins.for_images([resources[2]]) == {}


def test_a_host_is_answered_only_for_what_it_was_offered(home: Home) -> None:
    home.helper("chain")
    home.docker(credsStore="chain", auths={"b.example": coded("b", "2")})
    Keyring().store("a.example", {"username": "ada", "password": "1"})
    calls = home.kept / "calls"
    calls.write_text("")
    keyring = Keyring()
    one, other = Logins(keyring=keyring).of("web1", {}), Logins(keyring=keyring).of("web2", {})
    told = one.for_references(["a.example/x:1", "b.example/y:1"])["credentials"]
    assert [list(login) for login in told.values()] == [["ask"], ["ask"]]
    assert calls.read_text() == ""
    question = {"number": 7, "topic": "login", "name": "a.example/x"}
    login = {"username": "ada", "password": "1"}
    assert one.reply(question) == {"type": "answer", "number": 7, "login": login}
    assert other.reply(question) == {"type": "answer", "number": 7}
    assert one.reply({**question, "name": "a.example/private"}).get("login") is None
    assert calls.read_text() == "get\n"
    # what was found once is sent with the next document
    assert one.for_references(["a.example/x:1"])["credentials"] == {"a.example/x": login}
    assert calls.read_text() == "get\n"
    file = one.reply({**question, "name": "b.example/y"})
    assert file["login"] == {"username": "b", "password": "2"}, "the helper has none, the file has"


def test_settings_that_cannot_be_used_name_the_host() -> None:
    with pytest.raises(HostctlError, match=r"a\.example: there is no 'inscure'") as caught:
        Logins().of("web1", {"hostctl_registries": {"a.example": {"inscure": True}}})
    assert caught.value.where == "web1"
    assert caught.value.ref == "bad-registries"


def test_bases_of_a_build() -> None:
    text = """ARG TAG=1
FROM a.example/base:$TAG AS one
FROM unused.example/x
FROM one
COPY --from=b.example/tools:2 /x /x
"""
    build = {"dockerfile_inline": text, "args": {"TAG": "7"}}
    build["additional_contexts"] = {"more": "docker-image://c.example/more:1"}
    assert bases(build) == ["c.example/more:1", "a.example/base:7", "b.example/tools:2"]
    assert bases({"dockerfile_inline": "NOTHING"}) == []
