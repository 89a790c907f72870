"""A plan, and what a change does to it, as lines for a terminal and as Markdown for a merge request."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from engine.plan.against import Against, Change, Item, Pin, StepChange
from engine.plan.model import Plan
from engine.plan.render import status_of, summary_of
from engine.plan.why import named, path_of
from engine.report.clean import code, terminal
from engine.report.clean import markdown as escaped
from engine.report.markdown import folded, table
from engine.report.words import short

LONGEST = 60
NOTHING = "(none)"
ORDER: tuple[Change, ...] = ("changed", "added", "removed", "follows", "same", "always")
USED = {"changed": "changed", "added": "newly used", "removed": "no longer used"}
SAID = {"follows": "may follow", "same": "the same", "always": "always run"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Outlook:
    """A plan, and what would become of its steps: settled ones are cached, all are when the run is recorded."""

    plan: Plan
    settled: frozenset[str]
    recorded: bool
    why: Mapping[str, tuple[str, ...]]

    @property
    def statuses(self) -> dict[str, str]:
        """What would become of each step now."""
        return {step.id: status_of(step, self.settled, self.recorded, self.why) for step in self.plan.steps}

    @property
    def summary(self) -> str:
        """How many steps would run now."""
        return summary_of(self.plan, self.settled, self.recorded, self.why)


# -- what a change does, as lines --------------------------------------------------------------------------------------


def against_lines(found: Against, outlook: Outlook) -> Iterator[str]:
    """What differs, then every step with what becomes of it, what it would do now, and why. Safe for a terminal."""
    runs = f"run {short(found.now)}" if found.same else f"run {short(found.then or NOTHING)} -> {short(found.now)}"
    yield terminal(f"{outlook.plan.name} against {found.ref} ({short(found.commit)}): {runs}")
    if found.note:
        yield f"  {terminal(found.note)}"
    for title, rows in differences(found):
        yield title
        yield from (f"  {terminal(row)}" for row in aligned(rows))
    yield "steps"
    statuses = outlook.statuses
    rows = [(step.id, step.change, statuses.get(step.id, ""), "; ".join(step.why)) for step in found.steps]
    yield from (f"  {terminal(row)}" for row in aligned(rows))
    yield f"{count(found)}; now: {outlook.summary}"


def differences(found: Against) -> Iterator[tuple[str, list[tuple[str, ...]]]]:
    """What differs, under a heading each; no heading without anything under it."""
    sections: tuple[tuple[str, list[tuple[str, ...]]], ...] = (
        ("spec", [(item.name, f"{value(item.then)} -> {value(item.now)}") for item in found.spec]),
        ("data", [(pin.name, moved(pin), files_of(pin)) for pin in found.data]),
        ("code", [(path_of(item.name), USED[item.kind]) for item in found.code]),
        ("environment", [(item.name, f"{value(item.then)} -> {value(item.now)}") for item in found.environment]),
    )
    yield from ((title, rows) for title, rows in sections if rows)


def value(found: object) -> str:
    """A value as a person reads it, shortened; a key that is not set has none."""
    if found is None:
        return NOTHING
    text = terminal(str(found).lower() if isinstance(found, bool) else str(found))
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}\u2026"


def moved(pin: Pin) -> str:
    """Where a source lay and lies."""
    then, now = (side["uri"] if side else NOTHING for side in (pin.then, pin.now))
    return now if then == now else f"{then} -> {now}"


def files_of(pin: Pin) -> str:
    """Which files of a source differ."""
    if not pin.files:
        return "the same bytes"
    if pin.then is None or pin.now is None:
        return f"{len(pin.files)} {'file' if len(pin.files) == 1 else 'files'}"
    return f"differing: {named([item.name for item in pin.files])}"


def count(found: Against) -> str:
    """How many steps of each kind of change there are."""
    if found.same:
        return "the run is the same" + (
            ": what differs says how it is carried out, not what it is" if found.spec else ""
        )
    many = Counter(step.change for step in found.steps)
    return ", ".join(f"{many[change]} {SAID.get(change, change)}" for change in ORDER if many[change])


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as lines, their columns under each other."""
    if not rows:
        return []
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


# -- Markdown ----------------------------------------------------------------------------------------------------------


def markdown_plan(outlook: Outlook) -> str:
    """A plan as Markdown: a step a row. Text from specs cannot become markup. Ends with a newline."""
    plan = outlook.plan
    rows = [
        (code(step.id), escaped(status), escaped("; ".join(outlook.why.get(step.id, ()))))
        for step, status in zip(plan.steps, outlook.statuses.values(), strict=True)
    ]
    blocks = (f"## Plan: {code(plan.name)}", summarised(outlook), table(("step", "now", "why"), rows))
    return "\n\n".join(blocks) + "\n"


def summarised(outlook: Outlook) -> str:
    """How many steps would run, and the run's id."""
    return f"**{escaped(outlook.summary.replace('`', ''))}** \u00b7 run {code(short(outlook.plan.run_id))}"


def markdown_against(found: Against, outlook: Outlook) -> str:
    """What a change does to a plan, for a merge request. Text from specs cannot become markup. Ends with a newline."""
    return "\n\n".join(against_blocks(found, outlook)) + "\n"


def against_blocks(found: Against, outlook: Outlook) -> Iterator[str]:
    """The blocks of :func:`markdown_against`: what stays the same is folded away."""
    yield f"## Plan: {code(outlook.plan.name)} against {code(found.ref)}"
    yield f"**{escaped(count(found))}** \u00b7 now: {escaped(outlook.summary.replace('`', ''))}"
    if found.note:
        yield f"> {escaped(found.note)}"
    yield from difference_tables(found)
    moving = [step for step in found.steps if step.change not in ("same", "always")]
    resting = [step for step in found.steps if step.change in ("same", "always")]
    if moving:
        yield "### Steps"
        yield step_table(moving, outlook)
    if resting:
        noun = "step is" if len(resting) == 1 else "steps are"
        yield folded(f"{len(resting)} {noun} as before", step_table(resting, outlook))
    then = code(short(found.then)) if found.then else "none"
    yield f"<sub>run {then} \u2192 {code(short(found.now))} \u00b7 commit {code(short(found.commit))}</sub>"


def difference_tables(found: Against) -> Iterator[str]:
    """A table each for what differs in spec, data, code and environment."""
    if found.spec:
        yield "### Spec"
        yield pair_table("key", found.spec)
    if found.data:
        yield "### Data"
        rows = [(code(pin.name), *(code(side["uri"]) if side else "" for side in (pin.then, pin.now)),
                 escaped(files_of(pin))) for pin in found.data]  # fmt: skip
        yield table(("source", "then", "now", "files"), rows)
    if found.code:
        yield "### Code"
        yield table(("module", "change"), [(code(path_of(item.name)), USED[item.kind]) for item in found.code])
    if found.environment:
        yield "### Environment"
        yield pair_table("package", found.environment)


def pair_table(what: str, items: Sequence[Item]) -> str:
    """What differs, a row each: then and now."""
    rows = [(code(item.name), *(code(value(side)) if side is not None else "" for side in (item.then, item.now)))
            for item in items]  # fmt: skip
    return table((what, "then", "now"), rows)


def step_table(steps: Sequence[StepChange], outlook: Outlook) -> str:
    """Steps, a row each: what becomes of it, what it would do now, and why."""
    statuses = outlook.statuses
    rows = [
        (code(step.id), escaped(SAID.get(step.change, step.change)), escaped(statuses.get(step.id, "")),
         escaped("; ".join(step.why)))
        for step in steps
    ]  # fmt: skip
    return table(("step", "change", "now", "why"), rows)
