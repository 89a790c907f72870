"""Plots over time of a model in production: who answered, what was found, how well, and how features moved.

As :mod:`engine.report.plots`, with these classes more: ``band``, ``faint``, ``alarm``, ``mark``, ``learned``,
``estimate``, ``ghost``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

from engine.monitor.model import Distribution
from engine.observe.timeline import Alert, DataCommit, Lane, Promotion, Timeline
from engine.report import words
from engine.report.clean import terminal
from engine.report.plots import (
    Scale,
    bar,
    coordinate,
    element,
    nice_ticks,
    picture,
    polyline,
    segment,
    shortened,
    text,
)

WIDTH, LEFT, RIGHT = 960, 92, 18
LANE, ROW = 26, 22
MOST_TICKS = 9
SIGNALS = ("drift", "performance", "schema")
STEPS = (
    timedelta(minutes=1), timedelta(minutes=5), timedelta(minutes=15), timedelta(hours=1), timedelta(hours=3),
    timedelta(hours=6), timedelta(hours=12), timedelta(days=1), timedelta(days=2), timedelta(days=7),
    timedelta(days=14),
)  # fmt: skip
MONTHS = (1, 2, 3, 6, 12, 24, 60, 120)
MOST_POINTS = 120
Row = Mapping[str, Any]


# -- time ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Time:
    """A time axis: from ``low`` to ``high`` it is drawn from ``start`` to ``end``."""

    low: datetime
    high: datetime
    start: float
    end: float

    def at(self, moment: datetime) -> float:
        """Where a moment is drawn; one beyond the axis at its end."""
        share = (moment - self.low) / (self.high - self.low)
        return self.start + min(max(share, 0.0), 1.0) * (self.end - self.start)

    def has(self, moment: datetime) -> bool:
        """Whether a moment is on the axis."""
        return self.low <= moment <= self.high


def axis_of(line: Timeline, start: float, end: float) -> Time:
    """The axis: all predictions, and what else happened within a fifth of that time before or after them."""
    length = max(line.end - line.start, timedelta(minutes=1))
    low, high = line.start - length / 5, line.end + length / 5
    others = [
        *(item.moment for item in line.promotions),
        *(item.moment for item in line.commits),
        *(item.moment for item in line.alerts),
        *(lane.created for lane in line.lanes),
    ]
    near = [moment for moment in others if low <= moment <= high]
    margin = length / 50
    return Time(low=min([line.start, *near]) - margin, high=max([line.end, *near]) + margin, start=start, end=end)


def ticks_of(axis: Time, most: int = MOST_TICKS) -> list[tuple[datetime, str]]:
    """Moments at even steps of the calendar, in UTC, at most so many, and how each is written."""
    length = axis.high - axis.low
    for step in STEPS:
        if length / step <= most:
            first = datetime(1970, 1, 1, tzinfo=UTC) + step * -(-(axis.low - datetime(1970, 1, 1, tzinfo=UTC)) // step)
            count = int((axis.high - first) / step) + 1 if first <= axis.high else 0
            form = "%H:%M" if step < timedelta(days=1) else "%d %b"
            return [(first + step * number, written(first + step * number, form)) for number in range(count)]
    months = next((number for number in MONTHS if length / timedelta(days=30) / number <= most), MONTHS[-1])
    first_month = axis.low.astimezone(UTC).year * 12 + axis.low.astimezone(UTC).month
    last_month = axis.high.astimezone(UTC).year * 12 + axis.high.astimezone(UTC).month - 1
    found = [
        datetime(at // 12, at % 12 + 1, 1, tzinfo=UTC) for at in range(first_month, last_month + 1) if at % months == 0
    ]
    return [(moment, written(moment, "%b %Y" if months < 12 else "%Y")) for moment in found]


def written(moment: datetime, form: str) -> str:
    """A tick; midnight as its day."""
    if form == "%H:%M" and moment.hour == moment.minute == 0:
        form = "%d %b"
    return moment.strftime(form)


def day(moment: datetime) -> str:
    """A moment to the minute."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M}"


