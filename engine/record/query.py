"""Which runs somebody asks for: conditions that are typed, as conditions on the index."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from engine.errors import NotFound, UsageError, suggestion
from engine.lake.uri import SCHEME, LakeUri, parse
from engine.record.index import Row, rows

STATUSES = ("passed", "refused", "failed")
EXPRESSION = re.compile(r"^\s*([^\s<>=!]+)\s*(<=|>=|==|=|!=|<|>)\s*(\S+)\s*$")
HEX = re.compile(r"^(?:sha256:)?([0-9a-f]{6,64})$")
AGO = re.compile(r"^(\d+)([mhdw])$")
BEFORE_ALL = "0000"
UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
MOST = (1 << 63) - 1  # what SQLite can count
COLUMNS = {"started": "e.started", "name": "e.name", "status": "e.status"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Query:
    """What is asked for. Dates are typed: 2026-11-23, 2026-11-23T08:00, or 7d for seven days ago."""

    name: str | None = None
    status: str | None = None
    metrics: tuple[str, ...] = ()
    since: str | None = None
    until: str | None = None
    data: str | None = None
    sort: str = "started"
    reverse: bool = False
    limit: int | None = None


def answer(
    db: sqlite3.Connection,
    asked: Query,
    now: datetime,
    commit_of: Callable[[LakeUri], str],
    *,
    listed: bool = False,
) -> list[Row]:
    """The newest execution of each run that ``asked`` means, sorted: by default the newest first.

    Args:
        commit_of: which commit a lake URI means; raises NotFound where nothing lies.
        listed: give each run's document, too.

    Raises:
        UsageError: for a condition that does not parse.
        NotFound: for a metric, or a ref, that there is not.
    """
    conditions = ["e.newest = 1"]
    values: list[object] = []
    for text, given in where(db, asked, now, commit_of):
        conditions.append(text)
        values += given
    order, more = order_of(db, asked)
    limit = "" if asked.limit is None else f"limit {min(asked.limit, MOST)}"
    rest = f"where {' and '.join(conditions)} order by {order} {limit}"
    return rows(db, rest, [*values, *more], listed=listed)


def where(
    db: sqlite3.Connection, asked: Query, now: datetime, commit_of: Callable[[LakeUri], str]
) -> Iterator[tuple[str, Sequence[object]]]:
    """Conditions and the values in them."""
    if asked.name is not None:
        yield "e.name = ?", [asked.name]
    if asked.status is not None:
        require_status(asked.status)
        yield "e.status = ?", [asked.status]
    for text in asked.metrics:
        yield metric_condition(db, text)
    if asked.since is not None:
        yield "e.started >= ?", [moment(asked.since, now)]
    if asked.until is not None:
        yield "e.started < ?", [moment(asked.until, now)]
    if asked.data is not None:
        condition, given = data_condition(asked.data, commit_of)
        of_run = "select 1 from pins p where p.run = e.run"  # in any of its executions
        yield f"exists ({of_run} and {condition})", given


def require_status(name: str) -> None:
    """Refuse a status that no run can have.

    Raises:
        UsageError: with the nearest.
    """
    if name not in STATUSES:
        raise UsageError(f'no status "{name}"', hint=suggestion(name, STATUSES))


def metric_condition(db: sqlite3.Connection, text: str) -> tuple[str, Sequence[object]]:
    """``roc_auc>=0.65`` as a condition."""
    found = EXPRESSION.match(text)
    hint = "write METRIC>=NUMBER, with <, <=, >, >=, = or !="
    if found is None:
        raise UsageError(f'"{text}" is no condition on a metric', hint=hint)
    try:
        limit = float(found[3])
    except ValueError as error:
        raise UsageError(f'"{found[3]}" in "{text}" is not a number', hint=hint) from error
    require_metric(db, found[1])
    return f"json_extract(e.metrics, ?) {found[2]} ?", [json_path(found[1]), limit]


def json_path(metric: str) -> str:
    """Where a metric stands in the JSON of all metrics."""
    return f'$."{metric}"'


def require_metric(db: sqlite3.Connection, name: str) -> None:
    """Refuse a metric that no run has.

    Raises:
        NotFound: with the nearest that some have.
    """
    known = [row[0] for row in db.execute("select distinct key from executions, json_each(executions.metrics)")]
    if name not in known:
        raise NotFound("metric", name, known, hint="" if known else "no run has any yet")


def moment(text: str, now: datetime) -> str:
    """A typed date, or a time before now, as records have it: ISO 8601 in UTC."""
    ago = AGO.match(text)
    if ago:
        try:
            found = now - timedelta(**{UNITS[ago[2]]: int(ago[1])})
        except OverflowError:
            return BEFORE_ALL
    else:
        try:
            found = datetime.fromisoformat(text)
        except ValueError as error:
            hint = "write 2026-11-23, 2026-11-23T08:00, or 30m, 12h, 7d, 4w for so long ago"
            raise UsageError(f'"{text}" is not a date', hint=hint) from error
        found = found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=now.tzinfo).astimezone(UTC)
    return found.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S")


def data_condition(text: str, commit_of: Callable[[LakeUri], str]) -> tuple[str, Sequence[object]]:
    """A commit, a digest, or a lake URI, as a condition on the pins ``p``."""
    found = HEX.match(text)
    if found:
        by_object = "p.manifest in (select manifest from objects where digest glob ?)"
        return f"(p.lake_commit glob ? or p.manifest glob ? or {by_object})", [f"{found[1]}*"] * 3
    if not text.startswith(SCHEME):
        hint = f"give a commit id, a digest, or a URI as {SCHEME}flights/main/"
        raise UsageError(f'"{text}" is no version of data', hint=hint)
    uri = parse(text)
    return pinned_at(uri, commit_of(uri))


def pinned_at(uri: LakeUri, commit: str) -> tuple[str, list[object]]:
    """The pins ``p`` of what lies at, below or above a path at a commit, as a condition."""
    condition = "p.repository = ? and p.lake_commit = ?"
    condition += " and (substr(p.path, 1, ?) = ? or substr(?, 1, length(p.path)) = p.path)"
    return condition, [uri.repository, commit, len(uri.path), uri.path, uri.path]


def order_of(db: sqlite3.Connection, asked: Query) -> tuple[str, Sequence[object]]:
    """The order that was asked for; runs without the metric come last."""
    if asked.sort in COLUMNS:
        backward = (asked.sort == "started") != asked.reverse
        return f"{COLUMNS[asked.sort]} {'desc' if backward else ''}, e.started desc, e.run", []
    require_metric(db, asked.sort)
    path = json_path(asked.sort)
    value = "json_extract(e.metrics, ?)"
    return f"{value} is null, {value} {'' if asked.reverse else 'desc'}, e.started desc", [path, path]
