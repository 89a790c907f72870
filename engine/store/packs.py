"""Small objects in append-only files, and an index of what lies where.

::

    objects/packs/
      index.db        digest -> pack, offset, size, when it was last put; for an object with a file of its own its seal
      1f3a09bc.pack   the bytes of one object after the other, and nothing else

A pack has one writer at a time, who holds a lock on it. Bytes that no row of the index names (of a writer that was
killed) are never read. Whoever is about to name an object first writes or touches its row, so a collector that asks
the index when an object was last put never takes one that is about to be named.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import sqlite3
import time as clock
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from engine.digest import sha256
from engine.errors import DigestMismatch, NotFound, writing
from engine.store.sqlite import Connections, translate

SMALL = 1 << 16
LARGEST_PACK = 1 << 28
BATCH = 500
OWN_FILE = ""
LOST = "`engine verify` says what else is gone, and what it was; put it back from a backup"
SCHEMA = """
create table if not exists objects (
  digest blob primary key, pack text not null, offset integer not null, size integer not null,
  time integer not null, seal integer not null
) without rowid;
create table if not exists packs (
  name text primary key, length integer not null, synced integer not null
) without rowid;
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Location:
    """Where an object lies. ``pack`` is empty for a file of its own, whose time of change (in ns) is ``seal``."""

    digest: str
    pack: str
    offset: int
    size: int
    time: int
    seal: int = 0


