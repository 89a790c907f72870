"""The card that a terminal shows when a run ends. The only importer of rich's tables and panels here.

::

    +- late-arrivals ------------------- run 3f9a2c1b7e04 -+
    |  PASSED   6 of 6 gates pass                    8.1 s |
    |  gates, then metrics that no gate is about           |
    |  model and pins                                      |
    |  record, reports, next step                          |
    +------------------------------------------------------+
"""

from __future__ import annotations

from collections.abc import Iterator

from rich.box import ROUNDED
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from engine.report import words
from engine.report.model import Facts, Gate, Measure, Pin

COLOURS = {"passed": "green", "refused": "yellow", "failed": "red"}
MARK_STYLES = {"pass": "green", "refuse": "bold red", "warn": "yellow"}
MOST_METRICS = 12
MOST_DETAILS = 20
SHORT = 8
"""Digits of a commit or digest here: with eight, a common URI and its pins fit into 80 columns."""


def render(said: Facts) -> RenderableType:
    """The card, as wide as the terminal; it reads well from 80 columns."""
    colour = COLOURS.get(said.status, "red")
    parts = (headline(said, colour), *fault(said), *judgement(said), origin(said), places(said))
    spaced = [Padding(part, (1, 0, 0, 0)) if index else part for index, part in enumerate(parts)]
    return Panel(
        Group(*spaced),
        box=ROUNDED,
        border_style=colour,
        title=Text(said.name, style="bold"),
        title_align="left",
        subtitle=Text(f"run {words.short(said.run_id)}", style="dim"),
        subtitle_align="right",
        padding=(1, 2),
    )


def headline(said: Facts, colour: str) -> RenderableType:
    """The verdict on a coloured ground, why, and how long it took."""
    grid = Table.grid(expand=True, padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(ratio=1)
    grid.add_column(justify="right", no_wrap=True)
    took = words.duration(said.seconds) if said.executed else "from the record"
    ink = "white" if colour == "red" else "black"
    badge = Text(f"  {words.verdict(said)}  ", style=f"bold {ink} on {colour}")
    grid.add_row(badge, Text(words.summary(said), style="bold"), Text(took, style="dim"))
    return grid


def fault(said: Facts) -> Iterator[RenderableType]:
    """Where it failed and the details; the hint is the next step."""
    if said.fault is None:
        return
    text = Text()
    if said.fault.place:
        text.append(f"{said.fault.place}\n", style="cyan")
    if words.summary(said) != said.fault.message:
        text.append(f"{said.fault.message}\n")
    text.append("".join(f"{line}\n" for line in said.fault.details[:MOST_DETAILS]), style="dim")
    if len(said.fault.details) > MOST_DETAILS:
        text.append(f"and {len(said.fault.details) - MOST_DETAILS} more lines in the record\n", style="dim")
    text.rstrip()
    if text:
        yield text


def judgement(said: Facts) -> Iterator[RenderableType]:
    """Gates and the metrics that no gate is about, in one table."""
    rest = words.ungated(said)
    if not said.gates and not rest:
        return
    table = Table(box=None, padding=(0, 2, 0, 0), expand=True, header_style="dim", show_edge=False)
    table.add_column("", width=1)
    table.add_column("gate" if said.gates else "metric", overflow="fold", max_width=40)
    table.add_column("value", justify="right", no_wrap=True)
    table.add_column("limit", justify="right", no_wrap=True)
    table.add_column("", ratio=1, overflow="fold")
    for gate in said.gates:
        table.add_row(*gate_cells(gate))
    if said.gates and rest:
        table.add_row()
    for measure in rest[:MOST_METRICS]:
        table.add_row(*measure_cells(measure))
    if len(rest) > MOST_METRICS:
        table.add_row("", Text(f"and {len(rest) - MOST_METRICS} more metrics in the record", style="dim"))
    yield table


def gate_cells(gate: Gate) -> tuple[Text, ...]:
    """A gate's row."""
    style = MARK_STYLES[gate.mark]
    return (
        Text(words.MARKS[gate.mark], style=style),
        Text(gate.name, style="" if gate.passed else style),
        Text(words.value_of(gate), style="bold" if gate.passed else style),
        Text(words.limit(gate), style="dim"),
        Text(gate.reason, style="dim" if gate.passed else ""),
    )


def measure_cells(measure: Measure) -> tuple[Text, ...]:
    """A metric's row in the same columns."""
    return (
        Text(""),
        Text(measure.name),
        Text(words.figure(measure.value), style="bold"),
        Text(""),
        Text(", ".join(part for part in (words.surely(measure), words.rows(measure.rows)) if part), style="dim"),
    )


def origin(said: Facts) -> RenderableType:
    """The model and what the run was pinned to."""
    grid = labelled()
    version = Text(said.model if said.version is not None else "no version", style="bold" if said.version else "dim")
    if said.model_digest:
        version.append(f"  {words.short(said.model_digest)}", style="not bold dim")
    grid.add_row(Text("model", style="dim"), version)
    for pin in said.pins:
        label = f"data {pin.name}" if pin.kind == "data" else pin.kind
        grid.add_row(Text(label, style="dim"), pinned(pin))
    return grid


def pinned(pin: Pin) -> Text:
    """A pin: what was named, the commit or version that it was, our digest of it. Both short."""
    source = pin.name if pin.kind == "baseline" else pin.source
    version = words.short(pin.version, SHORT)
    text = Text(source)
    if version:
        text.append(f"{' ' if source else ''}{'@' if pin.kind == 'data' else ''}{version}", style="cyan")
    if pin.digest:
        text.append(f"  {words.short(pin.digest, SHORT)}", style="dim")
    if pin.note:
        text.append(f"  {pin.note}", style="yellow")
    return text


def places(said: Facts) -> RenderableType:
    """Where to look, and what to do next."""
    grid = labelled()
    for key, place in (("record", said.record), *(("report", place) for place in said.written)):
        if place:
            grid.add_row(Text(key, style="dim"), Text(place, overflow="fold"))
    grid.add_row(Text("next", style="dim"), Text(words.next_step(said), style="bold"))
    return grid


def labelled() -> Table:
    """A grid of labels and what they label."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True, min_width=len("environment"))
    grid.add_column(overflow="fold")
    return grid
