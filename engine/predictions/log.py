"""Predictions as they are made -> Arrow streams that survive the process, and Parquet in the end.

::

    predictions/MODEL/
      open/VERSION-STARTED-PID-N.arrows        being written: one record batch a flush, whole or not there
      2026-11-23/VERSION-STARTED-PID-N.parquet closed and compacted

A server appends in memory; a thread writes what has gathered at least every 100 ms. What was written survives the end
of the process. A stream that ends in the middle of a batch is read up to there.
"""

from __future__ import annotations

import fcntl
import hashlib
import itertools
import json
import os
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from engine.digest import canonical_json
from engine.store.durable import sync_folder

AnyArray = np.ndarray[Any, np.dtype[Any]]
FLUSH_SECONDS = 0.1
MOST_BYTES = 64 << 20
MOST_SECONDS = 3600.0
ROWS_OF_A_GROUP = 1 << 16
"""Whoever looks for some rows in a closed file reads so many at once."""
DICTIONARY = 1 << 16
"""Bytes beyond which a column has too many values for a dictionary: looking for one costs three times the rest."""
OPEN = "open"
INPUT, OUTPUT = "input.", "output."
FACTS: Mapping[str, pa.DataType] = {
    "prediction": pa.string(),
    "row": pa.int32(),
    "time": pa.timestamp("us", tz="UTC"),
    "alias": pa.string(),
    "latency_ms": pa.float32(),
}
ORIGINS: Mapping[str, pa.DataType] = {"model": pa.string(), "version": pa.int32(), "run": pa.string()}
ORIGIN = b"engine"  # the key of a stream's metadata under which its origin stands, which all its rows share


@dataclass(slots=True)
class Made:
    """Predictions of one call. ``counts`` says how many rows each of the requests had; columns have all rows.

    An input that is named in ``packs`` is a matrix of columns with these names.
    """

    predictions: list[str]
    counts: list[int]
    aliases: list[str]
    latencies: list[float]
    time_ns: int
    inputs: Mapping[str, AnyArray]
    outputs: Mapping[str, AnyArray]
    packs: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    """Who predicts: the same for all rows of a stream."""

    model: str
    version: int
    run: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Redaction:
    """Columns that are left out, and columns of which only a keyed digest is kept."""

    dropped: frozenset[str] = frozenset()
    hashed: frozenset[str] = frozenset()
    key: bytes = b""


@dataclass(slots=True)
class Health:
    """What became of lines: how many were written, how many were dropped, and why the last of them was."""

    written: int = 0
    dropped: int = 0
    reason: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)


class Streams:
    """One stream after the other in one folder, each of which becomes Parquet once it is large or an hour old."""

    def __init__(self, folder: Path, prefix: str) -> None:
        self.folder = folder
        self.prefix = prefix
        self._stream: Stream | None = None

    def write(self, table: pa.Table, *, sync: bool = False) -> None:
        """Append rows in one piece; with ``sync`` they are on the disk when this returns.

        Raises:
            OSError: when they cannot be written; what was there before can still be read.
        """
        try:
            self._writable(table.schema).write(table, sync=sync)
        except OSError:
            self._abandon()
            raise

    def rotate(self) -> None:
        """Turn a stream that is old into Parquet."""
        if self._stream is not None and self._stream.is_old():
            self.finish()

    def finish(self) -> None:
        """Turn the stream into Parquet. Where there is no room for that it stays as it is, for another try later."""
        stream, self._stream = self._stream, None
        if stream is not None:
            with suppress(OSError), stream:
                stream.sync()
                compact(stream.path, self.folder)

    def _writable(self, schema: pa.Schema) -> Stream:
        stream = self._stream
        if stream is not None and (stream.schema != schema or stream.bytes > MOST_BYTES or stream.is_old()):
            self.finish()
            stream = None
        if stream is None:
            name = f"{self.prefix}-{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{os.getpid()}-{next(NUMBERS)}.arrows"
            stream = self._stream = Stream(self.folder / OPEN / name, schema)
        return stream

    def _abandon(self) -> None:
        """Leave a stream that could not be written on; what it has is read up to its last whole batch."""
        stream, self._stream = self._stream, None
        if stream is not None:
            with suppress(OSError):
                stream.leave()


NUMBERS = itertools.count(1)


