"""The embedded lake. Several processes may use one at once; a branch moves by compare-and-swap in a transaction.

::

    lake/lake.db   repositories, branches, tags, commits, staged changes, trees and ranges
    objects/       the bytes, by SHA-256, shared with everything else in the Engine home
"""

from __future__ import annotations

import builtins
import fcntl
import json
import os
import re
import sqlite3
import time as clock
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import BinaryIO

from engine.digest import canonical_json, digest_of, sha256
from engine.errors import DigestMismatch, NotFound, UsageError, writing
from engine.lake.embedded.ranges import Range, apply, pack_tree, unpack_range, unpack_tree, within
from engine.lake.protocol import (
    DEFAULT_BRANCH,
    BranchMoved,
    Commit,
    Entry,
    NothingToCommit,
    ObjectNotFound,
    RefNotFound,
    RefTaken,
    Repository,
    RepositoryNotFound,
)
from engine.lake.uri import REPOSITORY
from engine.store.objects import ObjectStore, sync_folder
from engine.store.sqlite import reading, transaction

SCHEMA = """
create table if not exists repositories (name text primary key, default_branch text not null);
create table if not exists branches (
  repository text not null, name text not null, head text not null, primary key (repository, name)
);
create table if not exists tags (
  repository text not null, name text not null, head text not null, primary key (repository, name)
);
create table if not exists commits (
  repository text not null, id text not null, tree text not null, body text not null, primary key (repository, id)
);
create table if not exists staged (
  repository text not null, branch text not null, path text not null, digest text, size integer,
  primary key (repository, branch, path)
);
create table if not exists blobs (digest text primary key, data blob not null);
"""
BRANCH = re.compile(r"\w[-\w]*", re.ASCII)
FULL_ID = re.compile(r"[0-9a-f]{64}")
SHORT_ID = re.compile(r"[0-9a-f]{4,63}")
STEP = re.compile(r"([~^])([0-9]*)|(@)")
REF = re.compile(r"([^~^@$]+)((?:[~^][0-9]{0,9}|@)*)")
MAX_PATH = 1024
SAMPLE = "flights"


