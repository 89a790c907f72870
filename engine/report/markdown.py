"""A run as GitHub flavoured Markdown, for a comment on a merge request or a job's summary."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from engine.report import words
from engine.report.clean import code, fenced, markup
from engine.report.clean import markdown as escaped
from engine.report.facts import facts
from engine.report.model import Baseline, Facts, Gate, Measure, Pin, Report, Slice, Step

ICONS = {"passed": "\u2705", "refused": "\u26d4", "failed": "\u274c"}
MARKS = {"pass": "\u2705 pass", "refuse": "\u274c refuse", "warn": "\u26a0\ufe0f warn"}
MOST_SLICES = 10
"""Rows of a slicing column in view; the rest are folded away."""


def markdown(report: Report) -> str:
    """Verdict, gates, metrics with their provenance, slices, pins and steps; ends with a newline.

    Text from specs and data is escaped: it cannot become markup, a link or a mention.
    """
    return composed(report, (verdict, fault, gates, metrics, slices, pins, steps, footer))


def brief(report: Report) -> str:
    """The same without slices, steps and what a failed step printed, for places where room is short."""
    return composed(report, (verdict, gates, metrics, pins, footer))


def for_issue(report: Report) -> str:
    """What an issue says, where others may read it: no slices and no rows of data."""
    return composed(report, (verdict, fault_in_short, gates, metrics, pins, footer))


def composed(report: Report, parts: Sequence[Callable[[Facts], Iterator[str]]]) -> str:
    """Parts of the report, with a blank line between their blocks."""
    said = facts(report)
    return "\n\n".join(block for part in parts for block in part(said)) + "\n"


def verdict(said: Facts) -> Iterator[str]:
    """The verdict as a heading, and why."""
    icon = ICONS.get(said.status, ICONS["failed"])
    yield f"## {icon} {escaped(said.name)}: {escaped(words.verdict(said))}"
    took = f"in {words.duration(said.seconds)}" if said.executed else "answered from the record"
    subject = f"{code(said.model)} " if said.version is not None else ""
    yield f"**{escaped(words.summary(said))}** \u00b7 {subject}run {code(words.short(said.run_id))} {took}"


def fault(said: Facts) -> Iterator[str]:
    """Why it failed, with its details."""
    for number, block in enumerate(fault_in_short(said)):
        yield block
        if number == 0 and said.fault is not None and any(said.fault.details):
            yield fenced("\n".join(said.fault.details))


def fault_in_short(said: Facts) -> Iterator[str]:
    """Why it failed, and what to do."""
    if said.fault is None:
        return
    place = f"{code(said.fault.place)}: " if said.fault.place else ""
    yield f"> {place}{escaped(said.fault.message)}"
    if said.fault.hint:
        yield f"**Next:** {escaped(said.fault.hint)}"


def gates(said: Facts) -> Iterator[str]:
    """A gate a row."""
    if not said.gates:
        return
    yield "### Gates"
    yield table(("", "gate", ">value", ">limit", "why"), [gate_row(gate) for gate in said.gates])


def gate_row(gate: Gate) -> tuple[str, ...]:
    """Mark, name, value, limit, reason."""
    measured = f" (measured on {escaped(gate.machine or 'the machine')})" if gate.measured else ""
    interval = f" <sub>{words.between(gate.interval)}</sub>" if gate.interval else ""
    value, limit = f"**{words.value_of(gate)}**{interval}", words.limit(gate)
    return (MARKS[gate.mark], code(gate.name), value, limit, f"{escaped(gate.reason)}{measured}".strip())


def metrics(said: Facts) -> Iterator[str]:
    """A metric a row, beside the production model's where there is one, and the versions that they belong to."""
    if not said.metrics:
        return
    yield "### Metrics"
    theirs = said.baseline
    beside = (f">production (version {theirs.version})", ">change", "") if theirs else ()
    found = [
        (
            code(item.name),
            words.figure(item.value),
            words.between(item.interval),
            *(comparison(item, theirs) if theirs else ()),
            f"{item.rows:,}" if item.rows is not None else "",
        )
        for item in said.metrics
    ]
    between = words.confidence(said.metrics) or "interval"
    yield table(("metric", ">value", f">{between}", *beside, ">rows"), found)
    if said.weights:
        yield f"Rows are weighted by {code(said.weights)}."
    yield f"<sub>{escaped(words.provenance(said))}</sub>"
    if theirs is not None:
        yield f"<sub>{escaped(words.production(theirs))}</sub>"


