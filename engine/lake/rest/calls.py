"""A request as a handler sees it, and what errors look like to a client."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

import orjson
from starlette.datastructures import Headers, QueryParams
from starlette.responses import Response

from engine.errors import AlreadyExists, DigestMismatch, EngineError, Failed, NotFound, StorageFull, UsageError
from engine.lake.embedded.lake import EmbeddedLake
from engine.lake.protocol import BranchMoved, HookRefused, MergeConflict, RefTaken

if TYPE_CHECKING:
    from engine.lake.rest.state import State

T = TypeVar("T")
MOST, USUAL = 1000, 100
AMOUNT = re.compile(r"-?[0-9]{1,9}", re.ASCII)
LATEST = 253402300799  # the last second of the year 9999: what headers can say, too
STATUS: tuple[tuple[type[EngineError], int], ...] = (
    (NotFound, 404),
    (RefTaken, 409),
    (AlreadyExists, 412),
    (MergeConflict, 409),
    (BranchMoved, 409),
    (HookRefused, 412),
    (StorageFull, 507),
    (UsageError, 400),
)


class Rejected(EngineError):
    """A request that is refused for what it is, with the status (and the headers) that say so."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        self.status = status
        self.headers = headers or {}
        super().__init__(message)


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """A request with its parts taken apart. ``user`` is the id of the access key that signed it."""

    lake: EmbeddedLake
    state: State
    path: Mapping[str, str]
    query: QueryParams
    headers: Headers
    user: str
    body: Mapping[str, Any]

    @property
    def repository(self) -> str:
        """The repository in the path."""
        return self.path["repository"]

    @property
    def branch(self) -> str:
        """The branch in the path."""
        return self.path["branch"]

    @property
    def ref(self) -> str:
        """The ref in the path."""
        return self.path["ref"]

    @property
    def address(self) -> str:
        """This server as the client calls it; the guard knows the name."""
        return f"http://{self.headers['host']}"

    def wanted(self, name: str) -> str:
        """A query parameter that must be there.

        Raises:
            Rejected: when it is not.
        """
        if name not in self.query:
            raise Rejected(400, f"the query parameter {name} is missing")
        return self.query[name]

    def flag(self, name: str, *, default: bool = False) -> bool:
        """A query parameter that is true or false."""
        return self.query.get(name, str(default)).lower() in ("true", "1")

    @property
    def amount(self) -> int:
        """How many results are asked for.

        Raises:
            Rejected: when that is no number.
        """
        text = self.query.get("amount", str(USUAL))
        if not AMOUNT.fullmatch(text):
            raise Rejected(400, "the query parameter amount is not a number")
        return min(int(text), MOST) if int(text) > 0 else USUAL

    @property
    def only_new(self) -> bool:
        """Whether an object may come only where none is: ``If-None-Match: *``.

        Raises:
            Rejected: for other conditions, which lakeFS does not know either.
        """
        wanted = self.headers.get("if-none-match")
        if "if-match" in self.headers or wanted not in (None, "*"):
            raise Rejected(501, "the only condition of an upload that is supported is If-None-Match: *")
        return wanted is not None

    def text(self, name: str, default: str | None = None) -> str:
        """A text in the body.

        Raises:
            Rejected: when it is not there and there is no default, or is no text.
        """
        found = self.body.get(name)
        found = default if found is None else found
        if not isinstance(found, str):
            raise Rejected(400, f"{name} in the body is {'missing' if found is None else 'not a text'}")
        return found

    def number(self, name: str) -> int | None:
        """An integer in the body, if it is there.

        Raises:
            Rejected: when it is no integer.
        """
        found = self.body.get(name)
        if found is not None and (not isinstance(found, int) or isinstance(found, bool)):
            raise Rejected(400, f"{name} in the body is not an integer")
        return found

    def time(self, name: str) -> int | None:
        """A time in the body in Unix seconds, if it is there.

        Raises:
            Rejected: when it is none, or in no year that can be written with four digits.
        """
        found = self.number(name)
        if found is not None and not 0 <= found <= LATEST:
            raise Rejected(400, f"{name} in the body is not a time in Unix seconds")
        return found

    def texts(self, name: str) -> dict[str, str]:
        """A mapping of texts in the body, empty when it is not there.

        Raises:
            Rejected: when it is something else.
        """
        found = self.body.get(name) or {}
        if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
            raise Rejected(400, f"{name} in the body is not a mapping of texts")
        return found


Handler = Callable[[Call], Response]


def document(value: object, status: int = 200) -> Response:
    """A JSON answer."""
    return Response(orjson.dumps(value), status, media_type="application/json")


def nothing(_: object = None) -> Response:
    """An answer without a body."""
    return Response(status_code=204)


def page(
    call: Call,
    items: Iterable[T],
    shown: Callable[[T], dict[str, Any]],
    offset: Callable[[T], str],
    *,
    end: bool = False,
) -> Response:
    """Some of ``items``, as many as were asked for, and where to go on, unless that is to be the ``end``."""
    iterator: Iterator[T] = iter(items)
    taken = list(islice(iterator, call.amount))
    more = not end and next(iterator, None) is not None
    pagination = {
        "has_more": more,
        "max_per_page": MOST,
        "results": len(taken),
        "next_offset": offset(taken[-1]) if more else "",
    }
    return document({"pagination": pagination, "results": [shown(item) for item in taken]})


def refusal(error: EngineError) -> Response:
    """An error as a client sees it. Where files lie on this machine is nobody's business."""
    status = error.status if isinstance(error, Rejected) else 500
    for kind, code in STATUS:
        if isinstance(error, kind):
            status = code
            break
    if isinstance(error, Failed) and "is locked" in error.fact:
        error = Rejected(503, "the lake is busy; try again", {"Retry-After": "1"})
        status = error.status
    message = "the object's bytes are not what was stored" if isinstance(error, DigestMismatch) else error.fact
    hint = f"; {error.hint}" if error.hint and isinstance(error, (UsageError, MergeConflict, HookRefused)) else ""
    answer = document({"message": message + hint}, status)
    answer.headers.update(error.headers if isinstance(error, Rejected) else {})
    return answer
