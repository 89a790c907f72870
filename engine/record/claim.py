"""One process at a time makes a run; another that is asked for the same one waits, and has the same answer."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from engine.errors import writing
from engine.store.durable import alone_with

Tell = Callable[[str], None]


@contextmanager
def claimed(home: Path, run_id: str, tell: Tell) -> Iterator[None]:
    """Make a run, and nobody else the same one meanwhile. The claim of a process that dies is free.

    Args:
        tell: is told which process is waited for, if one is.

    Raises:
        StorageFull, StorageUnwritable: when the home cannot be written.
    """
    folder = home / "tmp" / "claims"
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    lock = folder / run_id

    def busy() -> None:
        holder = holder_of(lock)
        tell(f"waiting for {f'process {holder}' if holder else 'another process'}, which is making this run")

    with alone_with(lock, busy):
        with writing(lock):
            lock.write_text(str(os.getpid()))
        yield


def holder_of(lock: Path) -> str:
    """The process that wrote itself into a claim, if it did by now."""
    try:
        return lock.read_text().strip()
    except OSError:
        return ""
