"""The one table: every figure of every model with the versions behind it, in SQLite, and as Parquet for DuckDB.

::

    monitor/
      monitor.db        figures, alarms, what is still to be sent, and how far each log was followed
      figures.parquet   the table, written anew whenever it changed

A figure is found by what it is about (stream, kind, metric, detector, feature, window): what is computed again takes
the place of what was.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from engine.errors import UsageError, writing
from engine.monitor.model import Figure, Origin, Raised, Stream, Window
from engine.monitor.windows import micros, moment_at
from engine.store.sqlite import reading, transaction

FILE = "monitor.db"
PARQUET = "figures.parquet"
COLUMNS: Mapping[str, str] = {
    "model": "text", "version": "integer", "alias": "text", "slice": "text", "kind": "text", "metric": "text",
    "detector": "text", "feature": "text", "window": "text", "window_start": "integer", "window_end": "integer",
    "rows": "integer", "n": "integer", "value": "real", "low": "real", "high": "real", "confidence": "real",
    "method": "text", "distance": "real", "limit": "real", "alarm": "integer", "error": "real", "run": "text",
    "code_commit": "text", "code_digest": "text", "train_uri": "text", "train_commit": "text", "train_digest": "text",
    "data": "text", "computed": "integer",
}  # fmt: skip
"""The table's columns. Times are microseconds since 1970 here and timestamps in UTC in Parquet and JSON; ``data`` is
JSON: each source's uri, commit and digest."""
SHORTEST = 6
"""Characters of an alarm's id that name it."""
TIMES = ("window_start", "window_end", "computed")
KEY = (
    "model", "version", "alias", "slice", "kind", "metric", "detector", "feature", "window", "window_start",
)  # fmt: skip
SCHEMA = f"""
create table if not exists figures (
  {", ".join(f'"{name}" {kind}' for name, kind in COLUMNS.items())},
  primary key ({", ".join(f'"{name}"' for name in KEY)})
) without rowid;
create table if not exists alarms (
  id text primary key, key text not null, model text not null, version integer not null, alias text not null,
  slice text not null, signal text not null, "window" text not null, window_start integer not null,
  window_end integer not null, rows integer not null, text text not null, features text not null, detail text not null,
  raised integer not null, announced integer not null
);
create index if not exists alarms_by_model on alarms (model, raised);
create table if not exists outbox (
  alarm text not null, target text not null, body blob not null, attempts integer not null, due integer not null,
  done integer, outcome text not null, primary key (alarm, target)
);
create table if not exists followed (model text not null, file text not null, rows integer not null,
  primary key (model, file)) without rowid;
create table if not exists progress (model text primary key, state blob not null);
create table if not exists retrained (
  alarm text primary key, model text not null, started integer not null, outcome text not null
);
"""


