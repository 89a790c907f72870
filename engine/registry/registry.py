"""The registry in one SQLite file. Several processes may use it at once; opening it costs milliseconds.

A version is *reserved* while its run is being recorded and *confirmed* once the record is on the disk, so nobody
ever sees a version whose run cannot be shown. Every recorded execution, by the digest of its record, and every
confirmed change is an entry in the ledger::

    entry n = sha256(canonical JSON of {number, previous: hash of entry n-1, event})
"""

from __future__ import annotations

import getpass
import json
import sqlite3
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from engine.digest import canonical_json, digest_of
from engine.registry.model import LedgerEntry, ModelNotFound, ModelRef, ModelVersion
from engine.store.sqlite import reading, transaction

SCHEMA = """
create table if not exists versions (
  name text not null, version integer not null, digest text not null, created text not null,
  package text not null, confirmed integer not null default 0,
  primary key (name, version), unique (name, digest)
);
create table if not exists version_runs (
  name text not null, version integer not null, run text not null, record text not null, added text not null,
  primary key (name, version, run)
);
create table if not exists runs (
  record text primary key, run text not null, name text not null, status text not null
);
create table if not exists aliases (
  name text not null, alias text not null, version integer, primary key (name, alias)
);
create table if not exists ledger (
  number integer primary key, previous text not null, event text not null, digest text not null
);
"""
GENESIS = "0" * 64


def now() -> str:
    """The time in UTC, to the millisecond, as ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def who() -> str:
    """The user's login name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


