"""The tree of ranges is canonical: whatever the order of changes, the same contents give the same bytes."""

from __future__ import annotations

import hashlib

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.lake.embedded.ranges import (
    Range,
    apply,
    closes_range,
    pack_tree,
    unpack_range,
    unpack_tree,
    within,
)
from engine.lake.protocol import Entry

# Paths that close a range are one in 256; a test without them would see a single range only.
CLOSING = [path for path in (f"c/{number}" for number in range(6000)) if closes_range(path)]
PATHS = st.one_of(st.sampled_from(CLOSING), st.text("ab/é~", min_size=1, max_size=4))
CHANGES = st.dictionaries(PATHS, st.one_of(st.none(), st.integers(0, 9)), max_size=30)


class Shelf:
    """A tree and the ranges that it has ever had."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.tree: list[Range] = []

    def load(self, digest: str) -> list[Entry]:
        return unpack_range(self.blobs[digest])

    def change(self, changes: dict[str, int | None]) -> int:
        """Apply changes; how many ranges were written."""
        entries = {path: None if value is None else entry(path, value) for path, value in changes.items()}
        self.tree, written = apply(self.tree, entries, self.load)
        self.blobs.update({new.digest: new.data for new in written})
        return len(written)

    def contents(self) -> dict[str, str]:
        return {found.path: found.digest for part in self.tree for found in self.load(part.digest)}


def entry(path: str, value: int) -> Entry:
    return Entry(path=path, digest=hashlib.sha256(str(value).encode()).hexdigest(), size=value)


@settings(max_examples=200, deadline=None)
@given(st.lists(CHANGES, max_size=6))
def test_any_sequence_of_changes_gives_the_tree_that_is_built_from_scratch(
    batches: list[dict[str, int | None]],
) -> None:
    shelf, model = Shelf(), dict[str, int]()
    for changes in batches:
        shelf.change(changes)
        model.update({path: value for path, value in changes.items() if value is not None})
        for path in [path for path, value in changes.items() if value is None]:
            model.pop(path, None)
    scratch = Shelf()
    scratch.change(dict(model))
    assert shelf.contents() == {path: entry(path, value).digest for path, value in model.items()}
    assert pack_tree(shelf.tree) == pack_tree(scratch.tree)


@settings(max_examples=100, deadline=None)
@given(CHANGES, st.text("abc/", max_size=3))
def test_the_ranges_within_a_prefix_hold_every_path_that_begins_with_it(
    changes: dict[str, int | None], prefix: str
) -> None:
    shelf = Shelf()
    shelf.change(changes)
    found = {item.path for part in within(shelf.tree, prefix) for item in shelf.load(part.digest)}
    assert {path for path in shelf.contents() if path.startswith(prefix)} <= found


def test_ranges_are_sorted_and_none_is_empty() -> None:
    shelf = Shelf()
    shelf.change({f"p/{number:05}": number for number in range(5000)})
    assert all(part.count > 0 and part.first <= part.last for part in shelf.tree)
    assert all(a.last < b.first for a, b in zip(shelf.tree, shelf.tree[1:], strict=False))
    assert sum(part.count for part in shelf.tree) == 5000


def test_one_change_among_many_writes_one_range() -> None:
    shelf = Shelf()
    shelf.change({f"p/{number:05}": number for number in range(5000)})
    assert len(shelf.tree) > 5
    assert shelf.change({"p/02500": 1}) == 1


def test_a_change_to_the_same_value_gives_the_same_tree() -> None:
    shelf = Shelf()
    shelf.change({f"p/{number:05}": number for number in range(1000)})
    before = shelf.tree
    shelf.change({"p/00500": 500})
    assert shelf.tree == before


def test_a_packed_tree_can_be_read_back() -> None:
    shelf = Shelf()
    shelf.change({f"p/{number:05}": number for number in range(1000)})
    assert unpack_tree(pack_tree(shelf.tree).data) == shelf.tree
