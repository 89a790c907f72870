"""The one door to lakeFS: requests through the pool, the keys and the certificates of ``lakefs-client``.

That client is named by this project's user; its maintainers have ended it in favour of another. It is imported here
and nowhere else, so to replace it is to replace this module. Three of its habits are why requests go to its pool and
not through its methods: those hold whole bodies in memory, leave temporary files behind, and check the type of
every field of every listed object, which takes ten times as long as to read them.
"""

from __future__ import annotations

import io
import os
import random
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, Any, cast
from urllib.parse import quote, urlencode, urlsplit

import lakefs_client
import orjson
import urllib3

from engine.errors import EngineError, LakeUnavailable, UsageError
from engine.lake.credentials import API, Credentials
from engine.lake.protocol import LakeDenied

CONNECT, READ = 5.0, 120.0
PATIENCE = 60.0  # seconds, for a server that says that it is busy
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 10.0
RESETS = 3
BUSY = frozenset({423, 429, 503})
LOCKED = ("currently locked", "branch is locked", "too many requests")
DENIED = frozenset({401, 403})
NOWHERE = frozenset({404, 405})
SAFE = frozenset({"GET", "HEAD", "PUT", "DELETE"})  # to ask again does no harm
NEVER_ARRIVED = (urllib3.exceptions.NewConnectionError, urllib3.exceptions.ConnectTimeoutError)
MOST_CONNECTIONS = 128  # each one more would be closed after use, with a warning on standard error
NO_PART = re.compile(r"\.{0,2}|.*/.*", re.DOTALL)  # what would change which address it is a part of
SHOWN = 300


