"""Runs on the test machine: what a lab host looks like to others, for before and after."""

from __future__ import annotations

from tests.lab import LabHost

# Content, kind, mode and owner of every file that configures or records something, but times; apt's
# and dpkg's own bookkeeping (lists, caches, backups) is compared through dpkg-query instead.
TREE = r"""
find /etc /root /srv /usr/local /var/lib /opt \
    \( -path /var/lib/hostctl -o -path /var/lib/apt -o -path /var/lib/dpkg \) -prune -o \
    -printf '%p %y %m %u %g %l\n' | sort
find /etc /root /srv /usr/local /var/lib /opt \
    \( -path /var/lib/hostctl -o -path /var/lib/apt -o -path /var/lib/dpkg \) -prune -o \
    -type f -print0 | sort -z | xargs -0 sha256sum
dpkg-query -W -f '${Package} ${Version} ${db:Status-Status}\n'
"""

KERNEL = {
    "rules": "nft list ruleset",
    "links": "ip -o link | cut -d' ' -f2 | sort",
    "addresses": "ip -o addr | awk '{print $2, $4}' | grep -v fe80 | sort",
    "routes": "ip route | sort",
    "mounts": "cut -d' ' -f5 /proc/self/mountinfo | sort",
    "cgroups": "find /sys/fs/cgroup -mindepth 2 -type d | sort",
    "forwarding": "cat /proc/sys/net/ipv4/ip_forward",
}


def tree(host: LabHost) -> list[str]:
    """Files and packages outside hostctl's own folder."""
    return host.sh(TREE).splitlines()


def kernel(host: LabHost) -> dict[str, list[str]]:
    """What the kernel holds: rules, links, addresses, routes, mounts, cgroups."""
    return {name: host.sh(script).splitlines() for name, script in KERNEL.items()}


def processes(host: LabHost) -> list[str]:
    """Command lines of all processes but the lab's own and this look."""
    lines = host.sh("ps -e -o args=").splitlines()
    own = ("tini", "sleep infinity", "sshd:", "sh -ec", "ps -e")
    return sorted(line for line in lines if not line.startswith(own))
