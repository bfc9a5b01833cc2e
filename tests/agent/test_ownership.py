"""Who owns what: the ledger, orphans, destroy, collisions, generations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hostctl_host.contract.change import Action, Reason
from hostctl_host.contract.report import HostStatus, Status

from .test_run import note, statuses
from .wire import World, document


def test_destroy_removes_what_was_made_and_restores_what_was_found(
    world: World, tmp_path: Path, acts: Any
) -> None:
    (tmp_path / "found").write_text("as it was")
    world.apply(note(tmp_path / "made"), note(tmp_path / "found"))
    world.apply(note(tmp_path / "made", "second"), note(tmp_path / "found", "second"))
    planned = world.destroy(mode="plan")
    assert (tmp_path / "made").exists()
    report = world.destroy()
    assert [o.changes for o in report.outcomes] == [o.changes for o in planned.outcomes]
    assert not (tmp_path / "made").exists()
    assert (tmp_path / "found").read_text() == "as it was"
    assert not (world.data / "projects" / "shop").exists()
    assert statuses(world.destroy()) == {}
    reasons = {o.resource: o.changes[0].reason for o in report.outcomes}
    assert reasons == {"note.made": Reason.UNWANTED, "note.found": Reason.UNDO}


def test_destroy_goes_backwards(world: World, tmp_path: Path, acts: Any) -> None:
    """What is needed goes after what needs it, even if it was made later."""
    world.apply(note(tmp_path / "web"), note(tmp_path / "task", section="post_tasks"))
    world.apply(
        note(tmp_path / "net"),
        note(tmp_path / "web", needs=["note.net"]),
        note(tmp_path / "task", section="post_tasks"),
    )
    before = len(acts())
    world.destroy()
    assert [Path(line.split()[0]).name for line in acts()[before:]] == ["task", "web", "net"]


def test_destroy_skips_what_a_failed_removal_needs_and_keeps_it_owned(
    world: World, tmp_path: Path
) -> None:
    world.apply(note(tmp_path / "net"), note(tmp_path / "web", needs=["note.net"]))
    (tmp_path / "web").unlink()
    (tmp_path / "web").mkdir()
    report = world.destroy()
    assert statuses(report) == {"note.web": "failed", "note.net": "skipped"}
    (tmp_path / "web").rmdir()
    assert world.destroy().status is HostStatus.OK
    assert not (tmp_path / "net").exists()


def test_documents_of_one_run_are_one_whole(world: World, tmp_path: Path, acts: Any) -> None:
    """As two plays of one project send them: the first leaves the rest open, the second names the first's."""
    one, two, old = (note(tmp_path / name) for name in ("one", "two", "old"))
    handlers = [{"id": "handler.h", "kind": "note", "spec": {"path": str(tmp_path / "h")}}]
    others = [{**handlers[0], "spec": {"path": str(tmp_path / "other")}}]

    def apply(first: list[dict[str, Any]], second: list[dict[str, Any]], **fields: Any) -> Any:
        also = [item["id"] for item in first] + ["handler.h"]
        done = world.apply(*first, partial=True, handlers=handlers, **fields)
        return done, world.apply(*second, also=also, handlers=others, **fields)

    apply([one, old], [two])
    before = len(acts())
    done, again = apply([one, old], [two])
    assert len(acts()) == before
    assert (done.generation, again.generation, again.warnings) == (2, 2, ())
    _, report = apply([one], [two])
    assert report.warnings == ("orphan: note.old: no longer declared; use --prune to remove it",)
    _, report = apply([one], [two], prune=True)
    assert statuses(report) == {"note.two": "ok", "note.old": "changed"}
    assert not (tmp_path / "old").exists() and (tmp_path / "one").exists()
    last = json.loads((world.data / "projects/shop/generations/4.json").read_text())
    assert [item["id"] for item in last["document"]["resources"]] == ["note.one", "note.two"]
    assert set(json.loads((world.data / "projects/shop/ledger.json").read_text())["resources"]) == {
        "note.one",
        "note.two",
    }


