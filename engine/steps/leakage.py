"""What a model could know of the test and should not: rows that it was trained on, identifiers, the answer itself.

- ``leaked_rows``, ``leaked_share``: test rows whose features are those of a training row, by a hash of all of them;
  with ``by`` the rows are known by those columns instead.
- ``identifier_features``: features that tell rows apart, so that a model can learn them by heart.
- ``target_proxy_auc``: the ROC AUC of the best single feature; near 1 it is the target in other words.

Everything is a few passes over whole columns: no row is touched in Python.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pandas.util import hash_array

from engine.steps.columns import require_column, require_rows, require_target, require_targets
from engine.steps.context import Context
from engine.steps.model import Inputs
from engine.steps.verdict import Gate, Verdict, bounded, count_of

if TYPE_CHECKING:
    from engine.steps.metrics import AnyArray, FloatArray

    HashArray = np.ndarray[Any, np.dtype[np.uint64]]

NAMED = 5
IDENTIFIER_SHARE = 0.95
FEWEST_ROWS = 50
FEW_VALUES = 1000
MOST_CLASSES = 20
LARGEST_EXACT = 2.0**53
MISSING = np.uint64(0x9E3779B97F4A7C15)


def judge(gate: Gate, params: Mapping[str, Any], inputs: Inputs, context: Context) -> Verdict:
    """The verdict on one of the figures.

    Raises:
        StepFailed: for an empty table, or a column that one of the two does not have.
    """
    train, test = context.table(inputs["train"]), context.table(inputs["table"])
    require_rows(train, "the training data", "train.data")
    require_rows(test, "the evaluation data", "evaluate.data")
    features = [*params["features"]["numeric"], *params["features"]["categorical"]]
    for index, name in enumerate(gate["by"] or ()):
        for table in (train, test):
            require_column(table, name, f"by.{index}")
    if gate["metric"] in ("leaked_rows", "leaked_share"):
        return rows_verdict(gate, train, test, features)
    if gate["metric"] == "identifier_features":
        return identifiers_verdict(gate, train, features)
    return proxy_verdict(gate, train, test, features, params["target"])


# -- rows of the test in the training data ------------------------------------------------------------------------


def rows_verdict(gate: Gate, train: pa.Table, test: pa.Table, features: Sequence[str]) -> Verdict:
    """How many test rows, or which share of them, are in the training data."""
    columns = list(gate["by"] or features)
    leaked = np.flatnonzero(in_both(train, test, columns))
    by = ", ".join(columns) if gate["by"] else f"all {len(columns)} features"
    of = f"{len(leaked):,} of {count_of(test.num_rows, 'test row')} {'is' if len(leaked) == 1 else 'are'}"
    found = f"{of} in the training data, the same in {by}"
    is_share = gate["metric"] == "leaked_share"
    value = len(leaked) / test.num_rows if is_share else len(leaked)
    return bounded(
        gate,
        value,
        test.num_rows,
        what=f"{found}: {gate['metric']}",
        method=f"a 64-bit hash of each row, against {count_of(train.num_rows, 'training row')}",
        columns=columns,
        examples=[int(row) for row in leaked[:NAMED]],
    )


def in_both(train: pa.Table, test: pa.Table, columns: Sequence[str]) -> AnyArray:
    """Which rows of ``test`` are in ``train``, by the values of ``columns``; missing values are equal to each other.

    Two rows that differ have the same hash with a chance of 2^-64: of a million rows against a million, 5e-8 in all.
    """
    before, after = (np.zeros(table.num_rows, dtype=np.uint64) for table in (train, test))
    for name in columns:
        first, second = value_hashes(train.column(name), test.column(name))
        before, after = mixed(before ^ first), mixed(after ^ second)
    found: AnyArray = pd.Series(after).isin(before).to_numpy()
    return found


def value_hashes(train: pa.ChunkedArray, test: pa.ChunkedArray) -> tuple[HashArray, HashArray]:
    """A hash of each value of a column in both tables; equal numbers hash alike whatever their types."""
    train, test = plain(train), plain(test)
    if is_number(train.type) and is_number(test.type):
        return number_hashes(train), number_hashes(test)
    return text_hashes(train), text_hashes(test)


def text_hashes(column: pa.ChunkedArray) -> HashArray:
    """SipHash of each value's text."""
    text = column.cast(pa.string())
    found: HashArray = hash_array(text.fill_null("").to_numpy(), categorize=False)
    if text.null_count:
        found[text.is_null().to_numpy()] = MISSING
    return found


