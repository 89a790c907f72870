"""How Engine opens its SQLite files: durable, readable while somebody writes, and patient."""

from __future__ import annotations

import atexit
import binascii
import ctypes
import os
import shutil
import sqlite3
import threading
import weakref
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import ClassVar

from engine.digest import canonical_json, sha256_file
from engine.errors import EngineError, Failed, StorageFull, StorageUnwritable, writing
from engine.store.checked import write_checked
from engine.store.durable import made_once, remove_all

BUSY_SECONDS = 30.0
ALMOST_NOTHING = 1 << 18
MOST_KEPT = 8
COUNTS = 1 << 16
SUM = ".sum"


class Connection(sqlite3.Connection):
    """A connection to the file ``path``. No process may use one, or even close it, that it inherited by a fork."""

    open: ClassVar[weakref.WeakSet[Connection]] = weakref.WeakSet()
    path: Path
    inode: int

    def close(self) -> None:
        """Close it."""
        self.open.discard(self)
        super().close()


INHERITED: set[Path] = set()  # the files that were open in another thread when this process was forked
KEPT = threading.local()


def kept() -> dict[Path, Connection]:
    """This thread's kept connections."""
    found: dict[Path, Connection] | None = getattr(KEPT, "connections", None)
    if found is None:
        found = KEPT.connections = {}
    return found


def close_kept() -> None:
    """Close what this thread keeps open, but for what it is in the middle of."""
    for path, connection in list(kept().items()):
        if not connection.in_transaction:
            del kept()[path]
            connection.close()


def disown_after_fork() -> None:
    """In the new process: what other threads had open is never closed here, and never opened again."""
    for connection in list(Connection.open):
        INHERITED.add(connection.path)
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))


atexit.register(close_kept)  # the last to close a file takes its write-ahead log away
# SQLite's locks do not survive a fork, though it believes that they do.
os.register_at_fork(before=close_kept, after_in_child=disown_after_fork)


def opened(path: Path, target: str, *, uri: bool = False) -> Connection:
    """A connection of our kind."""
    if path in INHERITED:
        fact = "another thread was using it when this process was forked"
        raise Failed(fact, place=str(path), hint='start processes with "spawn" or "forkserver"')
    db = sqlite3.connect(target, timeout=BUSY_SECONDS, isolation_level=None, uri=uri, factory=Connection)
    db.path, db.inode = path, path.stat().st_ino
    Connection.open.add(db)
    db.row_factory = sqlite3.Row
    return db


def connect(path: Path) -> Connection:
    """A connection to the file at ``path``; statements commit by themselves outside of transactions."""
    db = opened(path, str(path))
    db.execute("pragma journal_mode = wal")
    db.execute("pragma synchronous = full")
    return db


def make(path: Path, schema: str) -> None:
    """See to it that the file at ``path`` is there, with the tables of ``schema``. Nobody ever sees it half made.

    One process alone makes it: SQLite's switch to a write-ahead log does not wait for others as it does in all else.

    Raises:
        StorageFull, StorageUnwritable, Failed: when it cannot be written; nothing is left behind.
    """

    def write(making: Path) -> None:
        with closing(connect(making)) as db:
            db.executescript(f"begin;{schema};commit")
        remove_all(path.with_name(f".{path.name}{SUM}."))  # of one that was killed in here
        keep_sum(path, 0, sha256_file(making))  # it has one from its first moment on

    try:
        made_once(path, write)
    except sqlite3.DatabaseError as error:
        raise translate(error, path) from error


def sum_path(path: Path) -> Path:
    """Where the sum of the database at ``path`` lies."""
    return path.with_name(path.name + SUM)


