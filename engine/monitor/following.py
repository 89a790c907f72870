"""What came to a prediction log since it was last looked at: each row once, with the place where it lies.

::

    Follower.look()  new rows a file, as arrivals of one version under one alias
    rows_at(...)     the rows of places, read again

The place of a row is its file and its number among the file's rows of the same version and alias. It stays the same
when an Arrow stream becomes Parquet, so that places are all that has to be kept of rows that are not judged yet.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from engine.monitor.model import Damage
from engine.monitor.reading import (
    CUT_OFF,
    UNREADABLE,
    Tail,
    closed_files,
    days_of,
    ending,
    first_line,
    is_fresh,
    open_files,
    together,
    version_in,
)
from engine.predictions.log import ORIGINS

Runs = Sequence[Sequence[int]]
"""Numbers of rows, as pairs: from the first on, and before the second."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Arrival:
    """Rows of one version under one alias that came to a file, one after the other from place ``first`` on."""

    version: int
    alias: str
    file: str
    first: int
    rows: pa.Table


@dataclass(slots=True)
class Follower:
    """What came to a log since it was last looked at, each row once.

    ``taken`` is how many rows of each file, by its name without an ending, were given out: it is the same for a stream
    and for the Parquet that it becomes. It is all that has to be kept to go on in another process. In ``grown`` are
    the files of which it has changed; whoever keeps it empties that.
    """

    folder: Path
    taken: dict[str, int] = field(default_factory=dict)
    whole: set[str] = field(default_factory=set)
    days: dict[str, int] = field(default_factory=dict)
    tails: dict[str, Tail] = field(default_factory=dict)
    seen: dict[str, dict[tuple[int, str], int]] = field(default_factory=dict)
    damaged: dict[str, Damage] = field(default_factory=dict)
    grown: set[str] = field(default_factory=set)

    def look(self) -> Iterator[Arrival]:
        """New rows. What is damaged is in ``damaged``, and is tried again only when it has grown."""
        streams = open_files(self.folder, None)
        for day in reversed(days_of(self.folder)):
            changed = (self.folder / day).stat().st_mtime_ns
            if self.days.get(day) != changed:
                for path in closed_files(self.folder, day, None):
                    if path.stem not in self.whole:
                        yield from self._closed(path)
                self.days[day] = changed
        for path in streams:
            if path.stem not in self.whole:
                yield from self._open(path)

    def _closed(self, path: Path) -> Iterator[Arrival]:
        try:
            tables, start = rest_of(path, self.taken.get(path.stem, 0), known=path.stem in self.seen)
        except FileNotFoundError:
            return
        except UNREADABLE as error:
            self.whole.add(path.stem)
            self.damaged[path.stem] = Damage(file=str(path), fact=first_line(error))
            return
        if tables:
            yield from self._given(path, together(tables), start)
        self.whole.add(path.stem)
        self.tails.pop(path.stem, None)
        self.seen.pop(path.stem, None)

    def _open(self, path: Path) -> Iterator[Arrival]:
        with suppress(FileNotFoundError):
            before = self.tails.get(path.stem, Tail())
            if path.stat().st_size == before.size:
                return
            try:
                batches, tail = ending(path, before)
            except UNREADABLE as error:
                if not is_fresh(path):
                    self.tails[path.stem] = replace(before, size=path.stat().st_size)
                    self.damaged[path.stem] = Damage(file=str(path), fact=first_line(error))
                return
            if not tail.is_whole and not is_fresh(path):
                self.damaged[path.stem] = Damage(file=str(path), fact=CUT_OFF)
            self.tails[path.stem] = tail
            if batches:
                yield from self._given(path, pa.Table.from_batches(batches), before.rows)

    def _given(self, path: Path, table: pa.Table, start: int) -> Iterator[Arrival]:
        """The rows of a file from row ``start`` on that were not given out yet."""
        stem = path.stem
        seen = self.seen.setdefault(stem, {})
        before = max(self.taken.get(stem, 0) - start, 0)
        if before:
            for key, rows in streams_in(table.slice(0, before), path):
                seen[key] = seen.get(key, 0) + rows.num_rows
        if table.num_rows > before:
            self.taken[stem] = start + table.num_rows
            self.grown.add(stem)
            for key, rows in streams_in(table.slice(before), path):
                first = seen.get(key, 0)
                seen[key] = first + rows.num_rows
                yield Arrival(version=key[0], alias=key[1], file=stem, first=first, rows=rows)


def rest_of(path: Path, taken: int, *, known: bool) -> tuple[list[pa.Table], int]:
    """The row groups of a closed file with rows after the first ``taken``, and the number of the first of their rows.

    Unless it is ``known`` how those before them are divided, they are read as well.

    Raises:
        ArrowException, OSError: when it is damaged.
    """
    file = pq.ParquetFile(path, page_checksum_verification=True)
    if taken >= file.metadata.num_rows:
        return [], taken
    start = 0
    tables: list[pa.Table] = []
    for number in range(file.num_row_groups):
        rows = file.metadata.row_group(number).num_rows
        if known and not tables and start + rows <= taken:
            start += rows
        else:
            tables.append(file.read_row_group(number))
    return tables, start


def streams_in(table: pa.Table, path: Path) -> Iterator[tuple[tuple[int, str], pa.Table]]:
    """The rows of each alias in a part of a file, without the columns that are the same in all of the file."""
    plain = table.drop_columns([name for name in table.column_names if name in ORIGINS]).replace_schema_metadata(None)
    aliases = pc.unique(plain.column("alias")).to_pylist()
    for alias in aliases:
        rows = plain if len(aliases) == 1 else plain.filter(pc.equal(plain.column("alias"), pa.scalar(alias)))
        yield (version_in(path) or 0, str(alias)), rows


def rows_at(folder: Path, version: int, alias: str, places: Mapping[str, Runs]) -> Iterator[tuple[str, int, pa.Table]]:
    """The rows of places, read again: (file, place of the first of them, rows). Files that are gone are passed over."""
    for stem, runs in places.items():
        table = whole_file(folder, stem)
        if table is None:
            continue
        for key, rows in streams_in(table, Path(stem)):
            if key == (version, alias):
                for first, end in runs:
                    yield stem, first, rows.slice(first, end - first)


def whole_file(folder: Path, stem: str) -> pa.Table | None:
    """All rows of a file of a log, whatever it is by now; nothing where it is gone or damaged."""
    with suppress(*UNREADABLE):
        for path in open_files(folder, None):
            if path.stem == stem:
                batches, _ = ending(path, Tail())
                return pa.Table.from_batches(batches) if batches else None
    with suppress(*UNREADABLE):
        for path in folder.glob(f"*/{stem}.parquet"):
            return pq.read_table(path, page_checksum_verification=True)
    return None
