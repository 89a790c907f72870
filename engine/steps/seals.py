"""Which private artifacts this Engine home wrote itself: an HMAC of each, under a key that never leaves the home."""

from __future__ import annotations

import hmac
import os
from hashlib import sha256
from pathlib import Path

from engine.errors import StepFailed, writing


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
    """The home's own key, made when it is first needed and readable by its owner alone."""
    path = home / "home.key"
    with writing(path):
        home.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            return wait_for_key(path)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(os.urandom(32))
            stream.flush()
            os.fsync(stream.fileno())
    return path.read_bytes()


def wait_for_key(path: Path) -> bytes:
    """The key that another process is just writing, or wrote."""
    for _ in range(1000):
        key = path.read_bytes()
        if len(key) == 32:
            return key
    raise StepFailed("the home's key is damaged", place=str(path), hint="remove it; native models are then fitted anew")
