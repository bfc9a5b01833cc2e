"""Runs on the managed host, in a monitor: work done in a child, so that the memory it touches goes with it.

A monitor shares nearly all its pages with the zygote. Whatever it executes itself it makes its own
copy of (reference counts), for as long as the container runs: making a container would cost 2 MB.
"""

from __future__ import annotations

import os
from typing import Callable, NoReturn

from ..runtime.handshake import Handshake


def run(work: Callable[[], tuple[str, list[int]]]) -> tuple[str, list[int]]:
    """Do the work in a child: its word and descriptors, or its error.

    Raises:
        runtime.config.RuntimeFailure: what the work raised, or that the child was killed.
    """
    talk = Handshake()
    pid = os.fork()
    if pid == 0:
        _child(work, talk)
    talk.parent()
    try:
        word, fds = talk.receive()
    finally:
        talk.close()
        os.waitpid(pid, 0)
    return word, fds


def _child(work: Callable[[], tuple[str, list[int]]], talk: Handshake) -> NoReturn:
    try:
        talk.child()
        word, fds = work()
        talk.send(word, fds)
    except BaseException as error:
        talk.send_error(error)
    finally:
        os._exit(0)
