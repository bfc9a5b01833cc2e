"""Runs on the controller: which hosts there are, in which groups, with which variables."""

from .load import load_inventory
from .model import Group, Inventory, InventoryHost, inventory_json

__all__ = ["Group", "Inventory", "InventoryHost", "inventory_json", "load_inventory"]
