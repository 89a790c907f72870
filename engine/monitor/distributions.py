"""A feature's values in the reference and in a window, side by side, as a person looks at them."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.monitor.model import Distribution

BINS = 20
CATEGORIES = 10
OTHERS = "(others)"

FloatArray = np.ndarray[Any, np.dtype[np.float64]]


def distribution(feature: str, reference: pa.ChunkedArray, window: pa.ChunkedArray) -> Distribution:
    """Both distributions of a feature: numbers in bins, all else by category."""
    if is_number(reference.type) and is_number(window.type):
        return of_numbers(feature, values(reference), values(window))
    return of_categories(feature, texts(reference), texts(window))


def is_number(kind: pa.DataType) -> bool:
    """Whether a column holds numbers, and not only two or three values by their type."""
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def values(column: pa.ChunkedArray) -> FloatArray:
    """Numbers, NaN for null."""
    return np.asarray(column.cast(pa.float64(), safe=False).to_numpy(), dtype=np.float64)


def texts(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Categories as text, null for none."""
    plain = column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column
    found = plain.cast(pa.string())
    return pc.if_else(pc.equal(found, ""), pa.scalar(None, pa.string()), found)


def of_numbers(feature: str, reference: FloatArray, window: FloatArray) -> Distribution:
    """Bins of equal width between the 0.5 % and 99.5 % quantiles of both together; what is beyond is in the outer ones.

    Whole numbers of few values have a bin each.
    """
    known, came = reference[np.isfinite(reference)], window[np.isfinite(window)]
    both = np.concatenate([known, came])
    edges = edges_of(both)
    sides = [shares(side, edges) for side in (known, came)]
    return Distribution(
        feature=feature,
        labels=tuple(f"{low:.4g} to {high:.4g}" for low, high in pairwise(edges)),
        reference=sides[0],
        window=sides[1],
        edges=tuple(float(edge) for edge in edges),
        reference_missing=missing(len(known), len(reference)),
        window_missing=missing(len(came), len(window)),
        reference_mean=float(known.mean()) if len(known) else None,
        window_mean=float(came.mean()) if len(came) else None,
    )


def edges_of(both: FloatArray) -> FloatArray:
    """The edges of the bins."""
    if len(both) == 0:
        return np.array([0.0, 1.0])
    distinct = np.unique(both)
    if len(distinct) <= BINS and (distinct == np.floor(distinct)).all() and distinct[-1] - distinct[0] < 2 * BINS:
        return np.arange(distinct[0] - 0.5, distinct[-1] + 1.0)
    low, high = (float(edge) for edge in np.quantile(both, (0.005, 0.995)))
    if low == high:
        low, high = float(both.min()) - 0.5, float(both.max()) + 0.5
    return np.linspace(low, high, BINS + 1)


def shares(side: FloatArray, edges: FloatArray) -> tuple[float, ...]:
    """The share of values in each bin."""
    counts, _ = np.histogram(np.clip(side, edges[0], edges[-1]), edges)
    return tuple(float(count) / max(len(side), 1) for count in counts)


def of_categories(feature: str, reference: pa.ChunkedArray, window: pa.ChunkedArray) -> Distribution:
    """The most frequent categories of both together, and the rest as one."""
    sides = [counted(side) for side in (reference, window)]
    totals = [max(sum(side.values()), 1) for side in sides]
    names = {*sides[0], *sides[1]}
    weight = {name: sides[0].get(name, 0) / totals[0] + sides[1].get(name, 0) / totals[1] for name in names}
    foremost = sorted(names, key=lambda name: (-weight[name], name))[:CATEGORIES]
    found = []
    for side, total in zip(sides, totals, strict=True):
        row = [side.get(name, 0) / total for name in foremost]
        found.append((*row, *([max(1 - sum(row), 0.0) if side else 0.0] if len(names) > CATEGORIES else [])))
    return Distribution(
        feature=feature,
        labels=(*foremost, *([OTHERS] if len(names) > CATEGORIES else [])),
        reference=found[0],
        window=found[1],
        reference_missing=missing(sum(sides[0].values()), len(reference)),
        window_missing=missing(sum(sides[1].values()), len(window)),
    )


def counted(side: pa.ChunkedArray) -> dict[str, int]:
    """How often each category occurs."""
    return {item["values"]: item["counts"] for item in pc.value_counts(side).to_pylist() if item["values"] is not None}


def missing(there: int, rows: int) -> float:
    """The share of rows without a value."""
    return 1 - there / rows if rows else 0.0
