"""How far the true value of a metric may be from the one that was found, for every metric.

Exact and closed forms where they exist, and a bootstrap for the rest, all metrics on the same draws:

===========  ========================================================================================================
wilson       shares of rows: accuracy, precision, recall, coverage (Wilson, 1927, JASA 22:209-212); with weights of as
             many trials as would have the same error
delong       ROC AUC of two classes (DeLong, DeLong and Clarke-Pearson, 1988, Biometrics 44:837-845)
student      means of a value a row or a query, and what is monotone in one (Student, 1908, Biometrika 6:1-25);
             with weights the error of a ratio of two means (Cochran, 1977, Sampling Techniques, 6.3)
bootstrap    the rest: the spread over :data:`DRAWS` draws, fewer for many rows (Efron and Tibshirani, 1993, An
             Introduction to the Bootstrap, 13.2; for a standard error 50 draws are often enough and 200 nearly
             always, 6.4); on the logit scale for metrics between 0 and 1 (Boyd, Eng and Page, 2013, ECML PKDD,
             451-466, for the average precision)
===========  ========================================================================================================

Every interval is two-sided. It is about the rows as a sample: it knows nothing of drift.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp, isfinite, log, sqrt
from statistics import NormalDist

import numpy as np
from scipy.special import stdtrit

from engine.spec.vocabulary import CLASSIFICATION, range_of
from engine.steps.compare import placements
from engine.steps.metrics import FUNCTIONS, FloatArray, Judged, by_query, compute
from engine.steps.ranking import RANKING
from engine.steps.resampling import LOSSES, SEED, resampled, right

CONFIDENCE = 0.95
DRAWS, DRAWS_IN_PART, FEWEST_DRAWS = 200, 100, 50
MOST_ROWS = 20_000_000
"""Rows times draws, beyond which there are fewer draws."""
MOST_ROWS_OF_PLUGINS = 2_000_000
"""The same for a metric of a plugin, which is called on each draw anew."""
MOST_UNDEFINED = 0.1
"""The share of draws on which a metric may be undefined, as on one class only, and still have an interval."""
DIGITS = 6
"""An end has so many significant digits: more would be noise, and differ with the last bits of a sum."""
ANYWHERE = frozenset({"interval_coverage", "mae", "mape", "mse", "rmse", "r2", "pinball", "log_loss"})
"""Metrics that are no share of anything, or are judged as one by their own rows."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """A metric on some rows: its value, and between which ends the true one lies with :data:`CONFIDENCE`.

    ``None`` where it is not defined, and at the ends where nothing can be said of them.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    method: str | None = None

    @property
    def ends(self) -> list[float | None]:
        """Both ends."""
        return [self.low, self.high]


def estimates(
    names: Sequence[str], judged: Judged, confidence: float = CONFIDENCE, draws: int = DRAWS
) -> dict[str, Estimate]:
    """Every metric with its interval, from ``draws`` draws at most where it takes draws."""
    values = {name: compute(name, judged) for name in names}
    found = {name: closed(name, value, judged, confidence) for name, value in values.items() if value is not None}
    rest = [name for name, estimate in found.items() if estimate is None]
    drawn = bootstrap({name: values[name] for name in rest}, judged, confidence, draws)
    return {name: drawn.get(name) or found.get(name) or Estimate(value=values[name]) for name in names}


def closed(name: str, value: float, judged: Judged, confidence: float) -> Estimate | None:
    """The estimate by a form of its own, if the metric has one here."""
    share = share_of(name, judged)
    if share is not None:
        return estimate(value, *wilson(value * trials(*share), trials(*share), confidence), "wilson")
    if name == "roc_auc" and judged.task == "binary" and judged.weights is None:
        return of_auc(value, judged, confidence)
    if name in RANKING:
        values, weights = by_query(name, judged)
        return estimate(value, *possible(name, student(values, weights, confidence)), "student")
    if name in LOSSES:
        losses = LOSSES[name](judged)
        return estimate(value, *possible(name, student(losses, judged.weights, confidence)), "student")
    if name == "rmse":
        low, high = student(LOSSES["mse"](judged), judged.weights, confidence)
        return estimate(value, sqrt(max(low, 0)), sqrt(max(high, 0)), "student")
    return None


def estimate(value: float, low: float, high: float, method: str) -> Estimate:
    """An estimate with its ends rounded; without them when they are no numbers."""
    if not (isfinite(low) and isfinite(high)):
        return Estimate(value=value)
    return Estimate(value=value, low=shortened(low), high=shortened(high), method=method)


def possible(name: str, ends: tuple[float, float]) -> tuple[float, float]:
    """The part of an interval in which the metric can lie: a mean's own knows nothing of that."""
    least, most = range_of(name) if name in RANKING else (0.0, float("inf"))
    return max(ends[0], least), min(ends[1], most)


def shortened(value: float) -> float:
    """``value`` with :data:`DIGITS` significant digits."""
    return float(f"{value:.{DIGITS}g}")


# -- shares --------------------------------------------------------------------------------------------------------


def share_of(name: str, judged: Judged) -> tuple[FloatArray, FloatArray | None] | None:
    """The trials that a metric is the share of: 1 for a success, else 0, and the weights of the trials."""
    weights = judged.weights
    if name in ("accuracy", "interval_coverage"):
        return (right(judged) if name == "accuracy" else LOSSES[name](judged)), weights
    if judged.task == "binary" and name in ("precision", "recall"):
        tried = (judged.label if name == "precision" else judged.true) == 1
        return right(judged)[tried], None if weights is None else weights[tried]
    return None


