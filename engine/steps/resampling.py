"""Metrics on rows drawn with replacement, many times over.

Drawing rows is giving each a weight, how often it was drawn. What does not change from draw to draw, the order of the
scores above all, is worked out once; then a metric is a few sums over the weights. All metrics see the same draws, and
so do two models that are compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from engine.steps import calibration
from engine.steps.metrics import FUNCTIONS, AnyArray, FloatArray, Judged, averaging, compute

SEED = 20130101
RESAMPLES = 1000
SMALLEST_PROBABILITY = float(np.finfo(np.float64).eps)
Weighted = Callable[[FloatArray], float]
"""Weights of the rows (n,) -> the metric; NaN where it is not defined."""


def resampled(
    names: Sequence[str], judged: Judged, resamples: int = RESAMPLES, seed: int = SEED
) -> dict[str, FloatArray]:
    """Each metric on ``resamples`` draws of as many rows, (resamples,); NaN where it is not defined."""
    (found,) = resampled_together(names, [judged], resamples, seed)
    return found


def resampled_together(
    names: Sequence[str], sides: Sequence[Judged], resamples: int = RESAMPLES, seed: int = SEED
) -> list[dict[str, FloatArray]]:
    """As :func:`resampled`, for several models on the same rows: a draw is the same for all of them."""
    functions = [{name: weighted(name, judged) for name in names} for judged in sides]
    found = [{name: np.empty(resamples) for name in names} for _ in sides]
    for number, weights in enumerate(draws(len(sides[0].true), resamples, seed)):
        for side, values in zip(functions, found, strict=True):
            for name, function in side.items():
                values[name][number] = function(weights)
    return found


def draws(count: int, resamples: int, seed: int) -> Iterator[FloatArray]:
    """How often each of ``count`` rows is drawn, (count,), ``resamples`` times."""
    random = np.random.default_rng(seed)
    for _ in range(resamples):
        chosen = random.integers(0, count, count, dtype=np.int32)
        yield np.bincount(chosen, minlength=count).astype(np.float64)


def weighted(name: str, judged: Judged) -> Weighted:
    """A metric as a function of the rows' weights; for one that is not known here, rows are repeated."""
    if name in LOSSES:
        return mean_of(LOSSES[name](judged))
    if name in BY_CONFUSION:
        return by_confusion(judged, BY_CONFUSION[name])
    if name in OTHERS and not (name == "average_precision" and judged.task != "binary"):
        return OTHERS[name](judged)
    return repeated(name, judged)


def repeated(name: str, judged: Judged) -> Weighted:
    """Any metric, by repeating rows."""

    def value(weights: FloatArray) -> float:
        found = compute(name, judged.rows(np.repeat(np.arange(len(weights)), weights.astype(np.int64))))
        return np.nan if found is None else found

    return value


# -- means of a loss a row ----------------------------------------------------------------------------------------


def mean_of(losses: FloatArray) -> Weighted:
    """The mean of a value a row."""

    def value(weights: FloatArray) -> float:
        total = weights.sum()
        return float(weights @ losses / total) if total else np.nan

    return value


def log_losses(judged: Judged) -> FloatArray:
    """Each row's negative log likelihood, in nats; probabilities are clipped as scikit-learn clips them."""
    scores = judged.score if judged.score.ndim == 2 else np.stack([1 - judged.score, judged.score], axis=1)
    scores = scores / scores.sum(axis=1, keepdims=True)
    chosen = scores[np.arange(len(scores)), judged.true]
    return -np.log(np.clip(chosen, SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY))


LOSSES: Mapping[str, Callable[[Judged], FloatArray]] = {
    "accuracy": lambda j: (j.true == j.label).astype(np.float64),
    "brier": lambda j: (j.score - j.true) ** 2,
    "log_loss": log_losses,
    "mae": lambda j: np.abs(j.score - j.true),
    "mape": lambda j: np.abs(j.score - j.true) / np.maximum(np.abs(j.true), SMALLEST_PROBABILITY),
    "mse": lambda j: (j.score - j.true) ** 2,
}


# -- counts of classes ----------------------------------------------------------------------------------------------


def by_confusion(judged: Judged, value_of: Callable[[FloatArray, bool], float]) -> Weighted:
    """A metric of the confusion matrix (true, label)."""
    classes = judged.classes
    cells = judged.true * classes + judged.label
    binary = averaging(judged) == "binary"

    def value(weights: FloatArray) -> float:
        counts = np.bincount(cells, weights=weights, minlength=classes * classes)
        return value_of(counts.reshape(classes, classes), binary)

    return value


def ratio(part: AnyArray, whole: AnyArray) -> FloatArray:
    """``part / whole``, 0 where there is no whole, as scikit-learn has it with ``zero_division=0``."""
    return np.divide(part, whole, out=np.zeros(np.shape(whole)), where=np.asarray(whole) > 0)


