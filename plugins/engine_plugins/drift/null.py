"""The law of a statistic where nothing has changed, found by simulation once, and p-values by it.

A statistic is scaled so that its law hardly depends on the number of rows, and so that its upper tail is near an
exponential one: a divergence times n m / (n + m) is asymptotically chi-squared (Yurdakul, 2018), a squared
Wasserstein distance times the same has the tail of a squared Gaussian process. Between the simulated sizes of a
window, and between quantiles, log p is interpolated; beyond the last quantile the tail goes on exponentially.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from engine_plugins.drift.columns import FloatArray

SIZES = (50, 200, 1_000, 10_000)
"""The rows of the windows that are simulated."""
LEVELS = (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.05, 0.02, 0.01)
"""The upper probabilities at which quantiles are kept; the tail is fitted beyond the last."""
DRAWS = 20_000
DIGITS = 6
SLACK = 1e-5
LEAST = 1e-300

Law = Mapping[str, Any]
Simulation = Callable[[int, np.random.Generator], FloatArray]
"""From the rows of a window, and luck, to scaled statistics of many windows without a change."""


def simulated(statistic: Simulation, seed: int) -> Law:
    """The law of a scaled statistic, as JSON: quantiles and the mean excess over the last one, for each size."""
    found = [summary(statistic(rows, np.random.default_rng([seed, rows]))) for rows in SIZES]
    return {"rows": list(SIZES), "quantiles": [one for one, _ in found], "excess": [other for _, other in found]}


def summary(values: FloatArray) -> tuple[list[float], float]:
    """The quantiles of simulated values at :data:`LEVELS`, and by how much those beyond the last exceed it."""
    quantiles = np.quantile(values, [1 - level for level in LEVELS])
    beyond = values[values > quantiles[-1]]
    excess = float(np.mean(beyond - quantiles[-1])) if len(beyond) else 0.0
    return [rounded(value) for value in quantiles], rounded(excess)


def rounded(value: float) -> float:
    """A value with so few digits that no machine's arithmetic shows in it."""
    return float(f"{value:.{DIGITS}g}")


def p_val(law: Law, rows: int, value: float) -> float:
    """How probable a scaled statistic of at least ``value`` is in a window of ``rows`` without a change."""
    sizes: Sequence[int] = law["rows"]
    above = next((at for at, size in enumerate(sizes) if size >= rows), len(sizes) - 1)
    below = above if sizes[above] <= rows or above == 0 else above - 1
    logs = [log_p(law["quantiles"][at], law["excess"][at], value) for at in (below, above)]
    if below == above:
        return math.exp(logs[0])
    part = math.log(rows / sizes[below]) / math.log(sizes[above] / sizes[below])
    return math.exp(logs[0] + part * (logs[1] - logs[0]))


def log_p(quantiles: Sequence[float], excess: float, value: float) -> float:
    """The logarithm of the upper probability of ``value``, at least that of 1e-300.

    A value is taken as a little smaller than it is: quantiles are rounded, and where many values are equal the
    probability is that of all of them.
    """
    value, last = value * (1 - SLACK), quantiles[-1]
    if value <= 0:
        return 0.0
    if value > last:
        tail = math.log(LEVELS[-1]) - (value - last) / excess if excess > 0 else -math.inf
        return max(tail, math.log(LEAST))
    return float(np.interp(value, [0.0, *quantiles], [0.0, *(math.log(level) for level in LEVELS)]))
