"""What turned out to be true, joined with what was predicted.

A label is about a prediction and a row. Of several for the same row the one that was written last holds: the one with
the latest ``time``, and of labels with the same time the last in the log. So the result depends on what labels there
are and not on the order in which they came: late and out of order, at once or one by one, the metrics are the same. A
label that says the same again is a duplicate, one that says something else a conflict; both are counted.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.errors import UsageError, suggestion
from engine.monitor.model import Damage
from engine.monitor.reading import (
    UNREADABLE,
    Choice,
    closed_files,
    days_of,
    first_line,
    groups_of,
    open_files,
    opened,
    read_group,
    read_stream,
    together,
)
from engine.predictions.labels import FOLDER, Label, Truth

KEY = ("prediction", "row")
LABEL = "label"


@dataclass(frozen=True, kw_only=True, slots=True)
class Labels:
    """The labels that hold: columns prediction, row, time and label (JSON), one row for each (prediction, row).

    Attributes:
        duplicates: labels that said again what was said.
        conflicts: labels that were superseded by another one that says something else.
    """

    table: pa.Table
    duplicates: int = 0
    conflicts: int = 0
    damaged: tuple[Damage, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Coverage:
    """How many rows were predicted, and how many of them have a label."""

    rows: int
    labelled: int

    @property
    def share(self) -> float:
        """From 0 to 1."""
        return self.labelled / self.rows if self.rows else 0.0


EMPTY = pa.schema(
    [
        ("prediction", pa.string()),
        ("row", pa.int32()),
        ("time", pa.timestamp("us", tz="UTC")),
        ("label", pa.string()),
    ]
).empty_table()


def held(folder: Path) -> Labels:
    """The labels of a model that hold; ``folder`` is the one of its predictions."""
    below = folder / FOLDER
    tables, damaged = [], []
    for day in reversed(days_of(below)):
        for path in closed_files(below, day, None):
            try:
                tables += [read_group(group, Choice()) for group in groups_of(path)]
            except UNREADABLE as error:
                damaged.append(Damage(file=str(path), fact=first_line(error)))
    closed = {path.stem for path in below.glob("*/*.parquet")}
    for path in open_files(below, None):
        if path.stem not in closed:
            table, damage = read_stream(path, below, Choice())
            tables += [] if table is None else [table]
            damaged += [] if damage is None else [damage]
    if not tables:
        return Labels(table=EMPTY, damaged=tuple(damaged))
    return resolved(together([table.select(EMPTY.column_names) for table in tables]), tuple(damaged))


def resolved(table: pa.Table, damaged: tuple[Damage, ...] = ()) -> Labels:
    """The labels that hold among all that were written, in the order in which they were."""
    count = table.num_rows
    if count == 0:
        return Labels(table=table, damaged=damaged)
    numbered = table.append_column("at", pa.array(np.arange(count)))
    order = pc.sort_indices(
        numbered, sort_keys=[*((name, "ascending") for name in KEY), ("time", "ascending"), ("at", "ascending")]
    )
    ordered = table.take(order).combine_chunks()
    predictions = ordered.column("prediction").combine_chunks().dictionary_encode().indices.to_numpy()
    rows = ordered.column("row").to_numpy()
    said = ordered.column(LABEL).combine_chunks().dictionary_encode().indices.to_numpy()
    same = (predictions[1:] == predictions[:-1]) & (rows[1:] == rows[:-1])
    last = np.append(~same, True)
    again = same & (said[1:] == said[:-1])
    return Labels(
        table=ordered.filter(pa.array(last)),
        duplicates=int(again.sum()),
        conflicts=int((same & ~again).sum()),
        damaged=damaged,
    )


def joined(rows: pa.Table, labels: Labels) -> tuple[pa.Table, Coverage]:
    """The rows that have a label, with it as the column ``label`` (JSON), in their order; and how many have.

    Args:
        rows: with the columns prediction and row.
    """
    if rows.num_rows == 0 or labels.table.num_rows == 0:
        empty = rows.slice(0, 0).append_column(LABEL, pa.array([], pa.string()))
        return empty, Coverage(rows=rows.num_rows, labelled=0)
    known = labels.table
    few = rows.num_rows < known.num_rows // 4
    if few:  # most labels are about other rows: what remains of them is found by its prediction first
        wanted = pc.unique(rows.column("prediction")).cast(pa.string())
        known = known.filter(pc.is_in(known.column("prediction"), wanted))
    keys = rows.select(list(KEY)).append_column("at", pa.array(np.arange(rows.num_rows)))
    met = keys.join(known.select([*KEY, LABEL]), list(KEY), join_type="inner").sort_by("at")
    found = rows.take(met.column("at")).append_column(LABEL, met.column(LABEL))
    return found, Coverage(rows=rows.num_rows, labelled=found.num_rows)


def truths(table: pa.Table) -> list[Truth]:
    """The labels of :func:`joined` as values."""
    column = table.column(LABEL).combine_chunks().dictionary_encode()
    values: list[Truth] = [json.loads(text) for text in column.dictionary.to_pylist()]
    return [values[index] for index in column.indices.to_pylist()]


def unknown(labels: Iterable[Label], folder: Path) -> list[Label]:
    """The labels of which nothing was logged: neither the prediction nor, of one that was, that row."""
    asked = list(labels)
    if not asked:
        return []
    wanted = pa.array(dict.fromkeys(label.prediction for label in asked))
    choice = Choice(columns=KEY)
    tables, _ = opened(folder, choice)
    for day in days_of(folder):
        for path in closed_files(folder, day, None):
            try:
                tables += [read_group(group, choice) for group in groups_of(path)]
            except UNREADABLE:
                continue
    kept = [table.select(list(KEY)).filter(pc.is_in(table.column("prediction"), wanted)) for table in tables]
    known = {pair for table in kept for pair in zip(*(table.column(name).to_pylist() for name in KEY), strict=True)}
    return [label for label in asked if (label.prediction, label.row) not in known]


# -- from a table ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Timed:
    """A label, and when it became known, in nanoseconds since 1970; ``None`` is now."""

    label: Label
    time_ns: int | None


def labels_in(
    table: pa.Table, place: str, target: str, admit: Callable[[Any, str], Truth], start: int = 0
) -> list[Timed]:
    """The labels of a table with the columns ``prediction``, ``row`` (0 without one) and ``label``, or the target.

    A column ``time`` says when each became known, which decides between labels that contradict each other; a row
    whose label is null is passed over: nothing is known of it yet.

    Args:
        admit: gives the label that a value is, or refuses it.
        start: the number of the table's first row, for messages.

    Raises:
        UsageError: for a column that is missing, and naming the first row that is none.
    """
    names = table.column_names
    name = LABEL if LABEL in names else target
    for wanted in ("prediction", name):
        if wanted not in names:
            also = f' or "{target}"' if wanted == name and target != LABEL else ""
            shown = LABEL if wanted == name else wanted
            hint = suggestion(wanted, names) or "the columns are prediction, row and label"
            raise UsageError(f'no column "{shown}"{also}', place=place, hint=hint)
    rows = whole_numbers(table.column("row"), place, start) if "row" in names else [0] * table.num_rows
    times = times_in(table.column("time"), place) if "time" in names else [None] * table.num_rows
    found = []
    values = zip(table.column("prediction").to_pylist(), rows, table.column(name).to_pylist(), times, strict=True)
    for number, (prediction, row, value, time_ns) in enumerate(values, start):
        if value is None:
            continue
        if not isinstance(prediction, str) or not prediction:
            raise UsageError(
                f"row {number:,} names no prediction", place=place, hint="see the header engine-prediction"
            )
        label = Label(prediction=prediction, row=row, label=admit(value, f"row {number:,}"))
        found.append(Timed(label=label, time_ns=time_ns))
    return found


def whole_numbers(column: pa.ChunkedArray, place: str, start: int) -> list[int]:
    """The numbers of rows.

    Raises:
        UsageError: for one that is none.
    """
    found = column.to_pylist()
    for number, value in enumerate(found, start):
        whole = type(value) is int or (isinstance(value, float) and math.isfinite(value) and value == int(value))
        if not whole or not 0 <= value < 2**31:
            fact = f'row {number:,}, "row": expected the number of a row, from 0, received {value}'
            raise UsageError(fact, place=place, hint="0 is the first row of a request")
    return [int(value) for value in found]


def times_in(column: pa.ChunkedArray, place: str) -> list[int | None]:
    """When each label became known, in nanoseconds since 1970.

    Raises:
        UsageError: for a column that holds no times.
    """
    try:
        kind = column.type
        utc = column if pa.types.is_timestamp(kind) else column.cast(pa.timestamp("us", tz="UTC"))
        values: list[int | None] = utc.cast(pa.timestamp("us", tz="UTC")).cast(pa.int64()).to_pylist()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise UsageError(
            f'the column "time" is {column.type}', place=place, hint="write 2013-07-01T12:00:00Z"
        ) from error
    return [None if value is None else 1000 * value for value in values]


def admitted(classes: Sequence[Any] | None) -> Callable[[Any, str], Truth]:
    """What a label may be: one of the classes, else a finite number.

    Of classes that are booleans 0 and 1 are taken too, as tables often have them; and text for numbers is not.
    """
    known: Mapping[Any, Truth] = {(type(item), item): item for item in classes or ()}
    both = classes is not None and set(map(type, classes)) == {bool}
    whole = classes is not None and set(map(type, classes)) == {int}

    def admit(value: Any, place: str) -> Truth:
        if classes is None:
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
                raise UsageError(f'{place}, "label": expected a number, received {json.dumps(value, default=str)}')
            return value
        if both and value in (0, 1):
            value = bool(value)
        if whole and (isinstance(value, bool) or (isinstance(value, float) and value == int(value))):
            value = int(value)
        if (type(value), value) not in known:
            few = ", ".join(json.dumps(item) for item in classes[:10])
            received = json.dumps(value, default=str)
            raise UsageError(f'{place}, "label": expected one of {few}, received {received}')
        return known[type(value), value]

    return admit
