"""Uploads: from the socket into the store, block by block, as a form or as they are."""

from __future__ import annotations

import io
import time
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, suppress
from typing import Any, TypeVar

import anyio
import anyio.to_thread
from python_multipart.exceptions import FormParserError, MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from engine.errors import AlreadyExists, writing
from engine.lake.embedded.lake import EmbeddedLake
from engine.lake.protocol import Entry, ObjectNotFound
from engine.lake.rest import shapes
from engine.lake.rest.calls import Call, Rejected, document
from engine.lake.rest.state import State
from engine.store.objects import Writer
from engine.store.packs import SMALL

T = TypeVar("T")
BLOCK = 1 << 20
META = "x-lakefs-meta-"


class Incoming:
    """Bytes on their way into the store: kept in memory while they are few, then written and hashed as they come."""

    def __init__(self, lake: EmbeddedLake, largest: int) -> None:
        self.lake = lake
        self.largest = largest
        self.digest = ""
        self.size = 0
        self._held = bytearray()
        self._stack = ExitStack()
        self._writer: Writer | None = None

    async def add(self, data: bytes) -> None:
        """Take more of them.

        Raises:
            Rejected: when they are too many.
        """
        self.size += len(data)
        if self.size > self.largest:
            raise Rejected(413, f"the object is larger than {self.largest} bytes")
        self._held += data
        if len(self._held) >= BLOCK:
            await anyio.to_thread.run_sync(self._write)

    async def finish(self) -> None:
        """They have all come: keep them."""
        await anyio.to_thread.run_sync(self._finish)

    def _write(self) -> None:
        with writing(self.lake.objects.root):  # the writer's own translation ends where its block does
            if self._writer is None:
                self._writer = self._stack.enter_context(self.lake.writer())
            block, self._held = bytes(self._held), bytearray()
            self._writer.write(block)

    def _finish(self) -> None:
        if self._writer is None and self.size <= SMALL:
            self.digest, _ = self.lake.keep(io.BytesIO(bytes(self._held)))
            return
        self._write()
        self._stack.close()
        assert self._writer is not None
        self.digest = self._writer.digest

    async def give_up(self) -> None:
        """They have not all come: forget them."""
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self._give_up)

    def _give_up(self) -> None:
        gone = Rejected(400, "the rest of the body did not come")
        self._stack.__exit__(type(gone), gone, None)


async def blocks_of(request: Request, patience: float) -> AsyncIterator[bytes]:
    """A body's blocks.

    Raises:
        Rejected: when nothing came for too long, or the client went away.
    """
    stream = request.stream().__aiter__()
    while True:
        try:
            with anyio.fail_after(patience):
                block = await anext(stream, None)
        except TimeoutError as error:
            raise Rejected(408, f"nothing came for {patience:g} seconds", {"Connection": "close"}) from error
        except ClientDisconnect as error:
            raise Rejected(400, "the client went away") from error
        if block is None:
            return
        if block:
            yield block


async def receive(request: Request, lake: EmbeddedLake, state: State) -> tuple[Incoming, str]:
    """Take in the object in a request's body; also its content type.

    Raises:
        Rejected: for a body that is too large, too slow, or no form though it says so.
    """
    if int(request.headers.get("content-length", "0")) > state.largest + BLOCK:
        raise Rejected(413, f"the object is larger than {state.largest} bytes")
    incoming = Incoming(lake, state.largest)
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    try:
        if kind == b"multipart/form-data":
            content_type = await receive_form(request, options.get(b"boundary", b""), incoming, state.patience)
        else:
            content_type = request.headers.get("content-type", "")
            async for block in blocks_of(request, state.patience):
                await incoming.add(block)
        await incoming.finish()
    finally:
        if not incoming.digest:
            await incoming.give_up()
    return incoming, content_type


