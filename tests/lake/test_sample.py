"""The sample data: real, the same ids everywhere, put once."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.errors import UsageError
from engine.lake import sample
from engine.lake.embedded.lake import EmbeddedLake
from engine.lake.sample import commit_month, parquet, path_of, quickstart
from engine.store.objects import ObjectStore


def lake_in(home: Path) -> EmbeddedLake:
    return EmbeddedLake(home / "lake", ObjectStore(home / "objects"))


@pytest.fixture(scope="module")
def flights() -> pa.Table:
    return sample.flights()


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory, flights: pa.Table) -> EmbeddedLake:
    """A lake with the whole sample."""
    lake = lake_in(tmp_path_factory.mktemp("full"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sample, "flights", lambda: flights)
        assert quickstart(lake).created
    return lake


def test_the_sample_has_every_flight_of_the_year(flights: pa.Table, full: EmbeddedLake) -> None:
    entries = list(full.list("flights", "main"))
    assert [entry.path for entry in entries] == [path_of(month) for month in range(1, 13)]
    assert sum(pq.read_metadata(full.read(entry)).num_rows for entry in entries) == flights.num_rows == 336_776


def test_a_second_quickstart_changes_nothing_and_reads_no_data(
    full: EmbeddedLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = full.resolve("flights", "main")
    monkeypatch.setattr(sample, "flights", lambda: pytest.fail("the data was read again"))
    again = quickstart(full)
    assert (again.created, full.resolve("flights", "main")) == (False, before)


@pytest.mark.parametrize("months", [0, 1, 7])
def test_an_interrupted_quickstart_goes_on_to_the_same_commits(
    full: EmbeddedLake, flights: pa.Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, months: int
) -> None:
    lake = lake_in(tmp_path)
    lake.create_repository("flights")
    for month in range(1, months + 1):
        commit_month(lake, month, flights)
    lake.put("flights", "main", path_of(months + 1), io.BytesIO(parquet(flights, months + 1)))  # staged, and then cut
    monkeypatch.setattr(sample, "flights", lambda: flights)
    done = quickstart(lake)
    assert done.created
    assert [commit.id for commit in done.commits] == [commit.id for commit in quickstart(full).commits]


def test_a_repository_of_that_name_with_other_things_is_left_alone(tmp_path: Path) -> None:
    lake = lake_in(tmp_path)
    lake.create_repository("flights")
    lake.put("flights", "main", "mine.csv", io.BytesIO(b"a\n1\n"))
    lake.commit("flights", "main", "mine")
    with pytest.raises(UsageError, match="holds something else"):
        quickstart(lake)


def test_a_month_is_the_same_bytes_each_time(flights: pa.Table) -> None:
    assert parquet(flights, 3) == parquet(flights, 3)


def test_what_somebody_staged_never_gets_into_the_sample(tmp_path: Path) -> None:
    lake = lake_in(tmp_path)
    lake.create_repository("flights")
    lake.put("flights", "main", "mine.csv", io.BytesIO(b"a\n1\n"))
    with pytest.raises(UsageError, match="holds something else"):
        quickstart(lake)
    assert [entry.path for entry in lake.list("flights", "main")] == ["mine.csv"]


def test_the_sample_is_still_found_below_commits_of_ones_own(full: EmbeddedLake, tmp_path: Path) -> None:
    mine = lake_in(tmp_path)
    shutil.copytree(full.path.parent, mine.path.parent)
    mine.put("flights", "main", "mine.csv", io.BytesIO(b"a\n1\n"))
    mine.commit("flights", "main", "mine")
    assert quickstart(mine) == quickstart(full)


def test_a_missing_package_is_named_with_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample, "PACKAGE", "a_package_that_is_not_there")
    with pytest.raises(UsageError) as raised:
        sample.archive()
    assert str(raised.value) == 'the sample data is not installed; pip install "mlops-engine[sample]"'
