"""Runs on the controller: logins of registries: from the operator's files and helpers to the hosts that need them."""

from .bases import bases
from .keyring import Keyring
from .lent import Lent
from .told import Logins

__all__ = ["Keyring", "Lent", "Logins", "bases"]
