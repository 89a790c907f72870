"""What a server remembers while it runs: its keys, what it signed, uploads that wait for their link, and imports."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import threading
import time
from base64 import b64decode
from binascii import Error as NotBase64
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from engine.errors import Failed, writing
from engine.store.durable import made_once

if TYPE_CHECKING:
    from engine.lake.hooks import Actions

SIGNED_FOR = 15 * 60
SESSION = 12 * 3600
MOST_WAITING = 10_000
KEY_LENGTH = 16
LONGEST = 18  # digits of a time: Python takes no number of thousands of them
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"


@dataclass(frozen=True, kw_only=True, slots=True)
class Key:
    """An access key: the id, and the secret, which is known only when the key is new."""

    id: str
    secret: str = ""


class Keys:
    """The access keys in a file that only its owner may read; of each secret only a salted hash is kept."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._known: set[bytes] = set()  # hashes of headers that were right, so that most requests are quick

    def first(self) -> Key | None:
        """The first key, made now, or ``None`` when there is one already.

        Raises:
            Failed: when the file is damaged.
        """
        made = Key(
            id="AKIA" + "".join(secrets.choice(LETTERS) for _ in range(KEY_LENGTH)), secret=secrets.token_urlsafe(30)
        )
        salt = secrets.token_hex(16)
        new = []

        def write(path: Path) -> None:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(orjson.dumps({made.id: {"salt": salt, "hash": hashed(made.secret, salt)}}))
                stream.flush()
                os.fsync(stream.fileno())
            new.append(made)

        made_once(self.path, write)
        self._read()
        return new[0] if new else None

    def accepts(self, id: str, secret: str) -> bool:
        """Whether a key is one of ours."""
        digest = hashlib.sha256(f"{id}\0{secret}".encode(errors="replace")).digest()
        if digest in self._known:
            return True
        kept = self._read().get(id, {"salt": "", "hash": ""})
        right = hmac.compare_digest(kept["hash"], hashed(secret, kept["salt"]))
        if right:
            self._known.add(digest)
        return right

    def _read(self) -> dict[str, dict[str, str]]:
        with writing(self.path):
            data = self.path.read_bytes()
        try:
            found: dict[str, dict[str, str]] = orjson.loads(data)
        except ValueError as error:
            hint = "remove it: new keys are made at the next start"
            raise Failed("the file of access keys is damaged", place=str(self.path), hint=hint) from error
        return found


def hashed(secret: str, salt: str) -> str:
    """What is kept of a secret, which is random and long enough that one round is enough."""
    return hashlib.sha256(f"{salt}{secret}".encode(errors="replace")).hexdigest()


def basic(header: str) -> tuple[str, str] | None:
    """The id and secret in an ``Authorization: Basic`` header."""
    kind, _, value = header.partition(" ")
    if kind.lower() != "basic":
        return None
    try:
        id, found, secret = b64decode(value, validate=True).decode().partition(":")
    except (NotBase64, UnicodeDecodeError):
        return None
    return (id, secret) if found else None


@dataclass(kw_only=True, slots=True)
class Waiting:
    """An address that was issued for one upload to one place, and what came there."""

    repository: str
    branch: str
    path: str
    expires: float
    digest: str = ""
    size: int = 0


@dataclass(kw_only=True, slots=True)
class State:
    """Everything that a server remembers.

    Attributes:
        roots: folders below which files may be imported.
        largest: the largest object that is taken, in bytes.
        patience: seconds in which something of a body must come.
    """

    keys: Keys
    hooks: Actions | None = None
    roots: tuple[Path, ...] = ()
    largest: int = 1 << 43
    patience: float = 60.0
    secret: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    waiting: dict[str, Waiting] = field(default_factory=dict)
    imports: dict[str, dict[str, Any]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def sign(self, what: str, seconds: int = SIGNED_FOR) -> tuple[str, int]:
        """A query that proves that this server allowed ``what``, and when it ends, in Unix seconds."""
        expires = int(time.time()) + seconds
        return f"expires={expires}&signature={self._signature(what, expires)}", expires

    def allows(self, what: str, expires: str, signature: str) -> bool:
        """Whether a query proves that."""
        if not expires.isdecimal() or len(expires) > LONGEST or int(expires) < time.time():
            return False
        return hmac.compare_digest(self._signature(what, int(expires)).encode(), signature.encode())

    def _signature(self, what: str, expires: int) -> str:
        return hmac.new(self.secret, f"{what}\0{expires}".encode(), "sha256").hexdigest()

    def issue(self, waiting: Waiting) -> str:
        """An address for an upload; those that nobody used in time are forgotten."""
        token = secrets.token_urlsafe(18)
        with self.lock:
            late = [name for name, one in self.waiting.items() if one.expires < time.time()]
            for name in late + list(self.waiting)[: max(0, len(self.waiting) - MOST_WAITING)]:
                self.waiting.pop(name, None)
            self.waiting[token] = waiting
        return token

    def login(self, id: str) -> tuple[str, int]:
        """A token in the place of a key, and when it ends."""
        query, expires = self.sign(f"session {id}", SESSION)
        return f"{id}.{expires}.{query.rpartition('=')[2]}", expires

    def session(self, token: str) -> str:
        """Whose token it is; empty when it is not one of ours."""
        id, _, rest = token.partition(".")
        expires, _, signature = rest.partition(".")
        return id if self.allows(f"session {id}", expires, signature) else ""
