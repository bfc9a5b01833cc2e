"""The image verbs over SSH, on two hosts, with a registry that wants a login: what is there then, as which JSON."""

from __future__ import annotations

import base64
import json
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.command import PROGRAM, Done
from tests.lab import Lab
from tests.store.layers import TestImage, member, tar
from tests.store.registries import RunningRegistry, start_registry
from tests.store.test_faults import BCRYPT

pytestmark = pytest.mark.lab

HOSTS = {"web1": {}, "web2": {}}
LIST = {
    "name",
    "repository",
    "tag",
    "id",
    "digest",
    "created",
    "age",
    "size",
    "labels",
    "containers",
    "releases",
}
DOCKER_LIST = {
    "Containers",
    "CreatedAt",
    "CreatedSince",
    "Digest",
    "ID",
    "Repository",
    "Size",
    "Tag",
}
DOCKER_HISTORY = {"Comment", "CreatedAt", "CreatedBy", "CreatedSince", "ID", "Size"}
DOCKER_DF = {"Active", "Reclaimable", "Size", "TotalCount", "Type"}


def make(seed: str) -> TestImage:
    base = tar(member("etc/"), member("etc/os", b"debian"))
    top = tar(member("etc/"), member("etc/name", seed.encode() * 1000))
    config = {"Cmd": ["sh"], "Env": ["A=1"], "Labels": {"seed": seed}}
    return TestImage([base, top], config=config, created="2026-01-02T03:04:05Z")


@pytest.fixture(scope="module")
def registry(own: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegistry]:
    folder = tmp_path_factory.mktemp("registry")
    (folder / "htpasswd").write_text(f"user:{BCRYPT}\n")
    auth = f"auth: {{htpasswd: {{realm: r, path: {folder}/htpasswd}}}}"
    basic = "Basic " + base64.b64encode(b"user:secret").decode()
    running = start_registry(str(folder), auth, auth=basic, address=own.address)
    yield running
    running.stop()


class Verbs:
    """`hostctl` with a home of its own; hosts begin without images."""

    def __init__(self, lab: Lab, folder: Path, registry: str) -> None:
        self.lab, self.folder = lab, folder
        self.inventory = folder / "inventory.yml"
        settings = {registry: {"insecure": True}}
        self.inventory.write_text(lab.inventory_yaml(hostctl_registries=settings))

    def __call__(self, *words: str, given: str = "", code: int = 0) -> Done:
        verb = 2 if words[0] in ("image", "system") else 1
        where = [] if words[0] == "logout" else ["--inventory", str(self.inventory)]
        argv = [str(PROGRAM), *words[:verb], *where, *words[verb:]]
        done = subprocess.run(
            argv,
            input=given,
            capture_output=True,
            text=True,
            timeout=120,
            env={**self.lab.environment(), "HOME": str(self.folder)},
            check=False,
        )
        assert done.returncode == code, done.stderr + done.stdout
        return Done(done.returncode, done.stdout, done.stderr)

    def rows(self, *words: str) -> dict[str, list[dict[str, Any]]]:
        """`--json`: host -> its rows."""
        found = self(*words, "--json").json
        assert (set(found), found["version"]) == ({"version", "hosts"}, 1)
        return dict(found["hosts"])

    def names(self) -> dict[str, list[str]]:
        """Host -> the tags in its store."""
        return {h: sorted(row["name"] for row in rows) for h, rows in self.rows("images").items()}


@pytest.fixture
def hostctl(own: Lab, registry: RunningRegistry, tmp_path: Path) -> Verbs:
    for host in own.hosts.values():
        host.run(["rm", "-rf", "/var/lib/hostctl/store"])
    return Verbs(own, tmp_path, registry.host)


