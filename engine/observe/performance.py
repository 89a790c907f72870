"""How good a model is on what it is asked: estimated before labels come, measured afterwards, beside its test.

::

    rows of the log --cut--> windows --scores--> CBPE ------------> estimated
          labels ----------> joined ---judged--> metrics, intervals -> live      both beside the test of the same run

Metrics and intervals are those of :mod:`engine.steps.metrics` and :mod:`engine.steps.intervals`: a live figure and a
test figure of the same name mean the same.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa

from engine.monitor.estimate import (
    METHOD,
    Calibrator,
    Estimated,
    Expected,
    calibrator,
    estimated,
    estimated_of_classes,
    scaled,
)
from engine.monitor.labels import Coverage, Labels, joined, truths
from engine.monitor.model import Figure, Raised, Stream, Window
from engine.monitor.reading import times_of
from engine.monitor.windows import MONTH, Size, micros, moment_at, size_of, span_at
from engine.observe.check import window_of
from engine.observe.drift import alarm_id, alarm_key
from engine.observe.subject import FloatArray, Subject, inputs_of, scores_of
from engine.steps.metrics import Judged

MEASURED = ("binary", "multiclass", "regression", "quantile")
"""The tasks whose labels are one value a row, as the feedback route takes them."""
FEWEST = 30
"""A limit is judged once so many rows of a window have a label, and at least half of them do."""
ENOUGH = 0.5
CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """A window of a stream with its rows, and those of them that have a label."""

    stream: Stream
    window: Window
    rows: pa.Table
    labelled: pa.Table
    coverage: Coverage


def test_figures(subject: Subject) -> Iterator[Figure]:
    """The metrics of the run's test, with their intervals; of slices too."""
    stream = Stream(model=subject.name, version=subject.version.version, alias="")
    method = "test"
    for name, found in subject.evaluation["metrics"].items():
        yield Figure(
            stream=stream, kind="test", metric=name, window=None, n=int(found["rows"]), value=found["value"],
            low=found["low"], high=found["high"], confidence=found["confidence"], method=found["method"] or method,
        )  # fmt: skip
    for column, parts in (subject.evaluation.get("slices") or {}).items():
        for part in parts:
            for name, value in part["metrics"].items():
                low, high = part["intervals"].get(name) or (None, None)
                yield Figure(
                    stream=replace(stream, slice=f"{column}={part['value']}"), kind="test", metric=name, window=None,
                    n=int(part["rows"]), value=value, low=low, high=high, confidence=CONFIDENCE, method=method,
                )  # fmt: skip


# -- windows of a stream -----------------------------------------------------------------------------------------------


def cut(rows: pa.Table, size: Size) -> Iterator[tuple[Window, pa.Table]]:
    """A stream's rows, in their order, as windows one after the other. The last of so many rows may have fewer."""
    if size.rows is not None:
        for start in range(0, rows.num_rows, size.rows):
            part = rows.slice(start, size.rows)
            window = window_of(part, size)
            assert window is not None
            yield window, part
        return
    times = times_of(rows)
    at = 0
    while at < len(times):
        first, end = span_at(size, moment_at(int(times[at])))
        stop = int(np.searchsorted(times, micros(end), side="left"))
        yield Window(size=str(size), start=first, end=end, rows=stop - at), rows.slice(at, stop - at)
        at = stop


def sizes_of(subject: Subject) -> tuple[Size, ...]:
    """The windows that live figures are of: calendar months, and those of the spec's limits."""
    written = [size_of(item["window"]) for item in subject.limits]
    return tuple(dict.fromkeys([size_of(MONTH), *written]))


def part_of(stream: Stream, window: Window, rows: pa.Table, labels: Labels) -> Part:
    """A window with the labels that are known of it."""
    labelled, coverage = joined(rows, labels)
    return Part(stream=stream, window=window, rows=rows, labelled=labelled, coverage=coverage)


# -- what is true ----------------------------------------------------------------------------------------------------


