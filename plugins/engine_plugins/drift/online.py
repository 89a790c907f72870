"""Detector ``cusum``: looks at each row as it comes, and alarms without a change once in ``ert`` rows.

Each row becomes a few scores of mean 0 and variance 1 in the reference: of a number its rank there, and how far that
is from the middle; of a category whether it is this one. The mean of ``every`` rows is a tick. A chart (Page, 1954,
Biometrika 41:100) adds up what ticks are above an allowance and never falls below 0; when any chart passes the limit
that is an alarm, and all begin anew. The limit is found by simulating streams of rows of the reference.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from engine.plugins import Count, DriftVerdict, Feature, PluginFailed
from engine_plugins.drift.columns import (
    FloatArray,
    SingleArray,
    categories,
    chosen,
    codes,
    described,
    require_seen,
    restored,
    sampled,
    singles,
    with_holes,
)
from engine_plugins.drift.null import rounded

ALLOWANCE = 0.25
MOST_CATEGORIES = 8
RAREST = 0.02
MOST_TICKS = 20_000
STREAMS = (400, 2_000)
WORK = 4_000_000
POOL = 20_000
LEAST_TICKS = 20
PARTS = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class Scored:
    """How a feature's values become scores, (rows, scores); a missing value scores 0.

    ``ordered`` is the sorted reference of a numeric one, ``cells`` are the categories of another with a score of their
    own. ``shift`` and ``scale`` make the reference's scores of mean 0 and variance 1.
    """

    feature: Feature
    ordered: SingleArray | None
    cells: tuple[str, ...]
    shift: FloatArray
    scale: FloatArray

    def raw(self, rows: pa.Table) -> tuple[FloatArray, FloatArray]:
        """Scores before they are scaled, and whether there is a value at all, (rows, 1)."""
        if self.ordered is None:
            at = codes(rows, self.feature, self.cells)
            found = np.arange(len(self.cells) + 1) == at[:, None]
            return found.astype(float), (at >= 0)[:, None].astype(float)
        values = with_holes(rows, self.feature)
        ranks = np.searchsorted(self.ordered, values, "left") + np.searchsorted(self.ordered, values, "right")
        middle = ranks / (2 * len(self.ordered)) - 0.5
        return np.column_stack([middle, middle**2]), (~np.isnan(values))[:, None].astype(float)

    def scores(self, rows: pa.Table) -> FloatArray:
        """The scores of rows."""
        raw, there = self.raw(rows)
        return np.asarray((raw - self.shift) * self.scale * there)

    @property
    def signs(self) -> tuple[tuple[int, float], ...]:
        """The charts on the scores: each up and down, of categories only up, as another one goes up when one falls."""
        directions = (1.0, -1.0) if self.ordered is not None else (1.0,)
        return tuple((score, sign) for score in range(len(self.shift)) for sign in directions)


@dataclass(frozen=True, kw_only=True, slots=True)
class RankSumDetector:
    """A fitted detector: the scores of each feature and the limit of all charts."""

    scored: tuple[Scored, ...]
    parameters: Mapping[str, Any]
    reference: pa.Table
    columns: tuple[int, ...]
    signs: tuple[float, ...]
    owners: tuple[str, ...]

    def begin(self) -> dict[str, object]:
        """A stream before its first row."""
        return {"rows": 0, "pending": [], "sums": [0.0] * len(self.signs)}

    def update(self, stream: Mapping[str, Any], rows: pa.Table) -> tuple[dict[str, object], DriftVerdict]:
        """Add the next rows.

        The verdict has no p-values: ``distance`` is the highest that a feature's charts were at in these rows, and
        ``threshold`` the limit.

        Raises:
            PluginFailed: when the rows lack a feature, or have it as another type.
        """
        every, limit = int(self.parameters["every"]), float(self.parameters["limit"])
        scores = np.concatenate([np.array(stream["pending"]).reshape(-1, self.width), self.scores(rows)])
        whole = len(scores) // every
        ticks = charted(scores[: whole * every], every, self.columns, self.signs)
        sums, highest = np.array(stream["sums"]), np.zeros(len(self.signs))
        before = int(stream["rows"]) - len(stream["pending"])
        at, drifted = [], dict[str, None]()
        for index, tick in enumerate(ticks, 1):
            sums = np.maximum(sums + tick, 0.0)
            highest = np.maximum(highest, sums)
            if sums.max() > limit:
                at.append(before + index * every)
                drifted |= dict.fromkeys(self.owners[chart] for chart in np.argsort(-sums) if sums[chart] > limit)
                sums = np.zeros_like(sums)
        following = {
            "rows": int(stream["rows"]) + rows.num_rows,
            "pending": scores[whole * every :].tolist(),
            "sums": sums.tolist(),
        }
        distance = {item.feature.name: 0.0 for item in self.scored}
        for owner, value in zip(self.owners, highest.tolist(), strict=True):
            distance[owner] = max(distance[owner], value)
        verdict = DriftVerdict(
            drift=bool(at),
            threshold=limit,
            p_val={},
            distance=distance,
            drifted=tuple(drifted),
            rows=rows.num_rows,
            at=tuple(at),
        )
        return following, verdict

    @property
    def width(self) -> int:
        """How many scores a row has."""
        return sum(len(item.shift) for item in self.scored)

    def scores(self, rows: pa.Table) -> FloatArray:
        """The scores of all features, (rows, width)."""
        return np.concatenate([item.scores(rows) for item in self.scored], axis=1)

    def predict(self, window: pa.Table) -> DriftVerdict:
        """The verdict on a window as a stream of its own."""
        return self.update(self.begin(), window)[1]

    def state(self) -> tuple[dict[str, object], pa.Table]:
        """Parameters with the limit as JSON, and the reference rows of the watched features."""
        return dict(self.parameters), self.reference


@dataclass(frozen=True, kw_only=True, slots=True)
class RankSums:
    """Cumulative sums of ranks and of categories, row by row, with a known rate of false alarms.

    ``ert``: the expected run time, in rows, between false alarms over all features together. ``every``: rows of a
    tick, else 10, or more where ``ert`` is above 200,000. ``features``: which ones, else all; of a categorical one the
    8 most frequent categories are looked at, the others together. ``reference_rows``: of a longer reference so many
    are drawn. The limit is simulated when the detector is fitted, by the run's seed.
    """

    roles = ("numeric", "categorical")
    least_rows = 1
    online = True

    ert: Count = 10_000
    every: Count | None = None
    features: list[str] | None = None
    reference_rows: Count = 50_000

    def __post_init__(self) -> None:
        """Raises: PluginFailed, for a value out of its range."""
        for name, value in (("ert", self.ert), ("every", self.every), ("reference_rows", self.reference_rows)):
            if value is not None and value < 1:
                raise PluginFailed(f"{name} is {value}", hint="give at least 1", key=f"with.{name}")
        if self.ert < LEAST_TICKS * self.tick:
            hint = f"give at least {LEAST_TICKS} times `every`: a chart needs time to rise"
            raise PluginFailed(f"ert is {self.ert}, and a tick is {self.tick} rows", hint=hint, key="with.ert")

    @property
    def tick(self) -> int:
        """The rows of a tick."""
        return self.every or max(10, math.ceil(self.ert / MOST_TICKS))

    def fit(self, reference: pa.Table, features: Sequence[Feature], seed: int) -> RankSumDetector:
        """Find the limit at which streams of the reference's rows alarm once in ``ert`` rows.

        Raises:
            PluginFailed: for a feature that is not there or without values.
        """
        watched = chosen(features, self.features)
        kept = sampled(reference, watched, self.reference_rows, seed)
        given = {"ert": self.ert, "every": self.tick, "features": described(watched)}
        free = self.restore({**given, "limit": math.inf}, kept)
        limit = limit_of(free.scores(kept), free.columns, free.signs, self.tick, self.ert / self.tick, seed)
        return self.restore({**given, "limit": limit}, kept)

    def restore(self, parameters: Mapping[str, Any], reference: pa.Table) -> RankSumDetector:
        """The detector whose state this is; the same limit."""
        scored = tuple(scored_by(feature, reference) for feature in restored(parameters))
        charts, start = [], 0
        for item in scored:
            charts += [(start + score, sign, item.feature.name) for score, sign in item.signs]
            start += len(item.shift)
        columns, signs, owners = zip(*charts, strict=True)
        return RankSumDetector(
            scored=scored, parameters=parameters, reference=reference, columns=columns, signs=signs, owners=owners
        )


def scored_by(feature: Feature, reference: pa.Table) -> Scored:
    """How a feature is scored by its reference.

    Raises:
        PluginFailed: when the reference has no value.
    """
    ordered: SingleArray | None = None
    cells: tuple[str, ...] = ()
    width = 2
    if feature.role == "numeric":
        ordered = np.sort(singles(reference, feature))
        require_seen(feature, len(ordered))
    else:
        cells = frequent(reference, feature)
        width = len(cells) + 1
    plain = Scored(feature=feature, ordered=ordered, cells=cells, shift=np.zeros(width), scale=np.ones(width))
    raw, there = plain.raw(reference)
    known = raw[there[:, 0] > 0]
    spread = known.std(axis=0)
    scale = np.divide(1.0, spread, out=np.zeros_like(spread), where=spread > 0)
    rare = 1 / math.sqrt(RAREST)  # nothing was seen in a cell: a row there counts as if a few had been
    scale[spread == 0] = 0.0 if feature.role == "numeric" else rare
    return Scored(feature=feature, ordered=ordered, cells=cells, shift=known.mean(axis=0), scale=scale)


def frequent(reference: pa.Table, feature: Feature) -> tuple[str, ...]:
    """The most frequent categories of a feature, each of at least 2 % of its rows.

    Raises:
        PluginFailed: when the reference has no value.
    """
    counts = categories(reference, feature)
    total = sum(counts.values())
    require_seen(feature, total)
    often = sorted(counts, key=lambda name: (-counts[name], name))[:MOST_CATEGORIES]
    return tuple(name for name in often if counts[name] >= RAREST * total)


def charted(scores: FloatArray, every: int, columns: Sequence[int], signs: Sequence[float]) -> FloatArray:
    """What each tick adds to each chart, (ticks, charts): the scaled mean of its rows, less the allowance."""
    sums = scores.reshape(-1, every, scores.shape[1]).sum(axis=1) / math.sqrt(every)
    return np.asarray(sums[:, list(columns)] * np.array(signs) - ALLOWANCE)


def limit_of(
    scores: FloatArray, columns: Sequence[int], signs: Sequence[float], every: int, ticks: float, seed: int
) -> float:
    """The limit that streams of the reference's rows pass once in so many ``ticks``.

    Many streams run for ``ticks``. Alarms without a change have no memory but for the start, so the mean time to one is
    the time of all streams until theirs, or their end, by the number of alarms (the estimate for censored exponential
    times). It grows with the limit, which is found by halving. The reference is a sample: each stream is off from it in
    the mean of its scores by as much as another sample of that size would be.
    """
    random = np.random.default_rng(seed)
    pool = charted(scores[random.integers(0, len(scores), POOL * every)], every, columns, signs)
    length = math.ceil(ticks)
    streams = int(np.clip(WORK // length, *STREAMS))
    drawn = pool[random.integers(0, len(pool), (streams, PARTS))].sum(axis=1) - PARTS * pool.mean(axis=0)
    shifts = drawn * math.sqrt(every / len(scores) / PARTS)
    sums, highest = np.zeros((streams, len(signs))), np.zeros((length, streams), np.float32)
    for tick in range(length):
        sums += pool[random.integers(0, len(pool), streams)] + shifts
        np.maximum(sums, 0.0, out=sums)
        highest[tick] = sums.max(axis=1)
    np.maximum.accumulate(highest, axis=0, out=highest)
    low, high = 0.0, float(highest.max())
    for _ in range(40):
        middle = (low + high) / 2
        passed = np.sum(highest <= middle, axis=0)
        alarms = np.count_nonzero(passed < length)
        time = float(np.sum(np.minimum(passed + 1, length)))
        low, high = (low, middle) if alarms == 0 or time / alarms > ticks else (middle, high)
    return rounded(high)
