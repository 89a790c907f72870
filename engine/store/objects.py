"""Objects named by the SHA-256 of what is in them: written once, read-only, never changed.

::

    objects/
      ab/cdef...   the bytes whose SHA-256 is abcdef...
      packs/       small objects of the lake, many in a file
      tmp/         what is being written; a file moves out of it whole or not at all
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import mmap
import os
import secrets
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from engine.digest import sha256, sha256_file, sha256_stream
from engine.errors import DigestMismatch, NotFound, writing
from engine.store.durable import sync_folder as sync_folder
from engine.store.packs import LOST, OWN_FILE, SMALL, Location, Packs

BLOCK, FLUSH = 1 << 22, 1 << 25
SHARE_BLOCKS = 0x40049409  # Linux's ioctl FICLONE


class ObjectStore:
    """Content-addressed objects below ``root``. Several processes may use one at once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.packs = Packs(root / "packs")

    def path(self, digest: str) -> Path:
        """Where the object ``digest`` (64 hexadecimal digits) is, or would be."""
        return self.root / digest[:2] / digest[2:]

    def has(self, digest: str) -> bool:
        """Whether the object is here."""
        return self.path(digest).is_file() or self._packed(digest) is not None

    def size(self, digest: str) -> int:
        """The object's length in bytes.

        Raises:
            NotFound: when it is not here.
        """
        packed = None if self.path(digest).is_file() else self._packed(digest)
        return packed.size if packed else self.require(digest).stat().st_size

    def require(self, digest: str) -> Path:
        """The object's file, for reading or mapping; a packed object is given one.

        Raises:
            NotFound: when it is not here.
        """
        path = self.path(digest)
        if not path.is_file():
            packed = self._packed(digest)
            if packed is None:
                raise NotFound("object", digest, place=str(self.root), hint=LOST)
            self.put(self.packs.read(packed))
        return path

    def read(self, digest: str) -> bytes:
        """The object's bytes, hashed on the way.

        Raises:
            NotFound: when it is not here.
            DigestMismatch: when the bytes were altered.
        """
        packed = None if self.path(digest).is_file() else self._packed(digest)
        if packed:
            return self.packs.read(packed)
        data = self.require(digest).read_bytes()
        found = sha256(data)
        if found != digest:
            raise DigestMismatch("object", digest, found, place=str(self.path(digest)))
        return data

    def check(self, digest: str) -> memoryview:
        """The object's bytes, mapped and all of them hashed.

        Raises:
            NotFound: when it is not here.
            DigestMismatch: when the bytes were altered.
        """
        if not self.path(digest).is_file():
            return memoryview(self.read(digest))
        view = mapped(self.require(digest))
        found = sha256(view)
        if found != digest:
            raise DigestMismatch("object", digest, found, place=str(self.path(digest)))
        return view

    def map(self, digest: str) -> memoryview:
        """The object's bytes, mapped. One with a seal that fits is not hashed.

        Raises:
            NotFound: when it is not here.
            DigestMismatch: when the bytes were altered.
        """
        status = stat_or_none(self.path(digest))
        kept = self.packs.find(digest)
        if status and kept and (status.st_size, status.st_mtime_ns) == (kept.size, kept.seal):
            return mapped(self.path(digest))
        view = self.check(digest)
        if status and kept:  # a copy of the home, say, has other times
            self.packs.seal(digest, status.st_mtime_ns)
        return view

    def open(self, digest: str) -> BinaryIO:
        """The object's bytes as a stream, which refuses altered bytes at the latest when it ends.

        Raises:
            NotFound: when it is not here.
            DigestMismatch: here or on reading, when the bytes were altered.
        """
        if not self.path(digest).is_file():
            return io.BytesIO(self.read(digest))
        return io.BufferedReader(Checked(self, digest), 1 << 20)

    def put(self, data: bytes) -> str:
        """Keep ``data``; return its digest."""
        digest = sha256(data)
        if not self.path(digest).is_file():
            with self._temporary() as temporary:
                temporary.write_bytes(data)
                self._place(temporary, digest)
        return digest

    def put_stream(self, stream: BinaryIO) -> str:
        """Keep what is left in ``stream``, hashed while it is copied; return its digest."""
        with self._temporary() as temporary:
            with temporary.open("wb", buffering=0) as target, Writer(target) as writer:
                copy_blocks(stream, writer)
            if not self.path(writer.digest).is_file():
                self._place(temporary, writer.digest)
        return writer.digest

    def put_file(self, path: Path) -> str:
        """Keep a copy of the file at ``path``; return its digest."""
        with path.open("rb") as stream:
            return self.put_stream(stream)

    def adopt(self, path: Path) -> str:
        """Keep the file at ``path`` by moving it here; return its digest."""
        with writing(self.root):
            digest = sha256_file(path)
            if self.path(digest).is_file():
                path.unlink()
            else:
                self._place(path, digest)
        return digest

    # -- what the lake keeps --------------------------------------------------------------------------

    def keep(self, stream: BinaryIO) -> tuple[str, int]:
        """Keep what is left in ``stream`` for the lake: a small object in a pack; its digest and size."""
        first = stream.read(SMALL + 1)
        if len(first) <= SMALL:
            digest = sha256(first)
            self.keep_small([(digest, first)])
            return digest, len(first)
        with self.writer() as writer:
            writer.write(first)
            copy_blocks(stream, writer)
        return writer.digest, writer.size

    def keep_file(self, path: Path) -> tuple[str, int]:
        """Keep a file for the lake: shared with its disk where that can be, else copied; its digest and size."""
        with path.open("rb", buffering=0) as stream:
            if os.fstat(stream.fileno()).st_size <= SMALL:
                return self.keep(stream)
            with self.writer() as writer:
                writer.copy(stream)
            return writer.digest, writer.size

    def keep_small(self, objects: Sequence[tuple[str, bytes]], *, durable: bool = False) -> None:
        """Keep small objects (digest and bytes) for the lake in a pack."""
        missing = self.touch({digest for digest, _ in objects})
        if missing:
            with self.packs.adding(durable=durable) as pack:
                for digest, data in {digest: data for digest, data in objects if digest in missing}.items():
                    pack.add(digest, data)

    @contextmanager
    def writer(self) -> Iterator[Writer]:
        """Something to write an object of the lake to; it is kept when the block is left without an error."""
        with self._temporary() as temporary:
            with temporary.open("wb", buffering=0) as target, Writer(target) as writer:
                yield writer
            self.packs.register(writer.digest, writer.size)
            if not self.has_bytes(writer.digest):
                seal = temporary.stat().st_mtime_ns
                self._place(temporary, writer.digest)
                self.packs.seal(writer.digest, seal)

    def touch(self, digests: Collection[str]) -> set[str]:
        """Say that objects of the lake are about to be named; those that are not here."""
        packed, own = self.packs.touch(digests)
        here = packed | {digest for digest in own if self.path(digest).is_file()}
        return set(digests) - here

    def has_bytes(self, digest: str) -> bool:
        """Whether the object's bytes are here, and not only a row about them."""
        packed = self.packs.find(digest)
        return self.path(digest).is_file() or (packed is not None and packed.pack != OWN_FILE)

    def remove(self, digest: str) -> None:
        """Remove an object's own file."""
        self.path(digest).unlink(missing_ok=True)

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """A path on the same disk to write to and then :meth:`adopt`; removed afterwards."""
        with self._temporary() as temporary:
            yield temporary

    def digests(self) -> Iterator[str]:
        """Every object that has a file of its own, sorted."""
        if not self.root.is_dir():
            return
        for folder in sorted(self.root.iterdir()):
            if len(folder.name) == 2:
                yield from (folder.name + entry for entry in sorted(os.listdir(folder)))

    def __reduce__(self) -> tuple[type[ObjectStore], tuple[Path]]:
        return ObjectStore, (self.root,)

    def _packed(self, digest: str) -> Location | None:
        found = self.packs.find(digest)
        return found if found and found.pack != OWN_FILE else None

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


