"""Live figures are those of a batch join, whatever the order in which labels come; and a check tells of drift."""

from __future__ import annotations

import json
import tempfile
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.monitor.labels import held, joined, truths
from engine.monitor.table import Table
from engine.observe.refresh import refresh
from engine.predictions.labels import Label, LabelLog
from monitored import START, Served, every, nanoseconds, noisy, observatory, shifted
from projects import Project, engine, make_project

NAMES = [f"prediction-{number}" for number in range(4)]
KEYS = st.tuples(st.sampled_from([*NAMES, "of-no-log"]), st.integers(0, 2))
TOLD = st.lists(st.tuples(KEYS, st.integers(0, 5), st.integers(0, 2)), max_size=30, unique_by=lambda one: one[:2])
ROWS = pa.table({"prediction": [name for name in NAMES for _ in range(3)], "row": pa.array([0, 1, 2] * 4, pa.int32())})


@settings(max_examples=40, deadline=None)
@given(told=TOLD, pieces=st.integers(1, 4), order=st.randoms(use_true_random=False))
def test_labels_late_repeated_and_out_of_order_are_joined_as_in_one_batch(told: list, pieces: int, order) -> None:  # type: ignore[no-untyped-def, type-arg]
    batch = {key: value for key, _, value in sorted(told, key=lambda one: one[1])}
    expected = [
        (name, row, batch[name, row])
        for name, row in zip(*(ROWS.column(item).to_pylist() for item in ("prediction", "row")), strict=True)
        if (name, row) in batch
    ]
    shuffled = order.sample(told, len(told))
    with tempfile.TemporaryDirectory() as below:
        for piece in range(pieces):
            log = LabelLog(Path(below), "numbers")
            for (name, row), moment, value in shuffled[piece::pieces]:
                when = nanoseconds(START + timedelta(hours=moment))
                log.append([Label(prediction=name, row=row, label=value)], when)
            log.close()
        found, coverage = joined(ROWS, held(Path(below)))
    pairs = zip(found.column("prediction").to_pylist(), found.column("row").to_pylist(), truths(found), strict=True)
    assert list(pairs) == expected
    assert coverage.labelled == len(expected)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Served:
    """A model of numbers that answered 300 rows, of which the last 100 have drifted."""
    from engine.api import plan, run

    project = make_project(tmp_path_factory.mktemp("live") / "project")
    detectors = [{"name": "inputs", "uses": "ks", "window": 100}]
    monitor = {"reference": "train", "detectors": detectors, "false_alarms": "1 per 100 windows"}
    project.write({"evaluate.slices": None, "evaluate.gates": []}, monitor=monitor)
    assert run(plan(project.spec), inline=True).status == "passed"
    return Served(project.root, "numbers")


@pytest.fixture(scope="module")
def answered(served: Served) -> dict[tuple[str, int], float]:
    """What is predicted for the rows that drifted not, by prediction and row."""
    table = pa.table(noisy(200, 3))
    ids = served.answer(table, every(1, 100), request=2)
    outputs = served.session.run(served.session.columns(table))
    values = np.asarray(next(iter(outputs.values()))).reshape(-1)
    return dict(zip(ids, values.tolist(), strict=True))


def test_the_live_metric_is_the_one_of_a_batch_join_and_stands_beside_its_versions(
    served: Served, answered: dict[tuple[str, int], float]
) -> None:
    keys = list(answered)
    random = np.random.default_rng(5)
    first = {key: answered[key] + float(random.normal()) for key in keys[:150]}
    better = {key: answered[key] + float(random.normal()) for key in keys[100:180]}
    served.label({**better, ("of-no-log", 0): 1.0}, START + timedelta(days=2))
    served.label(first, START + timedelta(days=1))
    served.label(better, START + timedelta(days=2))
    batch = {**first, **better}
    table = Table(served.home.path / "monitor")
    done = refresh("numbers", observatory(served.home), table, START + timedelta(days=3))
    (row,) = table.figures("numbers", kind="live", metric="mae", window="month")
    expected = float(np.mean([abs(answered[key] - value) for key, value in batch.items()]))
    assert row["value"] == pytest.approx(expected, rel=1e-5)
    assert (row["n"], row["rows"]) == (180, 200)
    assert row["run"] == served.origin.run
    assert row["train_commit"]
    assert done.labels is not None
    assert (done.labels.duplicates, done.labels.conflicts) == (80, 50)


def test_labels_of_predictions_that_are_in_no_log_are_kept_and_counted(
    served: Served, answered: dict[tuple[str, int], float], tmp_path: Path
) -> None:
    import pyarrow.parquet as pq

    known = next(iter(answered))
    path = tmp_path / "labels.parquet"
    told = {"prediction": [known[0], "of-no-log"], "row": [known[1], 7], "label": [1.0, 2.0]}
    pq.write_table(pa.table(told), path)
    done = engine(served.home.root, "monitor", "labels", "numbers", "--from", str(path), "--json")
    assert done.code == 0
    assert (done.json["labels"], done.json["unknown"]) == (2, 1)


def test_a_check_answers_0_without_drift_and_1_with_it(served: Served, answered: dict[tuple[str, int], float]) -> None:
    assert answered
    assert engine(served.home.root, "monitor", "check", "numbers").code == 0
    moved = shifted(pa.table(noisy(100, 9)), "x", 5.0)
    served.answer(moved, every(1, 100, START + timedelta(hours=5)))
    done = engine(served.home.root, "monitor", "check", "numbers")
    assert (done.code, "ALARM" in done.out) == (1, True)


def test_the_status_has_every_figure_with_the_run_and_the_commits_behind_it(served: Served) -> None:
    done = engine(served.home.root, "monitor", "status", "numbers", "--json")
    assert done.code == 0
    assert json.dumps(done.json)
    figures = done.json["figures"]
    assert {"test", "live"} <= {item["kind"] for item in figures}
    assert all(item["run"] and item["train_commit"] and item["version"] == 1 for item in figures)


def test_rows_of_a_version_with_another_schema_are_judged_apart(tmp_path: Path) -> None:
    from engine.api import plan, run
    from engine.patrol import Duty, WindowJudged, patrol

    project = Project(make_project(tmp_path / "project").root)
    detectors = [{"name": "inputs", "uses": "ks", "window": 100}]
    monitor = {"reference": "train", "detectors": detectors}
    for features in (["x", "z"], ["x"]):
        changes = {"evaluate.slices": None, "evaluate.gates": [], "features.numeric": features}
        project.write(changes, monitor=monitor)
        assert run(plan(project.spec), inline=True).status == "passed"
    for version, table in ((1, pa.table(noisy(100, 1))), (2, pa.table(noisy(100, 2)).select(["x"]))):
        Served(project.root, "numbers", version).answer(table, every(1, 100))
    home = Served(project.root, "numbers").home
    work = Duty(where=observatory(home), table=Table(home.path / "monitor"), post=lambda url, body, headers: (500, ""))
    judged = [item.judgement for item in patrol(["numbers"], work, once=True) if isinstance(item, WindowJudged)]
    seen = {item.stream.version: set(item.verdicts["inputs"].p_val) for item in judged}
    assert seen == {1: {"x", "z"}, 2: {"x"}}
