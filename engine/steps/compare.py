"""Is one model better than another on the same rows? The difference, and what can be said of it with confidence.

::

    two models, the same rows --> Evidence: DeLong | McNemar | paired bootstrap
                                     |
                    low(confidence), high(confidence), doubt(limit)

``doubt`` is the p-value of a one-sided test and agrees with the bounds: a doubt of at most 1 - confidence is the same
as a lower bound that reaches the limit. So a single gate and Holm's correction over many slices use one rule.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, floor, isfinite, sqrt
from typing import Protocol

import numpy as np
from scipy.optimize import brentq
from scipy.stats import norm, rankdata

from engine.spec.vocabulary import limits_are_upper
from engine.steps.metrics import AnyArray, FloatArray, Judged, compute, rank_auc
from engine.steps.resampling import RESAMPLES, resampled_together

MOST_RESAMPLES = 20_000
DRAWS_IN_A_TAIL = 20
EDGE = 1e-12


class Evidence(Protocol):
    """What the rows say of the gain of one model over another."""

    @property
    def method(self) -> str:
        """How it was found, as reports say it."""

    def low(self, confidence: float) -> float:
        """The true gain is at least this, with ``confidence``."""

    def high(self, confidence: float) -> float:
        """The true gain is at most this, with ``confidence``."""

    def doubt(self, limit: float, *, above: bool = False) -> float:
        """The p-value of: the true gain does not reach ``limit`` (with ``above``: is not above it)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Normal:
    """A gain that is normally distributed with a known standard error."""

    gain: float
    error: float
    method: str

    def low(self, confidence: float) -> float:
        """``gain`` less as many standard errors as the confidence takes."""
        return self.gain - float(norm.ppf(confidence)) * self.error

    def high(self, confidence: float) -> float:
        """``gain`` and as many standard errors as the confidence takes."""
        return self.gain + float(norm.ppf(confidence)) * self.error

    def doubt(self, limit: float, *, above: bool = False) -> float:
        """The normal tail; without any error the answer is certain."""
        if self.error == 0:
            return 0.0 if self.gain > limit or (self.gain == limit and not above) else 1.0
        return float(norm.cdf((limit - self.gain) / self.error))


