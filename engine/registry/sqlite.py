"""The registry in one SQLite file. Several processes may use it at once; opening it costs milliseconds.

A version is *reserved* while its run is being recorded and *confirmed* once the record is on the disk, so nobody
ever sees a version whose run cannot be shown. Every recorded execution, by the digest of its record, and every
confirmed change is an entry in the ledger::

    entry n = sha256(canonical JSON of {number, previous: hash of entry n-1, event})

A decision stands in ``decisions`` only while it is being carried out.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from engine.errors import Failed
from engine.registry.chain import broken_links, contradictions
from engine.registry.changes import (
    alias_in,
    append,
    moved,
    now,
    require_free,
    require_in_use,
    require_possible,
    require_unused,
)
from engine.registry.model import (
    Decision,
    Flaw,
    Head,
    LedgerEntry,
    ModelNotFound,
    ModelRef,
    ModelVersion,
    Pending,
    Sources,
)
from engine.registry.tables import (
    CHECKED,
    FORM,
    KNOWN,
    SCHEMA,
    UP_TO_DATE,
    body_of,
    body_text,
    bring_up_to_date,
    entry_from,
    head_in,
    pending_from,
    version_in,
    versions_in,
)
from engine.store.sqlite import Connection, Connections, translate

WHOLE = 0
"""The version number under which tags and descriptions of a model as a whole stand."""


class SqliteRegistry:
    """Registered models below ``path`` (a file). A registry that is not there yet is empty."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._connections = Connections(path, SCHEMA)

    @property
    def place(self) -> str:
        """The file."""
        return str(self.path)

    @property
    def exists(self) -> bool:
        """Whether the file is there."""
        return self.path.is_file()

    # -- reading --------------------------------------------------------------------------------------

    def models(self) -> list[str]:
        """The names of all models that have a version."""
        return [row["name"] for row in self._rows("select distinct name from versions where confirmed order by name")]

    def versions(self, name: str) -> list[ModelVersion]:
        """The versions of a model, the newest first, retired ones included."""
        with self._reading() as db:
            found = versions_in(db, name) if db else []
        if not found:
            raise ModelNotFound("model", name, self.models())
        return found

    def find(self, ref: ModelRef) -> ModelVersion | None:
        """The version that ``ref`` means now, if it means one."""
        with self._reading() as db:
            return version_in(db, ref) if db else None

    def get(self, ref: ModelRef) -> ModelVersion:
        """The version that ``ref`` means."""
        found = self.find(ref)
        if found is not None:
            return found
        names = self.models()
        if ref.name not in names:
            raise ModelNotFound("model", ref.name, names, hint="" if names else "no model is registered yet")
        versions = self.versions(ref.name)
        if ref.alias is not None:
            aliases = self.aliases(ref.name)
            hint = "" if aliases else f"it has none yet; name a version, as {versions[0]}"
            raise ModelNotFound(f"alias of {ref.name}", ref.alias, aliases, hint=hint)
        if ref.version is None:
            raise ModelNotFound("version in use of", ref.name, hint=f"all are retired; the newest is {versions[0]}")
        known = [str(item.version) for item in versions]
        raise ModelNotFound(f"version of {ref.name}", str(ref.version), known)

    def aliases(self, name: str) -> dict[str, int]:
        """The aliases of a model and the versions that they name."""
        query = "select alias, version from aliases where name = ? and version is not null order by alias"
        return {row["alias"]: row["version"] for row in self._rows(query, name)}

    def has_meant(self, ref: ModelRef) -> bool:
        """Whether ``ref`` has ever named a version; an explicit version number always claims to."""
        if ref.version is not None:
            return True
        return bool(self._rows("select 1 from aliases where name = ? and alias = ?", ref.name, ref.alias))

    def description(self, name: str) -> str:
        """What was said of a model as a whole."""
        rows = self._rows("select text from descriptions where name = ? and version = ?", name, WHOLE)
        return str(rows[0]["text"]) if rows else ""

    def tags(self, name: str) -> dict[str, str]:
        """The tags of a model as a whole."""
        rows = self._rows("select key, value from tags where name = ? and version = ? order by key", name, WHOLE)
        return {row["key"]: row["value"] for row in rows}

    def sources(self, name: str, version: int) -> list[Sources]:
        """What each run of a version was made from, the first run first."""
        rows = self._rows(
            "select r.run, r.record, s.body from version_runs r"
            " left join sources s on s.name = r.name and s.version = r.version and s.run = r.run"
            " where r.name = ? and r.version = ? order by r.added, r.run",
            name,
            version,
        )
        bodies = [json.loads(row["body"] or '{"data":{},"code":{}}') for row in rows]
        return [
            Sources(run=row["run"], record=row["record"], data=body["data"], code=body["code"])
            for row, body in zip(rows, bodies, strict=True)
        ]

    def knows(self, record: str) -> bool:
        """Whether the ledger has an entry for the execution whose record has this digest."""
        return bool(self._rows("select 1 from runs where record = ?", record))

    def ledger(self, name: str = "") -> list[LedgerEntry]:
        """Every entry (about the model ``name``, when one is given), the oldest first."""
        entries = [entry_from(row) for row in self._rows("select * from ledger order by number")]
        return [entry for entry in entries if not name or entry.event.get("name") == name]

    def head(self) -> Head:
        """The last entry of the ledger."""
        with self._reading() as db:
            return head_in(db) if db else Head()

    def flaws(self) -> Iterator[Flaw]:
        """Everything that is not as it was written."""
        with self._reading() as db:
            if db is None:
                return
            entries = [entry_from(row) for row in db.execute("select * from ledger order by number")]
            found = [row[0] for row in db.execute("pragma integrity_check")]
            tables = {table: [tuple(row) for row in db.execute(query)] for table, query in CHECKED.items()}
        yield from broken_links(entries)
        yield from (Flaw(name=self.place, fact=str(answer)) for answer in found if answer != "ok")
        yield from contradictions(tables, entries)

    def pending(self) -> list[Pending]:
        """Decisions that are being carried out, or were when their process died."""
        rows = self._rows("select state, body from decisions order by rowid")
        return [pending_from(row["state"], json.loads(row["body"])) for row in rows]

    # -- versions -------------------------------------------------------------------------------------

    def reserve(self, name: str, digest: str, package: str) -> int:
        """The version number of these model bytes: the one they have, or the next free one."""
        with self._writing(durable=False) as db:
            row = db.execute("select version from versions where name = ? and digest = ?", (name, digest)).fetchone()
            if row is not None:
                return int(row["version"])
            row = db.execute("select coalesce(max(version), 0) + 1 from versions where name = ?", (name,)).fetchone()
            version = int(row[0])
            db.execute(
                "insert into versions (name, version, digest, created, package) values (?, ?, ?, ?, ?)",
                (name, version, digest, now(), package),
            )
            return version

    def announce(self, run: str, record: str) -> None:
        """Say which record is about to be written."""
        with self._writing(durable=False) as db:
            db.execute("insert or ignore into announced values (?, ?)", (record, run))

    def announced(self) -> set[str]:
        """The digests of records that were announced and not entered."""
        return {row["record"] for row in self._rows("select record from announced")}

    def note_run(
        self,
        name: str,
        run: str,
        record: str,
        status: str,
        version: int | None = None,
        pins: Mapping[str, Any] | None = None,
        execution: int | None = None,
    ) -> None:
        """Enter an execution that was recorded in the ledger, by the digest of its record."""
        with self._writing(durable=False) as db:
            if not db.execute("insert or ignore into runs values (?, ?, ?, ?)", (record, run, name, status)).rowcount:
                return
            if not db.execute("delete from announced where record = ?", (record,)).rowcount:
                hint = "`engine verify` says what else is wrong; `engine run --fresh` executes the spec anew"
                raise Failed("a record lies here that the registry knows nothing of", place=f"run {run}", hint=hint)
            event: dict[str, Any] = {"what": "run", "name": name, "status": status, "run": run, "record": record}
            if execution is not None:
                event["execution"] = execution
            if version is not None:
                query = "select digest, package, created from versions where name = ? and version = ?"
                reserved = db.execute(query, (name, version)).fetchone()
                if reserved is None:
                    hint = "the registry is not the one that the run was made with: `engine run --fresh` registers anew"
                    raise Failed(f"version {version} of {name} was never reserved here", place=self.place, hint=hint)
                event.update(what="version", version=version, **dict(reserved))
                db.execute("update versions set confirmed = 1 where name = ? and version = ?", (name, version))
                values = (name, version, run, record, now("microseconds"))
                db.execute("insert or ignore into version_runs values (?, ?, ?, ?, ?)", values)
                if pins is not None:
                    event.update(data=dict(pins["data"]), code=dict(pins["code"]))
                    body = (name, version, run, body_of(event))
                    db.execute("insert or ignore into sources values (?, ?, ?, ?)", body)
            append(db, event)

    def note_removed(self, run: str) -> None:
        """Enter in the ledger that the records of a run are removed, so that they are not missed."""
        with self._writing() as db:
            names = [row[0] for row in db.execute("select distinct name from runs where run = ?", (run,))]
            if names:
                db.execute("delete from runs where run = ?", (run,))
                append(db, {"what": "removed", "name": names[0], "run": run})

    def retire(self, name: str, version: int, why: str = "", *, undo: bool = False) -> bool:
        """Take a version out of use, or back into it; tell whether that changed anything."""
        with self._writing_about(name, version) as db:
            if undo:
                change = db.execute("delete from retired where name = ? and version = ?", (name, version))
            else:
                require_unused(db, name, version)
                change = db.execute("insert or ignore into retired values (?, ?)", (name, version))
            if change.rowcount:
                what = "restored" if undo else "retired"
                append(db, {"what": what, "name": name, "version": version, "why": why})
            return bool(change.rowcount)

    def sync(self) -> None:
        """Have everything on the disk that was written until now."""
        if self.exists:
            with self._writing():
                pass  # a commit that is flushed flushes those before it

    # -- words ----------------------------------------------------------------------------------------

    def tag(self, name: str, version: int | None, changes: Mapping[str, str | None]) -> bool:
        """Set tags of a version, or of the model; ``None`` takes one away."""
        number, changed = version or WHOLE, False
        with self._writing_about(name, version) as db:
            query = "select key, value from tags where name = ? and version = ?"
            before = {row["key"]: row["value"] for row in db.execute(query, (name, number))}
            for key, value in changes.items():
                if before.get(key) == value:
                    continue
                if value is None:
                    db.execute("delete from tags where name = ? and version = ? and key = ?", (name, number, key))
                else:
                    db.execute("insert or replace into tags values (?, ?, ?, ?)", (name, number, key, value))
                append(db, {"what": "tag", "name": name, "version": number, "key": key, "value": value})
                changed = True
        return changed

    def describe(self, name: str, version: int | None, text: str) -> bool:
        """Say what a version, or the model, is for."""
        number = version or WHOLE
        with self._writing_about(name, version) as db:
            query = "select text from descriptions where name = ? and version = ?"
            row = db.execute(query, (name, number)).fetchone()
            if (row["text"] if row else "") == text:
                return False
            db.execute("insert or replace into descriptions values (?, ?, ?)", (name, number, text))
            append(db, {"what": "description", "name": name, "version": number, "text": text})
            return True

    # -- aliases --------------------------------------------------------------------------------------

    def set_alias(self, name: str, alias: str, version: int, why: str = "") -> LedgerEntry:
        """Point an alias at a version, whatever it named before and without evidence."""
        with self._writing_about(name, version) as db:
            require_free(db, name, alias)
            require_in_use(db, name, version)
            event = {"how": "set", "why": why, "before": alias_in(db, name, alias)}
            return moved(db, name, alias, version, event)

    def begin(self, decision: Decision) -> None:
        """Write down that a decision is about to be carried out: from now on nobody else moves its alias."""
        with self._writing_about(decision.name, decision.version) as db:
            require_possible(db, decision)
            row = (decision.id, decision.name, decision.alias, "begun", body_text({"decision": decision.document()}))
            db.execute("insert into decisions values (?, ?, ?, ?, ?)", row)

    def move(self, decision: Decision, data: Mapping[str, Any] | None = None) -> LedgerEntry:
        """Carry a decision out: the alias names its version."""
        with self._writing_about(decision.name, decision.version) as db:
            require_possible(db, decision)
            event: dict[str, Any] = {"decision": decision.id, "how": decision.how, "why": decision.why}
            event.update(before=decision.before, forced=decision.forced, **decision.evidence.document())
            if data is not None:
                event["data"] = dict(data)
            entry = moved(db, decision.name, decision.alias, decision.version, event)
            head = {"number": entry.number, "digest": entry.digest}
            body = body_text({"decision": decision.document(), "head": head})
            row = (decision.id, decision.name, decision.alias, "moved", body)
            db.execute("insert or replace into decisions values (?, ?, ?, ?, ?)", row)
            return entry

    def drop(self, id: str) -> None:
        """A decision is over."""
        with self._writing(durable=False) as db:
            db.execute("delete from decisions where id = ?", (id,))

    # -- below ----------------------------------------------------------------------------------------

    def _rows(self, query: str, *values: object) -> list[sqlite3.Row]:
        with self._connected() as db:
            return db.execute(query, values).fetchall() if db else []

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection | None]:
        """A connection on which several questions see the same moment; nothing when there is no file."""
        with self._connected() as db:
            if db is None:
                yield None
                return
            db.execute("begin")
            try:
                yield db
            finally:
                db.execute("rollback")

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection | None]:
        if not self.path.is_file():
            yield None
            return
        try:
            yield self._current()
        except sqlite3.DatabaseError as error:
            self._connections.drop()
            raise translate(error, self.path) from error

    @contextmanager
    def _writing(self, *, durable: bool = True) -> Iterator[Connection]:
        with self._connections.transaction(durable=durable) as db:
            bring_up_to_date(db, self.path)
            yield db

    @contextmanager
    def _writing_about(self, name: str, version: int | None) -> Iterator[Connection]:
        """A write about a version that there is (or about a model that has one)."""
        try:
            with self._writing() as db:
                known = (KNOWN, (name,)) if version is None else (f"{KNOWN} and version = ?", (name, version))
                if not db.execute(*known).fetchone():
                    raise ModelNotFound("model", name)
                yield db
        except ModelNotFound:
            self.get(ModelRef(name=name, version=version))  # says which there are
            raise

    def _current(self) -> Connection:
        """This thread's connection, to a file that has every table of now."""
        db = self._connections.connection()
        if UP_TO_DATE.get(self.path) != db.inode:
            if db.execute("pragma user_version").fetchone()[0] < FORM:
                with self._writing():
                    pass
            UP_TO_DATE[self.path] = db.inode
        return db