class Writer:
    """A file that is hashed and flushed to the disk while it is written: three things at once, on two cores."""

    def __init__(self, target: io.FileIO) -> None:
        self.target = target
        self.size = 0
        self.digest = ""
        self._hasher = hashlib.sha256()
        self._pool = ThreadPoolExecutor(2)
        self._hashing: Future[None] | None = None
        self._flushing: Future[None] | None = None
        self._flushed = 0

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self._wait()
        if self._flushing:
            self._flushing.exception()  # whatever it says, the flush at the end says as well
        self._pool.shutdown()
        self.digest = self.digest or self._hasher.hexdigest()

    def write(self, block: bytes | memoryview) -> int:
        """Write a block, which must not change before the next call."""
        self._wait()
        self._hashing = self._pool.submit(self._hasher.update, block)
        rest = memoryview(block)
        while rest:
            rest = rest[self.target.write(rest) :]
        self.size += len(block)
        if self.size - self._flushed >= FLUSH and (self._flushing is None or self._flushing.done()):
            self._flushed = self.size
            self._flushing = self._pool.submit(os.fdatasync, self.target.fileno())
        return len(block)

    def copy(self, source: io.FileIO) -> None:
        """Write all of a file; where the disk can share its blocks, no byte is copied."""
        with suppress(OSError):
            fcntl.ioctl(self.target, SHARE_BLOCKS, source.fileno())
        self.size = os.fstat(self.target.fileno()).st_size
        if self.size:
            with Path(str(self.target.name)).open("rb") as shared:
                self.digest = sha256_stream(shared)
        else:
            copy_blocks(source, self)

    def _wait(self) -> None:
        if self._hashing:
            self._hashing.result()
            self._hashing = None


