"""Which private artifacts this Engine home wrote itself: an HMAC of each, under a key that never leaves the home."""

from __future__ import annotations

import hmac
import os
from hashlib import sha256
from pathlib import Path

from engine.errors import StepFailed
from engine.store.durable import made_once

KEY_BYTES = 32


def seal_path(home: Path, digest: str) -> Path:
    """Where the seal of a private artifact lies."""
    return home / "seals" / digest


def seal_of(home: Path, data: bytes) -> bytes:
    """The HMAC-SHA-256 of ``data`` under the home's key."""
    return hmac.new(home_key(home), data, sha256).hexdigest().encode()


def is_sealed(home: Path, digest: str, data: bytes) -> bool:
    """Whether this home wrote ``data``."""
    seal = seal_path(home, digest)
    return seal.is_file() and hmac.compare_digest(seal.read_bytes(), seal_of(home, data))


def home_key(home: Path) -> bytes:
    """The home's own key, made when it is first needed and readable by its owner alone.

    Raises:
        StepFailed: when what is there is no key.
    """
    path = home / "home.key"
    made_once(path, write_key)
    key = path.read_bytes()
    if len(key) != KEY_BYTES:
        hint = "remove it, and run with --fresh: native models are then fitted and sealed anew"
        raise StepFailed("the home's key is damaged", place=str(path), hint=hint)
    return key


def write_key(path: Path) -> None:
    """Write a new key."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(os.urandom(KEY_BYTES))
        stream.flush()
        os.fsync(stream.fileno())
