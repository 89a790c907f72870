"""Putting a folder: only what changed since the last time is read, and all that is small goes into one pack."""

from __future__ import annotations

import gc
import os
import secrets
import stat
import time as clock
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import orjson

from engine.digest import sha256
from engine.errors import NotFound, UsageError
from engine.lake.embedded import tree
from engine.lake.embedded.names import MAX_PATH, require_path
from engine.lake.embedded.tree import Changes, Row
from engine.lake.protocol import Commit, NothingToCommit, Progress, Signed, Upload
from engine.store.objects import ObjectStore
from engine.store.packs import SMALL

if TYPE_CHECKING:
    from engine.lake.embedded.lake import EmbeddedLake

ACTIONS = "_lakefs_actions/"
BATCH_FILES, BATCH_BYTES = 20_000, 1 << 25
JUST_NOW = 50_000_000  # ns: a file that changed so lately may change again and show the same time
Look = list[int]  # size, times of change of the bytes and of the file in ns, inode
Kept = dict[str, tuple[str, int]]  # path in the lake -> digest, size


class File(NamedTuple):
    """A file to put: where it lies, its path in the lake, and what it looks like."""

    source: str
    path: str
    look: Look


@dataclass(frozen=True, kw_only=True, slots=True)
class Looks:
    """What the files of a folder looked like when they were last put below a prefix, by path, and their digests."""

    file: Path
    known: Mapping[str, tuple[Look, str]]

    def split(self, files: Iterable[File]) -> tuple[Kept, list[File]]:
        """The files that look as they did, and those that must be read."""
        kept: Kept = {}
        unread: list[File] = []
        for file in files:
            seen = self.known.get(file.path)
            if seen is not None and seen[0] == file.look:
                kept[file.path] = seen[1], file.look[0]
            else:
                unread.append(file)
        return kept, unread

    def write(self, there: Kept, read: Iterable[File], started: int) -> None:
        """Remember the files that are there, but for those ``read`` that changed just before ``started`` (in ns).

        To lose this costs only time.
        """
        settled = started - JUST_NOW
        known = {path: look for path, look in self.known.items() if path in there}
        for file in read:
            known[file.path] = (file.look, there[file.path][0])
            if max(file.look[1], file.look[2]) >= settled:
                del known[file.path]
        temporary = self.file.with_name(f".{self.file.name}.{secrets.token_hex(4)}")
        with suppress(OSError):
            self.file.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(orjson.dumps(known))
            os.rename(temporary, self.file)


def read_looks(root: Path, folder: Path, prefix: str) -> Looks:
    """What is remembered of a folder and a prefix, if anything."""
    file = root / "looks" / sha256(f"{folder}\0{prefix}".encode(errors="surrogateescape"))
    try:
        return Looks(file=file, known=orjson.loads(file.read_bytes()))
    except (OSError, ValueError):
        return Looks(file=file, known={})


def put_folder(
    lake: EmbeddedLake,
    repository: str,
    branch: str,
    prefix: str,
    folder: Path,
    *,
    delete: bool,
    commit: Signed | None,
    progress: Progress | None,
) -> Upload:
    """What :meth:`engine.lake.protocol.Lake.put_folder` promises."""
    with uncollected():
        return put_files(lake, repository, branch, prefix, folder, delete=delete, commit=commit, progress=progress)


def put_files(
    lake: EmbeddedLake,
    repository: str,
    branch: str,
    prefix: str,
    folder: Path,
    *,
    delete: bool,
    commit: Signed | None,
    progress: Progress | None,
) -> Upload:
    """Find the files, read those that are new, stage or commit what changed, and remember what they looked like."""
    started = clock.time_ns()
    folder = Path(os.path.abspath(folder))  # noqa: PTH100  (what a link to a folder is called stays)
    files = found_in(folder, prefix)
    looks = read_looks(lake.root, folder, prefix)
    kept, unread = looks.split(files)
    if progress:
        progress(sum(size for _, size in kept.values()))
    kept.update(keep_files(lake.objects, unread, progress))
    changes = changes_to(lake.rows_below(repository, branch, prefix), kept, delete=delete)
    gone = lost(lake.objects, changes, {file.path for file in unread})
    kept.update(keep_files(lake.objects, [file for file in files if file.path in gone], None))
    made = commit_all(lake, repository, branch, commit, changes) if commit else None
    if commit is None and changes:
        lake.stage_rows(repository, branch, changes)
    if unread or len(looks.known) != len(files):
        looks.write(kept, unread, started)
    size = sum(size for _, size in kept.values())
    return Upload(files=len(files), size=size, read=len(unread), changes=len(changes), commit=made)


