"""How well rows are ordered within their queries: one value a query, all queries at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

FloatArray = np.ndarray[Any, np.dtype[np.float64]]
IntArray = np.ndarray[Any, np.dtype[np.int64]]
AnyArray = np.ndarray[Any, np.dtype[Any]]

RANKING = ("mean_average_precision", "mrr", "ndcg", "ndcg_at_10")


@dataclass(frozen=True, kw_only=True, slots=True)
class Queries:
    """Which rows belong together: ``of`` (n,) numbers each row's query from 0 to ``count`` - 1."""

    of: IntArray
    count: int

    def sums(self, values: AnyArray) -> FloatArray:
        """The sum of a value a row over each query, (count,)."""
        return np.asarray(np.bincount(self.of, weights=values, minlength=self.count), dtype=np.float64)

    def mean(self, values: AnyArray) -> FloatArray:
        """The mean of a value a row over each query, (count,)."""
        return self.sums(values) / self.sums(np.ones(len(self.of)))


def queries(groups: AnyArray) -> Queries:
    """The queries that occur, numbered anew from 0 in the order of their numbers."""
    found, numbers = np.unique(groups, return_inverse=True)
    return Queries(of=numbers.astype(np.int64), count=len(found))


def per_query(name: str, true: AnyArray, score: AnyArray, found: Queries) -> FloatArray:
    """The metric ``name`` of each query, (count,); NaN for a query without a relevant row."""
    relevant = found.sums(true > 0) > 0
    values: FloatArray = VALUES[name](np.asarray(true, dtype=np.float64), score, found)
    return np.where(relevant, values, np.nan)


def gains(true: FloatArray, score: AnyArray, found: Queries, most: int | None) -> FloatArray:
    """Discounted cumulative gain of each query's first ``most`` rows (Jarvelin and Kekalainen, 2002).

    Rows of equal score share the gains of their places, as scikit-learn's ``dcg_score`` has it (McSherry and Najork,
    2008).
    """
    order = np.lexsort((-score, found.of))
    query, ordered = found.of[order], score[order]
    place = places(query)
    discount = 1 / np.log2(place + 2)
    if most is not None:
        discount[place >= most] = 0
    new = np.concatenate([[True], (query[1:] != query[:-1]) | (ordered[1:] != ordered[:-1])])
    starts = np.flatnonzero(new)
    sizes = np.diff(np.append(starts, len(order)))
    shared = np.add.reduceat(true[order], starts) / sizes * np.add.reduceat(discount, starts)
    return np.asarray(np.bincount(query[starts], weights=shared, minlength=found.count), dtype=np.float64)


def places(query: IntArray) -> IntArray:
    """Each row's place within its query, from 0, for rows that are sorted by query."""
    starts = np.flatnonzero(np.concatenate([[True], query[1:] != query[:-1]]))
    sizes = np.diff(np.append(starts, len(query)))
    found: IntArray = np.arange(len(query)) - np.repeat(starts, sizes)
    return found


def ndcg(true: FloatArray, score: AnyArray, found: Queries, most: int | None = None) -> FloatArray:
    """Discounted cumulative gain as a share of that of the best order."""
    best = gains(true, true, found, most)
    return np.divide(gains(true, score, found, most), best, out=np.zeros(found.count), where=best > 0)


def reciprocal_rank(true: FloatArray, score: AnyArray, found: Queries) -> FloatArray:
    """One over the place of the first relevant row. A tie counts against the model: irrelevant rows come first."""
    best = np.full(found.count, -np.inf)
    np.maximum.at(best, found.of[true > 0], score[true > 0])
    before = found.sums((score > best[found.of]) | ((score == best[found.of]) & (true <= 0)))
    return 1 / (before + 1)


def average_precision(true: FloatArray, score: AnyArray, found: Queries) -> FloatArray:
    """The mean over a query's relevant rows of the share of relevant rows among those that score as high or higher."""
    order = np.lexsort((-score, found.of))
    query, ordered, relevant = found.of[order], score[order], (true[order] > 0).astype(np.float64)
    first = np.flatnonzero(np.concatenate([[True], query[1:] != query[:-1]]))
    sizes = np.diff(np.append(first, len(order)))
    running = np.cumsum(relevant)
    hits = running - np.repeat(running[first] - relevant[first], sizes)
    last = np.concatenate([(query[1:] != query[:-1]) | (ordered[1:] != ordered[:-1]), [True]])
    ends = np.flatnonzero(last)
    end_of = np.repeat(ends, np.diff(np.append(-1, ends)))
    precision = hits[end_of] / (places(query)[end_of] + 1)
    total = np.bincount(query, weights=relevant, minlength=found.count)
    summed = np.bincount(query, weights=relevant * precision, minlength=found.count)
    return np.divide(summed, total, out=np.zeros(found.count), where=total > 0)


VALUES: Mapping[str, Callable[[FloatArray, AnyArray, Queries], FloatArray]] = {
    "mean_average_precision": average_precision,
    "mrr": reciprocal_rank,
    "ndcg": ndcg,
    "ndcg_at_10": lambda true, score, found: ndcg(true, score, found, 10),
}
