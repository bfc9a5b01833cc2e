"""Modules that are imported only when they are used, each in an interpreter of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest


def python(code: str) -> str:
    start = f"import sys; sys.path[:0] = {sys.path!r}; "
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", start + code], capture_output=True, text=True, check=True
    )
    return done.stdout


@pytest.mark.parametrize("module", ["runs", "ahead", "calls"])
def test_the_agent_starts_without_inspect(module):
    code = (
        "from hostctl_host.contract.later import later; later('inspect'); "
        f"import hostctl_host.agent.{module}; print('ast' in sys.modules, 'dis' in sys.modules)"
    )
    assert python(code) == "False False\n"


def test_what_uses_it_gets_the_real_one():
    use = (
        "from hostctl_host.contract.later import later; later('inspect'); "
        "import dataclasses, inspect; early = inspect; "
        "C = dataclasses.make_dataclass('C', ['x']); print(C.__doc__, early.isclass(C)); "
        "import inspect; print(inspect is early, inspect.signature(len), hasattr(early, '__file__'))"
    )
    assert python(use) == "C(x: 'typing.Any') True\nFalse (obj, /) False\n"


def test_one_that_is_there_stays():
    code = (
        "import inspect; from hostctl_host.contract.later import later; later('inspect'); "
        "print(sys.modules['inspect'] is inspect)"
    )
    assert python(code) == "True\n"
