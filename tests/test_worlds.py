"""Runs on the developer's machine: what keeps the controller and the managed host apart.

Which side may import what, one file per outside world, what a host must be able to run, and sizes.
"""

from __future__ import annotations

import ast
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import roots

ROOT = Path(__file__).parent.parent
CONTROLLER = sorted((ROOT / "hostctl").rglob("*.py"))
HOST = sorted((ROOT / "modules").rglob("*.py"))
BOTH = [*CONTROLLER, *HOST]

DOORS = {
    ("hostctl", "paramiko"): "hostctl/fleet/ssh.py",
    ("hostctl", "subprocess"): "hostctl/fleet/process.py",
    ("hostctl", "ctypes"): None,
    ("hostctl", "pyroute2"): None,
    ("modules", "subprocess"): "modules/agent/run.py",
    ("modules", "ctypes"): "modules/runtime/syscalls.py",
    ("modules", "pyroute2"): None,
    ("modules", "paramiko"): None,
}
HOST_MAY_IMPORT = {*sys.stdlib_module_names, "compression", "hostctl_host"}
# Only inside functions that the controller alone calls (short forms of specs).
HOST_LAZY_ON_CONTROLLER = {"pydantic", "pydantic_core"}
LOCATE_THE_PACKAGE = {"hostctl/fleet/bundle.py", "hostctl/playbook/kinds.py"}
BUNDLE_BUDGET = 1_000_000
"""Bytes on the wire, once per host and version."""


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imports(path: Path) -> Iterator[tuple[str, ast.stmt]]:
    """Every absolute import of a file, wherever it stands, but for type checkers only."""

    def walk(node: ast.AST) -> Iterator[tuple[str, ast.stmt]]:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            return
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node
        if isinstance(node, ast.ImportFrom) and node.level == 0:
            for alias in node.names:
                yield f"{node.module}.{alias.name}", node
        for child in ast.iter_child_nodes(node):
            yield from walk(child)

    yield from walk(ast.parse(path.read_text()))


def test_the_host_never_imports_the_controller() -> None:
    wrong = [
        f"{name(path)}: {module}"
        for path in HOST
        for module, _ in imports(path)
        if module.split(".")[0] == "hostctl"
    ]
    assert not wrong


def test_the_host_imports_the_standard_library_only() -> None:
    wrong = []
    for path in HOST:
        top = {id(node) for node in ast.parse(path.read_text()).body}
        for module, node in imports(path):
            package = module.split(".")[0]
            lazy = package in HOST_LAZY_ON_CONTROLLER and id(node) not in top and node.col_offset
            if package not in HOST_MAY_IMPORT and not lazy:
                wrong.append(f"{name(path)}:{node.lineno}: {module}")
    assert not wrong


def test_the_controller_imports_the_contract_and_specs_only() -> None:
    wrong = []
    for path in CONTROLLER:
        for module, node in imports(path):
            words = module.split(".")
            if words[0] != "hostctl_host" or words[1:2] == ["contract"]:
                continue
            # These two need to know where the package's files are.
            if module == "hostctl_host" and name(path) in LOCATE_THE_PACKAGE:
                continue
            kind = len(words) == 3 and (ROOT / "modules" / f"{words[1]}.py").exists()
            if not (kind and words[2][0].isupper()):  # a spec, or a dataclass that specs consist of
                wrong.append(f"{name(path)}:{node.lineno}: {module}")
    assert not wrong


@pytest.mark.parametrize(("side", "world"), DOORS)
def test_each_outside_world_has_one_door(side: str, world: str) -> None:
    files = CONTROLLER if side == "hostctl" else HOST
    users = {
        name(path) for path in files for module, _ in imports(path) if module.split(".")[0] == world
    }
    assert users <= {DOORS[side, world]}


def test_files_are_small() -> None:
    lengths = {path: path.read_text().count("\n") for path in BOTH if path.name != "__init__.py"}
    assert statistics.median(lengths.values()) < 150
    # A longer file says why in its docstring, in a sentence that has the word "file".
    wrong = []
    for path, lines in lengths.items():
        docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
        if lines > 400 and "file" not in docstring:
            wrong.append(f"{name(path)}: {lines} lines")
    assert not wrong, "over 400 lines, and the docstring does not say why it is one file"


def test_the_first_sentence_says_where_a_file_runs() -> None:
    wrong = []
    for path in BOTH:
        words = (ast.get_docstring(ast.parse(path.read_text())) or "").split()
        code = path.name != "__init__.py" or path.read_text().count("\n") > 5
        if code and words[:1] != ["Runs"]:
            wrong.append(name(path))
    assert not wrong


def old_python() -> list[str]:
    """A real Python 3.9: pyenv's, or else that of a Debian 11 lab host's root."""
    for path in sorted((Path.home() / ".pyenv" / "versions").glob("3.9.*/bin/python3")):
        return [str(path)]
    root = roots.host_root("bullseye")
    libraries = f"{root}/usr/lib/x86_64-linux-gnu:{root}/lib/x86_64-linux-gnu"
    loader = f"{root}/lib/x86_64-linux-gnu/ld-2.31.so"
    # Its own loader and libraries, so that no chroot is needed.
    return [loader, "--library-path", libraries, f"{root}/usr/bin/python3.9"]


IMPORT_ALL = """
import importlib, pathlib, sys
sys.path.insert(0, sys.argv[1])
folder = pathlib.Path(sys.argv[1], "hostctl_host")
for path in sorted(folder.rglob("*.py")):
    words = path.relative_to(folder.parent).with_suffix("").parts
    module = ".".join(words[:-1] if words[-1] == "__init__" else words)
    if words[-1] != "__main__":
        importlib.import_module(module)
third = {m.split(".")[0] for m in sys.modules} & {"pydantic", "hostctl", "paramiko", "yaml"}
assert not third, third
print(sys.version_info[:2])
"""


@pytest.mark.parametrize("python", ["3.9", "3.11"])
def test_the_agent_imports_in_isolation(python: str) -> None:
    """Every module of the host side, with nothing but the standard library in reach."""
    argv = old_python() if python == "3.9" else ["/usr/bin/python3"]
    done = subprocess.run(
        [*argv, "-I", "-S", "-W", "error", "-c", IMPORT_ALL, str(ROOT / "build" / "editable")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    if python == "3.9":
        assert done.stdout.strip() == "(3, 9)"


def test_the_bundle_stays_small() -> None:
    from hostctl.fleet.bundle import build

    assert len(build().data) < BUNDLE_BUDGET
