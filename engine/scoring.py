"""A whole table through a registered model, a batch at a time: from the lake or a file, to the lake or a file.

::

    input (lakefs:// or file) --batches--> checks --> ONNX Runtime --> Parquet --one commit--> a lake's branch
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq

from engine.errors import DataUnreadable, SchemaViolated, UsageError, suggestion, writing
from engine.lake.listing import files_at
from engine.lake.protocol import DirtyBranch, Lake, Signed
from engine.lake.uri import SCHEME, LakeUri, parse
from engine.registry.model import ModelVersion
from engine.serve.loading import Loaded
from engine.serve.onnx import prediction
from engine.spec.vocabulary import FORMATS, format_of
from engine.store.durable import scratch_folder

ROWS = 65_536
UNREADABLE = (pa.ArrowInvalid, pa.ArrowKeyError, pa.ArrowNotImplementedError, OSError, UnicodeDecodeError)
Told = Callable[[int], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """A file of the input: its name and its bytes, mapped."""

    name: str
    data: memoryview


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """An input: its files, their format, and what it is exactly (a lake's URI with its commit, or a path)."""

    shown: str
    parts: tuple[Part, ...]
    format: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Scored:
    """What was predicted: how many rows, where to, and the commit when it is in a lake."""

    rows: int
    output: str
    commit: str = ""


# -- the input -------------------------------------------------------------------------------------------------------


def table_at(text: str, lake: Lake) -> Table:
    """The table at a lake's URI, pinned to its commit, or in a file.

    Raises:
        NotFound: when nothing is there.
        UsageError: for files of mixed or unknown formats.
    """
    if not text.startswith(SCHEME):
        return file_table(Path(text))
    uri = parse(text)
    commit = lake.resolve(uri.repository, uri.ref)
    found = files_at(uri, commit, lake)
    parts = tuple(
        Part(name=name, data=lake.map(uri.repository, commit, entry.path)) for name, entry in sorted(found.items())
    )
    shown = f"{SCHEME}{uri.repository}/{commit}/{uri.path}"
    return Table(shown=shown, parts=parts, format=one_format(text, [entry.path for entry in found.values()]))


def file_table(path: Path) -> Table:
    """The table in a file.

    Raises:
        UsageError: when it is not there, or its format is unknown.
    """
    if path.is_dir():
        raise UsageError(f'"{path}" is a folder', hint="name one file in it, or a folder of the lake")
    if not path.is_file():
        near = [item.name for item in path.parent.glob("*")] if path.parent.is_dir() else []
        close = suggestion(path.name, near)
        hint = close if close.startswith("did you mean") else f"name a file, or data in the lake: {SCHEME}..."
        raise UsageError(f'no file "{path}"', hint=hint)
    import mmap

    with path.open("rb") as file:
        size = path.stat().st_size
        data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)) if size else memoryview(b"")
    return Table(shown=str(path), parts=(Part(name=path.name, data=data),), format=one_format(str(path), [path.name]))


def one_format(shown: str, names: list[str]) -> str:
    """The format of files by their names.

    Raises:
        UsageError: when there are several, or one is unknown.
    """
    found = {format_of(name) for name in names}
    if len(found) != 1 or None in found:
        known = ", ".join(sorted(FORMATS))
        raise UsageError(f"the files at {shown} are not of one known format", hint=f"name files that end in {known}")
    return str(found.pop())


def batches(table: Table) -> Iterator[pa.Table]:
    """The rows, at most 65,536 at once.

    Raises:
        DataUnreadable: naming the file that is not of its format.
    """
    for part in table.parts:
        try:
            for found in OPENERS[table.format](pa.BufferReader(pa.py_buffer(part.data))):
                whole = pa.Table.from_batches([found]) if isinstance(found, pa.RecordBatch) else found
                for start in range(0, whole.num_rows, ROWS):
                    yield whole.slice(start, ROWS)
        except UNREADABLE as error:
            reason = str(error).splitlines()[0][:200]
            raise DataUnreadable(f"{part.name} cannot be read: {reason}", place=table.shown) from error


def csv_batches(source: pa.BufferReader) -> Iterator[pa.RecordBatch]:
    """CSV with a header, also gzipped."""
    beginning = source.read(2)
    source.seek(0)
    stream = pa.CompressedInputStream(source, "gzip") if beginning == b"\x1f\x8b" else source
    yield from pyarrow.csv.open_csv(stream)


def arrow_batches(source: pa.BufferReader) -> Iterator[pa.RecordBatch]:
    """Arrow IPC, as a file or as a stream."""
    try:
        reader = pa.ipc.open_file(source)
    except pa.ArrowInvalid:
        source.seek(0)
        yield from pa.ipc.open_stream(source)
        return
    for number in range(reader.num_record_batches):
        yield reader.get_batch(number)


OPENERS: Mapping[str, Callable[[Any], Iterator[Any]]] = {
    "csv": csv_batches,
    "parquet": lambda source: pq.ParquetFile(source).iter_batches(ROWS),
    "arrow": arrow_batches,
    "jsonl": lambda source: iter([pyarrow.json.read_json(source)]),
}


# -- predicting ------------------------------------------------------------------------------------------------------


