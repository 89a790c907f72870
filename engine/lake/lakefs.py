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
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import IO, Any, TypeVar, cast
from urllib.parse import quote, urlencode, urlsplit

import lakefs_client
import orjson
import urllib3

from engine.errors import EngineError, LakeUnavailable, UsageError
from engine.lake.credentials import API, Credentials, certificates, proxy_for
from engine.lake.protocol import LakeDenied

CONNECT, READ = 5.0, 120.0
PATIENCE = 60.0  # seconds, for a server that says that it is busy
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 10.0
RESETS = 3  # so often may a request break, or a body in the middle
BUSY = frozenset({423, 429, 503})
LOCKED = ("currently locked", "branch is locked", "too many requests")
DENIED = {
    401: "look at the LAKECTL_CREDENTIALS_* variables or ~/.lakectl.yaml",
    403: "ask its operator for the permission, or use another key: LAKECTL_CREDENTIALS_* or ~/.lakectl.yaml",
}
NOWHERE = frozenset({404, 405})
SAFE = frozenset({"GET", "HEAD", "PUT", "DELETE"})  # to ask again does no harm
NEVER_ARRIVED = (urllib3.exceptions.NewConnectionError, urllib3.exceptions.ConnectTimeoutError)
MOST_CONNECTIONS = 128  # each one more would be closed after use, with a warning on standard error
NO_PART = re.compile(r"\.{0,2}|.*/.*", re.DOTALL)  # what would change which address it is a part of
SHOWN = 300
Read = TypeVar("Read")


class Answered(UsageError):
    """The server answered with a status that is an error."""

    def __init__(self, status: int, message: str, *, place: str = "") -> None:
        self.status = status
        super().__init__(message, place=place)


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """A request. A ``body`` that is a stream is sent as it is read.

    Attributes:
        harmless: to ask again does no harm, whatever the method says.
        signed: the address is one that the server signed; no key goes there, and nothing of it is shown.
    """

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes | IO[bytes] | None = None
    harmless: bool = False
    signed: bool = False

    @property
    def repeatable(self) -> bool:
        """Whether to ask again does no harm."""
        return self.harmless or self.method in SAFE


