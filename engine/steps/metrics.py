"""What predictions are worth: scikit-learn's metrics, one function a metric, named in ``spec.vocabulary.METRICS``."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
from sklearn import metrics as sk

from engine.plugins import PluginFailed, find, load
from engine.spec.vocabulary import METRICS, Task
from engine.steps.calibration import PARTS, part_of
from engine.steps.ranking import RANKING, per_query, queries

FloatArray = np.ndarray[Any, np.dtype[np.float64]]
IntArray = np.ndarray[Any, np.dtype[np.int64]]
AnyArray = np.ndarray[Any, np.dtype[Any]]

# What a function of a plugin raises when it is wrong, or is given what it cannot take.
FAULTS = (ArithmeticError, AssertionError, AttributeError, LookupError, NameError, RuntimeError, TypeError, ValueError)


@dataclass(frozen=True, kw_only=True, slots=True)
class Judged:
    """Predictions beside the truth, n rows.

    For classification ``true`` and ``label`` are class indexes (n,) and ``score`` the probability of the second
    class (n,), or of each class (n, k). With several labels all three are (n, k): 0 or 1, 0 or 1, a probability.
    For regression all three are values (n,); where the model gives quantiles at ``levels``, ``score`` is (n, levels)
    and ``label`` the one nearest the median. For ranking ``true`` is how relevant a row is, ``score`` what orders the
    rows of its query, and ``groups`` the number of that query. ``weights`` says how much a row counts; ``None`` is
    the same for all.
    """

    task: Task
    true: AnyArray
    label: AnyArray
    score: AnyArray
    classes: int = 0
    weights: FloatArray | None = None
    groups: IntArray | None = None
    levels: tuple[float, ...] = ()

    def rows(self, chosen: AnyArray) -> Judged:
        """The rows at the indexes, or under the mask, ``chosen``."""
        return Judged(
            task=self.task,
            true=self.true[chosen],
            label=self.label[chosen],
            score=self.score[chosen],
            classes=self.classes,
            weights=None if self.weights is None else self.weights[chosen],
            groups=None if self.groups is None else self.groups[chosen],
            levels=self.levels,
        )

    def of_label(self, number: int) -> Judged:
        """One of several labels, as a question of two classes."""
        return Judged(
            task="binary",
            true=self.true[:, number],
            label=self.label[:, number],
            score=self.score[:, number],
            classes=2,
            weights=self.weights,
        )


def compute(name: str, judged: Judged) -> float | None:
    """A metric, or ``None`` where it is not defined: no rows, or one class only where two are needed.

    Raises:
        PluginFailed: when a plugin's metric raises, or gives back what is no number; its key is the metric's name.
    """
    if not is_defined(name, judged):
        return None
    function = FUNCTIONS[name] if name in FUNCTIONS else plugin(name)
    value = float(function(judged))
    return value if np.isfinite(value) else None


def is_defined(name: str, judged: Judged) -> bool:
    """Whether there are rows that count, and the classes that a metric needs."""
    if len(judged.true) == 0 or (judged.weights is not None and not judged.weights.sum() > 0):
        return False
    if name not in NEED_BOTH_CLASSES:
        return True
    counts = judged.true if judged.weights is None else judged.true[judged.weights > 0]
    if judged.task == "multilabel":
        return bool(np.all(counts.min(axis=0) < counts.max(axis=0)))
    return len(np.unique(counts)) >= max(judged.classes, 2)


def plugin(name: str) -> Callable[[Judged], float]:
    """A metric from a plugin, behind the same signature. NaN is its word for *not defined*."""
    component: Any = load(find("metric", name))

    def value(judged: Judged) -> float:
        weights = np.ones(len(judged.true)) if judged.weights is None else judged.weights
        on = f"on {len(judged.true):,} rows"
        try:
            found = component(judged.true, judged.label, judged.score, weights)
        except PluginFailed:
            raise
        except FAULTS as error:
            fact = f"the metric {name} raised {type(error).__name__} {on}: {error}"
            hint = "mend it; where it is not defined, as on one class only, let it return nan"
            details = "".join(traceback.format_tb(error.__traceback__)[1:])
            raise PluginFailed(fact, hint=hint, details=details, key=name) from error
        if not isinstance(found, Real) or isinstance(found, bool):
            fact = f"the metric {name} gave back {type(found).__name__} {on}, not a number"
            hint = "a metric is a function (y_true, y_pred, y_score, weights) -> float"
            raise PluginFailed(fact, hint=hint, key=name)
        return float(found)

    return value


def is_for(name: str, task: Task) -> bool:
    """Whether a metric can be computed for a task; a plugin's metric is for all."""
    return name not in METRICS or task in METRICS[name].tasks


def averaging(judged: Judged) -> str:
    """How scikit-learn combines classes or labels: the positive one for two, their plain mean for more."""
    return "binary" if judged.task == "binary" else "macro"


def roc_auc(judged: Judged) -> float:
    """Area under the ROC curve; one class against the rest, averaged, for more than two; averaged over labels."""
    if judged.task != "multiclass":
        return float(sk.roc_auc_score(judged.true, judged.score, sample_weight=judged.weights))
    classes = list(range(judged.classes))
    return float(
        sk.roc_auc_score(judged.true, judged.score, multi_class="ovr", labels=classes, sample_weight=judged.weights)
    )


