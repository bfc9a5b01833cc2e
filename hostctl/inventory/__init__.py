"""Runs on the controller: which hosts there are, in which groups, with which variables."""

from .model import Group, Inventory, InventoryHost
from .load import load_inventory

__all__ = ["Group", "Inventory", "InventoryHost", "load_inventory"]
