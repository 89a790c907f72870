"""Metrics on rows drawn with replacement, many times over.

Drawing rows is giving each a weight, how often it was drawn. What does not change from draw to draw, the order of the
scores above all, is worked out once; then a metric is a few sums over the weights. All metrics see the same draws, and
so do two models that are compared. Rows that belong to a query are drawn together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from engine.steps import calibration
from engine.steps.metrics import (
    AnyArray,
    FloatArray,
    Judged,
    averaging,
    compute,
    covered,
    squared,
)
from engine.steps.ranking import RANKING, per_query, queries

SEED = 20130101
RESAMPLES = 1000
CELLS = 65_536
"""Rows times draws that are worked on at once: as many as stay in a processor's cache."""
SMALLEST_PROBABILITY = float(np.finfo(np.float64).eps)
Weighted = Callable[[FloatArray], FloatArray]
"""Weights of the rows, one draw a line (draws, n) -> the metric on each draw (draws,); NaN where it is not defined."""


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
    for first, weights in draws(units(sides[0]), resamples, seed):
        for side, values in zip(functions, found, strict=True):
            for name, function in side.items():
                values[name][first : first + len(weights)] = function(weights)
    return found


def units(judged: Judged) -> int:
    """How many there are of what is drawn: rows, or the queries that rows belong to."""
    return len(judged.true) if judged.groups is None else queries(judged.groups).count


def draws(count: int, resamples: int, seed: int) -> Iterator[tuple[int, FloatArray]]:
    """How often each of ``count`` units is drawn, (some draws, count), and the number of the first draw in it."""
    random = np.random.default_rng(seed)
    at_once = max(1, CELLS // max(count, 1))
    for first in range(0, resamples, at_once):
        lines = min(at_once, resamples - first)
        chosen = random.integers(0, count, (lines, count), dtype=np.int32)
        if lines > 1:
            chosen += np.arange(0, lines * count, count, dtype=np.int32)[:, None]
        yield first, np.bincount(chosen.ravel(), minlength=lines * count).reshape(lines, count).astype(np.float64)


def weighted(name: str, judged: Judged) -> Weighted:
    """A metric as a function of how often its units are drawn; for one that is not known here, rows are repeated."""
    function = known(name, judged)
    if function is None:
        return repeated(name, judged)
    if judged.weights is None or name in RANKING:
        return function
    own = judged.weights
    return lambda drawn: function(drawn * own)


def known(name: str, judged: Judged) -> Weighted | None:
    """A metric whose draws need no repeated rows, as a function of the rows' weights."""
    if name in RANKING:
        return of_queries(name, judged)
    if judged.task == "multilabel" and name in AVERAGED:
        parts = [known(name, judged.of_label(number)) for number in range(judged.classes)]
        return mean_over([part for part in parts if part is not None])
    if name in LOSSES:
        return mean_of(LOSSES[name](judged))
    if name in MICRO:
        return micro(judged, MICRO[name])
    if name in BY_CONFUSION:
        return by_confusion(judged, BY_CONFUSION[name])
    return OTHERS[name](judged) if name in OTHERS else None


def repeated(name: str, judged: Judged) -> Weighted:
    """Any metric, by repeating rows, or queries."""
    if judged.groups is None:
        return lambda drawn: np.array([worth(name, judged.rows(repeats(line))) for line in drawn])
    found = queries(judged.groups)
    members = np.split(np.argsort(found.of, kind="stable"), np.cumsum(np.bincount(found.of))[:-1])

    def value(line: FloatArray) -> float:
        chosen = [members[number] for number in repeats(line)]
        numbers = np.repeat(np.arange(len(chosen)), [len(rows) for rows in chosen])
        return worth(name, regrouped(judged.rows(np.concatenate(chosen)), numbers))

    return lambda drawn: np.array([value(line) for line in drawn])


def repeats(drawn: FloatArray) -> AnyArray:
    """The numbers of the units, each as often as it was drawn."""
    return np.repeat(np.arange(len(drawn)), drawn.astype(np.int64))


def regrouped(judged: Judged, groups: AnyArray) -> Judged:
    """The same rows in other queries: one that was drawn twice is two."""
    return replace(judged, groups=groups)


def worth(name: str, judged: Judged) -> float:
    """A metric, NaN where it is not defined."""
    found = compute(name, judged)
    return np.nan if found is None else found


def total(values: FloatArray) -> FloatArray:
    """Sums over the last axis, by numpy's own adding: the same bits whatever the number of threads."""
    found: FloatArray = values.sum(axis=-1)
    return found


def quotient(part: FloatArray, whole: FloatArray) -> FloatArray:
    """``part / whole``, NaN where there is no whole."""
    return np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=whole > 0)


# -- means of a loss a row ----------------------------------------------------------------------------------------


def mean_of(losses: FloatArray) -> Weighted:
    """The mean of a value a row."""
    return lambda weights: quotient(total(weights * losses), total(weights))


