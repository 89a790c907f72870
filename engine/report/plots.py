"""Plots as SVG: pure functions from a curve to a string that is a well-formed XML document of its own.

Sizes are in the units of the viewBox, which a page may scale. Colours come from the page's style sheet through the
classes ``line``, ``bar``, ``dot``, ``area``, ``rule``, ``whisker``, ``over``, ``grid``, ``base``, ``muted``, ``strong``
and ``big``; without one the plot is black.
Each has a title and a description for those who cannot see it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from engine.digest import sha256
from engine.report import words
from engine.report.model import Calibration, Residuals, Roc, Slice

WIDTH = 480
LEFT, RIGHT, TOP, BOTTOM = 44, 12, 12, 42
HEIGHT = WIDTH - LEFT - RIGHT + TOP + BOTTOM
"""With this height the plotting area of a ROC curve is square."""

MOST_POINTS = 400
MOST_SLICES = 16
ROW = 24
SLICES_WIDTH, LABEL_WIDTH, VALUE_WIDTH, ROWS_WIDTH = 330, 90, 58, 56
UNIT_TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Scale:
    """A linear map from ``low``..``high`` to ``start``..``end``."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        """Where ``value`` is drawn; an empty range is drawn at its start."""
        span = self.high - self.low
        share = (value - self.low) / span if span else 0.0
        return self.start + share * (self.end - self.start)


@dataclass(frozen=True, kw_only=True, slots=True)
class Axes:
    """A plotting area: ``x`` grows to the right and ``y`` upwards."""

    x: Scale
    y: Scale


def roc(curve: Roc, auc: float | None) -> str:
    """The ROC curve over the diagonal of a coin toss, the area under it shaded."""
    axes = unit_axes(TOP, HEIGHT - BOTTOM)
    points = thinned(list(zip(curve.fpr, curve.tpr, strict=True)))
    drawn = [(axes.x.at(x), axes.y.at(y)) for x, y in points]
    floor = axes.y.at(0)
    closed = [(drawn[0][0], floor), *drawn, (drawn[-1][0], floor)]
    known = f", AUC {words.figure(auc)}" if auc is not None else ""
    label = text(axes.x.at(0.96), axes.y.at(0.06), f"AUC {words.figure(auc)}", anchor="end", kind="strong big")
    body = (
        frame(axes, UNIT_TICKS, UNIT_TICKS),
        element("polygon", points=path(closed), **{"class": "area", "fill-opacity": "0.12"}),
        segment(axes.x.at(0), axes.y.at(0), axes.x.at(1), axes.y.at(1), "rule"),
        polyline(drawn, "line"),
        label if auc is not None else "",
        titles(axes, "false positive rate", "true positive rate"),
    )
    rise = ", ".join(f"{reached(points, at):.2f} at {at:g}" for at in (0.1, 0.25, 0.5))
    return picture(f"ROC curve{known}", f"True positive rate by false positive rate: {rise}.", HEIGHT, body)


def calibration(curve: Calibration) -> str:
    """The reliability curve over the diagonal of a perfect forecast, above a histogram of the rows in each bin."""
    split = HEIGHT - BOTTOM - 74
    axes = unit_axes(TOP, split)
    drawn = [(axes.x.at(x), axes.y.at(y)) for x, y in zip(curve.predicted, curve.observed, strict=True)]
    most = max(curve.rows)
    strip = Axes(x=axes.x, y=Scale(low=0, high=most, start=HEIGHT - BOTTOM, end=split + 18))
    body = (
        frame(axes, (), UNIT_TICKS),
        frame(strip, UNIT_TICKS, ()),
        segment(axes.x.at(0), axes.y.at(0), axes.x.at(1), axes.y.at(1), "rule"),
        *(bin_bar(strip, x, rows, len(curve.rows)) for x, rows in zip(curve.predicted, curve.rows, strict=True)),
        text(LEFT - 8, strip.y.end + 8, words.compact(most), anchor="end"),
        text(LEFT - 8, strip.y.start, "rows", anchor="end"),
        polyline(drawn, "line"),
        *(element("circle", cx=coordinate(x), cy=coordinate(y), r="3.5", **{"class": "dot"}) for x, y in drawn),
        titles(axes, "predicted probability", "observed share"),
    )
    off = calibration_error(curve)
    return picture(
        "Calibration curve",
        f"Observed share by predicted probability in {words.plural(len(drawn), 'bin')}; "
        f"they differ by {off:.3f} on average over all rows.",
        HEIGHT,
        body,
    )


def calibration_error(curve: Calibration) -> float:
    """The mean of abs(observed - predicted) over the bins, weighed by their rows: the expected calibration error.

    Formula: Naeini, Cooper, Hauskrecht, "Obtaining Well Calibrated Probabilities Using Bayesian Binning", 2015.
    """
    bins = zip(curve.predicted, curve.observed, curve.rows, strict=True)
    total = sum(curve.rows)
    return sum(rows * abs(observed - predicted) for predicted, observed, rows in bins) / total if total else 0.0


def residual_histogram(histogram: Residuals) -> str:
    """Rows by residual, with a line at zero."""
    edges, counts = histogram.edges, histogram.counts
    height = 340
    ticks = nice_ticks(0, max(counts), 4)
    axes = Axes(
        x=Scale(low=edges[0], high=edges[-1], start=LEFT, end=WIDTH - RIGHT),
        y=Scale(low=0, high=max(ticks[-1], max(counts)), start=height - BOTTOM, end=TOP),
    )
    bars = (
        bar(axes.x.at(low) + 0.5, axes.y.at(rows), axes.x.at(high) - 0.5, axes.y.at(0))
        for low, high, rows in zip(edges, edges[1:], counts, strict=False)
    )
    zero = axes.x.at(0)
    body = (
        frame(axes, nice_ticks(edges[0], edges[-1], 6), ticks),
        *bars,
        segment(zero, TOP, zero, height - BOTTOM, "over") if edges[0] < 0 < edges[-1] else "",
        titles(axes, "observed less predicted", ""),
    )
    peak = counts.index(max(counts))
    described = (
        f"{words.plural(int(sum(counts)), 'row')} from {words.written(edges[0])} to {words.written(edges[-1])}, "
        f"most of them between {words.written(edges[peak])} and {words.written(edges[peak + 1])}."
    )
    return picture("Histogram of residuals", described, height, body)


def slice_bars(column: str, metric: str, slices: Sequence[Slice], overall: float | None) -> str:
    """A bar a slice with its interval, its value and its rows, the worst first, and a line at the value of all rows.

    At most sixteen of them. Bars start at zero, so that their lengths compare as the values do.
    """
    shown = words.worst_first(slices, metric)[:MOST_SLICES]
    values = [value for item in shown if (value := item.metrics.get(metric)) is not None]
    ends = [end for item in shown for end in item.intervals.get(metric, ())]
    reach = [0.0, *values, *ends, *([] if overall is None else [overall])]
    head, foot = 34, 6
    height = head + ROW * len(shown) + foot
    x = Scale(low=min(reach), high=max(reach), start=LABEL_WIDTH, end=SLICES_WIDTH - VALUE_WIDTH - ROWS_WIDTH)
    body = (
        text(SLICES_WIDTH - ROWS_WIDTH, 14, "value", anchor="end"),
        text(SLICES_WIDTH, 14, "rows", anchor="end"),
        *(slice_row(item, metric, x, head + ROW * index) for index, item in enumerate(shown)),
        overall_line(x, overall, height) if overall is not None else "",
    )
    best = f"Worst {shown[0].value} at {words.figure(shown[0].metrics.get(metric))}" if shown else "No slices"
    everywhere = f", {words.figure(overall)} over all rows" if overall is not None else ""
    title = f"{metric} by {column}, {len(shown)} of {len(slices)} slices"
    return picture(title, f"{best}{everywhere}.", height, body, SLICES_WIDTH)


def slice_row(item: Slice, metric: str, x: Scale, top: float) -> str:
    """One slice: its name, its bar, its value, its rows."""
    value = item.metrics.get(metric)
    middle = top + ROW / 2 + 4
    parts = [text(0, middle, shortened(item.value), kind="strong", title=item.value)]
    if value is not None:
        parts.append(bar(x.at(min(value, 0)), top + 5, x.at(max(value, 0)), top + ROW - 5, round_by=2))
    if metric in item.intervals:
        low, high = item.intervals[metric]
        parts.append(segment(x.at(low), top + ROW / 2, x.at(high), top + ROW / 2, "whisker"))
    parts.append(text(SLICES_WIDTH - ROWS_WIDTH, middle, words.figure(value), anchor="end", kind="strong"))
    parts.append(text(SLICES_WIDTH, middle, words.counted(item.rows), anchor="end"))
    return "".join(parts)


def overall_line(x: Scale, overall: float, height: float) -> str:
    """The value over all rows, across the bars."""
    at = x.at(overall)
    anchor = "end" if at > (x.start + x.end) / 2 else "start"
    label = text(at, 14, f"all {words.figure(overall)}", anchor=anchor)
    return label + segment(at, 20, at, height, "over")


# -- parts of a plot ---------------------------------------------------------------------------------


def picture(title: str, description: str, height: float, body: Iterable[str], width: float = WIDTH) -> str:
    """A whole SVG, its title and description bound to it by ids made from their text."""
    ident = f"p{sha256(f'{title}{description}'.encode(errors='replace'))[:10]}"
    heads = element("title", escape(title), id=f"{ident}t") + element("desc", escape(description), id=f"{ident}d")
    return element(
        "svg",
        heads + "".join(body),
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {coordinate(width)} {coordinate(height)}",
        role="img",
        **{"class": "plot", "aria-labelledby": f"{ident}t {ident}d", "font-size": "12"},
    )


def unit_axes(top: float, bottom: float) -> Axes:
    """Both axes from 0 to 1."""
    return Axes(
        x=Scale(low=0, high=1, start=LEFT, end=WIDTH - RIGHT),
        y=Scale(low=0, high=1, start=bottom, end=top),
    )


def frame(axes: Axes, x_ticks: Iterable[float], y_ticks: Iterable[float]) -> str:
    """Grid lines with their numbers, and the base line."""
    left, right, bottom, top = axes.x.start, axes.x.end, axes.y.start, axes.y.end
    parts = [segment(left, bottom, right, bottom, "base")]
    for tick in y_ticks:
        at = axes.y.at(tick)
        parts += [segment(left, at, right, at, "grid"), text(left - 8, at + 4, words.compact(tick), anchor="end")]
    for tick in x_ticks:
        at = axes.x.at(tick)
        parts += [segment(at, bottom, at, bottom + 4, "base")]
        parts += [text(at, bottom + 18, words.compact(tick), anchor="middle")]
    parts += [segment(left, top, left, bottom, "base")]
    return "".join(parts)


def titles(axes: Axes, across: str, up: str) -> str:
    """What the axes mean: below the picture, and along its left edge."""
    x = (axes.x.start + axes.x.end) / 2
    below = HEIGHT - 4 if up else axes.y.start + BOTTOM - 4
    y = (axes.y.start + axes.y.end) / 2
    turned = text(10, y, up, anchor="middle", transform=f"rotate(-90 10 {coordinate(y)})") if up else ""
    return text(x, below, across, anchor="middle") + turned


def bin_bar(strip: Axes, middle: float, rows: float, bins: int) -> str:
    """A bar for the rows of a bin, round its mean prediction."""
    half = 0.4 * (strip.x.end - strip.x.start) / max(bins, 10)
    at = strip.x.at(middle)
    left, right = max(at - half, strip.x.start), min(at + half, strip.x.end)
    return bar(left, strip.y.at(rows), right, strip.y.start)


def bar(left: float, top: float, right: float, bottom: float, round_by: float = 0) -> str:
    """A filled rectangle; one that is narrower than a unit is widened to it, so that it can be seen."""
    return element(
        "rect",
        x=coordinate(left),
        y=coordinate(top),
        width=coordinate(max(right - left, 1)),
        height=coordinate(max(bottom - top, 0)),
        rx=coordinate(round_by),
        **{"class": "bar"},
    )


def segment(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    """A straight line."""
    ends = {"x1": coordinate(x1), "y1": coordinate(y1), "x2": coordinate(x2), "y2": coordinate(y2)}
    return element("line", stroke="currentColor", **{"class": kind}, **ends)


def polyline(points: Sequence[tuple[float, float]], kind: str) -> str:
    """A line through ``points``."""
    return element("polyline", points=path(points), fill="none", stroke="currentColor", **{"class": kind})


def path(points: Iterable[tuple[float, float]]) -> str:
    """Points as SVG lists them."""
    return " ".join(f"{coordinate(x)},{coordinate(y)}" for x, y in points)


def text(
    x: float,
    y: float,
    content: str,
    *,
    anchor: str = "start",
    kind: str = "muted",
    title: str = "",
    transform: str = "",
) -> str:
    """A line of text; ``title`` is what a pointer that rests on it shows."""
    attributes = {"x": coordinate(x), "y": coordinate(y), "text-anchor": anchor, "class": kind}
    if transform:
        attributes["transform"] = transform
    tip = element("title", escape(title)) if title and title != content else ""
    return element("text", tip + escape(content), **attributes)


def element(name: str, content: str = "", **attributes: str) -> str:
    """An XML element: attributes escaped here, ``content`` already."""
    written = "".join(f' {key}="{escape(value)}"' for key, value in attributes.items())
    return f"<{name}{written}>{content}</{name}>" if content else f"<{name}{written}/>"


# -- numbers -----------------------------------------------------------------------------------------


def coordinate(value: float) -> str:
    """A coordinate to a tenth of a unit."""
    return f"{value:.1f}".removesuffix(".0")


def thinned(points: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    """At most :data:`MOST_POINTS` of ``points``, evenly chosen, the first and the last among them."""
    last = len(points) - 1
    if last < MOST_POINTS:
        return points
    return [points[round(index * last / (MOST_POINTS - 1))] for index in range(MOST_POINTS)]


def reached(points: Sequence[tuple[float, float]], at: float) -> float:
    """The highest y among the points whose x is at most ``at``."""
    return max((y for x, y in points if x <= at), default=0.0)


def nice_ticks(low: float, high: float, wanted: int) -> list[float]:
    """About ``wanted`` multiples of 1, 2 or 5 times a power of ten within ``low``..``high``, at least two."""
    span = (high - low) or 1.0
    power = 10.0 ** math.floor(math.log10(span / wanted))
    step = next((power * times for times in (1, 2, 5, 10) if span / (power * times) <= wanted), power * 10)
    first = math.ceil(low / step)
    ticks = [index * step for index in range(first, math.floor(low / step + span / step) + 1)]
    return ticks if len(ticks) > 1 else [low, low + span]


def shortened(value: str, most: int = 11) -> str:
    """``value`` with an ellipsis where it is too long for its column."""
    return value if len(value) <= most else f"{value[: most - 1]}\u2026"
