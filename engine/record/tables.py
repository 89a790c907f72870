"""What differs in the rows of two tables, and in the metrics of two runs, with intervals."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.stats import norm

from engine.record.model import RunRecord
from engine.spec.vocabulary import MEASUREMENTS, PROPERTIES
from engine.steps.compare import delong_error
from engine.steps.evaluate import judged_from
from engine.steps.intervals import auc_error, estimates
from engine.steps.metrics import FloatArray, Judged
from engine.steps.resampling import resampled, resampled_together
from engine.store.objects import ObjectStore

CONFIDENCE = 0.95
RESAMPLES = 200
SEED = 20130101


# -- rows ---------------------------------------------------------------------------------------------------------


def row_differences(left: str, right: str, store: ObjectStore) -> dict[str, Any]:
    """Rows, columns and statistics in which the tables of two digests differ.

    Tables of as many rows, most of which are where they were, have rows that were *changed*; else rows were added
    and removed, counted as in a multiset over the columns that both tables have.
    """
    before, after = table(left, store), table(right, store)
    common = [name for name in before.column_names if name in after.column_names]
    return {
        "rows": row_counts(before, after, common),
        "columns": {
            "added": [name for name in after.column_names if name not in common],
            "removed": [name for name in before.column_names if name not in common],
            "retyped": [
                {"name": name, "left": str(before.schema.field(name).type), "right": str(after.schema.field(name).type)}
                for name in common
                if before.schema.field(name).type != after.schema.field(name).type
            ],
        },
        "statistics": list(statistics_changed(before, after, common)),
    }


def table(digest: str, store: ObjectStore) -> pa.Table:
    """A table of the store, memory-mapped and hashed."""
    return pa.ipc.open_file(pa.py_buffer(store.check(digest))).read_all()


def row_counts(before: pa.Table, after: pa.Table, common: list[str]) -> dict[str, int]:
    """How many rows each table has, and how many were added, removed and changed."""
    first, second = row_hashes(before, common), row_hashes(after, common)
    found = {"left": len(first), "right": len(second), "added": 0, "removed": 0, "changed": 0}
    if len(first) == len(second):
        moved = int(np.sum(first != second))
        if moved <= len(first) // 2:
            return {**found, "changed": moved}
    values, inverse = np.unique(np.concatenate([first, second]), return_inverse=True)
    counts = [np.bincount(part, minlength=len(values)) for part in np.split(inverse, [len(first)])]
    surplus = counts[1] - counts[0]
    return {**found, "added": int(surplus[surplus > 0].sum()), "removed": int(-surplus[surplus < 0].sum())}


def row_hashes(rows: pa.Table, columns: list[str]) -> np.ndarray[Any, Any]:
    """A 64-bit hash of each row, equal for equal rows."""
    from pandas.util import hash_pandas_object

    found = np.zeros(rows.num_rows, dtype=np.uint64)
    for name in columns:
        text = rows.column(name).to_pandas()
        hashed = hash_pandas_object(text, index=False).to_numpy()
        found = found * np.uint64(0x9E3779B97F4A7C15) + hashed
    return found


def statistics_changed(before: pa.Table, after: pa.Table, common: list[str]) -> Iterator[dict[str, Any]]:
    """The columns whose statistics differ, with those of both sides."""
    for name in common:
        first, second = statistics(before.column(name)), statistics(after.column(name))
        if first != second:
            yield {"column": name, "left": first, "right": second}


def statistics(column: pa.ChunkedArray) -> dict[str, Any]:
    """Nulls, and of numbers mean, standard deviation, least and greatest; of anything else the distinct values."""
    found: dict[str, Any] = {"nulls": column.null_count}
    kind = column.type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        spread = pc.min_max(column)
        found.update(
            mean=as_float(pc.mean(column)),
            std=as_float(pc.stddev(column, ddof=1)) if len(column) - column.null_count > 1 else None,
            min=as_float(spread["min"]),
            max=as_float(spread["max"]),
        )
    elif pa.types.is_boolean(kind):
        found.update(mean=as_float(pc.mean(column)))
    elif not pa.types.is_nested(kind):
        found.update(distinct=int(pc.count_distinct(column).as_py()))
    return found


def as_float(value: pa.Scalar) -> float | None:
    """A number that JSON has."""
    found = value.as_py()
    return None if found is None or not np.isfinite(found) else float(found)


# -- metrics ------------------------------------------------------------------------------------------------------


def metric_differences(left: RunRecord, right: RunRecord, store: ObjectStore) -> Iterator[dict[str, Any]]:
    """Each metric of both runs with the interval that its evaluation gave, and their difference.

    Intervals hold 95 %. That of a difference is DeLong's for ROC AUC, else of a bootstrap over rows. It is paired
    where both runs were judged on the same rows; then rows are drawn for both at once.
    """
    evaluations = evaluation_of(left, store), evaluation_of(right, store)
    first, second = judged_of(left, evaluations[0], store), judged_of(right, evaluations[1], store)
    paired = first is not None and second is not None and same_rows(first, second)
    values = [record.summary["metrics"] for record in (left, right)]
    for name in dict.fromkeys([*values[0], *values[1]]):
        if name in (*PROPERTIES, *MEASUREMENTS):
            continue
        before, after = values[0].get(name), values[1].get(name)
        found: dict[str, Any] = {
            "name": name,
            "left": sided(name, before, first, evaluations[0]),
            "right": sided(name, after, second, evaluations[1]),
        }
        if before is not None and after is not None:
            low, high = (None, None)
            if first is not None and second is not None:
                low, high = difference_interval(name, first, second, after - before)
            found["difference"] = {"value": after - before, "paired": paired, "low": low, "high": high}
        yield found


def evaluation_of(record: RunRecord, store: ObjectStore) -> Mapping[str, Any]:
    """What the evaluation of a run found; nothing when it did not come that far."""
    digest = record.subjects.get("evaluate/evaluation")
    found: Mapping[str, Any] = json.loads(store.read(digest)) if digest is not None else {}
    return found


def judged_of(record: RunRecord, evaluation: Mapping[str, Any], store: ObjectStore) -> Judged | None:
    """The predictions of a run beside the truth, when it came that far."""
    predictions = record.subjects.get("evaluate/predictions")
    if predictions is None or not evaluation:
        return None
    return judged_from(table(predictions, store), evaluation)


def same_rows(first: Judged, second: Judged) -> bool:
    """Whether two runs were judged by the same truth, row by row, with the same weights and groups."""
    sides = zip(*((side.true, side.weights, side.groups) for side in (first, second)), strict=True)
    return first.task == second.task and all(
        one is other if one is None or other is None else np.array_equal(one, other) for one, other in sides
    )


def sided(
    name: str, value: float | None, judged: Judged | None, evaluation: Mapping[str, Any]
) -> dict[str, Any] | None:
    """One run's figure with its interval; worked out here for a record from before evaluations had them."""
    if value is None:
        return None
    found = evaluation.get("metrics", {}).get(name, {})
    if "low" not in found and judged is not None:
        low, high = estimates([name], judged)[name].ends
        return {"value": value, "low": low, "high": high}
    return {"value": value, "low": found.get("low"), "high": found.get("high")}


