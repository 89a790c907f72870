"""Trees are canonical: whatever the order of changes, the same contents have the same root; and only changes cost."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.lake.embedded import tree
from engine.lake.embedded.history import decided, three_way
from engine.lake.embedded.tree import Nodes, Row

# Paths that close a node are one in 256, those that close one of the level above one in 65,536; a test without them
# would see a single node only.
CLOSING = [path for path in (f"c/{number}" for number in range(6000)) if tree.closes(path, 0)]
DEEP = [f"d/{number}" for number in (74611, 138668)]
PATHS = st.one_of(st.sampled_from(CLOSING), st.sampled_from(DEEP), st.text("ab/é~", min_size=1, max_size=4))
CHANGES = st.dictionaries(PATHS, st.one_of(st.none(), st.integers(0, 9)), max_size=30)
Values = dict[str, int | None]


class Shelf:
    """Nodes by digest, and how many were read."""

    def __init__(self) -> None:
        self.stored: dict[str, bytes] = {}
        self.read: list[str] = []

    def nodes(self) -> Nodes:
        def read(digest: str) -> bytes:
            self.read.append(digest)
            return self.stored[digest]

        return Nodes(read=read)

    def empty(self) -> str:
        nodes = self.nodes()
        root = tree.empty(nodes)
        self.stored.update(nodes.new)
        return root

    def change(self, root: str, values: Values) -> str:
        nodes = self.nodes()
        after = tree.apply(root, {path: row(path, value) for path, value in values.items()}, nodes)
        self.stored.update(nodes.new)
        return after

    def built(self, values: Values) -> str:
        return self.change(self.empty(), values)

    def contents(self, root: str) -> dict[str, int]:
        return {found[tree.PATH]: found[tree.SIZE] for found in tree.walk(root, self.nodes())}


def row(path: str, value: int | None) -> Row | None:
    return None if value is None else [path, hashlib.sha256(str(value).encode()).hexdigest(), value, 0]


def after(model: Values, changes: Values) -> Values:
    return {path: value for path, value in {**model, **changes}.items() if value is not None}


def sides(found: Iterator[tree.Change]) -> dict[str, tuple[int | None, int | None]]:
    return {
        change.path: tuple(side[tree.SIZE] if side else None for side in (change.left, change.right))  # type: ignore[misc]
        for change in found
    }


def test_the_paths_of_this_test_do_close_nodes_of_both_levels() -> None:
    assert len(CLOSING) > 10
    assert all(tree.closes(path, 1) for path in DEEP)


@settings(max_examples=300, deadline=None)
@given(st.lists(CHANGES, max_size=6))
def test_any_sequence_of_changes_gives_the_tree_that_is_built_from_scratch(batches: list[Values]) -> None:
    shelf, model = Shelf(), Values()
    root = shelf.empty()
    for changes in batches:
        root = shelf.change(root, changes)
        model = after(model, changes)
    assert shelf.contents(root) == model
    assert root == shelf.built(model)


@settings(max_examples=300, deadline=None)
@given(CHANGES, CHANGES, st.text("abcd/", max_size=2))
def test_a_diff_names_each_path_that_differs_once_and_in_order(one: Values, two: Values, start: str) -> None:
    shelf = Shelf()
    left, right = after({}, one), after({}, after(one, two))
    found = list(tree.diff(shelf.built(left), shelf.built(right), shelf.nodes(), start))
    paths = [path for path in sorted({*left, *right}) if left.get(path) != right.get(path) and path >= start]
    assert [change.path for change in found] == paths
    assert sides(iter(found)) == {path: (left.get(path), right.get(path)) for path in paths}


@settings(max_examples=300, deadline=None)
@given(CHANGES, CHANGES, CHANGES)
def test_a_merge_takes_what_one_side_changed_and_names_what_both_did(
    base: Values, mine: Values, theirs: Values
) -> None:
    shelf = Shelf()
    start, ours, other = after({}, base), after(after({}, base), mine), after(after({}, base), theirs)
    roots = [shelf.built(model) for model in (start, ours, other)]
    changes, conflicts = decided(three_way(*roots, shelf.nodes()), theirs_win=False, ours_win=False)
    expected, wanted = [], dict(ours)
    for path in sorted({*start, *ours, *other}):
        was, here, there = start.get(path), ours.get(path), other.get(path)
        if there != was and here not in (was, there):
            expected.append(path)
        elif there != was:
            wanted[path] = there
    assert list(conflicts) == expected
    assert shelf.contents(shelf.change(roots[1], {path: new and new[tree.SIZE] for path, new in changes.items()})) == (
        after({}, wanted)
    )


@settings(max_examples=100, deadline=None)
@given(CHANGES, PATHS)
def test_a_walk_begins_where_it_is_told_and_a_path_is_found_where_it_is(changes: Values, path: str) -> None:
    shelf, model = Shelf(), after({}, changes)
    root = shelf.built(model)
    assert [found[tree.PATH] for found in tree.walk(root, shelf.nodes(), path)] == sorted(p for p in model if p >= path)
    assert tree.find(root, path, shelf.nodes()) == row(path, model.get(path))


MANY: Values = {f"p/{number:06}": number for number in range(30_000)}


def test_one_change_among_many_reads_and_writes_one_way_down() -> None:
    shelf = Shelf()
    root = shelf.built(MANY)
    stored = len(shelf.stored)
    shelf.read.clear()
    changed = shelf.change(root, {"p/002500": 1})
    assert len(shelf.stored) - stored == 2
    assert len(set(shelf.read)) <= 4
    shelf.read.clear()
    assert [found.path for found in tree.diff(root, changed, shelf.nodes())] == ["p/002500"]
    assert len(shelf.read) == 4


def test_a_change_to_the_same_value_gives_the_same_tree_and_keeps_its_time() -> None:
    shelf = Shelf()
    root = shelf.built(MANY)
    nodes = shelf.nodes()
    again = row("p/000500", 500)
    assert again is not None
    again[tree.TIME] = 99
    assert tree.apply(root, {"p/000500": again}, nodes) == root
