"""``engine lake ls``, ``stat``, ``cat``, ``put``, ``get`` and ``rm``."""

from __future__ import annotations

import io
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import typer

from engine.cli import view
from engine.cli.lake_asked import AUTHOR, JSON, MESSAGE, META, signed
from engine.cli.lake_progress import bytes_done
from engine.cli.lake_view import commit_document, entry_document, entry_line, growing_document, moment, size
from engine.errors import NotFound, UsageError
from engine.lake.protocol import Entry, Lake, NothingToCommit, ObjectNotFound, Progress, Signed, Upload
from engine.lake.uri import LakeUri, parse
from engine.report.clean import terminal
from engine.wiring import Home, home_here

BLOCK = 1 << 20
STDIN = "-"
MOST_SUGGESTED = 100
OBJECT = typer.Argument(..., metavar="URI", help="lakefs://REPOSITORY/REF/PATH")
RECURSIVE = typer.Option(False, "--recursive", "-r", help="Everything below it.")


def register(parent: typer.Typer) -> None:
    """Add the commands."""
    for name, command in (("ls", ls), ("stat", stat), ("cat", cat), ("put", put), ("get", get), ("rm", rm)):
        parent.command(name)(command)


# -- looking ------------------------------------------------------------------------------------------


def ls(
    uri: str = OBJECT,
    recursive: bool = RECURSIVE,
    after: str = typer.Option("", "--after", metavar="PATH", help="Begin behind this path."),
    amount: int = typer.Option(None, "--amount", min=1, help="At most so many."),
    json: bool = JSON,
) -> int:
    """List objects, and folders as one line each. A branch shows what is staged, too."""
    at, lake = parse(uri), home_here().lake
    found = lake.list(at.repository, at.ref, at.path, after=after, delimiter="" if recursive else "/")
    if json:
        with growing_document({"uri": str(at)}, "entries") as write:
            for entry in islice(found, amount):
                write(entry_document(entry))
        return 0
    for entry in islice(found, amount):
        view.line(entry_line(entry))
    return 0


def stat(uri: str = OBJECT, json: bool = JSON) -> int:
    """Show an object's size, digest, time and metadata."""
    at = parse(uri)
    entry = home_here().lake.stat(at.repository, at.ref, at.path)
    if json:
        view.document({"uri": str(at), **entry_document(entry)})
        return 0
    shown = [
        ("path", entry.path),
        ("size", f"{size(entry.size)} ({entry.size:,} bytes)" if entry.size >= 1024 else size(entry.size)),
        ("time", f"{moment(entry.time)} UTC"),
        ("sha256", entry.digest),
        ("checksum", entry.checksum if entry.checksum != entry.digest else ""),
        ("type", entry.content_type),
        *((f"meta {key}", value) for key, value in sorted(entry.metadata.items())),
    ]
    for name, value in shown:
        if value:
            view.line(f"{terminal(name):<9} {terminal(value)}")
    return 0


def cat(uri: str = OBJECT, json: bool = JSON) -> int:
    """Print an object's bytes; with --json in base64."""
    at, lake = parse(uri), home_here().lake
    with lake.open(at.repository, at.ref, at.path) as stream:
        if json:
            import base64

            data = stream.read()
            view.document({"uri": str(at), "size": len(data), "base64": base64.b64encode(data).decode()})
            return 0
        sys.stdout.flush()
        shutil.copyfileobj(stream, sys.stdout.buffer, BLOCK)
        sys.stdout.buffer.flush()
    return 0


# -- putting ------------------------------------------------------------------------------------------


def put(
    source: str = typer.Argument(..., metavar="FILE|DIR|-", help="A file, a folder, or - for standard input."),
    uri: str = typer.Argument(..., metavar="URI", help="lakefs://REPOSITORY/BRANCH/PATH"),
    commit: bool = typer.Option(False, "--commit", help="Also commit what is staged on the branch; needs -m."),
    message: str = MESSAGE,
    author: str = AUTHOR,
    meta: list[str] = META,
    delete: bool = typer.Option(False, "--delete", help="Of a folder: also remove objects that have no file."),
    content_type: str = typer.Option("", "--content-type", help="Of a file: what kind of bytes they are."),
    json: bool = JSON,
) -> int:
    """Stage a file or folder on a branch. Of a folder only what changed since the last time is read."""
    require_message(commit, message)
    home, at = home_here(), parse(uri)
    wanted = signed(message, author, meta) if commit else None
    if source != STDIN and Path(source).is_dir():
        if content_type:
            raise UsageError("--content-type is for one file", hint="leave it out, or put the files one by one")
        require_other(Path(source), home)
        at = replace(at, path=f"{at.path.removesuffix('/')}/" if at.path else "")
        done = put_folder(home.lake, at, Path(source), wanted, delete=delete)
    else:
        if delete:
            raise UsageError("--delete is for a folder", place=source, hint="leave it out, or name a folder")
        at = replace(at, path=at.path if at.path[-1:] not in ("", "/") else at.path + name_of(source))
        done = put_one(home.lake, at, source, wanted, content_type)
    return say_put(done, at, committed=commit, json=json)


