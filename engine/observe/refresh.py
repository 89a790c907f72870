"""Bring the table up to date with the logs: every stream's live and estimated figures, window by window."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from engine.digest import digest_of
from engine.errors import NotFound
from engine.monitor.labels import Labels, held
from engine.monitor.model import Damage, Figure, Raised, Stream, Window
from engine.monitor.reading import Choice, everything
from engine.monitor.table import Change, Table
from engine.monitor.windows import MONTH
from engine.observe.performance import (
    cut,
    estimated_figures,
    live_figures,
    part_of,
    performance_alarms,
    sizes_of,
    sliced,
    test_figures,
)
from engine.observe.subject import Observatory, Subject, subject_of
from engine.predictions.labels import FOLDER
from engine.predictions.log import INPUT, OPEN, OUTPUT
from engine.steps.slices import slice_of

REFRESHED = "refreshed:"
WATCHED = "watched:"
Enter = Callable[[Change, Raised, Subject], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Refreshed:
    """What was computed: how many figures, and the labels that they rest on. ``changed``: nothing was, if false."""

    figures: int = 0
    labels: Labels | None = None
    changed: bool = False
    alarms: tuple[Raised, ...] = ()
    damaged: tuple[Damage, ...] = field(default=())


def refresh(
    name: str, where: Observatory, table: Table, now: datetime, *, enter: Enter | None = None, anew: bool = False
) -> Refreshed:
    """Compute a model's figures from its logs, unless nothing came since the last time.

    Args:
        enter: is given each alarm of a limit, in the same transaction: whoever watches announces it.
        anew: also when nothing came.

    Raises:
        ModelNotFound, NotFound: when there is no such model, or not what its runs left.
    """
    folder = where.logs / name
    versions = where.registry.versions(name)
    mark = digest_of([stamp(folder), [[item.version, list(item.runs)] for item in versions], operations(name, where)])
    kept = (WATCHED if enter is not None else REFRESHED) + name
    if not anew and table.progress(kept) == mark.encode():
        return Refreshed()
    labels = held(folder)
    damaged: dict[Damage, None] = dict.fromkeys(labels.damaged)
    made: list[tuple[Subject, list[Figure]]] = []
    for version in versions:
        try:
            subject = subject_of(version, where)
        except NotFound:
            continue  # the records of its runs were removed
        made.append((subject, list(figures_of(subject, where, labels, damaged))))
    count, alarms = 0, []
    with table.change() as change:
        for subject, figures in made:
            for size in sizes_of(subject):
                change.clear(name, subject.version.version, ("live", "estimated"), str(size))
            change.put(figures, subject.origin, now)
            count += len(figures)
            for raised in performance_alarms(figures):
                alarms.append(raised)
                if enter is not None:
                    enter(change, raised, subject)
        change.keep(REFRESHED + name, mark.encode(), {})
        if enter is not None:
            change.keep(kept, mark.encode(), {})
    table.publish()
    return Refreshed(figures=count, labels=labels, changed=True, alarms=tuple(alarms), damaged=tuple(damaged))


def figures_of(subject: Subject, where: Observatory, labels: Labels, damaged: dict[Damage, None]) -> Iterator[Figure]:
    """Every figure of a version that is no test for drift."""
    yield from test_figures(subject)
    sliced_by = [slice_of(item)["column"] for item in subject.spec["evaluate"]["slices"]]
    columns = (OUTPUT, *(f"{INPUT}{name}" for name in sliced_by if name))
    if None in sliced_by:  # a condition may be on any input
        columns = (OUTPUT, INPUT)
    found = everything(where.logs / subject.name, Choice(version=subject.version.version, columns=columns))
    damaged.update(dict.fromkeys(found.damaged))
    if not found.table.num_rows or not any(name.startswith(OUTPUT) for name in found.table.column_names):
        return
    import pyarrow as pa
    import pyarrow.compute as pc

    for alias in sorted(pc.unique(found.table.column("alias")).to_pylist()):
        stream = Stream(model=subject.name, version=subject.version.version, alias=alias)
        rows = found.table.filter(pc.equal(found.table.column("alias"), pa.scalar(alias)))
        for size in sizes_of(subject):
            for window, part in cut(rows, size):
                yield from window_figures(subject, stream, window, part, labels)


def window_figures(subject: Subject, stream: Stream, window: Window, rows: object, labels: Labels) -> Iterator[Figure]:
    """A window's figures; of a calendar month those of its slices, too."""
    import pyarrow as pa

    assert isinstance(rows, pa.Table)
    whole = part_of(stream, window, rows, labels)
    parts = [whole, *(sliced(subject, whole, labels) if window.size == MONTH else ())]
    for part in parts:
        live = list(live_figures(subject, part))
        yield from live
        by_metric: Mapping[str, Figure] = {figure.metric: figure for figure in live}
        yield from estimated_figures(subject, part, by_metric)


def stamp(folder: Path) -> list[list[object]]:
    """What tells whether anything came to a model's logs: its folders, and its open streams with their sizes."""
    found: list[list[object]] = []
    for below in (folder, folder / FOLDER):
        for path in sorted(below.glob("*")) if below.is_dir() else ():
            if path.name == OPEN:
                found += [[entry.name, entry.stat().st_size] for entry in sorted(path.glob("*.arrows"))]
            elif path.is_dir() and path.name != FOLDER:
                found.append([path.name, path.stat().st_mtime_ns])
    return found


def operations(name: str, where: Observatory) -> str:
    """What tells whether the limits of a model's versions changed."""
    parts = [where.records.newest_operation(item.runs).get("monitor") for item in where.registry.versions(name)]
    return json.dumps(parts, sort_keys=True)