def test_a_plan_with_open_tasks_calls_nothing_of_their_kind_an_orphan(
    world: World, tmp_path: Path
) -> None:
    """A loop over a result that is known after apply may declare it again; its handler may run."""
    world.kind("other", (world.agent / "hostctl_host" / "note.py").read_text())
    other = {"id": "other.b", "kind": "other", "spec": {"path": str(tmp_path / "b")}}
    world.apply(note(tmp_path / "a"), other)
    loop = {"id": "note.loop", "kind": "note", "skip": "may change", "maybe": True, "notify": ["h"]}
    handler = {"id": "handler.h", "kind": "note", "spec": {"path": str(tmp_path / "h")}}
    for prune in (False, True):
        report = world.plan({**loop, "section": "tasks"}, handlers=[handler], prune=prune)
        assert report.warnings[0] == "may be an orphan, known after apply: note.a"
        assert ("orphan: other.b" in str(report.warnings)) != prune
        expected = {"note.loop": "skipped", "handler.h": "changed"}
        assert statuses(report) == {**expected, **({"other.b": "changed"} if prune else {})}
        assert not report.outcomes[1].changes[0].certain


def test_an_orphan_is_shown_and_pruned_only_on_request(world: World, tmp_path: Path) -> None:
    world.apply(note(tmp_path / "a"), note(tmp_path / "b"))
    for mode in ("plan", "apply"):
        report = world.execute(mode, document(note(tmp_path / "a")))
        assert report.warnings == ("orphan: note.b: no longer declared; use --prune to remove it",)
    assert (tmp_path / "b").exists()
    planned = world.plan(note(tmp_path / "a"), prune=True)
    assert planned.outcomes[1].changes[0].action is Action.DELETE
    assert planned.outcomes[1].changes[0].reason is Reason.REMOVED
    assert (tmp_path / "b").exists()
    pruned = world.apply(note(tmp_path / "a"), prune=True)
    assert statuses(pruned) == {"note.a": "ok", "note.b": "changed"}
    assert not (tmp_path / "b").exists()
    assert world.plan(note(tmp_path / "a"), prune=True).count(Status.CHANGED) == 0


def test_a_limited_run_makes_no_orphans_and_merges(world: World, tmp_path: Path) -> None:
    world.apply(note(tmp_path / "a"), note(tmp_path / "b"))
    report = world.apply(note(tmp_path / "a", "new"), partial=True, prune=True)
    assert report.warnings == ()
    assert (tmp_path / "b").exists()
    stored = json.loads((world.data / "projects/shop/generations/2.json").read_text())
    texts = {r["id"]: r["spec"]["text"] for r in stored["document"]["resources"]}
    assert texts == {"note.a": "new", "note.b": "hello"}


def test_two_projects_cannot_own_one_thing(world: World, tmp_path: Path) -> None:
    world.apply(note(tmp_path / "a"))
    for mode in ("plan", "apply"):
        report = world.execute(mode, document(note(tmp_path / "a", "other"), project="blog"))
        message = report.failures[0].message
        assert "project shop (me@desk:/shop.yml) owns it already" in message
        assert "project blog (me@desk:/blog.yml)" in message
    assert (tmp_path / "a").read_text() == "hello"
    world.destroy()
    assert world.apply(note(tmp_path / "a"), project="blog").status is HostStatus.OK


def test_a_shared_thing_stays_until_its_last_user_leaves(world: World, tmp_path: Path) -> None:
    source = (world.agent / "hostctl_host" / "note.py").read_text()
    world.kind("shared", source + "\nSHARED = True\n")
    shared = {**note(tmp_path / "a"), "kind": "shared", "id": "shared.a"}
    world.apply(shared)
    world.apply(shared, project="blog")
    world.destroy("shop")
    assert (tmp_path / "a").exists()
    world.destroy("blog")
    assert not (tmp_path / "a").exists()