def dates(axis: Time, top: float, bottom: float, most: int = MOST_TICKS) -> str:
    """The axis with its dates below, and a grid."""
    parts = [segment(axis.start, bottom, axis.end, bottom, "base")]
    for moment, label in ticks_of(axis, most):
        at = axis.at(moment)
        near = axis.start + 4.0 * len(label)
        anchor = "start" if at < near else "end" if at > axis.start + axis.end - near else "middle"
        parts += [segment(at, top, at, bottom, "grid"), text(at, bottom + 17, label, anchor=anchor)]
    return "".join(parts)


# -- the time line ---------------------------------------------------------------------------------------------------


def time_line(line: Timeline) -> str:
    """Versions as bands over when they answered; above them promotions and commits of data, below them alarms."""
    axis = axis_of(line, LEFT, WIDTH - RIGHT)
    lanes_at = 2 * ROW + 10
    alarms_at = lanes_at + LANE * len(line.lanes) + 8
    signals = [name for name in SIGNALS if any(item.signal == name for item in line.alerts)]
    bottom = alarms_at + ROW * len(signals) + 4
    commits = [item for item in line.commits if axis.has(item.moment)]
    promoted = [item for item in line.promotions if axis.has(item.moment) and item.alias == line.alias]
    body = [
        dates(axis, 0, bottom),
        text(0, 15, "data commits"),
        text(0, ROW + 15, "promotions"),
        *(commit_mark(item, axis, ROW / 2) for item in commits),
        *(promotion_mark(item, axis, ROW, alarms_at - 8) for item in promoted),
        *labels_of(promoted, axis, ROW + 15),
        *(lane_band(lane, axis, lanes_at + LANE * number, line.alias) for number, lane in enumerate(line.lanes)),
    ]
    for number, name in enumerate(signals):
        middle = alarms_at + ROW * number + ROW / 2
        body.append(text(0, middle + 4, NAMES[name]))
        body += [
            alarm_mark(item, axis, middle) for item in line.alerts if item.signal == name and axis.has(item.moment)
        ]
    described = "; ".join(
        f"version {lane.version} answered {words.plural(sum(span.rows for span in lane.spans), 'row')}"
        for lane in line.lanes
    )
    said = f"{described}; {words.plural(len(promoted), 'promotion')}, {words.plural(len(line.alerts), 'alarm')}."
    return picture(f"Time line of {terminal(line.model)}", said, bottom + 26, body, WIDTH)


NAMES: Mapping[str, str] = {"drift": "drift alarms", "performance": "metric alarms", "schema": "schema alarms"}


def titled(body: str, tip: str) -> str:
    """A group that says something to a pointer that rests on it."""
    from html import escape

    return element("g", element("title", escape(terminal(tip))) + body)


def commit_mark(commit: DataCommit, axis: Time, middle: float) -> str:
    """A diamond at a commit of data: full when a version learned from it."""
    x = axis.at(commit.moment)
    points = f"{coordinate(x)},{coordinate(middle - 6)} {coordinate(x + 6)},{coordinate(middle)} "
    points += f"{coordinate(x)},{coordinate(middle + 6)} {coordinate(x - 6)},{coordinate(middle)}"
    learned = f", version {', '.join(map(str, commit.versions))} learned from it" if commit.versions else ""
    tip = f"{day(commit.moment)} {words.short(commit.id)} {commit.message}{learned}"
    kind = "mark learned" if commit.versions else "mark"
    return titled(element("polygon", points=points, stroke="currentColor", **{"class": kind}), tip)


def promotion_mark(item: Promotion, axis: Time, top: float, bottom: float) -> str:
    """A line where an alias came to name another version."""
    x = axis.at(item.moment)
    why = f": {item.why}" if item.why else ""
    tip = f"{day(item.moment)} {item.alias} {item.how} to version {item.version} by {item.who}{why}"
    return titled(segment(x, top, x, bottom, "over"), tip)


def labels_of(promoted: Sequence[Promotion], axis: Time, baseline: float) -> Iterator[str]:
    """The version beside each promotion, where there is room for it."""
    free = -1.0
    for item in sorted(promoted, key=lambda one: one.moment):
        at = axis.at(item.moment)
        label = f"v{item.version}"
        wide = 8.0 * len(label)
        left = at + 5 if at + 5 + wide < axis.end + RIGHT else at - 5 - wide
        if left >= free:
            free = left + wide
            yield text(left, baseline, label, kind="strong")


