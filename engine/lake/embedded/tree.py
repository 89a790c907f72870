"""Sorted, content-addressed trees of rows, whose shape follows from what is in them alone. Pure.

A row at level 0 is an object: path, digest, size, time and, where there is any, what else is known of it. Rows lie in
nodes of about 256; a row closes its node when the hash of its path says so, whoever its neighbours are. Each node is a
row one level up, until one node, the root, holds all::

    level 2                    [ last, first, digest, count ] ...                        the root
    level 1        [ last, first, digest, count ] ...     [ ... ]                        nodes of nodes
    level 0   [ path, digest, size, time ] ...   [ ... ]   [ ... ]   [ ... ]             nodes of objects

So equal contents have equal roots, two versions share every node but those on the way to what differs, and a commit, a
diff and a merge cost what changed, not what is there. (Such trees are known as prolly trees or Merkle search trees.)
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from engine.digest import canonical_json, sha256

Row = list[Any]
Changes = Mapping[str, Row | None]
PATH = LAST = 0
DIGEST, SIZE, TIME, MORE = 1, 2, 3, 4  # of an object
FIRST, NODE, COUNT = 1, 2, 3  # of a node
ENDS = tuple(bytes(level + 1) for level in range(16))


@dataclass(frozen=True, kw_only=True, slots=True)
class Node:
    """Rows of one level, sorted."""

    level: int
    rows: list[Row]


@dataclass(kw_only=True, slots=True)
class Nodes:
    """Nodes by digest: those that are stored, and what is new and must be."""

    read: Callable[[str], bytes]
    new: dict[str, bytes] = field(default_factory=dict)

    def load(self, digest: str) -> Node:
        """The node with a digest."""
        level, rows = orjson.loads(self.new.get(digest) or self.read(digest))
        return Node(level=level, rows=rows)

    def keep(self, node: Node) -> str:
        """Keep a node; its digest."""
        data = canonical_json([node.level, node.rows])
        digest = sha256(data)
        self.new[digest] = data
        return digest

    def keep_row(self, level: int, rows: list[Row]) -> Row:
        """Keep a node; its row one level up."""
        count = len(rows) if level == 0 else sum(row[COUNT] for row in rows)
        return [rows[-1][LAST], rows[0][PATH if level == 0 else FIRST], self.keep(Node(level=level, rows=rows)), count]


def closes(path: str, level: int) -> bool:
    """Whether a node of ``level`` ends with the row of ``path``: one path in 256 at each level."""
    return hashlib.sha256(path.encode()).digest().endswith(ENDS[level])


def same(left: Row | None, right: Row | None) -> bool:
    """Whether two objects are equal in all but the time at which they came."""
    if left is None or right is None:
        return left is right
    return bool(left[DIGEST] == right[DIGEST] and left[MORE:] == right[MORE:])


# -- changing -----------------------------------------------------------------------------------------


def empty(nodes: Nodes) -> str:
    """The root of a tree with nothing in it."""
    return nodes.keep(Node(level=0, rows=[]))


def apply(root: str, changes: Changes, nodes: Nodes) -> str:
    """The root of a tree after changes (path -> row, or ``None`` for removal). A change to the same changes nothing."""
    top = nodes.load(root)
    now: Changes = changes
    for level in range(top.level):
        now = edit(root, level, now, nodes)
        if not now:
            return root
    rows = changed(top.rows, now, keep_same=top.level == 0)
    if rows == top.rows:
        return root
    return raised(top.level, rows, nodes)


def raised(level: int, rows: list[Row], nodes: Nodes) -> str:
    """The root over rows: as many levels as it takes, and no more."""
    *whole, rest = split(rows, level)
    runs = [*whole, rest] if rest or not whole else whole
    if len(runs) > 1:
        return raised(level + 1, [nodes.keep_row(level, run) for run in runs], nodes)
    while level and len(runs[0]) == 1:
        below = nodes.load(runs[0][0][NODE])
        level, runs = below.level, [below.rows]
    if level and not runs[0]:
        level = 0
    return nodes.keep(Node(level=level, rows=runs[0]))


def edit(root: str, level: int, changes: Changes, nodes: Nodes) -> dict[str, Row | None]:
    """What changes to the rows of one level do to the rows one level up. Only nodes that change are read."""
    paths = sorted(changes)
    gone: dict[str, Row] = {}
    made: dict[str, Row] = {}
    run: list[Row] = []
    position, at = 0, ""
    while position < len(paths) or run:
        row = node_after(root, level, at, nodes) if run else node_over(root, level, paths[position], nodes)
        end = len(paths)
        rows: list[Row] = []
        if row is not None:
            rows, at = nodes.load(row[NODE]).rows, row[LAST]
            gone[at] = row
            if closes(at, level) or node_after(root, level, at, nodes) is not None:
                end = bisect_right(paths, at, position)
        some = {path: changes[path] for path in paths[position:end]}
        position = end
        *whole, run = split([*run, *changed(rows, some, keep_same=level == 0)], level)
        if row is None and run:
            whole, run = [*whole, run], []
        for item in whole:
            made[item[-1][LAST]] = nodes.keep_row(level, item)
    return {path: made.get(path) for path in {**gone, **made} if made.get(path) != gone.get(path)}


def changed(rows: list[Row], changes: Changes, *, keep_same: bool) -> list[Row]:
    """Sorted rows after changes; with ``keep_same`` an object that only its time tells apart stays as it was."""
    if not changes:
        return rows
    found: dict[str, Row | None] = {row[PATH]: row for row in rows}
    for path, row in changes.items():
        if not (keep_same and same(found.get(path), row)):
            found[path] = row
    return [row for _, row in sorted(found.items()) if row is not None]


def split(rows: list[Row], level: int) -> list[list[Row]]:
    """Rows in runs that end where a node ends; the last run is what is left open, and may be empty."""
    runs: list[list[Row]] = [[]]
    for row in rows:
        runs[-1].append(row)
        if closes(row[LAST], level):
            runs.append([])
    return runs


def node_over(root: str, level: int, path: str, nodes: Nodes) -> Row | None:
    """The row of the node of ``level`` that ``path`` belongs in; ``None`` when a new one begins with it."""
    found: Row | None = None
    node = nodes.load(root)
    while node.level > level:
        index = bisect_left(node.rows, path, key=last_of)
        found = node.rows[min(index, len(node.rows) - 1)]
        node = nodes.load(found[NODE])
    return None if found is None or (found[LAST] < path and closes(found[LAST], level)) else found


def node_after(root: str, level: int, path: str, nodes: Nodes) -> Row | None:
    """The row of the first node of ``level`` that ends behind ``path``."""
    found: Row | None = None
    node = nodes.load(root)
    while node.level > level:
        index = bisect_right(node.rows, path, key=last_of)
        if index == len(node.rows):
            return None
        found = node.rows[index]
        node = nodes.load(found[NODE])
    return found


def last_of(row: Row) -> str:
    """What a row is sorted by."""
    path: str = row[LAST]
    return path


# -- reading ------------------------------------------------------------------------------------------


def find(root: str, path: str, nodes: Nodes) -> Row | None:
    """The row of an object."""
    node = nodes.load(root)
    while True:
        index = bisect_left(node.rows, path, key=last_of)
        if index == len(node.rows):
            return None
        row = node.rows[index]
        if node.level == 0:
            return row if row[PATH] == path else None
        node = nodes.load(row[NODE])


def walk(root: str, nodes: Nodes, start: str = "") -> Iterator[Row]:
    """The rows of all objects from the path ``start`` on, read as they are taken."""
    node = nodes.load(root)
    rows = node.rows[bisect_left(node.rows, start, key=last_of) :]
    if node.level == 0:
        yield from rows
        return
    for row in rows:
        yield from walk(row[NODE], nodes, start)


def below(root: str, nodes: Nodes) -> Iterator[str]:
    """The digests of all nodes of a tree but the root; who is given one may say ``True`` to pass over what is below."""
    node = nodes.load(root)
    for row in node.rows if node.level else []:
        if not (yield row[NODE]):
            yield from below(row[NODE], nodes)


# -- comparing ----------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """A path at which two trees differ, with its row in each."""

    path: str
    left: Row | None
    right: Row | None


def diff(left: str, right: str, nodes: Nodes, start: str = "") -> Iterator[Change]:
    """Where two trees differ, by path, from the path ``start`` on. What they share is not read."""
    sides = (Side(left, nodes, start), Side(right, nodes, start))
    if left == right:
        return
    while any(side.pending for side in sides):
        one, two = sides
        if not (one.pending and two.pending):
            yield from one.rest(is_left=True)
            yield from two.rest(is_left=False)
        elif one.pending[-1] == two.pending[-1]:
            one.pending.pop()
            two.pending.pop()
        elif one.level or two.level:
            opened = widest(one, two)
            if opened is not None:
                opened.open()
            else:
                yield from first_of(one, two)
        else:
            yield from first_of(one, two)


class Side:
    """What of a tree is still to be compared: rows of several levels, the next one last."""

    def __init__(self, root: str, nodes: Nodes, start: str) -> None:
        self.nodes = nodes
        self.start = start
        self.pending: list[tuple[int, Row]] = []
        self._add(root)

    @property
    def level(self) -> int:
        """The level of what comes next: 0 an object, else a node of the level below."""
        return self.pending[-1][0]

    @property
    def row(self) -> Row:
        """What comes next."""
        return self.pending[-1][1]

    @property
    def first(self) -> str:
        """The first path in what comes next."""
        path: str = self.row[FIRST if self.level else PATH]
        return path

    def open(self) -> None:
        """Put the rows of the next node in its place."""
        self._add(self.pending.pop()[1][NODE])

    def rest(self, *, is_left: bool) -> Iterator[Change]:
        """Everything that is left, which the other side does not have."""
        while self.pending:
            if self.level:
                self.open()
            else:
                row = self.pending.pop()[1]
                yield Change(path=row[PATH], left=row if is_left else None, right=None if is_left else row)

    def _add(self, digest: str) -> None:
        node = self.nodes.load(digest)
        rows = node.rows[bisect_left(node.rows, self.start, key=last_of) :]
        self.pending += [(node.level, row) for row in reversed(rows)]


def widest(one: Side, two: Side) -> Side | None:
    """The side whose next node must be opened; ``None`` when an object comes before all that is in a node."""
    for side, other in ((one, two), (two, one)):
        if side.level and side.row[LAST] < other.first:
            return side
    high, low = (one, two) if one.level >= two.level else (two, one)
    if low.level == 0 and low.row[PATH] < high.first:
        return None
    return high


def first_of(one: Side, two: Side) -> Iterator[Change]:
    """The difference at the first path of two sides; at least one of them has an object there."""
    if two.level or (not one.level and one.row[PATH] < two.row[PATH]):
        row = one.pending.pop()[1]
        yield Change(path=row[PATH], left=row, right=None)
    elif one.level or two.row[PATH] < one.row[PATH]:
        row = two.pending.pop()[1]
        yield Change(path=row[PATH], left=None, right=row)
    else:
        left, right = one.pending.pop()[1], two.pending.pop()[1]
        if not same(left, right):
            yield Change(path=left[PATH], left=left, right=right)
