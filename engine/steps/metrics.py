"""What predictions are worth: scikit-learn's metrics, one function a metric, named in ``spec.vocabulary.METRICS``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn import metrics as sk

from engine.plugins import find, load
from engine.spec.vocabulary import METRICS, Task
from engine.steps.calibration import PARTS, part_of

FloatArray = np.ndarray[Any, np.dtype[np.float64]]
IntArray = np.ndarray[Any, np.dtype[np.int64]]
AnyArray = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Judged:
    """Predictions beside the truth, n rows.

    For classification ``true`` and ``label`` are class indexes (n,) and ``score`` the probability of the second
    class (n,), or of each class (n, k); for regression all three are values (n,) and ``label`` is ``score``.
    """

    task: Task
    true: AnyArray
    label: AnyArray
    score: AnyArray
    classes: int = 0

    def rows(self, chosen: AnyArray) -> Judged:
        """The rows at the indexes, or under the mask, ``chosen``."""
        return Judged(
            task=self.task,
            true=self.true[chosen],
            label=self.label[chosen],
            score=self.score[chosen],
            classes=self.classes,
        )


def compute(name: str, judged: Judged) -> float | None:
    """A metric, or ``None`` where it is not defined: no rows, or one class only where two are needed."""
    if len(judged.true) == 0 or (name in NEED_BOTH_CLASSES and len(np.unique(judged.true)) < 2):
        return None
    if name == "roc_auc" and judged.task == "multiclass" and len(np.unique(judged.true)) < judged.classes:
        return None
    function = FUNCTIONS[name] if name in FUNCTIONS else plugin(name)
    value = float(function(judged))
    return value if np.isfinite(value) else None


def plugin(name: str) -> Callable[[Judged], float]:
    """A metric from a plugin, behind the same signature."""
    component: Any = load(find("metric", name))
    return lambda judged: component(judged.true, judged.label, judged.score, np.ones(len(judged.true)))


def is_for(name: str, task: Task) -> bool:
    """Whether a metric can be computed for a task; a plugin's metric is for all."""
    return name not in METRICS or task in METRICS[name].tasks


def averaging(judged: Judged) -> str:
    """How scikit-learn combines classes: the positive one for two, their plain mean for more."""
    return "binary" if judged.task == "binary" else "macro"


def roc_auc(judged: Judged) -> float:
    """Area under the ROC curve; one class against the rest, averaged, for more than two."""
    if judged.task == "binary":
        return float(sk.roc_auc_score(judged.true, judged.score))
    return float(sk.roc_auc_score(judged.true, judged.score, multi_class="ovr", labels=list(range(judged.classes))))


def log_loss(judged: Judged) -> float:
    """Negative log likelihood of the true class, in nats a row."""
    return float(sk.log_loss(judged.true, judged.score, labels=list(range(judged.classes))))


def rank_auc(true: AnyArray, score: AnyArray) -> float:
    """ROC AUC of two classes by ranks (Mann-Whitney U): the same value as :func:`roc_auc`, in O(n log n) of numpy."""
    from scipy.stats import rankdata

    positives = int(true.sum())
    ranks = rankdata(score)
    return float((ranks[true == 1].sum() - positives * (positives + 1) / 2) / (positives * (len(true) - positives)))


NEED_BOTH_CLASSES = frozenset({"roc_auc", "average_precision"})
FUNCTIONS: Mapping[str, Callable[[Judged], float]] = {
    "accuracy": lambda j: sk.accuracy_score(j.true, j.label),
    "average_precision": lambda j: sk.average_precision_score(j.true, j.score),
    "balanced_accuracy": lambda j: sk.balanced_accuracy_score(j.true, j.label),
    "brier": lambda j: float(np.mean((j.score - j.true) ** 2)),
    "f1": lambda j: sk.f1_score(j.true, j.label, average=averaging(j), zero_division=0),
    "log_loss": log_loss,
    "precision": lambda j: sk.precision_score(j.true, j.label, average=averaging(j), zero_division=0),
    "recall": lambda j: sk.recall_score(j.true, j.label, average=averaging(j), zero_division=0),
    "roc_auc": roc_auc,
    "mae": lambda j: sk.mean_absolute_error(j.true, j.score),
    "mape": lambda j: sk.mean_absolute_percentage_error(j.true, j.score),
    "mse": lambda j: sk.mean_squared_error(j.true, j.score),
    "r2": lambda j: sk.r2_score(j.true, j.score),
    "rmse": lambda j: float(np.sqrt(sk.mean_squared_error(j.true, j.score))),
    **{name: part_of(name) for name in PARTS},
}
