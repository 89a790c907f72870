"""The prediction log: nothing that was written is lost, and what was not written whole is not read."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from engine.predictions.ids import prediction_ids, time_of
from engine.predictions.log import Made, Origin, PredictionLog, Redaction, read, recover

ORIGIN = Origin(model="numbers", version=3, run="ab" * 32)


def made(count: int, rows: int = 1, start: int = 0) -> Made:
    total = count * rows
    return Made(
        predictions=[f"p{number}" for number in range(start, start + count)],
        counts=[rows] * count,
        aliases=["production"] * count,
        latencies=[1.5] * count,
        time_ns=1_700_000_000_000_000_000,
        inputs={
            "x": np.arange(total, dtype=np.float32).reshape(-1, 1),
            "city": np.array([["ä"]] * total, object),
        },
        outputs={"label": np.ones(total, np.int64), "probabilities": np.full((total, 2), 0.5, np.float32)},
    )


def rows_in(folder: Path) -> pa.Table:
    return pa.concat_tables(read(folder))


@pytest.mark.parametrize("closed", [False, True])
def test_what_was_appended_is_read_open_or_closed(tmp_path: Path, closed: bool) -> None:
    log = PredictionLog(tmp_path, ORIGIN, Redaction())
    log.append(made(2, rows=3))
    log.append(made(1, start=2))
    log.close() if closed else log.flush()
    table = rows_in(tmp_path)
    assert table.column("prediction").to_pylist() == ["p0"] * 3 + ["p1"] * 3 + ["p2"]
    assert table.column("row").to_pylist() == [0, 1, 2, 0, 1, 2, 0]
    assert table.slice(3, 1).to_pylist()[0] | {"time": None} == {
        "model": "numbers", "version": 3, "run": "ab" * 32, "prediction": "p1", "row": 0, "time": None,
        "alias": "production", "latency_ms": 1.5, "input.x": 3.0, "input.city": "ä", "output.label": 1,
        "output.probabilities": [0.5, 0.5],
    }  # fmt: skip
    assert [path.suffix for path in tmp_path.glob("*/*")] == [".parquet" if closed else ".arrows"]


def test_a_stream_that_is_cut_off_anywhere_gives_its_whole_batches(tmp_path: Path) -> None:
    log = PredictionLog(tmp_path, ORIGIN, Redaction())
    log.append(made(5))
    log.flush()
    (path,) = tmp_path.glob("open/*")
    whole = path.stat().st_size
    log.append(made(5, start=5))
    log.flush()
    data = path.read_bytes()
    for size in range(whole, len(data), 97):
        path.write_bytes(data[:size])
        assert rows_in(tmp_path).num_rows == 5
    path.write_bytes(data)
    assert rows_in(tmp_path).num_rows == 10


WRITER = """
import sys, time
from pathlib import Path
sys.path[:0] = sys.argv[2:]
from test_log import ORIGIN, made
from engine.predictions.log import PredictionLog, Redaction
log = PredictionLog(Path(sys.argv[1]), ORIGIN, Redaction(), always=True)
for number in range(100000):
    log.append(made(1, start=number))
    print(number, flush=True)