def log_loss(judged: Judged) -> float:
    """Negative log likelihood of the true class, in nats a row; averaged over labels."""
    if judged.task == "multilabel":
        return float(np.mean([log_loss(judged.of_label(number)) for number in range(judged.classes)]))
    return float(
        sk.log_loss(judged.true, judged.score, labels=list(range(judged.classes)), sample_weight=judged.weights)
    )


def squared(judged: Judged) -> FloatArray:
    """Each row's squared error of probabilities (Brier, 1950): of the second of two classes; summed over more
    classes, which goes from 0 to 2; averaged over labels."""
    if judged.task == "multiclass":
        found: FloatArray = ((judged.score - np.eye(judged.classes)[judged.true]) ** 2).sum(axis=1)
        return found
    errors: FloatArray = np.asarray((judged.score - judged.true) ** 2, dtype=np.float64)
    return np.asarray(errors.mean(axis=1)) if judged.task == "multilabel" else errors


def by_label(function: Callable[..., Any], average: str | None = None) -> Callable[[Judged], float]:
    """A metric of labels with scikit-learn's averaging, and 0 where it divides by nothing."""

    def value(judged: Judged) -> float:
        how = average or averaging(judged)
        return float(function(judged.true, judged.label, average=how, zero_division=0, sample_weight=judged.weights))

    return value


def of_errors(function: Callable[..., Any]) -> Callable[[Judged], float]:
    """A metric of predicted values."""
    return lambda judged: float(function(judged.true, judged.label, sample_weight=judged.weights))


def pinball(judged: Judged) -> float:
    """The mean over the quantiles' levels of their pinball losses."""
    losses = [
        sk.mean_pinball_loss(judged.true, judged.score[:, number], alpha=level, sample_weight=judged.weights)
        for number, level in enumerate(judged.levels)
    ]
    return float(np.mean(losses))


def covered(judged: Judged) -> AnyArray:
    """Which rows lie between the lowest and the highest quantile that the model gives, both included."""
    lowest, highest = int(np.argmin(judged.levels)), int(np.argmax(judged.levels))
    within: AnyArray = (judged.score[:, lowest] <= judged.true) & (judged.true <= judged.score[:, highest])
    return within


def of_ranking(name: str) -> Callable[[Judged], float]:
    """The mean of a value a query, over the queries that have a relevant row."""

    def value(judged: Judged) -> float:
        values, weights = by_query(name, judged)
        return float(np.average(values, weights=weights)) if weights.sum() > 0 else np.nan

    return value


def by_query(name: str, judged: Judged) -> tuple[FloatArray, FloatArray]:
    """A value a query and how much it counts: the mean of its rows' weights."""
    assert judged.groups is not None
    found = queries(judged.groups)
    values = per_query(name, judged.true, judged.score, found)
    weights = np.ones(found.count) if judged.weights is None else found.mean(judged.weights)
    defined = np.isfinite(values)
    return values[defined], weights[defined]


def rank_auc(true: AnyArray, score: AnyArray) -> float:
    """ROC AUC of two classes by ranks (Mann-Whitney U): the same value as :func:`roc_auc`, in O(n log n) of numpy."""
    from scipy.stats import rankdata

    positives = int(true.sum())
    ranks = rankdata(score)
    return float((ranks[true == 1].sum() - positives * (positives + 1) / 2) / (positives * (len(true) - positives)))


NEED_BOTH_CLASSES = frozenset({"roc_auc", "average_precision"})
FUNCTIONS: Mapping[str, Callable[[Judged], float]] = {
    "accuracy": lambda j: sk.accuracy_score(j.true, j.label, sample_weight=j.weights),
    "average_precision": lambda j: sk.average_precision_score(j.true, j.score, sample_weight=j.weights),
    "balanced_accuracy": lambda j: sk.balanced_accuracy_score(j.true, j.label, sample_weight=j.weights),
    "brier": lambda j: float(np.average(squared(j), weights=j.weights)),
    "f1": by_label(sk.f1_score),
    "f1_micro": by_label(sk.f1_score, "micro"),
    "hamming_loss": lambda j: sk.hamming_loss(j.true, j.label, sample_weight=j.weights),
    "log_loss": log_loss,
    "precision": by_label(sk.precision_score),
    "precision_micro": by_label(sk.precision_score, "micro"),
    "recall": by_label(sk.recall_score),
    "recall_micro": by_label(sk.recall_score, "micro"),
    "roc_auc": roc_auc,
    "interval_coverage": lambda j: float(np.average(covered(j), weights=j.weights)),
    "mae": of_errors(sk.mean_absolute_error),
    "mape": of_errors(sk.mean_absolute_percentage_error),
    "mse": of_errors(sk.mean_squared_error),
    "pinball": pinball,
    "r2": of_errors(sk.r2_score),
    "rmse": lambda j: float(np.sqrt(sk.mean_squared_error(j.true, j.label, sample_weight=j.weights))),
    **{name: of_ranking(name) for name in RANKING},
    **{name: part_of(name) for name in PARTS},
}
