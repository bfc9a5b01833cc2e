"""Plan and apply as text: whole blocks, as people see them."""

from __future__ import annotations

from textwrap import dedent

from hostctl_host.contract.change import UNKNOWN, Action, Change, Reason
from hostctl_host.contract.report import Failure, HostReport, HostStatus, Outcome, Status

from hostctl.report.run import Mode, RunReport
from hostctl.report.style import Style
from hostctl.report.text import render_run

MOTD = Outcome(
    "file./etc/motd",
    Status.CHANGED,
    (
        Change(Action.CREATE, "mode", None, "0644", Reason.ABSENT),
        Change(
            Action.CREATE,
            "content",
            None,
            "ab" * 32,
            Reason.ABSENT,
            diff="--- before\n+++ after\n@@ -0,0 +1 @@\n+hello\n",
        ),
    ),
    name="Message of the day",
    where="site.yml:7:7",
)
WEB = Outcome(
    "container.shop-web-1",
    Status.CHANGED,
    (
        Change(Action.REPLACE, "environment.LEVEL", "info", "debug"),
        Change(Action.REPLACE, "image", "sha256:" + "1" * 64, UNKNOWN, Reason.IMAGE),
        Change(Action.UPDATE, "ports", [], ["8080:80/tcp"], note="8080 is open to everyone"),
    ),
)
RELOAD = Outcome(
    "handler.Reload web",
    Status.CHANGED,
    (Change(Action.RUN, reason=Reason.NOTIFIED, certain=False),),
)
GONE = Outcome(
    "volume.shop_data",
    Status.CHANGED,
    (Change(Action.DELETE, "", {"driver": "local"}, None, Reason.REMOVED),),
)
FINE = Outcome("package.curl", Status.OK)
SKIPPED = Outcome("command.migrate", Status.SKIPPED, reason="when was false")


def plan(**hosts: HostReport) -> RunReport:
    return RunReport(Mode.PLAN).merged(hosts)


def apply(**hosts: HostReport) -> RunReport:
    return RunReport(Mode.APPLY).merged(hosts)


def ok(*outcomes: Outcome, **more) -> HostReport:
    return HostReport(HostStatus.OK, outcomes, **more)


def shown(run: RunReport, style: Style | None = None, verbose: int = 0) -> str:
    return "\n" + render_run(run, style or Style(), verbose)


def block(text: str) -> str:
    return dedent(text)


def test_plan_shows_every_kind_of_change_with_its_reason():
    assert shown(plan(web1=ok(MOTD, WEB, GONE, RELOAD, FINE, SKIPPED))) == block("""
        web1:
          + file./etc/motd  # Message of the day  (does not exist)
              content:
                  @@ -0,0 +1 @@
                  +hello
              mode: "0644"
          -/+ container.shop-web-1  (must be replaced)
              environment.LEVEL: "info" → "debug"  (forces replacement)
              image: sha256:111111111111 → (known after apply)  (image changed, forces replacement)
              ports: [] → ["8080:80/tcp"]
              note: 8080 is open to everyone
          - volume.shop_data  (no longer declared)
          > handler.Reload web  (notified, may run)

        Plan: 2 to add, 0 to change, 2 to destroy, 1 may change.
        """)


def test_hosts_that_say_the_same_are_shown_once():
    run = plan(web10=ok(MOTD), web2=ok(MOTD), db=ok(FINE), web1=ok(MOTD))
    assert shown(run) == block("""
        web1, web2, web10:
          + file./etc/motd  # Message of the day  (does not exist)
              content:
                  @@ -0,0 +1 @@
                  +hello
              mode: "0644"

        db:    no changes
        web1:  1 to add, 0 to change, 0 to destroy
        web2:  1 to add, 0 to change, 0 to destroy
        web10: 1 to add, 0 to change, 0 to destroy
        Plan: 3 to add, 0 to change, 0 to destroy.
        """)


def test_what_hosts_share_comes_before_what_is_their_own():
    def page(name: str) -> Outcome:
        change = Change(
            Action.UPDATE, "content", "a" * 64, "b" * 64, diff=f"@@ -1 +1 @@\n+{name}\n"
        )
        return Outcome("template./page", Status.CHANGED, (change,))

    hosts = {name: ok(page(name), GONE) for name in ("web1", "web2")}
    assert shown(plan(**hosts, db=ok(GONE))) == block("""
        db, web1, web2:
          - volume.shop_data  (no longer declared)

        web1:
          ~ template./page
              content:
                  @@ -1 +1 @@
                  +web1

        web2:
          ~ template./page
              content:
                  @@ -1 +1 @@
                  +web2

        db:   0 to add, 0 to change, 1 to destroy
        web1: 0 to add, 1 to change, 1 to destroy
        web2: 0 to add, 1 to change, 1 to destroy
        Plan: 0 to add, 2 to change, 3 to destroy.
        """)


def test_many_hosts_are_counted_in_headings_and_totals():
    text = shown(plan(**{f"web{number}": ok(GONE) for number in range(1, 13)}))
    assert text.startswith("\nall 12 hosts:\n  - volume.shop_data")
    text = shown(apply(**{f"web{number}": ok(FINE) for number in range(1, 13)}))
    assert text.endswith("No changes. 12 hosts match the playbook.\n")


