"""The registry in one SQLite file. Several processes may use it at once; opening it costs milliseconds.

A version is *reserved* while its run is being recorded and *confirmed* once the record is on the disk, so nobody
ever sees a version whose run cannot be shown. Every recorded execution, by the digest of its record, and every
confirmed change is an entry in the ledger::

    entry n = sha256(canonical JSON of {number, previous: hash of entry n-1, event})

A decision stands in ``decisions`` only while it is being carried out.
"""

from __future__ import annotations

import getpass
import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache, partial
from itertools import repeat
from operator import itemgetter
from pathlib import Path
from typing import Any

from engine.digest import canonical_json
from engine.registry.chain import broken_links, contradictions, link_digest
from engine.registry.model import (
    NOTHING,
    AliasMoved,
    Decision,
    Flaw,
    Head,
    LedgerEntry,
    ModelNotFound,
    ModelRef,
    ModelVersion,
    Pending,
    Sources,
    VersionInUse,
    VersionRetired,
    decision_from,
)
from engine.store.sqlite import Connection, Connections, translate

FORM = 2
SCHEMA = f"""
create table if not exists versions (
  name text not null, version integer not null, digest text not null, created text not null,
  package text not null, confirmed integer not null default 0,
  primary key (name, version), unique (name, digest)
) without rowid;
create table if not exists version_runs (
  name text not null, version integer not null, run text not null, record text not null, added text not null,
  primary key (name, version, run)
) without rowid;
create table if not exists sources (
  name text not null, version integer not null, run text not null, body text not null, primary key (name, version, run)
) without rowid;
create table if not exists runs (
  record text primary key, run text not null, name text not null, status text not null
) without rowid;
create table if not exists aliases (
  name text not null, alias text not null, version integer, primary key (name, alias)
) without rowid;
create table if not exists retired (
  name text not null, version integer not null, primary key (name, version)
) without rowid;
create table if not exists tags (
  name text not null, version integer not null, key text not null, value text not null,
  primary key (name, version, key)
) without rowid;
create table if not exists descriptions (
  name text not null, version integer not null, text text not null, primary key (name, version)
) without rowid;
create table if not exists ledger (
  number integer primary key, previous text not null, event text not null, digest text not null
);
create table if not exists decisions (
  id text primary key, name text not null, alias text not null, state text not null, body text not null
);
pragma user_version = {FORM};
"""
WHOLE = 0
"""The version number under which tags and descriptions of a model as a whole stand."""
UP_TO_DATE: dict[Path, int] = {}
"""The files, by their inodes, that this process knows to have every table."""


def now(precision: str = "milliseconds") -> str:
    """The time in UTC, as ISO 8601."""
    return datetime.now(UTC).isoformat(timespec=precision).replace("+00:00", "Z")