class Server:
    """A lakeFS server, asked through the client's pool."""

    def __init__(self, credentials: Credentials, patience: float = PATIENCE) -> None:
        self.credentials = credentials
        self.patience = patience
        self._base = credentials.endpoint + API
        self._auth = self._configuration().get_basic_auth_token()
        self._pools: dict[str, Any] = {}

    def _configuration(self) -> Any:
        found = lakefs_client.Configuration(
            host=self._base,
            username=self.credentials.access_key_id,
            password=self.credentials.secret_access_key,
        )
        found.connection_pool_maxsize = MOST_CONNECTIONS
        return found

    def _pool(self, url: str) -> Any:
        """The client's pool for a host. Storage that the server signs for may want another proxy than the server."""
        host = origin(url)
        if host not in self._pools:
            configuration = self._configuration()
            configuration.ssl_ca_cert = certificates(os.environ, url)
            proxy = proxy_for(os.environ, url)
            if proxy:
                configuration.proxy, user = proxy
                configuration.proxy_headers = urllib3.make_headers(proxy_basic_auth=user) if user else None
            self._pools[host] = lakefs_client.ApiClient(configuration).rest_client.pool_manager
        return self._pools[host]

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

    def understood(self, read: Callable[[Any], Read], answer: object) -> Read:
        """What ``read`` makes of an answer, or of a part of it, :meth:`understanding` it."""
        with self.understanding():
            return read(answer)

    @contextmanager
    def understanding(self) -> Iterator[None]:
        """Inside, answers are read: one that has not the form that it must have is an error of the server's.

        Raises:
            LakeUnavailable: when it has not.
        """
        try:
            yield
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise self.strange() from error

    def stream(self, *parts: str, query: Mapping[str, object]) -> Body:
        """The bytes that lie at a path, as they come."""
        asked = Asked(method="GET", url=self.url(*parts, query=query), headers={})
        return Body(self, asked, self.send(asked))

    def stream_signed(self, url: str, size: int | None) -> Body:
        """The bytes behind an address that the server signed, as many as it says; no key is sent there."""
        asked = Asked(method="GET", url=url, headers={}, signed=True)
        return Body(self, asked, self.send(asked), size)

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

    def send(self, asked: Asked) -> urllib3.BaseHTTPResponse:
        """Ask, and ask again while the server says that it is busy, or goes away where that does no harm.

        Raises:
            Answered, LakeUnavailable, LakeDenied: as for :meth:`json`.
        """
        end = time.monotonic() + self.patience
        start = position_of(asked.body)
        pause, resets, lost = FIRST_PAUSE, 0, False
        while True:
            wait = jittered(pause)
            try:
                response = self._once(asked, asked.signed)
            except (urllib3.exceptions.HTTPError, OSError) as error:
                resets += 1
                over = resets >= RESETS or time.monotonic() + wait > end
                if over or not may_repeat(asked, error) or not rewound(asked.body, start):
                    raise self._gone(error, asked) from error
                lost = lost or not isinstance(error, NEVER_ARRIVED)
            else:
                if response.status < 300 or (lost and is_done(asked, response.status)):
                    return response
                message = self._message(response, asked.signed)
                wait = max(wait, seconds(response.headers.get("Retry-After")))
                later = is_busy(response.status, message) and time.monotonic() + wait <= end
                if not later or not rewound(asked.body, start):
                    raise self._refusal(response.status, message, asked)
            pause = min(2 * pause, LONGEST_PAUSE)
            time.sleep(wait)

    def _once(self, asked: Asked, signed: bool) -> urllib3.BaseHTTPResponse:
        headers = {**asked.headers} if signed else {**asked.headers, "Authorization": self._auth}
        found = self._pool(asked.url).request(
            asked.method,
            asked.url,
            body=asked.body,
            headers=headers,
            preload_content=False,
            decode_content=False,
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

    def _refusal(self, status: int, message: str, asked: Asked) -> EngineError:
        place = self.credentials.endpoint
        if asked.signed:  # what storage says of a signed address may hold parts of the signature
            fact = f"the lake's storage answered {status}"
            return LakeUnavailable(fact, place=origin(asked.url), hint="try again; the lake gave this address")
        if status in DENIED:
            return LakeDenied(f"{message or 'not allowed'} ({status})", place=place, hint=DENIED[status])
        if status < 400 or status in BUSY or (status >= 500 and status not in (501, 507)):
            fact = f"the lake answered {status}: {message or 'nothing more'}"
            return LakeUnavailable(fact, place=place, hint="try again; look at the server's log")
        return Answered(status, message or f"the lake answered {status}", place=place)

    def _gone(self, error: Exception, asked: Asked | None = None) -> LakeUnavailable:
        words = "does not answer" if not isinstance(error, urllib3.exceptions.ProtocolError) else "broke off its answer"
        if asked is not None and asked.signed:
            hint = "the lake gave this address; ask its operator"
            return LakeUnavailable(f"the lake's storage {words}: {reason(error)}", place=origin(asked.url), hint=hint)
        hint = "is it running? `engine doctor` looks; unset LAKECTL_SERVER_ENDPOINT_URL to use the embedded lake"
        if is_about_certificates(error):
            hint = "set SSL_CERT_FILE to the certificate of the authority that signed the server's"
        return LakeUnavailable(f"the lake {words}: {reason(error)}", place=self.credentials.endpoint, hint=hint)


class Document(dict[str, Any]):
    """An answer. What is not in it, though every lake answers so, is an error of the server's."""

    def __init__(self, server: Server, content: Mapping[str, Any] | None = None) -> None:
        self.server = server
        super().__init__(content or {})

    def __missing__(self, key: str) -> Any:
        raise self.server.strange()


class Body(io.RawIOBase):
    """A body as it comes, which refuses to end before all of it has come.

    One that breaks off is gone on with where it broke, when the server says that it is still the same one.

    Args:
        size: how many bytes it must have, where that is known.

    Raises:
        LakeUnavailable: for a body that does not say where it ends, or that is not as long as it must be.
    """

    def __init__(
        self, server: Server, asked: Asked, response: urllib3.BaseHTTPResponse, size: int | None = None
    ) -> None:
        self.server = server
        self.asked = asked
        self.response = response
        headers = response.headers
        length = headers.get("Content-Length", "")
        self.left = int(length) if length.isdecimal() else size
        self.taken, self.resets = 0, 0
        self.etag = headers.get("ETag", "")
        encoding = headers.get("Content-Encoding", "identity")
        if self.left is None and headers.get("Transfer-Encoding", "").lower() != "chunked":
            raise self._wrong("does not say where it ends")
        if not asked.signed and encoding != "identity":  # what storage is told of an object's own encoding is no change
            raise self._wrong(f"is encoded as {encoding}, which nobody asked for")
        if size is not None and self.left != size:
            raise self._wrong(f"is of {self.left} bytes, and the object of {size}")

    def readable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read a block.

        Raises:
            LakeUnavailable: when the body ends before its time.
        """
        view = memoryview(buffer).cast("B")
        while True:
            try:
                data = self.response.read(len(view))
                if not data and len(view) and self.left:
                    raise urllib3.exceptions.ProtocolError(f"{self.left} bytes are missing")
                break
            except (urllib3.exceptions.HTTPError, OSError) as error:
                self._go_on(error)
        self.taken += len(data)
        if self.left is not None:
            self.left -= len(data)
            if self.left < 0:
                raise self._wrong("is longer than the object")
        view[: len(data)] = data
        return len(data)

    def _wrong(self, fact: str) -> LakeUnavailable:
        self.response.close()
        place = origin(self.asked.url) if self.asked.signed else self.server.credentials.endpoint
        return LakeUnavailable(f"the answer {fact}", place=place, hint="does something on the way change what comes?")

    def _go_on(self, error: Exception) -> None:
        """Ask for what is missing, or give up."""
        self.response.close()
        self.resets += 1
        if self.left is None or self.resets >= RESETS or not self.etag.startswith('"'):
            raise self.server._gone(error, self.asked) from error
        time.sleep(jittered(FIRST_PAUSE * 2**self.resets))
        end = self.taken + self.left
        self.response = self.server.send(replace(self.asked, headers={"Range": f"bytes={self.taken}-{end - 1}"}))
        found = (self.response.status, self.response.headers.get("Content-Range"), self.response.headers.get("ETag"))
        if found != (206, f"bytes {self.taken}-{end - 1}/{end}", self.etag):
            self.response.close()
            raise self.server._gone(error, self.asked) from error

    def close(self) -> None:
        """Give the connection back, if the body was read to its end."""
        if not self.closed:
            self.response.release_conn() if self.left == 0 else self.response.close()
        super().close()


def may_repeat(asked: Asked, error: Exception) -> bool:
    """Whether a request that broke may be sent again: it never arrived, or it does no harm to.

    Who kept silent for the whole of ``READ`` is not asked again: the next silence would be as long.
    """
    if isinstance(error, NEVER_ARRIVED):
        return True
    return asked.repeatable and not isinstance(error, (urllib3.exceptions.ReadTimeoutError, TimeoutError))


def is_busy(status: int, message: str) -> bool:
    """Whether an answer says to come again later, and that nothing was done."""
    return status in BUSY or (status == 500 and any(words in message.lower() for words in LOCKED))


def is_done(asked: Asked, status: int) -> bool:
    """Whether an answer to a request that was sent before, too, says that it was carried out then."""
    return asked.method == "DELETE" and status == 404


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


def jittered(pause: float) -> float:
    """About as long as ``pause``, so that those who were sent away together do not come back together."""
    return pause * (0.5 + random.random())  # noqa: S311


def seconds(text: str | None) -> float:
    """How long a server asks to wait: ``Retry-After``, a number or a date."""
    if not text:
        return 0.0
    if text.isdecimal():
        return float(text)
    try:
        found = parsedate_to_datetime(text)
    except ValueError:
        return 0.0
    then = found if found.tzinfo else found.replace(tzinfo=UTC)
    return max(0.0, (then - datetime.now(UTC)).total_seconds())


def origin(url: str) -> str:
    """The server that an address is on; what is behind it may be as good as a key."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def is_about_certificates(error: BaseException | None) -> bool:
    """Whether a request broke because a certificate is not trusted, or those to trust cannot be read."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError) or "certificate" in str(error).lower():
            return True
        error = error.__cause__ or error.__context__
    return False


def reason(error: Exception) -> str:
    """What went wrong below, in few words and without objects' addresses."""
    inner = getattr(error, "reason", None) or error
    text = str(inner).rpartition(">: ")[2].partition("?")[0] or type(inner).__name__
    return text[:SHOWN]
