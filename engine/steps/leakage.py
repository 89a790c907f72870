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
import pyarrow as pa
import pyarrow.compute as pc

from engine.steps.columns import require_column, require_rows, require_target
from engine.steps.context import Context
from engine.steps.model import Inputs
from engine.steps.verdict import Gate, Verdict, bounded, count_of

if TYPE_CHECKING:
    from engine.steps.metrics import AnyArray, FloatArray, IntArray

    HashArray = np.ndarray[Any, np.dtype[np.uint64]]

NAMED = 5
IDENTIFIER_SHARE = 0.95
FEWEST_ROWS = 50
FEW_VALUES = 1000
MOST_CLASSES = 20
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
    """Which rows of ``test`` are in ``train``, by the values of ``columns``; missing values are equal to each other."""
    found: AnyArray = np.isin(row_hashes(test, columns), row_hashes(train, columns))
    return found


def row_hashes(table: pa.Table, columns: Sequence[str]) -> HashArray:
    """A hash of the values of ``columns`` for each row, (rows,). Equal values of other number types hash alike.

    Two rows that differ collide with a chance of 2^-64: over a million rows against a million, 5e-8 in all.
    """
    found = np.zeros(table.num_rows, dtype=np.uint64)
    for name in columns:
        found = mixed(found ^ value_hashes(table.column(name)))
    return found


def value_hashes(column: pa.ChunkedArray) -> HashArray:
    """A hash of each value, (rows,)."""
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.int8())
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type) or pa.types.is_decimal(column.type):
        return number_hashes(column)
    values, codes = encoded(column)
    hashes = np.append(text_hashes(values), MISSING)
    return hashes[codes]


def number_hashes(column: pa.ChunkedArray) -> HashArray:
    """Numbers by their value as float64; whole ones that it cannot hold by their own bits."""
    numbers: FloatArray = column.cast(pa.float64(), safe=False).to_numpy().astype(np.float64) + 0.0  # -0.0 is 0.0
    bits = numbers.view(np.uint64).copy()
    bits[np.isnan(numbers)] = MISSING
    if (
        pa.types.is_integer(column.type)
        and column.type.bit_width == 64
        and np.nanmax(np.abs(numbers), initial=0) > 2**53
    ):
        whole = column.fill_null(0).to_numpy().astype(np.int64)
        large = np.abs(numbers) > 2**53
        bits[large] = whole[large].view(np.uint64)
    return mixed(bits)


def text_hashes(values: pa.Array) -> HashArray:
    """SipHash of each distinct value's text."""
    from pandas.util import hash_array

    texts = values.cast(pa.string()).to_numpy(zero_copy_only=False)
    found: HashArray = hash_array(np.asarray(texts, dtype=object), categorize=False)
    return found


def encoded(column: pa.ChunkedArray) -> tuple[pa.Array, IntArray]:
    """The distinct values and each row's place among them; a missing value's place is one behind the last."""
    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(whole, pa.ChunkedArray):
        whole = pa.concat_arrays(whole.chunks) if whole.num_chunks else pa.array([], whole.type)
    if not pa.types.is_dictionary(whole.type):
        whole = whole.dictionary_encode()
    codes = whole.indices.fill_null(len(whole.dictionary)).to_numpy(zero_copy_only=False).astype(np.int64)
    return whole.dictionary, codes


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
        column = train.column(name)
        known = len(column) - column.null_count
        if known < FEWEST_ROWS or not may_identify(column):
            continue
        share = pc.count_distinct(column).as_py() / known
        if share >= IDENTIFIER_SHARE:
            yield name, share


def may_identify(column: pa.ChunkedArray) -> bool:
    """Whether values are of a kind that identifiers are: text, or numbers without fractions."""
    if pa.types.is_floating(column.type):
        whole = pc.all(pc.equal(column, pc.trunc(column)), min_count=0).as_py()
        return bool(whole)
    return not (pa.types.is_boolean(column.type) or pa.types.is_decimal(column.type))


# -- the target in other words ------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Proxy:
    """How well one feature alone tells the rows of ``event`` from the others."""

    feature: str
    auc: float
    event: str


