"""Compose's keys of process, isolation and limits: from the playbook to config.json."""

from __future__ import annotations

from typing import Any

import pytest
from hostctl_host.container import Spec
from hostctl_host.contract.spec import decode
from hostctl_host.runtime.bundle import make_config
from hostctl_host.runtime.settings import UNLIMITED, settings

from .conftest import Folder

HEAD = "- hosts: web\n  project: shop\n"


def resources(folder: Folder, text: str) -> dict[str, dict[str, Any]]:
    program = folder.program(HEAD + text)
    program.facts({})
    return {r["id"]: r for r in program.first()["document"]["resources"]}


def spec(folder: Folder, body: str) -> Spec:
    found = resources(folder, f"  containers:\n    a: {{image: x, command: run, {body}}}\n")
    return decode(Spec, found["container.shop-a-1"]["spec"])


def config(folder: Folder, body: str) -> dict[str, Any]:
    layer = folder.path / "layer" / "etc"
    layer.mkdir(parents=True, exist_ok=True)
    (layer / "group").write_text("root:x:0:\naudio:x:29:\n")
    (layer / "passwd").write_text("root:x:0:0::/:/bin/sh\n")
    return make_config(
        spec(folder, body),
        {},
        folder="/f",
        layers=["layer"],
        links_dir=str(folder.path),
        volumes={},
    )


def at(value: Any, path: str) -> Any:
    for key in path.split("/"):
        value = value[int(key)] if isinstance(value, list) else value.get(key)
    return value


@pytest.mark.parametrize(
    ("body", "path", "expected"),
    [
        ("group_add: [audio, 44]", "process/user/additionalGids", [0, 29, 44]),
        ("oom_score_adj: 300", "process/oomScoreAdj", 300),
        ("security_opt: ['no-new-privileges:true']", "process/noNewPrivileges", True),
        ("security_opt: [no-new-privileges]", "process/noNewPrivileges", True),
        ("security_opt: ['seccomp:unconfined']", "linux/seccomp", None),
        ("security_opt: ['apparmor=mine']", "process/apparmorProfile", "mine"),
        ("security_opt: ['apparmor=unconfined']", "process/apparmorProfile", None),
        ("security_opt: ['apparmor=unconfined']", "annotations/hostctl.apparmor", None),
        ("security_opt: ['apparmor=mine']", "annotations/hostctl.apparmor", None),
        ("security_opt: [no-new-privileges]", "annotations/hostctl.apparmor", "default"),
        ("privileged: true", "annotations/hostctl.apparmor", None),
        ("security_opt: ['label=type:mine_t']", "process/selinuxLabel", "system_u:system_r:mine_t:s0"),
        ("security_opt: ['label=disable']", "process/selinuxLabel", None),
        ("security_opt: ['systempaths=unconfined']", "linux/maskedPaths", None),
        ("privileged: true", "linux/maskedPaths", None),
        ("privileged: true", "linux/seccomp", None),
        ("sysctls: {net.core.somaxconn: 1024}", "linux/sysctl/net.core.somaxconn", "1024"),
        ("sysctls: ['kernel.shmmax=5']", "linux/sysctl/kernel.shmmax", "5"),
        ("cpu_shares: 512", "linux/resources/cpu", {"shares": 512}),
        ("cpu_quota: 50ms, cpu_period: 100000", "linux/resources/cpu", {"quota": 50000, "period": 100000}),
        ("cpuset: '0-1, 3'", "linux/resources/cpu", {"cpus": "0-1,3"}),
        ("cpuset: 0", "linux/resources/cpu", {"cpus": "0"}),
        ("mem_limit: 64m", "linux/resources/memory", {"limit": 64 << 20, "swap": 128 << 20}),
        ("mem_limit: 64m, memswap_limit: 64m", "linux/resources/memory", {"limit": 64 << 20, "swap": 64 << 20}),
        ("mem_limit: 64m, memswap_limit: -1", "linux/resources/memory/swap", -1),
        ("mem_limit: 64m, memswap_limit: '-1'", "linux/resources/memory/swap", -1),
        ("mem_reservation: 32m", "linux/resources/memory", {"reservation": 32 << 20}),
        ("mem_swappiness: 0", "linux/resources/memory", {"swappiness": 0}),
        ("mem_limit: 64m, oom_kill_disable: true", "linux/resources/memory/disableOOMKiller", True),
        ("blkio_config: {weight: 300}", "linux/resources/blockIO", {"weight": 300}),
        ("pids_limit: -1", "linux/resources/pids", {"limit": -1}),
        ("domainname: example.org", "domainname", "example.org"),
        ("annotations: {org.example.a: 1}", "annotations/org.example.a", "1"),
        ("cgroup_parent: /mine", "linux/cgroupsPath", "mine/shop-a-1"),
        ("cgroup_parent: a-b.slice", "linux/cgroupsPath", "a.slice/a-b.slice/shop-a-1"),
        ("ulimits: {nofile: {soft: 1, hard: 2}}", "process/rlimits", [{"type": "RLIMIT_NOFILE", "soft": 1, "hard": 2}]),
        ("init: true", "annotations/hostctl.init", "true"),
        ("uts: host", "hostname", None),
        ("devices: ['/dev/null:/dev/nothing:r']", "linux/devices/0/path", "/dev/nothing"),
        ("devices: ['/dev/null:/dev/nothing:r']", "linux/resources/devices/1",
         {"allow": True, "type": "c", "major": 1, "minor": 3, "access": "r"}),
        ("devices: ['/dev/null:rw']", "linux/resources/devices/1/access", "rw"),
        ("devices: [{source: /dev/zero}]", "linux/devices/0/path", "/dev/zero"),
        ("device_cgroup_rules: ['c 188:* rw']", "linux/resources/devices/1",
         {"allow": True, "type": "c", "access": "rw", "major": 188}),
        ("deploy: {resources: {reservations: {memory: 32m, cpus: '0.5'}}}", "linux/resources/cpu", {"shares": 512}),
        ("deploy: {resources: {limits: {pids: 7}}}", "linux/resources/pids", {"limit": 7}),
    ],
)  # fmt: skip
def test_a_key_is_in_config_json(folder: Folder, body: str, path: str, expected: Any) -> None:
    assert at(config(folder, body), path) == expected