@pytest.fixture
def logged_in(hostctl: Verbs, registry: RunningRegistry) -> Verbs:
    hostctl("login", "-l", "web2", "-u", "user", "--password-stdin", registry.host, given="secret")
    return hostctl


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_login_is_asked_of_a_host(hostctl: Verbs, registry: RunningRegistry) -> None:
    words = ("login", "-l", "web2", "-u", "user", "--password-stdin", registry.host)
    refused = hostctl(*words, given="wrong", code=1)
    assert "check user and password" in refused.err
    hostctl(*words, given="secret")
    kept = json.loads((hostctl.folder / ".docker" / "config.json").read_text())
    assert list(kept["auths"]) == [registry.host]
    hostctl("logout", registry.host)
    assert json.loads((hostctl.folder / ".docker" / "config.json").read_text())["auths"] == {}


def test_pull_tag_push(logged_in: Verbs, registry: RunningRegistry) -> None:
    hostctl, made = logged_in, make("pulled")
    reference = registry.push("shop/web", "1", made)
    pulled = hostctl.rows("pull", reference)
    expected = {"name": reference, "digest": made.digest, "id": f"sha256:{made.image_id}"}
    assert pulled == {name: [{**expected, "status": "downloaded"}] for name in HOSTS}
    again = hostctl.rows("pull", reference)
    assert [rows[0]["status"] for rows in again.values()] == ["up to date"] * 2
    hostctl("tag", "-l", "web2", reference, f"{registry.host}/shop/copy:2")
    hostctl("tag", reference, "mine:1")
    copy = f"{registry.host}/shop/copy:2"
    assert hostctl.names() == {
        "web1": sorted([reference, "mine:1"]),
        "web2": sorted([reference, copy, "mine:1"]),
    }
    [row] = hostctl.rows("push", copy)["web2"]
    assert {key: row[key] for key in ("name", "digest", "id")} == {
        "name": copy,
        "digest": made.digest,
        "id": f"sha256:{made.image_id}",
    }
    assert row["sent"] + row["mounted"] + row["present"] > 0
    hostctl("rmi", copy)
    hostctl("rmi", reference, "mine:1")
    assert hostctl.names() == {"web1": [], "web2": []}
    assert list(hostctl.rows("pull", "-l", "web1", copy)) == ["web1"]
    assert hostctl.names() == {"web1": [copy], "web2": []}


def test_images_inspect_and_history(logged_in: Verbs, registry: RunningRegistry) -> None:
    hostctl, made = logged_in, make("shown")
    reference = registry.push("shop/shown", "1", made)
    hostctl("pull", reference)
    for rows in hostctl.rows("images").values():
        [row] = rows
        assert set(row) == LIST
        assert (row["repository"], row["tag"]) == (f"{registry.host}/shop/shown", "1")
        assert (row["id"], row["digest"]) == (made.image_id, made.digest)
        assert (row["created"], row["labels"]) == ("2026-01-02T03:04:05Z", {"seed": "shown"})
    listed = lines(hostctl("images", "--format", "json").out)
    assert [row.pop("Host") for row in listed] == ["web1", "web2"]
    assert all(set(row) == DOCKER_LIST and row["ID"] == made.image_id[:12] for row in listed)
    one = lines(hostctl("images", "-l", "web1", "--format", "json").out)
    assert [set(row) for row in one] == [DOCKER_LIST], "Host only where there are several"
    assert hostctl("images", "-q", "--no-trunc").out == f"sha256:{made.image_id}\n"
    assert hostctl("images", "-q", "--filter", "label=seed=other").out == ""
    found = json.loads(hostctl("image", "inspect", reference).out)
    assert [item.pop("Host") for item in found] == ["web1", "web2"]
    assert found[0]["Id"] == f"sha256:{made.image_id}"
    assert found[0]["RepoTags"] == [reference]
    assert found[0]["RepoDigests"] == [f"{registry.host}/shop/shown@{made.digest}"]
    assert found[0]["RootFS"]["Layers"] == [
        f"sha256:{item.rpartition(':')[2]}"
        for item in json.loads(made.config_data)["rootfs"]["diff_ids"]
    ]
    assert found[0]["Config"]["Cmd"] == ["sh"]
    assert {"Architecture", "Created", "Os", "Size", "Descriptor", "Metadata"} <= set(found[0])
    steps = lines(hostctl("history", "-l", "web2", "--format", "json", reference).out)
    assert [set(step) for step in steps] == [DOCKER_HISTORY] * 2
    assert [len(rows) for rows in hostctl.rows("image", "history", reference).values()] == [2, 2]
    missing = hostctl("image", "inspect", "nothing:1", code=2)
    assert json.loads(missing.out) == []
    assert missing.err.count("cannot find the image nothing:1") == 2


