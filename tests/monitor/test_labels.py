"""Labels: however they come, the metrics are those of a batch join."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.monitor.labels import held, joined, truths
from engine.predictions.labels import Label, LabelLog

START = datetime(2026, 3, 1, tzinfo=UTC)
Written = tuple[int, int, int, int]
"""A prediction, a row, what is said of it, and when."""
WRITTEN = st.lists(
    st.tuples(st.integers(0, 6), st.integers(0, 2), st.integers(0, 3), st.integers(0, 1_000_000)),
    max_size=40,
    unique_by=lambda item: (item[0], item[1], item[3]),
)


def told(folder: Path, labels: list[Written], *, files: int) -> None:
    """Write labels in their order, into several files."""
    for number in range(files):
        log = LabelLog(folder, "m")
        for prediction, row, label, at in labels[number::files]:
            moment = START + timedelta(seconds=at)
            nanoseconds = int(moment.timestamp()) * 1_000_000_000
            log.append([Label(prediction=f"p{prediction}", row=row, label=label)], nanoseconds)
        log.close()


def batch(labels: list[Written], rows: list[tuple[str, int]]) -> list[tuple[str, int, int]]:
    """What a join of everything at once gives: of several labels for a row the last one holds."""
    last = {(f"p{prediction}", row): label for prediction, row, label, _ in sorted(labels, key=lambda item: item[3])}
    return [(*key, last[key]) for key in rows if key in last]


@settings(max_examples=40, deadline=None)
@given(WRITTEN, st.integers(0, 1000), st.integers(1, 3))
def test_delayed_duplicate_conflicting_and_disordered_labels_are_joined_as_a_batch(
    labels: list[Written], seed: int, files: int
) -> None:
    import tempfile

    chance = random.Random(seed)
    written = [*labels, *chance.sample(labels, len(labels) // 3)]
    chance.shuffle(written)
    rows = [(f"p{prediction}", row) for prediction in range(5) for row in range(3)]
    table = pa.table({"prediction": [key for key, _ in rows], "row": pa.array([row for _, row in rows], pa.int32())})
    with tempfile.TemporaryDirectory() as folder:
        told(Path(folder), written, files=files)
        found, coverage = joined(table, held(Path(folder)))
    said = list(
        zip(found.column("prediction").to_pylist(), found.column("row").to_pylist(), truths(found), strict=True)
    )
    assert said == batch(labels, rows)
    assert (coverage.rows, coverage.labelled) == (len(rows), len(said))


def test_labels_of_predictions_that_are_in_no_log_change_no_metric(tmp_path: Path) -> None:
    told(tmp_path, [(1, 0, 1, 10), (99, 0, 0, 20)], files=1)
    table = pa.table({"prediction": ["p1"], "row": pa.array([0], pa.int32())})
    found, _ = joined(table, held(tmp_path))
    assert truths(found) == [1]


def test_a_label_file_that_is_damaged_is_named_and_the_others_count(tmp_path: Path) -> None:
    told(tmp_path, [(1, 0, 1, 10)], files=1)
    day = next((tmp_path / "labels").glob("2*"))
    (day / "0-20260301T000000000000-9-9.parquet").write_bytes(b"PAR1 nothing PAR1")
    found = held(tmp_path)
    assert [Path(item.file).name for item in found.damaged] == ["0-20260301T000000000000-9-9.parquet"]
    assert found.table.num_rows == 1