def difference_interval(name: str, first: Judged, second: Judged, value: float) -> tuple[float | None, float | None]:
    """An interval of the difference of a metric, right less left."""
    paired = same_rows(first, second)
    if by_ranks(name, first) and by_ranks(name, second):
        errors = [auc_error(side.true == 1, side.score) for side in (first, second)]
        apart = float(np.hypot(errors[0], errors[1]))
        return around(value, delong_error(first.true, second.score, first.score) if paired else apart)
    if paired:
        left, right = (drawn[name] for drawn in resampled_together([name], [first, second], RESAMPLES, SEED))
    else:
        left = resampled([name], first, RESAMPLES, SEED)[name]
        right = resampled([name], second, RESAMPLES, SEED + 1)[name]
    return spread(right - left)


def by_ranks(name: str, judged: Judged) -> bool:
    """Whether a metric's error has a closed form."""
    return name == "roc_auc" and judged.task == "binary" and judged.weights is None


def around(value: float, error: float) -> tuple[float, float]:
    """The normal interval round a value."""
    reach = float(norm.ppf((1 + CONFIDENCE) / 2)) * error
    return value - reach, value + reach


def spread(drawn: FloatArray) -> tuple[float | None, float | None]:
    """The interval between the outer percentiles; nothing where the metric is hardly ever defined."""
    defined = drawn[np.isfinite(drawn)]
    if len(defined) < RESAMPLES // 2:
        return None, None
    low, high = np.quantile(defined, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)
