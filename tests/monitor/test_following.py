"""New rows of a log, where they lie, and the rows that are in no window yet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from engine.monitor.following import Arrival, Follower, rows_at
from engine.monitor.reading import Choice, everything, in_order
from engine.monitor.windows import Size
from engine.observe.streams import Files, Followed, Line, kept_state, restored
from engine.predictions.log import Made, Origin, PredictionLog, Redaction

ORIGIN = Origin(model="m", version=1, run="r")


def made(first: int, count: int, alias: str = "production") -> Made:
    """One call of ``count`` requests at one time, whose input is its number and whose output two probabilities."""
    numbers = np.arange(first, first + count, dtype=np.float32)
    return Made(
        inputs={"x": numbers},
        outputs={"probabilities": np.stack([numbers, 1 - numbers], axis=1)},
        predictions=[f"{number * 7919 % 100_003:012d}" for number in range(first, first + count)],
        aliases=[alias] * count,
        counts=[1] * count,
        latencies=[1.0] * count,
        time_ns=1_700_000_000_000_000_000 + first * 1_000_000,
    )  # fmt: skip


def log(folder: Path) -> PredictionLog:
    """A log that is being written."""
    return PredictionLog(folder, ORIGIN, Redaction())


def numbers_in(arrivals: Sequence[Arrival]) -> list[int]:
    """The inputs of rows, in the order in which they came."""
    return [int(value) for arrival in arrivals for value in arrival.rows.column("input.x").to_pylist()]


def test_rows_of_closed_and_of_open_files_are_one_table_of_the_same_types(tmp_path: Path) -> None:
    closed, opened = log(tmp_path), log(tmp_path)
    closed.append(made(0, 3))
    closed.close()
    opened.append(made(3, 3))
    opened.flush()
    found = everything(tmp_path, Choice()).table
    assert found.schema.field("output.probabilities").type == pa.list_(pa.float32(), 2)
    assert found.column("input.x").to_pylist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("others", [False, True])
def test_each_row_is_given_once_though_streams_become_parquet_meanwhile(tmp_path: Path, others: bool) -> None:
    follower, found = Follower(tmp_path), []
    for part in range(3):
        writer = log(tmp_path)
        for piece in range(4):
            writer.append(made(part * 100 + piece * 10, 10, "canary" if others and piece % 2 else "production"))
            writer.flush()
            if piece != 2:
                found += list(follower.look())
        writer.close()
    found += list(follower.look())
    assert sorted(numbers_in(found)) == [part * 100 + number for part in range(3) for number in range(40)]
    assert not list(follower.look())


def test_another_process_goes_on_where_one_was(tmp_path: Path) -> None:
    writer = log(tmp_path)
    writer.append(made(0, 10))
    writer.append(made(10, 5, "canary"))
    writer.flush()
    first = Follower(tmp_path)
    list(first.look())
    writer.append(made(20, 10))
    writer.append(made(30, 5, "canary"))
    writer.close()
    found = list(Follower(tmp_path, taken=dict(first.taken)).look())
    assert [(item.alias, item.first, item.rows.num_rows) for item in found] == [
        ("production", 10, 10),
        ("canary", 5, 5),
    ]


def test_a_place_names_the_same_row_when_its_stream_became_parquet(tmp_path: Path) -> None:
    writer = log(tmp_path)
    for piece in range(4):
        writer.append(made(piece * 10, 10, "canary" if piece % 2 else "production"))
        writer.flush()
    (file,) = {item.file for item in Follower(tmp_path).look()}
    places = {file: [[3, 7], [12, 20]]}
    before = [(first, rows.to_pylist()) for _, first, rows in rows_at(tmp_path, 1, "canary", places)]
    writer.close()
    assert [(first, rows.to_pylist()) for _, first, rows in rows_at(tmp_path, 1, "canary", places)] == before
    assert [row["input.x"] for row in before[0][1]] == [13, 14, 15, 16]


def test_a_window_ends_among_rows_of_one_time_where_it_would_if_all_were_in_order(tmp_path: Path) -> None:
    writer = log(tmp_path)
    writer.append(made(0, 50))
    writer.append(made(50, 50))
    writer.close()
    files, line = Files(), Line(size=Size(rows=70))
    for item in Follower(tmp_path).look():
        line.add(files.placed(item.file, item.first, item.rows))
    first = line.first(70)
    line.close(first, None)
    whole = in_order([everything(tmp_path, Choice()).table])
    assert sorted(first.column("prediction").to_pylist()) == sorted(whole.slice(0, 70).column("prediction").to_pylist())
    assert sorted(line.rows.column("prediction").to_pylist()) == sorted(
        whole.slice(70).column("prediction").to_pylist()
    )


def test_what_is_kept_of_waiting_rows_is_small_and_gives_them_back(tmp_path: Path) -> None:
    writer = log(tmp_path)
    for piece in range(20):
        writer.append(made(piece * 1000, 1000))
    writer.flush()
    files, followed = Files(), Followed(version=1, alias="production")
    for item in Follower(tmp_path).look():
        rows = files.placed(item.file, item.first, item.rows)
        followed.line(Size(rows=5000)).add(rows.slice(0, 15_000))
        followed.waiting.append((0.0, rows.slice(15_000)))
    line = followed.line(Size(rows=5000))
    line.close(line.first(4321), None)
    state = kept_state({(1, "production"): followed}, files)
    assert len(state) < 50_000
    again = restored(state, tmp_path, Files())[1, "production"]
    assert sorted(again.line(Size(rows=5000)).rows.column("input.x").to_pylist()) == sorted(
        line.rows.column("input.x").to_pylist()
    )
    assert sum(rows.num_rows for _, rows in again.waiting) == 5000
