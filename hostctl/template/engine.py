"""Runs on the controller: renders values and files with Jinja; imported Jinja only once a template occurs.

A value that is one whole `{{ expression }}` keeps the expression's type; everything else becomes text.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..inventory.files import display
from ..yaml import Place
from . import simple
from .scope import MISSING, Scope, TemplateError

if TYPE_CHECKING:
    from .jinja import HostEnvironment


class Omit:
    """The value of `omit`: a key that has it is left out."""

    def __repr__(self) -> str:
        return "omit"


OMIT = Omit()


def is_template(value: Any) -> bool:
    """True where a string holds Jinja."""
    return isinstance(value, str) and ("{{" in value or "{%" in value or "{#" in value)


def has_template(value: Any) -> bool:
    """True where a value holds Jinja anywhere (keys included)."""
    if isinstance(value, str):
        return is_template(value)
    if isinstance(value, dict):
        return any(has_template(key) or has_template(item) for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return any(has_template(item) for item in value)
    return False


class Engine:
    """One per run: search folders for files, and the cache of compiled templates."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._environment: HostEnvironment | None = None
        self._compiled: dict[tuple[str, bool], Any] = {}

    @property
    def environment(self) -> HostEnvironment:
        if self._environment is None:
            from .jinja import HostEnvironment

            self._environment = HostEnvironment(self.search("templates"))
        return self._environment

    def search(self, kind: str) -> list[str]:
        """Folders where a `src` is looked for: `templates/` or `files/` beside the playbook, and beside it."""
        return [os.path.join(self.folder, kind), os.fspath(self.folder)]

    def find(self, name: str, kind: str) -> Path | None:
        """The file or folder that a `src` names."""
        expanded = os.path.expanduser(name)
        for folder in [""] if os.path.isabs(expanded) else self.search(kind):
            path = Path(os.path.join(folder, expanded))
            if path.exists():
                return path
        return None

    def value(self, scope: Scope, raw: Any, place: Place) -> Any:
        """A value with all templates in it rendered; keys that become `omit` are left out.

        Raises:
            Deferred, UnknownResult: it needs what is not there yet.
            TemplateError: with the place of the value.
        """
        if isinstance(raw, str):
            return self.text(scope, raw, place) if is_template(raw) else raw
        if isinstance(raw, dict):
            out = {}
            for key, item in raw.items():
                below = place.key(raw, key)
                if is_template(key):
                    key = str(self.text(scope, key, place.key(raw, key, name=True)))
                made = self.value(scope, item, below)
                if made is not OMIT:
                    out[key] = made
            return out
        if isinstance(raw, (list, tuple)):
            made_all = [self.value(scope, item, place.key(raw, i)) for i, item in enumerate(raw)]
            return [made for made in made_all if made is not OMIT]
        return raw

    def text(self, scope: Scope, raw: str, place: Place) -> Any:
        """One string rendered: native for a whole expression, text otherwise."""
        try:
            value = simple.render(raw, scope)
            return self.environment.render_value(raw, scope) if value is MISSING else value
        except TemplateError as error:
            raise error.at(place) from None

    def condition(self, scope: Scope, raw: Any, place: Place) -> bool:
        """A `when` and the like: a bare expression, a boolean, or a template that makes one."""
        if isinstance(raw, bool):
            return raw
        if raw is None:
            return True
        if not isinstance(raw, str):
            return bool(raw)
        text = raw.strip()
        words = {"true": True, "yes": True, "false": False, "no": False, "": True}
        if text.lower() in words:
            return words[text.lower()]
        try:
            if is_template(text):
                value = self.environment.render_value(text, scope)
                if isinstance(value, str) and value.lower() not in words:
                    value = self.environment.expression(value, scope)
            else:
                value = simple.expression(text, scope)
                if value is MISSING:
                    value = self.environment.expression(text, scope)
        except TemplateError as error:
            raise error.at(place) from None
        if isinstance(value, str):
            return words.get(value.lower(), bool(value))
        return bool(value)

    def file(self, scope: Scope, path: Path, extra: dict[str, Any] | None = None) -> bytes:
        """A template file rendered (`trim_blocks`, final newline kept, as Ansible does)."""
        name = display(str(path))
        try:
            source = path.read_bytes().decode("utf-8")
        except UnicodeDecodeError as error:
            raise TemplateError(
                "cannot render the template: not UTF-8",
                where=name,
                hint="use copy for it",
                ref="template-encoding",
            ) from error
        except OSError as error:
            raise TemplateError(
                f"cannot read the template: {(error.strerror or '').lower()}",
                where=name,
                ref="file-unreadable",
            ) from error
        if not is_template(source):
            return source.encode()
        managed = {
            "template_path": name,
            "template_fullpath": os.path.abspath(path),
            "ansible_managed": "Managed by hostctl",
        }
        inner = scope.child({}, {**managed, **(extra or {})})
        try:
            plain = simple.render(source, inner)
        except TemplateError:
            plain = MISSING  # Jinja finds it again, and its line
        if isinstance(plain, str):
            return plain.encode()
        return str(self.environment.render_file(source, name, inner)).encode()