def lane_band(lane: Lane, axis: Time, top: float, alias: str) -> str:
    """A version: a line from when it was made, a band where it answered."""
    middle = top + LANE / 2
    begin = axis.at(min([lane.created, *(span.start for span in lane.spans)]))
    parts = [
        text(0, middle + 4, f"v{lane.version}", kind="strong"),
        segment(begin, middle, axis.end, middle, "base"),
    ]
    for span in sorted(lane.spans, key=lambda item: item.alias == alias):
        left, right = axis.at(span.start), max(axis.at(span.end), axis.at(span.start) + 2)
        kind = "band" if span.alias == alias else "band faint"
        shape = element(
            "rect", x=coordinate(left), y=coordinate(top + 5), width=coordinate(right - left), height="16", rx="3",
            **{"class": kind, "data-version": str(lane.version)},
        )  # fmt: skip
        many = words.plural(span.rows, "row")
        tip = f"version {lane.version}@{span.alias}: {day(span.start)} to {day(span.end)}, {many}"
        parts.append(titled(shape, tip))
    commit = lane.train.get("commit", "")
    if commit:
        parts.append(text(24, middle + 4, words.short(commit, 8), title=commit))
    return "".join(parts)


def alarm_mark(item: Alert, axis: Time, middle: float) -> str:
    """A dot at an alarm."""
    where = f"v{item.version}@{item.alias}{f'[{item.slice}]' if item.slice else ''}"
    dot = element("circle", cx=coordinate(axis.at(item.moment)), cy=coordinate(middle), r="4.5", **{"class": "alarm"})
    return titled(dot, f"{day(item.moment)} {where} {item.text}")


# -- metrics over time -----------------------------------------------------------------------------------------------

PLOT_WIDTH, PLOT_HEIGHT, PLOT_LEFT, PLOT_RIGHT, PLOT_TOP, PLOT_BOTTOM = 480, 280, 44, 12, 30, 26


def metric_line(metric: str, line: Timeline, rows: Sequence[Row]) -> str:
    """A metric window by window: measured with its interval, estimated, and what the test of each version said.

    Args:
        rows: the metric's figures of one size of window under one alias, and those of the tests.
    """
    axis = axis_of(line, PLOT_LEFT, PLOT_WIDTH - PLOT_RIGHT)
    live = [row for row in rows if row["kind"] == "live" and row["value"] is not None][-MOST_POINTS:]
    estimated = [row for row in rows if row["kind"] == "estimated" and row["value"] is not None][-MOST_POINTS:]
    tested = {row["version"]: row["value"] for row in rows if row["kind"] == "test" and row["value"] is not None}
    limits = [row["limit"] for row in live if row["limit"] is not None]
    values = [row[name] for row in (*live, *estimated) for name in ("value", "low", "high") if row[name] is not None]
    values += [*tested.values(), *limits]
    low, high = padded(values)
    y = Scale(low=low, high=high, start=PLOT_HEIGHT - PLOT_BOTTOM, end=PLOT_TOP)
    shown = {row["version"] for row in (*live, *estimated)} or set(tested)
    body = [
        dates(axis, PLOT_TOP, y.start, 5),
        *(y_tick(axis, y, tick) for tick in nice_ticks(low, high, 5) if low <= tick <= high),
        *(test_line(lane, axis, y, tested[lane.version]) for lane in line.lanes if lane.version in shown & set(tested)),
        *(segment(axis.start, y.at(limit), axis.end, y.at(limit), "over") for limit in dict.fromkeys(limits)),
        *points_of(estimated, axis, y, "estimate", shift=3.5 if live else 0.0),
        *points_of(live, axis, y, "live", shift=-3.5 if estimated else 0.0),
        *legend(bool(live), bool(estimated), bool(tested), bool(limits)),
    ]
    known = live or estimated
    kind = "measured" if live else "estimated"
    said = f"{kind} {words.figure(known[-1]['value'])} in the last window" if known else "no window"
    return picture(f"{terminal(metric)} over time", f"{terminal(metric)}: {said}.", PLOT_HEIGHT, body, PLOT_WIDTH)


def padded(values: Sequence[float]) -> tuple[float, float]:
    """The range of some values with a tenth more on either side."""
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    more = (high - low) / 10 or abs(high) / 10 or 0.5
    return low - more, high + more


