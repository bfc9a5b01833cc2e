"""Runs on the controller: the one door to Jinja: environment, undefined names, errors with lines."""

from __future__ import annotations

from collections.abc import Callable, ItemsView, Iterator, KeysView, ValuesView
from typing import Any, NoReturn

import jinja2
from hostctl_host.contract.errors import HostctlError
from jinja2 import nodes
from jinja2.sandbox import SandboxedEnvironment

from ..playbook.errors import nearest
from .filters import FILTERS
from .lookups import lookup
from .scope import MISSING, Deferred, LazyVars, Result, Scope, TemplateError, UnknownResult
from .tests import TESTS


class UndefinedName(jinja2.UndefinedError):
    """A name (or an attribute of a value) that is not there."""

    def __init__(self, name: str, parent: Any = MISSING, hint: str = "") -> None:
        super().__init__(hint or f"{name} is undefined")
        self.name = name
        self.parent = parent
        self.hint = hint


class Missing(jinja2.StrictUndefined):
    """Strict, but attributes of it are it: `a.b.c | default(1)` works where `a.b` is missing."""

    __slots__ = ()

    def _fail_with_undefined_error(self, *_: Any, **__: Any) -> NoReturn:
        parent = MISSING if self._undefined_obj is jinja2.utils.missing else self._undefined_obj
        raise UndefinedName(str(self._undefined_name), parent, self._undefined_hint or "")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __getitem__(self, key: Any) -> Any:
        return self

    __iter__ = __str__ = __len__ = __eq__ = __ne__ = __bool__ = __hash__ = (
        _fail_with_undefined_error
    )
    __contains__ = __add__ = __radd__ = __lt__ = __le__ = __gt__ = __ge__ = __call__ = (
        _fail_with_undefined_error
    )
    __int__ = __float__ = __mul__ = __sub__ = __mod__ = __truediv__ = _fail_with_undefined_error


_SCOPE = " scope"


class ScopeContext(jinja2.runtime.Context):
    """Looks names up in the scope instead of a dict of everything."""

    scope: Scope | None

    def __init__(
        self, environment: Any, parent: dict[str, Any], name: Any, blocks: Any, globals: Any = None
    ) -> None:
        self.scope = parent.get(_SCOPE)
        super().__init__(environment, parent, name, blocks, globals)

    def resolve_or_missing(self, key: str) -> Any:
        if key in self.vars:
            return self.vars[key]
        if key in self.parent and key not in self.environment.globals:
            return self.parent[key]
        value = self.scope.get(key) if self.scope is not None else MISSING
        if value is not MISSING:
            return value
        if key in self.environment.globals:
            return self.environment.globals[key]
        return jinja2.utils.missing

    def get_all(self) -> dict[str, Any]:
        # for includes and imports "with context": their context finds the scope again
        return {**self.parent, **self.vars}


def _finalize(value: Any) -> Any:
    """What stands in the text for a value."""
    if isinstance(value, Result) and value.unknown:
        raise UnknownResult(value.unknown)
    return "" if value is None else value


