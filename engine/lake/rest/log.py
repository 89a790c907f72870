"""The log of a ref: all of it, or only what touched some paths, came after some time, or is not behind some commit."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import dropwhile, islice

from starlette.responses import Response

from engine.lake.embedded.book import Stored
from engine.lake.embedded.history import ancestors, first_parents
from engine.lake.rest import shapes
from engine.lake.rest.calls import Call, Rejected, page


def log_commits(call: Call) -> Response:
    """``GET /repositories/R/refs/REF/commits``."""
    start = call.lake.resolve(call.repository, call.ref)

    def load(id: str) -> Stored:
        return call.lake.stored(call.repository, id)

    found = (first_parents if call.flag("first_parent") else ancestors)(start, load)
    found = touching(call, until(call, behind(call, found)))
    return page(call, found, shapes.commit, lambda item: item.commit.id, end=call.flag("limit"))


def behind(call: Call, found: Iterator[Stored]) -> Iterator[Stored]:
    """What comes behind the commit ``after``."""
    after = call.query.get("after", "")
    if not after:
        return found
    last = call.lake.resolve(call.repository, after)
    return islice(dropwhile(lambda item: item.commit.id != last, found), 1, None)


def until(call: Call, found: Iterator[Stored]) -> Iterator[Stored]:
    """What comes before the first commit that is older than ``since``, and not behind the commit ``stop_at``."""
    since, stop = moment(call), call.query.get("stop_at", "")
    last = call.lake.resolve(call.repository, stop) if stop else ""
    for item in found:
        if item.commit.time < since:
            return
        yield item
        if item.commit.id == last:
            return


def moment(call: Call) -> float:
    """The time ``since``, in Unix seconds.

    Raises:
        Rejected: when it is none.
    """
    text = call.query.get("since", "")
    if not text:
        return float("-inf")
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise Rejected(400, "the query parameter since is not a date and time, as in 2013-01-31T12:00:00Z") from error
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def touching(call: Call, found: Iterator[Stored]) -> Iterator[Stored]:
    """The commits that changed one of ``objects`` or something below one of ``prefixes``; no merges, as in lakeFS."""
    objects, prefixes = set(call.query.getlist("objects")), call.query.getlist("prefixes")
    if not objects and not prefixes:
        yield from found
        return
    for item in found:
        parents, id = item.commit.parents, item.commit.id
        if len(parents) != 1:
            continue
        for prefix in (*objects, *prefixes):
            first = next(call.lake.diff(call.repository, parents[0], id, prefix, two_dot=True), None)
            if first is not None and (first.path in objects or prefix in prefixes):
                yield item
                break
