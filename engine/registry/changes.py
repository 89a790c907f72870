"""What may be changed in a registry, and how the ledger tells it: each inside of a transaction that somebody opened."""

from __future__ import annotations

import getpass
import json
import sqlite3
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Any

from engine.registry.chain import link_digest
from engine.registry.model import AliasMoved, Decision, LedgerEntry, ModelRef, VersionInUse, VersionRetired
from engine.registry.tables import body_text, head_in


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