def keep_sum(path: Path, count: int, digest: str) -> None:
    """Write down the SHA-256 of the database at ``path`` at a count of transactions.

    Raises:
        StorageFull, StorageUnwritable: when the disk says so.
    """
    write_checked(sum_path(path), canonical_json({"count": count, "sha256": digest}))


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection to read from, also where nothing may be written.

    Raises:
        StorageFull, StorageUnwritable, Failed: when the file cannot be read.
    """
    try:
        with closing(connect_to_read(path)) as db:
            yield db
    except sqlite3.DatabaseError as error:
        raise translate(error, path) from error


def connect_to_read(path: Path) -> Connection:
    """A connection to read from, also where nothing may be written."""
    return connect(path) if os.access(path.parent, os.W_OK) and is_writable(path) else read_only(path)


def is_writable(path: Path) -> bool:
    """Whether the disk that a file lies on takes writes (root may write where the disk may not)."""
    return not os.statvfs(path).f_flag & os.ST_RDONLY


def read_only(path: Path) -> Connection:
    """A connection to a file on a disk that takes no writes.

    Nobody changes such a file, so it needs no locks; but what a process that died, or one that sees the disk
    elsewhere, left in the write-ahead log is part of it, and is read with locks.
    """
    log = path.with_name(f"{path.name}-wal")
    immutable = "" if log.is_file() and log.stat().st_size else "&immutable=1"
    return opened(path, f"{path.as_uri()}?mode=ro{immutable}", uri=True)


class Connections:
    """Each thread's connection to the file at ``path``, kept because opening one costs more than most questions."""

    def __init__(self, path: Path, schema: str) -> None:
        self.path = path
        self.schema = schema

    def connection(self) -> Connection:
        """This thread's connection to a file that is there; it may only be read from where nothing may be written."""
        found = kept().get(self.path)
        if found is None or found.inode != self.path.stat().st_ino or not is_writable(self.path):
            found = kept()[self.path] = connect_to_read(self.path)
            for path in list(kept())[:-MOST_KEPT]:
                kept().pop(path).close()
        return found

    @contextmanager
    def transaction(self, *, durable: bool = True) -> Iterator[Connection]:
        """A write: all of it or nothing. The file is made when it is not there.

        Args:
            durable: be on the disk afterwards; else a loss of power, but no end of the process, may take it back.

        Raises:
            StorageFull, StorageUnwritable, Failed: when the file cannot be written.
        """
        make(self.path, self.schema)
        with writing(self.path):
            try:
                db = self.connection()
                db.execute(f"pragma synchronous = {'full' if durable else 'normal'}")
                db.execute("begin immediate")
                with db:
                    advance(db)
                    yield db
            except sqlite3.DatabaseError as error:
                self.drop()
                raise translate(error, self.path) from error

    def drop(self) -> None:
        """Open a new one the next time."""
        kept().pop(self.path, None)


@contextmanager
def transaction(path: Path, schema: str) -> Iterator[sqlite3.Connection]:
    """A write to the file at ``path``, made with ``schema`` when it is not there: all of it or nothing.

    Raises:
        StorageFull, StorageUnwritable, Failed: when the file cannot be written.
    """
    make(path, schema)
    with writing(path):
        try:
            with closing(connect(path)) as db:
                db.executescript(f"begin immediate;{schema}")
                with db:
                    advance(db)
                    yield db
        except sqlite3.DatabaseError as error:
            raise translate(error, path) from error


def advance(db: sqlite3.Connection) -> None:
    """Count a transaction, in the header of the file: the low half is the count, the high half a check of it."""
    count = ((count_of(db) or 0) + 1) % COUNTS
    db.execute(f"pragma application_id = {with_check(count)}")


def count_of(db: sqlite3.Connection) -> int | None:
    """How many transactions the file has seen, modulo 65,536; ``None`` when that was altered."""
    found = int(db.execute("pragma application_id").fetchone()[0])
    return found % COUNTS if found == 0 or found == with_check(found % COUNTS) else None


def with_check(count: int) -> int:
    """A count and its CRC, as the signed number of 32 bits that SQLite has room for."""
    check = binascii.crc_hqx(count.to_bytes(2, "big"), 0x5EA1)
    return ((check ^ 0x8000) - 0x8000) * COUNTS + count


def translate(error: sqlite3.DatabaseError, path: Path) -> EngineError:
    """SQLite's complaint about its file, as one of ours."""
    message = str(error)
    if "full" in message or ("I/O" in message and shutil.disk_usage(path.parent).free < ALMOST_NOTHING):
        return StorageFull(path)
    if "readonly" in message or "unable to open" in message:
        return StorageUnwritable(path)
    return Failed(message, place=str(path), hint="try again; `engine doctor` looks at what is there")
