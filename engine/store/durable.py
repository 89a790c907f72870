"""Files that are there whole or not at all, whoever makes them and whatever interrupts that."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from engine.errors import writing

MINUTE = 60.0


def made_once(path: Path, make: Callable[[Path], None]) -> None:
    """See to it that the file at ``path`` is there. Nobody ever sees it half made.

    Args:
        make: writes the file, durably, to the path beside it that it is given. Only one process at a time is in
            there, and what one that was killed in there left is removed.

    Raises:
        StorageFull, StorageUnwritable, Failed: when the disk says so; nothing is left behind.
    """
    if path.is_file():
        return
    making, lock = (path.with_name(f".{path.name}.{word}") for word in ("making", "lock"))
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with alone_with(lock):
            if path.is_file():
                return
            remove_all(making)
            try:
                make(making)
                os.rename(making, path)
            finally:
                remove_all(making)
            sync_folder(path.parent)


@contextmanager
def alone_with(lock: Path) -> Iterator[None]:
    """Wait until nobody else is in here with the file ``lock``; the system lets go of it when a process dies."""
    descriptor = opened(lock)
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


def opened(lock: Path) -> int:
    """A descriptor that holds the file ``lock``."""
    while True:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), lock.stat()):
                return descriptor
        os.close(descriptor)  # whoever held it removed it: it keeps nobody out any more


@contextmanager
def held(lock: Path, *, exclusive: bool, wait: bool) -> Iterator[bool]:
    """Hold the file ``lock``, alone or together with others that do not want it alone; tell whether that is so.

    The file stays. The system lets go of it when a process dies.
    """
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)


@contextmanager
def scratch_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """A new folder in ``parent`` that is gone afterwards; what a process that was killed in here left goes now.

    Raises:
        StorageFull, StorageUnwritable: when the disk says so.
    """
    with writing(parent):
        parent.mkdir(parents=True, exist_ok=True)
        for left in parent.glob(f"{prefix}*"):
            if is_abandoned(left):
                shutil.rmtree(left, ignore_errors=True)
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        descriptor = os.open(folder, os.O_RDONLY)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(descriptor)


def is_abandoned(folder: Path) -> bool:
    """Whether no process is in a scratch folder any more. One that was made this minute may be about to be locked."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return time.time() - folder.stat().st_mtime > MINUTE
    except OSError:
        return False
    finally:
        os.close(descriptor)


def remove_all(path: Path) -> None:
    """Remove a file and those that SQLite puts beside it."""
    for left in path.parent.glob(f"{path.name}*"):
        left.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Flush the names in ``folder`` to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
