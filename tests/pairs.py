"""Two models on the same rows whose true difference is known exactly: what is said of them can be held against it."""

from __future__ import annotations

from collections.abc import Callable
from math import pi, sqrt
from typing import Any

import numpy as np
from scipy.stats import norm

from engine.steps.metrics import Judged

ALIKE = 0.7
"""How much two models are wrong about the same rows: the correlation of what they add to the truth."""
Pair = tuple[Judged, Judged]
Simulator = Callable[[float, int, np.random.Generator], Pair]


def together(rows: int, random: np.random.Generator) -> tuple[Any, Any]:
    """Two standard normal values a row, correlated."""
    first = random.normal(size=rows)
    return first, ALIKE * first + sqrt(1 - ALIKE**2) * random.normal(size=rows)


def by_auc(gain: float, rows: int, random: np.random.Generator) -> Pair:
    """Two classes with normal scores: the ROC AUC is Phi(distance / sqrt 2). Theirs is 0.75, ours ``gain`` more."""
    true = (random.random(rows) < 0.4).astype(np.int64)
    sides = []
    for auc, noise in zip((0.75 + gain, 0.75), together(rows, random), strict=True):
        score = norm.cdf(true * sqrt(2) * norm.ppf(auc) + noise)
        sides.append(Judged(task="binary", true=true, label=(score > 0.5).astype(np.int64), score=score, classes=2))
    return sides[0], sides[1]


def by_accuracy(gain: float, rows: int, random: np.random.Generator) -> Pair:
    """Two classes: theirs is right on 85 % of the rows, ours on ``gain`` more."""
    true = (random.random(rows) < 0.5).astype(np.int64)
    sides = []
    for accuracy, noise in zip((0.85 + gain, 0.85), together(rows, random), strict=True):
        label = np.where(norm.cdf(noise) < accuracy, true, 1 - true)
        sides.append(Judged(task="binary", true=true, label=label, score=label.astype(float), classes=2))
    return sides[0], sides[1]


def by_mae(gain: float, rows: int, random: np.random.Generator) -> Pair:
    """Normal errors: the mean absolute error is their scale times sqrt(2 / pi). Theirs is 1, ours ``gain`` less."""
    true = random.normal(size=rows)
    sides = []
    for mae, noise in zip((1 - gain, 1.0), together(rows, random), strict=True):
        value = true + noise * mae * sqrt(pi / 2)
        sides.append(Judged(task="regression", true=true, label=value, score=value))
    return sides[0], sides[1]


PAIRS: dict[str, tuple[Simulator, float]] = {
    "roc_auc": (by_auc, 0.02),
    "accuracy": (by_accuracy, 0.02),
    "mae": (by_mae, 0.05),
}
"""Metric -> how a pair is made, and a margin that is worth asking about."""


def binomial_range(count: int, rate: float, certainty: float = 0.999) -> tuple[int, int]:
    """Between which numbers of ``count`` something of this rate lies, with this certainty."""
    from scipy.stats import binom

    low, high = binom.interval(certainty, count, rate)
    return int(low), int(high)
