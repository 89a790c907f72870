"""Files named by the SHA-256 of what is in them: written once, read-only, never changed.

::

    objects/
      ab/cdef...   the bytes whose SHA-256 is abcdef...
      tmp/         what is being written; a file moves out of it whole or not at all
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from engine.digest import blocks, sha256, sha256_file
from engine.errors import DigestMismatch, NotFound, writing
from engine.store.durable import sync_folder as sync_folder


class ObjectStore:
    """Content-addressed files below ``root``. Several processes may use one at once."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, digest: str) -> Path:
        """Where the object ``digest`` (64 hexadecimal digits) is, or would be."""
        return self.root / digest[:2] / digest[2:]

    def has(self, digest: str) -> bool:
        """Whether the object is here."""
        return self.path(digest).is_file()

    def size(self, digest: str) -> int:
        """The object's length in bytes.

        Raises:
            NotFound: when it is not here.
        """
        return self.require(digest).stat().st_size

    def require(self, digest: str) -> Path:
        """The object's file, for reading or mapping.

        Raises:
            NotFound: when it is not here.
        """
        path = self.path(digest)
        if not path.is_file():
            raise NotFound("object", digest, place=str(self.root))
        return path

    def read(self, digest: str) -> bytes:
        """The object's bytes, hashed on the way.

        Raises:
            NotFound: when it is not here.
            DigestMismatch: when the bytes were altered.
        """
        data = self.require(digest).read_bytes()
        found = sha256(data)
        if found != digest:
            raise DigestMismatch("object", digest, found, place=str(self.path(digest)))
        return data

    def check(self, digest: str) -> Path:
        """The object's file, after hashing all of it.

        Raises:
            NotFound: when it is not here.
            DigestMismatch: when the bytes were altered.
        """
        path = self.require(digest)
        found = sha256_file(path)
        if found != digest:
            raise DigestMismatch("object", digest, found, place=str(path))
        return path

    def put(self, data: bytes) -> str:
        """Keep ``data``; return its digest."""
        digest = sha256(data)
        if not self.has(digest):
            with self._temporary() as temporary:
                temporary.write_bytes(data)
                self._place(temporary, digest)
        return digest

    def put_stream(self, stream: BinaryIO) -> str:
        """Keep what is left in ``stream``, hashed while it is copied; return its digest."""
        hasher = hashlib.sha256()
        with self._temporary() as temporary:
            with temporary.open("wb") as target:
                for block in blocks(stream):
                    hasher.update(block)
                    target.write(block)
            digest = hasher.hexdigest()
            if not self.has(digest):
                self._place(temporary, digest)
        return digest

    def put_file(self, path: Path) -> str:
        """Keep a copy of the file at ``path``; return its digest."""
        with path.open("rb") as stream:
            return self.put_stream(stream)

    def adopt(self, path: Path) -> str:
        """Keep the file at ``path`` by moving it here; return its digest."""
        with writing(self.root):
            digest = sha256_file(path)
            if self.has(digest):
                path.unlink()
            else:
                self._place(path, digest)
        return digest

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """A path on the same disk to write to and then :meth:`adopt`; removed afterwards."""
        with self._temporary() as temporary:
            yield temporary

    def digests(self) -> Iterator[str]:
        """Every object that is here, sorted."""
        if not self.root.is_dir():
            return
        for folder in sorted(self.root.iterdir()):
            if len(folder.name) == 2:
                yield from (folder.name + entry for entry in sorted(os.listdir(folder)))

    @contextmanager
    def _temporary(self) -> Iterator[Path]:
        folder = self.root / "tmp"
        with writing(self.root):
            folder.mkdir(parents=True, exist_ok=True)
            temporary = folder / secrets.token_hex(8)
            try:
                yield temporary
            finally:
                temporary.unlink(missing_ok=True)

    def _place(self, temporary: Path, digest: str) -> None:
        target = self.path(digest)
        target.parent.mkdir(parents=True, exist_ok=True)
        place_whole(temporary, target)


def place_whole(temporary: Path, target: Path) -> None:
    """Make ``temporary`` durable and read-only and give it its name in one step.

    The file is flushed to the disk before the rename and its folder after it, so after a crash
    ``target`` is either absent or whole.
    """
    descriptor = os.open(temporary, os.O_RDONLY)
    try:
        os.fchmod(descriptor, 0o444)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.rename(temporary, target)
    sync_folder(target.parent)


def write_once(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path`` whole and read-only.

    Raises:
        StorageFull, StorageUnwritable: when the disk says so; nothing is left behind.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_bytes(data)
            place_whole(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