def of_classes(values: FloatArray, counts: FloatArray, binary: bool) -> float:
    """The positive class's value, or the mean over the classes that occur."""
    if binary:
        return float(values[1])
    occurs = (counts.sum(axis=0) + counts.sum(axis=1)) > 0
    return float(values[occurs].mean()) if occurs.any() else np.nan


def precision(counts: FloatArray, binary: bool) -> float:
    """The share of a label's rows that are of its class."""
    return of_classes(ratio(np.diag(counts), counts.sum(axis=0)), counts, binary)


def recall(counts: FloatArray, binary: bool) -> float:
    """The share of a class's rows that are labelled as such."""
    return of_classes(ratio(np.diag(counts), counts.sum(axis=1)), counts, binary)


def f1(counts: FloatArray, binary: bool) -> float:
    """The harmonic mean of precision and recall."""
    return of_classes(ratio(2 * np.diag(counts), counts.sum(axis=0) + counts.sum(axis=1)), counts, binary)


def balanced_accuracy(counts: FloatArray, _: bool) -> float:
    """The mean recall of the classes that occur."""
    rows = counts.sum(axis=1)
    occurs = rows > 0
    return float((np.diag(counts)[occurs] / rows[occurs]).mean()) if occurs.any() else np.nan


BY_CONFUSION: Mapping[str, Callable[[FloatArray, bool], float]] = {
    "balanced_accuracy": balanced_accuracy,
    "f1": f1,
    "precision": precision,
    "recall": recall,
}


# -- ranks and others -----------------------------------------------------------------------------------------------


def ordered(score: AnyArray) -> tuple[AnyArray, AnyArray | None]:
    """The order of ascending scores, and where each group of equal scores begins; ``None`` when all differ."""
    order = np.argsort(score, kind="stable")
    ascending = score[order]
    starts = np.flatnonzero(np.concatenate([[True], ascending[1:] != ascending[:-1]]))
    return order, None if len(starts) == len(score) else starts


def grouped(values: FloatArray, starts: AnyArray | None) -> FloatArray:
    """Sums over groups of equal scores."""
    return values if starts is None else np.add.reduceat(values, starts)


def area(true: AnyArray, score: AnyArray) -> Weighted:
    """The area under the ROC curve of two classes: the weighted share of pairs in the right order, ties by half."""
    order, starts = ordered(score)
    positive = (true[order] == 1).astype(np.float64)

    def value(weights: FloatArray) -> float:
        sorted_weights = weights[order]
        above = grouped(sorted_weights * positive, starts)
        all_rows = grouped(sorted_weights, starts)
        below = all_rows - above
        pairs = above.sum() * below.sum()
        return float(above @ (np.cumsum(below) - below / 2) / pairs) if pairs else np.nan

    return value


def roc_auc(judged: Judged) -> Weighted:
    """:func:`area` of two classes; of more, the mean of each against the rest, where all of them occur."""
    if judged.task == "binary":
        return area(judged.true, judged.score)
    areas = [area(judged.true == number, judged.score[:, number]) for number in range(judged.classes)]
    return lambda weights: float(np.mean([one(weights) for one in areas]))


def average_precision(judged: Judged) -> Weighted:
    """The mean precision at the positives: the sum over thresholds of the gain in recall times the precision."""
    order, starts = ordered(-judged.score)
    positive = (judged.true[order] == 1).astype(np.float64)

    def value(weights: FloatArray) -> float:
        sorted_weights = weights[order]
        found = grouped(sorted_weights * positive, starts)
        all_rows = grouped(sorted_weights, starts)
        total = found.sum()
        return float(found @ ratio(np.cumsum(found), np.cumsum(all_rows)) / total) if total else np.nan

    return value


def r2(judged: Judged) -> Weighted:
    """One less the share of the target's variance that is left."""
    errors, true = (judged.score - judged.true) ** 2, judged.true.astype(np.float64)

    def value(weights: FloatArray) -> float:
        total = weights.sum()
        if not total:
            return np.nan
        mean = weights @ true / total
        spread = weights @ (true - mean) ** 2
        return float(1 - weights @ errors / spread) if spread else np.nan

    return value


def rmse(judged: Judged) -> Weighted:
    """The root of the mean squared error."""
    inner = mean_of(LOSSES["mse"](judged))
    return lambda weights: float(np.sqrt(inner(weights)))


OTHERS: Mapping[str, Callable[[Judged], Any]] = {
    "average_precision": average_precision,
    "r2": r2,
    "rmse": rmse,
    "roc_auc": roc_auc,
    **{name: partial(calibration.weighted, name) for name in calibration.PARTS},
}
KNOWN = frozenset({*LOSSES, *BY_CONFUSION, *OTHERS})
"""The metrics that need no repeated rows."""
assert FUNCTIONS.keys() == KNOWN
