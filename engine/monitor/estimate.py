"""How good predictions probably are, before anybody knows what was true: CBPE for classification. Pure numpy.

Confidence-based performance estimation (NannyML, "Performance Estimation: Confidence-based", 2022; Bialek, Kivimaki,
Kuberski and Perrakis, "Estimating Model Performance Under Covariate Shift Without Labels", 2024, arXiv 2401.08348)
takes a calibrated score p for what it says: of the rows with it a share p is positive. So each row counts p times as a
positive and 1 - p times as a negative, and every metric has an expected value on that weighted set:

    ROC AUC   the area under the curve of cumulative (1 - p, p) with the rows in order of the score
    accuracy  mean of p where the label is positive, of 1 - p elsewhere
    precision sum of p over positive labels / their number;  recall  the same / sum of p;  f1 of both
    Brier     mean of p (1 - s)^2 + (1 - p) s^2
    log loss  mean of -(p log s + (1 - p) log(1 - s))

It holds while the relation between features and target is the one of the reference: it sees a drift of the features
and is blind to a drift of the concept. That is why an estimate is marked as one, and compared with what was realised
once labels came.

The calibration is the isotonic regression (Ayer et al., 1955; pool adjacent violators) of the test set's labels on its
scores. It is kept only where it lowers the Brier score in cross validation, as a model that is well calibrated already
is only made coarser by it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

FloatArray = np.ndarray[Any, np.dtype[np.float64]]
IntArray = np.ndarray[Any, np.dtype[np.int64]]

FOLDS = 5
DRAWS, FEWEST_DRAWS = 100, 20
Z = 1.959964
"""How many standard deviations there are on each side for 95 %."""
SEED = 20_130_101
LEAST = 1e-15
MOST_CELLS, AT_ONCE = 40_000_000, 2_000_000
"""Rows times draws, beyond which there are fewer draws; and so many that are computed at once."""
METHOD = "cbpe"


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibrator:
    """A step function from a score to a probability: ``values[i]`` from ``scores[i]`` on. Empty: the score itself."""

    scores: FloatArray
    values: FloatArray

    def __call__(self, score: FloatArray) -> FloatArray:
        """Probabilities; between two knots they are interpolated, beyond the outer ones they are those of the knots."""
        if len(self.scores) == 0:
            return np.clip(np.asarray(score, dtype=np.float64), 0.0, 1.0)
        return np.asarray(np.interp(score, self.scores, self.values), dtype=np.float64)


ITSELF = Calibrator(scores=np.empty(0), values=np.empty(0))


def calibrator(score: FloatArray, true: IntArray) -> Calibrator:
    """What makes probabilities of scores, learned where the truth is known; nothing is changed where that is better."""
    if len(score) < 2 * FOLDS or len(np.unique(true)) < 2:
        return ITSELF
    fold = np.random.default_rng(SEED).permutation(len(score)) % FOLDS
    held = np.empty(len(score))
    for number in range(FOLDS):
        out = fold == number
        held[out] = isotonic(score[~out], true[~out])(score[out])
    better = np.mean((held - true) ** 2) < np.mean((np.clip(score, 0, 1) - true) ** 2)
    return isotonic(score, true) if better else ITSELF


def isotonic(score: FloatArray, true: IntArray) -> Calibrator:
    """The isotonic regression of the truth on the score: pool adjacent violators, ties of the score as one."""
    knots, at = np.unique(np.asarray(score, dtype=np.float64), return_inverse=True)
    weights = np.bincount(at).astype(np.float64)
    means = np.bincount(at, weights=true) / weights
    blocks: list[list[float]] = []  # mean, weight, knots
    for mean, weight in zip(means.tolist(), weights.tolist(), strict=True):
        blocks.append([mean, weight, 1])
        while len(blocks) > 1 and blocks[-2][0] >= blocks[-1][0]:
            above, mass, count = blocks.pop()
            below = blocks[-1]
            total = below[1] + mass
            blocks[-1] = [(below[0] * below[1] + above * mass) / total, total, below[2] + count]
    values = np.repeat([block[0] for block in blocks], [int(block[2]) for block in blocks])
    edges = np.concatenate([[True], values[1:] != values[:-1]]) | np.concatenate([values[1:] != values[:-1], [True]])
    return Calibrator(scores=knots[edges], values=values[edges])


# -- metrics in expectation ------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Expected:
    """n rows: the score that the model gave, the label that it decided for (0 or 1), and the calibrated probability."""

    score: FloatArray
    label: IntArray
    p: FloatArray


Metric = Callable[[FloatArray], FloatArray]
"""A metric of some rows as a function of p: (n,) gives one value, (draws, n) one a draw."""


def roc_auc(rows: Expected) -> Metric:
    """The area under the expected ROC curve; ties of the score count half."""
    order = np.argsort(rows.score, kind="stable")
    ordered = rows.score[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))

    def value(p: FloatArray) -> FloatArray:
        positive = np.add.reduceat(p[..., order], starts, axis=-1)
        negative = np.add.reduceat(1 - p[..., order], starts, axis=-1)
        below = np.cumsum(negative, axis=-1) - negative / 2
        return ratio((positive * below).sum(axis=-1), positive.sum(axis=-1) * negative.sum(axis=-1), np.nan)

    return value


def average_precision(rows: Expected) -> Metric:
    """The expected precision at each score, weighed by the expected recall that it adds."""
    order = np.argsort(-rows.score, kind="stable")
    ordered = rows.score[order]
    ends = np.flatnonzero(np.concatenate([ordered[1:] != ordered[:-1], [True]]))

    def value(p: FloatArray) -> FloatArray:
        hits = np.cumsum(p[..., order], axis=-1)[..., ends]
        gained = np.diff(hits, axis=-1, prepend=0.0)
        return ratio((gained * hits / (ends + 1)).sum(axis=-1), hits[..., -1], np.nan)

    return value


def mean_of(positive: FloatArray, negative: FloatArray) -> Metric:
    """The mean of a value a row that has one of two values: by whether the row is positive."""
    return lambda p: (p * positive + (1 - p) * negative).mean(axis=-1)


def accuracy(rows: Expected) -> Metric:
    """The expected share of labels that are right."""
    return mean_of((rows.label == 1).astype(np.float64), (rows.label == 0).astype(np.float64))


def brier(rows: Expected) -> Metric:
    """The expected squared error of the score."""
    return mean_of((1 - rows.score) ** 2, rows.score**2)


def log_loss(rows: Expected) -> Metric:
    """The expected negative log likelihood, in nats a row."""
    inside = np.clip(rows.score, LEAST, 1 - LEAST)
    return mean_of(-np.log(inside), -np.log(1 - inside))


def precision(rows: Expected) -> Metric:
    """Expected hits among the rows that were labelled positive; 0 when there are none."""
    chosen = rows.label == 1
    return lambda p: ratio(p[..., chosen].sum(axis=-1), np.asarray(chosen.sum(), dtype=np.float64))


def recall(rows: Expected) -> Metric:
    """Expected hits among the expected positives."""
    return lambda p: ratio(p[..., rows.label == 1].sum(axis=-1), p.sum(axis=-1))


def f1(rows: Expected) -> Metric:
    """The harmonic mean of expected precision and recall."""
    chosen = rows.label == 1
    return lambda p: ratio(2 * p[..., chosen].sum(axis=-1), chosen.sum() + p.sum(axis=-1))


def balanced_accuracy(rows: Expected) -> Metric:
    """The mean of the expected recall of both classes."""
    of_positive = recall(rows)
    of_negative = recall(Expected(score=-rows.score, label=1 - rows.label, p=1 - rows.p))
    return lambda p: (of_positive(p) + of_negative(1 - p)) / 2


def ratio(over: FloatArray, under: FloatArray, otherwise: float = 0.0) -> FloatArray:
    """Quotients; ``otherwise`` where something is divided by nothing."""
    nothing = under == 0
    return np.where(nothing, otherwise, over / np.where(nothing, 1, under))


METRICS: Mapping[str, Callable[[Expected], Metric]] = {
    "accuracy": accuracy,
    "average_precision": average_precision,
    "balanced_accuracy": balanced_accuracy,
    "brier": brier,
    "f1": f1,
    "log_loss": log_loss,
    "precision": precision,
    "recall": recall,
    "roc_auc": roc_auc,
}
MULTICLASS = frozenset({"accuracy", "brier", "log_loss", "roc_auc", "f1", "precision", "recall", "balanced_accuracy"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimated:
    """The expected value of a metric, and between which ends the realised one of these rows lies with 95 %."""

    value: float
    low: float | None
    high: float | None


def estimated(name: str, rows: Expected, draws: int = DRAWS) -> Estimated | None:
    """The metric in expectation; nothing for one that has no estimate here.

    The interval is that of the realised value if p holds: labels are drawn by p, ``draws`` times, and the metric's
    spread about its expectation is taken as normal.
    """
    if name not in METRICS or len(rows.p) == 0:
        return None
    metric = METRICS[name](rows)
    value = float(metric(rows.p))
    if not np.isfinite(value):
        return None
    spread = deviation(metric, rows.p, min(draws, max(MOST_CELLS // len(rows.p), FEWEST_DRAWS)))
    if spread is None:
        return Estimated(value=value, low=None, high=None)
    low, high = value - Z * spread, value + Z * spread
    return Estimated(value=value, low=max(low, 0.0), high=high if name == "log_loss" else min(high, 1.0))


def deviation(metric: Metric, p: FloatArray, draws: int) -> float | None:
    """The standard deviation of a metric over labels that are drawn by p."""
    random = np.random.default_rng(SEED)
    at_once = max(AT_ONCE // len(p), 1)
    found: list[float] = []
    while len(found) < draws:
        drawn = random.random((min(at_once, draws - len(found)), len(p))) < p
        found += np.atleast_1d(metric(drawn.astype(np.float64))).tolist()
    clean = np.array(found)[np.isfinite(found)]
    return float(clean.std(ddof=1)) if len(clean) > draws // 2 else None


# -- several classes -------------------------------------------------------------------------------------------------


def estimated_of_classes(name: str, scores: FloatArray, p: FloatArray) -> Estimated | None:
    """The metric of more than two classes, in expectation: each class against the rest where that is how it is defined.

    Args:
        scores: (n, k), as the model gave them.
        p: (n, k), calibrated class by class and scaled so that each row adds to 1.
    """
    if name not in MULTICLASS or len(p) == 0:
        return None
    label = scores.argmax(axis=1)
    if name == "accuracy":
        return Estimated(value=float(p[np.arange(len(p)), label].mean()), low=None, high=None)
    if name == "brier":
        squares = (scores**2).sum(axis=1, keepdims=True) - 2 * scores + 1
        return Estimated(value=float((p * squares).sum(axis=1).mean()), low=None, high=None)
    if name == "log_loss":
        return Estimated(value=float(-(p * np.log(np.clip(scores, LEAST, 1))).sum(axis=1).mean()), low=None, high=None)
    alone = "recall" if name == "balanced_accuracy" else name
    each = [
        METRICS[alone](Expected(score=scores[:, k], label=(label == k).astype(np.int64), p=p[:, k]))(p[:, k])
        for k in range(scores.shape[1])
    ]
    value = float(np.mean(each))
    return Estimated(value=value, low=None, high=None) if np.isfinite(value) else None


def scaled(p: FloatArray) -> FloatArray:
    """Rows that add to 1; a row of zeros is spread evenly."""
    total = p.sum(axis=1, keepdims=True)
    return np.where(total > 0, p / np.where(total > 0, total, 1), 1 / p.shape[1])
