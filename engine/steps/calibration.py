"""Do probabilities mean what they say? Expected calibration error, and Brier's score taken apart.

Rows are put into ``BINS`` bins of equal mass by their score. Equal scores stay together: a group of them goes to the
bin in which the middle of its mass lies. When there are no more distinct scores than bins, each has its own.

Every function here takes weights of any leading shape, (..., n), so that many draws of the rows are one call.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from engine.steps.metrics import AnyArray, FloatArray, Judged

BINS = 15


@dataclass(frozen=True, kw_only=True, slots=True)
class Bins:
    """What lies in each bin, (..., BINS): its mass, the sum of its scores and of its truths; empty bins have 0."""

    mass: FloatArray
    score: FloatArray
    true: FloatArray

    @property
    def gaps(self) -> FloatArray:
        """How far each bin's mean score is from the share of truths in it."""
        return ratio(self.score, self.mass) - ratio(self.true, self.mass)

    @property
    def base_rate(self) -> FloatArray:
        """The share of truths among all rows, (..., 1)."""
        return ratio(self.true.sum(axis=-1, keepdims=True), self.mass.sum(axis=-1, keepdims=True))

    def mean(self, values: FloatArray) -> FloatArray:
        """The mean of a value a bin by mass; NaN where there is no mass at all."""
        total = self.mass.sum(axis=-1)
        return np.divide((self.mass * values).sum(axis=-1), total, out=np.full(total.shape, np.nan), where=total > 0)


def ece(bins: Bins) -> FloatArray:
    """The expected calibration error: the mean distance of score and truth over the bins, from 0 to 1.

    Naeini, Cooper and Hauskrecht (2015), with bins of equal mass as Nixon et al. (2019) advise. It is never quite 0:
    on few rows the bins differ by chance.
    """
    return bins.mean(np.abs(bins.gaps))


def reliability(bins: Bins) -> FloatArray:
    """The mean squared distance of score and truth over the bins; less is better."""
    return bins.mean(bins.gaps**2)


def resolution(bins: Bins) -> FloatArray:
    """How far the bins' shares of truths lie from the overall one, squared; more is better."""
    return bins.mean((ratio(bins.true, bins.mass) - bins.base_rate) ** 2)


def uncertainty(bins: Bins) -> FloatArray:
    """The variance of the truth: Brier's score of a model that always says the base rate. No model changes it."""
    rate = bins.base_rate[..., 0]
    return np.where(bins.mass.sum(axis=-1) > 0, rate * (1 - rate), np.nan)


PARTS: Mapping[str, Callable[[Bins], FloatArray]] = {
    "ece": ece,
    "brier_reliability": reliability,
    "brier_resolution": resolution,
    "brier_uncertainty": uncertainty,
}
"""Brier's score is reliability - resolution + uncertainty, but for what scores vary within a bin.

Murphy (1973), Journal of Applied Meteorology 12:595-600."""


def weighted(name: str, judged: Judged) -> Callable[[FloatArray], FloatArray]:
    """A part as a function of the rows' weights (..., n); the order of the scores is worked out once.

    For more than two classes it is about the probability of the class that is said, and whether that is the true one.
    """
    true, score = answers(judged)
    order = np.argsort(score, kind="stable")
    true, score = true[order].astype(np.float64), score[order].astype(np.float64)
    group = np.cumsum(np.concatenate([[0], score[1:] != score[:-1]])) if len(score) else np.zeros(0, dtype=np.int64)
    part = PARTS[name]
    return lambda weights: part(binned(true, score, group, np.asarray(weights)[..., order]))


def answers(judged: Judged) -> tuple[AnyArray, AnyArray]:
    """What happened, 0 or 1, and its probability, both (n,)."""
    if judged.score.ndim == 1:
        return judged.true, judged.score
    return judged.true == judged.label, judged.score.max(axis=1)


def binned(true: FloatArray, score: FloatArray, group: AnyArray, weights: FloatArray) -> Bins:
    """Rows in ascending order of their score, with the number of their group of equal scores, in bins of equal mass."""
    lines = weights.reshape(-1, weights.shape[-1])
    count = int(group[-1]) + 1 if len(group) else 0
    starts = np.flatnonzero(np.diff(group, prepend=-1))
    mass = np.add.reduceat(lines, starts, axis=1) if count else np.zeros((len(lines), 0))
    middle = np.cumsum(mass, axis=1) - mass / 2
    total = np.maximum(mass.sum(axis=1, keepdims=True), np.finfo(np.float64).tiny)
    by_mass = np.minimum((middle / total * BINS).astype(np.int64), BINS - 1)
    number = (by_mass if count > BINS else np.broadcast_to(np.arange(count), mass.shape))[:, group]
    cells = (number + np.arange(len(lines))[:, None] * BINS).ravel()

    def summed(values: FloatArray) -> FloatArray:
        found: FloatArray = np.bincount(cells, weights=(lines * values).ravel(), minlength=len(lines) * BINS)  # type: ignore[assignment]
        return found.reshape(*weights.shape[:-1], BINS)

    return Bins(mass=summed(np.ones(len(true))), score=summed(score), true=summed(true))


def ratio(part: FloatArray, whole: FloatArray) -> FloatArray:
    """``part / whole``, 0 where there is no whole."""
    return np.divide(part, whole, out=np.zeros(np.shape(whole)), where=whole > 0)


def part_of(name: str) -> Callable[[Judged], float]:
    """A part as a metric."""

    def value(judged: Judged) -> float:
        own = judged.weights
        return float(weighted(name, judged)(np.ones(len(judged.true)) if own is None else own))

    return value


def taken_apart(judged: Judged) -> dict[str, float]:
    """Every part, for a verdict to show."""
    return {name: part_of(name)(judged) for name in PARTS}