def require_message(commit: bool, message: str) -> None:
    """Refuse a commit without a message, and a message without a commit."""
    if commit and not message:
        raise UsageError("a commit needs a message", hint="write --commit -m MESSAGE")
    if message and not commit:
        raise UsageError("a message is given, but nothing is to be committed", hint="add --commit, or leave -m out")


def require_other(folder: Path, home: Home) -> None:
    """Refuse a folder that the lake itself lies in, as putting it would never come to an end.

    Raises:
        UsageError: saying so.
    """
    if home.path.resolve().is_relative_to(folder.resolve()):
        hint = "put the folders beside it one by one"
        raise UsageError("Engine keeps its own state in this folder", place=str(folder), hint=hint)


def name_of(source: str) -> str:
    """What a file is called in a folder of the lake."""
    if source == STDIN:
        raise UsageError("standard input has no name", hint="write the whole path: lakefs://REPOSITORY/BRANCH/PATH")
    return Path(source).name


def put_folder(lake: Lake, at: LakeUri, folder: Path, wanted: Signed | None, *, delete: bool) -> Upload:
    """Put a folder, and show how far it is."""
    total = bytes_in(folder) if view.is_terminal(sys.stderr) else None
    with bytes_done("put", total) as progress:
        return lake.put_folder(at.repository, at.ref, at.path, folder, delete=delete, commit=wanted, progress=progress)


def bytes_in(folder: Path) -> int:
    """How many bytes the files of a folder have; those that cannot be looked at count nothing."""
    found = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                found += Path(parent, name).stat().st_size
    return found


def put_one(lake: Lake, at: LakeUri, source: str, wanted: Signed | None, content_type: str) -> Upload:
    """Put a file or standard input, and commit when that is asked and anything changed."""
    with ExitStack() as stack:
        data = data_from(lake, source, stack)
        entry = lake.put(at.repository, at.ref, at.path, data, content_type=content_type)
    changes = 1
    made = None
    if wanted:
        try:
            made = lake.commit(at.repository, at.ref, wanted.message, author=wanted.author, metadata=wanted.metadata)
        except NothingToCommit:
            changes = 0
    return Upload(files=1, size=entry.size, read=1, changes=changes, commit=made)


def data_from(lake: Lake, source: str, stack: ExitStack) -> BinaryIO | Path:
    """What to give to a lake: a path to one on this machine, which may share the disk's blocks; else a stream."""
    from engine.lake.embedded.lake import EmbeddedLake

    path = Path(source)
    if source != STDIN and isinstance(lake, EmbeddedLake) and path.is_file():
        return path
    total = path.stat().st_size if source != STDIN and path.is_file() else None
    progress = stack.enter_context(bytes_done("put", total))
    try:
        descriptor = sys.stdin.fileno() if source == STDIN else os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        known = [item.name for item in path.parent.iterdir()] if path.parent.is_dir() else []
        raise NotFound("file", source, known, hint="" if known else "name a file that is there") from error
    except OSError as error:
        raise UsageError(f"cannot be read: {error.strerror}", place=source, hint="name a file you may read") from error
    raw = stack.enter_context(Counted(descriptor, progress, closefd=source != STDIN))
    return stack.enter_context(io.BufferedReader(raw, BLOCK))


class Counted(io.FileIO):
    """A file that says how many bytes of it were read."""

    def __init__(self, descriptor: int, progress: Progress, *, closefd: bool) -> None:
        super().__init__(descriptor, closefd=closefd)
        self.progress = progress

    def readinto(self, buffer: Any) -> int | None:
        """Read what comes next."""
        count: int | None = super().readinto(buffer)
        self.progress(count or 0)
        return count


def say_put(done: Upload, at: LakeUri, *, committed: bool, json: bool) -> int:
    """Say what came of it."""
    if json:
        view.document(
            {
                "uri": str(at),
                "files": done.files,
                "size": done.size,
                "read": done.read,
                "changes": done.changes,
                "commit": commit_document(done.commit) if done.commit else None,
            }
        )
        return 0
    view.line(f"{view.counted(done.files, 'file')}, {size(done.size)}, {view.counted(done.changes, 'change')}")
    if done.commit:
        view.line(f"commit {view.short(done.commit.id)} on lakefs://{at.repository}/{terminal(at.ref)}")
    elif committed or not done.changes:
        view.line("nothing is new, so nothing was committed" if committed else "nothing is new")
    else:
        view.line(f"next: engine lake commit lakefs://{at.repository}/{terminal(at.ref)} -m MESSAGE")
    return 0