class EmbeddedLake:
    """A lake in the folder ``root``. Reading one that is not there yet finds it empty and creates nothing."""

    def __init__(self, root: Path, objects: ObjectStore) -> None:
        self.path = root / "lake.db"
        self.objects = objects

    # -- repositories and refs ------------------------------------------------------------------------

    def repositories(self) -> list[Repository]:
        """All repositories by name."""
        with self._read() as db:
            rows = db.execute("select * from repositories order by name").fetchall()
        return [Repository(name=row["name"], default_branch=row["default_branch"]) for row in rows]

    def create_repository(self, name: str, default_branch: str = DEFAULT_BRANCH) -> Repository:
        """A new repository with an empty first commit."""
        if not REPOSITORY.fullmatch(name):
            hint = "3 to 63 small letters, digits and hyphens, a letter or digit first"
            raise UsageError(f'"{name}" is not a repository name', hint=hint)
        require_branch_name(default_branch)
        with self._write() as db:
            if db.execute("select 1 from repositories where name = ?", (name,)).fetchone():
                raise RefTaken(f'the repository "{name}" is there already', hint="choose another name")
            db.execute("insert into repositories values (?, ?)", (name, default_branch))
            first = Commit(id="", parents=(), message="Repository created", author="", time=0)
            head = self._insert_commit(db, name, first, [])
            db.execute("insert into branches values (?, ?, ?)", (name, default_branch, head.id))
        return Repository(name=name, default_branch=default_branch)

    def resolve(self, repository: str, ref: str) -> str:
        """The full id of the commit that ``ref`` means now."""
        with self._read() as db:
            return self._resolve(db, repository, ref)

    def branches(self, repository: str) -> dict[str, str]:
        """Branch names and their commits."""
        with self._read() as db:
            return self._heads(db, repository, "branches")

    def create_branch(self, repository: str, name: str, source: str) -> str:
        """A new branch at ``source``; its commit."""
        require_branch_name(name)
        return self._create_ref(repository, "branches", name, source)

    def tags(self, repository: str) -> dict[str, str]:
        """Tag names and their commits."""
        with self._read() as db:
            return self._heads(db, repository, "tags")

    def create_tag(self, repository: str, name: str, ref: str) -> str:
        """A new tag at ``ref``; its commit."""
        require_branch_name(name)
        return self._create_ref(repository, "tags", name, ref)

    # -- reading --------------------------------------------------------------------------------------

    def list(self, repository: str, ref: str, prefix: str = "") -> Iterator[Entry]:
        """The objects whose paths begin with ``prefix``, by path."""
        with self._read() as db:
            tree = self._tree(db, repository, self._resolve(db, repository, ref))
            staged = self._staged(db, repository, ref)
            found = {
                entry.path: entry
                for item in within(tree, prefix)
                for entry in self._entries(db, item.digest)
                if entry.path.startswith(prefix)
            }
        for path, entry in staged.items():
            if path.startswith(prefix):
                if entry is None:
                    found.pop(path, None)
                else:
                    found[path] = entry
        yield from (found[path] for path in sorted(found))

    def stat(self, repository: str, ref: str, path: str) -> Entry:
        """One object."""
        with self._read() as db:
            commit = self._resolve(db, repository, ref)
            staged = self._staged(db, repository, ref)
            entry = staged[path] if path in staged else self._committed(db, repository, commit, path)
        if entry is None:
            known = [item.path for item in self.list(repository, ref)]
            raise ObjectNotFound(f"object in lakefs://{repository}/{ref}/:", path, known)
        return entry

    def open(self, repository: str, ref: str, path: str) -> BinaryIO:
        """An object's bytes as a stream."""
        return self.local_path(self.stat(repository, ref, path)).open("rb")

    def local_path(self, entry: Entry) -> Path:
        """The object's own file; nothing is copied."""
        return self.objects.require(entry.digest)

    def log(self, repository: str, ref: str) -> Iterator[Commit]:
        """A commit and its first parents, the newest first."""
        with self._read() as db:
            found = []
            current: str | None = self._resolve(db, repository, ref)
            while current is not None:
                commit = self._commit(db, repository, current)
                found.append(commit)
                current = commit.parents[0] if commit.parents else None
        yield from found

    # -- writing --------------------------------------------------------------------------------------

    def put(self, repository: str, branch: str, path: str, data: BinaryIO | Path) -> Entry:
        """Stage an object. Its bytes are on the disk before its name is."""
        require_path(path)
        self._require_branch(repository, branch)
        digest = keep_file(self.objects, data) if isinstance(data, Path) else self.objects.put_stream(data)
        entry = Entry(path=path, digest=digest, size=self.objects.size(digest))
        with self._write() as db:
            row = (repository, branch, path, digest, entry.size)
            db.execute("insert or replace into staged values (?, ?, ?, ?, ?)", row)
        return entry

    def delete(self, repository: str, branch: str, path: str) -> None:
        """Stage the removal of an object."""
        self._require_branch(repository, branch)
        self.stat(repository, branch, path)
        with self._write() as db:
            db.execute("insert or replace into staged values (?, ?, ?, null, null)", (repository, branch, path))

    def commit(
        self,
        repository: str,
        branch: str,
        message: str,
        *,
        author: str = "",
        metadata: Mapping[str, str] | None = None,
        time: int | None = None,
        parent: str | None = None,
    ) -> Commit:
        """Commit what is staged on a branch."""
        self._require_branch(repository, branch)
        require_text("commit", [message, author, *(metadata or {}), *(metadata or {}).values()])
        with self._write() as db:
            head = self._heads(db, repository, "branches")[branch]
            if parent not in (None, head):
                raise BranchMoved(f"{repository}/{branch} is at {head}, not {parent}", hint="read it and try again")
            before = self._tree(db, repository, head)
            changes = self._staged(db, repository, branch)
            after, written = apply(before, changes, lambda digest: self._entries(db, digest))
            if after == before:
                raise NothingToCommit(
                    f"nothing is staged on {repository}/{branch}", hint="put or delete an object first"
                )
            db.executemany("insert or ignore into blobs values (?, ?)", [(new.digest, new.data) for new in written])
            wanted = Commit(
                id="",
                parents=(head,),
                message=message,
                author=author,
                time=int(clock.time()) if time is None else time,
                metadata=dict(metadata or {}),
            )
            made = self._insert_commit(db, repository, wanted, after)
            db.execute("update branches set head = ? where repository = ? and name = ?", (made.id, repository, branch))
            db.execute("delete from staged where repository = ? and branch = ?", (repository, branch))
        return made

    # -- below ----------------------------------------------------------------------------------------

    def _insert_commit(
        self, db: sqlite3.Connection, repository: str, wanted: Commit, tree: builtins.list[Range]
    ) -> Commit:
        packed = pack_tree(tree)
        body = {
            "author": wanted.author,
            "message": wanted.message,
            "metadata": dict(wanted.metadata),
            "parents": builtins.list(wanted.parents),
            "time": wanted.time,
            "tree": packed.digest,
        }
        made = commit_from(digest_of(body), body)
        db.execute("insert or ignore into blobs values (?, ?)", (packed.digest, packed.data))
        row = (repository, made.id, packed.digest, canonical_json(body).decode())
        db.execute("insert or ignore into commits values (?, ?, ?, ?)", row)
        return made

    def _create_ref(self, repository: str, table: str, name: str, source: str) -> str:
        with self._write() as db:
            head = self._resolve(db, repository, source)
            if name in self._heads(db, repository, table):
                what = "branch" if table == "branches" else "tag"
                raise RefTaken(f'the {what} "{name}" is there already', hint="choose another name")
            db.execute(f"insert into {table} values (?, ?, ?)", (repository, name, head))  # noqa: S608
        return head

    def _heads(self, db: sqlite3.Connection, repository: str, table: str) -> dict[str, str]:
        self._require_repository(db, repository)
        rows = db.execute(f"select name, head from {table} where repository = ? order by name", (repository,))  # noqa: S608
        return {row["name"]: row["head"] for row in rows}

    def _require_repository(self, db: sqlite3.Connection, repository: str) -> None:
        known = [row["name"] for row in db.execute("select name from repositories")]
        if repository not in known:
            hint = "" if known and repository != SAMPLE else "`engine quickstart` creates the sample"
            raise RepositoryNotFound("repository", repository, known, hint=hint)

    def _require_branch(self, repository: str, branch: str) -> None:
        known = self.branches(repository)
        if branch not in known:
            raise RefNotFound(f"branch in {repository}:", branch, known)

    def _resolve(self, db: sqlite3.Connection, repository: str, ref: str) -> str:
        found = REF.fullmatch(ref)
        if found is None:
            raise UsageError(f'"{ref}" is not a ref', hint="write a branch, tag or commit, and ~N, ^N or @ after it")
        current = self._base(db, repository, found[1])
        for step in STEP.finditer(found[2]):
            if step[1]:
                current = self._ancestor(db, repository, ref, current, step[1], int(step[2] or 1))
        return current

    def _base(self, db: sqlite3.Connection, repository: str, name: str) -> str:
        branches = self._heads(db, repository, "branches")
        tags = self._heads(db, repository, "tags")
        if FULL_ID.fullmatch(name) and self._has_commit(db, repository, name):
            return name
        if name in branches or name in tags:
            return branches.get(name) or tags[name]
        if SHORT_ID.fullmatch(name):
            rows = db.execute("select id from commits where repository = ? and id glob ?", (repository, f"{name}*"))
            ids = [str(row["id"]) for row in rows]
            if len(ids) > 1:
                raise UsageError(f'"{name}" begins {len(ids)} commits of {repository}', hint="write more of it")
            if ids:
                return ids[0]
        raise RefNotFound(f"branch, tag or commit in {repository}:", name, [*branches, *tags])

    def _ancestor(self, db: sqlite3.Connection, repository: str, ref: str, start: str, kind: str, count: int) -> str:
        current = start
        for _ in range(count if kind == "~" else min(count, 1)):
            parents = self._commit(db, repository, current).parents
            index = count - 1 if kind == "^" else 0
            if index >= len(parents):
                raise RefNotFound(f"commit in {repository}:", ref, hint="the history does not go back that far")
            current = parents[index]
        return current

    def _has_commit(self, db: sqlite3.Connection, repository: str, id: str) -> bool:
        row = db.execute("select 1 from commits where repository = ? and id = ?", (repository, id)).fetchone()
        return row is not None

    def _commit(self, db: sqlite3.Connection, repository: str, id: str) -> Commit:
        return commit_from(id, self._body(db, repository, id))

    def _tree(self, db: sqlite3.Connection, repository: str, commit: str) -> builtins.list[Range]:
        return unpack_tree(self._blob(db, str(self._body(db, repository, commit)["tree"])))

    def _body(self, db: sqlite3.Connection, repository: str, id: str) -> dict[str, object]:
        query = "select cast(body as blob) as data from commits where repository = ? and id = ?"
        body: dict[str, object] = json.loads(
            self._checked("commit", id, db.execute(query, (repository, id)).fetchone())
        )
        return body

    def _entries(self, db: sqlite3.Connection, digest: str) -> builtins.list[Entry]:
        return unpack_range(self._blob(db, digest))

    def _blob(self, db: sqlite3.Connection, digest: str) -> bytes:
        query = "select cast(data as blob) as data from blobs where digest = ?"
        return self._checked("range", digest, db.execute(query, (digest,)).fetchone())

    def _checked(self, what: str, digest: str, row: sqlite3.Row | None) -> bytes:
        data: bytes | None = row["data"] if row else None
        found = "nothing" if data is None else sha256(data)
        if data is None or found != digest:
            raise DigestMismatch(f"a {what} in the lake", digest, found, place=str(self.path))
        return data

    def _committed(self, db: sqlite3.Connection, repository: str, commit: str, path: str) -> Entry | None:
        for item in self._tree(db, repository, commit):
            if item.first <= path <= item.last:
                return next((entry for entry in self._entries(db, item.digest) if entry.path == path), None)
        return None

    def _staged(self, db: sqlite3.Connection, repository: str, ref: str) -> dict[str, Entry | None]:
        """The staged changes that reading ``ref`` shows: those of a plain branch."""
        rows = db.execute(
            "select path, digest, size from staged where repository = ? and branch = ?", (repository, ref)
        )
        return {
            row["path"]: Entry(path=row["path"], digest=row["digest"], size=row["size"]) if row["digest"] else None
            for row in rows
        }

    @contextmanager
    def _read(self) -> Iterator[sqlite3.Connection]:
        with reading(self.path) if self.path.is_file() else closing(empty()) as db:
            db.execute("begin")
            yield db

    def _write(self) -> AbstractContextManager[sqlite3.Connection]:
        if not self.path.is_file():
            make(self.path)
        return transaction(self.path, SCHEMA)


