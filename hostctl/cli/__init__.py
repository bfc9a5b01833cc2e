"""Runs on the controller: the command line, one file per verb, imported when the verb is used."""

from __future__ import annotations

from importlib import import_module

import click

from hostctl import __version__

# In the order in which help lists them.
VERBS = (
    "plan",
    "apply",
    "destroy",
    "ps",
    "logs",
    "exec",
    "attach",
    "stop",
    "start",
    "restart",
    "build",
    "pull",
    "push",
    "login",
    "logout",
    "images",
    "image",
    "history",
    "tag",
    "rmi",
    "save",
    "load",
    "import",
    "system",
    "inventory",
    "version",
)

# Verbs whose file is named otherwise: Docker's short forms of `image VERB`.
FILES = {
    "images": "image_ls",
    "history": "image_history",
    "tag": "image_tag",
    "rmi": "image_rm",
    "save": "image_save",
    "load": "image_load",
    "import": "image_import",
}


class LazyGroup(click.Group):
    """A group that imports `hostctl.cli.VERB` only when VERB is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """The verbs, in their own order."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:  # noqa: ARG002
        """The command of that name; each verb's file calls it `command`."""
        if name not in VERBS:
            return None
        command = import_module(f"hostctl.cli.{FILES.get(name, name)}").command
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As in click, with the verb that was probably meant."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            from difflib import get_close_matches

            from .habits import instead

            meant = instead(args[0])
            close = get_close_matches(args[0], VERBS, 1)
            if not meant and not close:
                raise
            more = f"Instead: {meant}" if meant else f"Did you mean {close[0]!r}?"
            raise click.UsageError(f"{error.message} {more}", ctx) from error


@click.group(
    cls=LazyGroup,
    name="hostctl",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, message="hostctl %(version)s")
def cli() -> None:
    """Declare hosts and containers in YAML; make them so over SSH.

    A managed host needs sshd and Python 3.9, nothing else. Without an inventory, everything
    works on this machine.
    """
