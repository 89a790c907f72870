"""What no garbage collector may take, because a run, a cached step or a registered model names it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from engine.digest import canonical_json
from engine.registry.registry import Registry

DIGEST = re.compile(rb"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")
FOLDERS = ("tmp", "seals", "cache", "runs")  # what is being recorded moves from the first to the last


def pins(home: Path, registry: Registry) -> set[str]:
    """Every digest and commit id that anything below ``home`` names.

    Whatever looks like one counts, wherever it stands: a record that this version cannot read, or of which it does not
    know a key, still pins what it names. Keeping too much costs some space; taking too much breaks a proof.

    Raises:
        OSError: when something cannot be read, as then nobody knows what it pins.
    """
    found = {digest.decode() for text in texts(home) for digest in DIGEST.findall(text)}
    for name in registry.models():
        found.update(item for version in registry.versions(name) for item in (version.digest, version.package))
    for entry in registry.ledger():
        found.update(digest.decode() for digest in DIGEST.findall(canonical_json(dict(entry.event))))
    return found


def texts(home: Path) -> Iterator[bytes]:
    """What each file of the records, the caches and the seals is called, and what is written in it."""
    for folder in FOLDERS:
        for path in (home / folder).rglob("*"):
            yield os.fsencode(path.name)
            with suppress(FileNotFoundError, IsADirectoryError):
                yield path.read_bytes()
