"""Which columns a detector looks at, and what it sees in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.errors import suggestion
from engine.plugins import Feature, PluginFailed

AnyArray = np.ndarray[Any, np.dtype[Any]]
FloatArray = np.ndarray[Any, np.dtype[np.float64]]
BoolArray = np.ndarray[Any, np.dtype[np.bool_]]
IntArray = np.ndarray[Any, np.dtype[np.int64]]
SingleArray = np.ndarray[Any, np.dtype[np.float32]]
Role = Literal["numeric", "categorical"]
ROLES: tuple[Role, ...] = ("numeric", "categorical")


def chosen(
    features: Sequence[Feature], wanted: Sequence[str] | None, roles: Sequence[Role] = ROLES, instead: str = ""
) -> tuple[Feature, ...]:
    """The features of ``roles`` that a detector looks at: those that it was told, else all.

    Raises:
        PluginFailed: for a name that is no feature, for one of another role, and when none is left; ``instead``
            is the detector for the other role.
    """
    known = {feature.name: feature for feature in features}
    for index, name in enumerate(wanted or ()):
        key = f"with.features.{index}"
        if name not in known:
            raise PluginFailed(f'no feature "{name}"', hint=suggestion(name, known), key=key)
        if known[name].role not in roles:
            fact = f'the feature "{name}" is {known[name].role}, and this detector is for {" and ".join(roles)} ones'
            raise PluginFailed(fact, hint=f"use the detector {instead} for it", key=key)
    found = tuple(item for item in features if item.role in roles and (wanted is None or item.name in wanted))
    if not found:
        hint = f"use the detector {instead}" if instead else "name a feature"
        raise PluginFailed(f"there is no {' or '.join(roles)} feature to watch", hint=hint, key="with.features")
    return found


def sampled(reference: pa.Table, features: Sequence[Feature], rows: int, seed: int) -> pa.Table:
    """The features' columns of at most ``rows`` rows, drawn by ``seed`` without replacement, in their order."""
    table = reference.select([feature.name for feature in features])
    if table.num_rows <= rows:
        return table
    drawn = np.random.default_rng(seed).choice(table.num_rows, size=rows, replace=False)
    return table.take(pa.array(np.sort(drawn)))


def numbers(table: pa.Table, feature: Feature) -> FloatArray:
    """A numeric feature's values, without null and NaN, as :func:`singles` rounds them.

    Raises:
        PluginFailed: when the column is missing or holds no numbers.
    """
    return singles(table, feature).astype(np.float64)


def singles(table: pa.Table, feature: Feature) -> SingleArray:
    """A numeric feature's values as float32, without null and NaN.

    They are rounded as the server rounds them: else a window of what was served would differ from its reference in
    the last bits, and a test on ranks sees that.

    Raises:
        PluginFailed: when the column is missing or holds no numbers.
    """
    values = with_holes(table, feature)
    holes = np.isnan(values)
    return values[~holes] if holes.any() else values


def with_holes(table: pa.Table, feature: Feature) -> SingleArray:
    """A numeric feature's values as float32, row by row, with NaN for null.

    Raises:
        PluginFailed: when the column is missing or holds no numbers.
    """
    found = column(table, feature)
    try:
        values = found if found.type == pa.float32() else found.cast(pa.float64(), safe=False)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise not_of_type(table, feature) from error
    with np.errstate(over="ignore"):
        return np.asarray(values.to_numpy(), dtype=np.float32)


def categories(table: pa.Table, feature: Feature) -> dict[str, int]:
    """How often each category occurs, as text, without null and the empty text, which a server cannot tell apart.

    Raises:
        PluginFailed: when the column is missing or of another type.
    """
    counts = pc.value_counts(texts(table, feature))
    return {item["values"]: item["counts"] for item in counts.to_pylist() if item["values"]}


def codes(table: pa.Table, feature: Feature, cells: Sequence[str]) -> IntArray:
    """Row by row the index of a category among ``cells``; their number for another one, -1 without a value."""
    found = texts(table, feature)
    at = pc.fill_null(pc.index_in(found, pa.array(cells, pa.string())), len(cells))
    empty = pc.fill_null(pc.equal(found, ""), True)
    return np.asarray(pc.if_else(empty, -1, at).to_numpy(), dtype=np.int64)


def texts(table: pa.Table, feature: Feature) -> pa.ChunkedArray:
    """A categorical feature's values as text.

    Raises:
        PluginFailed: when the column is missing or of another type.
    """
    found = column(table, feature)
    try:
        plain = found.cast(pa.int64()) if feature.datatype == "INT64" else found
        return plain.cast(pa.string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise not_of_type(table, feature) from error


def missing(table: pa.Table, feature: Feature) -> int:
    """In how many rows a feature has no value: null, NaN, and the empty text, which a server cannot tell from null.

    Raises:
        PluginFailed: when the column is missing or of another type.
    """
    if feature.role == "numeric":
        return int(np.count_nonzero(np.isnan(with_holes(table, feature))))
    return int(table.num_rows) - sum(categories(table, feature).values())


def column(table: pa.Table, feature: Feature) -> pa.ChunkedArray:
    """A feature's column, without a dictionary.

    Raises:
        PluginFailed: when the table has none.
    """
    at = table.schema.get_field_index(feature.name)
    if at < 0:
        hint = suggestion(feature.name, table.column_names)
        raise PluginFailed(f'the window has no column "{feature.name}"', hint=hint)
    found = table.column(at)
    return found.cast(found.type.value_type) if pa.types.is_dictionary(found.type) else found


def not_of_type(table: pa.Table, feature: Feature) -> PluginFailed:
    """The error for a column that is not of its feature's role."""
    fact = f'the {feature.role} feature "{feature.name}" is {table.schema.field(feature.name).type} in the window'
    return PluginFailed(fact, hint="give it the type that the reference has")


def require_seen(feature: Feature, count: int) -> None:
    """Refuse a reference in which a feature has no value at all.

    Raises:
        PluginFailed: when ``count`` is 0.
    """
    if count == 0:
        fact = f'the feature "{feature.name}" has no value in the reference'
        raise PluginFailed(fact, hint="leave it out under `features:` of the detector", key="with.features")


def require_option(name: str, value: object, known: Sequence[str]) -> None:
    """Refuse a value that an option does not have.

    Raises:
        PluginFailed: with the nearest one.
    """
    if value not in known:
        raise PluginFailed(f"{value!r} is no value of {name}", hint=suggestion(str(value), known), key=f"with.{name}")


def require_ranges(p_val: float, reference_rows: int) -> None:
    """Refuse a threshold that is no probability, and a reference without rows.

    Raises:
        PluginFailed: for the first of them.
    """
    if not 0 < p_val < 1:
        raise PluginFailed(
            f"p_val is {p_val}", hint="give a probability between 0 and 1, such as 0.05", key="with.p_val"
        )
    if reference_rows < 1:
        fact = f"reference_rows is {reference_rows}"
        raise PluginFailed(fact, hint="give at least 1", key="with.reference_rows")


def described(features: Sequence[Feature]) -> list[dict[str, object]]:
    """Features as JSON."""
    return [{"name": item.name, "role": item.role, "datatype": item.datatype} for item in features]


def restored(state: Mapping[str, Any]) -> tuple[Feature, ...]:
    """The features that :func:`described` wrote into a detector's state."""
    return tuple(Feature(**item) for item in state["features"])
