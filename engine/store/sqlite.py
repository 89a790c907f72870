"""How Engine opens its SQLite files: durable, readable while somebody writes, and patient."""

from __future__ import annotations

import os
import shutil
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from engine.errors import EngineError, Failed, StorageFull, StorageUnwritable, writing
from engine.store.durable import made_once

BUSY_SECONDS = 30.0
ALMOST_NOTHING = 1 << 18
INHERITED: list[sqlite3.Connection] = []  # by a fork: to close one would take away the parent's locks


def connect(path: Path) -> sqlite3.Connection:
    """A connection to the file at ``path``; statements commit by themselves outside of transactions."""
    db = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
    db.row_factory = sqlite3.Row
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

    try:
        made_once(path, write)
    except sqlite3.DatabaseError as error:
        raise translate(error, path) from error


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


def connect_to_read(path: Path) -> sqlite3.Connection:
    """A connection to read from, also where nothing may be written."""
    return connect(path) if os.access(path.parent, os.W_OK) and is_writable(path) else read_only(path)


def is_writable(path: Path) -> bool:
    """Whether the disk that a file lies on takes writes (root may write where the disk may not)."""
    return not os.statvfs(path).f_flag & os.ST_RDONLY


def read_only(path: Path) -> sqlite3.Connection:
    """A connection to a file on a disk that takes no writes, and so to one that nobody changes."""
    db = sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True, isolation_level=None)
    db.row_factory = sqlite3.Row
    return db


class Connections:
    """Each thread's connection to the file at ``path``, kept because opening one costs more than most questions."""

    def __init__(self, path: Path, schema: str) -> None:
        self.path = path
        self.schema = schema
        self._kept = threading.local()

    def connection(self) -> sqlite3.Connection:
        """This thread's connection to a file that is there; it may only be read from where nothing may be written."""
        kept: tuple[int, sqlite3.Connection] | None = getattr(self._kept, "one", None)
        if kept is not None and kept[0] != os.getpid():
            INHERITED.append(kept[1])
            kept = None
        if kept is None or not is_writable(self.path):
            kept = (os.getpid(), connect_to_read(self.path))
            self._kept.one = kept
        return kept[1]

    @contextmanager
    def transaction(self, *, durable: bool = True) -> Iterator[sqlite3.Connection]:
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
                    yield db
            except sqlite3.DatabaseError as error:
                self.drop()
                raise translate(error, self.path) from error

    def drop(self) -> None:
        """Open a new one the next time."""
        self._kept.__dict__.clear()


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
                    yield db
        except sqlite3.DatabaseError as error:
            raise translate(error, path) from error


def translate(error: sqlite3.DatabaseError, path: Path) -> EngineError:
    """SQLite's complaint about its file, as one of ours."""
    message = str(error)
    if "full" in message or ("I/O" in message and shutil.disk_usage(path.parent).free < ALMOST_NOTHING):
        return StorageFull(path)
    if "readonly" in message or "unable to open" in message:
        return StorageUnwritable(path)
    return Failed(message, place=str(path), hint="try again; `engine doctor` looks at what is there")
