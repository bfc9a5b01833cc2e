"""The YAML loader: YAML 1.2 values, positions, bounds."""

from __future__ import annotations

import time

import pytest
import yaml
from hostctl_host.contract.errors import HostctlError
from hypothesis import given
from hypothesis import strategies as st

from hostctl.playbook.errors import PlaybookErrors
from hostctl.yaml import Map, load
from hostctl.yaml.values import place_of


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("yes", "yes"),
        ("on", "on"),
        ("true", True),
        ("False", False),
        ("22:22", "22:22"),
        ("0440", "0440"),
        ("0o440", "0o440"),
        ("0x1f", 31),
        ("12", 12),
        ("-3", -3),
        ("1e3", 1000.0),
        ("1.5", 1.5),
        ("1_000", "1_000"),
        ("~", None),
        ("null", None),
        ("2024-01-02", "2024-01-02"),
        ("'12'", "12"),
        ("!!str 12", "12"),
        ("!!int '12'", 12),
        ("a b", "a b"),
    ],
)
def test_scalars_are_yaml_1_2(text: str, value: object) -> None:
    found = load(f"a: {text}\n", "t.yml")["a"]
    assert found == value
    assert isinstance(found, type(value)) and isinstance(found, bool) == isinstance(value, bool)


def test_a_decimal_keeps_its_text_as_a_string() -> None:
    found = load("a: 1.10\n", "t.yml")["a"]
    assert found == 1.1 and str(found) == "1.10"


def test_positions_of_keys_values_and_items() -> None:
    value = load("a:\n  b: [x, {c: 1}]\n", "t.yml")
    place = place_of(value)
    assert str(place.walk(value, ["a", "b", 1, "c"])) == "t.yml:2:14 (a.b[1].c)"
    assert str(place.walk(value, ["a", "b", 1, "c"], name=True)) == "t.yml:2:11 (a.b[1].c)"
    assert str(place.walk(value, ["a", "zzz"])) == "t.yml:2:3 (a.zzz)"


def test_merge_keys_are_weaker_than_own_keys() -> None:
    value = load("base: &b {x: 1, y: 2}\nown:\n  <<: *b\n  x: 3\n", "t.yml")
    assert value["own"] == {"x": 3, "y": 2}


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "{" * 100_000, "- " * 100_000, "a: " + "[" * 2_000_000]
)
def test_deep_nesting_is_an_error_and_does_not_take_forever(text: str) -> None:
    start = time.monotonic()
    with pytest.raises(HostctlError):
        load(text, "t.yml")
    assert time.monotonic() - start < 40


def test_aliases_cannot_explode() -> None:
    lines = ["a0: &a0 [x,x,x,x,x,x,x,x,x,x]"]
    lines += [f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10)]
    with pytest.raises(HostctlError, match="more than 400000 values"):
        load("\n".join(lines), "t.yml")


def test_size_is_bounded() -> None:
    with pytest.raises(HostctlError, match="larger than 8 MiB"):
        load("a: " + "x" * (9 << 20), "t.yml")


def test_not_utf8_says_where() -> None:
    with pytest.raises(HostctlError) as caught:
        load(b"a: 1\nb: \xff\n", "t.yml")
    assert str(caught.value) == "t.yml:2:4: cannot read the YAML: not UTF-8"


def test_all_duplicate_keys_at_once() -> None:
    with pytest.raises(PlaybookErrors) as caught:
        load("a: 1\na: 2\nb: {c: 1, c: 2}\n", "t.yml")
    assert [error.where for error in caught.value.errors] == ["t.yml:2:1 (a)", "t.yml:3:11 (b.c)"]


_plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(_plain)
def test_what_pyyaml_writes_is_read_back(value: object) -> None:
    text = yaml.safe_dump(value, default_style='"')
    assert load(text, "t.yml") == value


@given(st.text(max_size=80))
def test_any_text_is_a_value_or_an_error_with_a_place(text: str) -> None:
    try:
        load(text, "t.yml")
    except PlaybookErrors as errors:
        assert all(error.where.startswith("t.yml:") for error in errors.errors)
    except HostctlError as error:
        assert error.where.startswith("t.yml")


@given(
    st.dictionaries(
        st.from_regex(r"[a-z]{1,6}", fullmatch=True), st.integers(), min_size=1, max_size=6
    )
)
def test_every_key_has_its_line(value: dict[str, int]) -> None:
    text = "".join(f"{key}: {item}\n" for key, item in value.items())
    found = load(text, "t.yml")
    assert isinstance(found, Map)
    special = {"true", "false", "null"}
    for number, key in enumerate(value, 1):
        if key not in special:
            assert found.marks[key][:2] == (number, 1)
