"""Predictions of every task, a little better than a guess, and what scikit-learn says each metric of them is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from sklearn import metrics as sk

from engine.spec.vocabulary import Task
from engine.steps.metrics import Judged

RANDOM = np.random.default_rng(0)
N = 400
TRUE = (RANDOM.random(N) < 0.4).astype(np.int64)
SCORE = 0.3 * TRUE + 0.7 * RANDOM.random(N)
BINARY = Judged(task="binary", true=TRUE, label=(SCORE > 0.5).astype(np.int64), score=SCORE, classes=2)
CLASS = RANDOM.integers(0, 3, N)
PROBABILITIES = RANDOM.dirichlet([1, 1, 1], N) * 0.5 + 0.5 * np.eye(3)[CLASS]
PROBABILITIES[:50] = RANDOM.dirichlet([1, 1, 1], 50)
MULTI = Judged(task="multiclass", true=CLASS, label=PROBABILITIES.argmax(axis=1), score=PROBABILITIES, classes=3)
VALUES = RANDOM.normal(10, 2, N)
GUESS = VALUES + RANDOM.normal(size=N)
REGRESSION = Judged(task="regression", true=VALUES, label=GUESS, score=GUESS)
LABELS = (RANDOM.random((N, 3)) < [0.2, 0.5, 0.6]).astype(np.int64)
CHANCES = np.round(0.4 * LABELS + 0.6 * RANDOM.random((N, 3)), 2).clip(0.01, 0.99)
MULTILABEL = Judged(task="multilabel", true=LABELS, label=(CHANCES > 0.5).astype(np.int64), score=CHANCES, classes=3)
LEVELS = (0.1, 0.5, 0.9)
QUANTILES = GUESS[:, None] + np.array([-1.3, 0.0, 1.3])
QUANTILE = Judged(task="quantile", true=VALUES, label=QUANTILES[:, 1], score=QUANTILES, levels=LEVELS)
GROUPS = np.sort(RANDOM.integers(0, 40, N))
RELEVANCE = RANDOM.choice([0, 0, 0, 1, 2, 3], N)
RELEVANCE[GROUPS == 7] = 0
MERIT = np.round(0.5 * RELEVANCE + RANDOM.normal(size=N), 1)
RANKING = Judged(task="ranking", true=RELEVANCE, label=MERIT, score=MERIT, groups=GROUPS)
SIDES: dict[Task, Judged] = {side.task: side for side in (BINARY, MULTI, REGRESSION, MULTILABEL, QUANTILE, RANKING)}
WEIGHTS = RANDOM.gamma(2, size=N)
Weights = Any

Expected = Callable[[Judged, Weights], float]


def weighing(judged: Judged) -> Judged:
    """The same predictions with weights."""
    return replace(judged, weights=WEIGHTS)


def mean_over_labels(function: Callable[..., float]) -> Expected:
    return lambda j, w: float(np.mean([function(j.true[:, k], j.score[:, k], sample_weight=w) for k in range(3)]))


def pinball(judged: Judged, w: Weights) -> float:
    losses = [
        sk.mean_pinball_loss(judged.true, judged.score[:, k], alpha=level, sample_weight=w)
        for k, level in enumerate(LEVELS)
    ]
    return float(np.mean(losses))


def coverage(judged: Judged, w: Weights) -> float:
    inside = (judged.score[:, 0] <= judged.true) & (judged.true <= judged.score[:, 2])
    return float(np.average(inside, weights=w))


def over_queries(value: Callable[[Any, Any], float]) -> Expected:
    """The mean of a value a query, by a loop over those that have a relevant row."""

    def mean(judged: Judged, w: Weights) -> float:
        assert judged.groups is not None
        rows = [judged.groups == number for number in np.unique(judged.groups)]
        rows = [chosen for chosen in rows if judged.true[chosen].sum() > 0]
        values = [value(judged.true[chosen], judged.score[chosen]) for chosen in rows]
        return float(np.average(values, weights=None if w is None else [w[chosen].mean() for chosen in rows]))

    return mean


def first_relevant(true: Any, score: Any) -> float:
    """One over the place of the first relevant row, when rows of equal score are put in the worst order."""
    order = sorted(range(len(true)), key=lambda i: (-score[i], true[i] > 0))
    return 1 / (1 + next(place for place, i in enumerate(order) if true[i] > 0))


def of_labels(function: Callable[..., float], average: str) -> Expected:
    return lambda j, w: function(j.true, j.label, average=average, sample_weight=w)


def brier_of_many(judged: Judged, w: Weights) -> float:
    return float(np.average(((judged.score - np.eye(3)[judged.true]) ** 2).sum(axis=1), weights=w))


def plain(function: Callable[..., float]) -> Expected:
    return lambda j, w: function(j.true, j.label, sample_weight=w)


def scored(function: Callable[..., float]) -> Expected:
    return lambda j, w: function(j.true, j.score, sample_weight=w)


def binned(true: Any, score: Any, w: Weights) -> list[tuple[float, float, float]]:
    """Mass, mean score and share of truths in fifteen bins of equal mass, row by row; no two scores are equal."""
    weights = np.ones(len(true)) if w is None else w
    bins: dict[int, list[int]] = {}
    before = 0.0
    for row in np.argsort(score):
        bins.setdefault(int((before + weights[row] / 2) * 15 / weights.sum()), []).append(int(row))
        before += weights[row]
    means = ((rows, weights[rows]) for rows in bins.values())
    return [(m.sum(), np.average(score[rows], weights=m), np.average(true[rows], weights=m)) for rows, m in means]


def calibrated(value: Callable[[float, float, float], float]) -> Expected:
    """The mean over the bins of something of their score, their truth and the base rate."""

    def mean(judged: Judged, w: Weights) -> float:
        many = judged.task == "multiclass"
        true = (judged.label == judged.true).astype(float) if many else judged.true
        found = binned(true, judged.score.max(axis=1) if many else judged.score, w)
        rate = float(np.average(true, weights=w))
        return float(np.average([value(p, y, rate) for _, p, y in found], weights=[mass for mass, *_ in found]))

    return mean


EXPECTED: list[tuple[str, Task, Expected]] = [
    ("brier_reliability", "binary", calibrated(lambda p, y, _: (p - y) ** 2)),
    ("brier_resolution", "binary", calibrated(lambda _, y, rate: (y - rate) ** 2)),
    ("brier_uncertainty", "binary", calibrated(lambda _p, _y, rate: rate * (1 - rate))),
    ("ece", "binary", calibrated(lambda p, y, _: abs(p - y))),
    ("ece", "multiclass", calibrated(lambda p, y, _: abs(p - y))),
    *((name, task, plain(function)) for task in ("binary", "multiclass") for name, function in (
        ("accuracy", sk.accuracy_score), ("balanced_accuracy", sk.balanced_accuracy_score))),
    *((name, task, of_labels(function, average)) for task, average in (
        ("binary", "binary"), ("multiclass", "macro"), ("multilabel", "macro")) for name, function in (
        ("f1", sk.f1_score), ("precision", sk.precision_score), ("recall", sk.recall_score))),
    ("average_precision", "binary", scored(sk.average_precision_score)),
    ("brier", "binary", scored(sk.brier_score_loss)),
    ("log_loss", "binary", scored(sk.log_loss)),
    ("roc_auc", "binary", scored(sk.roc_auc_score)),
    ("brier", "multiclass", brier_of_many),
    ("log_loss", "multiclass", scored(sk.log_loss)),
    ("roc_auc", "multiclass", lambda j, w: sk.roc_auc_score(j.true, j.score, multi_class="ovr", sample_weight=w)),
    ("accuracy", "multilabel", plain(sk.accuracy_score)),
    ("hamming_loss", "multilabel", plain(sk.hamming_loss)),
    ("average_precision", "multilabel", mean_over_labels(sk.average_precision_score)),
    ("brier", "multilabel", mean_over_labels(sk.brier_score_loss)),
    ("log_loss", "multilabel", mean_over_labels(sk.log_loss)),
    ("roc_auc", "multilabel", mean_over_labels(sk.roc_auc_score)),
    ("f1_micro", "multilabel", of_labels(sk.f1_score, "micro")),
    ("precision_micro", "multilabel", of_labels(sk.precision_score, "micro")),
    ("recall_micro", "multilabel", of_labels(sk.recall_score, "micro")),
    *((name, task, plain(function)) for task in ("regression", "quantile") for name, function in (
        ("mae", sk.mean_absolute_error), ("mape", sk.mean_absolute_percentage_error),
        ("mse", sk.mean_squared_error), ("r2", sk.r2_score), ("rmse", sk.root_mean_squared_error))),
    ("pinball", "quantile", pinball),
    ("interval_coverage", "quantile", coverage),
    ("ndcg", "ranking", over_queries(lambda true, score: sk.ndcg_score([true], [score]))),
    ("ndcg_at_10", "ranking", over_queries(lambda true, score: sk.ndcg_score([true], [score], k=10))),
    ("mean_average_precision", "ranking", over_queries(lambda true, score: sk.average_precision_score(true > 0, score))),
    ("mrr", "ranking", over_queries(first_relevant)),
]  # fmt: skip
