"""Runs on the controller: YAML 1.2 core values from libyaml's events, bounded while they are read.

Events instead of PyYAML's nodes: its C composer recurses on the machine stack (deep nesting ends the
interpreter) and knows no bounds for aliases; and every value is visited once for its position anyway.
"""

from __future__ import annotations

import math
import os
import re
from typing import Any

from hostctl_host.contract.errors import HostctlError

from ..playbook.errors import Collector
from .values import Decimal, Map, Place, Seq

SIZE_LIMIT = 8 << 20
DEPTH_LIMIT = 64
VALUE_LIMIT = 400_000

_SPECIAL = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
    ".inf": math.inf, ".Inf": math.inf, ".INF": math.inf, "+.inf": math.inf, "-.inf": -math.inf,
    ".nan": math.nan, ".NaN": math.nan, ".NAN": math.nan,
}  # fmt: skip
# A leading zero keeps a number a string (`mode: 0640`); a number is made of it where one is wanted.
_INT = re.compile(r"[-+]?(?:0|[1-9][0-9]*)\Z")
_HEX = re.compile(r"0x[0-9a-fA-F]+\Z")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z")
_TAG = "tag:yaml.org,2002:"


def load_file(path: str | os.PathLike[str], errors: Collector | None = None) -> Any:
    """The value in a YAML file; the errors name the file as it was given."""
    name = os.fspath(path)
    try:
        with open(name, "rb") as stream:
            data = stream.read(SIZE_LIMIT + 1)
    except OSError as error:
        raise HostctlError(
            f"cannot read {name}: {(error.strerror or str(error)).lower()}",
            where=name,
            ref="file-unreadable",
        ) from error
    return load(data, name, errors)


def load(data: bytes | str, file: str, errors: Collector | None = None) -> Any:
    """The value in a YAML text (None where it is empty).

    Args:
        data: the text; bytes are UTF-8.
        file: name for positions.
        errors: takes duplicate keys and the like; without it they are raised together.
    Raises:
        HostctlError: syntax, bounds.
    """
    if len(data) > SIZE_LIMIT:
        raise HostctlError(
            f"cannot read {file}: larger than {SIZE_LIMIT >> 20} MiB", where=file, ref="yaml-size"
        )
    if isinstance(data, bytes):
        try:
            data = data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = error.object.count(b"\n", 0, error.start) + 1
            column = error.start - error.object.rfind(b"\n", 0, error.start)
            raise HostctlError(
                "cannot read the YAML: not UTF-8",
                where=f"{file}:{line}:{column}",
                ref="yaml-encoding",
            ) from error
    collector = Collector() if errors is None else errors
    value = _Reader(data, file, collector).document()
    if errors is None:
        collector.check()
    return value