def trials(hits: FloatArray, weights: FloatArray | None) -> float:
    """How many trials of one weight would say as much of their share (Franco et al., 2019, J. Survey Statistics and
    Methodology 7:334-364): those with the same standard error; where all or none succeed, Kish's count."""
    if weights is None:
        return float(len(hits))
    whole = float(weights.sum())
    share = float((weights * hits).sum()) / whole if whole else 0.0
    spread = float(((weights * (hits - share)) ** 2).sum())
    return share * (1 - share) * whole**2 / spread if spread > 0 else kish(weights)


def wilson(successes: float, trials: float, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """The score interval of a share (Wilson, 1927, JASA 22:209-212); all of [0, 1] without trials."""
    if trials <= 0:
        return 0.0, 1.0
    z = quantile(confidence)
    share = successes / trials
    middle = share + z**2 / (2 * trials)
    reach = z * sqrt(share * (1 - share) / trials + z**2 / (4 * trials**2))
    scale = 1 + z**2 / trials
    low = 0.0 if successes <= 0 else (middle - reach) / scale
    high = 1.0 if successes >= trials else (middle + reach) / scale
    return max(low, 0.0), min(high, 1.0)


def quantile(confidence: float) -> float:
    """How many standard errors there are on each side for a two-sided ``confidence``."""
    return NormalDist().inv_cdf((1 + confidence) / 2)


# -- ROC AUC -------------------------------------------------------------------------------------------------------


def of_auc(value: float, judged: Judged, confidence: float) -> Estimate:
    """The ROC AUC of two classes.

    Where every pair is in order, or none is, DeLong's error is 0, which says too much: then it is a share of as many
    trials as the smaller class has rows.
    """
    positive = judged.true == 1
    fewest = int(min(positive.sum(), (~positive).sum()))
    if value in (0.0, 1.0) or fewest < 2:
        return estimate(value, *wilson(value * fewest, fewest, confidence), "wilson")
    reach = quantile(confidence) * auc_error(positive, judged.score)
    return estimate(value, max(value - reach, 0.0), min(value + reach, 1.0), "delong")


def auc_error(positive: FloatArray, score: FloatArray) -> float:
    """The standard error of a ROC AUC (DeLong, DeLong and Clarke-Pearson, 1988), by placements."""
    of_positives, of_negatives = placements(positive, score)
    return sqrt(of_positives.var(ddof=1) / len(of_positives) + of_negatives.var(ddof=1) / len(of_negatives))


# -- means ---------------------------------------------------------------------------------------------------------


def student(values: FloatArray, weights: FloatArray | None, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Student's interval of a mean; of a weighted one, with the error of a ratio (Cochran, 1977, 6.3)."""
    if weights is None:
        weights = np.ones(len(values))
    count, whole = int((weights > 0).sum()), float(weights.sum())
    if count < 2:
        return float("nan"), float("nan")
    mean = float((weights * values).sum()) / whole
    spread = float(((weights * (values - mean)) ** 2).sum()) * count / (count - 1)
    reach = float(stdtrit(count - 1, (1 + confidence) / 2)) * sqrt(spread) / whole
    return mean - reach, mean + reach


# -- the rest ------------------------------------------------------------------------------------------------------


def bootstrap(values: Mapping[str, float | None], judged: Judged, confidence: float, draws: int) -> dict[str, Estimate]:
    """Estimates by drawing rows: all of our metrics on the same draws, those of plugins on the first of them."""
    ours = {name: value for name, value in values.items() if name in FUNCTIONS}
    theirs = {name: value for name, value in values.items() if name not in FUNCTIONS}
    found = {}
    for group, most in ((ours, MOST_ROWS), (theirs, MOST_ROWS_OF_PLUGINS)):
        affordable = max(FEWEST_DRAWS, most // max(len(judged.true), 1))
        drawn = resampled(list(group), judged, min(draws, affordable), SEED) if group else {}
        for name, value in group.items():
            assert value is not None
            found[name] = drawn_estimate(name, value, drawn[name], judged, confidence)
    return found


def drawn_estimate(name: str, value: float, drawn: FloatArray, judged: Judged, confidence: float) -> Estimate:
    """The bootstrap's normal interval: as many standard errors from the value as the confidence asks.

    Where every draw says the same of a share, that says too much: then it is one of as many trials as the rarest
    class has rows.
    """
    kept = drawn[np.isfinite(drawn)]
    if len(kept) < (1 - MOST_UNDEFINED) * len(drawn):
        return Estimate(value=value)
    z = quantile(confidence)
    if name not in FUNCTIONS or name in ANYWHERE:
        reach = z * float(kept.std(ddof=1))
        return estimate(value, value - reach, value + reach, "bootstrap")
    if value in (0.0, 1.0) or kept.min() == kept.max():
        count = effective(judged)
        return estimate(value, *wilson(value * count, count, confidence), "wilson")
    inside = np.clip(kept, 1e-9, 1 - 1e-9)
    reach = z * float(np.log(inside / (1 - inside)).std(ddof=1))
    middle = log(value / (1 - value))
    return estimate(value, 1 / (1 + exp(reach - middle)), 1 / (1 + exp(-reach - middle)), "bootstrap")


def effective(judged: Judged) -> float:
    """How many rows of one weight say as much as these (Kish, 1965, Survey Sampling, 8.2), in the rarest class."""
    weights = np.ones(len(judged.true)) if judged.weights is None else judged.weights
    if judged.task not in CLASSIFICATION:
        return kish(weights)
    return min(kish(weights[judged.true == number]) for number in np.unique(judged.true))


def kish(weights: FloatArray) -> float:
    """The square of the sum over the sum of the squares."""
    squares = float((weights**2).sum())
    return float(weights.sum()) ** 2 / squares if squares else 0.0
