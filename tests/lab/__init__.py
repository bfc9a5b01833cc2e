"""Runs on the test machine: test hosts made with util-linux and iproute2, independent of hostctl.

with Lab({"web1": {}, "web2": {}, "old": {"suite": "bullseye"}}) as lab:
    lab["web1"].address, lab["web1"].run(["id"]), lab.inventory, lab.registry.url
"""

from .host import HostOptions, LabHost
from .lab import Lab
from .roots import OPS_PASSWORD
from .shell import LabError

__all__ = ["OPS_PASSWORD", "HostOptions", "Lab", "LabError", "LabHost"]