def empty() -> sqlite3.Connection:
    """What a lake that is not there yet reads like."""
    db = sqlite3.connect(":memory:", isolation_level=None)
    db.row_factory = sqlite3.Row
    db.executescript(SCHEMA)
    return db


def make(path: Path) -> None:
    """Make the file of an empty lake: nobody ever sees it half made.

    SQLite's switch to a write-ahead log does not wait for others as all else does, so only one process may do it.
    """
    making = path.with_name(f".{path.name}.making")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with alone_in(path.parent):
            if path.is_file():
                return
            for left in path.parent.glob(f"{making.name}*"):  # by a process that was killed here
                left.unlink()
            with transaction(making, SCHEMA):
                pass
            os.rename(making, path)
            sync_folder(path.parent)


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Wait until no other process is in here with ``folder``; the system lets go when this one dies."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def commit_from(id: str, body: Mapping[str, object]) -> Commit:
    """A commit as it is stored."""
    parents, metadata = body["parents"], body["metadata"]
    assert isinstance(parents, list)
    assert isinstance(metadata, dict)
    return Commit(
        id=id,
        parents=tuple(parents),
        message=str(body["message"]),
        author=str(body["author"]),
        time=int(str(body["time"])),
        metadata=metadata,
    )


def require_branch_name(name: str) -> None:
    """Refuse what is no branch or tag name.

    Raises:
        UsageError: saying what one is.
    """
    if not BRANCH.fullmatch(name):
        raise UsageError(f'"{name}" is not a branch or tag name', hint="letters, digits, _ and -, no - first")
    if FULL_ID.fullmatch(name):
        raise UsageError(f'"{name}" is a commit\'s name, not a branch or tag name', hint="choose a shorter one")


