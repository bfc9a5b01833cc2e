"""Variables, quotes and words, as BuildKit's shell lexer reads them."""

from __future__ import annotations

import pytest
from hostctl_host.contract.dockerfile.errors import DockerfileError
from hostctl_host.contract.dockerfile.expand import expand
from hypothesis import given
from hypothesis import strategies as st

VALUES = {"A": "one", "EMPTY": "", "PATH": "/bin", "F": "a.tar.gz", "한": "글", "S": "x  y"}


@pytest.mark.parametrize(
    ("word", "result"),
    [
        ("plain", "plain"),
        ("$A", "one"),
        ("${A}", "one"),
        ("$A.$A", "one.one"),
        ("x${A}y", "xoney"),
        ("$Ab", ""),
        ("$한", "글"),
        ("$", "$"),
        ("$/", "$/"),
        ("$$", ""),
        ("\\$A", "$A"),
        ("\\\\$A", "\\one"),
        ("a\\b", "ab"),
        ("'$A'", "$A"),
        ('"$A"', "one"),
        ('"\\$A"', "$A"),
        ('"\\x"', "\\x"),
        ('"a\\"b"', 'a"b'),
        ("'a\"b'", 'a"b'),
        ('"a\'b"', "a'b"),
        ("a'b'\"c\"", "abc"),
        ("\\'", "'"),
        ("end\\", "end"),
        ("${MISSING-x}", "x"),
        ("${MISSING:-x}", "x"),
        ("${EMPTY-x}", ""),
        ("${EMPTY:-x}", "x"),
        ("${A:-x}", "one"),
        ("${MISSING:-${A}}", "one"),
        ("${MISSING:-${MISSING:-deep}}", "deep"),
        ("${MISSING:-'$A'}", "$A"),
        ("${A+x}", "x"),
        ("${EMPTY+x}", "x"),
        ("${EMPTY:+x}", ""),
        ("${MISSING:+x}", ""),
        ("${A?why}", "one"),
        ("${EMPTY?why}", ""),
        ("${F#*.}", "tar.gz"),
        ("${F##*.}", "gz"),
        ("${F%.*}", "a.tar"),
        ("${F%%.*}", "a"),
        ("${F#b}", "a.tar.gz"),
        ("${F#?}", ".tar.gz"),
        ("${F#*}", "a.tar.gz"),
        ("${F%}", "a.tar.gz"),
        ("${MISSING#x}", ""),
        ("${F/./-}", "a-tar.gz"),
        ("${F//./-}", "a-tar-gz"),
        ("${F/t*/x}", "a.x"),
        ("${F//?a/_}", "a._r.gz"),
        ("${F/nothing/x}", "a.tar.gz"),
        ("${PATH//\\//\\/}", "\\/bin"),
        ("${F///}", "a.tar.gz"),
        ("${F//$EMPTY/-}", "-a-.-t-a-r-.-g-z-"),
        ("${A:+-${A}}.x", "-one.x"),
    ],
)
def test_words_become(word: str, result: str) -> None:
    assert expand(word, VALUES).text == result


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("${A", "}"),
        ("${", "}"),
        ("${}", "no name"),
        ("${{A}", "no name"),
        ("'a", "single quote"),
        ('"a', "double quote"),
        ("${MISSING?it is needed}", "it is needed"),
        ("${EMPTY:?}", "must not be empty"),
        ("${MISSING:?}", "must not be unset"),
        ("${A=x}", "no way to change"),
        ("${A:=x}", "no way to change"),
        ("${F//x}", "/"),
        ("${F#\\x}", "escape"),
        ("${A:-" * 60, "levels"),
    ],
)
def test_what_cannot_be_expanded_says_why(word: str, said: str) -> None:
    with pytest.raises(DockerfileError) as caught:
        expand(word, VALUES)
    assert said in caught.value.message


def test_words_are_split_after_variables_but_not_in_quotes() -> None:
    assert expand("$S 'a b' \"$S\" c\\ d", VALUES).words == ("x", "y", "a b", "x  y", "c d")


def test_the_escape_may_be_a_backtick() -> None:
    assert expand("C:\\dir`$A", VALUES, "`").text == "C:\\dir$A"


def test_a_document_keeps_its_quotes() -> None:
    assert expand('it\'s "$A" \\$A', VALUES, document=True).text == 'it\'s "one" $A'


def test_who_expands_learns_what_was_used_and_what_was_missing() -> None:
    found = expand("$A ${B:-$C} $EMPTY", VALUES)
    assert found.used == {"A", "EMPTY"}
    assert found.missing == {"B", "C"}


def test_many_wildcards_take_no_longer_than_few() -> None:
    value = "a" * 2000
    assert expand("${V##*a*a*a*a*a*a*a*a*b}", {"V": value}).text == value


@given(st.text("${}:-+?#%/'\"\\ aA*\n<", max_size=60), st.sampled_from("\\`"))
def test_any_word_is_expanded_or_refused(word: str, escape: str) -> None:
    try:
        found = expand(word, VALUES, escape)
    except DockerfileError:
        return
    assert isinstance(found.text, str)
    assert all(found.words)
