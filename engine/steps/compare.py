"""Is one model better than another on the same rows? The difference, and what can be said with confidence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm, rankdata

from engine.spec.vocabulary import limits_are_upper
from engine.steps.metrics import AnyArray, FloatArray, Judged, compute, rank_auc

RESAMPLES = 1000
BOOTSTRAP_SEED = 20130101


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """``ours`` against ``theirs`` on the same ``rows``.

    ``gain`` is how much better we are (positive is better, also for metrics of which less is better); with the
    confidence that was asked for, the true gain is at least ``bound``.
    """

    ours: float
    theirs: float
    gain: float
    bound: float
    rows: int
    method: str


def difference(metric: str, ours: Judged, theirs: Judged, confidence: float) -> Difference | None:
    """The one-sided, paired comparison of two models; ``None`` where the metric is not defined."""
    first, second = compute(metric, ours), compute(metric, theirs)
    if first is None or second is None:
        return None
    sign = -1.0 if limits_are_upper(metric) else 1.0
    gain = sign * (first - second)
    if metric == "roc_auc" and ours.task == "binary":
        error, method = delong_error(ours.true, ours.score, theirs.score), "DeLong"
        bound = gain - float(norm.ppf(confidence)) * error
    else:
        gains = sign * bootstrap(metric, ours, theirs)
        bound, method = float(np.quantile(gains, 1 - confidence)), "paired bootstrap"
    return Difference(ours=first, theirs=second, gain=gain, bound=bound, rows=len(ours.true), method=method)


def delong_error(true: AnyArray, ours: AnyArray, theirs: AnyArray) -> float:
    """The standard error of the difference of two ROC AUCs on the same rows.

    DeLong, DeLong and Clarke-Pearson (1988), Biometrics 44:837-845, with the mid-rank algorithm of Sun and Xu
    (2014), IEEE Signal Processing Letters 21:1389-1393.
    """
    positive = true == 1
    parts = [placements(positive, score) for score in (ours, theirs)]
    over_positives = np.cov(np.stack([part[0] for part in parts]))
    over_negatives = np.cov(np.stack([part[1] for part in parts]))
    covariance = over_positives / positive.sum() + over_negatives / (~positive).sum()
    contrast = np.array([1.0, -1.0])
    return float(np.sqrt(max(contrast @ covariance @ contrast, 0.0)))


def placements(positive: AnyArray, score: AnyArray) -> tuple[FloatArray, FloatArray]:
    """For each positive the share of negatives below it, and for each negative the share of positives above it."""
    ranks = rankdata(score)
    above, below = score[positive], score[~positive]
    first = (ranks[positive] - rankdata(above)) / len(below)
    second = 1 - (ranks[~positive] - rankdata(below)) / len(above)
    return first, second


def bootstrap(metric: str, ours: Judged, theirs: Judged) -> FloatArray:
    """The difference of a metric on resampled rows, the same rows for both models."""
    random = np.random.default_rng(BOOTSTRAP_SEED)
    count = len(ours.true)
    value = quick(metric, ours)
    found = []
    for _ in range(RESAMPLES):
        rows = random.integers(0, count, count)
        first, second = value(ours.rows(rows)), value(theirs.rows(rows))
        if first is not None and second is not None:
            found.append(first - second)
    return np.array(found)


def quick(metric: str, judged: Judged) -> Callable[[Judged], float | None]:
    """The metric as a function of rows, by ranks where that is faster."""
    if metric == "roc_auc" and judged.task == "binary":
        return lambda part: rank_auc(part.true, part.score) if 0 < part.true.sum() < len(part.true) else None
    return lambda part: compute(metric, part)