class Packs:
    """The packs and the index in the folder ``root``. Several processes and threads may use them at once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.index = root / "index.db"
        self.connections = Connections(self.index, SCHEMA)

    # -- finding --------------------------------------------------------------------------------------

    def find(self, digest: str) -> Location | None:
        """Where an object lies, if the index knows it."""
        found = self._select("where digest = ?", (bytes.fromhex(digest),))
        return found[0] if found else None

    def find_all(self, digests: Iterable[str]) -> dict[str, Location]:
        """Where objects lie; those that the index does not know are left out."""
        found: dict[str, Location] = {}
        for some in batches(digests):
            marks = ",".join("?" * len(some))
            rows = self._select(f"where digest in ({marks})", [bytes.fromhex(digest) for digest in some])
            found.update((location.digest, location) for location in rows)
        return found

    def all(self, after: str = "") -> Iterator[Location]:
        """Everything in the index, by digest."""
        while rows := self._select("where digest > ? order by digest limit 1000", (bytes.fromhex(after),)):
            yield from rows
            after = rows[-1].digest

    def read(self, location: Location) -> bytes:
        """A packed object's bytes, hashed.

        Raises:
            DigestMismatch: when they were altered.
        """
        try:
            descriptor = os.open(self.path(location.pack), os.O_RDONLY)
        except FileNotFoundError:  # the pack was written anew, without what nobody needs
            again = self.find(location.digest)
            if again is None or again.pack in (location.pack, OWN_FILE):
                raise NotFound("object", location.digest, place=str(self.root), hint=LOST) from None
            return self.read(again)
        try:
            data = os.pread(descriptor, location.size, location.offset)
        finally:
            os.close(descriptor)
        found = sha256(data)
        if found != location.digest:
            raise DigestMismatch("object", location.digest, found, place=str(self.path(location.pack)))
        return data

    def path(self, pack: str) -> Path:
        """The file of a pack."""
        return self.root / f"{pack}.pack"

    # -- adding ---------------------------------------------------------------------------------------

    @contextmanager
    def adding(self, *, durable: bool = False) -> Iterator[Adding]:
        """A pack to add objects to; the index knows them when the block is left without an error.

        Args:
            durable: flush the bytes and the index to the disk; else :meth:`sync` does so later.

        Raises:
            StorageFull, StorageUnwritable: when the disk says so.
        """
        with writing(self.root):
            self.root.mkdir(parents=True, exist_ok=True)
            with self._locked() as (pack, stream):
                adding = Adding(pack, stream)
                yield adding
                stream.flush()
                if durable:
                    os.fsync(stream.fileno())
                if adding.rows:
                    self._index(adding, durable)

    def _index(self, adding: Adding, durable: bool) -> None:
        now = int(clock.time())
        length = adding.offset
        with self.connections.transaction(durable=durable) as db:
            db.executemany(
                "insert into objects values (?, ?, ?, ?, ?, 0) on conflict(digest) do update set time = excluded.time",
                [(digest, adding.pack, offset, size, now) for digest, offset, size in sorted(adding.rows)],
            )
            db.execute(
                "insert into packs values (?, ?, ?) on conflict(name) do update set"
                " length = excluded.length, synced = max(synced, excluded.synced)",
                (adding.pack, length, length if durable else 0),
            )

    @contextmanager
    def _locked(self) -> Iterator[tuple[str, BinaryIO]]:
        """A pack that nobody else writes to, and its file, at its end."""
        known = sorted(self.root.glob("*.pack"))
        while True:
            path = known.pop() if known else self.path(secrets.token_hex(4))
            with path.open("ab", buffering=1 << 20) as stream:
                try:
                    fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue  # somebody else writes to it, be it that they found it as soon as we had made it
                status = os.fstat(stream.fileno())
                if status.st_nlink and status.st_size < LARGEST_PACK:
                    yield path.stem, stream
                    return

    def register(self, digest: str, size: int) -> None:
        """Say that an object is about to have a file of its own, if the index does not know it."""
        with self.connections.transaction(durable=False) as db:
            db.execute(
                "insert into objects values (?, ?, 0, ?, ?, 0) on conflict(digest) do update set time = excluded.time",
                (bytes.fromhex(digest), OWN_FILE, size, int(clock.time())),
            )

    def seal(self, digest: str, seal: int) -> None:
        """Say when the file of an object was last changed, in ns."""
        with self.connections.transaction(durable=False) as db:
            db.execute("update objects set seal = ? where digest = ? and pack = ''", (seal, bytes.fromhex(digest)))

    def touch(self, digests: Iterable[str]) -> tuple[set[str], set[str]]:
        """Say that objects are about to be named; those that are packed, and those that have files of their own."""
        wanted, now = set(digests), int(clock.time())
        found: dict[bool, set[str]] = {True: set(), False: set()}
        if not wanted:
            return found[True], found[False]
        with self.connections.transaction(durable=False) as db:
            for some in batches(sorted(wanted)):
                marks = ",".join("?" * len(some))
                keys = [bytes.fromhex(digest) for digest in some]
                query = f"update objects set time = ? where digest in ({marks}) returning digest, pack"  # noqa: S608
                for digest, pack in db.execute(query, [now, *keys]).fetchall():
                    found[pack != OWN_FILE].add(digest.hex())
        return found[True], found[False]

    def sync(self) -> None:
        """Flush every pack with bytes that may not be on the disk yet, and then the index.

        Raises:
            DigestMismatch: when a pack is shorter than it was, as after a loss of power.
        """
        if not self.index.is_file():
            return
        with self.connections.transaction() as db:
            for name, length in db.execute("select name, length from packs where synced < length").fetchall():
                self._flush(self.path(name), length)
                db.execute("update packs set synced = ? where name = ? and synced < ?", (length, name, length))

    def _flush(self, path: Path, length: int) -> None:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            found = os.fstat(descriptor).st_size
            if found < length:
                raise DigestMismatch("a pack", f"of {length} bytes", f"{found} bytes", place=str(path))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    # -- removing -------------------------------------------------------------------------------------

    def forget(self, digests: Iterable[str], put_before: int, remove: Callable[[str], None]) -> list[Location]:
        """Take objects out of the index, but for those that were put at ``put_before`` or later; what was taken out.

        Args:
            remove: removes the file of an object that has its own, before anybody else may write the index.
        """
        gone: list[Location] = []
        with self.connections.transaction() as db:
            for some in batches(digests):
                marks = ",".join("?" * len(some))
                keys = [bytes.fromhex(digest) for digest in some]
                query = f"delete from objects where digest in ({marks}) and time < ? returning *"  # noqa: S608
                found = [location_from(row) for row in db.execute(query, [*keys, put_before]).fetchall()]
                for location in found:
                    if location.pack == OWN_FILE:
                        remove(location.digest)
                gone += found
        return gone

    def compact(self) -> None:
        """Write packs anew that are less than half full, and remove those that are empty."""
        for path in sorted(self.root.glob("*.pack")):
            with path.open("rb") as held, suppress(BlockingIOError):
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._compact(path)

    def _compact(self, path: Path) -> None:
        rows = self._select("where pack = ? order by offset", (path.stem,))
        if 2 * sum(row.size for row in rows) >= path.stat().st_size and path.stat().st_size:
            return
        moved: list[tuple[str, int, bytes]] = []
        with writing(self.root):
            name = secrets.token_hex(4)
            with self.path(name).open("xb") as stream:
                for row in rows:
                    moved.append((name, stream.tell(), bytes.fromhex(row.digest)))
                    stream.write(self.read(row))
                length = stream.tell()
                stream.flush()
                os.fsync(stream.fileno())
            with self.connections.transaction() as db:
                db.executemany("update objects set pack = ?, offset = ? where digest = ?", moved)
                db.execute("delete from packs where name = ?", (path.stem,))
                db.execute("insert into packs values (?, ?, ?)", (name, length, length))
            if not moved:
                self.path(name).unlink()
            path.unlink()

    # -- below ----------------------------------------------------------------------------------------

    def _select(self, where: str, values: Sequence[object]) -> list[Location]:
        if not self.index.is_file():
            return []
        try:
            query = f"select digest, pack, offset, size, time, seal from objects {where}"  # noqa: S608
            return [location_from(row) for row in self.connections.connection().execute(query, values)]
        except sqlite3.DatabaseError as error:
            self.connections.drop()
            raise translate(error, self.index) from error


class Adding:
    """A pack that is held for adding."""

    def __init__(self, pack: str, stream: BinaryIO) -> None:
        self.pack = pack
        self.stream = stream
        self.offset = os.fstat(stream.fileno()).st_size
        self.rows: list[tuple[bytes, int, int]] = []

    def add(self, digest: str, data: bytes) -> None:
        """Append an object."""
        self.stream.write(data)
        self.rows.append((bytes.fromhex(digest), self.offset, len(data)))
        self.offset += len(data)


def location_from(row: sqlite3.Row) -> Location:
    """A row of the index."""
    digest, pack, offset, size, time, seal = row
    return Location(digest=digest.hex(), pack=pack, offset=offset, size=size, time=time, seal=seal)


def batches(digests: Iterable[str], size: int = BATCH) -> Iterator[list[str]]:
    """Digests in lists that fit into one question."""
    items = list(digests)
    for start in range(0, len(items), size):
        yield items[start : start + size]
