"""Runs on the controller: a run as text: hosts with equal output together, then a summary.

The text is a contract: sorted, the same for the same reports, and pinned by tests.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from hostctl_host.contract.change import Action
from hostctl_host.contract.report import Failure, HostReport, HostStatus, Outcome, Status

from .changes import resource_lines
from .run import Mode, RunReport, count_actions, is_open
from .style import Style, printable

Paragraph = tuple[str, ...]

_NAMED_HOSTS = 5  # a total names hosts up to this many, and counts them beyond


def render_run(run: RunReport, style: Style, verbose: int = 0) -> str:
    """The whole text of a plan, an apply or a destroy."""
    parts = ["\n".join(block) for block in _grouped(run, style, verbose)]
    parts.append("\n".join([*_host_summaries(run, style), _total(run, style)]))
    return printable("\n\n".join(parts) + "\n")


def _grouped(run: RunReport, style: Style, verbose: int) -> list[list[str]]:
    """Blocks of what hosts say, each under the names of all hosts that say exactly that.

    What all say comes first, then what fewer do; inside a block things keep their order.
    """
    sayers: dict[tuple[Paragraph, int], list[str]] = {}
    for name, report in run.hosts.items():
        said: Counter[Paragraph] = Counter()
        for paragraph in _paragraphs(report, style, verbose):
            sayers.setdefault((paragraph, said[paragraph]), []).append(name)
            said[paragraph] += 1
    blocks: dict[tuple[str, ...], list[str]] = {}
    for (paragraph, _), names in sayers.items():
        blocks.setdefault(tuple(names), []).extend(paragraph)
    places = {name: index for index, name in enumerate(run.hosts)}
    order = sorted(blocks, key=lambda names: (-len(names), [places[name] for name in names]))
    return [
        [
            style.paint(f"{_heading(names, len(run.hosts))}:", "bold"),
            *(("  " + line).rstrip() for line in blocks[names]),
        ]
        for names in order
    ]


def _heading(names: tuple[str, ...], total: int) -> str:
    if len(names) == total and total > _NAMED_HOSTS:
        return f"all {total} hosts"
    return ", ".join(names)


def _paragraphs(report: HostReport, style: Style, verbose: int) -> Iterator[Paragraph]:
    """Changes in the order in which they happen, then warnings, then failures."""
    for outcome in report.outcomes:
        if outcome.status is Status.CHANGED or outcome.changes:
            yield tuple(resource_lines(outcome, style))
        elif is_open(outcome):
            yield (_open_line(outcome, style),)
        elif verbose and outcome.status in (Status.OK, Status.SKIPPED):
            yield (_quiet_line(outcome, style),)
    for warning in report.warnings:
        yield (style.paint(f"! {warning}", "yellow"),)
    places = {outcome.resource: outcome.where for outcome in report.outcomes}
    for failure in report.failures:
        yield tuple(failure_lines(failure, places.get(failure.resource, ""), style))


def _quiet_line(outcome: Outcome, style: Style) -> str:
    word = outcome.status.value + (f": {outcome.reason}" if outcome.reason else "")
    return style.paint(f"  {outcome.resource}  ({word})", "dim")


def _open_line(outcome: Outcome, style: Style) -> str:
    name = f"  # {outcome.name}" if outcome.name not in ("", outcome.resource) else ""
    head = f"{style.paint('?', 'cyan')} {style.paint(outcome.resource, 'bold')}"
    return f"{head}{style.paint(name, 'dim')}  ({outcome.reason})"


def failure_lines(failure: Failure, where: str, style: Style) -> list[str]:
    """What could not be done on a host, where it was declared, what to do next."""
    first, *rest = failure.message.splitlines() or ["failed"]
    subject = f"{failure.resource}: " if failure.resource else ""
    ignored = "  (ignored)" if failure.ignored else ""
    lines = [f"{style.paint(style.cross, 'red')} {subject}{style.paint(first, 'red')}{ignored}"]
    lines += [f"    {line}" for line in rest]
    if where:
        lines.append(f"    at {where}")
    lines += [f"    hint: {line}" for line in failure.hint.splitlines()]
    return lines


def _host_summaries(run: RunReport, style: Style) -> list[str]:
    """One line per host; a plan of a single host needs only the total."""
    if run.mode is Mode.PLAN and len(run.hosts) < 2:
        return []
    width = max((len(name) for name in run.hosts), default=0) + 1
    return [
        f"{name + ':':<{width}} {_host_summary(run.mode, report, style)}"
        for name, report in run.hosts.items()
    ]


def _host_summary(mode: Mode, report: HostReport, style: Style) -> str:
    if report.status in (HostStatus.UNREACHABLE, HostStatus.LOCKED):
        return style.paint(report.status.value, "red")
    failed = report.count(Status.FAILED)
    if mode is Mode.PLAN:
        if report.status is HostStatus.FAILED:
            return style.paint("could not be planned", "red")
        counts = count_actions([report])
        return _planned(counts) if counts else "no changes"
    colour = ("red",) if report.status is HostStatus.FAILED else ()
    generation = f" (generation {report.generation})" if report.generation else ""
    text = (
        f"ok={report.count(Status.OK)} changed={report.count(Status.CHANGED)} "
        f"failed={failed} skipped={report.count(Status.SKIPPED)}{generation}"
    )
    return style.paint(text, *colour)


def _planned(counts: Counter[str]) -> str:
    """`2 to add, 1 to change, 0 to destroy`; a replacement is one of each end."""
    parts = [
        f"{counts['create'] + counts['replace']} to add",
        f"{counts['update']} to change",
        f"{counts['delete'] + counts['replace']} to destroy",
    ]
    if counts["run"]:
        parts.append(f"{counts['run']} to run")
    if counts["maybe"]:
        parts.append(f"{counts['maybe']} may change")
    return ", ".join(parts)


def _total(run: RunReport, style: Style) -> str:
    failed = run.with_status(HostStatus.FAILED, HostStatus.LOCKED)
    unreachable = run.with_status(HostStatus.UNREACHABLE)
    if failed or unreachable:
        parts = [f"failed on {_names(failed)}"] if failed else []
        parts += [f"could not reach {_names(unreachable)}"] if unreachable else []
        count = f"{len(failed) + len(unreachable)} of {_plural(len(run.hosts), 'host')}"
        text = f"{run.mode.value.capitalize()} {', '.join(parts)} ({count})."
        return style.paint(text, "bold", "red")
    if not run.hosts:
        return "No hosts: nothing to do."
    if not run.changed:
        if run.mode is Mode.DESTROY:
            return style.paint("Nothing to destroy.", "bold")
        verb = "matches" if len(run.hosts) == 1 else "match"
        open_ones = any(is_open(o) for report in run.hosts.values() for o in report.outcomes)
        limit = ", as far as can be known before apply" if open_ones else ""
        return style.paint(f"No changes. {_names(run.hosts)} {verb} the playbook{limit}.", "bold")
    if run.mode is Mode.PLAN:
        return style.paint(f"Plan: {_planned(count_actions(run.hosts.values()))}.", "bold")
    text = f"{run.mode.value.capitalize()} complete: {_done(run)} on {_names(run.hosts)}."
    return style.paint(text, "bold")


def _done(run: RunReport) -> str:
    """`3 changed`, or of a destroy `3 removed, 1 put back`."""
    changed = sum(report.count(Status.CHANGED) for report in run.hosts.values())
    if run.mode is not Mode.DESTROY:
        return f"{changed} changed"
    removed = count_actions(run.hosts.values())[Action.DELETE.value]
    return f"{removed} removed" + (f", {changed - removed} put back" if changed > removed else "")


def _names(names: Iterable[str]) -> str:
    listed = list(names)
    return ", ".join(listed) if len(listed) <= _NAMED_HOSTS else _plural(len(listed), "host")


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