@dataclass(frozen=True, kw_only=True, slots=True)
class Draws:
    """The gain on rows drawn with replacement, ascending: the percentile bootstrap.

    Efron and Tibshirani (1993), chapter 13. The bounds are order statistics, counted so that they and ``doubt`` agree.
    """

    gains: FloatArray
    method: str = "paired bootstrap"

    def rank(self, confidence: float) -> int:
        """How many draws may lie beyond a bound, and itself."""
        return floor((1 - confidence) * (len(self.gains) + 1) + EDGE)

    def low(self, confidence: float) -> float:
        """The order statistic from below; none when there are too few draws for this confidence."""
        rank = self.rank(confidence)
        return float(self.gains[rank - 1]) if rank else float("-inf")

    def high(self, confidence: float) -> float:
        """The order statistic from above."""
        rank = self.rank(confidence)
        return float(self.gains[-rank]) if rank else float("inf")

    def doubt(self, limit: float, *, above: bool = False) -> float:
        """The share of draws that do not reach the limit, one more counted so that it is never 0."""
        missed = int(np.searchsorted(self.gains, limit, side="right" if above else "left"))
        return (missed + 1) / (len(self.gains) + 1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Pairs:
    """The gain in accuracy: of ``rows``, ``better`` only we have right and ``worse`` only they.

    Tango's score interval for paired proportions (1998), Statistics in Medicine 17:891-908: the limits that McNemar's
    test, asked about a difference other than 0, does not reject. At 0 it is McNemar's test.
    """

    better: int
    worse: int
    rows: int
    method: str = "McNemar, Tango's score interval"

    @property
    def gain(self) -> float:
        """The difference of the two accuracies."""
        return (self.better - self.worse) / self.rows

    def score(self, difference: float) -> float:
        """Tango's statistic for a true ``difference`` in (-1, 1): standard normal where it is right."""
        b, c, n = self.better, self.worse, self.rows
        linear = -b - c + (2 * n - b + c) * difference
        constant = -c * difference * (1 - difference)
        only_they = (sqrt(max(linear**2 - 8 * n * constant, 0.0)) - linear) / (4 * n)
        variance = n * (2 * only_they + difference * (1 - difference))
        return (b - c - n * difference) / sqrt(variance) if variance > 0 else 0.0

    def low(self, confidence: float) -> float:
        """The difference at which the statistic is the upper quantile."""
        return self.solved(float(norm.ppf(confidence)), -1 + EDGE, self.gain)

    def high(self, confidence: float) -> float:
        """The difference at which the statistic is the lower quantile."""
        return self.solved(-float(norm.ppf(confidence)), self.gain, 1 - EDGE)

    def solved(self, wanted: float, lowest: float, highest: float) -> float:
        """The difference, in between, at which the statistic is ``wanted``; it falls as the difference grows."""
        lowest, highest = max(lowest, -1 + EDGE), min(highest, 1 - EDGE)
        if lowest >= highest or self.score(lowest) < wanted:
            return lowest
        if self.score(highest) > wanted:
            return highest
        return float(brentq(lambda difference: self.score(difference) - wanted, lowest, highest, xtol=1e-10))

    def doubt(self, limit: float, *, above: bool = False) -> float:  # noqa: ARG002  (no ties: it is continuous)
        """The upper tail of the statistic at the limit."""
        if not -1 < limit < 1:
            return 0.0 if limit <= -1 else 1.0
        return float(norm.sf(self.score(limit)))


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """``ours`` against ``theirs`` on the same ``rows``.

    ``gain`` is how much better we are (positive is better, also for metrics of which less is better). With the
    ``confidence`` that was asked for, the true gain is at least ``bound``; with the same confidence it is at most
    ``high``.
    """

    ours: float
    theirs: float
    gain: float
    bound: float
    high: float
    rows: int
    confidence: float
    evidence: Evidence

    @property
    def method(self) -> str:
        """How the bounds were found."""
        return self.evidence.method


def difference(
    metric: str,
    ours: Judged,
    theirs: Judged,
    confidence: float,
    resamples: int = RESAMPLES,
    *,
    better: str | None = None,
) -> Difference | None:
    """The paired comparison of two models; ``None`` where the metric is not defined.

    Args:
        resamples: of the bootstrap, where there is no closed form.
        better: ``lower`` or ``higher``, of a metric that Engine does not know.
    """
    first, second = compute(metric, ours), compute(metric, theirs)
    if first is None or second is None:
        return None
    sign = -1.0 if better == "lower" or limits_are_upper(metric) else 1.0
    found = evidence(metric, sign, sign * (first - second), ours, theirs, resamples)
    if found is None:
        return None
    return Difference(
        ours=first,
        theirs=second,
        gain=sign * (first - second),
        bound=found.low(confidence),
        high=found.high(confidence),
        rows=len(ours.true),
        confidence=confidence,
        evidence=found,
    )


def evidence(metric: str, sign: float, gain: float, ours: Judged, theirs: Judged, resamples: int) -> Evidence | None:
    """By a closed form where there is one for rows that all count alike; else by the bootstrap.

    ``None`` when most draws leave the metric undefined, or a class has a single row.
    """
    alike = ours.weights is None
    if metric == "roc_auc" and ours.task == "binary" and alike:
        error = delong_error(ours.true, ours.score, theirs.score)
        return Normal(gain=gain, error=error, method="DeLong") if isfinite(error) else None
    if metric == "accuracy" and alike:
        return of_accuracy(ours, theirs)
    gains = sign * bootstrap(metric, ours, theirs, resamples)
    return Draws(gains=np.sort(gains)) if len(gains) > resamples / 2 else None


def of_accuracy(ours: Judged, theirs: Judged) -> Evidence:
    """From the rows that only one of the two has right. Two models of the same answers differ by nothing."""
    if np.array_equal(ours.label, theirs.label) and np.array_equal(ours.score, theirs.score):
        return Normal(gain=0.0, error=0.0, method="McNemar")
    first, second = right(ours), right(theirs)
    return Pairs(better=int(np.sum(first & ~second)), worse=int(np.sum(~first & second)), rows=len(first))


def right(judged: Judged) -> AnyArray:
    """Which rows have the right label; of several labels, all of them."""
    same: AnyArray = judged.true == judged.label
    return same.all(axis=1) if same.ndim == 2 else same


def delong_error(true: AnyArray, ours: AnyArray, theirs: AnyArray) -> float:
    """The standard error of the difference of two ROC AUCs on the same rows.

    DeLong, DeLong and Clarke-Pearson (1988), Biometrics 44:837-845, with the mid-rank algorithm of Sun and Xu
    (2014), IEEE Signal Processing Letters 21:1389-1393.
    """
    positive = true == 1
    parts = [placements(positive, score) for score in (ours, theirs)]
    return sqrt(variance_of_mean(parts[0][0] - parts[1][0]) + variance_of_mean(parts[0][1] - parts[1][1]))


def variance_of_mean(values: FloatArray) -> float:
    """The variance of the mean of independent values; NaN for a single one, of which nothing is known."""
    return float(np.var(values, ddof=1)) / len(values) if len(values) > 1 else float("nan")


def placements(positive: AnyArray, score: AnyArray) -> tuple[FloatArray, FloatArray]:
    """For each positive the share of negatives below it, and for each negative the share of positives above it."""
    ranks = rankdata(score)
    above, below = score[positive], score[~positive]
    first = (ranks[positive] - rankdata(above)) / len(below)
    second = 1 - (ranks[~positive] - rankdata(below)) / len(above)
    return first, second


def bootstrap(metric: str, ours: Judged, theirs: Judged, resamples: int = RESAMPLES) -> FloatArray:
    """The difference of a metric on resampled rows, the same rows for both; draws without a value are left out."""
    first, second = resampled_together([metric], [ours, theirs], resamples)
    gains = first[metric] - second[metric]
    defined: FloatArray = gains[np.isfinite(gains)]
    return defined


def resamples_for(comparisons: int, confidence: float) -> int:
    """How many draws it takes that Holm's smallest level, over so many comparisons, has draws in its tail."""
    smallest = (1 - confidence) / max(comparisons, 1)
    return max(RESAMPLES, min(ceil(DRAWS_IN_A_TAIL / smallest), MOST_RESAMPLES), ceil(1 / smallest))


def holm(doubts: Sequence[float]) -> list[float]:
    """P-values adjusted for being several: at most ``alpha`` are those that Holm's procedure rejects at ``alpha``.

    Holm (1979), Scandinavian Journal of Statistics 6:65-70. The chance that any of them is a mistake is at most
    ``alpha``, however they depend on each other.
    """
    count = len(doubts)
    order = np.argsort(doubts, kind="stable")
    factors = count - np.arange(count)
    stepped = np.minimum(np.maximum.accumulate(np.asarray(doubts, dtype=np.float64)[order] * factors), 1.0)
    adjusted = np.empty(count)
    adjusted[order] = stepped
    return [float(value) for value in adjusted]


def quick(metric: str, judged: Judged) -> Callable[[Judged], float | None]:
    """The metric as a function of rows, by ranks where that is faster."""
    if metric == "roc_auc" and judged.task == "binary":
        return lambda part: rank_auc(part.true, part.score) if 0 < part.true.sum() < len(part.true) else None
    return lambda part: compute(metric, part)
