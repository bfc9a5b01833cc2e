"""Runs on the developer's machine: the cases, one function each, in the order they are printed."""

from __future__ import annotations

import contextlib
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from . import builds, hostctl, images, runtime, ship
from .engines import REST, docker
from .measure import RUNS, Row, medians, processes, pss, run, seconds
from .peers import WORK, Target, target, tool

ANSIBLE = {
    "ANSIBLE_HOST_KEY_CHECKING": "False",
    "ANSIBLE_SSH_PIPELINING": "True",
    "ANSIBLE_PYTHON_INTERPRETER": "/usr/bin/python3",
    "ANSIBLE_SSH_ARGS": "-o ControlMaster=auto -o ControlPersist=120s",
    "ANSIBLE_SSH_CONTROL_PATH_DIR": str(WORK / "cp"),
    "ANSIBLE_HOME": str(WORK / "ansible"),
    "ANSIBLE_DEPRECATION_WARNINGS": "False",
}


def version() -> Iterator[Row]:
    """`hostctl --version` against a bare interpreter."""
    ours, theirs = medians(
        lambda: run([hostctl.COMMAND, "--version"]),
        lambda: run([sys.executable, "-c", "pass"]),
        runs=15,
    )
    yield Row("hostctl --version", "python3 -c pass", ours, theirs, 8)


def quickstart() -> Iterator[Row]:
    """A no-op apply of the quickstart on one lab host against one ping."""
    from tests.lab import Lab

    book = Path(__file__).parent.parent / "playbooks" / "quickstart.yml"
    with Lab({"web1": {}}) as lab, _closing_masters():
        inventory = lab.inventory
        run([hostctl.COMMAND, "apply", "-i", str(inventory), str(book)], env=lab.environment())
        ours, theirs = medians(
            lambda: run(
                [hostctl.COMMAND, "apply", "-i", str(inventory), str(book)], env=lab.environment()
            ),
            lambda: run([tool("ansible"), "-i", str(inventory), "all", "-m", "ping"], env=ANSIBLE),
        )
    yield Row(
        "no-op apply of the quickstart, 1 host", "ansible -m ping, master up", ours, theirs, 0.5
    )


def first_apply() -> Iterator[Row]:
    """20 containers on a bridge, image present, against 20 `docker run -d` from 8 clients."""
    with target() as place:
        inventory, book = hostctl.inventory(place), hostctl.containers(place, 20)
        only_image = hostctl.playbook(
            "image", {"images": {"bench:1": {"archive": str(place.image)}}}
        )
        ours, theirs = [], []
        hostctl.apply(inventory, only_image)()
        for _ in range(RUNS):
            time.sleep(REST)
            ours.append(seconds(hostctl.apply(inventory, book)))
            hostctl.destroy(inventory, book)
            time.sleep(REST)
            theirs.append(docker(place).start(20))
            docker(place).remove()
        hostctl.destroy(inventory, only_image)
        hostctl.forget()
    yield Row(
        "first apply of 20 containers",
        "20 docker run -d, 8 clients",
        statistics.median(ours),
        statistics.median(theirs),
        0.25,
    )


def memory() -> Iterator[Row]:
    """PSS of a monitor, 20 running, started by 20 applies, against containerd's shim."""
    with target() as place:
        inventory = hostctl.inventory(place)
        books = [hostctl.containers(place, 1, f"m{number}") for number in range(20)]
        for book in books:
            hostctl.apply(inventory, book)()
        ours = [pss(pid) for pid in _monitors(place)]
        for book in books:
            hostctl.destroy(inventory, book)
        hostctl.forget()
        docker(place).start(20)
        theirs = [pss(pid) for pid in processes("containerd-shim")]
        docker(place).remove()
    if len(ours) != 20:
        raise AssertionError(f"20 monitors expected, {len(ours)} found")
    mean = statistics.mean(ours)
    yield Row("monitor, PSS each, 20 running", "0.6 MB", mean, 0.6, 1.0, "MB")
    yield Row(
        "monitor, PSS each, 20 running",
        "containerd-shim",
        mean,
        statistics.median(theirs),
        0.25,
        "MB",
    )


def _monitors(place: Target) -> list[int]:
    """Pids of the monitors, from the containers' state files."""
    folder = WORK / "hostctl" / "h1" / "containers"
    return [json.loads((entry / "state.json").read_text())["monitor"] for entry in folder.iterdir()]