@pytest.mark.parametrize(
    ("body", "gone"),
    [("pid: host", "pid"), ("ipc: host", "ipc"), ("uts: host", "uts"), ("cgroup: host", "cgroup")],
)
def test_a_namespace_of_the_host_is_not_made(folder: Folder, body: str, gone: str) -> None:
    kinds = {entry["type"] for entry in config(folder, body)["linux"]["namespaces"]}
    assert {"pid", "ipc", "uts", "cgroup", "mount", "network"} - kinds == {gone}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("shm_size: 8m", ("tmpfs", "size=8192k")),
        ("ipc: host", ("bind", "rbind")),
        ("tmpfs: '/a/../b:size=1m,exec'", ("tmpfs", "size=1048576")),
    ],
)
def test_shared_memory_and_tmpfs(folder: Folder, body: str, expected: tuple[str, str]) -> None:
    target = "/b" if "tmpfs:" in body else "/dev/shm"
    (found,) = [m for m in config(folder, body)["mounts"] if m["destination"] == target]
    assert found["type"] == expected[0]
    assert expected[1] in found["options"]


def test_ipc_none_has_no_shared_memory(folder: Folder) -> None:
    assert not [m for m in config(folder, "ipc: none")["mounts"] if m["destination"] == "/dev/shm"]


def test_a_folder_of_devices(folder: Folder) -> None:
    paths = [d["path"] for d in config(folder, "devices: ['/dev/net:/dev/x']")["linux"]["devices"]]
    assert paths == ["/dev/x/tun"]


def test_privileged_has_the_hosts_devices(folder: Folder) -> None:
    made = config(folder, "privileged: true")
    assert "/dev/net/tun" in [d["path"] for d in made["linux"]["devices"]]
    assert made["linux"]["resources"]["devices"] == [{"allow": True, "access": "rwm"}]


IMAGE = {
    "config": {
        "StopSignal": "SIGRTMIN+3",
        "Healthcheck": {"Test": ["CMD", "old"], "Interval": 7_000_000_000, "Retries": 9},
    }
}


