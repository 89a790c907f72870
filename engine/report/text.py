"""A run as text: a card for a terminal, plain lines for a pipe."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from engine.report import words
from engine.report.facts import facts
from engine.report.model import Facts, Pin, Report

if TYPE_CHECKING:
    from rich.console import RenderableType

KEY_WIDTH = 13


def card(report: Report) -> RenderableType:
    """What a terminal shows when a run ends: verdict, gates and metrics, model, pins, and what to do next."""
    from engine.report.terminal import render  # rich is needed at a terminal only

    return render(facts(report))


def plain(report: Report) -> str:
    """The same for a pipe: a line a fact, its kind first, columns apart by two spaces, digests in full.

    The first line is the verdict. No line has a control character; the text ends with a newline.
    """
    said = facts(report)
    parts = (heading, fault_lines, model_lines, gate_lines, metric_lines, pin_lines, step_lines, closing_lines)
    return "".join(f"{line.rstrip()}\n" for part in parts for line in part(said))


def heading(said: Facts) -> Iterator[str]:
    """The verdict, the run and why."""
    yield f"{words.verdict(said)}  {said.name}  {words.summary(said)}"
    answered = "" if said.executed else "  (answered from the record, nothing was executed)"
    yield keyed("run", f"{said.run_id}{answered}")
    if said.target:
        yield keyed("target", said.target)
    if said.weights:
        yield keyed("weights", said.weights)
    if said.started:
        yield keyed("started", said.started)
    yield keyed("took", words.duration(said.seconds))


def fault_lines(said: Facts) -> Iterator[str]:
    """Why it failed: place, fact, details."""
    if said.fault is None:
        return
    place = f"{said.fault.place}: " if said.fault.place else ""
    code = f"{said.fault.code}  " if said.fault.code else ""
    yield keyed("error", f"{code}{place}{said.fault.message}")
    for line in said.fault.details:
        yield keyed("detail", line)
    if said.fault.hint:
        yield keyed("hint", said.fault.hint)


def model_lines(said: Facts) -> Iterator[str]:
    """The model version, or that there is none."""
    version = said.model if said.version is not None else f"{said.name} (no version)"
    digest = f"  sha256:{said.model_digest}" if said.model_digest else ""
    yield keyed("model", f"{version}{digest}")


def gate_lines(said: Facts) -> Iterable[str]:
    """A gate a line: mark, name, value, limit, reason."""
    return table(
        "gate",
        [(gate.mark, gate.name, words.value_of(gate), words.limit(gate), gate.reason) for gate in said.gates],
    )


def metric_lines(said: Facts) -> Iterable[str]:
    """A metric a line: name, value, interval, rows."""
    intervals = any(item.interval for item in said.metrics)
    return table(
        "metric",
        [
            (
                item.name,
                words.figure(item.value),
                *([words.surely(item)] if intervals else []),
                words.rows(item.rows),
            )
            for item in said.metrics
        ],
    )


def pin_lines(said: Facts) -> Iterator[str]:
    """A pin a line: name, source, commit or version, digest."""
    for kind in dict.fromkeys(pin.kind for pin in said.pins):
        yield from table(kind, [pin_cells(pin) for pin in said.pins if pin.kind == kind])


def pin_cells(pin: Pin) -> tuple[str, ...]:
    """What is known of a pin, without empty columns."""
    digest = f"sha256:{pin.digest}" if pin.digest else ""
    return tuple(cell for cell in (pin.name, pin.source, pin.version, digest, pin.note) if cell)


def step_lines(said: Facts) -> Iterable[str]:
    """A step a line: name, kind, status, seconds."""
    return table("step", [(step.name, step.kind, step.status, words.duration(step.seconds)) for step in said.steps])


def closing_lines(said: Facts) -> Iterator[str]:
    """Where the spec, the record and the reports are, and what to do next."""
    found = [("spec", said.spec), ("record", said.record), *(("report", place) for place in said.written)]
    yield from (keyed(key, place) for key, place in found if place)
    yield keyed("next", words.next_step(said))


def keyed(key: str, text: str) -> str:
    """``text`` behind its kind."""
    return f"{key:<{KEY_WIDTH}}{text}"


def table(key: str, cells: Sequence[Sequence[str]]) -> Iterator[str]:
    """Rows of cells with their columns aligned, each behind ``key``."""
    columns = max((len(row) for row in cells), default=0)
    widths = [max((len(row[index]) for row in cells if index < len(row)), default=0) for index in range(columns)]
    for row in cells:
        yield keyed(key, "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=False)))
