"""The rows of a prediction log by the time at which they were predicted, of which no more is read than is needed.

::

    newest(...)      the last rows of a stream, whatever file they are in
    between(...)     all rows of a span of time
    everything(...)  all rows that are wanted

A file that cannot be read is passed over and told; the rest is read. A closed file is Parquet, of which the row groups
know their first and last time; an open one is an Arrow stream, of which whole batches are read.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from engine.monitor.model import Damage
from engine.monitor.windows import micros
from engine.predictions.log import FACTS, OPEN, ORIGIN, ORIGINS, with_origin

DAY = re.compile(r"^\d{4}-\d{2}-\d{2}$")
UNREADABLE = (pa.ArrowException, OSError, ValueError, KeyError)
MOST_LATE = timedelta(days=1)
"""How long after the first row of a file, by which its folder is called, the last one may have come, and more."""
LONG_AGO = 60.0
"""A stream that ends in the midst of a batch and was not written to for so many seconds is damaged, not unfinished."""
CUT_OFF = "it ends in the midst of its rows"
ORDER = ("time", "prediction", "row")
BY_ORDER = [(name, "ascending") for name in ORDER]


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """Which rows are wanted: of a version, under some aliases (all, when none is named), and which columns of them.

    A column that ends in a dot stands for all that begin with it.
    """

    version: int | None = None
    aliases: tuple[str, ...] = ()
    columns: tuple[str, ...] | None = None


@dataclass(slots=True)
class Found:
    """Rows in the order in which they were predicted, and what could not be read."""

    table: pa.Table
    damaged: tuple[Damage, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """A piece of a file that is read as one: a row group of Parquet, or all that an open stream has.

    ``first`` and ``last`` are the times of its rows in microseconds since 1970.
    """

    path: Path
    number: int
    first: int
    last: int
    rows: int


# -- files -----------------------------------------------------------------------------------------------------------


def days_of(folder: Path) -> list[str]:
    """The days that a log has closed files of, the newest first."""
    try:
        return sorted((entry.name for entry in os.scandir(folder) if DAY.match(entry.name)), reverse=True)
    except FileNotFoundError:
        return []


def closed_files(folder: Path, day: str, version: int | None) -> list[Path]:
    """The closed files of a day; of one version, when that is given."""
    found = sorted((folder / day).glob("*.parquet"))
    return [path for path in found if version is None or version_in(path) in (version, None)]


def open_files(folder: Path, version: int | None) -> list[Path]:
    """The streams that are being written."""
    found = sorted((folder / OPEN).glob("*.arrows"))
    return [path for path in found if version is None or version_in(path) in (version, None)]


def version_in(path: Path) -> int | None:
    """The version in the name of a file of a log."""
    head = path.name.partition("-")[0]
    return int(head) if head.isascii() and head.isdigit() else None


def groups_of(path: Path) -> list[Group]:
    """The row groups of a closed file.

    Raises:
        ArrowException, OSError: when it is damaged.
    """
    metadata = pq.read_metadata(path)
    place = metadata.schema.names.index("time")
    found = []
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        bounds = group.column(place).statistics
        first, last = (micros(bounds.min), micros(bounds.max)) if bounds and bounds.has_min_max else (0, 1 << 62)
        found.append(Group(path=path, number=number, first=first, last=last, rows=group.num_rows))
    return found


def read_group(group: Group, choice: Choice) -> pa.Table:
    """The rows of a row group that are wanted.

    Raises:
        ArrowException, OSError: when it is damaged.
    """
    file = pq.ParquetFile(group.path, page_checksum_verification=True)
    return chosen(file.read_row_group(group.number, columns=wanted(choice, file.schema_arrow.names)), choice)


def wanted(choice: Choice, names: Sequence[str]) -> list[str] | None:
    """The columns to read: those that are wanted, and those that rows are chosen and ordered by."""
    if choice.columns is None:
        return None
    needed = {*choice.columns, *ORDER, "alias", *ORIGINS}
    beginnings = tuple(name for name in choice.columns if name.endswith("."))
    return [name for name in names if name in needed or name.startswith(beginnings)]


def chosen(table: pa.Table, choice: Choice) -> pa.Table:
    """The rows of a table that are wanted."""
    for name, values in (("version", [choice.version]), ("alias", choice.aliases)):
        if values and values[0] is not None and name in table.column_names:
            column = table.column(name)
            mask = pc.is_in(column, pa.array(list(values), column.type))
            if not pc.all(mask).as_py():
                table = table.filter(mask)
    return table


def read_stream(path: Path, folder: Path, choice: Choice) -> tuple[pa.Table | None, Damage | None]:
    """The rows of an open stream, or of what became of it meanwhile; and whether it is damaged."""
    try:
        batches, tail = ending(path, Tail())
    except FileNotFoundError:
        became = next(iter(folder.glob(f"*/{path.stem}.parquet")), None)
        return (
            (chosen(pq.read_table(became, page_checksum_verification=True), choice), None) if became else (None, None)
        )
    except UNREADABLE as error:
        return None, Damage(file=str(path), fact=first_line(error))
    damage = None if tail.is_whole or is_fresh(path) else Damage(file=str(path), fact=CUT_OFF)
    if not batches:
        return None, damage
    table = with_origin(pa.Table.from_batches(batches))
    names = wanted(choice, table.column_names)
    return chosen(table.select(names) if names else table, choice), damage


@dataclass(frozen=True, kw_only=True, slots=True)
class Tail:
    """How far a stream was read: to byte ``offset``, before which there are so many ``rows``.

    ``size`` is that of the file then; ``is_whole``: all of it was read.
    """

    offset: int = 0
    rows: int = 0
    size: int = 0
    is_whole: bool = True


def ending(path: Path, before: Tail) -> tuple[list[pa.RecordBatch], Tail]:
    """The whole batches of a stream from a place on, and how far it is read now.

    Raises:
        ArrowException, OSError, ValueError: when it is no stream of a log.
    """
    with pa.OSFile(str(path)) as source:  # mapped memory would end this process where a writer takes back half a batch
        size = source.size()
        if size == 0:
            return [], before
        try:
            schema = pa.ipc.read_schema(source)
        except pa.ArrowInvalid as error:
            raise ValueError(first_line(error)) from error
        if ORIGIN not in (schema.metadata or {}):
            raise ValueError("it does not say which model it is of")
        found, at = [], max(source.tell(), before.offset)
        source.seek(at)
        with suppress(*UNREADABLE, EOFError):
            while at < size:
                found.append(pa.ipc.read_record_batch(pa.ipc.read_message(source), schema))
                at = source.tell()
        rows = before.rows + sum(batch.num_rows for batch in found)
        return found, Tail(offset=at, rows=rows, size=size, is_whole=at >= size)


def is_fresh(path: Path) -> bool:
    """Whether a file was written to a moment ago, so that its end may be on its way."""
    try:
        import time

        return time.time() - path.stat().st_mtime < LONG_AGO
    except OSError:
        return True


def first_line(error: Exception) -> str:
    """What a library says of a file, in a line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


