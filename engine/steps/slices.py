"""Which rows belong together when a model is judged on parts of its data: by a column, by ranges of one, by SQL."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.errors import StepFailed
from engine.plugins import PluginFailed
from engine.steps.columns import require_column
from engine.steps.transform import bound

AnyArray = np.ndarray[Any, np.dtype[Any]]
Slice = Mapping[str, Any]

MOST_PARTS = 1000
NO_VALUE = "(none)"
INSIDE = "yes"
"""The one part of a slice that a predicate makes; other rows are in no part of it."""


def slice_of(written: str | Slice) -> Slice:
    """A slice as steps take it, from a column's name or a mapping."""
    given = {"column": written} if isinstance(written, str) else written
    full = {"name": None, "column": None, "ranges": [], "sql": None, **given}
    return {**full, "name": full["name"] or full["column"]}


def memberships(table: pa.Table, slices: Sequence[str | Slice]) -> dict[str, pa.ChunkedArray]:
    """Each slice's title with the part of it that every row belongs to, as text; null for none.

    Raises:
        StepFailed: for a column that is not there or is no number, for too many parts, and for SQL that fails.
    """
    found = {}
    for index, written in enumerate(slices):
        wanted, key = slice_of(written), f"evaluate.slices.{index}"
        if wanted["sql"] is not None:
            parts = by_predicate(table, wanted["sql"], f"{key}.sql")
        else:
            where = key if isinstance(written, str) else f"{key}.column"
            column = require_column(table, wanted["column"], where)
            parts = by_range(column, wanted, where) if wanted["ranges"] else by_value(column, wanted["column"], where)
        found[wanted["name"]] = parts
    return found


def by_value(column: pa.ChunkedArray, name: str, key: str) -> pa.ChunkedArray:
    """A column as text; null is "(none)".

    Raises:
        StepFailed: when it has too many values.
    """
    values = column.cast(pa.string()).fill_null(NO_VALUE)
    count = pc.count_distinct(values).as_py()
    if count > MOST_PARTS:
        hint = f"slice by a column of few values, or by ranges: {{column: {name}, ranges: [...]}}"
        raise StepFailed(f'"{name}" has {count:,} values', hint=hint, key=key)
    return values


def by_range(column: pa.ChunkedArray, wanted: Slice, key: str) -> pa.ChunkedArray:
    """Which range each value lies in; a range holds its lower cut and not its upper one. Null and NaN are "(none)".

    Raises:
        StepFailed: when the column holds no numbers.
    """
    kind = column.type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)):
        hint = f"leave out `ranges` to slice by its values, or cut {wanted['column']} in a transform"
        raise StepFailed(f'"{wanted["column"]}" is {kind}, which has no ranges', hint=hint, key=key)
    values = column.cast(pa.float64()).to_numpy()
    names = np.array([*range_names(wanted["ranges"]), NO_VALUE], dtype=object)
    places = np.searchsorted(np.array(wanted["ranges"], dtype=np.float64), values, side="right")
    return pa.chunked_array([pa.array(names[np.where(np.isnan(values), len(names) - 1, places)], pa.string())])


def range_names(cuts: Sequence[float]) -> list[str]:
    """``below 500``, ``500 to 1500``, ``1500 or more``: one more than there are cuts."""
    said = [f"{cut:.15g}" for cut in cuts]
    return [f"below {said[0]}", *(f"{low} to {high}" for low, high in pairwise(said)), f"{said[-1]} or more"]


def by_predicate(table: pa.Table, predicate: str, key: str) -> pa.ChunkedArray:
    """The rows for which a SQL condition holds, asked through the transform ``sql`` and as closed as that is.

    Raises:
        StepFailed: with what DuckDB says of the condition.
    """
    number = unused("row", table.column_names)
    numbered = table.append_column(number, pa.array(np.arange(table.num_rows)))
    query = f'select "{number}" from {{source}} where (\n{predicate}\n)'  # noqa: S608  the user's own, in a closed database
    typed = f"select typeof((\n{predicate}\n)) from {{source}} limit 1"  # noqa: S608
    try:
        rows = bound("sql", {"query": query})(numbered).column(0).to_numpy()
        kinds = bound("sql", {"query": typed})(numbered).column(0).to_pylist()
        if kinds and kinds[0] != "BOOLEAN":
            hint = "write a comparison, as `distance < 500`"
            raise StepFailed(f"this is {kinds[0]}, and no condition", hint=hint, key=key)
    except PluginFailed as error:
        raise StepFailed(error.fact, hint=error.hint, key=key) from error
    inside = np.full(table.num_rows, None, dtype=object)
    inside[rows] = INSIDE
    return pa.chunked_array([pa.array(inside, pa.string())])


def unused(name: str, taken: Sequence[str]) -> str:
    """``name``, longer where a column is called so."""
    lowered = {item.lower() for item in taken}
    while name in lowered:
        name += "_"
    return name


def parts(membership: pa.ChunkedArray, wanted: Slice) -> Iterator[tuple[str, AnyArray]]:
    """Each part of a slice that has rows with the mask of its rows: ranges in their order, others the largest first."""
    labels = np.array(membership.to_pylist(), dtype=object)
    counts = {item["values"]: item["counts"] for item in pc.value_counts(membership).to_pylist()}
    names = sorted((name for name in counts if name is not None), key=lambda name: (-counts[name], name))
    if wanted["ranges"]:
        order = [*range_names(wanted["ranges"]), NO_VALUE]
        names = sorted(names, key=order.index)
    for name in names:
        yield name, labels == name
