"""Runs in tests: the bundle's config.json: Docker's defaults and what the spec changes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hostctl_host.container import Mount, Spec, Ulimit
from hostctl_host.contract.errors import CannotApply
from hostctl_host.runtime.bundle import make_config
from hostctl_host.runtime.settings import signal_number

IMAGE: dict[str, Any] = {
    "config": {
        "Entrypoint": ["/entry"],
        "Cmd": ["serve"],
        "Env": ["PATH=/app", "A=1"],
        "WorkingDir": "/app",
        "User": "web",
    }
}


@pytest.fixture
def layer(tmp_path: Path) -> Path:
    (tmp_path / "L" / "etc").mkdir(parents=True)
    (tmp_path / "L" / "etc" / "passwd").write_text(
        "root:x:0:0::/:/bin/sh\nweb:x:33:34::/:/bin/sh\n"
    )
    (tmp_path / "L" / "etc" / "group").write_text("root:x:0:\nwww:x:34:\nextra:x:50:web\n")
    return tmp_path


def config(layer: Path, **fields: Any) -> dict[str, Any]:
    spec = Spec("c1", "img", **fields)
    volumes = {mount.target: f"/src{mount.target}" for mount in spec.volumes}
    return make_config(
        spec, IMAGE, folder="/f", layers=["L"], links_dir=str(layer), volumes=volumes
    )


def test_image_defaults(layer: Path) -> None:
    process = config(layer)["process"]
    assert process["args"] == ["/entry", "serve"]
    assert process["cwd"] == "/app"
    assert process["user"] == {"uid": 33, "gid": 34, "additionalGids": [34, 50]}
    assert process["env"] == ["PATH=/app", "A=1", "HOSTNAME=c1"]


@pytest.mark.parametrize(
    ("fields", "args"),
    [
        ({"command": ("x",)}, ["/entry", "x"]),
        ({"command": ()}, ["/entry"]),
        ({"entrypoint": ("/e",)}, ["/e"]),
        ({"entrypoint": ("/e",), "command": ("x",)}, ["/e", "x"]),
        ({"entrypoint": (), "command": ("x",)}, ["x"]),
    ],
)
def test_entrypoint_and_command(layer: Path, fields: dict[str, Any], args: list[str]) -> None:
    assert config(layer, **fields)["process"]["args"] == args


def test_nothing_to_run(layer: Path) -> None:
    with pytest.raises(CannotApply, match="what to run"):
        config(layer, entrypoint=())


def test_capabilities(layer: Path) -> None:
    default = config(layer)["process"]["capabilities"]["effective"]
    assert len(default) == 14
    changed = config(layer, cap_add=("CAP_NET_ADMIN",), cap_drop=("CAP_MKNOD",))["process"][
        "capabilities"
    ]
    assert set(changed["bounding"]) == {*default, "CAP_NET_ADMIN"} - {"CAP_MKNOD"}
    only = config(layer, cap_add=("CAP_CHOWN",), cap_drop=("ALL",))["process"]["capabilities"]
    assert only["permitted"] == ["CAP_CHOWN"]


def test_limits(layer: Path) -> None:
    made = config(
        layer, mem_limit=8 << 20, cpus=0.5, pids_limit=9, ulimits={"nofile": Ulimit(1, 2)}
    )
    limits = made["linux"]["resources"]
    assert limits["memory"]["limit"] == 8 << 20
    assert limits["cpu"] == {"quota": 50_000, "period": 100_000}
    assert limits["pids"] == {"limit": 9}
    assert made["process"]["rlimits"] == [{"type": "RLIMIT_NOFILE", "soft": 1, "hard": 2}]


def test_mounts_parents_first(layer: Path) -> None:
    volumes = (Mount("/a/b", "volume", "v", read_only=True), Mount("/a", "tmpfs", tmpfs_size=4096))
    mounts = config(layer, volumes=volumes)["mounts"]
    assert [m["destination"] for m in mounts[-2:]] == ["/a", "/a/b"]
    assert "ro" in mounts[-1]["options"]
    assert "size=4096" in mounts[-2]["options"]


def test_privileged_has_no_masks(layer: Path) -> None:
    made = config(layer, privileged=True)
    assert "maskedPaths" not in made["linux"]
    assert len(made["process"]["capabilities"]["effective"]) == 41


def test_unknown_user(layer: Path) -> None:
    with pytest.raises(CannotApply, match="no such user"):
        config(layer, user="ghost")
    assert config(layer, user="1000:1000")["process"]["user"]["uid"] == 1000


def test_signals() -> None:
    assert (signal_number("SIGQUIT"), signal_number("term"), signal_number("9")) == (3, 15, 9)
    with pytest.raises(CannotApply):
        signal_number("NOPE")