class Table:
    """The table below ``folder``. Several processes may use it at once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / FILE

    @property
    def exists(self) -> bool:
        """Whether anything was ever written to it."""
        return self.path.is_file()

    @contextmanager
    def change(self) -> Iterator[Change]:
        """A write: all of it or nothing.

        Raises:
            StorageFull, StorageUnwritable, Failed: when it cannot be written.
        """
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        with transaction(self.path, SCHEMA) as db:
            yield Change(db)

    def figures(self, model: str = "", **equal: object) -> list[dict[str, Any]]:
        """The figures of a model (all, without one), by version, kind, metric and time, with times as datetimes.

        Args:
            equal: columns and the values that they must have.
        """
        wanted = {**({"model": model} if model else {}), **equal}
        where = " and ".join(f'"{name}" = ?' for name in wanted) or "true"
        order = ", ".join(f'"{name}"' for name in ("model", "version", "alias", "slice", "window", "window_start"))
        query = f'select * from figures where {where} order by {order}, "kind", "metric", "detector", "feature"'  # noqa: S608
        return [with_times(dict(row)) for row in self._asked(query, list(wanted.values()))]

    def alarms(self, model: str = "") -> list[dict[str, Any]]:
        """The alarms of a model, the oldest first."""
        where = "where model = ?" if model else ""
        query = f"select * from alarms {where} order by window_end, id"  # noqa: S608
        return [shown_alarm(dict(row)) for row in self._asked(query, [model] if model else [])]

    def outbox(self, model: str = "") -> list[dict[str, Any]]:
        """What was to be sent, and what came of it."""
        query = "select o.*, a.model, a.version, a.raised from outbox o join alarms a on a.id = o.alarm order by o.due"
        found = [dict(row) for row in self._asked(query, [])]
        return [item for item in found if not model or item["model"] == model]

    def alarm(self, id: str) -> dict[str, Any] | None:
        """One alarm, by its id or the beginning of it, if that begins no other."""
        if len(id) < SHORTEST or not id.isalnum():
            return None
        found = self._asked("select * from alarms where id glob ? limit 2", [f"{id}*"])
        return shown_alarm(dict(found[0])) if len(found) == 1 else None

    def retrained(self, model: str) -> list[dict[str, Any]]:
        """The retrainings that alarms of a model started, the oldest first."""
        query = "select * from retrained where model = ? order by started"
        return [
            {**dict(row), "moment": moment_at(row["started"]), "outcome": json.loads(row["outcome"])}
            for row in self._asked(query, [model])
        ]

    def followed(self, model: str) -> dict[str, int]:
        """How many rows of each file of a model's log were followed."""
        return {row[0]: row[1] for row in self._asked("select file, rows from followed where model = ?", [model])}

    def progress(self, model: str) -> bytes | None:
        """What a watch of a model has kept."""
        found = self._asked("select state from progress where model = ?", [model])
        return bytes(found[0][0]) if found else None

    def _asked(self, query: str, values: Sequence[object]) -> list[Any]:
        if not self.exists:
            return []
        with reading(self.path) as db:
            return db.execute(query, tuple(values)).fetchall()

    # -- for others -----------------------------------------------------------------------------------------------

    def publish(self) -> Path:
        """Write the table as Parquet, whole; the file.

        Raises:
            StorageFull, StorageUnwritable, Failed: when it cannot be written; the one before stays then.
        """
        import pyarrow.parquet as pq

        target = self.folder / PARQUET
        waiting = target.with_name(f".{PARQUET}.{os.getpid()}")
        with writing(target):
            self.folder.mkdir(parents=True, exist_ok=True)
            try:
                pq.write_table(arrow(self.figures()), waiting, compression="zstd")
                waiting.replace(target)
            finally:
                waiting.unlink(missing_ok=True)
        return target

    def asked(self, query: str) -> tuple[list[str], list[tuple[Any, ...]]]:
        """What DuckDB answers to SQL over the tables ``figures`` and ``alarms``: the columns' names, and rows.

        It reads nothing else: no file, no network.

        Raises:
            UsageError: with what DuckDB says of the query.
        """
        import duckdb

        with duckdb.connect(":memory:", config={"enable_external_access": "false"}) as db:
            db.register("figures", arrow(self.figures()))
            db.register("alarms", arrow_alarms(self.alarms()))
            db.execute("set lock_configuration = true")
            try:
                found = db.execute(query)
                return [item[0] for item in found.description or []], found.fetchall()
            except duckdb.Error as error:
                fact = str(error).strip().splitlines()[0]
                raise UsageError(fact, hint="the tables are figures and alarms; see `describe figures`") from error