# -- looking back ----------------------------------------------------------------------------------------------------


def newest(folder: Path, choice: Choice, count: int, before: datetime | None = None) -> Found:
    """The last ``count`` rows that were predicted before a moment; fewer when there are no more.

    The files of one day are read after the other, the newest first, and only those that can have a row among them.
    """
    limit = micros(before) if before is not None else None
    tables, damaged = opened(folder, choice)
    if limit is not None:
        tables = [earlier(table, limit) for table in tables]
    for day in days_of(folder):
        floor = time_of_place(tables, count)
        groups: list[Group] = []
        for path in closed_files(folder, day, choice.version):
            if floor is not None and not may_reach(path, day, floor):
                continue
            try:
                groups += groups_of(path)
            except UNREADABLE as error:
                damaged.append(Damage(file=str(path), fact=first_line(error)))
        for group in sorted(groups, key=lambda item: -item.last):
            floor = time_of_place(tables, count)
            if (floor is not None and group.last < floor) or (limit is not None and group.first >= limit):
                continue
            try:
                table = read_group(group, choice)
            except UNREADABLE as error:
                damaged.append(Damage(file=str(group.path), fact=first_line(error)))
                continue
            tables.append(table if limit is None else earlier(table, limit))
    whole = in_order(tables)
    return Found(whole.slice(max(whole.num_rows - count, 0)), tuple(dict.fromkeys(damaged)))


def between(folder: Path, choice: Choice, start: datetime, end: datetime) -> Found:
    """All rows that were predicted from ``start`` on and before ``end``."""
    low, high = micros(start), micros(end)
    tables, damaged = opened(folder, choice)
    for day in days_of(folder):
        if date.fromisoformat(day) > end.date():
            continue
        for path in closed_files(folder, day, choice.version):
            if not may_reach(path, day, low):
                continue
            try:
                for group in groups_of(path):
                    if group.last >= low and group.first < high:
                        tables.append(read_group(group, choice))
            except UNREADABLE as error:
                damaged.append(Damage(file=str(path), fact=first_line(error)))
    return Found(in_order([within(table, low, high) for table in tables]), tuple(dict.fromkeys(damaged)))


def everything(folder: Path, choice: Choice) -> Found:
    """All rows."""
    tables, damaged = opened(folder, choice)
    for day in days_of(folder):
        for path in closed_files(folder, day, choice.version):
            try:
                tables += [read_group(group, choice) for group in groups_of(path)]
            except UNREADABLE as error:
                damaged.append(Damage(file=str(path), fact=first_line(error)))
    return Found(in_order(tables), tuple(dict.fromkeys(damaged)))


