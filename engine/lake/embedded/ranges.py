"""Sorted, content-addressed ranges of entries. Pure.

A tree is a list of ranges. A path whose hash ends in a zero byte closes its range, whoever its neighbours are, so two
trees that differ in one path share all ranges but one, and a commit costs what changed, not what is there::

    tree   [ first..last -> range digest ] [ ... ] ...
    range  [ path, digest, size ] sorted by path, about 256 of them
"""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from engine.digest import canonical_json, sha256
from engine.lake.protocol import Entry

Change = Entry | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Range:
    """A range in a tree: its first and last path, its digest and how many entries it has."""

    first: str
    last: str
    digest: str
    count: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Written:
    """New content: its digest and its bytes."""

    digest: str
    data: bytes


def closes_range(path: str) -> bool:
    """Whether a range ends after ``path``."""
    return hashlib.sha256(path.encode()).digest()[-1] == 0


def pack_range(entries: list[Entry]) -> tuple[Range, Written]:
    """Entries, sorted, as a range."""
    data = canonical_json([[entry.path, entry.digest, entry.size] for entry in entries])
    digest = sha256(data)
    found = Range(first=entries[0].path, last=entries[-1].path, digest=digest, count=len(entries))
    return found, Written(digest=digest, data=data)


def unpack_range(data: bytes) -> list[Entry]:
    """The entries of a range."""
    return [Entry(path=path, digest=digest, size=size) for path, digest, size in json.loads(data)]


def pack_tree(ranges: Iterable[Range]) -> Written:
    """Ranges, sorted, as a tree."""
    data = canonical_json([[item.first, item.last, item.digest, item.count] for item in ranges])
    return Written(digest=sha256(data), data=data)


def unpack_tree(data: bytes) -> list[Range]:
    """The ranges of a tree."""
    return [Range(first=a, last=b, digest=digest, count=count) for a, b, digest, count in json.loads(data)]


def apply(
    tree: list[Range], changes: Mapping[str, Change], load: Callable[[str], list[Entry]]
) -> tuple[list[Range], list[Written]]:
    """A tree after changes (path -> entry, or ``None`` for removal), and the ranges that are new in it.

    Args:
        load: gives the entries of the range with a digest; called only for ranges that change.
    """
    paths = sorted(changes)
    ranges: list[Range] = []
    written: list[Written] = []
    carried: list[Entry] = []
    position = 0

    def close(entries: list[Entry]) -> None:
        found, new = pack_range(entries)
        ranges.append(found)
        written.append(new)

    for item in tree:
        end = upper(paths, item.last, position)
        open_ended = not closes_range(item.last) and position < len(paths)  # later paths belong in it as well
        if end == position and not carried and not open_ended:
            ranges.append(item)
            continue
        merged = changed(load(item.digest), {path: changes[path] for path in paths[position:end]})
        position = end
        *whole, carried = split([*carried, *merged])
        for entries in whole:
            close(entries)
    *whole, carried = split([*carried, *changed([], {path: changes[path] for path in paths[position:]})])
    for entries in [*whole, *([carried] if carried else [])]:
        close(entries)
    return ranges, written


def upper(paths: list[str], last: str, start: int) -> int:
    """The index in sorted ``paths`` after everything up to and including ``last``."""
    index = bisect_left(paths, last, start)
    return index + 1 if index < len(paths) and paths[index] == last else index


def changed(entries: list[Entry], changes: Mapping[str, Change]) -> list[Entry]:
    """Sorted entries after changes."""
    if not changes:
        return entries
    found: dict[str, Change] = {entry.path: entry for entry in entries}
    found.update(changes)
    return [entry for _, entry in sorted(found.items()) if entry is not None]


def split(entries: list[Entry]) -> list[list[Entry]]:
    """Entries in runs that end where a range ends; the last run is what is left open, and may be empty."""
    runs: list[list[Entry]] = [[]]
    for entry in entries:
        runs[-1].append(entry)
        if closes_range(entry.path):
            runs.append([])
    return runs


def within(tree: list[Range], prefix: str) -> Iterator[Range]:
    """The ranges that may hold paths beginning with ``prefix``."""
    for item in tree:
        if item.last >= prefix and (item.first.startswith(prefix) or item.first <= prefix):
            yield item