def test_no_changes():
    assert shown(plan(web1=ok(FINE))) == "\nNo changes. web1 matches the playbook.\n"
    assert shown(apply(web1=ok(FINE), web2=ok(FINE, SKIPPED, generation=4))) == block("""
        web1: ok=1 changed=0 failed=0 skipped=0
        web2: ok=1 changed=0 failed=0 skipped=1 (generation 4)
        No changes. web1, web2 match the playbook.
        """)


def test_apply_shows_failures_with_place_and_hint():
    failed = Outcome("container.db", Status.FAILED, where="site.yml:12:5")
    failure = Failure(
        "container.db",
        "cannot start container.db: it ended with exit code 3\n  | no space left",
        "hostctl logs --tail 50 db",
    )
    run = apply(
        web1=ok(WEB, generation=2),
        web2=HostReport(HostStatus.FAILED, (FINE, failed), (failure,), warnings=("old kernel",)),
        web3=HostReport(
            HostStatus.UNREACHABLE, failures=(Failure("", "cannot reach web3: timed out"),)
        ),
    )
    assert shown(run) == block("""
        web1:
          -/+ container.shop-web-1  (must be replaced)
              environment.LEVEL: "info" → "debug"  (forces replacement)
              image: sha256:111111111111 → (known after apply)  (image changed, forces replacement)
              ports: [] → ["8080:80/tcp"]
              note: 8080 is open to everyone

        web2:
          ! old kernel
          ✗ container.db: cannot start container.db: it ended with exit code 3
                | no space left
              at site.yml:12:5
              hint: hostctl logs --tail 50 db

        web3:
          ✗ cannot reach web3: timed out

        web1: ok=0 changed=1 failed=0 skipped=0 (generation 2)
        web2: ok=1 changed=0 failed=1 skipped=0
        web3: unreachable
        Apply failed on web2, could not reach web3 (2 of 3 hosts).
        """)


def test_ascii_where_the_terminal_cannot_do_better():
    report = HostReport(HostStatus.FAILED, (WEB,), (Failure("container.db", "cannot start"),))
    text = shown(apply(web1=report), Style(unicode=False))
    assert text.isascii()
    assert 'environment.LEVEL: "info" -> "debug"' in text
    assert "x container.db: cannot start" in text


def test_colour_only_paints():
    import re

    painted = shown(plan(web1=ok(MOTD, WEB, GONE, RELOAD)), Style(colour=True))
    assert "\x1b[32m+\x1b[0m" in painted
    assert "\x1b[32m+hello\x1b[0m" in painted
    plain = shown(plan(web1=ok(MOTD, WEB, GONE, RELOAD)))
    assert re.sub(r"\x1b\[[0-9;]*m", "", painted) == plain


def test_verbose_names_what_did_not_change():
    assert "package.curl  (ok)" in shown(apply(web1=ok(FINE, SKIPPED)), verbose=1)
    assert "command.migrate  (skipped: when was false)" in shown(apply(web1=ok(SKIPPED)), verbose=1)


def test_an_update_says_only_may_change_where_all_of_it_is_uncertain():
    outcome = Outcome(
        "file./etc/x",
        Status.CHANGED,
        (Change(Action.UPDATE, "content", "a" * 64, UNKNOWN, certain=False),),
    )
    assert shown(plan(web1=ok(outcome))) == block("""
        web1:
          ~ file./etc/x  (may change)
              content: aaaaaaaaaaaa → (known after apply)

        Plan: 0 to add, 0 to change, 0 to destroy, 1 may change.
        """)


def test_locked_and_failed_hosts_in_a_plan():
    run = plan(
        web1=HostReport(HostStatus.LOCKED, failures=(Failure("", "cannot lock: held by ada"),)),
        web2=HostReport(HostStatus.FAILED, failures=(Failure("file./x", "cannot read"),)),
    )
    assert shown(run) == block("""
        web1:
          ✗ cannot lock: held by ada

        web2:
          ✗ file./x: cannot read

        web1: locked
        web2: could not be planned
        Plan failed on web1, web2 (2 of 2 hosts).
        """)


def test_destroy_counts_what_was_removed_and_what_was_put_back():
    undone = Outcome(
        "file./etc/motd",
        Status.CHANGED,
        (Change(Action.UPDATE, "mode", "0600", "0644", Reason.UNDO),),
    )
    assert shown(RunReport(Mode.DESTROY, {"web1": ok(GONE, undone)})) == block("""
        web1:
          - volume.shop_data  (no longer declared)
          ~ file./etc/motd  (put back as it was found)
              mode: "0600" → "0644"

        web1: ok=0 changed=2 failed=0 skipped=0
        Destroy complete: 1 removed, 1 put back on web1.
        """)
    assert shown(RunReport(Mode.DESTROY, {"web1": ok()})).endswith("\nNothing to destroy.\n")


def test_a_plan_says_what_it_could_not_look_at():
    waiting = Outcome(
        "copy./said", Status.SKIPPED, name="Said", reason="may change: out is known after apply"
    )
    assert shown(plan(web1=ok(FINE, waiting))) == block("""
        web1:
          ? copy./said  # Said  (may change: out is known after apply)

        No changes. web1 matches the playbook, as far as can be known before apply.
        """)
