"""Detectors ``unseen`` and ``missing``: does a window have categories, or gaps, that the reference does not have?"""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc
from scipy import stats

from engine.plugins import Feature
from engine_plugins.drift.columns import ROLES, categories, column, numbers, require_seen
from engine_plugins.drift.detectors import Test, Univariate

FILLED = 10.0


class UnseenCategories(Univariate):
    """The share of rows with a category that the reference does not have, for each categorical feature.

    ``features``: which ones, else all categorical. ``reference_rows``: of a longer reference so many are drawn by the
    seed: a category that was not drawn is unseen.
    """

    roles = ("categorical",)
    instead = "missing"

    @classmethod
    def restored_test(cls, reference: pa.Table, feature: Feature, _: Mapping[str, object]) -> Test:
        """The test of one feature against the categories of its reference.

        How often something new comes when nothing changed is the share of what came once: Good (1953), The population
        frequencies of species, Biometrika 40. One row more is taken for it, so that it is never nothing.

        Raises:
            PluginFailed: when the reference has no value.
        """
        known = categories(reference, feature)
        whole = sum(known.values())
        require_seen(feature, whole)
        expected = (sum(count == 1 for count in known.values()) + 1) / (whole + 1)

        def compared(window: pa.Table) -> tuple[float, float]:
            found = categories(window, feature)
            rows = sum(found.values())
            unseen = sum(count for name, count in found.items() if name not in known)
            if not unseen:
                return 1.0, 0.0
            return float(stats.binom.sf(unseen - 1, rows, expected)), unseen / rows

        return compared


class MissingValues(Univariate):
    """The share of rows without a value, against that of the reference, for each feature.

    ``features``: which ones, else all. Null, NaN and the empty text are no value. ``reference_rows``: of a longer
    reference so many are drawn by the seed. The distance is the difference of the shares.
    """

    roles = ROLES
    instead = ""

    @classmethod
    def restored_test(cls, reference: pa.Table, feature: Feature, _: Mapping[str, object]) -> Test:
        """The test of one feature: Fisher's exact one, or Pearson's chi-squared where it says the same."""
        before = missing(reference, feature)
        whole = reference.num_rows

        def compared(window: pa.Table) -> tuple[float, float]:
            now, rows = missing(window, feature), window.num_rows
            if not rows or not whole or not before + now:
                return 1.0, 0.0
            return two_shares(before, whole, now, rows), abs(now / rows - before / whole)

        return compared


def missing(table: pa.Table, feature: Feature) -> int:
    """How many rows have no value."""
    if feature.role == "numeric":
        return int(table.num_rows - len(numbers(table, feature)))
    found = column(table, feature)
    empty = pc.sum(pc.equal(found.cast(pa.string()), "")).as_py() or 0
    return int(found.null_count + empty)


def two_shares(first: int, whole: int, second: int, rows: int) -> float:
    """The two-sided p-value that two shares differ: exact while a cell expects fewer than :data:`FILLED` rows."""
    counts = [[first, whole - first], [second, rows - second]]
    share = (first + second) / (whole + rows)
    if min(share, 1 - share) * min(whole, rows) < FILLED:
        return float(stats.fisher_exact(counts).pvalue)
    return float(stats.chi2_contingency(counts, correction=False).pvalue)