def proxy_verdict(gate: Gate, train: pa.Table, test: pa.Table, features: Sequence[str], target: str) -> Verdict:
    """The AUC of the best single feature, and which that is."""
    found = sorted(proxies(train, test, features, target), key=lambda item: (-item.auc, item.feature))
    method = "each feature's own order, and the order of its values by the training data"
    if not found:
        return bounded(gate, None, test.num_rows, what=f"target_proxy_auc: {target} has one value only", method=method)
    best = found[0]
    what = f"the ROC AUC of the feature {best.feature} alone, for {target} {best.event}, on {count_of(test.num_rows)}"
    aucs = {item.feature: item.auc for item in found}
    return bounded(gate, best.auc, test.num_rows, what=what, method=method, columns=[best.feature], aucs=aucs)


def proxies(train: pa.Table, test: pa.Table, features: Sequence[str], target: str) -> Iterator[Proxy]:
    """Each feature with the AUC of what it tells best: the class, of several, or a value above the median.

    Raises:
        StepFailed: when a table has no target.
    """
    known = events(require_target(train, target), require_target(test, target))
    for name in features:
        column = Column(train.column(name), test.column(name))
        scored = [(column.auc(before, after), said) for said, before, after in known]
        best = max((item for item in scored if np.isfinite(item[0])), default=None)
        if best is not None:
            yield Proxy(feature=name, auc=best[0], event=best[1])


def events(train: pa.ChunkedArray, test: pa.ChunkedArray) -> list[tuple[str, AnyArray, AnyArray]]:
    """What can be told: for each class that it is that one (of two, the second); for many numbers, above the median."""
    values = pc.unique(train).drop_null()
    is_number = pa.types.is_floating(train.type) or pa.types.is_integer(train.type) or pa.types.is_decimal(train.type)
    if is_number and len(values) > MOST_CLASSES:
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
    """A feature in both tables, as places among its distinct values in the test data."""

    def __init__(self, train: pa.ChunkedArray, test: pa.ChunkedArray) -> None:
        train, test = (plain(column) for column in (train, test))
        values, self.places = encoded(test)
        self.count = len(values) + 1
        self.order: AnyArray | None = None
        if pa.types.is_floating(values.type) or pa.types.is_integer(values.type):
            numbers = np.append(values.to_numpy(zero_copy_only=False).astype(np.float64), np.nan)
            self.order = np.argsort(np.nan_to_num(numbers, nan=-np.inf), kind="stable")
        self.before: AnyArray | None = None
        if self.order is None or self.count <= FEW_VALUES:
            same = train.cast(values.type, safe=False) if train.type != values.type else train
            self.before = pc.index_in(same, value_set=values).fill_null(-1).to_numpy().astype(np.int64)
            missing = train.is_null().to_numpy()
            self.before[missing] = self.count - 1

    def auc(self, before: AnyArray, after: AnyArray) -> float:
        """The better of two: by the values' own order, whichever way; by how often it happened in training."""
        positive: FloatArray = np.bincount(self.places, weights=after, minlength=self.count).astype(np.float64)
        negative: FloatArray = np.bincount(self.places, minlength=self.count) - positive
        found = [np.nan]
        if self.order is not None:
            own = area(positive[self.order], negative[self.order])
            found.append(max(own, 1 - own))
        if self.before is not None:
            order = np.argsort(self.rates(before), kind="stable")
            found.append(area(positive[order], negative[order]))
        return float(np.nanmax(found)) if np.isfinite(found).any() else float("nan")

    def rates(self, happened: AnyArray) -> FloatArray:
        """How often it happened in training for each value, drawn towards the overall rate by one row."""
        assert self.before is not None
        seen = self.before >= 0
        rows = np.bincount(self.before[seen], minlength=self.count)
        times = np.bincount(self.before[seen], weights=happened[seen], minlength=self.count)
        found: FloatArray = (times + happened.mean()) / (rows + 1)
        return np.round(found, 12)


def plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Without a dictionary, and booleans and decimals as numbers; NaN is a missing value."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_boolean(column.type):
        return column.cast(pa.int8())
    if pa.types.is_decimal(column.type):
        column = column.cast(pa.float64())
    if pa.types.is_floating(column.type):
        return pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
    return column


def area(positive: FloatArray, negative: FloatArray) -> float:
    """The ROC AUC of ascending values by how many positives and negatives each has; NaN where either is missing."""
    pairs = positive.sum() * negative.sum()
    below = np.cumsum(negative) - negative / 2
    return float(positive @ below / pairs) if pairs else float("nan")
