"""What a SQLite file is, byte for byte, at a time when nobody writes: bytes that hold no row are watched as well.

Each transaction counts (:func:`engine.store.sqlite.advance`); a sum names the count at which it was taken. While the
count is the same, so are the bytes. A file that was written to since has its rows checked, by those who know them.

The bytes are asked from SQLite. To open and close the file by oneself would let go of every lock that this process has
on it (POSIX says so: https://www.sqlite.org/howtocorrupt.html, 2.2), and whoever else closes it then takes its
write-ahead log away, with what this process commits later.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from engine.digest import sha256
from engine.errors import EngineError
from engine.store.checked import read_checked
from engine.store.sqlite import connect, count_of, keep_sum, reading, sum_path


def note_sum(path: Path) -> bool:
    """Write down what the database at ``path`` is now; tell whether that could be done.

    Nothing is done while others write to it, where nothing may be written, and when the sum is there already.
    """
    if not path.is_file():
        return False
    try:
        with reading(path) as db:
            count = count_of(db)
        if count is None:
            return False
        if noted(path) is not None and noted_count(path) == count:
            return True
        with held_still(path) as db:
            now = None if has_log(path) else count_of(db)
            if now is None:
                return False
            keep_sum(path, now, sha256(db.serialize()))
    except (EngineError, sqlite3.DatabaseError, OSError):
        return False  # a sum is a second look: what could not be summed has its rows checked all the same
    return True


@contextmanager
def held_still(path: Path) -> Iterator[sqlite3.Connection]:
    """Keep writers out of the database at ``path``, all of which is in its one file if nobody was reading it."""
    with closing(connect(path)) as db:
        db.execute("pragma busy_timeout = 200")
        db.execute("pragma wal_checkpoint(truncate)")
        db.execute("begin immediate")
        try:
            yield db
        finally:
            db.execute("rollback")


def has_log(path: Path) -> bool:
    """Whether anything stands in the write-ahead log of the database at ``path``."""
    log = path.with_name(f"{path.name}-wal")
    return log.is_file() and log.stat().st_size > 0


def noted(path: Path) -> dict[str, object] | None:
    """The sum of a database, if there is a whole one."""
    data = read_checked(sum_path(path))
    return None if data is None else dict(json.loads(data))


def noted_count(path: Path) -> int:
    """The count at which the sum of a database was taken; -1 without one."""
    found = (noted(path) or {}).get("count", -1)
    return found if isinstance(found, int) else -1


def complaint(path: Path) -> str | None:
    """What is wrong with the bytes of the database at ``path``, as far as its sum can tell; ``None`` when nothing is.

    Raises:
        Failed: when the file cannot be read at all.
    """
    if not sum_path(path).is_file():
        return "its sum is gone"
    if noted(path) is None:
        return "its sum was altered"
    with reading(path) as db:
        db.execute("begin")
        count = count_of(db)
        if count is None:
            return "the count of its transactions was altered"
        known = noted(path)
        if known is None or known["count"] != count or has_log(path):
            return None
        data = db.serialize()
        is_whole = len(data) == path.stat().st_size and sha256(data) == known["sha256"]
        if is_whole or noted(path) != known:
            return None
    with reading(path) as db:
        return "its bytes were altered" if count_of(db) == count else None
