"""Runs on the controller: the one YAML loader, for inventories, variables and playbooks."""

from .loader import load, load_file
from .values import Map, Place, Seq

__all__ = ["Map", "Place", "Seq", "load", "load_file"]
