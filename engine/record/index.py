"""What was recorded, in a form that answers questions about ten thousand runs at once.

Everything in it is read from the records, and is read again when it is lost. It follows what is on the disk: a run
folder that it does not know, or that has changed, is read; one that is gone is forgotten.
"""

from __future__ import annotations

import binascii
import json
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from engine.errors import EngineError, StorageFull, StorageUnwritable, writing
from engine.lake.uri import parse
from engine.record.model import RunRecord
from engine.record.store import RecordStore
from engine.spec.vocabulary import MEASUREMENTS, PROPERTIES
from engine.store.objects import ObjectStore
from engine.store.sqlite import reading, transaction

SCHEMA = """
create table if not exists state (root integer not null);
create table if not exists runs (run text primary key, changed integer not null) without rowid;
create table if not exists executions (
  run text not null, number integer not null, newest integer not null, name text not null, status text not null,
  started text not null, model text, version integer, overrides text not null, foremost text not null,
  metrics text not null,
  primary key (run, number)
) without rowid;
create table if not exists documents (
  run text not null, number integer not null, listed text not null, primary key (run, number)
);
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
create index if not exists artifacts_run on artifacts (run);
create table if not exists names (
  kind text not null, name text not null, run text not null, number integer not null,
  primary key (kind, name, run, number)
) without rowid;
create index if not exists names_run on names (run);
"""
VERSION = binascii.crc32(SCHEMA.encode()) >> 1  # an index of another form is made anew
FOREMOST = 2
TABLES = ("executions", "documents", "pins", "artifacts", "names")
LISTED = ("run_id", "name", "status", "model", "metrics", "gates", "started", "seconds", "overrides", "executor")


@dataclass(frozen=True, slots=True)
class Row:
    """An execution as lists show it. ``foremost`` are its first metrics, by name, those that gates judge before others.

    ``listed`` is a part of the run's document, as JSON; it is there when it was asked for.
    """

    run: str
    number: int
    name: str
    status: str
    started: str
    version: int | None
    overrides: str
    foremost: str
    metrics: str
    listed: str = ""

    @property
    def values(self) -> dict[str, float]:
        """Every metric."""
        found: dict[str, float] = orjson.loads(self.metrics)
        return found

    @property
    def document(self) -> dict[str, Any]:
        """A part of the run's document."""
        found: dict[str, Any] = orjson.loads(self.listed)
        return found


COLUMNS = "e.run, e.number, e.name, e.status, e.started, e.version, e.overrides, e.foremost, e.metrics"


class RunIndex:
    """The index of the records below ``home``."""

    def __init__(self, home: Path, records: RecordStore, store: ObjectStore) -> None:
        self.path = home / "cache" / "runs.db"
        self.records = records
        self.store = store

    def note(self) -> None:
        """Add what was just recorded. What cannot be written is found when the index is next asked."""
        with suppress(EngineError, sqlite3.DatabaseError):
            self._can_follow()

    @contextmanager
    def opened(self) -> Iterator[sqlite3.Connection]:
        """The index, as the records are now, to be read from. Where it cannot be written it is made in memory."""
        if not self._can_follow():
            with closing(sqlite3.connect(":memory:")) as db:
                db.executescript(SCHEMA)
                self._bring_up(db, {}, self._found(), 0)
                yield db
            return
        with reading(self.path) as db:
            db.row_factory = None  # plain tuples: ten thousand of them are many
            yield db

    def _can_follow(self) -> bool:
        """Bring the file up to date; tell whether that could be done. Without any run no file is made."""
        if not self.records.root.is_dir():
            return False
        try:
            self._follow()
        except (StorageFull, StorageUnwritable):
            return False
        return True

    def _follow(self) -> None:
        """Bring the file up to what is on the disk; one that is damaged or of another version is made anew."""
        root = self.records.root.stat().st_mtime_ns  # what comes after this look changes it again
        state, known = self._known(root)
        if state == root:
            return
        if state is None:
            self._remove()
        with transaction(self.path, SCHEMA) as db:
            db.execute(f"pragma user_version = {VERSION}")
            self._bring_up(db, known, self._found(), root)

    def _known(self, root: int) -> tuple[int | None, dict[str, int]]:
        """When the folder of runs had changed, and, if that was not at ``root``, when each run's executions had.

        The former is ``None`` when there is no file of this form.
        """
        if not self.path.is_file():
            return None, {}
        try:
            with reading(self.path) as db:
                if version_of(db) != VERSION:
                    return None, {}
                state = int(db.execute("select max(root) from state").fetchone()[0])
                rows = db.execute("select run, changed from runs").fetchall() if state != root else []
        except (EngineError, sqlite3.DatabaseError, TypeError):
            return None, {}
        return state, dict(rows)

    def _remove(self) -> None:
        with writing(self.path):
            for path in self.path.parent.glob(f"{self.path.name}*"):
                path.unlink(missing_ok=True)

    def _bring_up(self, db: sqlite3.Connection, known: Mapping[str, int], found: Mapping[str, int], root: int) -> None:
        for run in known.keys() - found.keys():
            forget(db, run)
        for run, changed in found.items():
            if known.get(run) != changed:
                self._read(db, run, changed, known=run in known)
        db.execute("delete from state")
        db.execute("insert into state values (?)", (root,))
        db.execute("delete from objects where manifest not in (select manifest from pins)")

    def _found(self) -> dict[str, int]:
        """Every run that has an execution, and when its executions last changed, in nanoseconds."""
        found: dict[str, int] = {}
        with suppress(FileNotFoundError):
            root = os.open(self.records.root, os.O_RDONLY)
            try:
                for name in os.listdir(root):
                    with suppress(FileNotFoundError, NotADirectoryError):
                        found[name] = os.stat(f"{name}/executions", dir_fd=root).st_mtime_ns
            finally:
                os.close(root)
        return found

    def _read(self, db: sqlite3.Connection, run: str, changed: int, *, known: bool = True) -> None:
        """Read every execution of a run; one that is damaged is left out, `engine verify` names it."""
        if known:
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
        judged = {metric: summary["metrics"][metric] for metric in foremost(summary)[:FOREMOST]}
        known = (summary["name"], summary["status"], summary["started"], model["digest"], model["version"])
        texts = [json.dumps(value) for value in (judged, summary["metrics"])]
        values = (*key, 0, *known, " ".join(summary["overrides"]), *texts)
        db.execute(f"insert or replace into executions values ({marks(values)})", values)  # noqa: S608
        db.execute("insert or replace into documents values (?, ?, ?)", (*key, json.dumps(listed)))
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


def foremost(summary: Mapping[str, Any]) -> list[str]:
    """The metrics of a run, those that its gates judge first."""
    judged = [gate["metric"] for gate in summary["gates"]]
    known = [name for name in summary["metrics"] if name not in (*PROPERTIES, *MEASUREMENTS)]
    return [name for name in dict.fromkeys([*judged, *known]) if name in known]


def marks(values: Sequence[object]) -> str:
    """As many question marks as there are values."""
    return ", ".join("?" * len(values))


def rows(db: sqlite3.Connection, rest: str, values: Sequence[object] = (), *, listed: bool = False) -> list[Row]:
    """Executions ``e``. ``rest`` is what follows ``from executions e`` in the query."""
    document = "(select d.listed from documents d where d.run = e.run and d.number = e.number)"
    columns = f"{COLUMNS}, {document}" if listed else COLUMNS
    return [Row(*found) for found in db.execute(f"select {columns} from executions e {rest}", values)]  # noqa: S608
