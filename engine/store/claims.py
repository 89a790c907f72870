"""A piece of work that several processes might do at once is done by one; the others wait, and take what it gave.

A claim is a lock on a file that says who holds it. The system lets go of it when its holder dies, and whoever waits
may be interrupted. Nothing depends on it but who does the work: what is done twice is the same bytes twice.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from engine.errors import writing
from engine.store.durable import opened

HELD: set[int] = set()


def let_go() -> None:
    """In a new process: it holds nothing of what the one that it was forked from holds."""
    for descriptor in HELD:
        os.close(descriptor)
    HELD.clear()


os.register_at_fork(after_in_child=let_go)


def claim_path(home: Path, digest: str) -> Path:
    """The file to be claimed for the work that has this digest: a run id, or the key of a step."""
    return home / "claims" / digest


@contextmanager
def claimed(path: Path, waits: Callable[[str], None]) -> Iterator[None]:
    """Inside, this thread alone holds the file at ``path``.

    Args:
        waits: is told who holds it, before this waits.

    Raises:
        StorageFull, StorageUnwritable: when the disk says so, before anything inside happens.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = opened(path, patient=False)
        if descriptor is None:
            waits(holder_of(path))
            descriptor = opened(path)
        assert descriptor is not None
        HELD.add(descriptor)
    try:
        with suppress(OSError):  # it is held also where there is no room to say by whom
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, holder().encode(), 0)
        yield
    finally:
        if descriptor in HELD:
            HELD.remove(descriptor)
            path.unlink(missing_ok=True)
            os.close(descriptor)


def holder() -> str:
    """This process, as others know it."""
    return f"{os.getpid()} {platform.node()}"


def holder_of(path: Path) -> str:
    """Who holds the file at ``path``, in words."""
    try:
        process, host = path.read_text().split(" ", 1)
    except (OSError, ValueError):
        return "another process"
    return f"process {process}" if host == platform.node() else f"process {process} on {host}"
