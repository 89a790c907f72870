"""The rows of a stream that are in no window yet, by the size of the windows; and what is kept of them.

::

    arrivals --wait--> ripe rows --every line of the stream--> rows of no window yet --cut--> a window

What is kept names rows by their places in the log: it is small however many they are, and is written with each window.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.digest import plain
from engine.monitor.following import Runs, rows_at
from engine.monitor.reading import BY_ORDER, EMPTY, times_of, together
from engine.monitor.windows import Size, size_of

PLACE = "place"
"""The column that says where in the log a row lies."""
OF_A_FILE = 1 << 40
"""More than a file has rows: a place is the number of a file times this, and the number of the row."""
SIDES: tuple[Literal["left", "right"], ...] = ("left", "right")
MOST_PIECES = 256
"""Pieces of memory beyond which a table is put into one."""

IntArray = np.ndarray[Any, np.dtype[np.int64]]


class Files:
    """The numbers of a log's files, for places."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.numbers: dict[str, int] = {}

    def placed(self, file: str, first: int, rows: pa.Table) -> pa.Table:
        """Rows that lie one after the other in a file, with their places."""
        number = self.numbers.setdefault(file, len(self.names))
        if number == len(self.names):
            self.names.append(file)
        start = number * OF_A_FILE + first
        return rows.append_column(PLACE, pa.array(np.arange(start, start + rows.num_rows)))

    def runs(self, tables: Iterable[pa.Table]) -> dict[str, list[list[int]]]:
        """The places of rows: by file the numbers of rows that lie one after the other."""
        found: dict[str, list[list[int]]] = {}
        places = [places_of(table) for table in tables if table.num_rows]
        if not places:
            return found
        whole = np.sort(np.concatenate(places))
        breaks = np.flatnonzero(np.diff(whole) != 1)
        firsts = whole[np.concatenate([[0], breaks + 1])].tolist()
        lasts = whole[np.concatenate([breaks, [len(whole) - 1]])].tolist()
        for first, last in zip(firsts, lasts, strict=True):
            number, row = divmod(first, OF_A_FILE)
            found.setdefault(self.names[number], []).append([row, row + last - first + 1])
        return found


def places_of(table: pa.Table) -> IntArray:
    """Where each row lies."""
    return np.asarray(table.column(PLACE).to_numpy())


@dataclass(slots=True)
class Line:
    """The windows of one size of one stream: the rows that are in none yet, and what is known of the last one.

    ``rows`` are in the order of their times; those of one time are in any order until a window ends among them.
    """

    size: Size
    rows: pa.Table = field(default_factory=lambda: EMPTY)
    last: int | None = None
    closed: int | None = None
    late: int = 0

    def add(self, rows: pa.Table) -> None:
        """Take in rows that came."""
        if self.closed is not None:
            self.late += int((times_of(rows) <= self.closed).sum())
        self.rows = in_time([self.rows, rows])

    def first(self, count: int) -> pa.Table:
        """The first ``count`` rows by time, prediction and row, of which there must be so many."""
        times = times_of(self.rows)
        if count < len(times) and times[count - 1] == times[count]:
            low, high = (int(np.searchsorted(times, times[count], side)) for side in SIDES)
            among = self.rows.slice(low, high - low)
            among = among.take(pc.sort_indices(among, sort_keys=BY_ORDER))
            self.rows = pa.concat_tables([self.rows.slice(0, low), among, self.rows.slice(high)])
        return self.rows.slice(0, count)

    def close(self, rows: pa.Table, end: int | None) -> None:
        """Note that the first rows made a window, which ended at ``end`` or with the last of them."""
        last = int(times_of(rows)[-1])
        self.rows = self.rows.slice(rows.num_rows)
        self.last = last if self.last is None else max(last, self.last)
        over = last if end is None else end
        self.closed = over if self.closed is None else max(over, self.closed)
        self.late = 0


def in_time(tables: Sequence[pa.Table]) -> pa.Table:
    """The rows of several tables in the order of their times; it costs nothing where they are in it."""
    whole = together(tables)
    times = times_of(whole)
    if len(times) > 1 and not (times[1:] >= times[:-1]).all():
        return whole.take(pa.array(np.argsort(times, kind="stable")))
    return whole.combine_chunks() if whole.column(0).num_chunks > MOST_PIECES else whole


@dataclass(slots=True)
class Followed:
    """A stream: its lines by size, and what each detector that looks at each row knows of it."""

    version: int
    alias: str
    lines: dict[str, Line] = field(default_factory=dict)
    online: dict[str, dict[str, Any]] = field(default_factory=dict)
    waiting: list[tuple[float, pa.Table]] = field(default_factory=list)
    heard: float = 0.0

    def line(self, size: Size) -> Line:
        """Its line of a size."""
        return self.lines.setdefault(str(size), Line(size=size))

    def ripe(self, due: float) -> list[pa.Table]:
        """What has waited since before a moment; it waits no more."""
        found = [rows for came, rows in self.waiting if came <= due]
        self.waiting = [item for item in self.waiting if item[0] > due]
        return found


def kept_state(streams: Mapping[tuple[int, str], Followed], files: Files) -> bytes:
    """What has to be known to go on: JSON, with the places of the rows that are in no window yet."""
    document = [
        {
            "version": item.version,
            "alias": item.alias,
            "online": plain(item.online),
            "waiting": files.runs(rows for _, rows in item.waiting),
            "lines": [
                {"size": name, "last": line.last, "closed": line.closed, "late": line.late,
                 "rows": files.runs([line.rows])}
                for name, line in item.lines.items()
            ],
        }
        for item in streams.values()
    ]  # fmt: skip
    return json.dumps(document).encode()


def restored(state: bytes, folder: Path, files: Files) -> dict[tuple[int, str], Followed]:
    """What :func:`kept_state` wrote, with the rows from the log; those of files that are gone are gone."""
    found: dict[tuple[int, str], Followed] = {}
    for item in json.loads(state):
        version, alias = item["version"], item["alias"]
        waiting = rows_in(folder, version, alias, item["waiting"], files)
        lines = {
            line["size"]: Line(
                size=size_of(line["size"]),
                rows=rows_in(folder, version, alias, line["rows"], files),
                last=line["last"],
                closed=line["closed"],
                late=line["late"],
            )
            for line in item["lines"]
        }
        found[version, alias] = Followed(
            version=version,
            alias=alias,
            lines=lines,
            online=item["online"],
            waiting=[(float("-inf"), waiting)] if waiting.num_rows else [],
        )
    return found


def rows_in(folder: Path, version: int, alias: str, places: Mapping[str, Runs], files: Files) -> pa.Table:
    """The rows of places, in the order of their times."""
    found = [files.placed(*item) for item in rows_at(folder, version, alias, places)]
    return in_time(found) if found else EMPTY