class PredictionLog:
    """The log of one version in one process."""

    def __init__(self, folder: Path, origin: Origin, redaction: Redaction, *, always: bool = False) -> None:
        self.origin = origin
        self.redaction = redaction
        self.always = always
        self.health = Health()
        self._gathered: deque[Made] = deque()
        self._lock = threading.Lock()
        self._streams = Streams(folder, str(origin.version))

    def append(self, made: Made) -> None:
        """Take predictions. With ``always`` they are on the disk when this returns."""
        self._gathered.append(made)
        if self.always:
            self.flush()

    def flush(self) -> None:
        """Write what has gathered. A disk that is full costs lines, never an answer."""
        with self._lock:
            gathered = [self._gathered.popleft() for _ in range(len(self._gathered))]
            if not gathered:
                self._streams.rotate()
                return
            rows = sum(sum(made.counts) for made in gathered)
            try:
                self._streams.write(table_of(gathered, self.origin, self.redaction), sync=self.always)
                self.health.written += rows
            except OSError as error:
                self._dropped(rows, error.strerror or str(error))
            except (pa.ArrowException, ValueError, TypeError) as error:  # answers that do not fit into one table
                self._dropped(rows, str(error).splitlines()[0])

    def _dropped(self, rows: int, reason: str) -> None:
        self.health.dropped += rows
        self.health.reason = reason

    def close(self) -> None:
        """Write what has gathered, and turn the stream into Parquet."""
        self.flush()
        with self._lock:
            self._streams.finish()


class Stream:
    """An Arrow IPC stream that is being written. Its file is locked until then, so that nobody else takes it for left.

    Its end as a context is the end of that.
    """

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.schema = schema
        self.bytes = 0
        self.since = time.monotonic()
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._put(schema.serialize())
            sync_folder(path.parent)
        except OSError:
            os.close(self._file)
            path.unlink(missing_ok=True)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()

    def write(self, table: pa.Table, *, sync: bool) -> None:
        """Append rows in one piece.

        Raises:
            OSError: when they cannot be written; what was there before can still be read.
        """
        parts = table.to_batches()
        batch = parts[0] if len(parts) == 1 else table.combine_chunks().to_batches()[0]
        self._put(batch.serialize())
        if sync:
            os.fdatasync(self._file)

    def is_old(self) -> bool:
        """Whether it has been open for so long that it is time for Parquet."""
        return time.monotonic() - self.since > MOST_SECONDS

    def sync(self) -> None:
        """Have it on the disk."""
        os.fdatasync(self._file)

    def leave(self) -> None:
        """Close the file."""
        os.close(self._file)

    def _put(self, data: pa.Buffer) -> None:
        view, before = memoryview(data), self.bytes
        try:
            while len(view):
                done = os.write(self._file, view)
                view, self.bytes = view[done:], self.bytes + done
        except OSError:
            os.ftruncate(self._file, before)  # half a batch would hide those after it
            raise


# -- rows ----------------------------------------------------------------------------------------------------------


def table_of(gathered: Sequence[Made], origin: Origin, redaction: Redaction) -> pa.Table:
    """Predictions of several calls as one table."""
    counts = np.array([count for made in gathered for count in made.counts], np.int64)
    total = int(counts.sum())
    starts = np.repeat(np.cumsum(counts) - counts, counts)
    times = np.repeat(
        np.array([made.time_ns // 1000 for made in gathered], np.int64), [sum(made.counts) for made in gathered]
    )
    facts: list[Any] = [
        repeated(text([one for made in gathered for one in made.predictions]), counts),
        plain((np.arange(total) - starts).astype(np.int32)),
        plain(times, FACTS["time"]),
        repeated(text([one for made in gathered for one in made.aliases]), counts),
        plain(np.repeat(np.array([one for made in gathered for one in made.latencies], np.float32), counts)),
    ]
    names = list(FACTS)
    for name, values in columns_of(gathered):
        bare = name.partition(".")[2]
        if bare not in redaction.dropped:
            names.append(name)
            facts.append(column(values, redaction.key if bare in redaction.hashed else None))
    metadata = {ORIGIN: canonical_json({"model": origin.model, "version": origin.version, "run": origin.run})}
    return pa.table(facts, names=names).replace_schema_metadata(metadata)


def columns_of(gathered: Sequence[Made]) -> Iterator[tuple[str, AnyArray]]:
    """Every input and output with all rows of several calls."""
    packs = gathered[0].packs
    for name in gathered[0].inputs:
        values = stacked([made.inputs[name] for made in gathered])
        if name not in packs:
            yield INPUT + name, values
            continue
        yield from zip((INPUT + one for one in packs[name]), np.ascontiguousarray(values.T), strict=True)
    for name in gathered[0].outputs:
        yield OUTPUT + name, stacked([made.outputs[name] for made in gathered])


def stacked(parts: Sequence[AnyArray]) -> AnyArray:
    """The rows of several arrays, one after the other."""
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def repeated(values: pa.Array, counts: AnyArray) -> pa.Array:
    """Each value as often as its request has rows."""
    if len(values) == counts.sum():
        return values
    return values.take(plain(np.repeat(np.arange(len(values)), counts)))


def plain(values: AnyArray, kind: pa.DataType | None = None) -> pa.Array:
    """Numbers as Arrow has them. ``pa.array`` would import pandas, which costs a server 40 MB and half a second."""
    if values.dtype.kind == "b":
        return pa.Array.from_buffers(
            pa.bool_(), len(values), [None, pa.py_buffer(np.packbits(values, bitorder="little"))]
        )
    kind = kind or pa.from_numpy_dtype(values.dtype)
    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(np.ascontiguousarray(values))])


