"""All that happened to a model in production, in the order of time: what a report of it shows.

::

    prediction logs --> who answered when          \\
    registry        --> versions, promotions        > Timeline
    lake            --> commits of the data         |
    the one table   --> figures and alarms          |
    last window     --> distributions of features  /
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow.compute as pc

from engine.errors import EngineError, NotFound, UsageError
from engine.lake.protocol import Commit, Lake
from engine.lake.uri import SCHEME, LakeUri, parse
from engine.monitor.model import OUTPUTS, Distribution, Window
from engine.monitor.reading import Choice, everything, times_of
from engine.monitor.table import Table
from engine.monitor.windows import moment_at
from engine.observe.check import families, last_window
from engine.observe.drift import WHOLE_ROW, beside
from engine.observe.subject import Observatory, Subject, inputs_of, score_table, subject_of
from engine.registry.history import moves
from engine.spec.vocabulary import PRODUCTION

PARTS = 60
"""A pause of more than this part of all the time ends a span of predictions."""
MOST_COMMITS = 10_000
"""So many commits of a branch are looked at."""
Row = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Span:
    """A time in which a version answered under an alias, without a long pause; and how many rows it was asked."""

    alias: str
    start: datetime
    end: datetime
    rows: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Lane:
    """A version: when it was made and of what, and when it answered. ``train`` has the uri, commit and digest."""

    version: int
    created: datetime
    run: str
    code: str
    train: Mapping[str, str]
    aliases: tuple[str, ...] = ()
    spans: tuple[Span, ...] = ()
    retired: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Promotion:
    """An alias came to name a version."""

    moment: datetime
    alias: str
    version: int
    how: str
    why: str
    who: str


@dataclass(frozen=True, kw_only=True, slots=True)
class DataCommit:
    """A commit of data that versions are made from; ``versions`` learned from just this one."""

    moment: datetime
    id: str
    uri: str
    message: str
    versions: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Alert:
    """An alarm, at the end of its window."""

    moment: datetime
    version: int
    alias: str
    signal: str
    text: str
    features: tuple[str, ...] = ()
    slice: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Beside:
    """Every watched feature's distribution in the last window of a stream, and in the reference."""

    version: int
    alias: str
    window: Window
    distributions: Mapping[str, Distribution]


@dataclass(frozen=True, kw_only=True, slots=True)
class Timeline:
    """A model's history. ``start`` and ``end`` span the predictions; without any, what is known of versions.

    ``alias`` is the one that live figures are shown of: production, or the one with the most rows.
    """

    model: str
    start: datetime
    end: datetime
    alias: str
    lanes: tuple[Lane, ...]
    promotions: tuple[Promotion, ...] = ()
    commits: tuple[DataCommit, ...] = ()
    alerts: tuple[Alert, ...] = ()
    figures: tuple[Row, ...] = ()
    beside: tuple[Beside, ...] = ()
    notes: tuple[str, ...] = field(default=())

    @property
    def rows(self) -> int:
        """How many rows were predicted, under any alias."""
        return sum(span.rows for lane in self.lanes for span in lane.spans)


def timeline(name: str, where: Observatory, table: Table, lake: Lake) -> Timeline:
    """What is known of a model, from its logs, the registry, the lake and the table.

    Raises:
        ModelNotFound: when there is no such model.
    """
    subjects = list(known_subjects(name, where))
    spans = spans_of(name, where)
    lanes = tuple(lane_of(subject, spans.get(subject.version.version, ())) for subject in reversed(subjects))
    seen = [moment for lane in lanes for span in lane.spans for moment in (span.start, span.end)]
    seen = seen or [lane.created for lane in lanes]
    start, end = (min(seen), max(seen)) if seen else (datetime.now(UTC),) * 2
    alias = shown_alias(lanes)
    figures = tuple(table.figures(name))
    commits, notes = commits_of(lanes, lake)
    return Timeline(
        model=name,
        start=start,
        end=end,
        alias=alias,
        lanes=lanes,
        promotions=tuple(promotions_of(name, where)),
        commits=commits,
        alerts=alerts_of(table.alarms(name), figures),
        figures=figures,
        beside=tuple(last_besides(subjects, lanes, alias, where)),
        notes=notes,
    )