def y_tick(axis: Time, y: Scale, tick: float) -> str:
    """A grid line with its number."""
    at = y.at(tick)
    return segment(axis.start, at, axis.end, at, "grid") + text(axis.start - 6, at + 4, f"{tick:.4g}", anchor="end")


def test_line(lane: Lane, axis: Time, y: Scale, value: float) -> str:
    """What a version's test said, over the time in which it answered."""
    spans = lane.spans
    left = axis.at(min(span.start for span in spans)) if spans else axis.start
    right = axis.at(max(span.end for span in spans)) if spans else axis.end
    tip = f"version {lane.version}: {words.figure(value)} on its test data"
    return titled(segment(left, y.at(value), max(right, left + 4), y.at(value), "rule"), tip)


def points_of(rows: Sequence[Row], axis: Time, y: Scale, kind: str, shift: float) -> Iterator[str]:
    """A series: a line a version, its intervals, and a point a window; one beyond its limit is marked."""
    middle = {
        id(row): axis.at(row["window_start"] + (row["window_end"] - row["window_start"]) / 2) + shift for row in rows
    }
    for version in dict.fromkeys(row["version"] for row in rows):
        own = sorted((row for row in rows if row["version"] == version), key=lambda row: row["window_start"])
        yield polyline([(middle[id(row)], y.at(row["value"])) for row in own], "line" if kind == "live" else kind)
    for row in rows:
        x = middle[id(row)]
        parts = ""
        if row["low"] is not None and row["high"] is not None:
            parts = segment(x, y.at(row["low"]), x, y.at(row["high"]), "whisker" if kind == "live" else "estimate")
        shape = "alarm" if row["alarm"] else "point" if kind == "live" else "estimate hollow"
        parts += element("circle", cx=coordinate(x), cy=coordinate(y.at(row["value"])), r="3.5", **{"class": shape})
        ends = f" ({words.figure(row['low'])} to {words.figure(row['high'])})" if row["low"] is not None else ""
        tip = (
            f"v{row['version']} {day(row['window_start'])} to {day(row['window_end'])}: {row['kind']} "
            f"{words.figure(row['value'])}{ends} on {words.plural(row['n'], 'row')}"
        )
        yield titled(parts, tip)


def legend(live: bool, estimated: bool, tested: bool, limited: bool) -> Iterator[str]:
    """What the signs mean."""
    at = float(PLOT_LEFT)
    for there, label, kind in (
        (live, "measured", "point"), (estimated, "estimated", "estimate hollow"), (tested, "test", "rule"),
        (limited, "limit", "over"),
    ):  # fmt: skip
        if not there:
            continue
        if kind in ("rule", "over"):
            yield segment(at, 11, at + 18, 11, kind)
            at += 10
        else:
            yield element("circle", cx=coordinate(at + 5), cy="11", r="3.5", **{"class": kind})
        yield text(at + 14, 15, label)
        at += 34 + 6.4 * len(label)


# -- a feature -------------------------------------------------------------------------------------------------------

CARD, CARD_LEFT = 330, 6
BARS, TRAIL = 110, 64


def feature_plot(found: Distribution, line: Timeline, drift: Sequence[Row]) -> str:
    """A feature's two distributions, and below them how far it was from the reference, window by window."""
    upper, height = numbers(found) if found.edges else categories(found)
    trail_at = height + 14
    below = trail(line, drift, trail_at) if drift else ""
    end = trail_at + TRAIL + 40 if drift else height
    alarms = sum(bool(row["alarm"]) for row in drift)
    means = ""
    if found.reference_mean is not None and found.window_mean is not None:
        means = f"mean {words.figure(found.reference_mean)} in the reference, {words.figure(found.window_mean)} now; "
    said = f"{means}{words.plural(alarms, 'alarm')} in {words.plural(len(drift), 'test')}."
    return picture(f"{terminal(found.feature)}: reference and last window", said, end, [upper, below], CARD)