class Answered(UsageError):
    """The server answered with a status that is an error."""

    def __init__(self, status: int, message: str, *, place: str = "") -> None:
        self.status = status
        super().__init__(message, place=place)


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """A request. A ``body`` that is a stream is sent as it is read."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes | IO[bytes] | None = None


class Server:
    """A lakeFS server, asked through the client's pool."""

    def __init__(self, credentials: Credentials, patience: float = PATIENCE) -> None:
        self.credentials = credentials
        self.patience = patience
        configuration = lakefs_client.Configuration(
            host=credentials.endpoint + API,
            username=credentials.access_key_id,
            password=credentials.secret_access_key,
            ssl_ca_cert=os.environ.get("SSL_CERT_FILE") or os.environ.get("REQUESTS_CA_BUNDLE"),
        )
        configuration.connection_pool_maxsize = MOST_CONNECTIONS
        self._base = configuration.host
        self._auth = configuration.get_basic_auth_token()
        self._pool = lakefs_client.ApiClient(configuration).rest_client.pool_manager

    # -- asking ---------------------------------------------------------------------------------------

    def json(
        self, method: str, *parts: str, query: Mapping[str, object] | None = None, body: object = None
    ) -> Document:
        """What the server answers to a request at a path, given in parts; nothing for an answer without JSON.

        Raises:
            Answered: for a status that is an error.
            LakeUnavailable, LakeDenied: when it does not answer as a lake does, or does not know the key.
        """
        data = None if body is None else orjson.dumps(body)
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        return self.answer(Asked(method=method, url=self.url(*parts, query=query), headers=headers, body=data))

    def answer(self, asked: Asked) -> Document:
        """As :meth:`json`."""
        response, content = self._whole(asked)
        if asked.method != "GET" and "json" not in response.headers.get("Content-Type", ""):
            return Document(self)
        try:
            found = orjson.loads(content)
        except orjson.JSONDecodeError as error:
            raise self.strange() from error
        if not isinstance(found, dict):
            raise self.strange()
        return Document(self, found)

    def _whole(self, asked: Asked) -> tuple[urllib3.BaseHTTPResponse, bytes]:
        """An answer and all of its body; asked again where the body broke off and that does no harm."""
        for _ in range(RESETS - 1 if asked.method == "GET" else 0):
            response = self.send(asked)
            with suppress(LakeUnavailable):
                return response, self._read(response)
        response = self.send(asked)
        return response, self._read(response)

    def strange(self) -> LakeUnavailable:
        """The error for an answer that no lake gives."""
        hint = "look at LAKECTL_SERVER_ENDPOINT_URL: is it a lakeFS server?"
        return LakeUnavailable("what answers is not the API of a lake", place=self.credentials.endpoint, hint=hint)

    def stream(self, *parts: str, query: Mapping[str, object]) -> Body:
        """The bytes that lie at a path, as they come."""
        return Body(self, self.send(Asked(method="GET", url=self.url(*parts, query=query), headers={})))

    def stream_signed(self, url: str) -> Body:
        """The bytes behind an address that the server signed; no key is sent there."""
        return Body(self, self.send(Asked(method="GET", url=url, headers={}), signed=True), url)

    def url(self, *parts: str, query: Mapping[str, object] | None = None) -> str:
        """The address of a path; what is empty or false is left out of the query.

        Raises:
            Answered: for a part that no server would know, as none could be asked for it.
            UsageError: for what UTF-8 cannot hold.
        """
        given = {key: "true" if value is True else value for key, value in (query or {}).items() if value}
        for part in parts:
            if NO_PART.fullmatch(part):
                raise Answered(404, f'there is no "{part}"', place=self.credentials.endpoint)
        try:
            path = "/".join(quote(part, safe="") for part in parts)
            return f"{self._base}/{path}{'?' + urlencode(given) if given else ''}"
        except UnicodeEncodeError as error:
            raise UsageError(f"{error.object!a} is not Unicode text", hint="write it in UTF-8") from error

    def send(self, asked: Asked, *, signed: bool = False) -> urllib3.BaseHTTPResponse:
        """Ask, and ask again while the server says that it is busy, or goes away where that does no harm.

        Raises:
            Answered, LakeUnavailable, LakeDenied: as for :meth:`json`.
        """
        end = time.monotonic() + self.patience
        pause, resets, lost = FIRST_PAUSE, 0, False
        while True:
            start = position_of(asked.body)
            try:
                response = self._once(asked, signed)
            except (urllib3.exceptions.HTTPError, OSError) as error:
                resets += 1
                over = resets >= RESETS or time.monotonic() > end
                if over or not may_repeat(asked, error) or not rewound(asked.body, start):
                    raise self._gone(error, asked.url if signed else "") from error
                lost = lost or not isinstance(error, NEVER_ARRIVED)
                wait = FIRST_PAUSE * resets
            else:
                done = lost and asked.method == "DELETE" and response.status == 404  # by the one whose answer was lost
                if response.status < 300 or done:
                    return response
                message = self._message(response, signed)
                busy = response.status in BUSY or (response.status == 500 and any(word in message for word in LOCKED))
                wait = max(seconds(response.headers.get("Retry-After")), pause * (0.5 + random.random()))  # noqa: S311
                if not busy or time.monotonic() + wait > end or not rewound(asked.body, start):
                    raise self._refusal(response.status, message, asked.url if signed else "")
                pause = min(2 * pause, LONGEST_PAUSE)
            time.sleep(wait)

    def _once(self, asked: Asked, signed: bool) -> urllib3.BaseHTTPResponse:
        headers = {**asked.headers} if signed else {**asked.headers, "Authorization": self._auth}
        found = self._pool.request(
            asked.method,
            asked.url,
            body=asked.body,
            headers=headers,
            preload_content=False,
            redirect=False,
            retries=False,
            timeout=urllib3.Timeout(connect=CONNECT, read=READ),
        )
        return cast("urllib3.BaseHTTPResponse", found)

    # -- answers that are errors ----------------------------------------------------------------------

    def _read(self, response: urllib3.BaseHTTPResponse) -> bytes:
        try:
            return response.read()
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise self._gone(error) from error
        finally:
            response.release_conn()

    def _message(self, response: urllib3.BaseHTTPResponse, signed: bool) -> str:
        data = self._read(response)
        try:
            found = orjson.loads(data)
        except orjson.JSONDecodeError:
            if response.status in NOWHERE and not signed:
                raise self.strange() from None
            kind = response.headers.get("Content-Type", "text/plain")
            return data.decode(errors="replace")[:SHOWN].strip() if kind.startswith("text/plain") else ""
        return str(found.get("message", ""))[:SHOWN] if isinstance(found, dict) else ""

    def _refusal(self, status: int, message: str, signed: str = "") -> EngineError:
        if signed:
            fact = f"the lake's storage answered {status}: {message or 'nothing more'}"
            return LakeUnavailable(fact, place=origin(signed), hint="the lake gave this address; ask its operator")
        if status in DENIED:
            hint = "look at the LAKECTL_CREDENTIALS_* variables or ~/.lakectl.yaml"
            return LakeDenied(f"{message or 'not allowed'} ({status})", place=self.credentials.endpoint, hint=hint)
        if status < 400 or (status >= 500 and status not in (501, 507)):
            fact = f"the lake answered {status}: {message or 'nothing more'}"
            return LakeUnavailable(fact, place=self.credentials.endpoint, hint="try again; look at the server's log")
        return Answered(status, message or f"the lake answered {status}", place=self.credentials.endpoint)

    def _gone(self, error: Exception, signed: str = "") -> LakeUnavailable:
        words = "does not answer" if not isinstance(error, urllib3.exceptions.ProtocolError) else "broke off its answer"
        if signed:
            hint = "the lake gave this address; ask its operator"
            return LakeUnavailable(f"the lake's storage {words}: {reason(error)}", place=origin(signed), hint=hint)
        hint = "is it running? `engine doctor` looks; unset LAKECTL_SERVER_ENDPOINT_URL to use the embedded lake"
        return LakeUnavailable(f"the lake {words}: {reason(error)}", place=self.credentials.endpoint, hint=hint)


