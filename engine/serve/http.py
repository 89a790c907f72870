"""V2 over HTTP/1.1: one connection is one protocol of the event loop, parsed by httptools.

Inference goes straight from the parser to the data plane; everything else is a page (``engine.serve.pages``).
Answers leave in the order of their requests, also when a client sends the next before it has the last answer.
"""

from __future__ import annotations

import asyncio
import sys
import time
import zlib
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import httptools
import orjson

from engine.serve.boundary import attempt, fault
from engine.serve.model import InferenceAnswer, InferenceRequest, Rejected
from engine.serve.v2 import read_request, write_answer

if TYPE_CHECKING:
    from engine.serve.access import Gate
    from engine.serve.attention import Attention
    from engine.serve.dataplane import DataPlane
    from engine.serve.stats import Cells

JSON, BINARY = b"application/json", b"application/octet-stream"
MOST_HEADERS, LONGEST_HEAD, MOST_PIPELINED, MOST_CONNECTIONS = 100, 1 << 16, 32, 10_000
BODIES_HELD = 4
"""How many bodies of the largest size all connections together may have sent in part."""
HEAD_SECONDS, BODY_SECONDS, IDLE_SECONDS = 10.0, 30.0, 60.0
SWEEP_SECONDS = 1.0
LARGEST_BODY = 64 << 20
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
STATUS_LINES = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode()
    for status in HTTPStatus
    if status.value >= 200
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """An answer: a status, a body, and headers as they are sent."""

    status: int
    body: bytes
    kind: bytes = JSON
    headers: bytes = b""


@dataclass(slots=True)
class Asked:
    """A request as it was parsed. ``headers`` have lower-case names."""

    method: str
    path: str
    query: str
    headers: Mapping[bytes, bytes]
    body: bytes
    peer: str
    since: float


Answer = Callable[[Reply], None]


@dataclass(slots=True)
class Site:
    """What connections share: the data plane, who may come in, the limits, and all connections themselves.

    ``hosts``: the names by which this server goes, any when there is nothing. ``origin``: whose pages may ask from a
    browser. ``held``: bytes of bodies that are not complete.
    """

    plane: DataPlane
    gate: Gate
    cells: Cells
    pages: Callable[[Site, Asked, Answer], None]
    attention: Attention
    hosts: frozenset[str] | None = LOOPBACK
    largest_body: int = LARGEST_BODY
    origin: bytes = b""
    held: int = 0
    log: Callable[[Asked, int, int], None] | None = None
    connections: set[Connection] = field(default_factory=set)
    targets: dict[bytes, tuple[str, str]] = field(default_factory=dict)

    def target(self, url: bytes) -> tuple[str, str] | None:
        """The model and version of an inference URL; nothing for another."""
        found = self.targets.get(url)
        if found is None:
            found = inference_target(url)
            if found is not None and len(self.targets) < 1000:
                self.targets[url] = found
        return found

    def is_ours(self, host: bytes) -> bool:
        """Whether a ``Host`` header names this server: a page from elsewhere in a browser bears another name."""
        if self.hosts is None:
            return True
        name = host.decode("latin-1").lower()
        name = name[1 : name.find("]")] if name.startswith("[") else name.rpartition(":")[0] if ":" in name else name
        return name in self.hosts


def inference_target(url: bytes) -> tuple[str, str] | None:
    """``/v2/models/M[/versions/V]/infer`` -> (M, V)."""
    parts = url.partition(b"?")[0].decode("latin-1").split("/")
    if parts[:3] != ["", "v2", "models"] or parts[-1] not in ("infer", "generate") or "%" in url.decode("latin-1"):
        return None
    if len(parts) == 5 and parts[3]:
        return parts[3], ""
    if len(parts) == 7 and parts[3] and parts[4] == "versions" and parts[5]:
        return parts[3], parts[5]
    return None


