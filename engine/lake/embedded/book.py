"""The lake's SQLite file: what its tables are, and reading and writing their rows.

Every row either is named by the SHA-256 of what is in it (commits, nodes) or carries a seal over its other values, so
that a flipped bit in any of them is found when it is read.
"""

from __future__ import annotations

import hashlib
import sqlite3
import time as clock
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import orjson

from engine.digest import canonical_json, digest_of, sha256
from engine.errors import DigestMismatch, Failed, UsageError
from engine.lake.embedded.names import FULL_ID, SHORT_ID, Ref, read_ref
from engine.lake.embedded.tree import Changes, Nodes, Row
from engine.lake.protocol import Commit, RefNotFound, Repository, RepositoryNotFound

SCHEMA = """
create table if not exists repositories (
  name text primary key, default_branch text not null, time integer not null, seal blob not null
) without rowid;
create table if not exists refs (
  repository text not null, kind text not null, name text not null, head text not null, seal blob not null,
  primary key (repository, kind, name)
) without rowid;
create table if not exists commits (
  repository text not null, id text not null, body blob not null, added integer not null,
  primary key (repository, id)
) without rowid;
create table if not exists staged (
  repository text not null, branch text not null, path text not null, row blob not null, seal blob not null,
  primary key (repository, branch, path)
) without rowid;
create table if not exists nodes (digest text primary key, data blob not null) without rowid;
pragma user_version = 2;
"""
VERSION = 2
SAMPLE = "flights"
PAGE = 1000
END = "\U0010ffff" * 2  # behind every path that begins with what is before it
Kind = Literal["branch", "tag"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Stored:
    """A commit with what only the lake needs: the root of its tree, and how far it is from the first commit."""

    commit: Commit
    tree: str
    generation: int


def seal_of(values: Iterable[object]) -> bytes:
    """What a row is sealed with: the first half of the SHA-256 of its other values."""
    return hashlib.sha256(orjson.dumps(tuple(values))).digest()[:16]


class Book:
    """The tables, through a connection."""

    def __init__(self, db: sqlite3.Connection, path: Path) -> None:
        self.db = db
        self.path = path

    # -- repositories and refs ------------------------------------------------------------------------

    def repositories(self) -> list[Repository]:
        """All, by name."""
        rows = self.db.execute("select name, default_branch, time, seal from repositories order by name")
        return [Repository(name=row[0], default_branch=row[1], time=row[2]) for row in map(self.unsealed, rows)]

    def repository(self, name: str) -> Repository:
        """One of them.

        Raises:
            RepositoryNotFound: naming those that are there.
        """
        row = self.db.execute("select * from repositories where name = ?", (name,)).fetchone()
        if row is None:
            known = [item.name for item in self.repositories()]
            hint = "" if known else f"`engine lake repos create {name}` makes it; put data there before you run"
            if name == SAMPLE:
                hint = "`engine quickstart` creates the sample"
            raise RepositoryNotFound("repository", name, known, hint=hint)
        name, default_branch, time, _ = self.unsealed(row)
        return Repository(name=name, default_branch=default_branch, time=time)

    def add_repository(self, repository: Repository) -> None:
        """Write one down."""
        self._insert("repositories", [repository.name, repository.default_branch, repository.time])

    def remove_repository(self, name: str) -> None:
        """Forget one, its refs and what is staged; commits stay until they are collected."""
        self.db.execute("delete from staged where repository = ?", (name,))
        self.db.execute("delete from refs where repository = ?", (name,))
        self.db.execute("delete from repositories where name = ?", (name,))

    def refs(self, repository: str, kind: Kind) -> dict[str, str]:
        """Names and commits of the branches or tags, sorted."""
        self.repository(repository)
        query = "select * from refs where repository = ? and kind = ? order by name"
        return {row[2]: row[3] for row in map(self.unsealed, self.db.execute(query, (repository, kind)))}

    def head(self, repository: str, kind: Kind, name: str) -> str | None:
        """The commit of a branch or tag, if there is one of that name."""
        query = "select * from refs where repository = ? and kind = ? and name = ?"
        row = self.db.execute(query, (repository, kind, name)).fetchone()
        return str(self.unsealed(row)[3]) if row else None

    def require_head(self, repository: str, branch: str) -> str:
        """The commit of a branch.

        Raises:
            RepositoryNotFound, RefNotFound: naming what is there.
        """
        self.repository(repository)
        head = self.head(repository, "branch", branch)
        if head is None:
            raise RefNotFound(f"branch in {repository}:", branch, self.refs(repository, "branch"))
        return head

    def set_ref(self, repository: str, kind: Kind, name: str, head: str) -> None:
        """Write a branch or tag down."""
        self._insert("refs", [repository, kind, name, head])

    def remove_ref(self, repository: str, kind: Kind, name: str) -> None:
        """Forget a branch or tag."""
        self.db.execute("delete from refs where repository = ? and kind = ? and name = ?", (repository, kind, name))

    def resolve(self, repository: str, text: str) -> str:
        """The full id of the commit that a ref means.

        Raises:
            RepositoryNotFound, RefNotFound, UsageError: for what means none.
        """
        ref = read_ref(text)
        self.repository(repository)
        current = self._base(repository, ref)
        for kind, count in ref.steps:
            for _ in range(count if kind == "~" else min(count, 1)):
                parents = self.commit(repository, current).commit.parents
                index = count - 1 if kind == "^" else 0
                if index >= len(parents):
                    raise RefNotFound(f"commit in {repository}:", text, hint="the history does not go back that far")
                current = parents[index]
        return current

    def _base(self, repository: str, ref: Ref) -> str:
        if FULL_ID.fullmatch(ref.base) and self.has_commit(repository, ref.base):
            return ref.base
        named = self.head(repository, "branch", ref.base) or self.head(repository, "tag", ref.base)
        if named:
            return named
        if SHORT_ID.fullmatch(ref.base):
            query = "select id from commits where repository = ? and id between ? and ? limit 3"
            ids = [str(row[0]) for row in self.db.execute(query, (repository, ref.base, ref.base + "g"))]
            if len(ids) > 1:
                raise UsageError(f'"{ref.base}" begins several commits of {repository}', hint="write more of it")
            if ids:
                return ids[0]
        known = [*self.refs(repository, "branch"), *self.refs(repository, "tag")]
        raise RefNotFound(f"branch, tag or commit in {repository}:", ref.base, known)

    def shows_staged(self, repository: str, text: str) -> str | None:
        """The branch whose staged changes reading a ref shows, if any."""
        ref = read_ref(text)
        if not ref.shows_staged or (FULL_ID.fullmatch(ref.base) and self.has_commit(repository, ref.base)):
            return None
        return ref.base if self.head(repository, "branch", ref.base) else None

    # -- commits and nodes ----------------------------------------------------------------------------

    def has_commit(self, repository: str, id: str) -> bool:
        """Whether there is a commit of that id."""
        query = "select 1 from commits where repository = ? and id = ?"
        return self.db.execute(query, (repository, id)).fetchone() is not None

    def commit(self, repository: str, id: str) -> Stored:
        """A commit.

        Raises:
            DigestMismatch: when it is not there or was altered.
        """
        query = "select body from commits where repository = ? and id = ?"
        data = self._hashed("commit", id, self.db.execute(query, (repository, id)).fetchone())
        return stored_from(id, orjson.loads(data))

    def add_commit(self, repository: str, wanted: Commit, tree: str) -> Commit:
        """Write a commit down; the same with its id."""
        parents = [self.commit(repository, parent) for parent in wanted.parents]
        body = {
            "author": wanted.author,
            "generation": 1 + max((parent.generation for parent in parents), default=0),
            "message": wanted.message,
            "metadata": dict(wanted.metadata),
            "parents": list(wanted.parents),
            "time": wanted.time,
            "tree": tree,
        }
        id = digest_of(body)
        values = (repository, id, canonical_json(body), int(clock.time()))
        self.db.execute("insert or ignore into commits values (?, ?, ?, ?)", values)
        return stored_from(id, body).commit

    def nodes(self) -> Nodes:
        """The nodes of all trees."""
        return Nodes(read=partial(read_node, self))

    def add_nodes(self, nodes: Nodes) -> None:
        """Store the nodes that are new."""
        self.db.executemany("insert or ignore into nodes values (?, ?)", nodes.new.items())

    def _hashed(self, what: str, digest: str, row: sqlite3.Row | None) -> bytes:
        data = b"" if row is None else bytes_of(row[0])
        found = "nothing" if row is None else sha256(data)
        if found != digest:
            raise DigestMismatch(f"a {what} in the lake", digest, found, place=str(self.path))
        return data

    # -- staged changes -------------------------------------------------------------------------------

    def stage(self, repository: str, branch: str, changes: Changes) -> None:
        """Stage rows, or removals (``None``), by path."""
        rows = []
        for path, row in changes.items():
            values = [repository, branch, path, orjson.dumps(row).decode()]
            rows.append([*values[:3], values[3].encode(), seal_of(values)])
        self.db.executemany("insert or replace into staged values (?, ?, ?, ?, ?)", rows)

    def staged(self, repository: str, branch: str, after: str = "", prefix: str = "") -> list[tuple[str, Row | None]]:
        """The next 1000 staged changes behind ``after``, by path."""
        query = (
            "select path, row, seal from staged"
            " where repository = ? and branch = ? and path > ? and path >= ? and path < ? order by path limit ?"
        )
        values = (repository, branch, after, prefix, prefix + END, PAGE)
        found: list[tuple[str, Row | None]] = []
        for path, row, seal in self.db.execute(query, values):
            if seal_of((repository, branch, path, row.decode(errors="replace"))) != seal:
                raise DigestMismatch("a row in the lake", bytes_of(seal).hex(), "something else", place=str(self.path))
            found.append((path, orjson.loads(row)))
        return found

    def all_staged(self, repository: str, branch: str) -> Iterator[tuple[str, Row | None]]:
        """Every staged change of a branch, by path."""
        after = ""
        while rows := self.staged(repository, branch, after):
            yield from rows
            after = rows[-1][0]

    def staged_row(self, repository: str, branch: str, path: str) -> tuple[Row | None] | None:
        """What is staged at a path, in a tuple, as that may be ``None``; ``None`` when nothing is."""
        query = "select * from staged where repository = ? and branch = ? and path = ?"
        row = self.db.execute(query, (repository, branch, path)).fetchone()
        return (orjson.loads(self.unsealed(row)[3]),) if row else None

    def is_dirty(self, repository: str, branch: str) -> bool:
        """Whether anything is staged on a branch."""
        query = "select 1 from staged where repository = ? and branch = ? limit 1"
        return self.db.execute(query, (repository, branch)).fetchone() is not None

    def unstage(self, repository: str, branch: str, prefix: str = "") -> None:
        """Drop what is staged below a prefix."""
        query = "delete from staged where repository = ? and branch = ? and path >= ? and path < ?"
        self.db.execute(query, (repository, branch, prefix, prefix + END))

    def unstage_path(self, repository: str, branch: str, path: str) -> None:
        """Drop what is staged at a path."""
        query = "delete from staged where repository = ? and branch = ? and path = ?"
        self.db.execute(query, (repository, branch, path))

    # -- below ----------------------------------------------------------------------------------------

    def _insert(self, table: str, values: list[Any]) -> None:
        marks = ",".join("?" * (len(values) + 1))
        self.db.execute(f"insert or replace into {table} values ({marks})", [*values, seal_of(values)])  # noqa: S608

    def unsealed(self, row: sqlite3.Row) -> list[Any]:
        """A row's values.

        Raises:
            DigestMismatch: when they are not what was sealed.
        """
        values = [item.decode(errors="replace") if isinstance(item, bytes) else item for item in row[:-1]]
        try:
            seal = seal_of(values)
        except TypeError:
            seal = b""
        if seal != row[-1]:
            raise DigestMismatch("a row in the lake", bytes_of(row[-1]).hex(), seal.hex(), place=str(self.path))
        return [*values, row[-1]]


def read_node(book: Book, digest: str) -> bytes:
    """A stored node, hashed."""
    row = book.db.execute("select data from nodes where digest = ?", (digest,)).fetchone()
    return book._hashed("node", digest, row)


def bytes_of(value: object) -> bytes:
    """A value of a column as bytes, also where a flipped bit made text of it."""
    return value if isinstance(value, bytes) else str(value).encode(errors="surrogateescape")


def stored_from(id: str, body: dict[str, Any]) -> Stored:
    """A commit as it is stored."""
    commit = Commit(
        id=id,
        parents=tuple(body["parents"]),
        message=body["message"],
        author=body["author"],
        time=body["time"],
        metadata=body["metadata"],
    )
    return Stored(commit=commit, tree=body["tree"], generation=body["generation"])


def require_version(db: sqlite3.Connection, path: Path) -> None:
    """Refuse a lake that another version of Engine made in another form.

    Raises:
        Failed: saying what to do with it.
    """
    found = db.execute("pragma user_version").fetchone()[0]
    if found != VERSION:
        hint = "move its folder away and put the data in again"
        fact = f"the lake was made by another version of Engine (form {found}; this one reads {VERSION})"
        raise Failed(fact, place=str(path), hint=hint)