class Change:
    """A write in progress."""

    def __init__(self, db: Any) -> None:
        self.db = db

    def put(self, figures: Iterable[Figure], origin: Origin, computed: datetime) -> None:
        """Enter figures, each in the place of what was known of the same."""
        marks = ", ".join("?" for _ in COLUMNS)
        names = ", ".join(f'"{name}"' for name in COLUMNS)
        behind = versions_of(origin, computed)
        found = ({**row_of(figure), **behind} for figure in figures)
        rows = [tuple(row[name] for name in COLUMNS) for row in found]
        self.db.executemany(f"insert or replace into figures ({names}) values ({marks})", rows)  # noqa: S608

    def raise_alarm(self, raised: Raised, moment: datetime, *, announced: bool) -> bool:
        """Enter an alarm; whether it is news: an alarm is entered once, whoever finds it again."""
        window = raised.window
        stream = raised.stream
        values = (
            raised.id, raised.key, stream.model, stream.version, stream.alias, stream.slice, raised.signal, window.size,
            micros(window.start), micros(window.end), window.rows, raised.text, json.dumps(list(raised.features)),
            json.dumps(raised.detail, default=str), micros(moment), int(announced),
        )  # fmt: skip
        done = self.db.execute(f"insert or ignore into alarms values ({', '.join('?' for _ in values)})", values)  # noqa: S608
        return bool(done.rowcount)

    def knows_alarm(self, id: str) -> bool:
        """Whether an alarm was entered."""
        return self.db.execute("select 1 from alarms where id = ?", [id]).fetchone() is not None

    def announced_between(self, key: str, start: datetime, end: datetime) -> bool:
        """Whether an alarm that says the same was announced after ``start``; not after ``end``, as by another clock."""
        query = "select 1 from alarms where key = ? and announced = 1 and raised > ? and raised <= ?"
        return self.db.execute(query, [key, micros(start), micros(end)]).fetchone() is not None

    def post(self, alarm: str, target: str, body: bytes, moment: datetime) -> None:
        """Put something into the outbox."""
        query = "insert or ignore into outbox values (?, ?, ?, 0, ?, null, '')"
        self.db.execute(query, [alarm, target, body, micros(moment)])

    def sent(self, alarm: str, target: str, outcome: str, *, due: datetime | None, moment: datetime) -> None:
        """What came of sending; with ``due`` it is tried again then."""
        query = "update outbox set attempts = attempts + 1, outcome = ?, due = coalesce(?, due), done = ? where alarm = ? and target = ?"  # noqa: E501
        done = None if due is not None else micros(moment)
        self.db.execute(query, [outcome, None if due is None else micros(due), done, alarm, target])

    def retrainings_between(self, model: str, start: datetime, end: datetime) -> int:
        """How many retrainings of a model were begun, or are about to be, after ``start``; not those held back, nor
        what is later than ``end``, as by another clock."""
        query = "select outcome from retrained where model = ? and started > ? and started <= ?"
        found = [json.loads(row[0]) for row in self.db.execute(query, [model, micros(start), micros(end)])]
        return sum(item["status"] != "held back" for item in found)

    def retraining_pends(self, model: str) -> bool:
        """Whether a retraining of a model was begun, is about to be, or waits for labels."""
        found = self.db.execute("select outcome from retrained where model = ?", [model])
        return any(json.loads(row[0])["status"] in ("wanted", "begun", "waiting") for row in found)

    def note_retraining(self, alarm: str, model: str, moment: datetime, outcome: Mapping[str, Any]) -> None:
        """What came of a retraining, whose moment is that of its first note."""
        values = [alarm, model, micros(moment), json.dumps(outcome)]
        query = "insert into retrained values (?, ?, ?, ?) on conflict (alarm) do update set outcome = excluded.outcome"
        self.db.execute(query, values)

    def keep(self, model: str, state: bytes, followed: Mapping[str, int]) -> None:
        """How far a watch is."""
        self.db.execute("insert or replace into progress values (?, ?)", [model, state])
        rows = [(model, file, count) for file, count in followed.items()]
        self.db.executemany("insert or replace into followed values (?, ?, ?)", rows)

    def clear(self, model: str, version: int, kinds: Sequence[str], size: str) -> None:
        """Drop a version's figures of windows that are cut anew."""
        marks = ", ".join("?" for _ in kinds)
        query = f'delete from figures where model = ? and version = ? and "window" = ? and kind in ({marks})'  # noqa: S608
        self.db.execute(query, [model, version, size, *kinds])


