"""Templates: native values, Ansible's filters and tests, lookups, the fast path beside Jinja."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostctl.template import Engine, Scope, TemplateError, simple
from hostctl.template.engine import OMIT
from hostctl.template.scope import MISSING
from hostctl.yaml import Place, load

VARIABLES = load(
    """\
one: 1
name: web
nested: {a: {b: [1, 2, 3]}, items: mine}
people: [{name: ann, age: 3}, {name: bob, age: 2}]
indirect: "{{ nested.a }}"
text: "{{ name }}-{{ one }}"
empty: ""
nothing: null
flag: true
""",
    "vars.yml",
)


def render(text: str, **extra: Any) -> Any:
    engine = Engine(Path("."))
    return engine.text(Scope([extra, VARIABLES], engine.value), text, Place("t.yml", 1, 1, "k"))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{{ one }}", 1),
        ("{{ one + 1 }}", 2),
        ("x{{ one }}", "x1"),
        ("{{ indirect }}", {"b": [1, 2, 3]}),
        ("{{ indirect.b[1] }}", 2),
        ("{{ text }}", "web-1"),
        ("{{ flag }}", True),
        ("{{ nothing }}", None),
        ("[{{ nothing }}]", "[]"),
        ("{{ nested.items }}", "mine"),
        ("{{ nope | default('d') }}", "d"),
        ("{{ nested.x.y.z | default('d') }}", "d"),
        ("{{ empty | default('d', true) }}", "d"),
        ("{{ nope is defined }}", False),
        ("{{ nested.a is defined }}", True),
        ("{{ people | map(attribute='name') | list }}", ["ann", "bob"]),
        ("{{ people | selectattr('age', 'gt', 2) | map(attribute='name') | first }}", "ann"),
        ("{{ people | sort(attribute='age') | map(attribute='name') | join(',') }}", "bob,ann"),
        ("{{ {'a': 1} | combine({'b': 2}) }}", {"a": 1, "b": 2}),
        (
            "{{ {'a': {'x': 1}} | combine({'a': {'y': 2}}, recursive=true) }}",
            {"a": {"x": 1, "y": 2}},
        ),
        ("{{ {'a': 1} | dict2items }}", [{"key": "a", "value": 1}]),
        ("{{ [{'key': 'a', 'value': 1}] | items2dict }}", {"a": 1}),
        ("{{ [1, [2, [3]]] | flatten }}", [1, 2, 3]),
        ("{{ [1, [2, [3]]] | flatten(1) }}", [1, 2, [3]]),
        ("{{ [3, 1, 3] | unique }}", [3, 1]),
        ("{{ [1, 2] | union([2, 3]) }}", [1, 2, 3]),
        ("{{ [1, 2] | intersect([2, 3]) }}", [2]),
        ("{{ [1, 2] | difference([2, 3]) }}", [1]),
        ("{{ [1, 2] | symmetric_difference([2, 3]) }}", [1, 3]),
        ("{{ [1, 2] | zip(['a', 'b']) }}", [[1, "a"], [2, "b"]]),
        ("{{ [1] | product([2, 3]) }}", [[1, 2], [1, 3]]),
        ("{{ people | subelements('tags', skip_missing=true) }}", []),
        ("{{ 'a b' | quote }}", "'a b'"),
        ("{{ '/a/b.c' | basename }}", "b.c"),
        ("{{ '/a/b.c' | dirname }}", "/a"),
        ("{{ '/a/b.c' | splitext }}", ["/a/b", ".c"]),
        ("{{ 'abc' | regex_replace('b(.)', '\\\\1b') }}", "acb"),
        ("{{ 'abc' | regex_search('b.') }}", "bc"),
        ("{{ 'abc' | regex_search('(b)(c)', '\\\\2') }}", ["c"]),
        ("{{ 'a1b2' | regex_findall('[0-9]') }}", ["1", "2"]),
        ("{{ 'a.b' | regex_escape }}", "a\\.b"),
        ("{{ 'hi' | b64encode }}", "aGk="),
        ("{{ 'aGk=' | b64decode }}", "hi"),
        (
            "{{ 'hi' | hash('sha256') }}",
            "8f434346648f6b96df89dda901c5176b10a6d83961dd3c1ac88b59b2dc327aa4",
        ),
        ("{{ {'a': [1]} | to_json }}", '{"a": [1]}'),
        ("{{ '[1, 2]' | from_json }}", [1, 2]),
        ("{{ 'a: [1]' | from_yaml }}", {"a": [1]}),
        ("{{ {'a': [1]} | to_nice_yaml }}", "a:\n- 1\n"),
        ("{{ 'yes' | bool }}", True),
        ("{{ 'off' | bool }}", False),
        ("{{ '12' | int + 1 }}", 13),
        ("{{ flag | ternary('y', 'n') }}", "y"),
        ("{{ 1536 | human_readable }}", "1.50 KB"),
        ("{{ '10M' | human_to_bytes }}", 10 << 20),
        ("{{ 10 | type_debug }}", "int"),
        ("{{ 100 | random(seed='x') == (100 | random(seed='x')) }}", True),
        ("{{ 'a' | comment }}", "#\n# a\n#"),
        ("{{ 'x\ny' | indent(2) }}", "x\n  y"),
        ("{{ 'web1' is match('web') }}", True),
        ("{{ 'xweb' is match('web') }}", False),
        ("{{ 'xweb' is search('web') }}", True),
        ("{{ '1.10' is version('1.9', '>') }}", True),
        ("{{ '2.0' is version('2', '==') }}", True),
        ("{{ [1] is subset([1, 2]) }}", True),
        ("{{ {'failed': false} is succeeded }}", True),
        ("{{ {'changed': true} is changed }}", True),
        ("{% if flag %}yes{% endif %}", "yes"),
        ("{{ lookup('env', 'NO_SUCH_NAME') }}", ""),
        ("{{ omit }}", OMIT),
    ],
)
def test_values(text: str, value: Any) -> None:
    found = render(text)
    assert found == value and isinstance(found, type(value))


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("{{ nmae }}", "cannot render: the variable nmae is undefined", "did you mean name?"),
        ("{{ nested.b }}", "cannot render: b is undefined in this map", "there is: a, items"),
        (
            "{{ nested.itms }}",
            "cannot render: itms is undefined in this map",
            "did you mean items?",
        ),
        ("{{ one.x }}", "cannot render: x is undefined in this int", ""),
        (
            "{{ nmae | upper }}",
            "cannot render: the variable nmae is undefined",
            "did you mean name?",
        ),
        (
            "{{ nmae | mandatory }}",
            "cannot render: the variable nmae is undefined",
            "did you mean name?",
        ),
        ("{{ one | nope }}", "cannot read the template: No filter named 'nope'.", ""),
        ("{{ 1 / 0 }}", "cannot render: division by zero", ""),
        (
            "{{ ''.__class__.__mro__ }}",
            "cannot render: access to attribute '__class__' of 'str' object is unsafe.",
            "",
        ),
        ("{{ lookup('pipe', 'id') }}", "not supported yet: the lookup pipe", ""),
        ("{{ lookup('envy', 'x') }}", "cannot find the lookup envy", "did you mean env?"),
    ],
)
def test_errors(text: str, message: str, hint: str) -> None:
    with pytest.raises(TemplateError) as caught:
        render(text)
    assert (caught.value.message, caught.value.hint) == (message, hint)
    assert caught.value.where == "t.yml:1:1 (k)"


def test_variables_that_refer_to_each_other_in_a_circle() -> None:
    with pytest.raises(TemplateError, match=r"refers to itself \(a -> b -> a\)"):
        render("{{ a }}", a="{{ b }}", b="{{ a }}")


def test_a_template_file_with_an_include(tmp_path: Path) -> None:
    (tmp_path / "templates").mkdir()
    main = tmp_path / "templates" / "main.j2"
    main.write_text("{% for p in people %}\n{% include 'part.j2' %}\n{% endfor %}\nend\n")
    (tmp_path / "templates" / "part.j2").write_text("{{ p.name }} {{ name }}\n")
    engine = Engine(tmp_path)
    scope = Scope([VARIABLES], engine.value)
    assert engine.file(scope, main) == b"ann web\nbob web\nend\n"
    (tmp_path / "templates" / "part.j2").write_text("\n{{ p.nme }}\n")
    with pytest.raises(TemplateError) as caught:
        engine.file(scope, main)
    assert caught.value.where.endswith("part.j2:2")


def test_lookup_file_beside_the_playbook(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "key").write_text("content\n")
    engine = Engine(tmp_path)
    scope = Scope([{}], engine.value)
    assert engine.text(scope, "{{ lookup('file', 'key') }}", Place()) == "content"


_expressions = st.sampled_from(
    [
        "one",
        "name",
        "nested.a.b",
        "nested.a",
        "text",
        "indirect.b",
        "nothing",
        "flag",
        "nope",
        "one.x",
        "range",
        "omit",
        "nope | default('x')",
        'nope|default("y z")',
        "one | default(7)",
        "nested.q | default(3)",
        "nope is defined",
        "one is not defined",
        "range is defined",
        "1 if nope is defined else 'b'",
        "'a' if name is not defined else 12",
    ]
)


@given(
    st.lists(
        st.sampled_from(["", " ", "a", "}", "{", "%", "-", "\n", "'"])
        | _expressions.map(lambda text: f"{{{{ {text} }}}}")
    )
)
def test_the_fast_path_says_what_jinja_says(parts: list[str]) -> None:
    text = "".join(parts)
    engine = Engine(Path("."))
    scope = Scope([VARIABLES], engine.value)
    quick = simple.render(text, scope)
    if quick is MISSING:
        return
    slow = engine.environment.render_value(text, scope)
    assert quick == slow and type(quick) is type(slow)