def opened(folder: Path, choice: Choice) -> tuple[list[pa.Table], list[Damage]]:
    """The rows of the open streams that did not become Parquet yet."""
    streams = open_files(folder, choice.version)  # first: a stream may become Parquet meanwhile, not the reverse
    closed = {path.stem for path in folder.glob("*/*.parquet")} if streams else set()
    tables, damaged = [], []
    for path in streams:
        if path.stem in closed:
            continue
        table, damage = read_stream(path, folder, choice)
        tables += [] if table is None else [table]
        damaged += [] if damage is None else [damage]
    return tables, damaged


def time_of_place(tables: Sequence[pa.Table], count: int) -> int | None:
    """The time of the ``count``-th newest row; nothing while there are fewer."""
    if sum(table.num_rows for table in tables) < count:
        return None
    times = np.concatenate([times_of(table) for table in tables])
    return int(np.partition(times, len(times) - count)[len(times) - count])


def times_of(table: pa.Table) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Each row's time in microseconds since 1970."""
    return np.asarray(table.column("time").cast(pa.int64()).to_numpy())


def earlier(table: pa.Table, limit: int) -> pa.Table:
    """The rows before a time."""
    return table.filter(pa.array(times_of(table) < limit))


def within(table: pa.Table, low: int, high: int) -> pa.Table:
    """The rows from a time on and before another."""
    times = times_of(table)
    mask = (times >= low) & (times < high)
    return table if mask.all() else table.filter(pa.array(mask))


def may_reach(path: Path, day: str, low: int) -> bool:
    """Whether a file of a day may have a row from a time on: it began late enough, or was written late enough."""
    span = 2 * int(MOST_LATE.total_seconds()) * 1_000_000
    if micros_of_day(day) + span >= low:
        return True
    try:
        return int(path.stat().st_mtime * 1e6) + span >= low
    except FileNotFoundError:
        return False


def micros_of_day(day: str) -> int:
    """When a day begins, in microseconds since 1970."""
    return (date.fromisoformat(day) - date(1970, 1, 1)).days * 86_400_000_000


def in_order(tables: Sequence[pa.Table]) -> pa.Table:
    """The rows of several tables by time, prediction and row; a column that some of them do not have is null there.

    Where a column is of two types, as after a change of the model, both become text.
    """
    if not tables:
        return EMPTY
    whole = together(tables)
    return whole if is_ordered(whole) else whole.take(pc.sort_indices(whole, sort_keys=BY_ORDER))


def together(tables: Sequence[pa.Table]) -> pa.Table:
    """Tables one after the other."""
    filled = [alike(table) for table in tables if table.num_rows] or list(tables[:1])
    if len({table.schema for table in filled}) == 1:
        return pa.concat_tables(filled)
    kinds: dict[str, set[pa.DataType]] = {}
    for table in filled:
        for item in table.schema:
            kinds.setdefault(item.name, set()).add(item.type)
    mixed = {name for name, found in kinds.items() if len(found) > 1}
    return pa.concat_tables([as_text(table, mixed) for table in filled], promote_options="default")


def alike(table: pa.Table) -> pa.Table:
    """A table without metadata, whose lists name their items as Arrow does: in Parquet they are called otherwise."""
    found = table.replace_schema_metadata(None)
    if not any(is_named_otherwise(item.type) for item in found.schema):
        return found
    kinds = {item.name: item.type for item in found.schema}
    lists = {
        name: pa.list_(kind.value_type, kind.list_size) for name, kind in kinds.items() if is_named_otherwise(kind)
    }
    return found.cast(pa.schema(list({**kinds, **lists}.items())))


def is_named_otherwise(kind: pa.DataType) -> bool:
    """Whether it is a list whose items are not called ``item``. Types that are equal may differ in that."""
    return bool(pa.types.is_fixed_size_list(kind)) and kind.value_field.name != "item"


def as_text(table: pa.Table, names: Iterable[str]) -> pa.Table:
    """A table in which some columns are text."""
    for name in names:
        if name in table.column_names:
            at = table.column_names.index(name)
            column = table.column(name)
            nested = pa.types.is_nested(column.type)
            text = pa.array([str(value) for value in column.to_pylist()]) if nested else column.cast(pa.string())
            table = table.set_column(at, name, text)
    return table


def is_ordered(table: pa.Table) -> bool:
    """Whether rows are in their order for certain: no two of one time, none before the one above it."""
    times = times_of(table)
    return len(times) < 2 or bool((np.diff(times) > 0).all())


EMPTY = pa.schema(list({**ORIGINS, **FACTS}.items())).empty_table()  # pa.array would import pandas
