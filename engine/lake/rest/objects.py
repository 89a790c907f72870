"""Objects: listing, reading, and all that is staged without a body of bytes."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from email.utils import formatdate
from functools import partial
from typing import Any, BinaryIO, TypeVar

from starlette.responses import Response, StreamingResponse
from starlette.types import Send

from engine.errors import EngineError
from engine.lake.embedded import tree
from engine.lake.protocol import Entry
from engine.lake.rest import shapes
from engine.lake.rest.calls import LATEST, MOST, Call, Rejected, document, nothing, page
from engine.lake.rest.state import SIGNED_FOR, Waiting

T = TypeVar("T")
BLOCK = 1 << 20
RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")


def list_objects(call: Call) -> Response:
    """``GET .../refs/REF/objects/ls``."""
    prefix, after, delimiter = (call.query.get(key, "") for key in ("prefix", "after", "delimiter"))
    if not delimiter and not call.flag("presign"):
        rows = call.lake.rows_below(call.repository, call.ref, prefix, after)
        return page(call, rows, bare(call, shapes.row_stats), tree.last_of)
    found = call.lake.list(call.repository, call.ref, prefix, after=after, delimiter=delimiter)
    shown = partial(signed_stats, call) if call.flag("presign") else shapes.stats
    return page(call, found, bare(call, shown), lambda item: item.path)


def bare(call: Call, shown: Callable[[T], dict[str, Any]]) -> Callable[[T], dict[str, Any]]:
    """``shown``, without what users wrote on objects where the call does not want it."""
    if call.flag("user_metadata", default=True):
        return shown
    return lambda item: {key: value for key, value in shown(item).items() if key != "metadata"}


def signed_stats(call: Call, item: Entry) -> dict[str, Any]:
    """``ObjectStats`` with an address that needs no key."""
    return shapes.stats(item) if item.is_prefix else shapes.stats(item, *shapes.signed_address(call, item))


def stat_object(call: Call) -> Response:
    """``GET .../refs/REF/objects/stat``."""
    item = call.lake.stat(call.repository, call.ref, call.wanted("path"))
    return document(signed_stats(call, item) if call.flag("presign") else shapes.stats(item))


def underlying_properties(call: Call) -> Response:
    """``GET .../refs/REF/objects/underlyingProperties``."""
    call.lake.stat(call.repository, call.ref, call.wanted("path"))
    return document({"storage_class": None})


def get_object(call: Call) -> Response:
    """``GET .../refs/REF/objects``."""
    item = call.lake.stat(call.repository, call.ref, call.wanted("path"))
    if call.flag("presign"):
        address, _ = shapes.signed_address(call, item)
        return Response(status_code=302, headers={"Location": address})
    return bytes_of(call, item)


def head_object(call: Call) -> Response:
    """``HEAD .../refs/REF/objects``."""
    item = call.lake.stat(call.repository, call.ref, call.wanted("path"))
    status, start, end = wanted_range(call, item)
    return Response(status_code=status, headers=headers_of(item, status, start, end))


def presigned_object(call: Call) -> Response:
    """``GET /presigned/objects/DIGEST``: what a signed address is for."""
    digest = call.path["digest"]
    if not call.state.allows(f"read {digest}", call.query.get("expires", ""), call.query.get("signature", "")):
        raise Rejected(403, "the address is not signed by this server, or no longer valid")
    return bytes_of(call, Entry(path=digest, digest=digest, size=call.lake.objects.size(digest)))


def bytes_of(call: Call, item: Entry) -> Response:
    """An object's bytes, or the stretch of them that is asked for."""
    if {item.digest, "*"} & tags_in(call.headers.get("if-none-match", "")):
        return Response(status_code=304, headers={"ETag": f'"{item.digest}"'})
    status, start, end = wanted_range(call, item)
    stream = call.lake.read(item)
    if start:
        stream.seek(start)
    elif end < item.size:
        call.lake.objects.map(item.digest).release()  # what is not read to its end is not hashed on the way
    headers = headers_of(item, status, start, end)
    return Bytes(blocks(stream, end - start), status, headers)


def tags_in(header: str) -> set[str]:
    """The digests in a header that lists entity tags, weak ones among them."""
    return {tag.strip().removeprefix("W/").strip('"') for tag in header.split(",")}


def wanted_range(call: Call, item: Entry) -> tuple[int, int, int]:
    """The status, the first byte and the one behind the last that a ``Range`` header asks for.

    Raises:
        Rejected: when there is no such stretch.
    """
    found = RANGE.fullmatch(call.headers.get("range", ""))
    is_other = call.headers.get("if-range", f'"{item.digest}"') != f'"{item.digest}"'
    if found is None or found[0] == "bytes=-" or is_other:
        return 200, 0, item.size
    first = int(found[1]) if found[1] else max(0, item.size - int(found[2]))
    last = min(int(found[2]), item.size - 1) if found[1] and found[2] else item.size - 1
    if first > last or first >= item.size:
        raise Rejected(416, f"the object has {item.size} bytes", {"Content-Range": f"bytes */{item.size}"})
    return 206, first, last + 1


