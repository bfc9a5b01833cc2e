"""Runs on the managed host: `wrapper`, which writes an executable that stands for this command line."""

from __future__ import annotations

import os
import sys

from ...agent.files import write_atomic
from ..config import RuntimeFailure
from .options import Options, usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .context import Context

# The kernel takes one argument behind #!, and 255 bytes in all.
_LINE = 255


def wrapper(context: Context, options: Options, words: list[str]) -> int:
    """Write the file, for `podman --runtime FILE` and everything else that takes a runtime's path."""
    if len(words) != 1:
        raise usage("exactly one path is needed, such as /usr/local/bin/hostctl-runtime")
    write_atomic(os.path.abspath(words[0]), text().encode(), 0o755)
    return 0


def text() -> str:
    """A Python file of its own, which needs no shell before it, and looks nowhere else for modules."""
    package = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    first = f"#!{sys.executable} -IS"
    if not sys.executable or len(first) > _LINE or " " in sys.executable:
        raise RuntimeFailure(
            f"cannot write a wrapper: the kernel would not start {sys.executable!r} from it",
            hint="use another Python 3.9 or newer, whose path is short and has no space",
            ref="bad-interpreter",
        )
    name = os.path.basename(package)
    return (
        f"{first}\n"
        '"""Runs on the managed host: the OCI runtime of hostctl. Written by its verb `wrapper`."""\n'
        "import sys\n\n"
        f"sys.path.insert(0, {os.path.dirname(package)!r})\n"
        f"from {name}.runtime.__main__ import main\n\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )


COMMANDS = {"wrapper": (wrapper, (), "PATH", -1)}