def text(values: Sequence[str]) -> pa.Array:
    """Text as Arrow has it; see :func:`plain`.

    Raises:
        ValueError: for what UTF-8 does not have.
    """
    encoded = [value.encode() for value in values]
    ends = np.zeros(len(encoded) + 1, np.int64)
    np.cumsum([len(one) for one in encoded], out=ends[1:])
    buffers = [None, pa.py_buffer(ends), pa.py_buffer(b"".join(encoded))]
    return pa.Array.from_buffers(pa.large_string(), len(encoded), buffers).cast(pa.string())


def with_origin(table: pa.Table) -> pa.Table:
    """A stream's rows with the model, version and run that its metadata names."""
    origin = json.loads(table.schema.metadata[ORIGIN])
    known = [(name, kind) for name, kind in ORIGINS.items() if name in origin]
    for place, (name, kind) in enumerate(known):
        one = text([origin[name]]) if kind == pa.string() else plain(np.array([origin[name]], np.int32))
        table = table.add_column(place, name, one.take(plain(np.zeros(table.num_rows, np.int64))))
    return table


def column(values: AnyArray, key: bytes | None) -> pa.Array:
    """One column of values, (rows,) or (rows, 1), or of lists of them, (rows, k)."""
    if values.ndim > 1:
        values = values.reshape(len(values), -1)
    width = values.shape[1] if values.ndim == 2 else 1
    flat = values.reshape(-1)
    if key is not None:
        flat = np.array([hashlib.blake2b(str(value).encode(), key=key, digest_size=16).hexdigest() for value in flat])
    array = text([str(value) for value in flat.tolist()]) if flat.dtype.kind in "OU" else plain(flat)
    return array if width == 1 else pa.FixedSizeListArray.from_arrays(array, width)


# -- reading and compacting ------------------------------------------------------------------------------------------


def batches_in(path: Path) -> Iterator[pa.RecordBatch]:
    """The whole batches of a stream; one that is cut off ends it."""
    with pa.OSFile(str(path)) as source:
        try:
            reader = pa.ipc.open_stream(source)
        except (pa.ArrowInvalid, OSError):
            return
        while True:
            try:
                yield reader.read_next_batch()
            except (StopIteration, pa.ArrowInvalid, OSError):
                return


def compact(path: Path, folder: Path) -> Path | None:
    """Turn a stream that nobody writes any more into Parquet below its day; the Parquet file, if it had rows."""
    batches = list(batches_in(path))
    if not batches:
        return None
    table = with_origin(pa.Table.from_batches(batches))
    first = datetime.fromtimestamp(table.column("time").cast(pa.int64())[0].as_py() // 1_000_000, UTC)
    target = folder / f"{first:%Y-%m-%d}" / f"{path.stem}.parquet"
    target.parent.mkdir(parents=True, exist_ok=True)
    waiting = target.with_suffix(".writing")
    try:
        pq.write_table(
            table,
            waiting,
            compression="zstd",
            row_group_size=ROWS_OF_A_GROUP,
            dictionary_pagesize_limit=DICTIONARY,
            write_page_checksum=True,
        )
        with waiting.open("rb") as written:
            os.fsync(written.fileno())
        waiting.replace(target)
    finally:
        waiting.unlink(missing_ok=True)
    sync_folder(target.parent)
    path.unlink(missing_ok=True)
    return target


def recover(folder: Path) -> int:
    """Compact the streams that nobody writes any more; how many there were.

    Raises:
        OSError: when there is no room for that, or something cannot be read.
    """
    found = 0
    for path in sorted((folder / OPEN).glob("*.arrows")):
        with taken(path) as is_left:
            if is_left:
                compact(path, folder)
                path.unlink(missing_ok=True)
                found += 1
    return found


@contextmanager
def taken(path: Path) -> Iterator[bool]:
    """Whether a stream was left by its writer, and by everybody else; if so it is ours meanwhile."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        yield False
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        yield False
    else:
        yield path.exists()
    finally:
        os.close(file)


def read(folder: Path, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """Every part of a log, the closed ones by day and then the open ones; each row once, also while it is written."""
    wanted = list(columns) if columns else None
    opened = sorted((folder / OPEN).glob("*.arrows"))  # first: a stream may become Parquet meanwhile, not the reverse
    closed = {path.stem: path for path in sorted(folder.glob("*/*.parquet"))}
    for path in closed.values():
        yield pq.read_table(path, columns=wanted)
    for path in opened:
        if path.stem not in closed and (table := opened_table(path, folder)) is not None:
            yield table.select(wanted) if wanted else table


def opened_table(path: Path, folder: Path) -> pa.Table | None:
    """The rows of an open stream, or of what became of it; nothing when it has none."""
    try:
        batches = list(batches_in(path))
    except FileNotFoundError:
        (found,) = folder.glob(f"*/{path.stem}.parquet")
        return pq.read_table(found)
    return with_origin(pa.Table.from_batches(batches)) if batches else None
