"""Putting a folder: only what changed since the last time is read, and all that is small goes into one pack."""

from __future__ import annotations

import os
import stat
import time as clock
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import orjson

from engine.digest import sha256
from engine.errors import EngineError, NotFound, UsageError
from engine.lake.embedded import tree
from engine.lake.embedded.names import MAX_PATH, require_path
from engine.lake.embedded.tree import Changes, Row
from engine.lake.protocol import Commit, NothingToCommit, Progress, Signed, Upload
from engine.store.objects import ObjectStore
from engine.store.packs import SMALL
from engine.store.sqlite import reading, transaction

if TYPE_CHECKING:
    from engine.lake.embedded.lake import EmbeddedLake

SCHEMA = "create table if not exists folders (path text primary key, files blob not null) without rowid;"
ACTIONS = "_lakefs_actions/"
BATCH_FILES, BATCH_BYTES = 2000, 1 << 24
JUST_NOW = 50_000_000  # ns: a file that changed so lately may change again and show the same time
Look = list[int]  # size, times of change of the bytes and of the file in ns, inode
Kept = dict[str, tuple[str, int]]  # path in the lake -> digest, size


@dataclass(frozen=True, slots=True)
class File:
    """A file to put: where it lies, its path in the lake, and what it looks like."""

    source: str
    path: str
    look: Look


@dataclass(frozen=True, kw_only=True, slots=True)
class Looks:
    """What the files of a folder looked like when they were last read, by path in the folder, and their digests."""

    folder: str
    database: Path
    files: Mapping[str, tuple[Look, str]] = field(default_factory=dict)

    def digest(self, file: File) -> str | None:
        """The digest of a file that looks as it did."""
        look, digest = self.files.get(file.source, (None, None))
        return digest if look == file.look else None

    def write(self, files: Iterable[File], kept: Kept, started: int) -> None:
        """Remember files, but for those that changed just before ``started`` (in ns). Losing this costs only time."""
        settled = started - JUST_NOW
        looks = {
            file.source: (file.look, kept[file.path][0]) for file in files if max(file.look[1], file.look[2]) < settled
        }
        with suppress(EngineError), transaction(self.database, SCHEMA, durable=False) as db:
            db.execute("insert or replace into folders values (?, ?)", (self.folder, orjson.dumps(looks)))


def read_looks(database: Path, folder: Path) -> Looks:
    """What is remembered of a folder."""
    files: dict[str, tuple[Look, str]] = {}
    if database.is_file():
        with suppress(EngineError, ValueError), reading(database) as db:
            row = db.execute("select files from folders where path = ?", (str(folder),)).fetchone()
            files = orjson.loads(row[0]) if row else {}
    return Looks(folder=str(folder), database=database, files=files)


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
    started = clock.time_ns()
    folder = Path(os.path.abspath(folder))  # noqa: PTH100  (what a link to a folder is called stays)
    files = found_in(folder, prefix)
    looks = read_looks(lake.root / "stats.db", folder)
    kept: Kept = {file.path: (digest, file.look[0]) for file in files if (digest := looks.digest(file))}
    unread = [file for file in files if file.path not in kept]
    if progress:
        progress(sum(size for _, size in kept.values()))
    kept.update(keep_files(lake.objects, unread, progress))
    changes = changes_to(lake.rows_below(repository, branch, prefix), kept, delete=delete)
    gone = lost(lake.objects, changes, {file.path for file in unread})
    kept.update(keep_files(lake.objects, [file for file in files if file.path in gone], None))
    made = commit_all(lake, repository, branch, commit, changes) if commit else None
    if commit is None and changes:
        lake.stage_rows(repository, branch, changes)
    if unread or len(looks.files) != len(files):
        looks.write(files, kept, started)
    size = sum(size for _, size in kept.values())
    return Upload(files=len(files), size=size, read=len(unread), changes=len(changes), commit=made)


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
    missing = objects.packs.touch(unsure.values())
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
    with reading_file(entry.path):
        status = entry.stat()
    if not stat.S_ISREG(status.st_mode):
        raise UsageError(
            "is not a file", place=entry.path, hint="take it out of the folder, or put the files one by one"
        )
    try:
        fits = 0 < len(path.encode()) <= MAX_PATH
    except UnicodeEncodeError:
        fits = False
    if not fits:
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
            data = read_whole(file.source)
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


def read_whole(source: str) -> bytes:
    """A file's bytes. Plain system calls: most of what putting many small files costs is opening them."""
    with reading_file(source):
        descriptor = os.open(source, os.O_RDONLY)
        try:
            data = os.read(descriptor, SMALL + 1)
            while len(data) > SMALL and (more := os.read(descriptor, SMALL)):  # it grew meanwhile
                data += more
            return data
        finally:
            os.close(descriptor)


class reading_file:  # noqa: N801  (a context manager; a generator would cost as much as reading a small file)
    """Give an ``OSError`` raised inside as one of ours, about the file."""

    def __init__(self, source: str) -> None:
        self.source = source

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: object, __: object) -> None:
        if isinstance(error, OSError):
            hint = "nothing was staged; give yourself permission, or take it out of the folder"
            raise UsageError(f"cannot be read: {error.strerror}", place=self.source, hint=hint) from error
