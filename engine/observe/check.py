"""Look at a model once: its last window of predictions, or a table, against what its run knows. For cron and CI."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa

from engine.errors import NotFound, UsageError
from engine.monitor.budget import allot
from engine.monitor.model import Damage, Stream, Window
from engine.monitor.reading import Choice, Found, between, newest, times_of
from engine.monitor.windows import Size, length_of, moment_at, size_of, span_at
from engine.observe.drift import Judgement, judged, of_slice
from engine.observe.subject import Observatory, Subject, Watch, inputs_of, subject_of, table_of
from engine.registry.model import ModelRef, ModelVersion
from engine.registry.protocol import Registry
from engine.spec.vocabulary import PRODUCTION
from engine.steps.slices import memberships, parts, slice_of

LOOKED_AT = 4
"""How many windows back the aliases of a version are looked for."""
MOST_ROWS = 1_000_000
"""Of a window by time with more rows than this so many are drawn evenly, in their order."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """What to look at. Without a ``size`` each detector has the window of the spec.

    ``until``: windows end there; without it now.
    """

    ref: ModelRef
    size: Size | None = None
    until: datetime | None = None
    slice: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Waiting:
    """A window that has not enough rows to be judged."""

    stream: Stream
    size: Size
    rows: int
    wanted: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Checked:
    """What was found. ``source`` is the table that was looked at, when it was not the log."""

    subject: Subject
    judgements: tuple[Judgement, ...] = ()
    waiting: tuple[Waiting, ...] = ()
    damaged: tuple[Damage, ...] = ()
    source: str = ""
    notes: tuple[str, ...] = field(default=())

    @property
    def is_alarmed(self) -> bool:
        """Whether there is an alarm."""
        return any(
            item.alarm is not None or item.violating or any(verdict.drift for verdict in item.online.values())
            for item in self.judgements
        )


def version_of(ref: ModelRef, registry: Registry) -> ModelVersion:
    """The version that a reference means: without an alias the one in production, if there is one.

    Raises:
        ModelNotFound: when there is none.
    """
    if ref.alias is None and ref.version is None and PRODUCTION in registry.aliases(ref.name):
        return registry.get(ModelRef(name=ref.name, alias=PRODUCTION))
    return registry.get(ref)


def require_watched(subject: Subject) -> None:
    """Refuse a model of which nothing is watched.

    Raises:
        UsageError: then.
    """
    if not subject.watches:
        hint = "add `monitor.detectors` to its spec and run it again"
        raise UsageError(
            "its spec has no detectors, so there is nothing to check", place=str(subject.version), hint=hint
        )


def check_log(asked: Asked, where: Observatory, now: datetime) -> Checked:
    """Judge the last window of each alias's predictions.

    Raises:
        ModelNotFound, NotFound: when there is no such version, or not what its run left.
        UsageError: when it has no detectors, or for a slice by what is not logged.
    """
    subject = subject_of(version_of(asked.ref, where.registry), where)
    require_watched(subject)
    require_slice(subject, asked.slice, subject.features)
    folder = where.logs / subject.name
    judgements: list[Judgement] = []
    waiting: list[Waiting] = []
    damaged: dict[Damage, None] = {}
    for size, watches in families(subject, asked.size).items():
        for alias in aliases_of(asked, subject, where, size):
            stream = Stream(model=subject.name, version=subject.version.version, alias=alias)
            found, window = last_window(subject, alias, size, where, asked.until or now)
            damaged.update(dict.fromkeys(found.damaged))
            wanted = size.rows or 1
            if window is None or found.table.num_rows < wanted:
                rows = found.table.num_rows
                waiting.append(Waiting(stream=stream, size=size, rows=rows, wanted=wanted))
                continue
            judgements += by_slice(asked, subject, watches, stream, window, found.table)
    return Checked(
        subject=subject,
        judgements=tuple(judgements),
        waiting=tuple(waiting),
        damaged=tuple(damaged),
        source=str(folder),
    )


def check_table(asked: Asked, where: Observatory, table: pa.Table, shown: str, now: datetime) -> Checked:
    """Judge a table that has the model's inputs as columns, as one window.

    Raises:
        ModelNotFound, NotFound: when there is no such version, or not what its run left.
        UsageError: when it has no detectors, or the table has no rows.
    """
    subject = subject_of(version_of(asked.ref, where.registry), where)
    require_watched(subject)
    if table.num_rows == 0:
        raise UsageError("it has no rows", place=shown, hint="name a table that has some")
    moment = asked.until or now
    rows = (
        table
        if asked.size is None or asked.size.rows is None
        else table.slice(max(table.num_rows - asked.size.rows, 0))
    )
    window = Window(size=str(rows.num_rows), start=moment, end=moment, rows=rows.num_rows)
    stream = Stream(model=subject.name, version=subject.version.version, alias="")
    watches = [*subject.watches]
    return Checked(
        subject=subject,
        judgements=tuple(by_slice(asked, subject, watches, stream, window, rows, raw=True)),
        source=shown,
    )


def families(subject: Subject, size: Size | None = None) -> dict[Size, tuple[Watch, ...]]:
    """The detectors that are judged together: those with the same window. Scores go with the first of them."""
    watches = list(subject.watches)
    outputs = subject.outputs
    if outputs is not None:
        watches.append(outputs)
    found: dict[Size, list[Watch]] = {}
    for watch in watches:
        found.setdefault(size or watch.size, []).append(watch)
    return {key: tuple(items) for key, items in found.items()}


def aliases_of(asked: Asked, subject: Subject, where: Observatory, size: Size) -> list[str]:
    """The aliases whose predictions are looked at: the named one, else all under which the version answered."""
    if asked.ref.alias is not None:
        return [asked.ref.alias]
    choice = Choice(version=subject.version.version, columns=("alias",))
    recent = newest(where.logs / subject.name, choice, LOOKED_AT * (size.rows or 1000), asked.until)
    found = sorted(set(recent.table.column("alias").to_pylist()))
    return found or list(subject.version.aliases[:1]) or [PRODUCTION]


def last_window(
    subject: Subject, alias: str, size: Size, where: Observatory, until: datetime
) -> tuple[Found, Window | None]:
    """The last rows of a stream before a moment, or those of the time before it; and the window that they are."""
    folder = where.logs / subject.name
    choice = Choice(version=subject.version.version, aliases=(alias,))
    if size.rows is not None:
        found = newest(folder, choice, size.rows, until)
        return found, window_of(found.table, size)
    if size.month:
        start, _ = span_at(size, until)
    else:
        start = until - timedelta(seconds=size.seconds or 0.0)
    found = between(folder, choice, start, until)
    if not found.table.num_rows:
        return found, None
    window = Window(size=str(size), start=start, end=until, rows=found.table.num_rows)
    return Found(thinned(found.table), found.damaged), window


def window_of(rows: pa.Table, size: Size, late: int = 0) -> Window | None:
    """The window that rows in their order are; nothing of none."""
    if rows.num_rows == 0:
        return None
    times = times_of(rows)
    first, last = moment_at(int(times[0])), moment_at(int(times[-1]))
    return Window(size=str(size), start=first, end=last, rows=rows.num_rows, late=late)


def thinned(rows: pa.Table) -> pa.Table:
    """At most :data:`MOST_ROWS` rows, evenly chosen."""
    if rows.num_rows <= MOST_ROWS:
        return rows
    step = rows.num_rows / MOST_ROWS
    return rows.take(pa.array([int(number * step) for number in range(MOST_ROWS)]))


def alpha_of(subject: Subject, size: Size, elapsed: float | None = None) -> float | None:
    """The significance of a window; nothing without a budget.

    Args:
        elapsed: seconds since the window before it; of windows by time their length counts.
    """
    budget = subject.budget
    return None if budget is None else allot(budget, length_of(size) if size.rows is None else elapsed)


def by_slice(
    asked: Asked,
    subject: Subject,
    watches: Sequence[Watch],
    stream: Stream,
    window: Window,
    rows: pa.Table,
    *,
    raw: bool = False,
) -> Iterator[Judgement]:
    """Judge a window; or each part of a slice against the same part of the reference, which share its alpha.

    Raises:
        UsageError: for a column that is not among the inputs.
    """
    size = Size(rows=rows.num_rows) if raw else size_of(window.size)
    alpha = alpha_of(subject, size)
    if not asked.slice:
        yield judged(subject, watches, stream, window, rows, alpha, raw=raw)
        return
    inputs = rows if raw else inputs_of(rows)
    wanted = slice_in(subject, asked.slice)
    require_slice(subject, asked.slice, inputs.column_names)
    reference = reference_table(subject)
    here = memberships(inputs, [wanted])[asked.slice]
    there = dict(parts(memberships(reference, [wanted])[asked.slice], slice_of(wanted)))
    found = [(name, mask) for name, mask in parts(here, slice_of(wanted)) if name in there]
    for name, mask in found:
        part = rows.filter(pa.array(mask))
        own = of_slice(subject, reference.filter(pa.array(there[name])))
        of_part = Stream(model=stream.model, version=stream.version, alias=stream.alias, slice=f"{asked.slice}={name}")
        smaller = Window(size=window.size, start=window.start, end=window.end, rows=part.num_rows)
        share = None if alpha is None else alpha / len(found)
        yield judged(subject, own, of_part, smaller, part, share, raw=raw)


def slice_in(subject: Subject, name: str) -> Any:
    """A slice of the spec by its name, or an input."""
    return next((item for item in subject.spec["evaluate"]["slices"] if slice_of(item)["name"] == name), name)


def require_slice(subject: Subject, name: str, columns: Sequence[str]) -> None:
    """Refuse a slice by what is none of the columns.

    Raises:
        NotFound: then.
    """
    column = slice_of(slice_in(subject, name))["column"] if name else None
    if column is not None and column not in columns:
        raise NotFound("input", column, columns)


def reference_table(subject: Subject) -> pa.Table:
    """The whole table that the detectors were fitted on.

    Raises:
        NotFound: when it was removed.
    """
    import json

    plan = json.loads(subject.store.read(subject.record.plan_digest))
    step, output = next(item["inputs"]["table"] for item in plan["steps"] if item["kind"] == "detect")
    return table_of(subject.record.subjects[f"{step}/{output}"], subject.store)


def document(checked: Checked) -> dict[str, Any]:
    """What was found as JSON."""
    from engine.observe.drift import document as of_judgement

    version = checked.subject.version
    return {
        "model": version.name,
        "version": version.version,
        "run": checked.subject.record.run_id,
        "source": checked.source,
        "alarm": checked.is_alarmed,
        "checks": [of_judgement(item) for item in checked.judgements],
        "waiting": [
            {"alias": item.stream.alias, "window": str(item.size), "rows": item.rows, "wanted": item.wanted}
            for item in checked.waiting
        ],
        "damaged": [damage_document(item) for item in checked.damaged],
    }


def damage_document(item: Damage) -> Mapping[str, str]:
    """A file that could not be read as JSON."""
    return {"file": item.file, "fact": item.fact}
