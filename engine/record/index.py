"""What was recorded, in a form that answers questions about ten thousand runs at once.

Everything in it is read from the records, and is read again when it is lost. It follows what is on the disk: a run
folder that it does not know, or that has changed, is read; one that is gone is forgotten.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from engine.errors import EngineError, StorageFull, StorageUnwritable
from engine.lake.uri import parse
from engine.record.model import RunRecord
from engine.record.store import RecordStore
from engine.store.objects import ObjectStore
from engine.store.sqlite import reading, transaction

VERSION = 1
SCHEMA = """
create table if not exists runs (run text primary key, changed integer not null) without rowid;
create table if not exists executions (
  run text not null, number integer not null, newest integer not null, name text not null, status text not null,
  started text not null, model text, version integer, listed text not null, metrics text not null,
  primary key (run, number)
) without rowid;
create index if not exists executions_started on executions (started);
create table if not exists pins (
  run text not null, number integer not null, source text not null, repository text not null, path text not null,
  uri text not null, lake_commit text not null, manifest text not null, trains integer not null,
  primary key (run, number, source)
) without rowid;
create index if not exists pins_commit on pins (lake_commit);
create index if not exists pins_manifest on pins (manifest);
create table if not exists objects (
  digest text not null, manifest text not null, path text not null, primary key (digest, manifest, path)
) without rowid;
create index if not exists objects_manifest on objects (manifest);
create table if not exists artifacts (
  digest text not null, run text not null, number integer not null, name text not null,
  primary key (digest, run, number, name)
) without rowid;
create table if not exists names (
  kind text not null, name text not null, run text not null, number integer not null,
  primary key (kind, name, run, number)
) without rowid;
"""
TABLES = ("executions", "pins", "artifacts", "names")
LISTED = ("run_id", "name", "status", "model", "metrics", "gates", "started", "seconds", "overrides", "executor")


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """An execution as lists show it: ``listed`` is part of the run's document."""

    run: str
    number: int
    listed: Mapping[str, Any]