async def receive_form(request: Request, boundary: bytes, incoming: Incoming, patience: float) -> str:
    """Take in the part ``content`` of a form; its content type."""
    form = Form()
    if not boundary:
        raise Rejected(400, "the form has no boundary")
    try:
        parser = MultipartParser(boundary, form.callbacks())
        async for block in blocks_of(request, patience):
            parser.write(block)
            for piece in form.taken():
                await incoming.add(piece)
    except (MultipartParseError, FormParserError) as error:
        raise Rejected(400, "the form cannot be read") from error
    if not form.ended:
        raise Rejected(400, "the form ends before its last boundary")
    if not form.found:
        raise Rejected(400, 'the form has no part "content"')
    return form.content_type


class Form:
    """Finds the first part ``content`` in a form, and lets go of its bytes as they come."""

    def __init__(self) -> None:
        self.found = False
        self.ended = False
        self.content_type = ""
        self._wanted = False
        self._headers: dict[bytes, bytes] = {}
        self._name = self._value = b""
        self._pieces: list[bytes] = []

    def callbacks(self) -> Any:
        """What the parser calls."""
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._field,
            "on_header_value": self._text,
            "on_header_end": self._header,
            "on_headers_finished": self._body,
            "on_part_data": self._data,
            "on_end": self._end,
        }

    def taken(self) -> list[bytes]:
        """What came since the last time."""
        pieces, self._pieces = self._pieces, []
        return pieces

    def _begin(self) -> None:
        self._headers, self._wanted = {}, False

    def _field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _text(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header(self) -> None:
        self._headers[self._name.lower()] = self._value
        self._name = self._value = b""

    def _body(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        self._wanted = options.get(b"name") == b"content" and not self.found
        if self._wanted:
            self.found = True
            self.content_type = self._headers.get(b"content-type", b"").decode("latin-1")

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._wanted:
            self._pieces.append(data[start:end])

    def _end(self) -> None:
        self.ended = True


async def in_thread(act: Callable[[], T]) -> T:
    """What ``act`` gives, without keeping others waiting."""
    return await anyio.to_thread.run_sync(act)


async def upload_object(request: Request, call: Call) -> Response:
    """``POST .../branches/B/objects``."""
    path, only_new = call.wanted("path"), call.only_new
    await in_thread(lambda: require_room(call, path, only_new=only_new))
    incoming, content_type = await receive(request, call.lake, call.state)
    wanted = Entry(
        path=path,
        digest=incoming.digest,
        size=incoming.size,
        time=int(time.time()),
        content_type=content_type,
        metadata={key.removeprefix(META): text(value) for key, value in call.headers.items() if key.startswith(META)},
    )
    made = await in_thread(lambda: call.lake.stage(call.repository, call.branch, wanted, only_new=only_new))
    return document(shapes.stats(made), 201)


def require_room(call: Call, path: str, *, only_new: bool) -> None:
    """Refuse an object that could not be staged, before all of it came."""
    call.lake.require_place(call.repository, call.branch, path)
    if only_new:
        with suppress(ObjectNotFound):
            call.lake.stat(call.repository, call.branch, path)
            raise AlreadyExists(f"an object is at {path!r} already", hint="choose another path")


def text(value: str) -> str:
    """A header's value, which clients write in UTF-8 if it is not ASCII."""
    data = value.encode("latin-1")
    try:
        return data.decode()
    except UnicodeDecodeError:
        return value


async def presigned_upload(request: Request, call: Call) -> Response:
    """``PUT /presigned/uploads/TOKEN``: what a signed address for an upload is for."""
    token = call.path["token"]
    waiting = call.state.waiting.get(token)
    allowed = call.state.allows(f"write {token}", call.query.get("expires", ""), call.query.get("signature", ""))
    if waiting is None or not allowed:
        raise Rejected(403, "the address is not signed by this server, was used, or is no longer valid")
    incoming, _ = await receive(request, call.lake, call.state)
    waiting.digest, waiting.size = incoming.digest, incoming.size
    return Response(headers={"ETag": f'"{incoming.digest}"'})
