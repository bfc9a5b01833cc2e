"""Runs on the test machine: the small JSON beside the standard one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hostctl_host.contract import plainjson
from hypothesis import given
from hypothesis import strategies as st

_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(_values.filter(lambda value: value not in (float("inf"), float("-inf"))))
def test_both_write_and_read_the_same(value: object) -> None:
    text = json.dumps(value)
    if "Infinity" in text:
        return
    assert plainjson.dumps(value) == text
    assert plainjson.loads(text) == plainjson.loads(text.encode()) == json.loads(text)


@pytest.mark.parametrize("bad", ["", "{", "[1,]", "nul", "1 2", '{"a":1,}', "NaN", b"\xff"])
def test_what_is_no_json_is_a_value_error(bad: str | bytes) -> None:
    with pytest.raises(ValueError):
        plainjson.loads(bad)


def test_it_brings_no_heavy_module_along() -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import hostctl_host.monitor.zygote;"
        "print(sorted({'json', 're', 'enum', 'socket', 'typing', 'signal'} & set(sys.modules)))"
    )
    root = Path(plainjson.__file__).parents[2]
    argv = [sys.executable, "-I", "-S", "-c", code, str(root)]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout == "[]\n"
