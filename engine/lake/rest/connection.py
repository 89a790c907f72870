"""A connection on which the head of a request, too, may be neither endless nor slow."""

from __future__ import annotations

from asyncio import TimerHandle, Transport
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

LONGEST_HEAD = 1 << 16


class Connection(HttpToolsProtocol):
    """uvicorn's connection, which by itself waits for the rest of a head for ever, and keeps all of it in memory."""

    def __init__(self, *given: Any, **more: Any) -> None:
        super().__init__(*given, **more)
        self.patience: float = self.config.app.state.patience  # type: ignore[union-attr]
        self._timer: TimerHandle | None = None  # runs while a head is awaited
        self._head = 0

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        """Wait for the first head."""
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        self._have_head()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """The first byte of a head came."""
        super().on_message_begin()
        self._await_head()

    def on_headers_complete(self) -> None:
        """The last byte of a head came."""
        self._have_head()
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        awaited = self._timer
        super().data_received(data)
        if self._timer is not None and self._timer is awaited:
            self._head += len(data)
            if self._head > LONGEST_HEAD:
                self._turn_away(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "the head of the request is too long")

    def send_400_response(self, msg: str) -> None:
        """Answer what is no request."""
        self._turn_away(HTTPStatus.BAD_REQUEST, msg)

    def _await_head(self) -> None:
        self._have_head()
        self._head = 0
        self._timer = self.loop.call_later(self.patience, self._lose_patience)

    def _have_head(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _lose_patience(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self._timer = self.loop.call_later(self.patience, self._lose_patience)  # it waits for us
        else:
            self._turn_away(HTTPStatus.REQUEST_TIMEOUT, "the head of the request did not come in time")

    def _turn_away(self, status: HTTPStatus, message: str) -> None:
        self._have_head()
        body = f'{{"message":"{message}"}}'
        head = f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: application/json\r\n"
        if not self.transport.is_closing():
            self.transport.write(
                f"{head}content-length: {len(body)}\r\nconnection: close\r\n\r\n{body}".encode("ascii")
            )
            self.transport.close()