def require_path(path: str) -> None:
    """Refuse what is no object path.

    Raises:
        UsageError: saying why.
    """
    if not path:
        raise UsageError("an object needs a path", hint="write lakefs://REPOSITORY/BRANCH/PATH")
    require_text("path", [path])
    if len(path.encode()) > MAX_PATH:
        raise UsageError(f"the path is longer than {MAX_PATH} bytes", place=path[:60] + "...", hint="shorten it")


def require_text(what: str, texts: Iterable[str]) -> None:
    """Refuse what UTF-8 cannot hold: half of a surrogate pair, as in a file name that is not UTF-8.

    Raises:
        UsageError: naming it.
    """
    for text in texts:
        if text.encode(errors="replace").decode() != text:
            raise UsageError(f"{text!a} in a {what} is not Unicode text", hint="write it in UTF-8")


def keep_file(objects: ObjectStore, path: Path) -> str:
    """Keep a copy of a file; its digest.

    Raises:
        NotFound, UsageError: when it is not there or cannot be read.
    """
    try:
        stream = path.open("rb")
    except FileNotFoundError as error:
        raise NotFound("file", str(path), hint="name a file that is there") from error
    except OSError as error:
        raise UsageError(
            f"cannot be read: {error.strerror}", place=str(path), hint="name a file that you may read"
        ) from error
    with stream:
        return objects.put_stream(stream)