def number_hashes(column: pa.ChunkedArray) -> HashArray:
    """Numbers by their value as float64; whole ones that it cannot hold by their own bits."""
    numbers = floats(column) + 0.0  # -0.0 is 0.0
    bits = numbers.view(np.uint64).copy()
    large = np.abs(numbers) >= LARGEST_EXACT
    if pa.types.is_integer(column.type) and large.any():
        whole = column.fill_null(0).to_numpy()
        bits[large] = whole[large].astype(np.uint64)
    found = mixed(bits)
    found[np.isnan(numbers)] = MISSING
    return found


def floats(column: pa.ChunkedArray) -> FloatArray:
    """Numbers as float64, NaN where one is missing."""
    return np.asarray(column.cast(pa.float64(), safe=False).to_numpy(), dtype=np.float64)


def is_number(kind: pa.DataType) -> bool:
    """Whether a column holds whole or floating numbers."""
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def mixed(values: HashArray) -> HashArray:
    """Every bit depends on every other: the finalizer of SplitMix64 (Steele, Lea and Flood, 2014)."""
    found = values + np.uint64(0x9E3779B97F4A7C15)
    found = (found ^ (found >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    found = (found ^ (found >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return found ^ (found >> np.uint64(31))


# -- identifiers --------------------------------------------------------------------------------------------------


def identifiers_verdict(gate: Gate, train: pa.Table, features: Sequence[str]) -> Verdict:
    """How many features are identifiers, and which."""
    found = dict(identifiers(train, features))
    named = ", ".join(f"{name} ({share:.0%} different values)" for name, share in list(found.items())[:NAMED])
    more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
    said = f": {named}{more}" if found else ""
    verdict = bounded(
        gate,
        len(found),
        train.num_rows,
        what="the number of features that tell rows apart",
        method=f"text and whole numbers of which {IDENTIFIER_SHARE:.0%} or more differ, in the training data",
        columns=list(found),
    )
    return {**verdict, "reason": verdict["reason"] + said}


def identifiers(train: pa.Table, features: Sequence[str]) -> Iterator[tuple[str, float]]:
    """The features whose values, text or whole numbers, nearly all differ, and the share that does.

    Of fewer than 50 rows nothing is said: there most values differ by chance.
    """
    for name in features:
        column = plain(train.column(name))
        if not may_identify(column):
            continue
        hashes, _ = value_hashes(column, column)
        known = hashes[hashes != MISSING]
        share = len(pd.unique(known)) / max(len(known), 1)
        if len(known) >= FEWEST_ROWS and share >= IDENTIFIER_SHARE:
            yield name, share


def may_identify(column: pa.ChunkedArray) -> bool:
    """Whether values are of a kind that identifiers are: text, or numbers without fractions."""
    if not pa.types.is_floating(column.type):
        return True
    numbers = floats(column)
    return bool(np.all((numbers == np.trunc(numbers)) | np.isnan(numbers)))


# -- the target in other words ------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Proxy:
    """How well one feature alone tells the rows of ``event`` from the others."""

    feature: str
    auc: float
    event: str


def proxy_verdict(
    gate: Gate, train: pa.Table, test: pa.Table, features: Sequence[str], target: str | Sequence[str]
) -> Verdict:
    """The AUC of the best single feature, and which that is."""
    found = sorted(proxies(train, test, features, target), key=lambda item: (-item.auc, item.feature))
    method = "each feature's own order, and the order of its values by the training data"
    if not found:
        return bounded(gate, None, test.num_rows, what="target_proxy_auc: the target has one value only", method=method)
    best = found[0]
    what = f"the ROC AUC of the feature {best.feature} alone, for {best.event}, on {count_of(test.num_rows)}"
    aucs = {item.feature: item.auc for item in found}
    return bounded(gate, best.auc, test.num_rows, what=what, method=method, columns=[best.feature], aucs=aucs)


def proxies(train: pa.Table, test: pa.Table, features: Sequence[str], target: str | Sequence[str]) -> Iterator[Proxy]:
    """Each feature with the AUC of what it tells best: the class, of several, or a value above the median.

    Raises:
        StepFailed: when a table has no target.
    """
    known = [
        (f"{name} {said}", before, after)
        for name in require_targets(train, target)
        for said, before, after in events(require_target(train, name), require_target(test, name))
    ]
    for name in features:
        column = Column(train.column(name), test.column(name))
        scored = [(column.auc(before, after), said) for said, before, after in known]
        best = max((item for item in scored if np.isfinite(item[0])), default=None)
        if best is not None:
            yield Proxy(feature=name, auc=best[0], event=best[1])


def events(train: pa.ChunkedArray, test: pa.ChunkedArray) -> list[tuple[str, AnyArray, AnyArray]]:
    """What can be told: for each class that it is that one (of two, the second); for many numbers, above the median."""
    values = pc.unique(train).drop_null()
    if (is_number(train.type) or pa.types.is_decimal(train.type)) and len(values) > MOST_CLASSES:
        before, after = (column.cast(pa.float64(), safe=False).to_numpy() for column in (train, test))
        middle = float(np.nanmedian(before))
        return [(f"above {middle:.4g}", before > middle, after > middle)]
    classes = sorted(values.to_pylist(), key=str)
    return [
        (str(value), is_value(train, value), is_value(test, value))
        for value in (classes[-1:] if len(classes) == 2 else classes)
    ]


def is_value(column: pa.ChunkedArray, value: object) -> AnyArray:
    """Which rows have a value."""
    found: AnyArray = pc.equal(column, pa.scalar(value, column.type)).fill_null(False).to_numpy()
    return found


class Column:
    """A feature in both tables, as places among its distinct values in the test data.

    A missing value's place is one behind the last; ``before``, the places in the training data, is there where the
    values have no order of their own, or are few; -1 is a value that the test does not have.
    """

    def __init__(self, train: pa.ChunkedArray, test: pa.ChunkedArray) -> None:
        train, test = plain(train), plain(test)
        ordered = is_number(train.type) and is_number(test.type)
        first, second = (floats(train), floats(test)) if ordered else value_hashes(train, test)
        self.places, values = pd.factorize(second)
        missing = len(values)
        self.count = missing + 1
        self.places[self.places < 0] = missing
        self.order = np.append(missing, np.argsort(values)) if ordered else None
        self.before = pd.Index(values).get_indexer(first) if not ordered or missing <= FEW_VALUES else None
        if ordered and self.before is not None:
            self.before[np.isnan(first)] = missing

    def auc(self, before: AnyArray, after: AnyArray) -> float:
        """The better of two: by the values' own order, whichever way; by how often it happened in training."""
        positive: FloatArray = np.bincount(self.places, weights=after, minlength=self.count).astype(np.float64)
        negative: FloatArray = np.bincount(self.places, minlength=self.count) - positive
        found = [np.nan]
        if self.order is not None:
            own = area(positive[self.order], negative[self.order])
            found.append(max(own, 1 - own))
        if self.before is not None:
            _, alike = np.unique(self.rates(before), return_inverse=True)
            found.append(area(summed(alike, positive), summed(alike, negative)))
        return float(np.nanmax(found)) if np.isfinite(found).any() else float("nan")

    def rates(self, happened: AnyArray) -> FloatArray:
        """How often it happened in training for each value, drawn towards the overall rate by one row."""
        assert self.before is not None
        seen = self.before >= 0
        rows = np.bincount(self.before[seen], minlength=self.count)
        times = np.bincount(self.before[seen], weights=happened[seen], minlength=self.count)
        found: FloatArray = (times + happened.mean()) / (rows + 1)
        return np.round(found, 12)


def summed(groups: AnyArray, values: FloatArray) -> FloatArray:
    """The sum of the values of each group."""
    return np.asarray(np.bincount(groups, weights=values), dtype=np.float64)


def plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Without a dictionary, and booleans and decimals as numbers."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_boolean(column.type):
        return column.cast(pa.int8())
    return column.cast(pa.float64()) if pa.types.is_decimal(column.type) else column


def area(positive: FloatArray, negative: FloatArray) -> float:
    """The ROC AUC of ascending values by how many positives and negatives each has; NaN where either is missing."""
    pairs = positive.sum() * negative.sum()
    below = np.cumsum(negative) - negative / 2
    return float(positive @ below / pairs) if pairs else float("nan")