class Connection(asyncio.Protocol):
    """One client."""

    def __init__(self, site: Site, loop: asyncio.AbstractEventLoop) -> None:
        self.site = site
        self.loop = loop
        self.deadline = time.monotonic() + HEAD_SECONDS
        self.waiting: deque[Slot] = deque()
        self.transport: Any = None
        self.peer = ""
        self._closing = False
        self._parser: Any = httptools.HttpRequestParser(self)
        self._reset()

    def _reset(self) -> None:
        self._url = b""
        self._headers: dict[bytes, bytes] = {}
        self._head = 0
        self._count = 0
        self._body: list[bytes] = []
        self._length = 0
        self._in_body = False

    # -- what asyncio calls ---------------------------------------------------------------------------------------

    def connection_made(self, transport: Any) -> None:
        """A client is there."""
        self.transport = transport
        peer = transport.get_extra_info("peername")
        self.peer = str(peer[0]) if isinstance(peer, tuple) else ""
        if len(self.site.connections) >= MOST_CONNECTIONS:
            self._closing = True
            transport.abort()
            return
        self.site.connections.add(self)

    def connection_lost(self, _: Exception | None) -> None:
        """The client is gone; what it was to get goes nowhere."""
        self._closing = True
        self._let_go()
        self.site.connections.discard(self)

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        if self._closing:
            return
        if not self._in_body:
            self._head += len(data)
        try:
            self._parser.feed_data(data)
        except Rejected as error:
            self._turn_away(error.status, error.fact)
        except httptools.HttpParserUpgrade:
            self._turn_away(400, "this server speaks HTTP/1.1 only")
        except httptools.HttpParserError as error:
            cause = error.__context__
            if isinstance(cause, Rejected):
                self._turn_away(cause.status, cause.fact)
            else:
                self._turn_away(400, "this is no HTTP request")
        else:
            if not self._in_body and self._head > LONGEST_HEAD:
                self._turn_away(431, "the head of the request is too long")

    def eof_received(self) -> bool:
        """The client sends nothing more; it still gets what it asked for."""
        return bool(self.waiting)

    def pause_writing(self) -> None:
        """The client takes nothing; read nothing from it, and do not wait for ever."""
        self.transport.pause_reading()
        self.deadline = time.monotonic() + BODY_SECONDS

    def resume_writing(self) -> None:
        """The client takes answers again."""
        self.transport.resume_reading()

    # -- what the parser calls ------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """A request begins."""
        self._reset()
        self._head = 1
        self.deadline = time.monotonic() + HEAD_SECONDS

    def on_url(self, url: bytes) -> None:
        """A part of the URL."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header."""
        self._count += 1
        if self._count > MOST_HEADERS:
            raise Rejected(431, f"the request has more than {MOST_HEADERS} headers")
        self._headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        """The head is there."""
        self._in_body = True
        self._head = 0
        self.deadline = time.monotonic() + BODY_SECONDS
        headers = self._headers
        length = headers.get(b"content-length")
        if length is not None and int(length) > self.site.largest_body:
            raise Rejected(413, f"the body: expected at most {self.site.largest_body} bytes, received {int(length)}")
        if headers.get(b"expect", b"").lower() == b"100-continue":
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, data: bytes) -> None:
        """A part of the body."""
        self._length += len(data)
        self.site.held += len(data)
        if self._length > self.site.largest_body:
            raise Rejected(413, f"the body: expected at most {self.site.largest_body} bytes, received more")
        if self.site.held > BODIES_HELD * self.site.largest_body:
            raise Rejected(503, "too many large requests at once")
        self._body.append(data)

    def on_message_complete(self) -> None:
        """The request is there."""
        self._in_body = False
        now = time.monotonic()
        self.deadline = now + IDLE_SECONDS
        self.site.attention.asked(now)
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._let_go()
        slot = Slot(self, self._parser.should_keep_alive() and not self.site.plane.draining)
        self.waiting.append(slot)
        if len(self.waiting) >= MOST_PIPELINED:
            self.transport.pause_reading()
        method = self._parser.get_method()
        if self.site.log is not None:
            slot.asked = self._asked(method, body, now)
        slot.bare = method == b"HEAD"
        attempt(lambda: self._answer(slot, method, body, now), lambda error: slot.refuse(fault(error)))

    def _let_go(self) -> None:
        """The body is complete, or never will be."""
        self.site.held -= self._length
        self._length = 0
        self._body = []

    # -- answering ------------------------------------------------------------------------------------------------

    def _answer(self, slot: Slot, method: bytes, body: bytes, now: float) -> None:
        target = None
        try:
            if not self.site.is_ours(self._headers.get(b"host", b"localhost")):
                raise Rejected(421, "this server does not go by that name", kind="host")
            if method == b"POST":
                target = self.site.target(self._url)
            if target is not None:
                self.site.gate.let_in("infer", self._headers, self.peer)
                self._infer(slot, target, body)
            else:
                self._page(slot, method, body, now)
        except Rejected as error:
            self.site.plane.count_refused(target[0] if target is not None else "", error)
            slot.refuse(error)

    def _infer(self, slot: Slot, target: tuple[str, str], body: bytes) -> None:
        headers = self._headers
        header = headers.get(b"inference-header-content-length")
        if header is not None and not (header.isdigit() and len(header) < 12):
            raise Rejected(400, "Inference-Header-Content-Length: expected a number of bytes")
        if headers.get(b"content-encoding", b"identity") != b"identity":
            body = unpacked(body, headers[b"content-encoding"], self.site.largest_body)
        request = read_request(body, None if header is None else int(header))
        request.key = headers.get(b"engine-sticky", b"").decode("latin-1") or request.id
        slot.request = request
        self.site.plane.infer(target[0], target[1], request, slot.done)

    def _page(self, slot: Slot, method: bytes, body: bytes, now: float) -> None:
        self.site.pages(self.site, self._asked(method, body, now), slot.reply)

    def _asked(self, method: bytes, body: bytes, now: float) -> Asked:
        path, _, query = self._url.decode("latin-1").partition("?")
        return Asked(method.decode(), path, query, self._headers, body, self.peer, now)

    def send(self) -> None:
        """Send the answers that are next in line."""
        parts = []
        waiting = self.waiting
        keep = True
        full = len(waiting) >= MOST_PIPELINED
        while waiting and waiting[0].data is not None and keep:
            slot = waiting.popleft()
            parts.append(slot.data or b"")
            keep = slot.keep_alive
        if not parts or self._closing:
            return
        self.transport.write(parts[0] if len(parts) == 1 else b"".join(parts))
        self.site.attention.answered()
        if full:
            self.transport.resume_reading()
        if not keep:
            self.end()

    def end_idle(self) -> None:
        """Close the connection unless a request has begun, or an answer is owed."""
        if not self.is_busy:
            self.end()

    @property
    def is_busy(self) -> bool:
        """Whether a request has begun, or an answer is owed."""
        return bool(self.waiting or self._in_body or self._head)

    def end(self) -> None:
        """Close the connection once everything is sent."""
        self._closing = True
        self.transport.close()

    def check(self, now: float) -> None:
        """End the connection when its client is too slow, or has been silent for too long."""
        if now < self.deadline or self._closing:
            return
        if self.waiting:
            self.deadline = now + IDLE_SECONDS
            if self.transport.get_write_buffer_size():
                self._closing = True
                self.transport.abort()
        elif self._in_body or self._head:
            self._turn_away(408, "the request did not come in time")
        else:
            self.end()

    def _turn_away(self, status: int, fact: str) -> None:
        """Answer what cannot be a request, after what is still owed, and close."""
        if self._closing:
            return
        self.site.cells.add("engine_refused", "", "protocol", str(status))
        slot = Slot(self, keep_alive=False)
        self.waiting.append(slot)
        slot.refuse(Rejected(status, fact))
        self._in_body = False
        self._let_go()
        if not self._closing:
            self.transport.pause_reading()


