"""Taking files out of a lake. They never leave their target folder, appear whole, and overwrite nothing unasked.

Every folder on the way is opened from the one above it and never through a symbolic link, so that no object's path and
nobody who changes the folder meanwhile can lead a file elsewhere.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from engine.digest import sha256_stream
from engine.errors import AlreadyExists, DigestMismatch, Failed, NotFound, UsageError, writing
from engine.lake.protocol import Entry, Lake, ObjectNotFound, Progress

BLOCK = 1 << 20
NAMES_NO_FILE = frozenset({"", ".", ".."})
WRONG_KIND = {
    errno.ENOTDIR: "is a file or a symbolic link, where the lake has a folder",
    errno.ELOOP: "is a symbolic link, where the lake has a file",
    errno.EISDIR: "is a folder, where the lake has a file",
}
NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EMLINK})
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, kw_only=True, slots=True)
class TakenOut:
    """How many files of how many bytes the lake has there, and how many were written; the others were here already."""

    files: int
    size: int
    written: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Version:
    """What of a lake to read: a repository at a ref that stays as it is while it is read."""

    lake: Lake
    repository: str
    ref: str

    def open(self, entry: Entry) -> BinaryIO:
        """The bytes of an object that was listed."""
        return self.lake.open(self.repository, self.ref, entry.path)

    def list(self, prefix: str) -> Iterator[Entry]:
        """The objects whose paths begin with ``prefix``."""
        return self.lake.list(self.repository, self.ref, prefix)


def steady(lake: Lake, repository: str, ref: str) -> Version:
    """What ``ref`` means now, for as long as it takes to read it: a commit, unless something is staged on it."""
    commit = lake.resolve(repository, ref)
    with suppress(UsageError):  # what is no branch has nothing staged
        if next(lake.changes(repository, ref.removesuffix("$")), None):
            return Version(lake=lake, repository=repository, ref=ref)
    return Version(lake=lake, repository=repository, ref=commit)


def take_out(version: Version, prefix: str, folder: Path, *, force: bool, progress: Progress | None) -> TakenOut:
    """Write every object below ``prefix`` into ``folder``, which is made when it is not there.

    Nothing is written when a path could leave the folder, or a file there is another one and ``force`` is not given.

    Raises:
        ObjectNotFound: when nothing is below ``prefix``.
        UsageError, AlreadyExists: for what may not be written.
        DigestMismatch: when bytes were altered; the file is not there then.
    """
    files, size, here = 0, 0, set[str]()
    for entry in version.list(prefix):
        parts = parts_of(entry.path.removeprefix(prefix), entry.path)
        files, size = files + 1, size + entry.size
        if not force and is_here(folder, parts, entry):
            here.add(entry.path)
    if not files:
        raise ObjectNotFound(f"folder in lakefs://{version.repository}/{version.ref}/:", prefix)
    written = 0
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    for entry in version.list(prefix):
        if entry.path in here:
            (progress or ignore)(entry.size)
            continue
        parts = parts_of(entry.path.removeprefix(prefix), entry.path)
        with opened(folder, parts[:-1], make=True) as place:
            written += write(version, entry, place, folder.joinpath(*parts), force=force, progress=progress)
    return TakenOut(files=files, size=size, written=written)


def take_out_one(version: Version, entry: Entry, target: Path, *, force: bool, progress: Progress | None) -> TakenOut:
    """Write one object to the file ``target``, whose folder must be there.

    Raises:
        NotFound, UsageError, AlreadyExists: for what may not be written.
        DigestMismatch: when the bytes were altered; the file is not there then.
    """
    if not target.parent.is_dir():
        raise NotFound("folder", str(target.parent), hint="make it first, or name one that is there")
    parts = parts_of(target.name, str(target))
    if not force and is_here(target.parent, parts, entry):
        (progress or ignore)(entry.size)
        return TakenOut(files=1, size=entry.size, written=0)
    with opened(target.parent, [], make=False) as place:
        written = write(version, entry, place, target, force=force, progress=progress)
    return TakenOut(files=1, size=entry.size, written=written)


def ignore(_: int) -> None:
    """Nobody wants to hear of progress."""


def parts_of(relative: str, path: str) -> list[str]:
    """The names that an object's path is made of.

    Raises:
        UsageError: for a path that could lead out of the folder, or that no file can have.
    """
    parts = relative.split("/")
    if NAMES_NO_FILE & set(parts) or "\0" in relative:
        hint = "take it out on its own with `engine lake get URI FILE`"
        raise UsageError("the path could lead out of the folder, or no file can have it", place=path, hint=hint)
    return parts


# -- the target ---------------------------------------------------------------------------------------


@contextmanager
def opened(root: Path, names: list[str], *, make: bool) -> Iterator[int]:
    """A descriptor of the folder ``names`` below ``root``; only ``root`` itself may be a symbolic link.

    Raises:
        UsageError: when something on the way is no folder.
        FileNotFoundError: when it is not there and shall not be made.
    """
    at = root
    place = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name in names:
            at = at / name
            if make:
                with suppress(FileExistsError), named(at):
                    os.mkdir(name, dir_fd=place)
            with named(at):
                below = os.open(name, FOLDER, dir_fd=place)
            os.close(place)
            place = below
        yield place
    finally:
        os.close(place)


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Give an ``OSError`` that says what ``path`` is not as an error of ours; leave it when it is about absence."""
    try:
        yield
    except (FileNotFoundError, FileExistsError):
        raise
    except OSError as error:
        if error.errno in WRONG_KIND:
            hint = "nothing is written over it or through it; name another target"
            raise UsageError(WRONG_KIND[error.errno], place=str(path), hint=hint) from error
        if error.errno == errno.ENAMETOOLONG:
            raise UsageError("no file can have so long a name", place=str(path)[:80] + "...") from error
        with writing(path):
            raise


