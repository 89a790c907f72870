"""A model in production as one HTML file that opens offline: no script, no font, picture or style from elsewhere.

The template escapes everything but the plots, which escape their own text. A content security policy in the page
forbids it to load or run anything.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.monitor.windows import MONTH
from engine.observe.timeline import Alert, DataCommit, Lane, Timeline
from engine.report import words
from engine.report.clean import terminal
from engine.report.html import Figure, figure
from engine.report.monitor_plots import by_feature, day, evidence, feature_plot, metric_line, time_line

TEMPLATE = "monitor.html.j2"
MOST_METRICS = 6
MOST_FEATURES = 12
MOST_ALARMS = 50
MOST_COMMITS = 30
ENOUGH = 3
Row = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Tile:
    """A metric in the last window in which it is known."""

    name: str
    value: str
    interval: str
    note: str
    mark: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """A row of the table: one metric of one version in one window, tested, estimated and measured."""

    window: str
    version: int
    metric: str
    test: str
    estimated: str
    live: str
    interval: str
    labelled: str
    data: str
    code: str
    alarm: bool


def page(line: Timeline) -> str:
    """The history as HTML: time line, metrics over time, drift by feature, alarms, versions with their data."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # only who asks for a report needs it

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: terminal(value) if type(value) is str else value,
    )
    shown = [row for row in line.figures if not row["slice"]]
    features = drifting(line)
    return environment.get_template(TEMPLATE).render(
        line=line,
        words=words,
        day=day,
        verdict=verdict(line),
        tiles=list(tiles(line, shown)),
        over_time=figure(time_line(line), "", ""),
        metrics=list(metrics(line, shown)),
        features=features[:MOST_FEATURES],
        further=features[MOST_FEATURES:],
        beside=line.beside[0] if line.beside else None,
        alerts=line.alerts[::-1][:MOST_ALARMS],
        commits=commits(line)[:MOST_COMMITS],
        lanes=line.lanes[::-1],
        lines=list(lines(line, shown)),
        where=where,
        answered=answered,
    )


def verdict(line: Timeline) -> tuple[str, str, str]:
    """The class of the page's head, its word, and what it rests on: the alarms of the last version that answered."""
    lanes = [lane for lane in line.lanes if any(span.alias == line.alias for span in lane.spans)]
    if not lanes:
        return "refused", "NOT ASKED YET", "no predictions are logged"
    last = max(lanes, key=lambda lane: max(span.end for span in lane.spans if span.alias == line.alias))
    own = [item for item in line.alerts if item.version == last.version and item.alias == line.alias]
    about = f"version {last.version} as {line.alias}"
    if own:
        return "failed", words.plural(len(own), "ALARM").upper(), f"of {about}, the last on {day(own[-1].moment)}"
    return "passed", "NO ALARM", f"of {about}"


def where(alert: Alert) -> str:
    """The stream that an alarm is of."""
    return f"v{alert.version}@{alert.alias}{f'[{alert.slice}]' if alert.slice else ''}"


def answered(lane: Lane) -> int:
    """How many rows a version was asked."""
    return sum(span.rows for span in lane.spans)


def commits(line: Timeline) -> Sequence[DataCommit]:
    """The commits of data, the newest first, those that a version learned from before all others."""
    return sorted(line.commits, key=lambda item: (bool(item.versions), item.moment), reverse=True)


# -- figures ---------------------------------------------------------------------------------------------------------


def names_of(rows: Sequence[Row]) -> list[str]:
    """The metrics of models among some figures."""
    found = [row["metric"] for row in rows if row["kind"] in ("test", "live", "estimated")]
    measured = {row["metric"] for row in rows if row["kind"] in ("live", "estimated")}
    return [name for name in dict.fromkeys(found) if name != "coverage" and (name in measured or not measured)]


def window_of(rows: Sequence[Row]) -> str:
    """The size of windows that a metric is shown by: months if they are enough, else the size with the most."""
    counts: dict[str, set[Any]] = {}
    for row in rows:
        if row["kind"] in ("live", "estimated"):
            counts.setdefault(row["window"], set()).add(row["window_start"])
    if len(counts.get(MONTH, ())) >= ENOUGH or not counts:
        return MONTH
    return max(counts, key=lambda name: (len(counts[name]), name == MONTH))


def chosen(metric: str, line: Timeline, rows: Sequence[Row]) -> list[Row]:
    """A metric's figures of one size of window under the alias that is shown, and those of the tests."""
    own = [row for row in rows if row["metric"] == metric and (row["kind"] == "test" or row["alias"] == line.alias)]
    size = window_of(own)
    return [row for row in own if row["kind"] == "test" or row["window"] == size]