class Document(dict[str, Any]):
    """An answer. What is not in it, though every lake answers so, is an error of the server's."""

    def __init__(self, server: Server, content: Mapping[str, Any] | None = None) -> None:
        self.server = server
        super().__init__(content or {})

    def __missing__(self, key: str) -> Any:
        raise self.server.strange()


class Body(io.RawIOBase):
    """A body as it comes, which refuses to end before all of it has come."""

    def __init__(self, server: Server, response: urllib3.BaseHTTPResponse, signed: str = "") -> None:
        self.server = server
        self.signed = signed
        self.response = response
        length = response.headers.get("Content-Length", "")
        self.left = int(length) if length.isdecimal() else None

    def readable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read a block.

        Raises:
            LakeUnavailable: when the body ends before its time.
        """
        view = memoryview(buffer).cast("B")
        try:
            data = self.response.read(len(view))
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise self.server._gone(error, self.signed) from error
        if self.left is not None:
            self.left -= len(data)
            if not data and len(view) and self.left > 0:
                raise self.server._gone(urllib3.exceptions.ProtocolError(f"{self.left} bytes are missing"), self.signed)
        view[: len(data)] = data
        return len(data)

    def close(self) -> None:
        """Give the connection back, if the body was read to its end."""
        if not self.closed:
            self.response.release_conn() if self.left == 0 else self.response.close()
        super().close()


def may_repeat(asked: Asked, error: Exception) -> bool:
    """Whether a request that broke may be sent again: it never arrived, or it does no harm to."""
    return isinstance(error, NEVER_ARRIVED) or asked.method in SAFE


def position_of(body: bytes | IO[bytes] | None) -> int | None:
    """Where a stream is, if it can be brought back there."""
    return body.tell() if body is not None and not isinstance(body, bytes) and body.seekable() else None


def rewound(body: bytes | IO[bytes] | None, start: int | None) -> bool:
    """Bring a body back to where it was; whether that could be done."""
    if body is None or isinstance(body, bytes):
        return True
    if start is None:
        return False
    body.seek(start)
    return True


def seconds(text: str | None) -> float:
    """How long a server asks to wait, at most as long as makes sense."""
    return min(float(text), LONGEST_PAUSE) if text and text.isdecimal() else 0.0


def origin(url: str) -> str:
    """The server that an address is on; what is behind it may be as good as a key."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def reason(error: Exception) -> str:
    """What went wrong below, in few words and without objects' addresses."""
    inner = getattr(error, "reason", None) or error
    text = str(inner).rpartition(">: ")[2].partition("?")[0] or type(inner).__name__
    return text[:SHOWN]