def comparison(item: Measure, theirs: Baseline) -> tuple[str, str, str]:
    """The production model's figure, the change from it, and whether that is for the better."""
    before = theirs.metrics.get(item.name)
    if before is None or item.value is None:
        return words.figure(before), "", ""
    return words.figure(before), words.change(item.value - before), words.direction(item.name, item.value - before)


def slices(said: Facts) -> Iterator[str]:
    """A table a slicing column, the worst slices first, all but ten of them folded away."""
    for column, found in said.slices.items():
        names = words.metric_names(found)
        if not names:
            continue
        ordered = words.worst_first(found, names[0])
        yield f"### Slices by {code(column)}"
        yield slice_table(column, ordered[:MOST_SLICES], names)
        if len(ordered) > MOST_SLICES:
            rest = slice_table(column, ordered[MOST_SLICES:], names)
            yield folded(f"{len(ordered) - MOST_SLICES} more, all better in {names[0]}", rest)
    if any(said.slices.values()):
        yield f"<sub>{escaped(words.provenance(said))}</sub>"


def slice_table(column: str, found: Sequence[Slice], names: Sequence[str]) -> str:
    """A slice a row: its value, its rows, its metrics."""
    header = (escaped(column), ">rows", *(f">{escaped(name)}" for name in names))
    return table(
        header,
        [
            (
                code(item.value),
                f"{item.rows:,}" if item.rows is not None else "",
                *(slice_cell(item, name) for name in names),
            )
            for item in found
        ],
    )


def slice_cell(item: Slice, name: str) -> str:
    """A slice's metric, and small beside it the interval."""
    interval = words.between(item.intervals.get(name))
    return words.figure(item.metrics.get(name)) + (f" <sub>{interval}</sub>" if interval else "")


def pins(said: Facts) -> Iterator[str]:
    """What the run was pinned to, and the model that came of it."""
    yield "### Made from"
    model = said.model if said.version is not None else "no version"
    first = ("model", escaped(model), "", code(words.short(said.model_digest)))
    yield table(("", "what", "version", "sha256"), [first, *(pin_row(pin) for pin in said.pins)])


def pin_row(pin: Pin) -> tuple[str, ...]:
    """A pin: kind and name, source, commit or version, digest."""
    kind = f"{pin.kind} {escaped(pin.name)}".strip()
    note = f" ({pin.note})" if pin.note else ""
    return kind, code(pin.source), f"{code(words.short(pin.version))}{note}".strip(), code(words.short(pin.digest))


def steps(said: Facts) -> Iterator[str]:
    """The steps, folded away."""
    if not said.steps:
        return
    body = table(("step", "kind", "status", ">seconds"), [step_row(step) for step in said.steps])
    yield folded(f"{words.plural(len(said.steps), 'step')}: {words.statuses(said)}", body)


def step_row(step: Step) -> tuple[str, ...]:
    """A step: name, kind, status, seconds."""
    status = f"**{escaped(step.status)}**" if step.status == "failed" else escaped(step.status)
    return code(step.name), escaped(step.kind), status, words.duration(step.seconds)


def footer(said: Facts) -> Iterator[str]:
    """Where the record is, and the run's whole id."""
    found = (("spec", said.spec), ("record", said.record), ("started", said.started), ("run", said.run_id))
    yield "<sub>" + " \u00b7 ".join(f"{key} {escaped(place)}" for key, place in found if place) + "</sub>"


def folded(summary: str, body: str) -> str:
    """``body`` under a line that opens it. The blank lines let Markdown be read inside the HTML."""
    return f"<details>\n<summary>{markup(summary)}</summary>\n\n{body}\n\n</details>"


def table(header: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    """A table of cells that are Markdown already; a heading that starts with ``>`` aligns its column right."""
    titles = "".join(f" {title.removeprefix('>')} |" for title in header)
    rules = "".join(" ---: |" if title.startswith(">") else " --- |" for title in header)
    body = ("".join(f" {cell} |" for cell in row) for row in cells)
    return "\n".join(f"|{row}" for row in (titles, rules, *body))
