"""Errors: the message, the place with its line and a caret, what to type next."""

from __future__ import annotations

from textwrap import dedent

from hostctl_host.contract.errors import HostctlError

from hostctl.report.errors import errors_to_json, render_errors
from hostctl.report.style import Style


class Many(HostctlError):
    def __init__(self, *errors: HostctlError) -> None:
        super().__init__("cannot use the playbook")
        self.errors = errors


def test_an_error_shows_the_line_and_a_caret(tmp_path):
    book = tmp_path / "site.yml"
    book.write_text("- hosts: web\n  tasks:\n    - file: {pth: /x}\n")
    error = HostctlError(
        'cannot use "pth": no such key',
        where=f"{book}:3:14 (tasks[0].file)",
        hint='did you mean "path"?',
    )
    assert "\n" + render_errors(error, Style()) == dedent(f"""
        Error: cannot use "pth": no such key
          at {book}:3:14 (tasks[0].file)
             3 |     - file: {{pth: /x}}
               |              ^
          hint: did you mean "path"?
        """)


def test_all_errors_come_at_once_with_a_count():
    error = Many(HostctlError("cannot a"), Many(HostctlError("cannot b", hint="do\nthis")))
    assert "\n" + render_errors(error, Style()) == dedent("""
        Error: cannot a

        Error: cannot b
          hint: do
          hint: this

        2 errors, no host was touched.
        """)


def test_a_place_that_is_no_file_is_shown_as_it_is():
    error = HostctlError("cannot connect", where="web1, container.db")
    assert render_errors(error, Style()) == "Error: cannot connect\n  at web1, container.db\n"
    gone = HostctlError("cannot parse", where="/nowhere/x.yml:1:1")
    assert render_errors(gone, Style()) == "Error: cannot parse\n  at /nowhere/x.yml:1:1\n"


def test_json_lists_single_errors():
    error = Many(HostctlError("cannot a", where="w", hint="h", ref="r"), HostctlError("cannot b"))
    assert errors_to_json(error) == {
        "version": 1,
        "errors": [
            {"ref": "r", "message": "cannot a", "where": "w", "hint": "h"},
            {"ref": "error", "message": "cannot b", "where": "", "hint": ""},
        ],
    }