# -- getting ------------------------------------------------------------------------------------------


def get(
    uri: str = OBJECT,
    target: Path = typer.Argument(Path(), metavar="[DEST]", help="A file or folder; the working folder by default."),
    force: bool = typer.Option(False, "--force", "-f", help="Overwrite other files that are there."),
    json: bool = JSON,
) -> int:
    """Take an object or a folder out of the lake. Bytes are checked against their digests."""
    from engine.lake.checkout import steady, take_out, take_out_one

    at, lake = parse(uri), home_here().lake
    prefix = folder_of(lake, at)
    version = steady(lake, at.repository, at.ref)
    if prefix is not None:
        total = sum(entry.size for entry in version.list(prefix)) if view.is_terminal(sys.stderr) else None
        with bytes_done("get", total) as progress:
            done = take_out(version, prefix, target, force=force, progress=progress)
    else:
        entry = lake.stat(at.repository, version.ref, at.path)
        target = target / at.path.rpartition("/")[2] if target.is_dir() else target
        with bytes_done("get", entry.size) as progress:
            done = take_out_one(version, entry, target, force=force, progress=progress)
    if json:
        shown = {"files": done.files, "size": done.size, "written": done.written}
        view.document({"uri": str(at), "path": str(target), **shown})
        return 0
    same = done.files - done.written
    also = f" ({same:,} of them as they were)" if same else ""
    view.line(f"{view.counted(done.files, 'file')}, {size(done.size)}, in {terminal(str(target))}{also}")
    return 0


def folder_of(lake: Lake, at: LakeUri) -> str | None:
    """The prefix of the folder that a URI names, with or without its ``/``; ``None`` for an object.

    Raises:
        ObjectNotFound: when it is neither; with the nearest that is there.
    """
    prefix = at.path if at.path[-1:] in ("", "/") else f"{at.path}/"
    try:
        if prefix != at.path:
            lake.stat(at.repository, at.ref, at.path)
            return None
    except ObjectNotFound:
        if next(lake.list(at.repository, at.ref, prefix), None) is None:
            raise
    if next(lake.list(at.repository, at.ref, prefix), None) is None:
        raise ObjectNotFound(f"folder in lakefs://{at.repository}/{at.ref}/:", at.path, folders_near(lake, at))
    return prefix


def folders_near(lake: Lake, at: LakeUri) -> list[str]:
    """The folders beside the one that a URI names, and above it, for a suggestion."""
    names = at.path.rstrip("/").split("/")[:-1]
    above = ["/".join(names[: count + 1]) + "/" for count in range(len(names))]
    found = [entry for prefix in ["", *above] for entry in beside(lake, at, prefix)]
    return [entry.path for entry in found if entry.is_prefix]


def beside(lake: Lake, at: LakeUri, prefix: str) -> Iterator[Entry]:
    """The first of what is in a folder."""
    return islice(lake.list(at.repository, at.ref, prefix, delimiter="/"), MOST_SUGGESTED)


# -- removing -----------------------------------------------------------------------------------------


def rm(uri: str = OBJECT, recursive: bool = RECURSIVE, json: bool = JSON) -> int:
    """Stage the removal of an object or a folder."""
    at, lake = parse(uri), home_here().lake
    if recursive:
        removed = remove_below(lake, at)
    elif at.path[-1:] in ("", "/"):
        raise UsageError(f"{at} is a folder", hint="say --recursive to remove all that is in it")
    else:
        lake.delete(at.repository, at.ref, at.path)
        removed = 1
    if json:
        view.document({"uri": str(at), "removed": removed})
    else:
        view.line(f"{view.counted(removed, 'object')} removed; commit it with `engine lake commit`")
    return 0


def remove_below(lake: Lake, at: LakeUri) -> int:
    """Stage the removal of everything in a folder, or of the one object; how many objects that is.

    Raises:
        ObjectNotFound: when there is nothing.
    """
    prefix = folder_of(lake, at)
    if prefix is None:
        lake.delete(at.repository, at.ref, at.path)
        return 1
    with tempfile.TemporaryDirectory() as empty:  # one call for all of them, which every lake does in few steps
        return lake.put_folder(at.repository, at.ref, prefix, Path(empty), delete=True).changes