class _Reader:
    """One pass over the events of one text."""

    def __init__(self, text: str, file: str, errors: Collector) -> None:
        import yaml

        self.yaml = yaml
        self.file = file
        self.errors = errors
        self.text = text
        self.parser: Any = _parser(text)
        self.anchors: dict[str, tuple[Any, int]] = {}
        self.count = 0

    def document(self) -> Any:
        yaml = self.yaml
        try:
            self.next()  # stream start
            if isinstance(self.next(), yaml.StreamEndEvent):
                return None
            value = self.value(self.next(), 0, "")
            self.next()  # document end
            after = self.next()
            if not isinstance(after, yaml.StreamEndEvent):
                raise self.error(
                    after, "one document per file: `---` starts a second one", ref="yaml-documents"
                )
            return value
        except yaml.MarkedYAMLError as error:
            raise self.syntax(error) from error
        except yaml.reader.ReaderError as error:
            line = self.text.count("\n", 0, error.position) + 1
            column = error.position - self.text.rfind("\n", 0, error.position)
            raise HostctlError(
                f"cannot read the YAML: {error.reason}",
                where=f"{self.file}:{line}:{column}",
                ref="yaml-syntax",
            ) from error

    def next(self) -> Any:
        return self.parser.get_event()

    def value(self, event: Any, depth: int, path: str) -> Any:
        yaml = self.yaml
        self.count += 1
        if self.count > VALUE_LIMIT:
            raise self.error(
                event, f"more than {VALUE_LIMIT} values, aliases counted", ref="yaml-size"
            )
        if isinstance(event, yaml.ScalarEvent):
            value = self.scalar(event)
            if event.anchor:
                self.anchors[event.anchor] = (value, 1)
            return value
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in self.anchors:
                raise self.error(
                    event, f"no anchor &{event.anchor} before this alias", ref="yaml-alias"
                )
            value, weight = self.anchors[event.anchor]
            self.count += weight
            return value
        if depth >= DEPTH_LIMIT:
            raise self.error(event, f"nested deeper than {DEPTH_LIMIT} levels", ref="yaml-depth")
        before = self.count
        if isinstance(event, yaml.MappingStartEvent):
            value = self.mapping(event, depth, path)
        else:
            value = self.sequence(event, depth, path)
        if event.anchor:
            self.anchors[event.anchor] = (value, self.count - before + 1)
        return value

    def mapping(self, event: Any, depth: int, path: str) -> Map:
        end = self.yaml.MappingEndEvent
        mark = event.start_mark
        out = Map(self.file, mark.line + 1, mark.column + 1)
        self.tag(event, "map")
        merged: list[Any] = []
        while not isinstance(start := self.next(), end):
            if not isinstance(start, (self.yaml.ScalarEvent, self.yaml.AliasEvent)):
                raise self.error(
                    start,
                    "a key must be a plain value",
                    hint='put quotes around a value that starts with {{: "{{ name }}"',
                    ref="yaml-key",
                )
            merge = (
                isinstance(start, self.yaml.ScalarEvent) and start.value == "<<" and not start.style
            )
            key = self.value(start, depth, path)
            if isinstance(key, (Map, Seq)):
                raise self.error(start, "a key must be a plain value", ref="yaml-key")
            at: Any = start.start_mark
            line, column = at.line + 1, at.column + 1
            event = self.next()
            below = f"{path}.{key}" if path else str(key)
            value = self.value(event, depth + 1, below)
            if merge:
                merged.extend(value if isinstance(value, Seq) else [value])
                if not all(isinstance(item, Map) for item in merged):
                    raise self.error(event, "`<<` takes a map or a list of maps", ref="yaml-merge")
                continue
            if key in out:
                first: Any = out.marks[key]
                self.errors.add(
                    f"cannot use the key {str(key)!r} twice in one map",
                    where=Place(self.file, line, column, below),
                    hint=f"the first one is at line {first[0]}; keep one of them",
                    ref="yaml-duplicate-key",
                )
                continue
            out[key] = value
            out.marks[key] = (line, column, event.start_mark.line + 1, event.start_mark.column + 1)
        for source in merged:
            for key, value in source.items():
                if key not in out:
                    out[key] = value
                    out.marks[key] = source.marks[key]
        return out

    def sequence(self, event: Any, depth: int, path: str) -> Seq:
        end = self.yaml.SequenceEndEvent
        mark = event.start_mark
        out = Seq(self.file, mark.line + 1, mark.column + 1)
        self.tag(event, "seq")
        while not isinstance(item := self.next(), end):
            value = self.value(item, depth + 1, f"{path}[{len(out)}]")
            out.append(value)
            out.marks.append((item.start_mark.line + 1, item.start_mark.column + 1))
        return out

    def scalar(self, event: Any) -> Any:
        text: str = event.value
        tag = event.tag
        if tag in (None, "!") or tag == _TAG + "str":
            return resolve(text) if tag is None and not event.style else text
        kinds = {
            _TAG + "int": int,
            _TAG + "float": float,
            _TAG + "bool": bool,
            _TAG + "null": type(None),
        }
        wanted = kinds.get(tag)
        value = resolve(text)
        if wanted is not None and isinstance(value, wanted):
            return value
        if wanted is not None:
            raise self.error(event, f"{text!r} is no {tag[len(_TAG) :]}", ref="yaml-tag")
        raise self.unsupported(event, tag)

    def tag(self, event: Any, plain: str) -> None:
        if event.tag not in (None, "!", _TAG + plain):
            raise self.unsupported(event, event.tag)

    def unsupported(self, event: Any, tag: str) -> HostctlError:
        name = "!!" + tag[len(_TAG) :] if tag.startswith(_TAG) else tag
        return self.error(event, f"not supported yet: the tag {name}", ref="not-supported")

    def error(self, event: Any, cause: str, *, hint: str = "", ref: str) -> HostctlError:
        mark = event.start_mark
        where = f"{self.file}:{mark.line + 1}:{mark.column + 1}"
        return HostctlError(f"cannot read the YAML: {cause}", where=where, hint=hint, ref=ref)

    def syntax(self, error: Any) -> HostctlError:
        mark: Any = error.problem_mark or error.context_mark
        cause = str(error.problem)
        lines = self.text.splitlines()
        line = lines[mark.line] if mark.line < len(lines) else ""
        hint = ""
        if "\t" in line[: mark.column + 1] or "'\\t'" in cause:
            hint = "indent with spaces: YAML forbids tabs"
        elif "mapping values are not allowed" in cause:
            hint = "put quotes around a value that contains `: `, and check the indentation"
        elif "{{" in line:
            hint = 'put quotes around a value that starts with {{: "{{ name }}"'
        elif "block mapping" in str(error.context):
            hint = "check the indentation: keys of one map start in the same column"
        return HostctlError(
            f"cannot read the YAML: {cause}",
            where=f"{self.file}:{mark.line + 1}:{mark.column + 1}",
            hint=hint,
            ref="yaml-syntax",
        )


def _parser(text: str) -> Any:
    """libyaml's parser where PyYAML was built with it."""
    try:
        from yaml.cyaml import CParser  # type: ignore[attr-defined]
    except ImportError:
        import yaml

        return yaml.Loader(text)
    return CParser(text)


def resolve(text: str) -> Any:
    """A plain scalar by YAML 1.2's core schema."""
    if text in _SPECIAL:
        return _SPECIAL[text]
    if text[0] not in "+-.0123456789":
        return text
    if _INT.match(text):
        return int(text) if len(text) < 4000 else text
    if _FLOAT.match(text):
        value = float(text)
        return value if str(value) == text else Decimal(text)
    if _HEX.match(text):
        return int(text, 16)
    return text
