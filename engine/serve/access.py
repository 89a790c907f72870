"""Who may ask for what: keys with scopes, and how often."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from engine.digest import canonical_json
from engine.errors import AlreadyExists, Failed
from engine.serve.model import Rejected
from engine.store.checked import read_checked, write_checked

SCOPES = ("infer", "feedback", "admin")


@dataclass(frozen=True, kw_only=True, slots=True)
class ApiKey:
    """A key: its name, the digest of its secret, and what it opens."""

    name: str
    digest: str
    scopes: frozenset[str]


@dataclass(slots=True)
class Gate:
    """Lets in who may come. ``open_scopes`` need no key; ``rate``: requests a second an address, 0: no limit."""

    keys: tuple[ApiKey, ...] = ()
    open_scopes: frozenset[str] = frozenset({"infer"})
    rate: float = 0.0
    buckets: dict[str, tuple[float, float]] = field(default_factory=dict)

    def let_in(self, scope: str, headers: Mapping[bytes, bytes], peer: str) -> None:
        """Let a request pass.

        Raises:
            Rejected: when it shows no key that opens this, or comes too soon.
        """
        if self.rate:
            self._count(peer)
        if scope in self.open_scopes:
            return
        shown = secret_in(headers)
        if not shown:
            raise Rejected(401, "this needs a key", hint="send it as Authorization: Bearer KEY", kind="key")
        digest = hashlib.sha256(shown).hexdigest()
        found = [key for key in self.keys if hmac.compare_digest(key.digest, digest)]
        if not found:
            raise Rejected(401, "this key is not known here", kind="key")
        if scope not in found[0].scopes:
            raise Rejected(403, f'the key "{found[0].name}" does not open {scope}', kind="key")

    def _count(self, peer: str) -> None:
        """One request of an address: a bucket of one second's requests that fills steadily."""
        now = time.monotonic()
        left, since = self.buckets.get(peer, (max(self.rate, 1.0), now))
        left = min(max(self.rate, 1.0), left + (now - since) * self.rate)
        if left < 1:
            raise Rejected(429, f"more than {self.rate:g} requests a second from one address", kind="rate")
        if len(self.buckets) > MOST_PEERS:
            self.buckets.clear()
        self.buckets[peer] = (left - 1, now)


MOST_PEERS = 100_000


def secret_in(headers: Mapping[bytes, bytes]) -> bytes:
    """The key that a request shows."""
    kind, _, token = headers.get(b"authorization", b"").partition(b" ")
    return token.strip() if kind.lower() == b"bearer" else headers.get(b"x-api-key", b"").strip()


def read_keys(folder: Path) -> tuple[ApiKey, ...]:
    """The keys in a folder, a file each; who removes a file takes its key back at the next start.

    Raises:
        Failed: when a file is damaged.
    """
    return tuple(read_key(path) for path in sorted(folder.glob("*.json")))


def read_key(path: Path) -> ApiKey:
    """The key in a file.

    Raises:
        Failed: when it is damaged.
    """
    data = read_checked(path)
    if data is None:
        raise Failed("the key is damaged", place=str(path), hint="remove it and make another")
    found = json.loads(data)
    return ApiKey(name=path.stem, digest=found["sha256"], scopes=frozenset(found["scopes"]))


def new_key(folder: Path, name: str, scopes: frozenset[str]) -> str:
    """Make a key and keep its digest; the key itself is nowhere but in what this returns.

    Raises:
        AlreadyExists: when there is one of this name.
    """
    path = folder / f"{name}.json"
    if path.exists():
        raise AlreadyExists(f'there is a key "{name}" already', hint=f"remove {path} first, or choose another name")
    secret = f"engine_{secrets.token_urlsafe(32)}"
    kept = {"sha256": hashlib.sha256(secret.encode()).hexdigest(), "scopes": sorted(scopes)}
    folder.mkdir(parents=True, exist_ok=True)
    write_checked(path, canonical_json(kept))
    return secret