"""


def test_with_fsync_always_nothing_that_was_answered_is_lost_when_the_process_is_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITER, str(tmp_path), str(Path(__file__).parent)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(20)]
    time.sleep(0.2)
    os.kill(process.pid, signal.SIGKILL)
    answered = int((lines + process.stdout.read().splitlines())[-1])
    process.wait()
    assert recover(tmp_path) == 1
    assert rows_in(tmp_path).num_rows >= answered + 1
    assert not list(tmp_path.glob("open/*"))


def test_a_disk_that_is_full_costs_lines_and_says_so_and_what_was_there_is_read(tmp_path: Path) -> None:
    import resource

    log = PredictionLog(tmp_path, ORIGIN, Redaction())
    log.append(made(10))
    log.flush()
    (path,) = tmp_path.glob("open/*")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 100, before[1]))
    try:
        log.append(made(1000))
        log.flush()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert (log.health.written, log.health.dropped, log.health.reason) == (10, 1000, "File too large")
    log.append(made(3))
    log.flush()
    assert rows_in(tmp_path).num_rows == 13


def test_a_stream_that_is_being_written_is_nobody_elses_to_close(tmp_path: Path) -> None:
    log = PredictionLog(tmp_path, ORIGIN, Redaction())
    log.append(made(2))
    log.flush()
    assert recover(tmp_path) == 0
    log.append(made(2, start=2))
    log.close()
    assert rows_in(tmp_path).num_rows == 4


def test_a_stream_that_was_compacted_and_not_yet_removed_counts_once(tmp_path: Path) -> None:
    log = PredictionLog(tmp_path, ORIGIN, Redaction())
    log.append(made(3))
    log.flush()
    (stream,) = tmp_path.glob("open/*")
    data = stream.read_bytes()
    log.close()
    stream.write_bytes(data)
    assert rows_in(tmp_path).num_rows == 3
    assert recover(tmp_path) == 1
    assert rows_in(tmp_path).num_rows == 3


def test_a_stream_that_becomes_parquet_while_it_is_read_is_read_once(tmp_path: Path) -> None:
    logs = [PredictionLog(tmp_path, ORIGIN, Redaction()) for _ in range(2)]
    for log in logs:
        log.append(made(3))
        log.flush()
    parts = read(tmp_path)
    first = next(parts)
    for log in logs:
        log.close()
    assert first.num_rows + sum(part.num_rows for part in parts) == 6


def test_answers_that_do_not_fit_into_one_table_cost_their_lines_alone(tmp_path: Path) -> None:
    log = PredictionLog(tmp_path, ORIGIN, Redaction())
    odd = made(2)
    odd.outputs = {**odd.outputs, "label": np.ones(5)}  # type: ignore[misc]
    log.append(odd)
    log.flush()
    log.append(made(2))
    log.flush()
    assert (log.health.written, log.health.dropped) == (2, 2)
    assert log.health.reason


def test_columns_are_dropped_or_only_their_digests_kept(tmp_path: Path) -> None:
    for key in (b"one", b"two"):
        log = PredictionLog(
            tmp_path / key.decode(), ORIGIN, Redaction(dropped=frozenset({"x"}), hashed=frozenset({"city"}), key=key)
        )
        log.append(made(2))
        log.flush()
    one, two = rows_in(tmp_path / "one"), rows_in(tmp_path / "two")
    assert "input.x" not in one.column_names
    assert len(set(one.column("input.city").to_pylist())) == 1
    assert "ä" not in one.column("input.city").to_pylist()
    assert one.column("input.city").to_pylist() != two.column("input.city").to_pylist()


def test_ids_are_uuids_of_version_7_that_differ_and_sort_by_time() -> None:
    import uuid

    early, late = prediction_ids(1000, 1_700_000_000_000_000_000), prediction_ids(1000, 1_700_000_000_001_000_000)
    assert len({*early, *late}) == 2000
    assert max(early) < min(late)
    assert {(uuid.UUID(one).version, uuid.UUID(one).variant) for one in early} == {(7, uuid.RFC_4122)}
    moment = time_of(early[0])
    assert moment is not None
    assert moment.timestamp() == 1_700_000_000.0
    assert time_of("no id") is None


WHOLE_LIFE = """
import sys
from pathlib import Path
import numpy as np
from engine.predictions.ids import prediction_ids
from engine.predictions.log import Made, Origin, PredictionLog, Redaction
log = PredictionLog(Path("log"), Origin(model="m", version=1, run="r"), Redaction())
log.append(Made(predictions=prediction_ids(1, 0), counts=[2], aliases=["production"], latencies=[1.0], time_ns=0,
                inputs={"x": np.zeros((2, 1), "float32"), "w": np.array([["a"], ["b"]], object)},
                outputs={"score": np.zeros(2, "float32")}))
log.close()
print("pandas" in sys.modules, *(path.parent.name for path in Path("log").glob("1*/*.parquet")))
"""


def test_a_log_is_written_and_closed_without_pandas(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", WHOLE_LIFE], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "1970-01-01"]
