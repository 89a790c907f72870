"""Does a model keep to its budget of false alarms, and what would it see? Asked of its own reference.

The reference is split at random into halves; detectors are fitted on one, and windows drawn from the other, without
putting rows back. So reference and window are samples of the same thing, and every alarm is a false one. This is done
with several splits, as the windows of one split have their half in common. Power is asked of the same windows, with one
feature changed at a time by as little as is seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.errors import UsageError
from engine.monitor.budget import Method, judge
from engine.plugins import Detector, DriftVerdict, Feature, FittedDetector, OnlineDetector

if TYPE_CHECKING:
    IntArray = np.ndarray[Any, np.dtype[np.int64]]

CONFIDENCE = 0.95
POWER = 0.8
LARGEST: Mapping[str, float] = {"numeric": 4.0, "categorical": 1.0}
STEPS = 9
LEAST_ROWS = 100
ROWS_OF_A_STREAM = 20_000
RUNS = 10
FROM_OTHER = 0.5**0.5


@runtime_checkable
class Divisible(Protocol):
    """A fitted detector that can be asked about some of its features alone."""

    def only(self, features: Sequence[str]) -> FittedDetector:
        """The same tests, of these features."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """What is asked.

    Attributes:
        rows: of a window.
        alpha: of a window; ``None`` at each detector's own threshold.
        windows: how many are drawn for the rate of false alarms.
        splits: into how many pairs of halves they are drawn from.
        powered: how many windows tell the power; 0 to leave it out.
    """

    rows: int
    alpha: float | None
    windows: int = 1000
    splits: int = 10
    powered: int = 40
    seed: int = 0
    method: Method = "holm"


@dataclass(frozen=True, kw_only=True, slots=True)
class Rate:
    """How many of ``windows`` without a change alarmed, and the interval of the rate (Clopper and Pearson, 95 %)."""

    windows: int
    alarms: int
    low: float
    high: float

    @property
    def rate(self) -> float:
        """Alarms a window."""
        return self.alarms / max(self.windows, 1)

    def keeps(self, alpha: float) -> bool:
        """Whether what was counted does not speak for more alarms than ``alpha`` allows."""
        return self.low <= alpha


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """The run length of an online detector without a change: rows by alarms, and its interval (Poisson, 95 %)."""

    detector: str
    ert: float
    rows: int
    alarms: int
    low: float
    high: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Power:
    """The smallest change of one feature that is seen with 80 %; ``None`` when not even the largest is.

    ``unit`` is ``deviations`` that all values are shifted by, or the ``share`` of rows that turn into the most frequent
    category.
    """

    feature: str
    unit: Literal["deviations", "share"]
    smallest: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibration:
    """What was found out."""

    question: Question
    rate: Rate
    runs: tuple[Run, ...]
    power: tuple[Power, ...]

    @property
    def kept(self) -> bool:
        """Whether the budget is kept, as far as so many windows can tell."""
        runs = all(run.high >= run.ert for run in self.runs)
        return runs and (self.question.alpha is None or self.rate.keeps(self.question.alpha))


def calibrate(
    detectors: Mapping[str, Detector],
    reference: pa.Table,
    features: Sequence[Feature],
    question: Question,
    tell: Callable[[int], None] = lambda _: None,
) -> Calibration:
    """Ask the reference whether the budget is kept, and what would be seen.

    Args:
        tell: is told how many more rows were looked at.

    Raises:
        UsageError: when the reference has too few rows for windows of that size.
        PluginFailed: for what a detector does not accept.
    """
    half = reference.num_rows // 2
    if half < max(question.rows, LEAST_ROWS):
        fact = f"the reference has {reference.num_rows:,} rows: halves of it have no windows of {question.rows:,}"
        raise UsageError(fact, hint=f"give smaller windows, of at most {half:,} rows")
    alarms, counted = 0, 0
    power: dict[str, list[float]] = {feature.name: [] for feature in features}
    streams: dict[str, list[tuple[int, int]]] = {}
    random = np.random.default_rng(question.seed)
    for split in range(question.splits):
        order = random.permutation(reference.num_rows)
        known, other = reference.take(pa.array(order[:half])), reference.take(pa.array(order[half:]))
        fitted = {name: item.fit(known, features, question.seed + split) for name, item in detectors.items()}
        batch = {name: item for name, item in fitted.items() if not isinstance(item, OnlineDetector)}
        for name, item in fitted.items():
            if isinstance(item, OnlineDetector):
                streams.setdefault(name, []).append(ran(item, known, other, random, tell))
        many = part(question.windows, question.splits, split) if batch else 0
        for window in drawn(other, question.rows, many, random):
            alarms += judge(verdicts_of(batch, window), question.alpha, question.method) is not None
            counted += 1
            tell(window.num_rows)
        several = part(question.powered, question.splits, split) if batch else 0
        for window in drawn(other, question.rows, several, random):
            for name, smallest in seen_from(batch, window, known, features, question, random).items():
                power[name].append(smallest)
            tell(window.num_rows)
    return Calibration(
        question=question,
        rate=rate_of(alarms, counted),
        runs=tuple(run_of(name, detectors[name], found) for name, found in streams.items()),
        power=tuple(power_of(feature, power[feature.name]) for feature in features if power[feature.name]),
    )


def part(whole: int, parts: int, index: int) -> int:
    """The size of one of ``parts`` of a whole, as even as can be."""
    return whole // parts + (index < whole % parts)


def drawn(table: pa.Table, rows: int, many: int, random: np.random.Generator) -> Iterator[pa.Table]:
    """Windows of so many rows of a table, none of them twice in a window."""
    for _ in range(many):
        yield table.take(pa.array(random.choice(table.num_rows, rows, replace=False)))


def verdicts_of(detectors: Mapping[str, FittedDetector], window: pa.Table) -> dict[str, DriftVerdict]:
    """What each detector says of a window."""
    return {name: detector.predict(window) for name, detector in detectors.items()}


def rate_of(alarms: int, windows: int) -> Rate:
    """A rate with its exact interval."""
    from scipy import stats  # it takes seconds, and is needed when all windows are counted

    if windows == 0:
        return Rate(windows=0, alarms=0, low=0.0, high=1.0)
    found = stats.binomtest(alarms, windows).proportion_ci(CONFIDENCE, method="exact")
    return Rate(windows=windows, alarms=alarms, low=float(found.low), high=float(found.high))


# -- online ------------------------------------------------------------------------------------------------------------


def ran(
    detector: OnlineDetector,
    own: pa.Table,
    other: pa.Table,
    random: np.random.Generator,
    tell: Callable[[int], None],
) -> tuple[int, int]:
    """The rows of a stream without a change, and the alarms in it.

    A stream is long, so it matters by how much the mean of what it is drawn from is off the detector's own half. Both
    halves are samples, so the other one is off by the root of 2 times what a population would be: each row is drawn
    from it with probability 1 / root of 2, and else from the detector's own, which puts that right.
    """
    rows = pa.concat_tables([own, other])
    ert = float(str(detector.state()[0].get("ert", rows.num_rows)))
    total, alarms, stream = int(RUNS * ert), 0, detector.begin()
    for start in range(0, total, ROWS_OF_A_STREAM):
        many = min(ROWS_OF_A_STREAM, total - start)
        drawn_rows = random.integers(0, own.num_rows, many)
        from_other = random.random(many) < FROM_OTHER
        drawn_rows[from_other] = own.num_rows + random.integers(0, other.num_rows, int(from_other.sum()))
        stream, verdict = detector.update(stream, rows.take(pa.array(drawn_rows)))
        alarms += len(verdict.at)
        tell(many)
    return total, alarms


def run_of(name: str, detector: Detector, found: Sequence[tuple[int, int]]) -> Run:
    """The run length over all streams."""
    from scipy import stats

    rows, alarms = sum(rows for rows, _ in found), sum(alarms for _, alarms in found)
    most = stats.chi2.ppf((1 + CONFIDENCE) / 2, 2 * (alarms + 1)) / 2
    least = stats.chi2.ppf((1 - CONFIDENCE) / 2, 2 * alarms) / 2 if alarms else 0.0
    return Run(
        detector=name,
        ert=float(getattr(detector, "ert", rows)),
        rows=rows,
        alarms=alarms,
        low=rows / float(most),
        high=rows / float(least) if least else float("inf"),
    )


# -- power -------------------------------------------------------------------------------------------------------------


def seen_from(
    detectors: Mapping[str, FittedDetector],
    window: pa.Table,
    reference: pa.Table,
    features: Sequence[Feature],
    question: Question,
    random: np.random.Generator,
) -> dict[str, float]:
    """From which size on a change of each feature is seen in this window, by halving; infinite when it is not."""
    without = verdicts_of(detectors, window)
    order = random.permutation(window.num_rows)
    found = {}
    for feature in features:
        looking = [name for name in detectors if watches(without[name], feature)]
        asked = {name: narrowed(detectors[name], feature.name) for name in looking}

        def shows(size: float, feature: Feature = feature, asked: Mapping[str, FittedDetector] = asked) -> bool:
            return is_seen(asked, without, changed(window, reference, feature, size, order), feature, question)

        found[feature.name] = least_seen(shows, LARGEST[feature.role]) if asked else float("inf")
    return found


def least_seen(shows: Callable[[float], bool], largest: float) -> float:
    """The smallest size that shows, by halving; infinite when not even the largest does."""
    if not shows(largest):
        return float("inf")
    low, high = 0.0, largest
    for _ in range(STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if shows(middle) else (middle, high)
    return high


def watches(verdict: DriftVerdict, feature: Feature) -> bool:
    """Whether a detector looks at a feature, alone or with all."""
    return feature.name in verdict.p_val or "*" in verdict.p_val


def narrowed(detector: FittedDetector, feature: str) -> FittedDetector:
    """A detector of one feature only, where it can be asked alone: that is quicker."""
    return detector.only([feature]) if isinstance(detector, Divisible) else detector


def is_seen(
    asked: Mapping[str, FittedDetector],
    without: Mapping[str, DriftVerdict],
    window: pa.Table,
    feature: Feature,
    question: Question,
) -> bool:
    """Whether a window in which one feature was changed raises an alarm that names it, or the whole row."""
    verdicts = dict(without)
    for name, detector in asked.items():
        found = detector.predict(window)
        before = without[name]
        own = tuple(item for item in found.drifted if item in (feature.name, "*"))
        verdicts[name] = replace(
            before,
            p_val={**before.p_val, **found.p_val},
            distance={**before.distance, **found.distance},
            drifted=tuple(dict.fromkeys([*before.drifted, *own])),
        )
    alarm = judge(verdicts, question.alpha, question.method)
    return alarm is not None and any(item.feature in (feature.name, "*") for item in alarm.features)


def changed(window: pa.Table, reference: pa.Table, feature: Feature, size: float, order: IntArray) -> pa.Table:
    """A window in which a feature was changed.

    Args:
        size: standard deviations that every value is shifted by, or the share of rows, the first of ``order``, that
            turn into the reference's most frequent category.
    """
    at = window.column_names.index(feature.name)
    column = window.column(at)
    if feature.role == "numeric":
        values = column.cast(pa.float64())
        known = reference.column(feature.name).cast(pa.float64()).drop_null().to_numpy()
        return window.set_column(at, feature.name, pc.add(values, size * float(np.nanstd(known))))
    column = column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column
    turned = np.zeros(window.num_rows, bool)
    turned[order[: round(size * window.num_rows)]] = True
    counts = pc.value_counts(reference.column(feature.name).drop_null())
    often = max(counts.to_pylist(), key=lambda item: (item["counts"], str(item["values"])))["values"]
    filled = pc.if_else(pa.array(turned), pa.scalar(often).cast(column.type), column)
    return window.set_column(at, feature.name, filled)


def power_of(feature: Feature, smallest: Sequence[float]) -> Power:
    """The change that 80 % of the windows show."""
    found = float(np.quantile(smallest, POWER, method="higher"))
    unit: Literal["deviations", "share"] = "deviations" if feature.role == "numeric" else "share"
    return Power(feature=feature.name, unit=unit, smallest=found if np.isfinite(found) else None)