def row_of(figure: Figure) -> dict[str, Any]:
    """A figure as a row of the table, without the versions behind it."""
    window, stream = figure.window, figure.stream
    found: dict[str, Any] = {
        name: getattr(figure, name)
        for name in (
            "kind", "metric", "detector", "feature", "n", "value", "low", "high", "confidence", "method", "distance",
            "limit", "error",
        )
    }  # fmt: skip
    return {
        **found,
        "model": stream.model,
        "version": stream.version,
        "alias": stream.alias,
        "slice": stream.slice,
        "window": window.size if window else "",
        "window_start": micros(window.start) if window else 0,
        "window_end": micros(window.end) if window else 0,
        "rows": window.rows if window else figure.n,
        "alarm": int(figure.alarm),
    }


def versions_of(origin: Origin, computed: datetime) -> dict[str, Any]:
    """The columns that all figures of a version have in common."""
    return {
        "run": origin.run,
        "code_commit": origin.code_commit,
        "code_digest": origin.code_digest,
        "train_uri": origin.train.get("uri", ""),
        "train_commit": origin.train.get("commit", ""),
        "train_digest": origin.train.get("digest", ""),
        "data": json.dumps({name: dict(pin) for name, pin in origin.data.items()}, sort_keys=True),
        "computed": micros(computed),
    }


def with_times(row: dict[str, Any]) -> dict[str, Any]:
    """A row of the table with its times as such; a figure of no window has none."""
    for name in TIMES:
        row[name] = moment_at(row[name]) if row[name] else None
    row["alarm"] = bool(row["alarm"])
    return row


def shown_alarm(row: dict[str, Any]) -> dict[str, Any]:
    """An alarm as it is shown."""
    for name in ("window_start", "window_end", "raised"):
        row[name] = moment_at(row[name])
    row["features"], row["detail"] = json.loads(row["features"]), json.loads(row["detail"])
    row["announced"] = bool(row["announced"])
    return row


def arrow(figures: Sequence[Mapping[str, Any]]) -> Any:
    """Figures as an Arrow table; its types do not depend on what is in it."""
    import pyarrow as pa

    kinds = {"text": pa.string(), "integer": pa.int64(), "real": pa.float64()}
    fields = [
        (name, pa.timestamp("us", tz="UTC") if name in TIMES else pa.bool_() if name == "alarm" else kinds[kind])
        for name, kind in COLUMNS.items()
    ]
    columns = {name: pa.array([row[name] for row in figures], kind) for name, kind in fields}
    return pa.table(columns, schema=pa.schema(fields))


def arrow_alarms(alarms: Sequence[Mapping[str, Any]]) -> Any:
    """Alarms as an Arrow table, what is behind them as JSON."""
    import pyarrow as pa

    times = ("window_start", "window_end", "raised")
    texts = ("id", "key", "model", "alias", "slice", "signal", "window", "text")
    fields = [
        *((name, pa.string()) for name in texts), ("version", pa.int64()), ("rows", pa.int64()),
        *((name, pa.timestamp("us", tz="UTC")) for name in times), ("features", pa.list_(pa.string())),
        ("detail", pa.string()),
    ]  # fmt: skip
    rows = [{**alarm, "detail": json.dumps(alarm["detail"])} for alarm in alarms]
    columns = {name: pa.array([row[name] for row in rows], kind) for name, kind in fields}
    return pa.table(columns, schema=pa.schema(fields))


def document(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row as JSON has it: times in ISO 8601, what is JSON in text as such."""
    found = {key: value.isoformat() if isinstance(value, datetime) else value for key, value in row.items()}
    if isinstance(found.get("data"), str):
        found["data"] = json.loads(found["data"])
    return found


def stream_of(row: Mapping[str, Any]) -> Stream:
    """The stream that a row is about."""
    return Stream(model=row["model"], version=row["version"], alias=row["alias"], slice=row["slice"])


def window_of(row: Mapping[str, Any]) -> Window:
    """The window that a row is about."""
    return Window(size=row["window"], start=row["window_start"], end=row["window_end"], rows=row["rows"])
