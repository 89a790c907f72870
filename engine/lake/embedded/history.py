"""Commits as a graph, and what two sides did since they parted. Pure, given what loads a commit."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from engine.lake.embedded.book import Stored
from engine.lake.embedded.tree import Change, Nodes, Row, diff, same

Load = Callable[[str], Stored]
MOST_CONFLICTS = 1000


def ancestors(start: str, load: Load) -> Iterator[Stored]:
    """A commit and all that it came from: each before its parents, the newer ones first."""
    seen = {start}
    waiting = [order_of(load(start))]
    while waiting:
        stored = heapq.heappop(waiting)[-1]
        yield stored
        for parent in stored.commit.parents:
            if parent not in seen:
                seen.add(parent)
                heapq.heappush(waiting, order_of(load(parent)))


def order_of(stored: Stored) -> tuple[int, int, str, Stored]:
    """What commits are taken by: those farthest from the first one, then the newest."""
    return -stored.generation, -stored.commit.time, stored.commit.id, stored


def first_parents(start: str, load: Load) -> Iterator[Stored]:
    """A commit, its first parent, and so on."""
    stored = load(start)
    yield stored
    while stored.commit.parents:
        stored = load(stored.commit.parents[0])
        yield stored


def merge_base(left: str, right: str, load: Load) -> Stored | None:
    """The best common ancestor: of the commits that both come from, the one farthest from the first commit."""
    sides = {left: 1, right: 2} if left != right else {left: 3}
    waiting = [order_of(load(id)) for id in sides]
    heapq.heapify(waiting)
    while waiting:
        stored = heapq.heappop(waiting)[-1]
        side = sides[stored.commit.id]
        if side == 3:
            return stored
        for parent in stored.commit.parents:
            if parent not in sides:
                heapq.heappush(waiting, order_of(load(parent)))
            sides[parent] = sides.get(parent, 0) | side
    return None


@dataclass(frozen=True, kw_only=True, slots=True)
class ThreeWay:
    """A path that ``theirs`` changed since ``base``, and whether ``ours`` changed it to something else meanwhile."""

    path: str
    base: Row | None
    theirs: Row | None
    ours: Row | None
    conflict: bool


def three_way(base: str, ours: str, theirs: str, nodes: Nodes, start: str = "") -> Iterator[ThreeWay]:
    """What must happen to the tree ``ours`` so that it has what ``theirs`` changed since ``base``, by path."""
    mine = diff(base, ours, nodes, start)
    own: Change | None = next(mine, None)
    for change in diff(base, theirs, nodes, start):
        while own is not None and own.path < change.path:
            own = next(mine, None)
        both = own is not None and own.path == change.path
        ours_row = own.right if own is not None and both else change.left
        if not same(ours_row, change.right):
            yield ThreeWay(path=change.path, base=change.left, theirs=change.right, ours=ours_row, conflict=both)


def decided(
    found: Iterator[ThreeWay], *, theirs_win: bool, ours_win: bool
) -> tuple[dict[str, Row | None], tuple[str, ...]]:
    """What to change, and the paths in conflict, of which at most 1000 are named."""
    changes: dict[str, Row | None] = {}
    conflicts: list[str] = []
    for item in found:
        if item.conflict and ours_win:
            continue
        if item.conflict and not theirs_win:
            conflicts.append(item.path)
            if len(conflicts) >= MOST_CONFLICTS:
                break
        else:
            changes[item.path] = item.theirs
    return changes, tuple(conflicts)
