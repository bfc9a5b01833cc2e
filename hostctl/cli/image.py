"""Runs on the controller: the group `hostctl image`: Docker's subcommands, one file each."""

from __future__ import annotations

from .group import lazy_group

command = lazy_group(
    "image",
    "Images on the hosts.",
    {
        "ls": "image_ls",
        "inspect": "image_inspect",
        "history": "image_history",
        "tag": "image_tag",
        "rm": "image_rm",
        "prune": "image_prune",
        "pull": "pull",
        "push": "push",
        "save": "image_save",
        "load": "image_load",
        "import": "image_import",
    },
)
