"""Feature columns: which tensor each becomes, and that they are in the table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from engine.errors import StepFailed, suggestion
from engine.plugins import Feature, ScalarType

MOST_CATEGORIES = 10_000


def features_of(table: pa.Table, features: Mapping[str, Sequence[str]]) -> tuple[Feature, ...]:
    """The features of a spec with the datatypes that ``table`` gives them.

    Numbers and booleans are FP32 when numeric; a categorical column is BYTES (text) or INT64.

    Raises:
        StepFailed: for a column that is not there or has no such type.
    """
    found = []
    for role in ("numeric", "categorical"):
        for index, name in enumerate(features[role]):
            key = f"features.{role}.{index}"
            column = require_column(table, name, key)
            found.append(Feature(name=name, role=role, datatype=datatype(name, role, column.type, key)))
    return tuple(found)


def require_column(table: pa.Table, name: str, key: str) -> pa.ChunkedArray:
    """The column called ``name``.

    Raises:
        StepFailed: when there is none, or more than one.
    """
    count = table.column_names.count(name)
    if count == 0:
        raise StepFailed(f'no column "{name}" in the data', hint=suggestion(name, table.column_names), key=key)
    if count > 1:
        raise StepFailed(f'{count} columns are called "{name}"', hint="name them apart in a transform", key=key)
    return table.column(name)


def require_target(table: pa.Table, name: str) -> pa.ChunkedArray:
    """The target column.

    Raises:
        StepFailed: when there is none.
    """
    if name not in table.column_names:
        fact = f'the target "{name}" is not a column of the data'
        raise StepFailed(fact, hint=suggestion(name, table.column_names), key="target")
    return require_column(table, name, "target")


def require_targets(table: pa.Table, target: str | Sequence[str]) -> list[str]:
    """The names of the target column, or of each of several.

    Raises:
        StepFailed: for one that is not there.
    """
    names = [target] if isinstance(target, str) else list(target)
    for name in names:
        require_target(table, name)
    return names


def datatype(name: str, role: str, kind: pa.DataType, key: str) -> ScalarType:
    """The V2 datatype of a column in its role."""
    is_number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
    if role == "numeric":
        if is_number or pa.types.is_decimal(kind):
            return "FP32"
        raise StepFailed(
            f'the numeric feature "{name}" is {kind}',
            hint="list it under features.categorical, or turn it into a number in a transform",
            key=key,
        )
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        return "INT64"
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_dictionary(kind):
        return "BYTES"
    raise StepFailed(
        f'the categorical feature "{name}" is {kind}',
        hint="list it under features.numeric, or turn it into text in a transform",
        key=key,
    )


def require_rows(table: pa.Table, what: str, key: str) -> None:
    """Refuse an empty table.

    Raises:
        StepFailed: when it has no rows.
    """
    if table.num_rows == 0:
        raise StepFailed(f"{what} has no rows", hint="look at the data and at what the transforms leave of it", key=key)


def require_columns(table: pa.Table, names: Iterable[tuple[str, str]]) -> None:
    """Refuse a table that lacks one of the (column, key) pairs.

    Raises:
        StepFailed: for the first that is missing.
    """
    for name, key in names:
        require_column(table, name, key)


def categories_of(table: pa.Table, features: Iterable[Feature], names: Iterable[str]) -> dict[str, list[Any]]:
    """The values of the categorical features among ``names``, in order; a server knows by them what is unknown.

    Null is the empty text, as models take it. A feature of more than 10,000 values is left out: it names things
    and not their kinds, and nothing of it is unknown to a server.
    """
    wanted = set(names)
    categorical = [item for item in features if item.role == "categorical" and item.name in wanted]
    found = {feature.name: distinct(table.column(feature.name), feature.datatype) for feature in categorical}
    return {name: values for name, values in found.items() if len(values) <= MOST_CATEGORIES}


def distinct(column: pa.ChunkedArray, datatype: ScalarType) -> list[Any]:
    """The values of a column of categories as its tensor has them, in order."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    values = column.unique().to_pylist()
    if datatype == "BYTES":
        return sorted({"" if value is None else str(value) for value in values})
    return sorted({int(value) for value in values})
