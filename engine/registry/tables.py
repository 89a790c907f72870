"""The tables of a registry in SQLite, and what stands in them."""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from itertools import repeat
from operator import itemgetter
from pathlib import Path
from typing import Any

from engine.digest import canonical_json
from engine.registry.model import (
    NOTHING,
    Head,
    LedgerEntry,
    ModelRef,
    ModelVersion,
    Pending,
    decision_from,
)
from engine.store.sqlite import Connection

FORM = 3
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
create table if not exists announced (record text primary key, run text not null) without rowid;
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
UP_TO_DATE: dict[Path, int] = {}
"""The files, by their inodes, that this process knows to have every table."""


def bring_up_to_date(db: Connection, path: Path) -> None:
    """Give a file of an earlier form the tables that it does not have."""
    if UP_TO_DATE.get(path) != db.inode and db.execute("pragma user_version").fetchone()[0] < FORM:
        for statement in SCHEMA.split(";"):
            db.execute(statement)


CHECKED = {
    "version": "select name, version, digest, package, created from versions where confirmed",
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


def head_in(db: sqlite3.Connection) -> Head:
    """The last entry of the ledger."""
    last = db.execute("select number, digest from ledger order by number desc limit 1").fetchone()
    return Head(number=last[0], digest=last[1]) if last else Head()
