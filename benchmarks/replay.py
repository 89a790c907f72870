"""The flights of 2013 replayed month by month with a model of January to June: alarms, estimated and realised ROC AUC.

    python benchmarks/replay.py [FOLDER] [--figure docs/replay.svg]

In FOLDER (else a temporary one) the sample is put into a lake, the spec is run, and its model is asked about every
flight of July to December at the time of its departure, one request an hour. At the end of each week the model is
checked as `engine monitor check` does. What became of a month's flights is told a month late, as labels, and the one
table is brought up to date as `engine monitor status` does. The figure is drawn from what the engine answered.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

import engine
from engine.lake.sample import quickstart
from engine.monitor.table import Table
from engine.monitor.windows import size_of
from engine.observe.check import Asked, check_log
from engine.observe.refresh import refresh
from engine.observe.subject import Observatory
from engine.observe.told import tell
from engine.predictions.ids import prediction_ids
from engine.predictions.log import Made, Origin, PredictionLog, Redaction
from engine.registry.model import ModelRef
from engine.scoring import batches, table_at
from engine.serve.onnx import open_session
from engine.wiring import Home, open_home

NAME = "late-arrivals"
METRIC = "roc_auc"
MONTHS = tuple(range(7, 13))
ABBREVIATED = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
WEEK = timedelta(days=7)
SPEC = """
name: late-arrivals
seed: 7
data:
  train: {uri: lakefs://flights/main/2013-h1/}
  test: {uri: lakefs://flights/main/2013-h1/}
transform:
  - {name: clean, uses: sql, data: [train, test],
     with: {query: "select *, arr_delay > 15 as late from {source} where arr_delay is not null"}}
  - {name: learned, uses: sql, data: [train], with: {query: "select * from {source} where day % 5 <> 0"}}
  - {name: kept, uses: sql, data: [test], with: {query: "select * from {source} where day % 5 = 0"}}
features:
  numeric: [sched_dep_time, sched_arr_time, distance]
  categorical: [carrier, origin, dest]
target: late
train:
  uses: sklearn
  data: train
  with: {estimator: sklearn.ensemble.HistGradientBoostingClassifier, params: {max_iter: 100}}
evaluate:
  data: test
  metrics: [roc_auc, brier]
  gates: [{metric: roc_auc, min: 0.6}]
monitor:
  reference: train
  false_alarms: 1 per 100 days
  detectors:
    - {name: numbers, uses: ks, window: 7d}
    - {name: names, uses: chi2, window: 7d}
  performance:
    - {metric: roc_auc, min: 0.6, window: 20000}
"""


@dataclass(frozen=True, kw_only=True)
class Week:
    """What a check at the end of a week said, and the features behind an alarm, the surest first.

    ``tests`` maps a feature to the p-value and the distance of its test.
    """

    end: str
    rows: int
    alpha: float
    tests: Mapping[str, tuple[float, float]]
    alarmed: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Month:
    """The ROC AUC of a month: estimated before its labels came, and realised, with 95 % intervals."""

    start: str
    rows: int
    estimated: tuple[float, float, float]
    realised: tuple[float, float, float]
    alarm: bool


@dataclass(frozen=True, kw_only=True)
class Replay:
    """All of it; ``tested`` is the ROC AUC on every fifth day of January to June, which the model did not learn."""

    tested: tuple[float, float, float]
    weeks: tuple[Week, ...]
    months: tuple[Month, ...]


# -- the run -----------------------------------------------------------------------------------------------------------


def replay(folder: Path) -> Replay:
    """Run the spec in a folder, and replay the second half of the year."""
    (folder / "spec.yaml").write_text(SPEC)
    home = open_home(folder)
    quickstart(home.lake)
    done = engine.run(engine.plan(folder / "spec.yaml"), inline=True)
    if done.status != "passed":
        raise SystemExit(f"the run {done.status}: {done.metrics}")
    version = home.registry.versions(NAME)[-1]
    home.registry.set_alias(version.name, "production", version.version, "the replay")
    where = Observatory(store=home.store, records=home.records, registry=home.registry, logs=home.path / "predictions")
    table = Table(home.path / "monitor")
    weeks: list[Week] = []
    late = pa.table({"prediction": [], "row": [], "label": []})
    for month in MONTHS:
        start, end = first_of(month), first_of(month + 1)
        flights = flights_of(home, month)
        labels = answered(home, flights)
        weeks += [checked(where, end_of_week) for end_of_week in weeks_of(start, end)]
        told(where, late, end)
        late = labels
        refresh(NAME, where, table, end)
    told(where, late, first_of(13) + timedelta(days=31))
    refresh(NAME, where, table, first_of(13) + timedelta(days=31))
    return Replay(tested=figure_of(table, "test")[0][1], weeks=tuple(weeks), months=tuple(months_of(table)))


def first_of(month: int) -> datetime:
    """The first moment of a month of 2013; the 13th is January of 2014."""
    return datetime(2013 + (month - 1) // 12, (month - 1) % 12 + 1, 1, tzinfo=UTC)


def weeks_of(start: datetime, end: datetime) -> Iterator[datetime]:
    """The ends of weeks in a month, counted from the first of July."""
    begin = first_of(MONTHS[0])
    number = (start - begin) // WEEK + 1
    while begin + number * WEEK <= end:
        if begin + number * WEEK > start:
            yield begin + number * WEEK
        number += 1


def flights_of(home: Home, month: int) -> pa.Table:
    """A month's flights that arrived, by their planned departure, with `late` and `moment` (hours since 1970)."""
    found = table_at(f"lakefs://flights/main/2013-h2/{month:02}.parquet", home.lake)
    flights = pa.concat_tables(list(batches(found)), promote_options="permissive")
    flights = flights.filter(pc.is_valid(flights.column("arr_delay")))
    days = flights.column("day").to_numpy()
    hours = flights.column("sched_dep_time").to_numpy() // 100
    moment = int(first_of(month).timestamp()) // 3600 + (days - 1) * 24 + hours
    late = pc.greater(flights.column("arr_delay"), 15)
    return flights.append_column("late", late).append_column("moment", pa.array(moment)).sort_by("moment")


def answered(home: Home, flights: pa.Table) -> pa.Table:
    """Ask the model about flights, one request an hour, and log it; the labels that will be told later."""
    version = home.registry.get(ModelRef(name=NAME, alias="production"))
    package = json.loads(home.store.read(version.package))
    session = open_session(home.store.read(package["model"]["digest"]))
    origin = Origin(model=NAME, version=version.version, run=version.runs[0])
    log = PredictionLog(home.path / "predictions" / NAME, origin, Redaction())
    columns = session.columns(flights)
    outputs = session.run(columns)
    moments = flights.column("moment").to_numpy()
    starts = np.flatnonzero(np.diff(moments, prepend=-1)).tolist()
    named: list[tuple[str, int]] = []
    for first, last in zip(starts, [*starts[1:], flights.num_rows], strict=True):
        at = int(moments[first]) * 3600 * 10**9
        (prediction,) = prediction_ids(1, at)
        log.append(
            Made(
                predictions=[prediction],
                counts=[last - first],
                aliases=["production"],
                latencies=[1.0],
                time_ns=at,
                inputs={name: array[first:last] for name, array in columns.items()},
                outputs={name: array[first:last] for name, array in outputs.items()},
            )
        )
        named += [(prediction, row) for row in range(last - first)]
    log.flush()
    log.close()
    predictions, rows = zip(*named, strict=True)
    return pa.table({"prediction": predictions, "row": rows, "label": flights.column("late")})


def told(where: Observatory, labels: pa.Table, moment: datetime) -> None:
    """Tell what became of earlier predictions, as `engine monitor labels` does."""
    if labels.num_rows:
        version = where.registry.get(ModelRef(name=NAME, alias="production"))
        tell(version, where, labels, "the replay", moment)


def checked(where: Observatory, until: datetime) -> Week:
    """What a check of the last 7 days says."""
    found = check_log(Asked(ref=ModelRef.parse(NAME), size=size_of("7d"), until=until), where, until)
    (judgement,) = found.judgements
    tests = {
        (f"{name}: {feature}" if name == "outputs" else feature): (p_val, verdict.distance[feature])
        for name, verdict in judgement.verdicts.items()
        for feature, p_val in verdict.p_val.items()
    }
    alarmed = judgement.alarm.features if judgement.alarm else ()
    return Week(
        end=until.date().isoformat(),
        rows=judgement.window.rows,
        alpha=float(judgement.alpha or 0.0),
        tests=tests,
        alarmed=tuple(
            f"{item.detector}: {item.feature}" if item.detector == "outputs" else item.feature for item in alarmed
        ),
    )


def figure_of(table: Table, kind: str) -> list[tuple[dict[str, Any], tuple[float, float, float]]]:
    """The ROC AUC of one kind: rows of the one table, with value and interval."""
    wanted = {"metric": METRIC, "kind": kind, "slice": "", **({} if kind == "test" else {"window": "month"})}
    return [(row, (row["value"], row["low"], row["high"])) for row in table.figures(NAME, **wanted)]


def months_of(table: Table) -> Iterator[Month]:
    """The months, from the one table."""
    estimated = {row["window_start"]: value for row, value in figure_of(table, "estimated")}
    for row, value in figure_of(table, "live"):
        yield Month(
            start=row["window_start"].date().isoformat(),
            rows=row["n"],
            estimated=estimated[row["window_start"]],
            realised=value,
            alarm=bool(row["alarm"]),
        )


# -- the figure --------------------------------------------------------------------------------------------------------

WIDTH, LEFT, RIGHT = 860, 140, 20
TOP, AUC_HEIGHT, GAP, CELL = 56, 200, 62, 22
INK, SOFT, GRID, REAL, GUESS, ALARM = "#24292f", "#57606a", "#d0d7de", "#0550ae", "#bc4c00", "#cf222e"


def drawn(found: Replay) -> str:
    """The replay as an SVG: the ROC AUC of each month above, the distances and alarms of each week below."""
    features = list(found.weeks[0].tests)
    strip = TOP + AUC_HEIGHT + GAP
    height = strip + CELL * (len(features) + 1) + 40
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" '
        f'font-size="12" role="img" aria-label="{escape(said(found))}">',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        text(LEFT, 22, "A model of January to June 2013 in the second half of the year", weight=600, size=15),
        *performance(found),
        *distances(found, features, strip),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def said(found: Replay) -> str:
    """The figure in a sentence."""
    weeks = sum(bool(week.alarmed) for week in found.weeks)
    worst = min(found.months, key=lambda month: month.realised[0])
    return (
        f"ROC AUC {found.tested[0]:.3f} in the test, lowest in {worst.start[:7]}: {worst.realised[0]:.3f} realised, "
        f"{worst.estimated[0]:.3f} estimated; drift alarms in {weeks} of {len(found.weeks)} weeks"
    )


def text(
    x: float, y: float, words: str, *, fill: str = INK, anchor: str = "start", size: int = 12, weight: int = 400
) -> str:
    """A piece of text."""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" fill="{fill}" text-anchor="{anchor}" font-size="{size}" '
        f'font-weight="{weight}">{escape(words)}</text>'
    )


def across(day: datetime) -> float:
    """Where a day of the second half of the year is."""
    whole = first_of(13) - first_of(MONTHS[0])
    return LEFT + (WIDTH - LEFT - RIGHT) * ((day - first_of(MONTHS[0])) / whole)


def performance(found: Replay) -> Iterator[str]:
    """Test, estimate and measurement of the ROC AUC."""
    ends = [bound for month in found.months for bound in (*month.realised[1:], *month.estimated[1:])]
    low, high = min([*ends, *found.tested[1:]]) - 0.01, max([*ends, *found.tested[1:]]) + 0.01

    def up(value: float) -> float:
        return TOP + AUC_HEIGHT * (high - value) / (high - low)

    for tick in np.arange(np.ceil(low * 50) / 50, high, 0.02):
        yield f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{up(tick):.1f}" y2="{up(tick):.1f}" stroke="{GRID}"/>'
        yield text(LEFT - 8, up(tick) + 4, f"{tick:.2f}", fill=SOFT, anchor="end")
    value, below, above = found.tested
    yield (
        f'<rect x="{LEFT}" width="{WIDTH - LEFT - RIGHT}" y="{up(above):.1f}" height="{up(below) - up(above):.1f}" '
        f'fill="{SOFT}" opacity="0.15"/>'
    )
    yield f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{up(value):.1f}" y2="{up(value):.1f}" stroke="{SOFT}"/>'
    for name, colour, shift, dash in (("estimated", GUESS, 9, "5 4"), ("realised", REAL, -9, "")):
        points = [
            (across(datetime.fromisoformat(month.start).replace(day=16, tzinfo=UTC)) + shift, getattr(month, name))
            for month in found.months
        ]
        line = " ".join(f"{x:.1f},{up(figures[0]):.1f}" for x, figures in points)
        yield f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2" stroke-dasharray="{dash}"/>'
        for x, (middle, least, most) in points:
            yield f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{up(least):.1f}" y2="{up(most):.1f}" stroke="{colour}"/>'
            yield f'<circle cx="{x:.1f}" cy="{up(middle):.1f}" r="4" fill="{colour}"/>'
    legend = {"realised, with labels a month late": REAL, "estimated before (CBPE)": GUESS, "test": SOFT}
    for number, (words, colour) in enumerate(legend.items()):
        yield f'<circle cx="{LEFT + 6 + 235 * number}" cy="{TOP - 14}" r="4" fill="{colour}"/>'
        yield text(LEFT + 16 + 235 * number, TOP - 10, words)
    yield text(10, TOP + 4, "ROC AUC", weight=600)
    for month in found.months:
        day = datetime.fromisoformat(month.start).replace(day=16, tzinfo=UTC)
        yield text(across(day), TOP + AUC_HEIGHT + 18, ABBREVIATED[day.month - 1], fill=SOFT, anchor="middle")


def distances(found: Replay, features: Sequence[str], top: float) -> Iterator[str]:
    """A row a feature, a cell a week: the darker the farther; a frame where the feature is behind an alarm."""
    yield text(10, top - 12, "Drift, week by week", weight=600)
    darkest = {name: max(week.tests[name][1] for week in found.weeks) or 1.0 for name in features}
    for row, name in enumerate(features):
        y = top + CELL * row
        yield text(LEFT - 8, y + 15, name, anchor="end")
        for week in found.weeks:
            end = datetime.fromisoformat(week.end).replace(tzinfo=UTC)
            x, width = across(end - WEEK), across(end) - across(end - WEEK)
            p_val, distance = week.tests[name]
            frame, thick = (ALARM, 1.6) if name in week.alarmed else (GRID, 0.6)
            shade = 0.05 + 0.75 * distance / darkest[name]
            words = f"{escape(name)}, week to {week.end}: distance {distance:.3g}, p-value {p_val:.2g}"
            yield (
                f'<rect x="{x + 1.5:.1f}" y="{y + 2:.1f}" width="{width - 3:.1f}" height="{CELL - 4}" rx="2" '
                f'fill="{REAL}" fill-opacity="{shade:.2f}" stroke="{frame}" stroke-width="{thick}">'
                f"<title>{words}</title></rect>"
            )
    y = top + CELL * len(features) + 18
    weeks, alpha = sum(bool(week.alarmed) for week in found.weeks), found.weeks[0].alpha
    budget = f"budget 1 false alarm per 100 days: {alpha:.2g} a week"
    yield (
        f'<rect x="{LEFT + 1.5}" y="{y - 10:.1f}" width="14" height="12" rx="2" fill="none" stroke="{ALARM}" '
        'stroke-width="1.6"/>'
    )
    yield text(LEFT + 22, y, f"behind an alarm: {weeks} of {len(found.weeks)} weeks ({budget})", fill=SOFT)


def main() -> int:
    """Replay, print the figures, and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--figure", type=Path)
    parser.add_argument("--json", type=Path, help="keep the figures there as well")
    given = parser.parse_args()
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        found = replay(folder)
    print(f"ROC AUC in the test {found.tested[0]:.4f} ({found.tested[1]:.4f} to {found.tested[2]:.4f})")
    for month in found.months:
        print(
            f"  {month.start[:7]}  {month.rows:>6,} flights  estimated {month.estimated[0]:.4f}  "
            f"realised {month.realised[0]:.4f} ({month.realised[1]:.4f} to {month.realised[2]:.4f})"
            f"{'  below the limit' if month.alarm else ''}"
        )
    for week in found.weeks:
        alarm = f"ALARM: {', '.join(week.alarmed)}" if week.alarmed else "no alarm"
        print(f"  week to {week.end}  {week.rows:>6,} rows  {alarm}")
    print(f"{said(found)}  ({time.perf_counter() - started:.0f} s)")
    if given.json:
        given.json.write_text(json.dumps(asdict(found), indent=1))
    if given.figure:
        given.figure.write_text(drawn(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