@pytest.mark.parametrize(
    ("body", "path", "expected"),
    [
        ("healthcheck: {test: 'curl x', interval: 2s}", "healthcheck", {
            "test": ["CMD-SHELL", "curl x"], "interval": 2.0, "timeout": 30.0, "retries": 9,
            "start_period": 0.0, "start_interval": 5.0}),
        ("healthcheck: {test: [CMD, a, 1]}", "healthcheck/test", ["CMD", "a", "1"]),
        ("healthcheck: {timeout: 1m30s}", "healthcheck/test", ["CMD", "old"]),
        ("healthcheck: {timeout: 1m30s}", "healthcheck/interval", 7.0),
        ("user: root", "healthcheck/test", ["CMD", "old"]),
        ("healthcheck: {disable: true}", "healthcheck", None),
        ("healthcheck: {test: [NONE]}", "healthcheck", None),
        ("healthcheck: {http: {port: 80, path: /up, status: 204}}", "healthcheck/test", ["HTTP", "80", "/up", "204"]),
        ("healthcheck: {http: 8080}", "healthcheck/test", ["HTTP", "8080", "/", "200-399"]),
        ("healthcheck: {tcp: 5432}", "healthcheck/test", ["TCP", "5432"]),
        ("restart_on: unhealthy", "restart_on", "unhealthy"),
        ("user: root", "log", {"driver": "json-file", "max_size": 10 << 20, "max_file": 3, "compress": True}),
        ("logging: {options: {max-size: 1m, max-file: '5', compress: 'false'}}", "log",
         {"driver": "json-file", "max_size": 1 << 20, "max_file": 5, "compress": False}),
        ("logging: {options: {max-size: -1}}", "log/max_size", UNLIMITED),
        ("logging: {driver: none}", "log/driver", "none"),
        ("logging: {driver: journald, options: {tag: x}}", "log/tag", "x"),
        ("post_start: [{command: 'a b', user: app, environment: [A=1]}]", "post_start",
         [{"command": ["a", "b"], "user": "app", "environment": {"A": "1"}}]),
        ("pre_stop: [{command: [a], privileged: true, working_dir: /x}]", "pre_stop",
         [{"command": ["a"], "privileged": True, "working_dir": "/x"}]),
        ("stdin_open: true", "stdin_open", True),
        ("user: root", "stop_signal", 37),
        ("stop_signal: INT", "stop_signal", 2),
    ],
)  # fmt: skip
def test_a_key_is_in_monitor_json(folder: Folder, body: str, path: str, expected: Any) -> None:
    assert at(settings(spec(folder, body), IMAGE), path) == expected


@pytest.mark.parametrize(
    ("body", "key", "expected"),
    [
        ("stop_grace_period: 99999h", "stop_grace_period", "0 to 24 days"),
        ("stop_grace_period: .inf", "stop_grace_period", "0 to 24 days"),
        ("stop_grace_period: .nan", "stop_grace_period", "0 to 24 days"),
        ("stop_grace_period: -1", "stop_grace_period", "0 to 24 days"),
        ("healthcheck: {test: 'true', interval: 25d}", "healthcheck.interval", "0 to 24 days"),
        ("mem_limit: 99999999999g", "mem_limit", "more than the kernel counts"),
        ("mem_limit: 10m, memswap_limit: 99999999999999999999", "memswap_limit", "more than the kernel counts"),
        ("pids_limit: 4194305", "pids_limit", "up to 4194304"),
        ('entrypoint: [a, "b\\0c"]', "entrypoint[1]", "null byte"),
        ('environment: {X: "b\\0c"}', "environment.X", "null byte"),
        ("deploy: {replicas: 1001}", "deploy.replicas", "0 to 1000"),
        ("ulimits: {nofile: 99999999999999999999}", "ulimits.nofile", "at most"),
        ("cpus: .inf", "cpus", "at most"),
        ("cpus: .nan", "cpus", "at least 0.01"),
        ("cpu_quota: 99999999999999999999", "cpu_quota", "at most"),
    ],
)  # fmt: skip
def test_what_no_kernel_takes_is_refused_here(
    folder: Folder, body: str, key: str, expected: str
) -> None:
    text = f"- hosts: all\n  containers:\n    a: {{image: x, command: run, {body}}}\n"
    found = folder.errors(text)
    assert len(found) == 1 and expected in found[0], found
    assert f"(containers.a.{key}" in found[0]


def test_a_target_is_normalised_as_compose_does(folder: Folder) -> None:
    assert [m.target for m in spec(folder, "volumes: ['/a/./b/../c', '/d//e/']").volumes] == [
        "/a/c",
        "/d/e",
    ]


def test_what_is_waited_for_is_in_the_document(folder: Folder) -> None:
    found = resources(folder, """\
  containers:
    db: {image: x}
    a:
      image: x
      depends_on:
        db: {condition: service_healthy, restart: true}
        later: {condition: service_started, required: false}
""")["container.shop-a-1"]  # fmt: skip
    assert found["spec"]["depends_on"] == {
        "shop-db-1": {"condition": "service_healthy", "restart": True}
    }
    assert "container.shop-db-1" in found["needs"]


def test_what_is_not_required_is_an_order_alone(folder: Folder) -> None:
    found = resources(folder, """\
  containers:
    db: {image: x}
    cache: {image: x}
    a:
      image: x
      volumes_from: [cache]
      depends_on:
        db: {condition: service_started, required: false}
        cache: {condition: service_started, required: false}
""")["container.shop-a-1"]  # fmt: skip
    assert {"container.shop-db-1", "container.shop-cache-1"} <= set(found["needs"])
    assert found["optional"] == ["container.shop-db-1"]  # it cannot be without the other's volumes