def known_subjects(name: str, where: Observatory) -> Iterator[Subject]:
    """Every version whose record is still there, the newest first."""
    for version in where.registry.versions(name):
        try:
            yield subject_of(version, where)
        except NotFound:
            continue


# -- versions --------------------------------------------------------------------------------------------------------


def lane_of(subject: Subject, spans: Sequence[Span]) -> Lane:
    """A version and its spans."""
    origin = subject.origin
    return Lane(
        version=subject.version.version,
        created=instant(subject.version.created),
        run=origin.run,
        code=origin.code_commit or origin.code_digest,
        train=origin.train,
        aliases=subject.version.aliases,
        spans=tuple(spans),
        retired=subject.version.retired,
    )


def instant(text: str) -> datetime:
    """A time as the registry has it."""
    found = datetime.fromisoformat(text)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def spans_of(name: str, where: Observatory) -> dict[int, list[Span]]:
    """When each version answered, by alias."""
    rows = everything(where.logs / name, Choice(columns=("alias",))).table
    if rows.num_rows == 0:
        return {}
    times = times_of(rows)
    pause = max((int(times.max()) - int(times.min())) // PARTS, 1)
    found: dict[int, list[Span]] = {}
    for key in rows.group_by(["version", "alias"]).aggregate([]).sort_by("alias").to_pylist():
        mask = pc.and_(pc.equal(rows.column("version"), key["version"]), pc.equal(rows.column("alias"), key["alias"]))
        own = np.sort(times[np.asarray(mask.to_numpy())])
        for part in np.split(own, np.flatnonzero(np.diff(own) > pause) + 1):
            start, end = moment_at(int(part[0])), moment_at(int(part[-1]))
            found.setdefault(int(key["version"]), []).append(
                Span(alias=key["alias"], start=start, end=end, rows=len(part))
            )
    return found


def shown_alias(lanes: Sequence[Lane]) -> str:
    """The alias whose figures are shown: production if it was ever asked, else the one with the most rows."""
    counts: dict[str, int] = {}
    for lane in lanes:
        for span in lane.spans:
            counts[span.alias] = counts.get(span.alias, 0) + span.rows
    if PRODUCTION in counts or not counts:
        return PRODUCTION
    return max(counts, key=lambda alias: (counts[alias], alias))


def promotions_of(name: str, where: Observatory) -> Iterator[Promotion]:
    """Every move of an alias to a version."""
    for move in moves(where.registry.ledger(name)):
        if move.version is not None:
            yield Promotion(
                moment=instant(move.when), alias=move.alias, version=move.version, how=move.how, why=move.why,
                who=move.who,
            )  # fmt: skip


# -- data ------------------------------------------------------------------------------------------------------------


def commits_of(lanes: Sequence[Lane], lake: Lake) -> tuple[tuple[DataCommit, ...], tuple[str, ...]]:
    """The commits of the data that versions learn from: of the branches that their specs name, and the very ones.

    A lake that cannot be asked gives no commits, and a note that says so.
    """
    learned: dict[str, list[int]] = {}
    places: dict[tuple[str, str], LakeUri] = {}
    for lane in lanes:
        if str(lane.train.get("uri", "")).startswith(SCHEME):
            uri = parse(lane.train["uri"])
            learned.setdefault(lane.train["commit"], []).append(lane.version)
            places[uri.repository, uri.ref] = uri
            places[uri.repository, lane.train["commit"]] = uri
    found: dict[str, DataCommit] = {}
    notes: list[str] = []
    for (repository, ref), uri in places.items():
        try:
            for commit in first(lake.log(repository, ref)):
                found.setdefault(commit.id, data_commit(commit, uri, learned))
        except EngineError as error:
            if ref in learned or not isinstance(error, NotFound):  # a branch may be gone; a pinned commit may not
                notes.append(f"the commits of {repository}/{ref[:12]} are not shown: {error.fact}")
    return tuple(sorted(found.values(), key=lambda item: (item.moment, item.id))), tuple(notes)


def first(log: Iterator[Commit]) -> Iterator[Commit]:
    """The newest commits of a log, as many as are looked at."""
    for _, commit in zip(range(MOST_COMMITS), log, strict=False):
        yield commit


def data_commit(commit: Commit, uri: LakeUri, learned: Mapping[str, Sequence[int]]) -> DataCommit:
    """A commit of the lake as it is shown."""
    return DataCommit(
        moment=datetime.fromtimestamp(commit.time, UTC),
        id=commit.id,
        uri=f"{SCHEME}{uri.repository}/{uri.ref}",
        message=commit.message,
        versions=tuple(learned.get(commit.id, ())),
    )


# -- alarms ----------------------------------------------------------------------------------------------------------


def alerts_of(alarms: Sequence[Row], figures: Sequence[Row]) -> tuple[Alert, ...]:
    """The alarms that were raised, and those that figures tell of which a check by hand left; the oldest first."""
    found = [
        Alert(
            moment=row["window_end"], version=row["version"], alias=row["alias"], slice=row["slice"],
            signal=row["signal"], text=row["text"], features=tuple(row["features"]),
        )
        for row in alarms
    ]  # fmt: skip
    raised = {(item.version, item.alias, item.slice, item.signal, item.moment) for item in found}
    loose: dict[tuple[Any, ...], list[Row]] = {}
    for row in figures:
        signal = {"live": "performance"}.get(row["kind"], row["kind"])
        key = (row["version"], row["alias"], row["slice"], signal, row["window_end"])
        if row["alarm"] and row["window_end"] is not None and key not in raised:
            loose.setdefault(key, []).append(row)
    found += [alert_of(key, rows) for key, rows in loose.items()]
    return tuple(sorted(found, key=lambda item: (item.moment, item.version, item.signal)))


def alert_of(key: tuple[Any, ...], rows: Sequence[Row]) -> Alert:
    """An alarm that only figures tell of."""
    version, alias, slice_, signal, moment = key
    names = tuple(dict.fromkeys(row["feature"] or row["metric"] for row in rows))
    texts = {
        "drift": f"drift of {', '.join(names)}",
        "schema": f"{max(row['value'] for row in rows):.1%} of the rows break the schema",
    }
    text = texts.get(signal) or ", ".join(
        f"{row['metric']} is {row['value']:.4f}, limit {row['limit']:g}" for row in rows
    )
    return Alert(moment=moment, version=version, alias=alias, slice=slice_, signal=signal, text=text, features=names)


# -- distributions ---------------------------------------------------------------------------------------------------


def last_besides(
    subjects: Sequence[Subject], lanes: Sequence[Lane], alias: str, where: Observatory
) -> Iterator[Beside]:
    """The distributions in the last window of each size, of the version that answered last under an alias."""
    ends = {
        lane.version: max(span.end for span in lane.spans if span.alias == alias)
        for lane in lanes
        if any(span.alias == alias for span in lane.spans)
    }
    if not ends:
        return
    version = max(ends, key=lambda item: (ends[item], item))
    subject = next(item for item in subjects if item.version.version == version)
    try:
        grouped = families(subject)
    except (NotFound, UsageError):
        return  # what its detectors were fitted on was removed
    until = moment_at(int(ends[version].timestamp() * 1e6) + 1)
    for size, watches in grouped.items():
        found, window = last_window(subject, alias, size, where, until)
        if window is None:
            continue
        scores = score_table(found.table, subject)
        inputs = inputs_of(found.table)
        own = beside([watch for watch in watches if watch.name != OUTPUTS], [WHOLE_ROW], inputs, scores)
        more = beside([watch for watch in watches if watch.name == OUTPUTS], [WHOLE_ROW], inputs, scores)
        yield Beside(version=version, alias=alias, window=window, distributions={**own, **more})
