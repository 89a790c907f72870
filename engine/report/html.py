"""A run as one HTML file that opens offline: no script, no font, picture or style from elsewhere.

The template escapes everything but the plots, which escape their own text. A content security policy in the page
forbids it to load or run anything.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from engine.report import plots, words
from engine.report.facts import facts
from engine.report.model import Facts, Gate, Measure, Report, Slice

if TYPE_CHECKING:
    from markupsafe import Markup

TEMPLATE = "report.html.j2"
MOST_TILES = 8
MOST_METRICS_PLOTTED = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Tile:
    """A metric, its value as the gate about it shows it, and what its gates say together."""

    name: str
    value: str
    rows: int | None
    interval: str = ""
    mark: str = ""
    answer: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """A plot and what to read in it."""

    svg: Markup
    title: str
    caption: str


@dataclass(frozen=True, kw_only=True, slots=True)
class SliceSection:
    """A slicing column: a plot a metric, and every slice in a table, the worst first."""

    column: str
    metrics: Sequence[str]
    figures: Sequence[Figure]
    rows: Sequence[Slice]
    worst: str


def html(report: Report) -> str:
    """The report as HTML: verdict, metrics with their provenance, gates, curves, slices, pins, steps."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # a run without an HTML report does not need it

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    said = facts(report)
    slowest = max((step.seconds or 0.0 for step in said.steps), default=0.0)
    return environment.get_template(TEMPLATE).render(
        said=said,
        words=words,
        tiles=tiles(said)[:MOST_TILES],
        further=tiles(said)[MOST_TILES:],
        curves=list(curves(said)),
        sections=[section(column, found, said) for column, found in said.slices.items() if words.metric_names(found)],
        slowest=slowest or 1.0,
    )


def tiles(said: Facts) -> list[Tile]:
    """Every metric beside its gates."""
    return [
        tile(measure, [gate for gate in said.gates if words.metric_of(gate) == measure.name])
        for measure in said.metrics
    ]


def tile(measure: Measure, gates: Sequence[Gate]) -> Tile:
    """A metric with as many digits as it takes to tell it from a limit."""
    same = next((gate for gate in gates if gate.value == measure.value), None)
    value = words.value_of(same) if same else words.figure(measure.value)
    mark, answer = words.answers(gates) if gates else ("", "")
    return Tile(
        name=measure.name,
        value=value,
        rows=measure.rows,
        interval=words.surely(measure),
        mark=mark,
        answer=answer,
    )


def curves(said: Facts) -> Iterator[Figure]:
    """The plots that the evaluation has data for."""
    if said.roc is not None:
        svg = plots.roc(said.roc, said.overall.get("roc_auc"))
        yield figure(svg, "ROC curve", "The dashed line is a coin toss; the further above it, the better.")
    if said.calibration is not None:
        error = f"{plots.calibration_error(said.calibration):.3f}"
        caption = f"On the dashed line a predicted 30 % comes true in 30 % of cases. Mean distance from it: {error}."
        yield figure(plots.calibration(said.calibration), "Calibration", caption)
    if said.residuals is not None:
        svg = plots.residual_histogram(said.residuals)
        yield figure(
            svg, "Residuals", "Rows by observed less predicted; right of the dashed line is too low a forecast."
        )


def section(column: str, found: Sequence[Slice], said: Facts) -> SliceSection:
    """A slicing column with a plot for each of its first metrics."""
    names = words.metric_names(found)
    return SliceSection(
        column=column,
        metrics=names,
        figures=[slice_figure(column, name, found, said) for name in names[:MOST_METRICS_PLOTTED]],
        rows=words.worst_first(found, names[0]),
        worst=names[0],
    )


def slice_figure(column: str, metric: str, found: Sequence[Slice], said: Facts) -> Figure:
    """One metric by slice, the worst first."""
    overall = said.overall.get(metric)
    most = plots.MOST_SLICES
    caption = f"The {most} worst of {len(found)}; all are in the table." if len(found) > most else ""
    return figure(plots.slice_bars(column, metric, found, overall), metric, caption)


def figure(svg: str, title: str, caption: str) -> Figure:
    """A plot whose SVG the template takes as it is."""
    from markupsafe import Markup

    return Figure(svg=Markup(svg), title=title, caption=caption)  # noqa: S704 - plots escape every text of theirs
