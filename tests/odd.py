"""A lake server that misbehaves as it is told, over a real socket: for what a well-behaved one never shows."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from engine.lake.credentials import Credentials
from engine.lake.lakefs import Server
from engine.lake.remote import RemoteLake
from engine.store.objects import ObjectStore

Reply = Callable[[BaseHTTPRequestHandler, bytes], None]


def reply(status: int, body: bytes = b"{}", **headers: str) -> Reply:
    """A whole answer."""

    def send(handler: BaseHTTPRequestHandler, _: bytes) -> None:
        handler.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(body)), **headers}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)

    return send


def hang_up(handler: BaseHTTPRequestHandler, _: bytes) -> None:
    """No answer at all."""
    handler.connection.shutdown(2)


@dataclass
class Odd:
    """A real server that answers each request with the next of its replies, and notes what it was asked."""

    replies: list[Reply] = field(default_factory=list)
    asked: list[tuple[str, str, bytes, dict[str, str]]] = field(default_factory=list)
    address: str = ""

    def lake(self, folder: Path, patience: float = 20.0) -> RemoteLake:
        """The client of this server."""
        found = Credentials(endpoint=self.address, access_key_id="id", secret_access_key="hidden")
        lake = RemoteLake(Server(found, patience), ObjectStore(folder / "objects"), folder / "cache")
        lake._presigns = False
        return lake


@contextmanager
def odd_server(context: ssl.SSLContext | None = None) -> Iterator[Odd]:
    """A server that answers with ``seen.replies``, with a certificate when ``context`` has one."""
    seen = Odd()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            if self.headers.get("Transfer-Encoding") == "chunked":
                body = b""
                while size := int(self.rfile.readline(), 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
            else:
                body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            seen.asked.append((self.command, self.path, body, {k.lower(): v for k, v in self.headers.items()}))
            seen.replies.pop(0)(self, body)

        do_GET = do_POST = do_PUT = do_DELETE = answer  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    class Quiet(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:  # clients that go away are what is tested
            pass

    server = Quiet(("127.0.0.1", 0), Handler)
    if context:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    seen.address = f"http{'s' if context else ''}://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield seen
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


REPOSITORIES = json.dumps({"pagination": {"has_more": False}, "results": []}).encode()
STATS = {"path": "a", "path_type": "object", "physical_address": "x", "checksum": "c", "mtime": 1, "size_bytes": 5}
