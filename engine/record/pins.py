"""What no garbage collector may take, because a run, a cached step or a registered model names it."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path

from engine.store.sqlite import reading

DIGEST = re.compile(rb"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")
PLACES = ("tmp", "seals", "cache", "registry.db", "runs")  # what is being recorded moves from the first to the last
DATABASE = ".db"
BESIDE_A_DATABASE = tuple(f"{DATABASE}{ending}" for ending in ("-wal", "-shm", "-journal"))


def pins(home: Path, without: Collection[str] = ()) -> set[str]:
    """Every digest and commit id that anything below ``home`` names, but for the lake itself.

    Whatever looks like one counts, wherever it stands: a record that this version cannot read, or of which it does not
    know a key, still pins what it names. Keeping too much costs some space; taking too much breaks a proof.

    Args:
        without: places that do not count.

    Raises:
        OSError, Failed: when something cannot be read, as then nobody knows what it pins.
    """
    found: set[str] = set()
    for place in (place for place in PLACES if place not in without):
        for path in (home / place, *(home / place).rglob("*")):
            for text in (os.fsencode(path.name), *texts(path)):
                found.update(digest.decode() for digest in DIGEST.findall(text))
    return found


def texts(path: Path) -> Iterator[bytes]:
    """What is written in a file; nothing for what is no file or is gone by now.

    Databases are asked, and never opened by ourselves: that would let go of the locks that this process has on them.
    """
    with suppress(FileNotFoundError):
        if not stat.S_ISREG(path.stat().st_mode) or path.name.endswith(BESIDE_A_DATABASE):
            return
        if path.name.endswith(DATABASE):
            yield from values(path)
        else:
            yield path.read_bytes()


def values(path: Path) -> Iterator[bytes]:
    """Every text in a database: in its file a long row is cut in pieces, and a digest may be cut with it."""
    with reading(path) as db:
        tables = [row[0] for row in db.execute("select name from sqlite_master where type = 'table'")]
        for table in tables:
            for row in db.execute(f'select * from "{table}"'):  # noqa: S608
                yield from (value if isinstance(value, bytes) else str(value).encode() for value in row)