def is_here(root: Path, parts: list[str], entry: Entry) -> bool:
    """Whether a file with an object's bytes is there; ``False`` also when only reading the object would tell.

    Raises:
        AlreadyExists, UsageError: when something else is there.
    """
    target = root.joinpath(*parts)
    try:
        with opened(root, parts[:-1], make=False) as place, open_file(place, target) as file:
            size = os.fstat(file.fileno()).st_size
            if size == entry.size and not entry.digest:
                return False
            if size == entry.size and sha256_stream(file) == entry.digest:
                return True
    except FileNotFoundError:
        return False
    raise other_file(target)


@contextmanager
def open_file(place: int, target: Path) -> Iterator[BinaryIO]:
    """The regular file ``target``, which is in the folder ``place``, to read.

    Raises:
        UsageError: when it is something else.
    """
    with named(target):
        descriptor = os.open(target.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=place)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UsageError("is not a file", place=str(target), hint="nothing is written over it; name another")
    with os.fdopen(descriptor, "rb") as file:
        yield file


def other_file(target: Path) -> AlreadyExists:
    """Something else lies where a file should go."""
    return AlreadyExists("another file is there", place=str(target), hint="name another, or overwrite it with --force")


def write(version: Version, entry: Entry, place: int, target: Path, *, force: bool, progress: Progress | None) -> int:
    """Write one object beside its place, check it, and give it its name; how many files that makes."""
    temporary = f".{secrets.token_hex(8)}.part"
    with named(target):
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666, dir_fd=place)
    try:
        # Not flushed to the disk: what was lost with the power can be taken out again, and a flush a file is slow.
        with writing(target), io.FileIO(descriptor, "w") as file, version.open(entry) as stream:
            size, digest = copy(stream, file, progress or ignore)
        if entry.digest not in ("", digest):
            raise DigestMismatch(f"object {entry.path}", entry.digest, digest, place=f"lakefs://{version.repository}")
        if size != entry.size:
            raise Failed(f"{size} of {entry.size} bytes came", place=entry.path, hint="try again")
        return place_file(place, temporary, target, digest, force=force)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=place)


def copy(stream: BinaryIO, file: io.FileIO, progress: Progress) -> tuple[int, str]:
    """Copy a stream into a file; the number of its bytes and their SHA-256."""
    hasher, size = hashlib.sha256(), 0
    while block := stream.read(BLOCK):
        hasher.update(block)
        rest = memoryview(block)
        while rest:
            rest = rest[file.write(rest) :]
        size += len(block)
        progress(len(block))
    return size, hasher.hexdigest()


def place_file(place: int, temporary: str, target: Path, digest: str, *, force: bool) -> int:
    """Give a whole file its name; 0 when the same file has it already.

    Raises:
        AlreadyExists: when another file has it and ``force`` is not given.
    """
    try:
        with named(target):
            if force:
                os.rename(temporary, target.name, src_dir_fd=place, dst_dir_fd=place)
            else:
                link(place, temporary, target.name)
    except FileExistsError:
        with open_file(place, target) as file:
            if sha256_stream(file) == digest:
                return 0
        raise other_file(target) from None
    return 1


def link(place: int, temporary: str, name: str) -> None:
    """Give a file a name that is free, in one step, also where the disk knows no links.

    Raises:
        FileExistsError: when it is not free.
    """
    try:
        os.link(temporary, name, src_dir_fd=place, dst_dir_fd=place, follow_symlinks=False)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666, dir_fd=place))
        os.rename(temporary, name, src_dir_fd=place, dst_dir_fd=place)
