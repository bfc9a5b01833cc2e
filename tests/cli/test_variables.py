"""`-e` in its three forms."""

from __future__ import annotations

import pytest
from hostctl_host.contract.errors import HostctlError

from hostctl.cli.variables import parse_extra_vars


def test_words_json_and_files_in_order(tmp_path):
    file = tmp_path / "vars.yml"
    file.write_text("c: [1]\na: from file\n")
    found = parse_extra_vars(["a=1 b='two words'", '{"a": 2, "d": null}', f"@{file}"])
    assert found == {"a": "from file", "b": "two words", "c": [1], "d": None}


def test_a_value_may_hold_equals_signs():
    assert parse_extra_vars(["args=x=y"]) == {"args": "x=y"}


@pytest.mark.parametrize("argument", ["secret", "1a=2", '{"a": ', "[1]", "a='b"])
def test_what_is_no_variable_is_an_error_that_hides_values(argument):
    with pytest.raises(HostctlError) as caught:
        parse_extra_vars([argument])
    assert caught.value.ref == "extra-vars"
    assert caught.value.message.startswith("cannot use -e: ")


def test_a_missing_file_is_named():
    with pytest.raises(HostctlError, match=r"cannot read /nowhere\.yml"):
        parse_extra_vars(["@/nowhere.yml"])