def mean_over(parts: Sequence[Weighted]) -> Weighted:
    """The plain mean of several metrics on the same draws."""
    return lambda weights: np.mean([part(weights) for part in parts], axis=0)


def of_queries(name: str, judged: Judged) -> Weighted:
    """The mean of a value a query, over those that have a relevant row, by how often each query is drawn."""
    assert judged.groups is not None
    found = queries(judged.groups)
    values = per_query(name, judged.true, judged.score, found)
    own = np.ones(found.count) if judged.weights is None else found.mean(judged.weights)
    own = np.where(np.isfinite(values), own, 0.0)
    inner = mean_of(np.nan_to_num(values))
    return lambda drawn: inner(drawn * own)


def log_losses(judged: Judged) -> FloatArray:
    """Each row's negative log likelihood, in nats; probabilities are clipped as scikit-learn clips them."""
    if judged.task == "multilabel":
        parts = [log_losses(judged.of_label(number)) for number in range(judged.classes)]
        return np.asarray(np.mean(parts, axis=0))
    scores = judged.score if judged.score.ndim == 2 else np.stack([1 - judged.score, judged.score], axis=1)
    scores = scores / scores.sum(axis=1, keepdims=True)
    chosen = scores[np.arange(len(scores)), judged.true]
    return np.asarray(-np.log(np.clip(chosen, SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY)))


def pinball_losses(judged: Judged) -> FloatArray:
    """Each row's pinball loss, averaged over the levels of the quantiles."""
    levels = np.array(judged.levels)
    errors = judged.true[:, None] - judged.score
    return np.asarray(np.mean(np.maximum(levels * errors, (levels - 1) * errors), axis=1))


def right(judged: Judged) -> FloatArray:
    """1 where the label, or all of several, is the true one, else 0."""
    same = judged.true == judged.label
    return np.asarray(same.all(axis=1) if same.ndim == 2 else same, dtype=np.float64)


LOSSES: Mapping[str, Callable[[Judged], FloatArray]] = {
    "accuracy": right,
    "brier": squared,
    "hamming_loss": lambda j: np.asarray(np.mean(j.true != j.label, axis=1)),
    "interval_coverage": lambda j: covered(j).astype(np.float64),
    "log_loss": log_losses,
    "mae": lambda j: np.asarray(np.abs(j.label - j.true), dtype=np.float64),
    "mape": lambda j: np.abs(j.label - j.true) / np.maximum(np.abs(j.true), SMALLEST_PROBABILITY),
    "mse": lambda j: np.asarray((j.label - j.true) ** 2, dtype=np.float64),
    "pinball": pinball_losses,
}


# -- counts of classes ----------------------------------------------------------------------------------------------


def by_confusion(judged: Judged, value_of: Callable[[FloatArray, bool], FloatArray]) -> Weighted:
    """A metric of the confusion matrix (true, label)."""
    classes = judged.classes
    cells = judged.true * classes + judged.label
    size = classes * classes
    binary = averaging(judged) == "binary"

    def value(weights: FloatArray) -> FloatArray:
        lines = len(weights)
        numbers = cells if lines == 1 else (cells + np.arange(0, lines * size, size)[:, None]).ravel()
        counts = np.bincount(numbers, weights=weights.ravel(), minlength=lines * size).astype(np.float64)
        return value_of(counts.reshape(lines, classes, classes), binary)

    return value


def ratio(part: AnyArray, whole: AnyArray) -> FloatArray:
    """``part / whole``, 0 where there is no whole, as scikit-learn has it with ``zero_division=0``."""
    return np.divide(part, whole, out=np.zeros(np.shape(whole)), where=np.asarray(whole) > 0)


def diagonal(counts: FloatArray) -> FloatArray:
    """The rows that have the right label, by class."""
    return np.asarray(np.diagonal(counts, axis1=1, axis2=2))


def of_classes(values: FloatArray, counts: FloatArray, binary: bool) -> FloatArray:
    """The positive class's value, or the mean over the classes that occur."""
    if binary:
        return values[:, 1]
    occurs = (counts.sum(axis=1) + counts.sum(axis=2)) > 0
    return quotient(total(values * occurs), total(occurs.astype(np.float64)))


def precision(counts: FloatArray, binary: bool) -> FloatArray:
    """The share of a label's rows that are of its class."""
    return of_classes(ratio(diagonal(counts), counts.sum(axis=1)), counts, binary)


def recall(counts: FloatArray, binary: bool) -> FloatArray:
    """The share of a class's rows that are labelled as such."""
    return of_classes(ratio(diagonal(counts), counts.sum(axis=2)), counts, binary)


def f1(counts: FloatArray, binary: bool) -> FloatArray:
    """The harmonic mean of precision and recall."""
    return of_classes(ratio(2 * diagonal(counts), counts.sum(axis=1) + counts.sum(axis=2)), counts, binary)


def balanced_accuracy(counts: FloatArray, _: bool) -> FloatArray:
    """The mean recall of the classes that occur."""
    rows = counts.sum(axis=2)
    return quotient(total(ratio(diagonal(counts), rows)), total((rows > 0).astype(np.float64)))


