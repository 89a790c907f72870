"""One POST to an address that an action file names, who may be anybody. Nothing here trusts it.

The name is resolved once and the connection goes to an address that was looked at, so that a name which answers
differently the second time leads nowhere else. No redirects, no proxies, one time limit for all of it, and only the
beginning of what comes back is read.
"""

from __future__ import annotations

import http.client
import ipaddress
import os
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from urllib.parse import SplitResult, urlsplit

from engine.errors import EngineError, Failed, Refused, UsageError

ALLOW = "ENGINE_HOOKS_ALLOW"
MOST_READ = 1 << 16
PORTS = {"http": 80, "https": 443}
HOLDING_IPV4 = tuple(map(ipaddress.ip_network, ("64:ff9b::/96", "::/96")))
NOT_PUBLIC = tuple(map(ipaddress.ip_network, ("64:ff9b:1::/48", "fec0::/10")))  # Python takes them for global
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What came back: the status, and the beginning of the text."""

    status: int
    text: str

    @property
    def is_yes(self) -> bool:
        """Whether the status is one of success."""
        return 200 <= self.status < 300


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """An address to POST to, in its parts. ``path`` has the query with it."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def is_loopback(self) -> bool:
        """Whether it says itself that it is on this machine, without asking who a name is."""
        try:
            return self.host == "localhost" or ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def without_query(url: str) -> str:
    """A URL as messages show it: without what may be secret in it."""
    parts = split(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def split(url: str) -> SplitResult:
    """A URL in its parts.

    Raises:
        UsageError: when it is none.
    """
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise UsageError("its url is none", hint="write https://HOST/PATH") from error
    return parts


def target_of(url: str) -> Target:
    """Where a URL leads.

    Raises:
        UsageError: when it is none that a hook may have.
    """
    parts = split(url)
    if parts.scheme not in PORTS or not parts.hostname:
        raise UsageError("its url is none", hint="write https://HOST/PATH")
    if "@" in parts.netloc:
        raise UsageError("its url holds a name or password", hint="send it in a header")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if not path.isascii() or not path.isprintable() or " " in path:
        raise UsageError("its url holds characters that no url holds", hint="write them as %XX")
    port = parts.port or PORTS[parts.scheme]
    return Target(scheme=parts.scheme, host=parts.hostname, port=port, path=path)


def post(url: str, body: bytes, headers: Sequence[tuple[str, str]], seconds: float, allowed: str = "") -> Answer:
    """POST ``body`` as JSON.

    Args:
        seconds: for all of it, from the first connection to the last byte; only a name server is waited for longer.
        allowed: hosts (patterns, comma separated) whose addresses may be private ones.

    Raises:
        UsageError, Refused: when the address is not one that may be asked; nothing was sent.
        Failed: when it does not answer, or not in time.
    """
    target = target_of(url)
    for name, value in headers:
        if not value.isprintable():
            raise UsageError(f"its header {name} holds a line break or another control character")
    end = time.monotonic() + seconds
    try:
        addresses = look_up(target, allowed)
        with closing(connected(addresses, target.port, end)) as plain, ended_at(plain, end):
            answer = ask(plain, target, body, headers)
        if time.monotonic() < end:
            return answer
        raise TimeoutError
    except (OSError, http.client.HTTPException, ValueError) as error:
        if time.monotonic() >= end:
            raise Failed(
                f"it does not answer within {seconds:g} s", hint="is it running? A hook may set `timeout`"
            ) from error
        raise Failed(f"it does not answer: {reason(error)}", hint="is it running, and is its address right?") from error


def look_up(target: Target, allowed: str) -> list[str]:
    """The addresses of a host, all of which may be asked.

    Raises:
        Refused: when one of them may not.
    """
    found = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    addresses = list(dict.fromkeys(str(item[4][0]) for item in found))
    is_allowed = any(fnmatchcase(target.host, name.strip().lower()) for name in allowed.split(",") if name.strip())
    for address in addresses:
        complaint = complaint_about(ipaddress.ip_address(address.partition("%")[0]), target.scheme, is_allowed)
        if complaint:
            raise complaint
    return addresses


def complaint_about(address: Address, scheme: str, is_allowed: bool) -> EngineError | None:
    """Why a hook may not ask an address, if it may not."""
    within = embedded(address)
    if any(item.is_loopback for item in within):
        return None if len(within) == 1 or is_allowed else Refused("its url leads to this machine by a detour")
    if scheme != "https":
        return Refused("its url leaves this machine without https", hint="write https://, or an address on loopback")
    if not is_allowed and not all(is_public(item) for item in within):
        hint = f"who runs the lake may allow the host in the variable {ALLOW}"
        return Refused("its url leads to a private address", hint=hint)
    return None


def is_public(address: Address) -> bool:
    """Whether an address is one of the public internet."""
    return address.is_global and not address.is_multicast and not any(address in network for network in NOT_PUBLIC)


def embedded(address: Address) -> tuple[Address, ...]:
    """An address and those that lie in it, to which it may lead in the end."""
    if isinstance(address, ipaddress.IPv4Address):
        return (address,)
    if address.ipv4_mapped is not None:
        return (address.ipv4_mapped,)
    inner: list[Address] = [address.sixtofour] if address.sixtofour is not None else []
    inner += address.teredo or ()
    if not address.is_loopback and any(address in network for network in HOLDING_IPV4):
        inner.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return (address, *inner)


def connected(addresses: Sequence[str], port: int, end: float) -> socket.socket:
    """A connection to the first address that takes one."""
    for number, address in enumerate(addresses):
        try:
            return socket.create_connection((address, port), timeout=max(end - time.monotonic(), 0.001))
        except OSError:
            if number == len(addresses) - 1:
                raise
    raise OSError("the host has no address")


@contextmanager
def ended_at(plain: socket.socket, end: float) -> Iterator[None]:
    """Whatever waits for a connection inside stops waiting at ``end``, also when it is fed a byte now and then."""
    own = socket.socket(fileno=os.dup(plain.fileno()))

    def cut() -> None:
        with suppress(OSError):
            own.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(max(end - time.monotonic(), 0.0), cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        own.close()


def ask(plain: socket.socket, target: Target, body: bytes, headers: Sequence[tuple[str, str]]) -> Answer:
    """Send the request over a connection and read the beginning of the answer."""
    kind = http.client.HTTPSConnection if target.scheme == "https" else http.client.HTTPConnection
    connection = kind(target.host, target.port)
    connection.sock = secured(plain, target.host) if target.scheme == "https" else plain
    with closing(connection):
        connection.putrequest("POST", target.path, skip_accept_encoding=True)
        for name, value in (*headers, ("Content-Type", "application/json"), ("Content-Length", str(len(body)))):
            connection.putheader(name, value.encode())
        connection.putheader("Connection", "close")
        connection.endheaders(body)
        response = connection.getresponse()
        data = response.read(MOST_READ)
        return Answer(status=response.status, text=data.decode(errors="replace"))


def secured(plain: socket.socket, host: str) -> ssl.SSLSocket:
    """The connection with TLS, to whom the host's name belongs."""
    return ssl.create_default_context().wrap_socket(plain, server_hostname=host)


def reason(error: Exception) -> str:
    """What the system says, in a few words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({error.verify_message})"
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return (said or type(error).__name__).splitlines()[0][:200]


def allowed_hosts(environment: Mapping[str, str]) -> str:
    """The hosts that whoever runs the lake allows."""
    return environment.get(ALLOW, "")
