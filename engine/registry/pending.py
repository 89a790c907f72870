"""Whether anything in a registry waits to be finished, asked by every command: nothing else is imported for it."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from engine.errors import EngineError
from engine.store.sqlite import Connections


def has_pending(path: Path) -> bool:
    """Whether a decision stands in the journal of the registry at ``path``. What cannot be read has none."""
    if not path.is_file():
        return False
    try:
        return bool(Connections(path, "").connection().execute("select 1 from decisions limit 1").fetchone())
    except (EngineError, sqlite3.DatabaseError, OSError):
        return False
