"""Canonical JSON and SHA-256: the only definition of identity in Engine.

Everything that has an identity (a resolved spec, a step, a manifest of data or code) is turned into
canonical JSON and hashed here, so two machines that mean the same thing get the same name for it.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

CHUNK = 1 << 20


def canonical_json(value: object) -> bytes:
    """Serialise ``value`` so that equal meaning gives equal bytes.

    Keys are sorted, nothing is padded, text is UTF-8. ``1`` and ``1.0`` stay different. Tuples are lists.

    Raises:
        ValueError: for NaN and infinity, which JSON cannot name.
        TypeError: for anything that is not a JSON value.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def sha256(data: bytes | memoryview) -> str:
    """The SHA-256 of ``data`` in 64 lower-case hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def digest_of(value: object) -> str:
    """The SHA-256 of the canonical JSON of ``value``."""
    return sha256(canonical_json(value))


def sha256_stream(stream: BinaryIO) -> str:
    """The SHA-256 of what is left in ``stream``, read in blocks of 1 MiB."""
    hasher = hashlib.sha256()
    for block in blocks(stream):
        hasher.update(block)
    return hasher.hexdigest()


def sha256_file(path: Path) -> str:
    """The SHA-256 of the file at ``path``."""
    with path.open("rb") as stream:
        return sha256_stream(stream)


def blocks(stream: BinaryIO) -> Iterator[bytes]:
    """What is left in ``stream`` in blocks of at most 1 MiB."""
    while block := stream.read(CHUNK):
        yield block


def manifest_digest(digests: Mapping[str, str]) -> str:
    """The digest of a set of files: their relative paths, sorted, and each one's SHA-256."""
    return digest_of(sorted(digests.items()))


def plain(value: object) -> object:
    """``value`` with tuples as lists and mappings as dicts, ready for :func:`canonical_json`.

    Raises:
        TypeError: for a value that JSON does not have.
    """
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return None if math.isnan(value) else value
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, Sequence):
        return [plain(item) for item in value]
    raise TypeError(f"{type(value).__name__} is not a JSON value")


def prefixed(digest: str) -> str:
    """``digest`` as people see it: ``sha256:...``."""
    return digest if digest.startswith("sha256:") else f"sha256:{digest}"


def bare(digest: str) -> str:
    """``digest`` without its ``sha256:``."""
    return digest.removeprefix("sha256:")