def test_save_load_import(logged_in: Verbs, registry: RunningRegistry, tmp_path: Path) -> None:
    hostctl, made = logged_in, make("saved")
    reference = registry.push("shop/saved", "1", made)
    hostctl("pull", "-l", "web2", reference)
    archive = tmp_path / "saved.tar"
    hostctl("save", "-o", str(archive), reference)
    with tarfile.open(archive) as opened:
        names = opened.getnames()
        manifest = json.load(opened.extractfile("manifest.json"))  # type: ignore[arg-type]
    assert {"index.json", "oci-layout", f"blobs/sha256/{made.image_id}"} <= set(names)
    assert manifest[0]["RepoTags"] == [reference]
    loaded = hostctl.rows("load", "--input", str(archive))
    assert loaded == {
        name: [{"loaded": reference, "id": f"sha256:{made.image_id}"}] for name in HOSTS
    }
    assert hostctl.names() == {"web1": [reference], "web2": [reference]}
    root = tmp_path / "root.tar"
    root.write_bytes(tar(member("etc/"), member("etc/motd", b"hi")))
    imported = hostctl.rows(
        "import", "-c", 'CMD ["cat", "/etc/motd"]', "-m", "by hand", str(root), "root:1"
    )
    assert [set(rows[0]) for rows in imported.values()] == [{"id", "name"}] * 2
    found = json.loads(hostctl("image", "inspect", "-l", "web1", "root:1").out)
    assert found[0]["Config"] == {"Cmd": ["cat", "/etc/motd"]}
    assert found[0]["Comment"] == "by hand"
    assert found[0]["Id"] == imported["web1"][0]["id"]


def test_rm_prune_and_df(logged_in: Verbs, registry: RunningRegistry, own: Lab) -> None:
    hostctl, made, other = logged_in, make("kept"), make("other")
    reference = registry.push("shop/kept", "1", made)
    hostctl("pull", reference)
    hostctl("tag", reference, "kept:2")
    rows = hostctl.rows("image", "rm", "kept:2")
    assert rows == {name: [{"untagged": "kept:2"}] for name in HOSTS}
    registry.push("shop/kept", "1", other)
    hostctl("pull", "-l", "web1", reference)
    assert [row["name"] for row in hostctl.rows("images")["web1"]].count("") == 1
    df = hostctl("system", "df", "--json").json["hosts"]
    assert set(df["web1"]) == {"images", "containers", "volumes", "cache", "free"}
    assert {"total", "active", "size", "reclaimable"} <= set(df["web1"]["images"])
    assert [df[name]["images"]["total"] for name in HOSTS] == [2, 1]
    shown = lines(hostctl("system", "df", "--format", "json").out)
    assert [(row.pop("Host"), row["Type"]) for row in shown[:2]] == [
        ("web1", "Images"),
        ("web1", "Containers"),
    ]
    assert all(set(row) - {"Host"} == DOCKER_DF for row in shown)
    dry = hostctl.rows("image", "prune", "--dry-run")
    assert {"deleted": f"sha256:{made.image_id}"} in dry["web1"]
    assert [next(iter(row)) for row in dry["web2"]] == ["freed"]
    assert len(hostctl.rows("images")["web1"]) == 2, "only looked"
    pruned = hostctl.rows("image", "prune", "--yes")
    assert pruned == dry
    assert hostctl.names() == {"web1": [reference], "web2": [reference]}
    hostctl("system", "prune", "-a", "-f")
    assert hostctl.names() == {"web1": [], "web2": []}
    for host in own.hosts.values():
        left = host.run(["find", "/var/lib/hostctl/store/blobs", "-type", "f"]).stdout
        assert left == "", "no blob of an image is left"