def metrics(line: Timeline, rows: Sequence[Row]) -> Iterator[Figure]:
    """A plot a metric."""
    for name in names_of(rows)[:MOST_METRICS]:
        own = chosen(name, line, rows)
        errors = [row["error"] for row in own if row["error"] is not None]
        said = f"by windows of {window_of(own)}" if window_of(own) != MONTH else "by calendar month"
        if errors:
            said += f"; estimates were {sum(map(abs, errors)) / len(errors):.4f} from the measured value on average"
        yield figure(metric_line(name, line, own), name, said)


def tiles(line: Timeline, rows: Sequence[Row]) -> Iterator[Tile]:
    """Each metric as it was measured, else estimated, last; beside the test of that version."""
    for name in names_of(rows)[:MOST_METRICS]:
        own = chosen(name, line, rows)
        known = [row for row in own if row["kind"] == "live" and row["value"] is not None]
        known = known or [row for row in own if row["kind"] == "estimated"] or own
        last = max(known, key=lambda row: (row["window_end"] is not None, row["window_end"] or 0, row["version"]))
        tested = next((row for row in own if row["kind"] == "test" and row["version"] == last["version"]), None)
        kind = {"live": "measured", "estimated": "estimated, no labels yet", "test": "test"}[last["kind"]]
        month = f" {last['window_start']:%b %Y}" if last["window"] == MONTH and last["window_start"] else ""
        note = f"{kind}{month}, v{last['version']}"
        if tested is not None and last["kind"] != "test":
            note += f"; test {words.figure(tested['value'])}"
        yield Tile(
            name=name,
            value=words.figure(last["value"]),
            interval=between(last),
            note=note,
            mark="refuse" if last["alarm"] else "",
        )


def between(row: Row | None) -> str:
    """A figure's interval."""
    return "" if row is None or row["low"] is None else words.between((row["low"], row["high"]))


def lines(line: Timeline, rows: Sequence[Row]) -> Iterator[Line]:
    """The table behind the plots, the newest window first."""
    tests = {(row["version"], row["metric"]): row for row in rows if row["kind"] == "test"}
    groups: dict[tuple[Any, ...], dict[str, Row]] = {}
    for name in names_of(rows):
        for row in chosen(name, line, rows):
            if row["kind"] in ("live", "estimated"):
                key = (row["window_start"], row["version"], row["metric"])
                groups.setdefault(key, {})[row["kind"]] = row
    for (start, version, metric), found in sorted(groups.items(), reverse=True):
        live, some = found.get("live"), found.get("live") or found["estimated"]
        yield Line(
            window=f"{start:%Y-%m-%d}",
            version=version,
            metric=metric,
            test=words.figure(tests[version, metric]["value"]) if (version, metric) in tests else words.NONE,
            estimated=words.figure(found["estimated"]["value"]) if "estimated" in found else words.NONE,
            live=words.figure(live["value"]) if live else words.NONE,
            interval=between(live),
            labelled=f"{live['n'] / live['rows'] if live else 0:.0%} of {some['rows']:,}",
            data=some["train_commit"] or some["train_digest"],
            code=some["code_commit"] or some["code_digest"],
            alarm=bool(live and live["alarm"]),
        )


def drifting(line: Timeline) -> list[Figure]:
    """A plot a feature: those with alarms first, then those that are nearest to one."""
    tests = by_feature(line.figures, line.alias)
    found = {name: item for one in line.beside for name, item in one.distributions.items()}
    order = sorted(found, key=lambda name: evidence(tests[name]) if tests.get(name) else (-1, 0.0), reverse=True)
    return [feature_figure(name, line, tests.get(name, []), found) for name in order]


def feature_figure(name: str, line: Timeline, tests: Sequence[Row], found: Mapping[str, Any]) -> Figure:
    """A feature's plot and what to read in it."""
    alarms = sum(bool(row["alarm"]) for row in tests)
    item = found[name]
    parts = []
    if item.reference_mean is not None and item.window_mean is not None:
        parts.append(f"mean {words.figure(item.reference_mean)} \u2192 {words.figure(item.window_mean)}")
    if item.reference_missing or item.window_missing:
        parts.append(f"missing {item.reference_missing:.1%} \u2192 {item.window_missing:.1%}")
    if tests:
        parts.append(f"{alarms} of {words.plural(len(tests), 'window')} with an alarm")
    return figure(feature_plot(item, line, tests), name, "; ".join(parts))