def noop_containers() -> Iterator[Row]:
    """A no-op apply of 10 containers over SSH against Ansible, pyinfra and docker-compose."""
    with target() as place, _closing_masters():
        inventory, book = hostctl.inventory(place), hostctl.containers(place, 10)
        works: list[Callable[[], object]] = [hostctl.apply(inventory, book)]
        works += [_ansible_containers(place), _pyinfra_containers(place), _compose(place)]
        ours, *theirs = medians(*works)
        hostctl.destroy(inventory, book)
        hostctl.forget()
        docker(place).remove()
    names = ("ansible docker_container, pipelining", "pyinfra", "docker-compose on the host")
    for name, value, must in zip(names, theirs, (0.1, 0.4, 1.0), strict=True):
        yield Row("no-op apply of 10 containers", name, ours, value, must)


def _ansible_inventory(place: Target) -> Path:
    path = WORK / "ansible.yml"
    common = {
        "ansible_port": 2222,
        "ansible_user": "root",
        "ansible_ssh_private_key_file": str(place.key),
    }
    hosts = {
        f"h{number}": {"ansible_host": address} for number, address in enumerate(place.addresses, 1)
    }
    path.write_text(json.dumps({"all": {"vars": common, "hosts": hosts}}))
    return path


def _ansible_containers(place: Target) -> Callable[[], object]:
    task = {
        "community.docker.docker_container": {
            "name": "a{{ item }}",
            "image": "bench:1",
            "docker_host": place.docker_host,
        },
        "loop": list(range(10)),
    }
    variables = {"ansible_python_interpreter": tool("python")}
    play: list[Any] = [{"hosts": "all", "gather_facts": False, "vars": variables, "tasks": [task]}]
    book = WORK / "ansible-play.yml"
    book.write_text(json.dumps(play))
    inventory = _ansible_inventory(place)
    return lambda: run([tool("ansible-playbook"), "-i", str(inventory), str(book)], env=ANSIBLE)


def _pyinfra_containers(place: Target) -> Callable[[], object]:
    deploy = WORK / "deploy.py"
    deploy.write_text(
        "from pyinfra.operations import docker\n"
        "for number in range(10):\n"
        "    docker.container(container=f'p{number}', image='bench:1', present=True, start=True)\n"
    )
    hosts = WORK / "pyinfra_hosts.py"
    data = {
        "ssh_port": 2222,
        "ssh_user": "root",
        "ssh_key": str(place.key),
        "ssh_known_hosts_file": str(place.known_hosts),
        "_env": {"DOCKER_HOST": place.docker_host},
    }
    hosts.write_text(f"hosts = [({place.addresses[0]!r}, {data!r})]\n")
    return lambda: run([tool("pyinfra"), "-y", str(hosts), str(deploy)])


def _compose(place: Target) -> Callable[[], object]:
    book = WORK / "docker-compose.yml"
    services = {f"d{number}": {"image": "bench:1"} for number in range(10)}
    book.write_text(json.dumps({"version": "3", "services": services}))
    command = ["docker-compose", "-f", str(book), "-p", "bench", "up", "-d"]
    return lambda: run(command, env={"DOCKER_HOST": place.docker_host})


def fifty_hosts() -> Iterator[Row]:
    """A no-op apply on 50 inventory hosts of one sshd against ping with 50 masters up."""
    with target(addresses=50) as place, _closing_masters():
        inventory = hostctl.inventory(place, 50)
        folder = WORK / "files" / "{{ inventory_hostname }}"
        tasks = [
            {"directory": {"path": str(folder)}},
            {
                "copy": {
                    "dest": f"{folder}/motd",
                    "content": "Welcome to {{ inventory_hostname }}\n",
                }
            },
        ]
        book = hostctl.playbook("fifty", {"tasks": tasks})
        peers = _ansible_inventory(place)
        ours, theirs = medians(
            hostctl.apply(inventory, book),
            lambda: run(
                [tool("ansible"), "-i", str(peers), "-f", "50", "all", "-m", "ping"], env=ANSIBLE
            ),
        )
        hostctl.forget()
    yield Row("no-op apply, 50 hosts on one sshd", "ansible -m ping, 50 forks", ours, theirs, 0.4)


@contextlib.contextmanager
def _closing_masters() -> Iterator[None]:
    """Ansible's connection masters end with the case."""
    WORK.mkdir(parents=True, exist_ok=True)
    try:
        yield
    finally:
        for path in (WORK / "cp").glob("*"):
            with contextlib.suppress(Exception):
                run(["ssh", "-o", f"ControlPath={path}", "-O", "exit", "none"], ok=(0, 255))


CASES: dict[str, Callable[[], Iterator[Row]]] = {
    "version": version,
    "quickstart": quickstart,
    "first-apply": first_apply,
    "memory": memory,
    "noop-containers": noop_containers,
    "fifty-hosts": fifty_hosts,
    **runtime.CASES,
    **images.CASES,
    **builds.CASES,
    **ship.CASES,
}