def judged_of(subject: Subject, labelled: pa.Table) -> Judged | None:
    """Labelled rows as metrics take them; nothing where the task has no single label a row, or no score was logged.

    Rows whose label the model's version cannot have, as after a change of the classes, are left out.
    """
    if subject.task not in MEASURED or labelled.num_rows == 0:
        return None
    scores = scores_of(labelled, subject.task)
    if scores is None:
        return None
    classes = subject.signature.get("classes")
    said = truths(labelled)
    if classes is not None:
        known = {json.dumps(item): index for index, item in enumerate(classes)}
        places = np.array([known.get(json.dumps(item), -1) for item in said], dtype=np.int64)
        kept = (places >= 0) & np.isfinite(scores.reshape(len(scores), -1)).all(axis=1)
        true, score = places[kept], scores[kept]
        label = (score > 0.5).astype(np.int64) if score.ndim == 1 else score.argmax(axis=1)
        return Judged(task=task_of(subject), true=true, label=label, score=score, classes=len(classes))
    numbers = np.array([value if isinstance(value, (int, float)) else np.nan for value in said], dtype=np.float64)
    kept = np.isfinite(numbers) & np.isfinite(scores.reshape(len(scores), -1)).all(axis=1)
    if subject.task == "quantile":
        levels = tuple(subject.signature["levels"])
        middle = int(np.argmin(np.abs(np.array(levels) - 0.5)))
        return Judged(
            task="quantile", true=numbers[kept], label=scores[kept][:, middle], score=scores[kept], levels=levels
        )
    return Judged(task="regression", true=numbers[kept], label=scores[kept], score=scores[kept])


def task_of(subject: Subject) -> Any:
    """The task, as metrics know it."""
    return subject.task


def live_figures(subject: Subject, part: Part) -> Iterator[Figure]:
    """The metrics of a window's labelled rows, and how many of its rows have a label."""
    from engine.steps.intervals import estimates

    yield Figure(
        stream=part.stream, kind="live", metric="coverage", window=part.window, n=part.coverage.rows,
        value=part.coverage.share, method="labelled rows",
    )  # fmt: skip
    judged = judged_of(subject, part.labelled)
    if judged is None or len(judged.true) == 0:
        return
    names = [name for name in subject.metrics if is_measured(name, subject)]
    for name, found in estimates(names, judged).items():
        limit, alarm = limited(subject, name, part.window, found.value, found.low, found.high)
        yield Figure(
            stream=part.stream, kind="live", metric=name, window=part.window, n=len(judged.true), value=found.value,
            low=found.low, high=found.high, confidence=CONFIDENCE, method=found.method or "", limit=limit,
            alarm=alarm and is_enough(part.coverage),
        )  # fmt: skip


def is_measured(name: str, subject: Subject) -> bool:
    """Whether a metric can be computed from labelled rows."""
    from engine.steps.metrics import is_for

    return is_for(name, task_of(subject))


def is_enough(coverage: Coverage) -> bool:
    """Whether enough labels have come for a limit to be judged."""
    return coverage.labelled >= FEWEST and coverage.share >= ENOUGH


def limited(
    subject: Subject, metric: str, window: Window, value: float | None, low: float | None, high: float | None
) -> tuple[float | None, bool]:
    """The limit that the spec sets for a metric in windows like this, and whether it is broken.

    It is when the whole interval lies beyond it: a value on the wrong side that may be chance is no alarm.
    """
    for item in subject.limits:
        if item["metric"] == metric and str(item["window"]) == window.size and value is not None:
            if item.get("min") is not None:
                return float(item["min"]), (high if high is not None else value) < item["min"]
            if item.get("max") is not None:
                return float(item["max"]), (low if low is not None else value) > item["max"]
    return None, False


