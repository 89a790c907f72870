"""Our values in the shapes of lakeFS' API."""

from __future__ import annotations

from typing import Any

from engine.lake.embedded import tree
from engine.lake.embedded.book import Stored
from engine.lake.embedded.tree import Row
from engine.lake.protocol import Difference, Entry, Repository
from engine.lake.rest.calls import Call

SCHEME = "local://"
NOTHING: dict[str, Any] = {}


def repository(item: Repository) -> dict[str, Any]:
    """``Repository``."""
    return {
        "id": item.name,
        "creation_date": item.time,
        "default_branch": item.default_branch,
        "storage_namespace": f"{SCHEME}{item.name}",
        "storage_id": "",
        "read_only": False,
    }


def ref(item: tuple[str, str]) -> dict[str, Any]:
    """``Ref``."""
    return {"id": item[0], "commit_id": item[1]}


def commit(stored: Stored) -> dict[str, Any]:
    """``Commit``."""
    item = stored.commit
    return {
        "id": item.id,
        "parents": list(item.parents),
        "committer": item.author,
        "message": item.message,
        "creation_date": item.time,
        "meta_range_id": stored.tree,
        "metadata": dict(item.metadata),
        "generation": stored.generation,
        "version": 1,
    }


def stats(item: Entry, address: str = "", expires: int | None = None) -> dict[str, Any]:
    """``ObjectStats``."""
    if item.is_prefix:
        return prefix(item.path)
    found: dict[str, Any] = {
        "path": item.path,
        "path_type": "object",
        "physical_address": address or f"{SCHEME}sha256/{item.digest}",
        "checksum": item.digest,
        "size_bytes": item.size,
        "mtime": item.time,
        "content_type": item.content_type or "application/octet-stream",
        "metadata": dict(item.metadata),
    }
    return found if expires is None else {**found, "physical_address_expiry": expires}


def row_stats(row: Row) -> dict[str, Any]:
    """``ObjectStats`` of an object that nobody needs in another form."""
    more = row[tree.MORE] if len(row) > tree.MORE else NOTHING
    digest = row[tree.DIGEST]
    return {
        "path": row[tree.PATH],
        "path_type": "object",
        "physical_address": f"{SCHEME}sha256/{digest}",
        "checksum": digest,
        "size_bytes": row[tree.SIZE],
        "mtime": row[tree.TIME],
        "content_type": more.get("type", "application/octet-stream"),
        "metadata": more.get("metadata", NOTHING),
    }


def prefix(path: str) -> dict[str, Any]:
    """``ObjectStats`` of all objects that begin alike."""
    return {
        "path": path,
        "path_type": "common_prefix",
        "physical_address": "",
        "checksum": "",
        "mtime": 0,
        "size_bytes": 0,
    }


def difference(item: Difference) -> dict[str, Any]:
    """``Diff``."""
    return {"type": item.change, "path": item.path, "path_type": "object", "size_bytes": item.size}


def signed_address(call: Call, item: Entry) -> tuple[str, int]:
    """An address at which an object can be had without a key for some time, and when it ends."""
    query, expires = call.state.sign(f"read {item.digest}")
    return f"{call.address}/presigned/objects/{item.digest}?{query}", expires