class RunIndex:
    """The index of the records below ``home``."""

    def __init__(self, home: Path, records: RecordStore, store: ObjectStore) -> None:
        self.path = home / "cache" / "runs.db"
        self.records = records
        self.store = store

    def note(self, record: RunRecord) -> None:
        """Add an execution that was just recorded. What cannot be written is found when the index is next asked."""
        with suppress(EngineError, sqlite3.DatabaseError), transaction(self.path, SCHEMA) as db:
            if version_of(db) == VERSION:
                self._read(db, record.run_id, self._changed(record.run_id))

    @contextmanager
    def opened(self) -> Iterator[sqlite3.Connection]:
        """The index, as the records are now, to be read from. Where it cannot be written it is made in memory."""
        try:
            self._follow()
        except (StorageFull, StorageUnwritable):
            with closing(sqlite3.connect(":memory:")) as db:
                db.row_factory = sqlite3.Row
                db.executescript(SCHEMA)
                self._bring_up(db, {}, self._found())
                yield db
            return
        with reading(self.path) as db:
            yield db

    def _follow(self) -> None:
        """Bring the file up to what is on the disk; one that is damaged or of another version is made anew."""
        found, known = self._found(), self._known()
        if known == found:
            return
        if known is None:
            self._remove()
        with transaction(self.path, SCHEMA) as db:
            db.execute(f"pragma user_version = {VERSION}")
            self._bring_up(db, known or {}, found)

    def _known(self) -> dict[str, int] | None:
        """Every run in the file, and when its executions had changed; ``None`` when there is no file of this form."""
        if not self.path.is_file():
            return None
        try:
            with reading(self.path) as db:
                rows = db.execute("select run, changed from runs").fetchall() if version_of(db) == VERSION else None
        except (EngineError, sqlite3.DatabaseError):
            return None
        return None if rows is None else dict(rows)

    def _remove(self) -> None:
        for path in self.path.parent.glob(f"{self.path.name}*"):
            with suppress(FileNotFoundError):
                path.unlink()

    def _bring_up(self, db: sqlite3.Connection, known: Mapping[str, int], found: Mapping[str, int]) -> None:
        for run in known.keys() - found.keys():
            forget(db, run)
        for run, changed in found.items():
            if known.get(run) != changed:
                self._read(db, run, changed)
        db.execute("delete from objects where manifest not in (select manifest from pins)")

    def _found(self) -> dict[str, int]:
        """Every run that has an execution, and when its executions last changed, in nanoseconds."""
        root, found = os.fspath(self.records.root), {}
        with suppress(FileNotFoundError):
            for name in os.listdir(root):
                with suppress(FileNotFoundError, NotADirectoryError):
                    found[name] = os.stat(f"{root}/{name}/executions").st_mtime_ns  # noqa: PTH116
        return found

    def _changed(self, run: str) -> int:
        return (self.records.folder(run) / "executions").stat().st_mtime_ns

    def _read(self, db: sqlite3.Connection, run: str, changed: int) -> None:
        """Read every execution of a run; one that is damaged is left out, `engine verify` names it."""
        forget(db, run)
        db.execute("insert into runs values (?, ?)", (run, changed))
        for number in self.records.numbers(run):
            with suppress(EngineError, LookupError, TypeError, ValueError, AttributeError):
                self._add(db, self.records.read(run, number))
        newest = "select max(number) from executions where run = ?"
        db.execute(f"update executions set newest = (number = ({newest})) where run = ?", (run, run))  # noqa: S608

    def _add(self, db: sqlite3.Connection, record: RunRecord) -> None:
        summary, key = record.summary, (record.run_id, record.execution)
        listed = {name: summary[name] for name in LISTED} | {"execution": record.execution}
        listed["pins"] = summary["pins"]
        model = summary["model"]
        values = (*key, 0, summary["name"], summary["status"], summary["started"], model["digest"], model["version"])
        written = (json.dumps(listed), json.dumps(summary["metrics"]))
        db.execute("insert or replace into executions values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", (*values, *written))
        db.executemany("insert or replace into pins values (?, ?, ?, ?, ?, ?, ?, ?, ?)", pin_rows(record))
        db.executemany(
            "insert or ignore into artifacts values (?, ?, ?, ?)",
            [(digest, *key, name) for name, digest in record.subjects.items()],
        )
        db.executemany("insert or ignore into names values (?, ?, ?, ?)", [(*name, *key) for name in names_of(record)])
        for pin in record.dependencies.values():
            if pin["name"].startswith("data/"):
                self._add_objects(db, pin["digest"]["sha256"])

    def _add_objects(self, db: sqlite3.Connection, manifest: str) -> None:
        if db.execute("select 1 from objects where manifest = ? limit 1", (manifest,)).fetchone():
            return
        with suppress(EngineError):
            rows = [(digest, manifest, path) for path, digest in json.loads(self.store.read(manifest))]
            db.executemany("insert or ignore into objects values (?, ?, ?)", rows)


def version_of(db: sqlite3.Connection) -> int:
    """Which form of this index a file has."""
    return int(db.execute("pragma user_version").fetchone()[0])


def forget(db: sqlite3.Connection, run: str) -> None:
    """Drop everything about a run."""
    for table in ("runs", *TABLES):
        db.execute(f"delete from {table} where run = ?", (run,))  # noqa: S608


def pin_rows(record: RunRecord) -> Iterator[tuple[Any, ...]]:
    """The data that an execution is pinned to."""
    trains = record.definition["externalParameters"]["train"]["data"]
    for name, pin in record.dependencies.items():
        if name.startswith("data/"):
            uri, source = parse(pin["uri"]), name.removeprefix("data/")
            place = (source, uri.repository, uri.path, pin["uri"], pin["annotations"]["commit"])
            yield record.run_id, record.execution, *place, pin["digest"]["sha256"], source == trains


def names_of(record: RunRecord) -> Iterator[tuple[str, str]]:
    """What else an execution can be found by: kind and name."""
    dependencies = record.dependencies
    yield "code", dependencies["code"]["digest"]["sha256"]
    commit = dependencies["code"]["annotations"].get("commit")
    if commit:
        yield "git", commit
    yield "environment", dependencies["environment"]["digest"]["sha256"]
    yield "record", record.digest
    for name, pin in dependencies.items():
        if name.startswith("model/"):
            yield "baseline", pin["digest"]["sha256"]


def rows(db: sqlite3.Connection, where: str = "", values: Sequence[object] = ()) -> list[Row]:
    """Executions, the newest first. ``where`` is a condition on the table ``executions``, called ``e``."""
    condition = f"where {where}" if where else ""
    query = f"select run, number, listed from executions e {condition} order by started desc, run"  # noqa: S608
    return [
        Row(run=run, number=number, listed=orjson.loads(listed)) for run, number, listed in db.execute(query, values)
    ]