def test_a_shared_namespace_is_another_containers(folder: Folder) -> None:
    found = resources(folder, """\
  containers:
    a: {image: x, command: x, pid: "service:db", ipc: "service:db"}
    db: {image: x, ipc: shareable}
""")["container.shop-a-1"]  # fmt: skip
    assert (found["spec"]["pid"], found["spec"]["ipc"]) == ("container:shop-db-1",) * 2
    assert "container.shop-db-1" in found["needs"]
    made = make_config(
        decode(Spec, found["spec"]), {}, folder="/f", layers=[], links_dir="/", volumes={}
    )
    assert made["annotations"]["hostctl.peers"] == '{"ipc": "shop-db-1", "pid": "shop-db-1"}'


def test_a_seccomp_profile_travels_as_content(folder: Folder) -> None:
    from hostctl_host import container
    from hostctl_host.contract.document import digest

    data = b'{"defaultAction": "SCMP_ACT_ALLOW"}'
    folder.file("mine.json", data)
    made = spec(folder, "security_opt: ['seccomp:./mine.json']")
    assert made.security_opt == (f"seccomp=sha256:{digest(data)}",)
    assert container.content(made) == (digest(data),)


def test_a_platform_is_the_images(folder: Folder) -> None:
    found = resources(folder, "  containers:\n    a: {image: x, platform: linux/arm64}\n")
    assert found["image.docker.io/library/x:latest"]["spec"]["platform"] == "linux/arm64"


def test_env_files(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALLER", "me")
    folder.file("a.env", "A=1\nB=file\nC=gone\nCALLER\n")
    folder.file("b.env", "A=2\nRAW='$A'\n")
    body = (
        "env_file: [a.env, {path: b.env, format: raw}, {path: no.env, required: false}],"
        " environment: [B=own, C]"
    )
    monkeypatch.delenv("C", raising=False)
    assert spec(folder, body).environment == {
        "A": "2", "B": "own", "CALLER": "me", "RAW": "'$A'"
    }  # fmt: skip


def test_env_file_of_a_task(folder: Folder) -> None:
    folder.file("a.env", "A=1\n")
    program = folder.program(
        "- hosts: web\n  tasks:\n  - container: {name: c, image: x, env_file: a.env}\n"
    )
    program.facts({})
    (found,) = [r for r in program.first()["document"]["resources"] if r["kind"] == "container"]
    assert found["spec"]["environment"] == {"A": "1"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A=b # c", {"A": "b"}),
        ("A=b# c", {"A": "b# c"}),
        ("A= # c", {"A": ""}),
        ("A=#c", {"A": "#c"}),
        ("A=", {"A": ""}),
        ("  export A=b  ", {"A": "b"}),
        ("A: b", {"A": "b"}),
        ("A='$X\\n' # c", {"A": "$X\\n"}),
        ('A="b\\nc"', {"A": "b\nc"}),
        ('A="b\nc"\nD=e', {"A": "b\nc", "D": "e"}),
        ('A="x\\$y"', {"A": "x$y"}),
        ("A=1\nB=$A-${A}", {"A": "1", "B": "1-1"}),
        ("B=${OUT}", {"B": "outside"}),
        ("B=${NO:-d}${NO-e}${OUT:+f}", {"B": "def"}),
        ("B=${NO:-${OUT}}", {"B": "outside"}),
        ("B=$$A", {"B": "$A"}),
        ("\ufeffA=b\r\nC=d\r\n", {"A": "b", "C": "d"}),
        ("OUT\nNO", {"OUT": "outside"}),
        ("# c\n\n  # d\nA=b", {"A": "b"}),
    ],
)
def test_dotenv(text: str, expected: dict[str, str]) -> None:
    from hostctl.desired.dotenv import parse

    assert parse(text, {}, {"OUT": "outside"}) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A='x", "line 1: a quoted value has no closing quote"),
        ("\nA='x' y", "line 2: 'y' follows the closing quote"),
        ("A B=c", "line 1: 'A' is followed by neither = nor a new line"),
        ("A=${B:?set it}", "line 1: B is not set: set it"),
        ("=x", "line 1: '=x' is no NAME=VALUE"),
    ],
)
def test_no_dotenv(text: str, expected: str) -> None:
    from hostctl.desired.dotenv import DotenvError, parse

    with pytest.raises(DotenvError) as caught:
        parse(text, {}, {})
    assert str(caught.value) == expected