def test_volumes_survive_prune_and_destroy_until_asked_for(world: World, tmp_path: Path) -> None:
    source = (world.agent / "hostctl_host" / "note.py").read_text()
    (world.agent / "hostctl_host" / "volume.py").unlink()
    world.kind("volume", source)
    volume = {**note(tmp_path / "v"), "kind": "volume", "id": "volume.v"}
    world.apply(volume)
    report = world.apply(prune=True)
    assert "its data is kept" in report.warnings[0]
    world.destroy()
    assert (tmp_path / "v").exists()
    world.destroy(volumes=True)
    assert not (tmp_path / "v").exists()
    assert not (world.data / "projects" / "shop").exists()


def test_ten_generations_are_kept(world: World, tmp_path: Path) -> None:
    for number in range(12):
        assert world.apply(note(tmp_path / "a", str(number))).generation == number + 1
    names = sorted(path.name for path in (world.data / "projects/shop/generations").iterdir())
    assert names == sorted(f"{number}.json" for number in range(3, 13))


def test_a_changed_document_that_changes_nothing_is_a_generation(
    world: World, tmp_path: Path
) -> None:
    assert world.apply(note(tmp_path / "a")).generation == 1
    assert world.apply(note(tmp_path / "a", name="A title")).generation == 2
    moved = document(note(tmp_path / "a", name="A title"))
    moved["source"] = "you@elsewhere:/checkout/shop.yml"
    assert world.execute("apply", moved).generation == 2


def test_what_was_half_made_is_owned(world: World, tmp_path: Path) -> None:
    world.apply(note(tmp_path / "a", spec={"trouble": "half"}))
    assert (tmp_path / "a").exists()
    world.destroy()
    assert not (tmp_path / "a").exists()


def test_everything_on_disk_is_private(world: World, tmp_path: Path) -> None:
    world.apply(note(tmp_path / "a", no_log=True))
    for folder in (world.data, world.run):
        for path in (folder, *folder.rglob("*")):
            assert path.stat().st_mode & 0o077 == 0, path


def test_a_copy_that_becomes_a_template_is_no_orphan(world: World, tmp_path: Path) -> None:
    """The id changes with the kind, the file does not: it keeps its history and is not removed."""
    (tmp_path / "a").write_text("found")
    source = (world.agent / "hostctl_host" / "note.py").read_text()
    for kind in ("copy", "template"):
        (world.agent / "hostctl_host" / f"{kind}.py").unlink()
        world.kind(kind, source)
    path = {"path": str(tmp_path / "a")}
    copied = {"id": f"copy.{tmp_path}/a", "kind": "copy", "spec": {**path, "text": "one"}}
    rendered = {"id": f"template.{tmp_path}/a", "kind": "template", "spec": {**path, "text": "two"}}
    world.apply(copied)
    other = world.apply(rendered, project="blog")
    assert "owns it already" in other.failures[0].message
    report = world.apply(rendered, prune=True)
    assert (report.status, report.warnings) == (HostStatus.OK, ())
    assert (tmp_path / "a").read_text() == "two"
    world.destroy()
    assert (tmp_path / "a").read_text() == "found"


def test_an_orphan_whose_kind_is_gone_says_so(world: World, tmp_path: Path) -> None:
    world.apply(note(tmp_path / "a"))
    (world.agent / "hostctl_host" / "note.py").unlink()
    report = world.apply(prune=True)
    assert "cannot handle kind note" in report.failures[0].message


def test_a_secret_is_not_kept_where_undo_keeps_things(world: World, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("found")
    world.apply(note(tmp_path / "a", "s3cret", no_log=True))
    ledger = json.loads((world.data / "projects/shop/ledger.json").read_text())
    entry = ledger["resources"]["note.a"]
    assert list(entry["spec"]) == ["keyed_hash"]
    assert entry["undo"] == {"path": str(tmp_path / "a"), "text": "found"}
    assert (world.data / "key").stat().st_size == 32
