"""Removing what nothing leads to any more, and checking that all the rest is as it was stored."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson

from engine.digest import sha256
from engine.errors import DigestMismatch, EngineError
from engine.lake.embedded import tree
from engine.lake.embedded.book import Book, bytes_of, stored_from
from engine.lake.embedded.tree import Node
from engine.lake.protocol import Damage, Progress, Swept
from engine.store.objects import ObjectStore
from engine.store.packs import OWN_FILE, Location

MARKS = """
create temp table if not exists marked_commits (repository text, id text, primary key (repository, id)) without rowid;
create temp table if not exists marked_nodes (digest text primary key) without rowid;
create temp table if not exists marked_objects (digest text primary key) without rowid;
delete from marked_commits; delete from marked_nodes; delete from marked_objects;
"""


def sweep(book: Book, objects: ObjectStore, pins: set[str], put_before: int) -> Swept:
    """Mark what refs, staged changes and pins lead to, and remove the rest; in a transaction of the lake."""
    db = book.db
    for statement in MARKS.strip().split(";"):
        db.execute(statement)
    mark(book, pins, put_before)
    lost = db.execute(
        "select repository, id from commits where (repository, id) not in (select repository, id from marked_commits)"
    ).fetchall()
    db.executemany("delete from commits where repository = ? and id = ?", lost)
    db.execute("delete from nodes where digest not in (select digest from marked_nodes)")
    marked = "select 1 from marked_objects where digest = ?"
    unused = [
        location.digest
        for location in objects.packs.all()
        if location.time < put_before
        and location.digest not in pins
        and db.execute(marked, (location.digest,)).fetchone() is None
    ]
    gone = objects.packs.forget(unused, put_before, objects.remove)
    objects.packs.compact()
    return Swept(commits=len(lost), objects=len(gone), size=sum(location.size for location in gone))


def mark(book: Book, pins: set[str], put_before: int) -> None:
    """Write down every commit, node and object that something leads to, or that is about to be named."""
    db = book.db
    waiting: list[tuple[str, str]] = [
        (row[0], row[3]) for row in map(book.unsealed, db.execute("select * from refs").fetchall())
    ]
    commits = db.execute("select repository, id, added from commits")
    waiting += [(name, id) for name, id, added in commits if id in pins or added >= put_before]
    nodes = book.nodes()
    while waiting:
        repository, id = waiting.pop()
        if db.execute("insert or ignore into marked_commits values (?, ?)", (repository, id)).rowcount:
            stored = book.commit(repository, id)
            waiting += [(repository, parent) for parent in stored.commit.parents]
            mark_tree(db, stored.tree, nodes)
    for row in map(book.unsealed, db.execute("select * from staged").fetchall()):
        staged = orjson.loads(row[3])
        if staged is not None:
            db.execute("insert or ignore into marked_objects values (?)", (staged[tree.DIGEST],))


def mark_tree(db: sqlite3.Connection, digest: str, nodes: tree.Nodes) -> None:
    """Write down a tree's nodes and objects, but for what was written down before."""
    if not db.execute("insert or ignore into marked_nodes values (?)", (digest,)).rowcount:
        return
    node = nodes.load(digest)
    if node.level:
        for row in node.rows:
            mark_tree(db, row[tree.NODE], nodes)
    else:
        objects = [(row[tree.DIGEST],) for row in node.rows]
        db.executemany("insert or ignore into marked_objects values (?)", objects)


# -- checking -----------------------------------------------------------------------------------------


def check(
    db: sqlite3.Connection, path: Path, objects: ObjectStore, progress: Progress | None, *, hashing: bool = True
) -> Iterator[Damage]:
    """Everything in the lake that is not as it was stored; the objects' bytes only with ``hashing``."""
    book = Book(db, path)
    index = objects.packs.connections
    yield from told(path, lambda: file_damage(db, path))
    yield from told(path, lambda: row_damage(book))
    yield from told(path, lambda: commit_damage(book))
    if index.path.is_file():
        yield from told(index.path, lambda: file_damage(index.connection(), index.path))
    yield from told(path, lambda: node_damage(book, objects))
    if hashing:
        yield from told(index.path, lambda: object_damage(objects, progress))


def told(path: Path, looks: Callable[[], Iterator[Damage]]) -> Iterator[Damage]:
    """Damage, and that one cannot even look."""
    try:
        yield from looks()
    except (sqlite3.DatabaseError, ValueError) as error:
        yield Damage(what="database", name=str(path), fact=str(error))
    except EngineError as error:
        yield Damage(what="database", name=error.place or str(path), fact=error.fact)