def performance_alarms(figures: Sequence[Figure]) -> Iterator[Raised]:
    """An alarm for each live figure that is beyond its limit."""
    for figure in figures:
        if figure.kind == "live" and figure.alarm and figure.window is not None and figure.value is not None:
            way = "below" if figure.high is not None and figure.high < (figure.limit or 0.0) else "above"
            interval = f" ({figure.low:.4f} to {figure.high:.4f})" if None not in (figure.low, figure.high) else ""
            yield Raised(
                id=alarm_id(figure.stream, "performance", figure.window, figure.metric),
                key=alarm_key(figure.stream, "performance", [figure.metric]),
                stream=figure.stream,
                signal="performance",
                window=figure.window,
                text=f"{figure.metric} is {figure.value:.4f}{interval}, {way} {figure.limit:g}, on {figure.n:,} rows",
                features=(figure.metric,),
                detail={
                    "metric": figure.metric, "value": figure.value, "low": figure.low, "high": figure.high,
                    "limit": figure.limit, "rows": figure.n,
                },
            )  # fmt: skip


# -- what is probable ------------------------------------------------------------------------------------------------


@lru_cache(maxsize=256)
def calibrators(subject: Subject) -> tuple[Calibrator, ...]:
    """What makes probabilities of the model's scores, learned from its test; of several classes one for each.

    Empty where the test's rows were removed, or the model is no classifier.
    """
    tested = subject.tested
    if tested is None or subject.task not in ("binary", "multiclass"):
        return ()
    true = tested.column("true").to_numpy()
    if subject.task == "binary":
        return (calibrator(tested.column("score").to_numpy(), true),)
    count = len(subject.signature["classes"])
    return tuple(calibrator(tested.column(f"score.{k}").to_numpy(), (true == k).astype(np.int64)) for k in range(count))


def estimated_figures(subject: Subject, part: Part, live: Mapping[str, Figure]) -> Iterator[Figure]:
    """What the metrics of a window's rows probably are, without labels; beside what they were, where that is known.

    ``live`` are the measured figures by metric: where they are of the same rows, ``error`` is the difference.
    """
    found = calibrators(subject)
    scores = scores_of(part.rows, subject.task) if found else None
    if scores is None:
        return
    kept = scores[np.isfinite(scores.reshape(len(scores), -1)).all(axis=1)]
    for name in subject.metrics:
        value = estimate_of(name, kept, found)
        if value is None:
            continue
        measured = live.get(name)
        known = measured is not None and measured.value is not None and measured.n == len(kept)
        yield Figure(
            stream=part.stream, kind="estimated", metric=name, window=part.window, n=len(kept), value=value.value,
            low=value.low, high=value.high, confidence=CONFIDENCE if value.low is not None else None, method=METHOD,
            error=value.value - measured.value if known and measured and measured.value is not None else None,
        )  # fmt: skip


def estimate_of(name: str, scores: FloatArray, found: tuple[Calibrator, ...]) -> Estimated | None:
    """A metric in expectation."""
    if scores.ndim == 1:
        return estimated(name, Expected(score=scores, label=(scores > 0.5).astype(np.int64), p=found[0](scores)))
    p = scaled(np.stack([found[k](scores[:, k]) for k in range(scores.shape[1])], axis=1))
    return estimated_of_classes(name, scores, p)


# -- slices ----------------------------------------------------------------------------------------------------------


def sliced(subject: Subject, part: Part, labels: Labels) -> Iterator[Part]:
    """The parts of a window by the spec's slices, as far as the log has what they are made of."""
    from engine.errors import StepFailed
    from engine.steps.slices import memberships, parts, slice_of

    inputs = inputs_of(part.rows)
    for written in subject.spec["evaluate"]["slices"]:
        wanted = slice_of(written)
        if wanted["column"] is not None and wanted["column"] not in inputs.column_names:
            continue
        try:
            membership = memberships(inputs, [written])[wanted["name"]]
        except StepFailed:
            continue  # a condition on a column that is no input
        for value, mask in parts(membership, wanted):
            stream = replace(part.stream, slice=f"{wanted['name']}={value}")
            rows = part.rows.filter(pa.array(mask))
            yield part_of(stream, replace(part.window, rows=rows.num_rows), rows, labels)