def headers_of(item: Entry, status: int, start: int, end: int) -> dict[str, str]:
    """What is said of an object beside its bytes."""
    found = {
        "Content-Length": str(end - start),
        "Content-Type": one_line(item.content_type) or "application/octet-stream",
        "ETag": f'"{item.digest}"',
        "Last-Modified": formatdate(min(max(item.time, 0), LATEST), usegmt=True),
        "Accept-Ranges": "bytes",
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "sandbox",
    }
    if status == 206:
        found["Content-Range"] = f"bytes {start}-{end - 1}/{item.size}"
    return found


def one_line(text: str) -> str:
    """A value that may stand in a header."""
    return text if text.isascii() and text.isprintable() else ""


def blocks(stream: BinaryIO, left: int) -> Iterator[bytes]:
    """The next bytes of a stream."""
    with closing(stream):
        while left > 0 and (block := stream.read(min(BLOCK, left))):
            left -= len(block)
            yield block


class Bytes(StreamingResponse):
    """An object's bytes as they are read. Altered ones break the connection off: the client sees what is missing."""

    async def stream_response(self, send: Send) -> None:
        """Send them."""
        try:
            await super().stream_response(send)
        except EngineError as error:
            logging.getLogger("uvicorn.error").error("broke off an answer: %s", error)


# -- staging ------------------------------------------------------------------------------------------


def delete_object(call: Call) -> Response:
    """``DELETE .../branches/B/objects``. Whether it was there makes no difference, as with lakeFS."""
    path = call.wanted("path")
    call.lake.require_place(call.repository, call.branch, path)
    call.lake.stage_removals(call.repository, call.branch, [path])
    return nothing()


def delete_objects(call: Call) -> Response:
    """``POST .../branches/B/objects/delete``."""
    paths = call.body.get("paths")
    if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
        raise Rejected(400, "paths in the body is not a list of texts")
    if len(paths) > MOST:
        raise Rejected(400, f"paths in the body has more than {MOST} items")
    call.lake.stage_removals(call.repository, call.branch, paths)
    return document({"errors": []})


def copy_object(call: Call) -> Response:
    """``POST .../branches/B/objects/copy``: no byte is copied."""
    source = call.lake.stat(call.repository, call.text("src_ref", call.branch), call.text("src_path"))
    wanted = replace(source, path=call.wanted("dest_path"), time=int(time.time()))
    return document(shapes.stats(call.lake.stage(call.repository, call.branch, wanted)), 201)


def update_metadata(call: Call) -> Response:
    """``PUT .../branches/B/objects/stat/user_metadata``."""
    item = call.lake.stat(call.repository, call.branch, call.wanted("path"))
    call.lake.stage(call.repository, call.branch, replace(item, metadata=call.texts("set")))
    return Response(status_code=201)


# -- an address first, the link afterwards ------------------------------------------------------------


def get_physical_address(call: Call) -> Response:
    """``GET .../branches/B/staging/backing``: where an upload may go, once."""
    path = call.wanted("path")
    call.lake.require_place(call.repository, call.branch, path)
    expires = time.time() + SIGNED_FOR
    token = call.state.issue(Waiting(repository=call.repository, branch=call.branch, path=path, expires=expires))
    found: dict[str, object] = {"physical_address": f"{shapes.SCHEME}uploads/{token}"}
    if call.flag("presign"):
        query, ends = call.state.sign(f"write {token}")
        address = f"{call.address}/presigned/uploads/{token}?{query}"
        found.update(presigned_url=address, presigned_url_expiry=ends)
    return document(found)


def link_physical_address(call: Call) -> Response:
    """``PUT .../branches/B/staging/backing``: stage what was uploaded to an address that this server gave."""
    staging = call.body.get("staging")
    address = staging.get("physical_address") if isinstance(staging, dict) else None
    if not isinstance(address, str):
        raise Rejected(400, "staging in the body has no physical_address")
    return document(shapes.stats(linked(call, address)))


def stage_object(call: Call) -> Response:
    """``PUT .../branches/B/objects``: the same under its old name."""
    return document(shapes.stats(linked(call, call.text("physical_address"))), 201)


def linked(call: Call, address: str) -> Entry:
    """Stage what lies at an address, which is good for one link.

    Raises:
        Rejected: when this server did not give it for this place, or nothing was uploaded there.
    """
    wanted = Entry(
        path=call.wanted("path"),
        time=call.time("mtime") or int(time.time()),
        content_type=call.text("content_type", ""),
        metadata=call.texts("user_metadata") or call.texts("metadata"),
    )
    size, only_new = call.number("size_bytes"), call.only_new
    with call.state.lock:
        waiting = call.state.waiting.pop(address.removeprefix(f"{shapes.SCHEME}uploads/"), None)
    place = (call.repository, call.branch, wanted.path)
    if waiting is None or (waiting.repository, waiting.branch, waiting.path) != place or not waiting.digest:
        raise Rejected(400, "the address was not given by this server for this path, was used, or got no bytes")
    if size not in (None, waiting.size):
        raise Rejected(400, f"size_bytes in the body is not {waiting.size}, the size of what was uploaded")
    wanted = replace(wanted, digest=waiting.digest, size=waiting.size)
    return call.lake.stage(call.repository, call.branch, wanted, only_new=only_new)