@cache
def who() -> str:
    """The user's login name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


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

    def note_run(
        self,
        name: str,
        run: str,
        record: str,
        status: str,
        version: int | None = None,
        pins: Mapping[str, Any] | None = None,
    ) -> None:
        """Enter an execution that was recorded in the ledger, by the digest of its record."""
        with self._writing(durable=False) as db:
            if not db.execute("insert or ignore into runs values (?, ?, ?, ?)", (record, run, name, status)).rowcount:
                return
            event: dict[str, Any] = {"what": "run", "name": name, "status": status, "run": run, "record": record}
            if version is not None:
                query = "select digest, package from versions where name = ? and version = ?"
                event.update(what="version", version=version, **dict(db.execute(query, (name, version)).fetchone()))
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


# -- rows ---------------------------------------------------------------------------------------------------------

CHECKED = {
    "version": "select name, version, digest, package from versions where confirmed",
    "evidence": "select name, version, run from version_runs",
    "sources": "select name, version, run, body from sources",
    "run": "select record, run, name, status from runs",
    "alias": "select name, alias, version from aliases",
    "retired": "select name, version from retired",
    "tag": "select name, version, key, value from tags",
    "description": "select name, version, text from descriptions",
}
"""What the ledger is compared with: the rows of each table, less what only says when."""
COLUMNS = (
    "select v.name, v.version, v.digest, v.created, v.package, r.version is not null, d.text from {}"
    " left join retired r on r.name = v.name and r.version = v.version"
    " left join descriptions d on d.name = v.name and d.version = v.version where v.confirmed and "
)
BY_ALIAS = (
    COLUMNS.format("aliases a join versions v on v.name = a.name and v.version = a.version")
    + "a.name = ? and a.alias = ?"
)
BY_VERSION = COLUMNS.format("versions v") + "v.name = ? and v.version = ?"
KNOWN = "select 1 from versions where name = ? and confirmed"
NEWEST = COLUMNS.format("versions v") + "v.name = ? and r.version is null order by v.version desc limit 1"


def version_in(db: sqlite3.Connection, ref: ModelRef) -> ModelVersion | None:
    """The version that ``ref`` means."""
    query, values = NEWEST, (ref.name,)
    if ref.alias is not None:
        query, values = BY_ALIAS, (ref.name, ref.alias)  # type: ignore[assignment]
    elif ref.version is not None:
        query, values = BY_VERSION, (ref.name, ref.version)  # type: ignore[assignment]
    row = db.execute(query, values).fetchone()
    if row is None:
        return None
    name, version, digest, created, package, retired, text = row
    key = (name, version)
    runs = db.execute("select run from version_runs where name = ? and version = ? order by added, run", key).fetchall()
    aliases = db.execute("select alias from aliases where name = ? and version = ? order by alias", key).fetchall()
    tags = db.execute("select key, value from tags where name = ? and version = ? order by key", key).fetchall()
    return ModelVersion(
        name=name,
        version=version,
        digest=digest,
        created=created,
        runs=tuple([run for (run,) in runs]),
        package=package,
        aliases=tuple([alias for (alias,) in aliases]),
        tags={row[0]: row[1] for row in tags},
        description=text or "",
        retired=bool(retired),
    )


def versions_in(db: sqlite3.Connection, name: str) -> list[ModelVersion]:
    """All versions of a model, the newest first.

    Columns are put together as columns: of a thousand versions hardly any has an alias, or more than one run.
    """
    cursor = db.cursor()
    cursor.row_factory = None
    query = "select version, digest, created, package from versions where name = ? and confirmed order by version desc"
    rows = cursor.execute(query, (name,)).fetchall()
    if not rows:
        return []
    version, digest, created, package = zip(*rows, strict=True)
    blank = (repeat(()), repeat(NOTHING), repeat(""), repeat(False))
    columns = (repeat(name), version, digest, created, runs_of(cursor, name, version), package, *blank)
    found = list(map(partial(tuple.__new__, ModelVersion), zip(*columns, strict=False)))
    said = words_of(cursor, name)
    for number, item in enumerate(found) if said else ():
        if item.version in said:
            found[number] = item._replace(**said[item.version])
    return found


def runs_of(cursor: sqlite3.Cursor, name: str, versions: Sequence[int]) -> Iterable[tuple[str, ...]]:
    """The runs of each version, the first run first; every version has one at least."""
    query = "select version, run from version_runs where name = ? order by version desc"
    pairs = cursor.execute(query, (name,)).fetchall()
    if len(pairs) == len(versions):
        return zip(map(itemgetter(1), pairs), strict=True)
    several: dict[int, tuple[str, ...]] = {}
    query = "select version, run from version_runs where name = ? order by added, run"
    for version, run in cursor.execute(query, (name,)):
        several[version] = (*several.get(version, ()), run)
    return [several[version] for version in versions]


def words_of(cursor: sqlite3.Cursor, name: str) -> dict[int, dict[str, Any]]:
    """What was said of those versions of a model of which anything was, by the attributes of a version."""
    found: defaultdict[int, dict[str, Any]] = defaultdict(dict)
    asked = (name,)
    for version, alias in cursor.execute("select version, alias from aliases where name = ? order by alias", asked):
        found[version]["aliases"] = (*found[version].get("aliases", ()), alias)
    query = "select version, key, value from tags where name = ? order by key"
    for version, key, value in cursor.execute(query, asked):
        found[version].setdefault("tags", {})[key] = value
    for version, text in cursor.execute("select version, text from descriptions where name = ?", asked):
        found[version]["description"] = text
    for (version,) in cursor.execute("select version from retired where name = ?", asked):
        found[version]["retired"] = True
    return found


def entry_from(row: sqlite3.Row) -> LedgerEntry:
    """A row of the ledger."""
    return LedgerEntry(
        number=row["number"], previous=row["previous"], event=json.loads(row["event"]), digest=row["digest"]
    )


def pending_from(state: Any, body: Mapping[str, Any]) -> Pending:
    """A row of the decisions."""
    head = Head(**body["head"]) if "head" in body else Head()
    return Pending(decision=decision_from(body["decision"]), state=state, head=head)


def body_text(value: object) -> str:
    """A value as the tables have it."""
    return canonical_json(value).decode()


def body_of(event: Mapping[str, Any]) -> str:
    """What an event about a version says it came from, as the table has it."""
    return body_text({"code": event["code"], "data": event["data"]})


# -- inside a transaction -----------------------------------------------------------------------------------------


def bring_up_to_date(db: Connection, path: Path) -> None:
    """Give a file of an earlier form the tables that it does not have."""
    if UP_TO_DATE.get(path) != db.inode and db.execute("pragma user_version").fetchone()[0] < FORM:
        for statement in SCHEMA.split(";"):
            db.execute(statement)


def head_in(db: sqlite3.Connection) -> Head:
    """The last entry of the ledger."""
    last = db.execute("select number, digest from ledger order by number desc limit 1").fetchone()
    return Head(number=last[0], digest=last[1]) if last else Head()


def append(db: sqlite3.Connection, event: Mapping[str, Any]) -> LedgerEntry:
    """Write an entry behind the last."""
    last = head_in(db)
    full = {**event, "who": who(), "when": now()}
    number, body = last.number + 1, body_text(full)
    digest = link_digest(number, last.digest, body)
    db.execute("insert into ledger values (?, ?, ?, ?)", (number, last.digest, body, digest))
    return LedgerEntry(number=number, previous=last.digest, event=full, digest=digest)


def alias_in(db: sqlite3.Connection, name: str, alias: str) -> int | None:
    """The version that an alias names."""
    row = db.execute("select version from aliases where name = ? and alias = ?", (name, alias)).fetchone()
    return None if row is None else row["version"]


def moved(db: sqlite3.Connection, name: str, alias: str, version: int, more: Mapping[str, Any]) -> LedgerEntry:
    """Move an alias, and enter it."""
    query = "select digest from versions where name = ? and version = ?"
    digest = db.execute(query, (name, version)).fetchone()["digest"]
    db.execute("insert or replace into aliases values (?, ?, ?)", (name, alias, version))
    event = {"what": "alias", "name": name, "alias": alias, "version": version, "digest": digest}
    return append(db, {**event, **more})


def require_possible(db: sqlite3.Connection, decision: Decision) -> None:
    """Refuse a decision that cannot be carried out any more."""
    require_free(db, decision.name, decision.alias, decision.id)
    if db.execute("select 1 from decisions where id = ?", (decision.id,)).fetchone():
        return  # it was possible when it began, and since then nobody could move its alias or retire its version
    require_in_use(db, decision.name, decision.version)
    for text, version in {**decision.assumed, f"{decision.name}@{decision.alias}": decision.before}.items():
        ref = ModelRef.parse(text)
        found = alias_in(db, ref.name, ref.alias or "")
        if found != version:
            was = f"version {version}" if version is not None else "no version"
            fact = f"{text} names {f'version {found}' if found is not None else 'no version'} now, and not {was}"
            hint = "somebody moved it while this was being decided; decide again"
            raise AliasMoved(fact, place=f"{decision.name}:{decision.version}", hint=hint)


def require_free(db: sqlite3.Connection, name: str, alias: str, id: str = "") -> None:
    """Refuse to move an alias about which somebody else is deciding."""
    query = "select id from decisions where name = ? and alias = ? and state = 'begun' and id != ?"
    if db.execute(query, (name, alias, id)).fetchone():
        hint = "wait until it is over; one that was killed is finished or undone by the next command"
        raise AliasMoved("another promotion with data is being carried out", place=f"{name}@{alias}", hint=hint)


def require_in_use(db: sqlite3.Connection, name: str, version: int) -> None:
    """Refuse a version that was retired."""
    if db.execute("select 1 from retired where name = ? and version = ?", (name, version)).fetchone():
        hint = f"take it back with `engine models retire {name}:{version} --undo`"
        raise VersionRetired("it was retired", place=f"{name}:{version}", hint=hint)


def require_unused(db: sqlite3.Connection, name: str, version: int) -> None:
    """Refuse to retire a version that an alias names, or is about to."""
    query = "select alias from aliases where name = ? and version = ?"
    found = [row["alias"] for row in db.execute(query, (name, version))]
    bodies = db.execute("select body from decisions where name = ? and state = 'begun'", (name,))
    found += [json.loads(row["body"])["decision"]["alias"] for row in bodies]
    if found:
        hint = f"promote another version to {found[0]} first"
        raise VersionInUse(f"{name}@{found[0]} names it", place=f"{name}:{version}", hint=hint)
