"""Importing files of this machine, from below the folders that the operator named."""

from __future__ import annotations

import os
import secrets
import threading
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from starlette.responses import Response

from engine.errors import EngineError
from engine.lake.embedded.folder import changes_to, commit_all, found_in, keep_files, reading_file
from engine.lake.embedded.lake import keep_path
from engine.lake.embedded.names import require_path
from engine.lake.embedded.tree import Changes, Row
from engine.lake.protocol import Commit, DirtyBranch, HookRefused, NothingToCommit, Signed
from engine.lake.rest import shapes
from engine.lake.rest.calls import Call, Rejected, document, nothing
from engine.lake.rest.refs import overrides_of

MOST_REMEMBERED = 1000
OUTSIDE = "only what lies below a folder of --import-root can be imported"


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """A file, or a folder with all that is below it, and the path that it gets, or that all of them begin with."""

    path: Path
    destination: str
    is_folder: bool


def start_import(call: Call) -> Response:
    """``POST .../branches/B/import``: what is to be imported, and the id under which to ask what became of it."""
    found = call.body.get("paths")
    if not isinstance(found, list) or not found:
        raise Rejected(400, "paths in the body is not a list of what to import")
    sources = [source_of(call, item) for item in found]
    signed = overrides_of(call, "commit")
    signed = signed if signed.message else replace(signed, message="Import objects")
    call.lake.require_head(call.repository, call.branch)
    id = secrets.token_hex(10)
    status: dict[str, Any] = {"completed": False, "update_time": now(), "ingested_objects": 0}
    with call.state.lock:
        for name in list(call.state.imports)[:-MOST_REMEMBERED]:
            del call.state.imports[name]
        call.state.imports[f"{call.repository}/{call.branch}/{id}"] = status
    threading.Thread(target=carry_out, args=(call, sources, signed, status), daemon=True).start()
    return document({"id": id}, 202)


def source_of(call: Call, item: Any) -> Source:
    """An item of what is to be imported.

    Raises:
        Rejected: for what is not below a folder that may be imported from.
    """
    if not isinstance(item, dict) or not all(isinstance(item.get(key), str) for key in ("path", "type", "destination")):
        raise Rejected(400, "an item of paths needs the texts path, type and destination")
    path = path_of(item["path"])
    if not is_below(path, call.state.roots):
        raise Rejected(403, OUTSIDE)
    if item["type"] not in ("object", "common_prefix"):
        raise Rejected(400, "type of an item is object or common_prefix")
    destination, is_folder = item["destination"], item["type"] == "common_prefix"
    if not is_folder:
        require_path(destination)
    elif destination and not destination.endswith("/"):
        destination += "/"
    return Source(path=path, destination=destination, is_folder=is_folder)


def require_kind(path: Path, *, is_folder: bool) -> None:
    """Refuse what is not there or is something else; where it would be is not said.

    Raises:
        Rejected: when it is.
    """
    with reading_file(str(path)):
        found = path.is_dir() if is_folder else path.is_file()
    if not found:
        raise Rejected(404, f"what is to be imported is no {'folder' if is_folder else 'file'}, or not there")


def path_of(url: str) -> Path:
    """Where a URL leads on this machine, links followed.

    Raises:
        Rejected: when it is none that names a file or folder.
    """
    try:
        address = urlsplit(url)
        path = Path(unquote(address.path)).resolve()
    except (ValueError, OSError, RuntimeError) as error:  # no URL; no path, such as one with NUL; links in a circle
        raise Rejected(400, "path of an item is no address of a file or folder") from error
    if address.scheme not in ("file", "local") or address.netloc not in ("", "localhost"):
        raise Rejected(400, "only file:///... can be imported")
    return path


def is_below(path: Path, roots: tuple[Path, ...]) -> bool:
    """Whether a path, links followed, lies in one of some folders."""
    try:
        return any(path.resolve().is_relative_to(root.resolve()) for root in roots)
    except (OSError, RuntimeError):
        return False


def require_within(folder: Path, roots: tuple[Path, ...]) -> None:
    """Refuse a folder with a link in it that leads out of the folders that may be imported from.

    Raises:
        Rejected: when there is one.
    """
    folders = [str(folder)]
    while folders:
        with reading_file(folders[-1]), os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.is_symlink() and not is_below(Path(entry.path), roots):
                    raise Rejected(403, OUTSIDE)
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)


def carry_out(call: Call, sources: list[Source], signed: Signed, status: dict[str, Any]) -> None:
    """Read all sources and commit what they change, as one commit or none."""
    try:
        if next(call.lake.changes(call.repository, call.branch), None) is not None:
            raise DirtyBranch(call.repository, call.branch)
        changes: dict[str, Row | None] = {}
        for source in sources:
            changes.update(changes_by(call, source, status))
        made = commit(call, sources, signed, changes)
        status["commit"] = shapes.commit(call.lake.stored(call.repository, made.id))
    except EngineError as error:
        status["error"] = {"message": error.fact}
    finally:
        if "commit" not in status:
            status.setdefault("error", {"message": "internal error; the server's log says more"})
        status.update(completed=True, update_time=now())


def changes_by(call: Call, source: Source, status: dict[str, Any]) -> Changes:
    """What a source changes. A folder takes the place of all that is below its destination, as in lakeFS."""

    def count(_: int) -> None:
        status.update(update_time=now(), ingested_objects=status["ingested_objects"] + 1)
        if status.get("cancelled"):
            raise Rejected(409, "the import was cancelled")

    require_kind(source.path, is_folder=source.is_folder)
    if not source.is_folder:
        digest, size = keep_path(call.lake.objects, source.path)
        count(size)
        return {source.destination: [source.destination, digest, size, int(time.time())]}
    require_within(source.path, call.state.roots)
    kept = keep_files(call.lake.objects, found_in(source.path, source.destination), count)
    there = call.lake.rows_below(call.repository, call.branch, source.destination)
    return changes_to(there, kept, delete=True)


def commit(call: Call, sources: list[Source], signed: Signed, changes: Changes) -> Commit:
    """Commit what was imported. If a hook says no, nothing of it stays staged."""
    try:
        made = commit_all(call.lake, call.repository, call.branch, signed, changes)
    except HookRefused:
        for source in sources:
            drop = call.lake.reset_below if source.is_folder else call.lake.reset_path
            drop(call.repository, call.branch, source.destination)
        raise
    if made is None:
        raise NothingToCommit("all that was to be imported is there already", hint="")
    return made


def import_status(call: Call) -> Response:
    """``GET .../branches/B/import``."""
    return document({key: value for key, value in known(call).items() if key != "cancelled"})


def cancel_import(call: Call) -> Response:
    """``DELETE .../branches/B/import``: nothing of it is committed, if it is not by then."""
    status = known(call)
    if status["completed"]:
        raise Rejected(409, "the import has ended")
    status["cancelled"] = True
    return nothing()


def known(call: Call) -> dict[str, Any]:
    """The status of an import."""
    found = call.state.imports.get(f"{call.repository}/{call.branch}/{call.wanted('id')}")
    if found is None:
        raise Rejected(404, "there is no import with that id")
    return found


def now() -> str:
    """The time as lakeFS writes it."""
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")