def scored(loaded: Loaded, table: Table, told: Told) -> Iterator[pa.Table]:
    """The rows with ``prediction``, and for a classifier ``score`` (of the second of two classes, or one a class).

    Raises:
        UsageError: for a column that is missing or of another type.
        SchemaViolated: for a row that the training schema does not allow, with its number from 0.
    """
    classes = loaded.package["signature"]["classes"]
    start = 0
    for rows in batches(table):
        columns = loaded.session.columns(rows)
        refused, _ = loaded.checks.wrong(columns)
        if refused:
            row = min(refused)
            fact = f"row {start + row:,}: {refused[row]}"
            more = f" ({len(refused):,} such rows in this batch)" if len(refused) > 1 else ""
            raise SchemaViolated(
                fact + more,
                place=table.shown,
                hint="mend the rows or leave them out; new categories may pass: `serve.unknown_category: pass`",
            )
        found = prediction(loaded.session.run(columns))
        yield with_predictions(rows, found.label, found.scores, classes)
        start += rows.num_rows
        told(rows.num_rows)


def with_predictions(rows: pa.Table, label: Any, scores: Any, classes: list[Any] | None) -> pa.Table:
    """Rows and what is predicted of them; columns of the same name are replaced."""
    if classes is None:
        added = {"prediction": pa.array(np.asarray(label, np.float64))}
    elif scores.ndim == 1:
        added = {"prediction": named(scores > 0.5, classes), "score": pa.array(scores)}
    else:
        added = {"prediction": named(scores.argmax(axis=1), classes)}
        added |= {f"score.{name}": pa.array(np.ascontiguousarray(scores[:, i])) for i, name in enumerate(classes)}
    kept = rows.drop_columns([name for name in added if name in rows.column_names])
    for name, column in added.items():
        kept = kept.append_column(name, column)
    return kept


def named(indexes: Any, classes: list[Any]) -> pa.Array:
    """Classes by their indexes."""
    return pa.array(classes).take(pa.array(np.asarray(indexes, np.int64)))


def write_parquet(parts: Iterator[pa.Table], path: Path) -> int:
    """Write rows as they come; how many there were.

    Raises:
        UsageError: when there is none.
        DataUnreadable: when a later part has other columns.
    """
    first = next(parts, None)
    if first is None:
        raise UsageError("the input has no rows", hint="name a table that has some")
    count: int = first.num_rows
    with writing(path), pq.ParquetWriter(path, first.schema, compression="zstd") as writer:
        writer.write_table(first)
        for part in parts:
            try:
                writer.write_table(part.cast(first.schema))
            except (pa.ArrowInvalid, ValueError) as error:
                raise DataUnreadable(f"the files have different columns: {str(error).splitlines()[0]}") from error
            count += part.num_rows
    return count


# -- the output ------------------------------------------------------------------------------------------------------


def require_output(text: str, lake: Lake) -> LakeUri | Path:
    """Where predictions go to, before anything is predicted: a Parquet file, in a lake on a branch with nothing staged.

    Raises:
        UsageError: when that is no place for them.
        NotFound: for a branch that is not there.
    """
    if format_of(text) != "parquet":
        raise UsageError(f'"{text}" is no Parquet file', hint="end it in .parquet")
    if not text.startswith(SCHEME):
        path = Path(text)
        if not path.parent.is_dir():
            raise UsageError(f'no folder "{path.parent}"', hint="make it first")
        return path
    uri = parse(text)
    branches = lake.branches(uri.repository)
    if uri.ref not in branches:
        hint = (
            suggestion(uri.ref, branches)
            or f"make it with `engine lake branches create {SCHEME}{uri.repository}/{uri.ref}`"
        )
        raise UsageError(f"no branch {SCHEME}{uri.repository}/{uri.ref} to commit to", hint=hint)
    if next(iter(lake.changes(uri.repository, uri.ref)), None) is not None:
        raise DirtyBranch(uri.repository, uri.ref)
    return uri


def score(loaded: Loaded, source: Table, target: LakeUri | Path, lake: Lake, scratch: Path, told: Told) -> Scored:
    """Predict every row of a table and put the result where it belongs, whole or not at all.

    Raises:
        UsageError, SchemaViolated, DataUnreadable: as :func:`scored`; nothing was written then.
        BranchMoved: when somebody else committed to the branch meanwhile; nothing was committed then.
    """
    head = lake.branches(target.repository)[target.ref] if isinstance(target, LakeUri) else ""
    with scratch_folder(scratch, "predict-") as folder:
        path = folder / "predictions.parquet"
        rows = write_parquet(scored(loaded, source, told), path)
        if isinstance(target, Path):
            put_file(path, target)
            return Scored(rows=rows, output=str(target))
        lake.put(target.repository, target.ref, target.path, path)
        signed = commit_of(loaded.version, loaded.run, source.shown, rows)
        commit = lake.commit(
            target.repository, target.ref, signed.message, metadata=signed.metadata, parent=head or None
        )
    return Scored(rows=rows, output=f"{SCHEME}{target.repository}/{commit.id}/{target.path}", commit=commit.id)


def put_file(made: Path, target: Path) -> None:
    """Put a whole file in the place of another."""
    waiting = target.with_name(f".{target.name}.writing")
    with writing(target):
        shutil.copyfile(made, waiting)
        waiting.replace(target)


def commit_of(version: ModelVersion, run: str, source: str, rows: int) -> Signed:
    """What the commit says: which model made the predictions, in which run it was trained, and of which data."""
    name = f"{version.name}:{version.version}"
    metadata = {
        "engine.model": name,
        "engine.model.digest": f"sha256:{version.digest}",
        "engine.run": run,
        "engine.input": source,
    }
    return Signed(message=f"{rows:,} predictions of {name}", metadata=json.loads(json.dumps(metadata)))