def numbers(found: Distribution) -> tuple[str, float]:
    """Shares of bins: bars for the window, an outline for the reference; and the height that it takes."""
    x = Scale(low=found.edges[0], high=found.edges[-1], start=CARD_LEFT, end=CARD - CARD_LEFT)
    most = max([*found.reference, *found.window, 1e-9])
    y = Scale(low=0, high=most, start=BARS + 6, end=8)
    bars = "".join(
        bar(x.at(low) + 0.4, y.at(share), x.at(high) - 0.4, y.start)
        for (low, high), share in zip(pairwise(found.edges), found.window, strict=True)
    )
    steps: list[tuple[float, float]] = [(x.at(found.edges[0]), y.start)]
    for (low, high), share in zip(pairwise(found.edges), found.reference, strict=True):
        steps += [(x.at(low), y.at(share)), (x.at(high), y.at(share))]
    steps.append((x.at(found.edges[-1]), y.start))
    ticks = [
        tick for tick in nice_ticks(found.edges[0], found.edges[-1], 5) if found.edges[0] <= tick <= found.edges[-1]
    ]
    marks = "".join(text(x.at(tick), y.start + 16, words.compact(tick), anchor=anchor_of(x.at(tick))) for tick in ticks)
    base = segment(x.start, y.start, x.end, y.start, "base")
    return bars + polyline(steps, "ghost") + base + marks, y.start + 20


def anchor_of(x: float) -> str:
    """A label's anchor, so that it stays on the card."""
    return "start" if x < 20 else "end" if x > CARD - 20 else "middle"


def categories(found: Distribution) -> tuple[str, float]:
    """Shares of categories: a bar for the window, a line at the reference's; and the height that it takes."""
    most = max([*found.reference, *found.window, 1e-9])
    x = Scale(low=0, high=most, start=74, end=CARD - 116)
    parts = []
    for number, (label, was, now) in enumerate(zip(found.labels, found.reference, found.window, strict=True)):
        top = 4 + 18 * number
        parts += [
            text(0, top + 12, shortened(terminal(label), 10), kind="strong", title=terminal(label)),
            bar(x.at(0), top + 3, x.at(now), top + 14, round_by=2),
            segment(x.at(was), top, x.at(was), top + 17, "ghost"),
            text(CARD, top + 12, f"{was:.1%} \u2192 {now:.1%}", anchor="end"),
        ]
    return "".join(parts), 10 + 18 * len(found.labels)


def trail(line: Timeline, drift: Sequence[Row], top: float) -> str:
    """The statistic of a feature's test over time, alarms marked."""
    axis = axis_of(line, CARD_LEFT, CARD - CARD_LEFT)
    rows = sorted((row for row in drift if row["distance"] is not None), key=lambda row: row["window_end"])
    most = max((row["distance"] for row in rows), default=0.0) or 1.0
    y = Scale(low=0, high=most, start=top + TRAIL, end=top + 12)
    parts = [dates(axis, top + 12, y.start, 4)]
    for version in dict.fromkeys(row["version"] for row in rows):
        own = [(axis.at(row["window_end"]), y.at(row["distance"])) for row in rows if row["version"] == version]
        parts.append(polyline(own, "line thin"))
    for row in rows:
        if row["alarm"] or len(rows) < 3:
            dot = element(
                "circle", cx=coordinate(axis.at(row["window_end"])), cy=coordinate(y.at(row["distance"])), r="3",
                **{"class": "alarm" if row["alarm"] else "point"},
            )  # fmt: skip
            far = f"distance {words.figure(row['distance'])}, p {row['value']:.1e}"
            tip = f"{day(row['window_end'])} {row['detector']}: {far}"
            parts.append(titled(dot, tip))
    names = ", ".join(dict.fromkeys(terminal(row["detector"]) for row in rows))
    parts.append(text(CARD_LEFT, top + 4, f"distance ({names}), up to {words.figure(most)}"))
    return "".join(parts)


def by_feature(figures: Iterable[Row], alias: str) -> dict[str, list[Row]]:
    """The tests for drift of each feature under an alias, of whole windows; of several detectors the surest's."""
    found: dict[str, dict[str, list[Row]]] = {}
    for row in figures:
        if row["kind"] == "drift" and row["alias"] == alias and not row["slice"]:
            found.setdefault(row["feature"], {}).setdefault(row["detector"], []).append(row)
    return {feature: max(tests.values(), key=lambda rows: evidence(rows)) for feature, tests in found.items()}


def evidence(rows: Sequence[Row]) -> tuple[int, float]:
    """How much speaks for drift: the alarms, then the smallest p-value."""
    return sum(bool(row["alarm"]) for row in rows), -min(row["value"] for row in rows)