def copy_blocks(source: BinaryIO | io.FileIO, writer: Writer) -> None:
    """Write what is left in ``source``: one block is read while the one before is hashed."""
    blocks = [bytearray(BLOCK), bytearray(BLOCK)]
    while True:
        block = blocks[0]
        count = read_into(source, block)
        if not count:
            return
        writer.write(memoryview(block)[:count])
        blocks.reverse()


def read_into(source: BinaryIO | io.FileIO, block: bytearray) -> int:
    """Read what comes next into ``block``; how many bytes, 0 at the end."""
    readinto = getattr(source, "readinto", None)
    if readinto is not None:
        return readinto(block) or 0
    data = source.read(len(block))
    block[: len(data)] = data
    return len(data)


def mapped(path: Path) -> memoryview:
    """A file mapped into memory, to read."""
    with path.open("rb") as stream:
        if not os.fstat(stream.fileno()).st_size:
            return memoryview(b"")
        return memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))


def stat_or_none(path: Path) -> os.stat_result | None:
    """What the system says of a file, if it is there."""
    try:
        return path.stat()
    except FileNotFoundError:
        return None


class Checked(io.RawIOBase):
    """An object's file that is hashed while it is read from its beginning to its end.

    Who jumps about in it gets the word of its seal instead, or, without one, of a hash of all of it.
    """

    def __init__(self, store: ObjectStore, digest: str) -> None:
        self.store = store
        self.digest = digest
        self.file = store.path(digest).open("rb", buffering=0)
        self.size = os.fstat(self.file.fileno()).st_size
        self.hasher: Any = hashlib.sha256()

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read a block; with the last one, check what was read."""
        count = self.file.readinto(buffer) or 0
        if self.hasher is not None:
            self.hasher.update(memoryview(buffer)[:count])
            if self.file.tell() >= self.size and self.hasher.hexdigest() != self.digest:
                place = str(self.store.path(self.digest))
                raise DigestMismatch("object", self.digest, self.hasher.hexdigest(), place=place)
        return count

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go elsewhere."""
        if (offset, whence) != (self.file.tell(), io.SEEK_SET) and (offset, whence) != (0, io.SEEK_CUR):
            if self.hasher is not None:
                self.store.map(self.digest).release()
            self.hasher = None
        return self.file.seek(offset, whence)

    def tell(self) -> int:
        """Where the next byte comes from."""
        return self.file.tell()

    def close(self) -> None:
        """Close the file."""
        self.file.close()
        super().close()


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