def micro(judged: Judged, value_of: Callable[[FloatArray, FloatArray, FloatArray], FloatArray]) -> Weighted:
    """A metric of all labels together: of those that are right, that are said, and that are true, a row."""
    both = (judged.true * judged.label).sum(axis=1).astype(np.float64)
    said, true = (side.sum(axis=1).astype(np.float64) for side in (judged.label, judged.true))
    return lambda weights: value_of(total(weights * both), total(weights * said), total(weights * true))


BY_CONFUSION: Mapping[str, Callable[[FloatArray, bool], FloatArray]] = {
    "balanced_accuracy": balanced_accuracy,
    "f1": f1,
    "precision": precision,
    "recall": recall,
}
MICRO: Mapping[str, Callable[[FloatArray, FloatArray, FloatArray], FloatArray]] = {
    "f1_micro": lambda both, said, true: ratio(2 * both, said + true),
    "precision_micro": lambda both, said, _: ratio(both, said),
    "recall_micro": lambda both, _, true: ratio(both, true),
}


# -- ranks and others -----------------------------------------------------------------------------------------------


def area(true: AnyArray, score: AnyArray) -> Weighted:
    """The area under the ROC curve of two classes: the weighted share of pairs in the right order, ties by half."""
    positive, negative = by_score(true == 1, score), by_score(true != 1, score)
    below = np.searchsorted(score[negative], score[positive], side="left")
    up_to = np.searchsorted(score[negative], score[positive], side="right")
    tied = not np.array_equal(below, up_to)

    def value(weights: FloatArray) -> FloatArray:
        above, passed = np.take(weights, positive, axis=1), running(np.take(weights, negative, axis=1))
        pairs = total(above) * passed[:, -1]
        share = np.take(passed, below, axis=1)
        if tied:
            share = (share + np.take(passed, up_to, axis=1)) / 2
        return quotient(total(above * share), pairs)

    return value


def by_score(chosen: AnyArray, score: AnyArray) -> AnyArray:
    """The numbers of the chosen rows, the lowest score first."""
    rows = np.flatnonzero(chosen)
    found: AnyArray = rows[np.argsort(score[rows], kind="stable")]
    return found


def running(values: FloatArray) -> FloatArray:
    """The sums of the first 0, 1, ... values of each line: one more than there are."""
    sums = np.zeros((len(values), values.shape[1] + 1))
    np.cumsum(values, axis=1, out=sums[:, 1:])
    return sums


def roc_auc(judged: Judged) -> Weighted:
    """:func:`area` of two classes; of more, the mean of each against the rest, where all of them occur."""
    if judged.task == "binary":
        return area(judged.true, judged.score)
    return mean_over([area(judged.true == number, judged.score[:, number]) for number in range(judged.classes)])


def average_precision(judged: Judged) -> Weighted:
    """The mean over the positives of the precision at their score: of those that score as high or higher, ties too."""
    score = -judged.score
    every, positive = by_score(np.ones(len(score), dtype=bool), score), by_score(judged.true == 1, score)
    among_all = np.searchsorted(score[every], score[positive], side="right")
    among_positives = np.searchsorted(score[positive], score[positive], side="right")
    distinct = np.array_equal(among_positives, np.arange(1, len(positive) + 1))

    def value(weights: FloatArray) -> FloatArray:
        found = np.take(weights, positive, axis=1)
        hits = running(found)
        whole = hits[:, -1]
        hits = hits[:, 1:] if distinct else np.take(hits, among_positives, axis=1)
        so_far = np.take(running(np.take(weights, every, axis=1)), among_all, axis=1)
        return quotient(total(found * hits / np.maximum(so_far, np.finfo(np.float64).tiny)), whole)

    return value


def r2(judged: Judged) -> Weighted:
    """One less the share of the target's variance that is left."""
    errors, true = (judged.label - judged.true) ** 2, judged.true.astype(np.float64)

    def value(weights: FloatArray) -> FloatArray:
        mean = quotient(total(weights * true), total(weights))
        spread = total(weights * (true - mean[:, None]) ** 2)
        return 1 - quotient(total(weights * errors), spread)

    return value


def rmse(judged: Judged) -> Weighted:
    """The root of the mean squared error."""
    inner = mean_of(LOSSES["mse"](judged))
    return lambda weights: np.sqrt(inner(weights))


OTHERS: Mapping[str, Callable[[Judged], Weighted]] = {
    "average_precision": average_precision,
    "r2": r2,
    "rmse": rmse,
    "roc_auc": roc_auc,
    **{name: partial(calibration.weighted, name) for name in calibration.PARTS},
}
AVERAGED = frozenset({"average_precision", "f1", "precision", "recall", "roc_auc"})
"""What is averaged over several labels."""
KNOWN = frozenset({*LOSSES, *BY_CONFUSION, *MICRO, *OTHERS, *RANKING})
"""The metrics that need no repeated rows."""