class HostEnvironment(SandboxedEnvironment):
    """Ansible's settings: blocks eat their newline, the final newline stays."""

    context_class = ScopeContext

    def __init__(self, folders: list[str]) -> None:
        super().__init__(
            undefined=Missing,
            trim_blocks=True,
            keep_trailing_newline=True,
            loader=jinja2.FileSystemLoader(folders),
            extensions=["jinja2.ext.do", "jinja2.ext.loopcontrols"],
            finalize=_finalize,
        )
        self.folders = folders
        self.filters.update(FILTERS)
        self.tests.update(TESTS)
        from .engine import OMIT

        self.globals.update(
            {"omit": OMIT, "lookup": self._lookup, "query": self._query, "q": self._query}
        )
        self._now: Any = None
        self._expressions: dict[str, Any] = {}
        self._values: dict[str, tuple[bool, Any]] = {}

    def _lookup(self, plugin: str, *terms: Any, **options: Any) -> Any:
        values = lookup(plugin, terms, options, self.folders)
        if options.get("wantlist"):
            return values
        return values[0] if len(values) == 1 else ",".join(str(value) for value in values)

    def _query(self, plugin: str, *terms: Any, **options: Any) -> Any:
        return lookup(plugin, terms, options, self.folders)

    def getattr(self, obj: Any, attribute: str) -> Any:
        return self._reach(obj, attribute, super().getattr)

    def getitem(self, obj: Any, argument: Any) -> Any:
        return self._reach(obj, argument, super().getitem)

    def _reach(self, obj: Any, key: Any, usual: Callable[[Any, Any], Any]) -> Any:
        if isinstance(obj, Result) and obj.unknown and key not in obj:
            raise UnknownResult(obj.unknown)
        if isinstance(obj, (dict, LazyVars)) and isinstance(key, str):
            # keys win over methods: `result.items`, `result.keys` mean what the data says
            try:
                return obj[key]
            except KeyError:
                pass
        return usual(obj, key)

    def expression(self, text: str, scope: Scope) -> Any:
        """The native value of a bare expression."""
        compiled = self._expressions.get(text)
        if compiled is None:
            compiled = self._expressions[text] = self._compile_expression(text)
        return self._evaluate(compiled, scope)

    def render_value(self, text: str, scope: Scope) -> Any:
        """A playbook string: native where it is one whole expression."""
        found = self._values.get(text)
        if found is None:
            found = self._values[text] = self._compile_value(text)
        native, compiled = found
        return self._evaluate(compiled, scope) if native else self._render(compiled, scope, "")

    def render_file(self, source: str, name: str, scope: Scope) -> str:
        """A template file; errors carry its name and line."""
        try:
            code = self.compile(source, name=name, filename=name)
        except jinja2.TemplateSyntaxError as error:
            raise TemplateError(
                f"cannot read the template: {error.message}",
                where=f"{error.filename or name}:{error.lineno}",
                ref="template-syntax",
            ) from error
        template = jinja2.Template.from_code(self, code, self.make_globals(None))
        return self._render(template, scope, name)

    def _compile_expression(self, text: str) -> jinja2.Template:
        try:
            parser = jinja2.parser.Parser(self, text, state="variable")
            expression = parser.parse_expression()
            if not parser.stream.eos:
                raise jinja2.TemplateSyntaxError(f"unexpected {parser.stream.current.value!r}", 1)
            return self._native(expression)
        except jinja2.TemplateSyntaxError as error:
            raise TemplateError(
                f"cannot read the expression {text!r}: {error.message}", ref="template-syntax"
            ) from error

    def _compile_value(self, text: str) -> tuple[bool, jinja2.Template]:
        try:
            tree = self.parse(text)
            if len(tree.body) == 1 and isinstance(tree.body[0], nodes.Output):
                parts = tree.body[0].nodes
                if len(parts) == 1 and not isinstance(parts[0], nodes.TemplateData):
                    return True, self._native(parts[0])
            return False, self.from_string(text)
        except jinja2.TemplateSyntaxError as error:
            raise TemplateError(
                f"cannot read the template: {error.message}", ref="template-syntax"
            ) from error

    def _native(self, expression: nodes.Expr) -> jinja2.Template:
        expression.set_environment(self)
        body: list[nodes.Node] = [nodes.Assign(nodes.Name("result", "store"), expression, lineno=1)]
        return self.from_string(nodes.Template(body, lineno=1))

    def _context(self, template: jinja2.Template, scope: Scope) -> ScopeContext:
        return ScopeContext(self, {_SCOPE: scope}, template.name, template.blocks)

    def _evaluate(self, template: jinja2.Template, scope: Scope) -> Any:
        context = self._context(template, scope)

        def run() -> Any:
            for _ in template.root_render_func(context):
                pass
            value = context.vars["result"]
            if isinstance(value, jinja2.Undefined):
                value._fail_with_undefined_error()
            return settle(value)

        return self._guarded(run, scope, "")

    def _render(self, template: jinja2.Template, scope: Scope, name: str) -> str:
        context = self._context(template, scope)
        return str(self._guarded(lambda: "".join(template.root_render_func(context)), scope, name))

    def _guarded(self, run: Callable[[], Any], scope: Scope, name: str) -> Any:
        """Run a template; what goes wrong becomes a TemplateError with file and line."""
        try:
            return run()
        except (Deferred, UnknownResult):
            raise
        except TemplateError as error:
            if name and not error.where:
                error.where = _line(error, name)
            raise
        except HostctlError as error:
            raise TemplateError(
                error.message,
                where=error.where or _line(error, name),
                hint=error.hint,
                ref=error.ref,
            ) from error
        except UndefinedName as error:
            raise undefined(error, scope, _line(error, name)) from error
        except jinja2.TemplateSyntaxError as error:
            raise TemplateError(
                f"cannot read the template: {error.message}",
                where=f"{error.filename}:{error.lineno}" if error.filename else "",
                ref="template-syntax",
            ) from error
        except jinja2.TemplateNotFound as error:
            raise TemplateError(
                f"cannot find the template {error.name}",
                where=_line(error, name),
                ref="file-missing",
            ) from error
        except RecursionError as error:
            raise TemplateError(
                "cannot render: nested too deep", where=_line(error, name)
            ) from error
        except Exception as error:
            cause = str(error) or type(error).__name__
            raise TemplateError(
                f"cannot render: {cause}", where=_line(error, name), ref="template-failed"
            ) from error


def settle(value: Any) -> Any:
    """Iterators and views that filters return, as lists."""
    if isinstance(value, (str, bytes, int, float, dict, list, type(None))):
        return value
    if isinstance(
        value,
        (
            tuple,
            set,
            frozenset,
            Iterator,
            range,
            KeysView,
            ValuesView,
            ItemsView,
        ),
    ):
        return [settle(item) for item in value]
    if isinstance(value, LazyVars):
        return dict(value)
    return value


def undefined(error: UndefinedName, scope: Scope, where: str) -> TemplateError:
    """The error for a name that is not there, with the nearest one that is."""
    if error.hint:
        return TemplateError(f"cannot render: {error.hint}", where=where, ref="undefined-variable")
    known: list[str] = sorted(scope.names())
    if error.parent is not MISSING:
        known = (
            [str(key) for key in error.parent] if isinstance(error.parent, (dict, LazyVars)) else []
        )
    found = nearest(error.name, known)
    hint = f"did you mean {found}?" if found else ""
    if not hint and error.parent is MISSING:
        hint = f"define it in vars, or write {{{{ {error.name} | default(...) }}}}"
    elif not hint and 0 < len(known) <= 12:
        hint = f"there is: {', '.join(sorted(known))}"
    what = f"the variable {error.name} is undefined"
    if error.parent is not MISSING:
        kind = "map" if isinstance(error.parent, (dict, LazyVars)) else type(error.parent).__name__
        what = f"{error.name} is undefined in this {kind}"
    return TemplateError(f"cannot render: {what}", where=where, hint=hint, ref="undefined-variable")


def _line(error: BaseException, name: str) -> str:
    """`template:line` of the innermost template frame of a traceback (`name` is the outermost's)."""
    if not name:
        return ""
    where = name
    trace = error.__traceback__
    while trace is not None:
        template = trace.tb_frame.f_globals.get("__jinja_template__")
        if template is not None and template.filename and template.filename != "<template>":
            where = f"{template.filename}:{template.get_corresponding_lineno(trace.tb_lineno)}"
        trace = trace.tb_next
    return where
