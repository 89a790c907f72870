"""Detectors ``unseen`` and ``missing``: categories that the reference never had, and rows without a value."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from scipy import stats

from engine_plugins.drift.columns import categories, missing, require_seen
from engine_plugins.drift.detectors import Known, Test, Univariate


class Unseen(Univariate):
    """The share of rows whose category the reference never had, with a p-value.

    How much of what comes is new even without a change is told by the categories that the reference had once (Good
    and Turing): of n rows and s such, the number of new rows in a window of m is judged as beta-binomial with
    parameters s + 1 and n - s + 1. So one new row is little, and three are much. ``features``: which ones, else all
    categorical. ``reference_rows``: of a longer reference so many are drawn.
    """

    roles = ("categorical",)
    instead = "missing"
    least_rows = 1

    @classmethod
    def test(cls, known: Known) -> Test:
        """The test of one feature against the categories of its reference."""
        feature, before = known.feature, categories(known.reference, known.feature)
        total = sum(before.values())
        require_seen(feature, total)
        once = sum(1 for count in before.values() if count == 1)

        def compared(window: pa.Table) -> tuple[float, float]:
            found = categories(window, feature)
            rows, new = sum(found.values()), sum(count for name, count in found.items() if name not in before)
            if new == 0:
                return 1.0, 0.0
            return float(stats.betabinom.sf(new - 1, rows, once + 1, total - once + 1)), new / rows

        return compared


class Missing(Univariate):
    """The share of rows without a value: null, NaN or the empty text. The distance is by how much it differs.

    The p-value is that of Fisher's exact test, two-sided as twice the smaller tail. ``features``: which ones, else
    all. ``reference_rows``: of a longer reference so many are drawn.
    """

    roles = ("numeric", "categorical")
    least_rows = 1

    @classmethod
    def test(cls, known: Known) -> Test:
        """The test of one feature against the share of its reference."""
        feature, total = known.feature, known.reference.num_rows
        before = missing(known.reference, feature)

        def compared(window: pa.Table) -> tuple[float, float]:
            rows, holes = window.num_rows, missing(window, feature)
            if rows == 0:
                return 1.0, 0.0
            return fisher(before, total, holes, rows), abs(holes / rows - before / total)

        return compared


def fisher(before: int, total: int, found: int, rows: int) -> float:
    """The p-value of Fisher's exact test that ``before`` of ``total`` and ``found`` of ``rows`` are of one share."""
    if before + found in (0, total + rows):
        return 1.0
    law = stats.hypergeom(total + rows, before + found, rows)
    return float(np.clip(2 * min(law.cdf(found), law.sf(found - 1)), 0, 1))
