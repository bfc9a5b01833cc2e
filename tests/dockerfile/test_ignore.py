"""Patterns: .dockerignore by moby's rules, sources of COPY by Go's."""

from __future__ import annotations

import pytest
from hostctl_host.contract.dockerfile.errors import DockerfileError
from hostctl_host.contract.dockerfile.ignore import Patterns, read_patterns
from hostctl_host.contract.dockerfile.wildcard import match
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("patterns", "path", "excluded"),
    [
        ("file", "file", True),
        ("file", "dir/file", False),
        ("**/file", "file", True),
        ("**/file", "a/b/file", True),
        ("**/file", "a/nofile", False),
        ("**file", "a/nofile", True),
        ("dir", "dir/a/b", True),
        ("dir/", "dir/a", True),
        ("/dir", "dir/a", True),
        ("./dir", "dir/a", True),
        ("dir", "dirx/a", False),
        ("dir/*", "dir", False),
        ("dir/*", "dir/a/b", True),
        ("dir/**", "dir", False),
        ("dir/**", "dir/a/b", True),
        ("dir/**/x", "dir/x", True),
        ("dir/**/x", "dir/a/b/x", True),
        ("dir/**/x", "dir/a/bx", False),
        ("**", "anything/at/all", True),
        ("**/", "anything", True),
        ("*", "a/b", True),
        ("*.go", "a/x.go", False),
        ("*/*.go", "a/x.go", True),
        ("*/*/t*", "a/b/temp", True),
        ("**/*.pyc", "a/b/c.pyc", True),
        ("temp?", "tempa", True),
        ("temp?", "temp", False),
        ("a?b", "a/b", False),
        ("a[b-d]c", "acc", True),
        ("a[b-d]c", "aec", False),
        ("a[^b-d]c", "aec", True),
        ("a\\*b", "a*b", True),
        ("a\\*b", "axb", False),
        ("a.b", "axb", False),
        ("a+b(c)|$", "a+b(c)|$", True),
        ("*\n!keep", "keep", False),
        ("*\n!keep", "keep/a", False),
        ("*\n!keep\nkeep/b", "keep/b", True),
        ("!keep\n*", "keep", True),
        ("dir\n!dir/a", "dir/a", False),
        ("dir\n!dir/a", "dir/b", True),
        ("dir\n!**/*.md", "dir/x/README.md", False),
        ("  dir  ", "dir", True),
        ("! dir\ndir", "dir", True),
        ("a/../b", "b", True),
        ("한*", "한글", True),
        ("a\n\n\nb", "b", True),
        ("*", ".", False),
    ],
)
def test_what_is_left_out(patterns: str, path: str, excluded: bool) -> None:
    assert Patterns.read(patterns).excludes(path) is excluded


def test_comments_and_leading_slashes_go() -> None:
    text = "\ufeff# comment\n\n  # a file\n/abs/path/\r\n!/abs/keep\n./x//y\n"
    assert read_patterns(text) == ["# a file", "abs/path", "!abs/keep", "x/y"]


@pytest.mark.parametrize("pattern", ["!", "[", "a[", "[]a]", "[a-", "a\\"])
def test_patterns_that_are_none_are_refused(pattern: str) -> None:
    with pytest.raises(DockerfileError):
        Patterns.read(pattern)


def test_a_folder_is_passed_over_where_nothing_below_comes_back() -> None:
    assert Patterns.read("a\nb").prunes("a")
    assert Patterns.read("a\nb\n!b/c").prunes("a")
    assert not Patterns.read("a\nb\n!b/c").prunes("b")
    assert not Patterns.read("a\n!**/*.md").prunes("a")


def test_walking_down_tells_the_same() -> None:
    patterns = Patterns.read("a\n!a/b\na/b/c\n!a/b/c/d")
    below: tuple[bool, ...] = ()
    seen = []
    for path in ("a", "a/b", "a/b/c", "a/b/c/d", "a/b/c/d/e"):
        excluded, below = patterns.enter(path, below)
        seen.append(excluded)
        assert patterns.excludes(path) is excluded
    assert seen == [True, False, True, False, False]


@pytest.mark.parametrize(
    ("pattern", "path", "matched"),
    [
        ("*", "abc", True),
        ("*", "a/b", False),
        ("*/x", "a/x", True),
        ("a*b?c*x", "abxbbxdbxebxczzx", True),
        ("a*b?c*x", "abxbbxdbxebxczzy", False),
        ("ab[c]", "abc", True),
        ("ab[^c]", "abc", False),
        ("ab[e-g]", "abc", False),
        ("a\\*b", "a*b", True),
        ("a\\*b", "ab", False),
        ("[\\]a]", "]", True),
        ("[x\\-]", "-", True),
        ("**", "ab", True),
        ("a?", "a", False),
        ("", "", True),
    ],
)
def test_sources_match_as_in_go(pattern: str, path: str, matched: bool) -> None:
    assert match(pattern, path) is matched


@pytest.mark.parametrize(
    "pattern", ["[]a]", "[-]", "[x-]", "[-x]", "\\", "[a-b-c]", "[", "[^", "a["]
)
def test_sources_that_go_refuses_are_refused(pattern: str) -> None:
    with pytest.raises(DockerfileError):
        match(pattern, "a")


def test_a_pattern_of_many_wildcards_is_told_in_time() -> None:
    long = "a" * 3000
    assert not match("*a" * 20 + "b", long)
    assert not Patterns.read("**/a" * 20 + "/*b?").excludes("/".join(["a"] * 150))


@given(st.text("*?[]\\/!^-ab. #\n", max_size=30), st.text("ab/*.-", min_size=1, max_size=20))
def test_any_pattern_matches_or_is_refused(pattern: str, path: str) -> None:
    for told in (lambda: Patterns.read(pattern).excludes(path), lambda: match(pattern, path)):
        try:
            assert told() in (True, False)
        except DockerfileError:
            pass


@given(
    st.lists(st.sampled_from(["a", "a/b", "!a/b", "*", "!b", "**/c", "!**/c", "a/*"]), max_size=5)
)
def test_the_last_pattern_for_a_name_in_the_top_folder_decides(patterns: list[str]) -> None:
    plain = [one for one in patterns if one.lstrip("!") in ("a", "*")]
    wanted = bool(plain)  # neither of the two is ever taken back
    assert Patterns(patterns).excludes("a") is wanted
