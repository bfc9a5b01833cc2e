"""Compose's keys with values that no host could make: refused, each with its place."""

from __future__ import annotations

import pytest

from .conftest import Folder

BAD = [
    (
        "working_dir: srv",
        "working_dir",
        "cannot use working_dir: 'srv' is not absolute; a path in the container starts with /",
    ),
    (
        "tmpfs: [run]",
        "tmpfs[0]",
        "cannot use tmpfs[0]: 'run': the path in the container must start with /",
    ),
    (
        "tmpfs: ['/run:colour=red']",
        "tmpfs[0]",
        "cannot use tmpfs[0]: 'colour=red' is no option of a tmpfs; size=, mode=, uid=,"
        " gid=, nr_inodes=, ro, rw, exec, noexec, suid, nosuid, dev, nodev",
    ),
    (
        "cap_add: [FLY]",
        "cap_add[0]",
        "cannot use cap_add[0]: 'FLY' is no capability; see capabilities(7) for their names,"
        " such as NET_ADMIN",
    ),
    (
        "ulimits: {nofiles: 3}",
        "ulimits.nofiles",
        "cannot use ulimits.nofiles: 'nofiles' is no resource limit; one of as, core, cpu,"
        " data, fsize, locks, memlock, msgqueue, nice, nofile, nproc, rss, rtprio, rttime,"
        " sigpending, stack",
    ),
    (
        "ulimits: {nofile: {soft: 9, hard: 3}}",
        "ulimits.nofile",
        "cannot use ulimits.nofile: the soft limit is above the hard one",
    ),
    (
        'extra_hosts: ["a:10.0.0.1\\n10.0.0.2 b"]',
        "extra_hosts[0]",
        "cannot use extra_hosts[0]: '10.0.0.1\\n10.0.0.2 b' is no address; write an IP"
        " address or host-gateway",
    ),
    (
        "extra_hosts: ['a b:10.0.0.1']",
        "extra_hosts[0]",
        "cannot use extra_hosts[0]: 'a b' is no name of a host",
    ),
    (
        "extra_hosts: {'#': 10.0.0.1}",
        "extra_hosts.#",
        "cannot use extra_hosts.#: '#' is no name of a host",
    ),
    (
        "devices: [dev/null]",
        "devices[0]",
        "cannot use devices[0]: 'dev/null' is no device; write HOST:CONTAINER or"
        " HOST:CONTAINER:rwm",
    ),
    (
        "devices: ['/dev/null:x']",
        "devices[0].target",
        "cannot use devices[0].target: 'x' is no path of a device; it starts with /",
    ),
    (
        "devices: ['/dev/null:/dev/x:q']",
        "devices[0].permissions",
        "cannot use devices[0].permissions: 'q' are no permissions; letters of r, w and m",
    ),
    (
        "devices: ['vendor.com/gpu=0']",
        "devices[0]",
        "not supported yet: vendor.com/gpu=0, a CDI device",
    ),
    (
        "device_cgroup_rules: ['c 1 rw']",
        "device_cgroup_rules[0]",
        "cannot use device_cgroup_rules[0]: 'c 1 rw' is no device rule; write it like 'c"
        " 188:* rwm'",
    ),
    (
        "security_opt: [secomp=unconfined]",
        "security_opt[0]",
        "cannot use security_opt[0]: 'secomp=unconfined' is no security option; one of"
        " seccomp, apparmor, label, systempaths, no-new-privileges",
    ),
    (
        "security_opt: [systempaths=x]",
        "security_opt[0]",
        "cannot use security_opt[0]: 'systempaths=x': systempaths is unconfined",
    ),
    (
        "sysctls: {vm.swappiness: 1}",
        "sysctls.vm.swappiness",
        "cannot use sysctls.vm.swappiness: vm.swappiness belongs to the whole host, not to a"
        " container; use a sysctl of net., fs.mqueue. or IPC, or set it on the host",
    ),
    (
        "network_mode: host, sysctls: {net.core.somaxconn: 1}",
        "sysctls.net.core.somaxconn",
        "cannot use sysctls.net.core.somaxconn: with network_mode: host it would change the host",
    ),
    (
        "pid: hst",
        "pid",
        "cannot use pid: 'hst' is no mode of pid; host, service:NAME or container:NAME",
    ),
    (
        "ipc: private2",
        "ipc",
        "cannot use ipc: 'private2' is no mode of ipc; private, shareable, none, host,"
        " service:NAME or container:NAME",
    ),
    (
        "pid: 'service:nope'",
        "pid",
        "cannot find the container nope: it is not declared in containers",
    ),
    (
        "uts: host, hostname: b",
        "hostname",
        "cannot use hostname: with uts: host the name is the host's",
    ),
    (
        "uts: guest",
        "uts",
        "cannot use uts: 'guest' is no mode here; host, or leave it out",
    ),
    (
        "cpus: 1, cpu_quota: 5000",
        "cpu_quota",
        "cannot use cpu_quota: cpus says the same: write one of them",
    ),
    (
        "cpu_period: 5",
        "cpu_period",
        "cannot use cpu_period: write 1000 to 1000000 microseconds, or 1ms to 1s",
    ),
    (
        "cpu_shares: 1",
        "cpu_shares",
        "cannot use cpu_shares: write a number from 2 to 262144; 1024 is one share",
    ),
    (
        "cpuset: 3-1",
        "cpuset",
        "cannot use cpuset: '3-1' are no CPUs; write numbers and ranges, such as 0-3 or 0,2",
    ),
    (
        "mem_limit: 64m, mem_reservation: 65m",
        "mem_reservation",
        "cannot use mem_reservation: it is more than mem_limit",
    ),
    (
        "memswap_limit: 64m",
        "memswap_limit",
        "cannot use memswap_limit: it counts memory and swap together: set mem_limit, too",
    ),
    (
        "mem_swappiness: 101",
        "mem_swappiness",
        "cannot use mem_swappiness: write a number from 0 to 100",
    ),
    (
        "oom_kill_disable: true",
        "oom_kill_disable",
        "cannot use oom_kill_disable: without mem_limit the host itself would run out of memory",
    ),
    (
        "oom_score_adj: 2000",
        "oom_score_adj",
        "cannot use oom_score_adj: write a number from -1000 to 1000",
    ),
    (
        "blkio_config: {weight: 5}",
        "blkio_config.weight",
        "cannot use blkio_config.weight: a weight is a number from 10 to 1000",
    ),
    (
        "cpu_count: 2",
        "cpu_count",
        "cannot use cpu_count: it is for Windows containers",
    ),
    (
        "healthcheck: {test: [RUN, x]}",
        "healthcheck.test[0]",
        "cannot use healthcheck.test[0]: 'RUN' is no kind of test; CMD, CMD-SHELL, NONE",
    ),
    (
        "healthcheck: {test: x, tcp: 1}",
        "healthcheck",
        "cannot use healthcheck: write one of test, http and tcp",
    ),
    (
        "healthcheck: {http: {port: 0}}",
        "healthcheck.http.port",
        "cannot use healthcheck.http.port: 0 is no port; 1 to 65535",
    ),
    (
        "logging: {driver: syslog}",
        "logging.driver",
        "not supported yet: the logging driver syslog",
    ),
    (
        "logging: {options: {tag: x}}",
        "logging.options.tag",
        "not supported yet: the logging option tag (max-size, max-file, compress)",
    ),
    (
        "logging: {driver: journald, options: {max-size: 1m}}",
        "logging.options.max-size",
        "not supported yet: the logging option max-size (tag)",
    ),
    (
        "logging: {options: {max-size: 1}}",
        "logging.options.max-size",
        "cannot use logging.options.max-size: 1 is no size of a log; at least 4k, or -1 for"
        " no limit",
    ),
    (
        "pre_stop: [{command: []}]",
        "pre_stop[0].command",
        "cannot use pre_stop[0].command: there is nothing to run",
    ),
    (
        "annotations: {hostctl.overlay: x}",
        "annotations.hostctl.overlay",
        "cannot use annotations.hostctl.overlay: 'hostctl.overlay' is a name that hostctl"
        " keeps for itself",
    ),
    (
        "platform: linux",
        "platform",
        "cannot use platform: 'linux' is no platform; write it like linux/amd64",
    ),
    (
        "cgroup_parent: ../x",
        "cgroup_parent",
        "cannot use cgroup_parent: '../x' leaves the place of containers",
    ),
    (
        "env_file: nope.env",
        "env_file",
        "cannot find nope.env",
    ),
    (
        "env_file: [bad.env]",
        "env_file[0]",
        "cannot read bad.env: line 2: 'what' is followed by neither = nor a new line",
    ),
    (
        "security_opt: ['seccomp=bad.env']",
        "security_opt[0]",
        "cannot use the seccomp profile bad.env: Expecting value: line 1 column 1 (char 0)",
    ),
    (
        "deploy: {resources: {limits: {memory: 1m}}}",
        "deploy.resources",
        "cannot use deploy.resources: a container needs at least 6m of memory (mem_limit)",
    ),
]


@pytest.mark.parametrize(("body", "path", "expected"), BAD)
def test_a_bad_value_is_refused_with_its_place(
    folder: Folder, body: str, path: str, expected: str
) -> None:
    folder.file("bad.env", "A=1\nwhat is this\n")
    (found,) = folder.errors(f"- hosts: web\n  containers:\n    a: {{image: x, {body}}}\n")
    place, _, message = found.partition("): ")
    assert (place.partition("(")[2], message.partition(" | ")[0]) == (
        f"containers.a.{path}",
        expected,
    )
    assert place.startswith("site.yml:3:")


def test_bad_values_of_several_containers_are_said_at_once(folder: Folder) -> None:
    found = folder.errors("""\
        - hosts: web
          containers:
            a: {image: x, working_dir: srv}
            b: {image: x, cap_add: [FLY], tmpfs: [run]}
            c: {image: x, depends_on: [a, b], volumes_from: [a], pid: "service:b"}
        """)
    assert [line.partition(":")[2].partition(":")[0] for line in found] == ["3", "4", "4"]
    assert not any("cannot find the container" in line for line in found)
