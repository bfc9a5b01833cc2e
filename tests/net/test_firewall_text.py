"""The nftables text: equal records give equal text, which reads as what it does."""

from __future__ import annotations

from hostctl_host.net.firewall import Published, render

FRONT = {"name": "shop_front", "bridge": "hc-1", "subnet": "172.29.0.0/24"}
BACK = {"name": "shop_back", "bridge": "hc-2", "subnet": "172.29.1.0/24", "internal": True}
PORTS = [
    Published("web", "", 8080, "tcp", "172.29.0.2", 80),
    Published("web", "127.0.0.1", 8081, "tcp", "172.29.0.2", 81),
    Published("dns", "192.0.2.1", 53, "udp", "172.29.0.3", 5353),
]

EXPECTED = """\
table inet hostctl
delete table inet hostctl
table inet hostctl {
  chain published {
    tcp dport 8080 dnat ip to 172.29.0.2:80
    ip daddr 192.0.2.1 udp dport 53 dnat ip to 172.29.0.3:5353
  }
  chain published_here {
    ip daddr 127.0.0.1 tcp dport 8081 dnat ip to 172.29.0.2:81
  }
  chain guard {
    type filter hook prerouting priority -300; policy accept;
    iifname { "hc-2", "hc-1" } ip daddr 127.0.0.0/8 drop
  }
  chain prerouting {
    type nat hook prerouting priority -100; policy accept;
    meta nfproto ipv4 fib daddr type local jump published
  }
  chain output {
    type nat hook output priority -100; policy accept;
    meta nfproto ipv4 fib daddr type local jump published_here
    meta nfproto ipv4 fib daddr type local jump published
  }
  chain postrouting {
    type nat hook postrouting priority 100; policy accept;
    oifname "hc-2" ip saddr 127.0.0.0/8 masquerade
    oifname "hc-2" ip saddr 172.29.1.0/24 ct status dnat masquerade
    oifname "hc-1" ip saddr 127.0.0.0/8 masquerade
    oifname "hc-1" ip saddr 172.29.0.0/24 ct status dnat masquerade
    oifname != "hc-1" ip saddr 172.29.0.0/24 masquerade
  }
  chain forward {
    type filter hook forward priority 0; policy accept;
    iifname "hc-2" oifname != "hc-2" drop
    iifname != "hc-2" oifname "hc-2" drop
    oifname { "hc-2", "hc-1" } ct state established,related accept
    oifname { "hc-2", "hc-1" } ct status dnat accept
    iifname != "hc-2" oifname "hc-2" drop
    iifname != "hc-1" oifname "hc-1" drop
  }
}
"""


def test_the_whole_table() -> None:
    assert render([FRONT, BACK], PORTS) == EXPECTED
    assert render([BACK, FRONT], PORTS) == EXPECTED


def test_without_networks_the_table_goes() -> None:
    assert render([], PORTS) == "table inet hostctl\ndelete table inet hostctl\n"
