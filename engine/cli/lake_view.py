"""How what is in a lake looks: to a person, and as JSON."""

from __future__ import annotations

import json as codec
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime

from engine.cli import view
from engine.lake.protocol import Commit, Difference, Entry, Repository
from engine.report.clean import lines, terminal

UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
SIGNS = {"added": "+", "removed": "-", "changed": "~", "conflict": "!"}
COLOURS = {"added": "\x1b[32m", "removed": view.RED, "changed": view.YELLOW, "conflict": view.RED}
IN_MEMORY = 1 << 23
Write = Callable[[object], None]


def size(count: int) -> str:
    """``512 B``, ``1.5 KiB``, ``2.0 GiB``."""
    power = next((power for power in range(len(UNITS)) if count < 1024 ** (power + 1)), len(UNITS) - 1)
    return f"{count / 1024**power:,.1f} {UNITS[power]}" if power else f"{count} B"


def moment(seconds: int) -> str:
    """A time in Unix seconds, in UTC; a dash for one that no calendar has."""
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}"
    except (ValueError, OverflowError, OSError):
        return "-"


def entry_line(entry: Entry) -> str:
    """An object, or a folder, in a line of ``ls``."""
    if entry.is_prefix:
        return f"{'':>11}  {'':19}  {terminal(entry.path)}"
    return f"{size(entry.size):>11}  {moment(entry.time):19}  {terminal(entry.path)}"


def difference_line(item: Difference) -> str:
    """A path that differs: ``+`` added, ``-`` removed, ``~`` changed, ``!`` changed on both sides."""
    note = "  (conflict)" if item.change == "conflict" else ""
    return view.paint(f"{SIGNS[item.change]} {terminal(item.path)}{note}", COLOURS[item.change], stream=sys.stdout)


def commit_lines(commit: Commit) -> Iterator[str]:
    """A commit as ``log`` shows it."""
    yield view.paint(f"commit {commit.id}", view.YELLOW, stream=sys.stdout)
    if len(commit.parents) > 1:
        yield f"Merge:  {' '.join(view.short(parent) for parent in commit.parents)}"
    yield f"Author: {terminal(commit.author) or '-'}"
    yield f"Date:   {moment(commit.time)} UTC"
    yield ""
    yield from (f"    {line}".rstrip() for line in lines(commit.message))
    if commit.metadata:
        yield ""
        yield from (f"    {terminal(key)} = {terminal(value)}" for key, value in sorted(commit.metadata.items()))
    yield ""


# -- JSON ---------------------------------------------------------------------------------------------


def repository_document(repository: Repository) -> dict[str, object]:
    """A repository as JSON."""
    return {"name": repository.name, "default_branch": repository.default_branch, "time": repository.time}


def commit_document(commit: Commit) -> dict[str, object]:
    """A commit as JSON; the time in Unix seconds."""
    return {
        "id": commit.id,
        "parents": list(commit.parents),
        "message": commit.message,
        "author": commit.author,
        "time": commit.time,
        "metadata": dict(commit.metadata),
    }


def entry_document(entry: Entry) -> dict[str, object]:
    """An object as JSON, or a folder, of which only the path is known."""
    if entry.is_prefix:
        return {"path": entry.path, "type": "prefix"}
    return {
        "path": entry.path,
        "type": "object",
        "size": entry.size,
        "time": entry.time,
        "digest": f"sha256:{entry.digest}" if entry.digest else None,
        "checksum": entry.checksum,
        "content_type": entry.content_type,
        "metadata": dict(entry.metadata),
    }


def difference_document(item: Difference) -> dict[str, object]:
    """A path that differs, as JSON."""
    return {"path": item.path, "change": item.change, "size": item.size}


@contextmanager
def growing_document(head: Mapping[str, object], key: str) -> Iterator[Write]:
    """One JSON document, ``head`` with a list under ``key`` that is written item by item.

    It is printed when the block is left without an error, so an error later on is still the only document.
    """
    with tempfile.SpooledTemporaryFile(IN_MEMORY, "w+", encoding="utf-8", errors="surrogatepass") as kept:
        between = ""

        def write(item: object) -> None:
            nonlocal between
            kept.write(between + codec.dumps(item))
            between = ", "

        opening = codec.dumps(dict(head))[:-1]
        kept.write(f"{opening}{', ' if head else ''}{codec.dumps(key)}: [")
        yield write
        kept.write("]}\n")
        kept.seek(0)
        shutil.copyfileobj(kept, sys.stdout)


def show_differences(found: Iterable[Difference], head: Mapping[str, object], nothing: str, *, json: bool) -> int:
    """Print differences as they come, and how many there were of each kind; their number."""
    counts = dict.fromkeys(SIGNS, 0)
    if json:
        with growing_document(head, "changes") as write:
            for item in found:
                counts[item.change] += 1
                write(difference_document(item))
        return sum(counts.values())
    for item in found:
        counts[item.change] += 1
        view.line(difference_line(item))
    said = ", ".join(f"{count:,} {change}" for change, count in counts.items() if count)
    sys.stdout.flush()
    view.note(said or nothing)
    return sum(counts.values())