class Slot:
    """The place of one answer in the order of a connection's answers."""

    __slots__ = ("asked", "bare", "connection", "data", "keep_alive", "request")

    def __init__(self, connection: Connection, keep_alive: bool) -> None:
        self.connection = connection
        self.keep_alive = keep_alive
        self.asked: Asked | None = None
        self.bare = False
        self.data: bytes | None = None
        self.request: InferenceRequest | None = None

    def done(self, answer: InferenceAnswer | Rejected) -> None:
        """An inference request has its answer."""
        if isinstance(answer, Rejected):
            self.refuse(answer)
            return
        request = self.request
        assert request is not None
        found = attempt(lambda: write_answer(answer, request), fault)
        if isinstance(found, Rejected):
            self.refuse(found)
            return
        body, header = found
        extra = b"" if header is None else b"Inference-Header-Content-Length: %d\r\n" % header
        self.data = b"".join(
            (
                STATUS_LINES[200],
                b"Content-Type: ",
                JSON if header is None else BINARY,
                b"\r\nContent-Length: %d\r\nengine-prediction: " % len(body),
                answer.prediction.encode(),
                b"\r\nengine-model: %s:%d\r\nengine-run: " % (answer.model.encode(), answer.version),
                answer.run.encode(),
                b"\r\n",
                extra,
                self.connection.site.origin,
                b"\r\n" if self.keep_alive else b"Connection: close\r\n\r\n",
                body,
            )
        )
        self.sent(200)

    def sent(self, status: int) -> None:
        """The answer is there: send what is next in line."""
        log = self.connection.site.log
        if log is not None and self.asked is not None:
            log(self.asked, status, len(self.data or b""))
        self.connection.send()

    def refuse(self, why: Rejected) -> None:
        """Answer that there will be no prediction."""
        headers = b"Retry-After: 1\r\n" if why.status in (429, 503) else b""
        if why.status == 401:
            headers = b"WWW-Authenticate: Bearer\r\n"
        self.reply(Reply(status=why.status, body=orjson.dumps({"error": str(why)}), headers=headers))

    def reply(self, reply: Reply) -> None:
        """Answer."""
        self.data = b"".join(
            (
                STATUS_LINES[reply.status],
                b"Content-Type: ",
                reply.kind,
                b"\r\nContent-Length: %d\r\n" % len(reply.body),
                reply.headers,
                self.connection.site.origin,
                b"\r\n" if self.keep_alive else b"Connection: close\r\n\r\n",
                b"" if self.bare else reply.body,
            )
        )
        self.sent(reply.status)


