"""Every example in playbooks/ compiles, for an ordinary inventory and without one."""

from __future__ import annotations

from pathlib import Path

import pytest

from hostctl.desired import compile_playbook
from hostctl.inventory import load_inventory

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "playbooks").glob("*.yml"))


def test_there_are_examples():
    assert [path.stem for path in EXAMPLES] == ["containers", "files", "quickstart", "users"]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
@pytest.mark.parametrize("inventory", [[], [ROOT / "inventory.example.yml"]], ids=["local", "file"])
def test_examples_compile(path, inventory):
    loaded = load_inventory(inventory)
    program = compile_playbook(path, loaded)
    assert {host.name for host in program.hosts} == set(loaded.hosts)
    for play in program.plays:
        for host in play.programs.values():
            host.facts({"distribution": "Debian"})
            document = host.document()
            assert document.project
            assert document.resources


def test_the_quick_start_holds_what_its_comments_promise():
    (play,) = compile_playbook(ROOT / "playbooks" / "quickstart.yml", load_inventory([])).plays
    host = play.programs["localhost"]
    host.facts({})
    resources = {resource.id: resource for resource in host.document().resources}
    assert {
        "package.tree",
        "directory./srv/quickstart",
        "template./srv/quickstart/index.html",
        "network.quickstart_front",
        "volume.quickstart_data",
        "container.quickstart-redis-1",
        "container.quickstart-web-1",
    } <= set(resources)
    web = resources["container.quickstart-web-1"]
    assert web.spec["ports"] == [{"target": 80, "published": 8080}]
    assert web.spec["environment"] == {"GREETING": "Hello from hostctl"}
    assert "container.quickstart-redis-1" in web.needs


def test_the_playbook_of_the_readme_compiles(tmp_path):
    text = (ROOT / "README.md").read_text()
    book = tmp_path / "site.yml"
    book.write_text(text.split("```yaml\n", 1)[1].split("```", 1)[0])
    inventory = load_inventory([ROOT / "inventory.example.yml"])
    (play,) = compile_playbook(book, inventory).plays
    host = play.programs["web1"]
    host.facts({})
    names = [resource.id for resource in host.document().resources]
    assert "copy./srv/site/index.html" in names
    assert "container.site-web-1" in names