@contextmanager
def uncollected() -> Iterator[None]:
    """Without Python's collector of cycles, which would look at tens of thousands of short lists again and again."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def commit_all(lake: EmbeddedLake, repository: str, branch: str, signed: Signed, changes: Changes) -> Commit | None:
    """Commit at once, or, where hooks must see on the branch what is new, stage it first."""
    if lake.hooks is not None and (
        any(path.startswith(ACTIONS) for path in changes) or next(lake.list(repository, branch, ACTIONS), None)
    ):
        lake.stage_rows(repository, branch, changes)
        changes = {}
    with suppress(NothingToCommit):
        return lake.commit_changes(repository, branch, signed, changes)
    return None


def changes_to(rows: Iterator[Row], kept: Kept, *, delete: bool) -> dict[str, Row | None]:
    """What must be staged so that the objects below a prefix, which are ``rows`` now, are ``kept``."""
    now = int(clock.time())
    new = dict(kept)
    changes: dict[str, Row | None] = {}
    for row in rows:
        path = row[tree.PATH]
        wanted = new.pop(path, None)
        if wanted is None:
            if delete:
                changes[path] = None
        elif row[tree.DIGEST] != wanted[0]:
            changes[path] = [path, *wanted, now]
    changes.update((path, [path, digest, size, now]) for path, (digest, size) in new.items())
    return changes


def lost(objects: ObjectStore, changes: Changes, just_read: set[str]) -> set[str]:
    """The paths of changed objects whose files were not read this time and whose bytes were collected meanwhile."""
    unsure = {path: row[tree.DIGEST] for path, row in changes.items() if row is not None and path not in just_read}
    missing = objects.touch(set(unsure.values()))
    return {path for path, digest in unsure.items() if digest in missing}


# -- reading ------------------------------------------------------------------------------------------


def found_in(folder: Path, prefix: str) -> list[File]:
    """Every file below a folder, by path.

    Raises:
        NotFound, UsageError: for what is no folder, and what in it is no file or cannot be looked at.
    """
    if not folder.is_dir():
        if folder.exists():
            raise UsageError("is not a folder", place=str(folder), hint="name a folder")
        raise NotFound("folder", str(folder), hint="name a folder that is there")
    files: list[File] = []
    folders = [(str(folder), prefix)]
    while folders:
        source, path = folders.pop()
        with reading_file(source), os.scandir(source) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append((entry.path, f"{path}{entry.name}/"))
                else:
                    files.append(file_from(entry, path + entry.name))
    return sorted(files, key=path_of)


def file_from(entry: os.DirEntry[str], path: str) -> File:
    """An entry of a folder as a file to put."""
    try:
        status = entry.stat()
    except OSError as error:
        raise unreadable(entry.path, error) from error
    if not stat.S_ISREG(status.st_mode):
        raise UsageError(
            "is not a file", place=entry.path, hint="take it out of the folder, or put the files one by one"
        )
    if len(path) > MAX_PATH // 4 or not path.isascii():
        require_path(path)
    return File(entry.path, path, [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino])


def path_of(file: File) -> str:
    """What files are sorted by."""
    return file.path


def keep_files(objects: ObjectStore, files: Iterable[File], progress: Progress | None) -> Kept:
    """Read files and keep their bytes; their digests and sizes."""
    kept: Kept = {}
    small: list[tuple[str, bytes]] = []
    total = 0
    for file in files:
        if file.look[0] > SMALL:
            with reading_file(file.source):
                kept[file.path] = objects.keep_file(Path(file.source))
        else:
            data = read_whole(file)
            digest = sha256(data)
            kept[file.path] = digest, len(data)
            small.append((digest, data))
            total += len(data)
            if len(small) >= BATCH_FILES or total >= BATCH_BYTES:
                objects.keep_small(small)
                small, total = [], 0
        if progress:
            progress(file.look[0])
    if small:
        objects.keep_small(small)
    return kept


def read_whole(file: File) -> bytes:
    """A file's bytes. Plain system calls: most of what putting many small files costs is opening them."""
    try:
        descriptor = os.open(file.source, os.O_RDONLY)
        try:
            size = file.look[0] + 1
            data = os.read(descriptor, size)
            while len(data) >= size and (more := os.read(descriptor, SMALL)):  # it grew meanwhile
                data += more
            return data
        finally:
            os.close(descriptor)
    except OSError as error:
        raise unreadable(file.source, error) from error


@contextmanager
def reading_file(source: str) -> Iterator[None]:
    """Give an ``OSError`` raised inside as one of ours, about the file."""
    try:
        yield
    except OSError as error:
        raise unreadable(source, error) from error


def unreadable(source: str, error: OSError) -> UsageError:
    """The error for a file that cannot be read."""
    hint = "nothing was staged; give yourself permission, or take it out of the folder"
    return UsageError(f"cannot be read: {error.strerror}", place=source, hint=hint)