class Registry:
    """Registered models below ``path`` (a file). A registry that is not there yet is empty."""

    def __init__(self, path: Path) -> None:
        self.path = path

    # -- reading --------------------------------------------------------------------------------------

    def models(self) -> list[str]:
        """The names of all models that have a version."""
        return [row["name"] for row in self._read("select distinct name from versions where confirmed order by name")]

    def versions(self, name: str) -> list[ModelVersion]:
        """The versions of a model, the newest first.

        Raises:
            ModelNotFound: when it has none.
        """
        rows = self._read("select * from versions where name = ? and confirmed order by version desc", name)
        if not rows:
            raise ModelNotFound("model", name, self.models())
        return [self._version(row) for row in rows]

    def find(self, ref: ModelRef) -> ModelVersion | None:
        """The version that ``ref`` means now, if it means one."""
        if ref.alias is not None:
            rows = self._read(
                "select v.* from aliases a join versions v on v.name = a.name and v.version = a.version"
                " where a.name = ? and a.alias = ? and v.confirmed",
                ref.name,
                ref.alias,
            )
        elif ref.version is not None:
            rows = self._read(
                "select * from versions where name = ? and version = ? and confirmed", ref.name, ref.version
            )
        else:
            rows = self._read(
                "select * from versions where name = ? and confirmed order by version desc limit 1", ref.name
            )
        return self._version(rows[0]) if rows else None

    def get(self, ref: ModelRef) -> ModelVersion:
        """The version that ``ref`` means.

        Raises:
            ModelNotFound: when it means none; with the names that exist.
        """
        found = self.find(ref)
        if found is not None:
            return found
        if ref.name not in self.models():
            raise ModelNotFound(
                "model", ref.name, self.models(), hint="" if self.models() else "no model is registered yet"
            )
        if ref.alias is not None:
            aliases, newest = self.aliases(ref.name), self.versions(ref.name)[0].version
            hint = "" if aliases else f"it has none yet; name a version, as {ref.name}:{newest}"
            raise ModelNotFound(f"alias of {ref.name}", ref.alias, aliases, hint=hint)
        known = [str(item.version) for item in self.versions(ref.name)]
        raise ModelNotFound(f"version of {ref.name}", str(ref.version), known)

    def aliases(self, name: str) -> dict[str, int]:
        """The aliases of a model and the versions that they name."""
        rows = self._read("select alias, version from aliases where name = ? and version is not null", name)
        return {row["alias"]: row["version"] for row in sorted(rows, key=lambda row: str(row["alias"]))}

    def has_meant(self, ref: ModelRef) -> bool:
        """Whether ``ref`` has ever named a version; an explicit version number always claims to."""
        if ref.version is not None:
            return True
        return bool(self._read("select 1 from aliases where name = ? and alias = ?", ref.name, ref.alias))

    def knows(self, record: str) -> bool:
        """Whether the ledger has an entry for the execution whose record has this digest."""
        return bool(self._read("select 1 from runs where record = ?", record))

    def ledger(self) -> list[LedgerEntry]:
        """Every entry, the oldest first."""
        return [
            LedgerEntry(
                number=row["number"],
                previous=row["previous"],
                event=json.loads(row["event"]),
                digest=row["digest"],
            )
            for row in self._read("select * from ledger order by number")
        ]

    # -- writing --------------------------------------------------------------------------------------

    def reserve(self, name: str, digest: str, package: str) -> int:
        """The version number of these model bytes: the one they have, or the next free one.

        A reserved version is not visible until it is confirmed; its number is never given to other bytes.
        """
        with transaction(self.path, SCHEMA) as db:
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

    def note_run(self, name: str, run: str, record: str, status: str, version: int | None = None) -> None:
        """Enter an execution that was recorded in the ledger, by the digest of its record.

        Args:
            version: the version that was reserved for a run that passed. It becomes visible, with this evidence.
        """
        with transaction(self.path, SCHEMA) as db:
            if not db.execute("insert or ignore into runs values (?, ?, ?, ?)", (record, run, name, status)).rowcount:
                return
            event: dict[str, object] = {"what": "run", "name": name, "status": status, "run": run, "record": record}
            if version is not None:
                query = "select digest, package from versions where name = ? and version = ?"
                event.update(what="version", version=version, **dict(db.execute(query, (name, version)).fetchone()))
                db.execute("update versions set confirmed = 1 where name = ? and version = ?", (name, version))
                values = (name, version, run, record, now())
                db.execute("insert or ignore into version_runs values (?, ?, ?, ?, ?)", values)
            self._append(db, event)

    def note_removed(self, run: str) -> None:
        """Enter in the ledger that the records of a run are removed, so that they are not missed."""
        with transaction(self.path, SCHEMA) as db:
            names = [row[0] for row in db.execute("select distinct name from runs where run = ?", (run,))]
            if names:
                db.execute("delete from runs where run = ?", (run,))
                self._append(db, {"what": "removed", "name": names[0], "run": run})

    def set_alias(self, name: str, alias: str, version: int, why: str = "") -> None:
        """Point an alias at a version.

        Raises:
            ModelNotFound: when there is no such version.
        """
        found = self.get(ModelRef(name=name, version=version))
        with transaction(self.path, SCHEMA) as db:
            db.execute("insert or replace into aliases values (?, ?, ?)", (name, alias, version))
            event = {"what": "alias", "name": name, "alias": alias, "version": version, "digest": found.digest}
            self._append(db, {**event, "why": why})

    # -- below ----------------------------------------------------------------------------------------

    def _version(self, row: sqlite3.Row) -> ModelVersion:
        runs = self._read(
            "select run from version_runs where name = ? and version = ? order by added, rowid",
            row["name"],
            row["version"],
        )
        aliases = [alias for alias, version in self.aliases(row["name"]).items() if version == row["version"]]
        return ModelVersion(
            name=row["name"],
            version=row["version"],
            digest=row["digest"],
            created=row["created"],
            runs=tuple(item["run"] for item in runs),
            package=row["package"],
            aliases=tuple(aliases),
        )

    def _append(self, db: sqlite3.Connection, event: Mapping[str, object]) -> None:
        last = db.execute("select number, digest from ledger order by number desc limit 1").fetchone()
        number, previous = (last["number"] + 1, last["digest"]) if last else (1, GENESIS)
        full = {**event, "who": who(), "when": now()}
        digest = digest_of({"number": number, "previous": previous, "event": full})
        db.execute("insert into ledger values (?, ?, ?, ?)", (number, previous, canonical_json(full).decode(), digest))

    def _read(self, query: str, *values: object) -> list[sqlite3.Row]:
        if not self.path.is_file():
            return []
        with reading(self.path) as db:
            return db.execute(query, values).fetchall()