def file_damage(db: sqlite3.Connection, path: Path) -> Iterator[Damage]:
    """What SQLite says of its own file."""
    for (answer,) in db.execute("pragma integrity_check").fetchall():
        if answer != "ok":
            yield Damage(what="database", name=str(path), fact=answer)


def row_damage(book: Book) -> Iterator[Damage]:
    """Rows that are not what was sealed, and refs that lead nowhere."""
    known = {row[0] for row in book.db.execute("select name from repositories")}
    for table in ("repositories", "refs", "staged"):
        for row in book.db.execute(f"select * from {table}"):  # noqa: S608
            name = "/".join(str(value) for value in row[: 1 if table == "repositories" else 3])
            try:
                values = book.unsealed(row)
            except EngineError as error:
                yield Damage(what=f"row of {table}", name=name, fact=error.fact)
                continue
            if values[0] not in known:
                yield Damage(what=f"row of {table}", name=name, fact="its repository is gone")
            if table == "refs" and not book.has_commit(values[0], values[3]):
                yield Damage(what=values[1], name=name, fact=f"its commit {values[3]} is gone")


def commit_damage(book: Book) -> Iterator[Damage]:
    """Commits that are not what they are named after, or whose parents or tree are gone."""
    for repository, id, body in book.db.execute("select repository, id, body from commits"):
        if sha256(bytes_of(body)) != id:
            yield Damage(what="commit", name=f"{repository}/{id}", fact="it is not what it is named after")
            continue
        stored = stored_from(id, orjson.loads(body))
        for parent in stored.commit.parents:
            if not book.has_commit(repository, parent):
                yield Damage(what="commit", name=f"{repository}/{id}", fact=f"its parent {parent} is gone")
        if not has_node(book, stored.tree):
            yield Damage(what="commit", name=f"{repository}/{id}", fact=f"its tree {stored.tree} is gone")


def node_damage(book: Book, objects: ObjectStore) -> Iterator[Damage]:
    """Nodes that are not what they are named after, or that name what is gone; staged changes of what is gone."""
    for digest, data in book.db.execute("select digest, data from nodes"):
        if sha256(bytes_of(data)) != digest:
            yield Damage(what="node", name=digest, fact="it is not what it is named after")
            continue
        level, rows = orjson.loads(data)
        yield from missing_below(book, Node(level=level, rows=rows), objects, f"node {digest}")
    for row in book.db.execute("select * from staged"):
        try:
            staged = orjson.loads(book.unsealed(row)[3])
        except DigestMismatch:
            continue  # said before
        if staged is not None:
            place = f"{row[0]}/{row[1]}/{row[2]}"
            yield from missing_below(book, Node(level=0, rows=[staged]), objects, f"staged {place}")


def missing_below(book: Book, node: Node, objects: ObjectStore, name: str) -> Iterator[Damage]:
    """What a node names that is gone, or of another size."""
    if node.level:
        for row in node.rows:
            if not has_node(book, row[tree.NODE]):
                yield Damage(what="node", name=row[tree.NODE], fact=f"it is gone, and {name} names it")
        return
    known = objects.packs.find_all(row[tree.DIGEST] for row in node.rows)
    for row in node.rows:
        found = known.get(row[tree.DIGEST])
        if (found is None or found.pack == OWN_FILE) and not objects.path(row[tree.DIGEST]).is_file():
            yield Damage(what="object", name=row[tree.DIGEST], fact=f"it is gone ({row[tree.PATH]} in {name})")
        elif found is not None and found.size != row[tree.SIZE]:
            fact = f"it has {found.size} bytes instead of {row[tree.SIZE]} ({row[tree.PATH]} in {name})"
            yield Damage(what="object", name=row[tree.DIGEST], fact=fact)


def has_node(book: Book, digest: Any) -> bool:
    """Whether a node is there."""
    return book.db.execute("select 1 from nodes where digest = ?", (digest,)).fetchone() is not None


def object_damage(objects: ObjectStore, progress: Progress | None) -> Iterator[Damage]:
    """Objects of the lake whose bytes are not what they are named after."""
    for location in objects.packs.all():
        fact = object_fact(objects, location)
        if fact:
            yield Damage(what="object", name=location.digest, fact=fact)
        if progress:
            progress(location.size)


def object_fact(objects: ObjectStore, location: Location) -> str:
    """What is wrong with an object, if anything. One that was never placed, as its writer was killed, is not there."""
    if location.pack == OWN_FILE and not objects.path(location.digest).is_file():
        return ""
    try:
        if location.pack != OWN_FILE:
            objects.packs.read(location)
        else:
            objects.check(location.digest)
    except EngineError as error:
        return error.fact
    except OSError as error:
        return error.strerror or str(error)
    return ""
