"""Runs on the managed host: facts under Ansible's names (without `ansible_`), from cheap reads only."""

from __future__ import annotations

import os
import sys
import time
from typing import Any

_NAMES = {
    "debian": ("Debian", "Debian"),
    "ubuntu": ("Ubuntu", "Debian"),
    "raspbian": ("Raspbian", "Debian"),
    "linuxmint": ("Linux Mint", "Debian"),
    "fedora": ("Fedora", "RedHat"),
    "centos": ("CentOS", "RedHat"),
    "rhel": ("RedHat", "RedHat"),
    "rocky": ("Rocky", "RedHat"),
    "almalinux": ("AlmaLinux", "RedHat"),
    "ol": ("OracleLinux", "RedHat"),
    "amzn": ("Amazon", "RedHat"),
    "sles": ("SLES", "Suse"),
    "opensuse-leap": ("openSUSE Leap", "Suse"),
    "opensuse-tumbleweed": ("openSUSE Tumbleweed", "Suse"),
    "arch": ("Archlinux", "Archlinux"),
    "alpine": ("Alpine", "Alpine"),
}

_PACKAGE_MANAGERS = (
    ("apt", "/usr/bin/apt-get"),
    ("dnf5", "/usr/bin/dnf5"),
    ("dnf", "/usr/bin/dnf"),
    ("yum", "/usr/bin/yum"),
    ("zypper", "/usr/bin/zypper"),
    ("pacman", "/usr/bin/pacman"),
    ("apk", "/sbin/apk"),
)
_APPARMOR = "/sys/kernel/security/apparmor"


def collect() -> dict[str, Any]:
    """All facts. What cannot be read is left out."""
    kernel = os.uname()
    return {
        **_distribution(),
        **_memory(),
        **_user(),
        **_network(),
        "system": kernel.sysname,
        "kernel": kernel.release,
        "kernel_version": kernel.version,
        "machine": kernel.machine,
        "architecture": kernel.machine,
        "nodename": kernel.nodename,
        "hostname": kernel.nodename.partition(".")[0],
        "fqdn": _fqdn(kernel.nodename),
        "processor_vcpus": os.cpu_count() or 1,
        "processor_nproc": len(os.sched_getaffinity(0)),
        "python_version": ".".join(str(part) for part in sys.version_info[:3]),
        "python": {"executable": sys.executable, "version_info": list(sys.version_info)},
        "service_mgr": _service_manager(),
        "apparmor": {"status": "enabled" if os.path.exists(_APPARMOR) else "disabled"},
        "pkg_mgr": next((name for name, path in _PACKAGE_MANAGERS if os.path.exists(path)), ""),
        "machine_id": _text("/etc/machine-id").strip(),
        "date_time": _date_time(),
        "env": {
            name: os.environ[name]
            for name in ("HOME", "LANG", "LOGNAME", "PATH", "SHELL", "USER")
            if name in os.environ
        },
    }


def _text(path: str) -> str:
    try:
        with open(path, "rb") as stream:
            return stream.read(65536).decode(errors="replace")
    except OSError:
        return ""


def _distribution() -> dict[str, Any]:
    release = {}
    for line in (_text("/etc/os-release") or _text("/usr/lib/os-release")).splitlines():
        name, separator, value = line.partition("=")
        if separator:
            release[name] = value.strip().strip("\"'")
    ident = release.get("ID", "")
    likes = [ident, *release.get("ID_LIKE", "").split()]
    family = next((_NAMES[like][1] for like in likes if like in _NAMES), ident.capitalize())
    version = release.get("VERSION_ID", "")
    if ident == "debian":
        # As in Ansible: with the point release, which os-release does not know.
        point = _text("/etc/debian_version").strip()
        version = point if point[:1].isdigit() else version
    return {
        "distribution": _NAMES[ident][0] if ident in _NAMES else release.get("NAME", ident),
        "distribution_version": version,
        "distribution_major_version": version.partition(".")[0],
        "distribution_release": release.get("VERSION_CODENAME", ""),
        "os_family": family,
    }


def _memory() -> dict[str, int]:
    names = {
        "MemTotal": "memtotal_mb",
        "MemFree": "memfree_mb",
        "SwapTotal": "swaptotal_mb",
        "SwapFree": "swapfree_mb",
    }
    found = {}
    for line in _text("/proc/meminfo").splitlines():
        name, _, value = line.partition(":")
        if name in names:
            found[names[name]] = int(value.split()[0]) // 1024
    return found


def _user() -> dict[str, Any]:
    import pwd

    facts: dict[str, Any] = {"user_uid": os.getuid(), "user_gid": os.getgid()}
    facts["effective_user_id"] = os.geteuid()
    try:
        entry = pwd.getpwuid(os.geteuid())
    except KeyError:
        return {**facts, "user_id": str(os.geteuid())}
    return {
        **facts,
        "user_id": entry.pw_name,
        "user_dir": entry.pw_dir,
        "user_shell": entry.pw_shell,
        "user_gecos": entry.pw_gecos,
    }


def _network() -> dict[str, Any]:
    facts: dict[str, Any] = {"interfaces": [], "default_ipv4": {}}
    try:
        facts["interfaces"] = sorted(os.listdir("/sys/class/net"))
    except OSError:
        pass
    for line in _text("/proc/net/route").splitlines()[1:]:
        fields = line.split()
        if len(fields) > 7 and fields[1] == fields[7] == "00000000":
            gateway = ".".join(str(byte) for byte in reversed(bytes.fromhex(fields[2])))
            facts["default_ipv4"] = {"interface": fields[0], "gateway": gateway}
            address = _source_address()
            if address:
                facts["default_ipv4"]["address"] = address
            break
    return facts


def _source_address() -> str:
    """The address that packets to elsewhere leave with: a UDP connect asks the kernel, nothing is sent."""
    import _socket  # `socket` itself would cost 5 ms of imports before the hello

    probe = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM)
    try:
        probe.connect(("192.0.2.1", 9))
        return str(probe.getsockname()[0])
    except OSError:
        return ""
    finally:
        probe.close()


def _fqdn(nodename: str) -> str:
    """The dotted name from /etc/hosts; no resolver is asked."""
    if "." in nodename:
        return nodename
    for line in _text("/etc/hosts").splitlines():
        names = line.partition("#")[0].split()[1:]
        if nodename in names:
            return next((name for name in names if name.startswith(nodename + ".")), nodename)
    return nodename


def _service_manager() -> str:
    if os.path.isdir("/run/systemd/system"):
        return "systemd"
    if os.path.exists("/run/openrc"):
        return "openrc"
    return os.path.basename(_text("/proc/1/comm").strip()) or "service"


def _date_time() -> dict[str, str]:
    now = time.time()
    local, utc = time.localtime(now), time.gmtime(now)
    formats = {
        "date": "%Y-%m-%d",
        "time": "%H:%M:%S",
        "year": "%Y",
        "month": "%m",
        "day": "%d",
        "hour": "%H",
        "minute": "%M",
        "second": "%S",
        "weekday": "%A",
        "tz": "%Z",
        "tz_offset": "%z",
        "iso8601_basic_short": "%Y%m%dT%H%M%S",
    }
    values = {name: time.strftime(text, local) for name, text in formats.items()}
    values["epoch"] = str(int(now))
    values["iso8601"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", utc)
    return values
