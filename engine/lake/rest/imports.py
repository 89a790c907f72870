"""Importing files of this machine, from below the folders that the operator named."""

from __future__ import annotations

import os
import secrets
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from starlette.responses import Response

from engine.errors import EngineError
from engine.lake.embedded.folder import reading_file
from engine.lake.protocol import Commit
from engine.lake.rest import shapes
from engine.lake.rest.calls import Call, Rejected, document, nothing
from engine.lake.rest.refs import overrides_of

MOST_REMEMBERED = 1000
OUTSIDE = "only what lies below a folder of --import-root can be imported"


def start_import(call: Call) -> Response:
    """``POST .../branches/B/import``: what is to be imported, and the id under which to ask what became of it."""
    found = call.body.get("paths")
    if not isinstance(found, list) or not found:
        raise Rejected(400, "paths in the body is not a list of what to import")
    sources = [source_of(call, item) for item in found]
    call.lake.require_head(call.repository, call.branch)
    id = secrets.token_hex(10)
    status: dict[str, Any] = {"completed": False, "update_time": now(), "ingested_objects": 0}
    with call.state.lock:
        for name in list(call.state.imports)[:-MOST_REMEMBERED]:
            del call.state.imports[name]
        call.state.imports[f"{call.repository}/{call.branch}/{id}"] = status
    threading.Thread(target=carry_out, args=(call, sources, status), daemon=True).start()
    return document({"id": id}, 202)


def source_of(call: Call, item: Any) -> tuple[Path, str, bool]:
    """A file or folder to import, where it goes, and whether it is a folder.

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
    return path, item["destination"], item["type"] == "common_prefix"


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


def carry_out(call: Call, sources: list[tuple[Path, str, bool]], status: dict[str, Any]) -> None:
    """Put all sources and commit them."""
    try:
        for path, destination, is_folder in sources:
            require_kind(path, is_folder=is_folder)
            if is_folder:
                require_within(path, call.state.roots)
                status["ingested_objects"] += call.lake.put_folder(
                    call.repository, call.branch, destination, path
                ).files
            else:
                call.lake.put(call.repository, call.branch, destination, path)
                status["ingested_objects"] += 1
            status["update_time"] = now()
            if status.get("cancelled"):
                return
        made = commit(call)
        status["commit"] = shapes.commit(call.lake.stored(call.repository, made.id))
    except EngineError as error:
        status["error"] = {"message": error.fact}
    finally:
        status.update(completed=True, update_time=now())


def commit(call: Call) -> Commit:
    """Commit what was imported."""
    signed = overrides_of(call, "commit")
    return call.lake.commit_changes(call.repository, call.branch, signed, {})


def import_status(call: Call) -> Response:
    """``GET .../branches/B/import``."""
    return document(known(call))


def cancel_import(call: Call) -> Response:
    """``DELETE .../branches/B/import``: what was put so far stays staged."""
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