def unpacked(body: bytes, encoding: bytes, most: int) -> bytes:
    """A compressed body, as it was before.

    Raises:
        Rejected: for an encoding that is not known, a broken body, or one that grows beyond ``most``.
    """
    if encoding not in (b"gzip", b"deflate"):
        raise Rejected(415, "Content-Encoding: expected gzip or deflate")
    engine = zlib.decompressobj(47)
    try:
        data = engine.decompress(body, most + 1)
    except zlib.error as error:
        raise Rejected(400, "the body is not what its Content-Encoding says") from error
    if len(data) > most:
        raise Rejected(413, f"the body: expected at most {most} bytes, received more")
    return data


class AccessLog:
    """A JSON line on standard error for each request: nothing of what was in it."""

    def __call__(self, asked: Asked, status: int, size: int) -> None:
        """Note a request that was answered with ``size`` bytes."""
        milliseconds = round(1000 * (time.monotonic() - asked.since), 3)
        line = {
            "time": time.time(), "peer": asked.peer, "method": asked.method, "path": asked.path[:200],
            "status": status, "bytes": size, "milliseconds": milliseconds,
        }  # fmt: skip
        sys.stderr.write(orjson.dumps(line).decode() + "\n")


async def sweep(site: Site) -> None:
    """Look at every connection now and then."""
    while True:
        await asyncio.sleep(SWEEP_SECONDS)
        now = time.monotonic()
        for connection in list(site.connections):
            connection.check(now)
        site.cells.set("engine_connections", "http", value=len(site.connections))
