"""Which models are served, where a server was told to load or unload one: a file that all its workers look at."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from engine.digest import canonical_json


def read_roster(path: Path) -> bytes | None:
    """What was told last, a JSON list of references; nothing when nothing was."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def write_roster(path: Path, refs: Sequence[str]) -> bytes:
    """Tell all workers; what they will read."""
    data = canonical_json(list(refs))
    data = data if isinstance(data, bytes) else data.encode()
    file, name = tempfile.mkstemp(dir=path.parent)
    with os.fdopen(file, "wb") as waiting:
        waiting.write(data)
    Path(name).replace(path)
    return data
