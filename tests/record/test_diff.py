"""What differs between two runs is said part by part, with the rows, the lines of code and the intervals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from engine.api import run
from engine.record.diff import RunDiff, diff, document
from engine.record.tables import difference_interval, row_counts, sided
from engine.steps.metrics import Judged
from engine.wiring import open_home
from projects import Project, engine, make_project, numbers


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return make_project(tmp_path_factory.mktemp("diff") / "project")


@pytest.fixture(scope="module")
def first(project: Project) -> str:
    return run(project.spec, inline=True).id


def compared(project: Project, left: str, right: str, **options: bool) -> RunDiff:
    home = open_home(project.root)
    records = [home.records.latest(run_id) for run_id in (left, right)]
    assert records[0]
    assert records[1]
    return diff(records[0], records[1], home.store, **options)


def test_a_run_and_itself_differ_in_nothing(project: Project, first: str) -> None:
    found = document(compared(project, first, first))
    assert (found["differ"], found["spec"], found["data"], found["code"], found["environment"]) == ([], [], [], [], [])
    assert found["artifacts"] == {"same": 16, "differ": []}
    assert {item["difference"]["value"] for item in found["metrics"]} == {0}


def test_a_changed_parameter_is_the_spec_and_nothing_else(project: Project, first: str) -> None:
    other = run(project.spec, overrides=["train.with.ridge=0.5"], inline=True).id
    found = document(compared(project, first, other))
    assert found["differ"] == ["spec"]
    assert found["spec"] == [{"name": "train.with.ridge", "change": "added", "left": None, "right": 0.5}]
    differ = {item["name"] for item in found["artifacts"]["differ"]}
    assert "export/model" in differ
    assert "validate.train/table" not in differ


def test_what_is_operation_is_told_as_such(tmp_path: Path) -> None:
    project = make_project(tmp_path / "project")
    first = run(project.spec, inline=True).id
    other = run(project.spec, overrides=["seed=8", "serve.workers=2"], inline=True).id
    names = [item.name for item in compared(project, first, other).spec]
    assert names == ["seed", "operation.serve.workers"]


def test_changed_data_is_told_by_files_rows_columns_and_statistics(tmp_path: Path) -> None:
    project = make_project(tmp_path / "project")
    first = run(project.spec, inline=True).id
    table = numbers(200)
    x = table.column("x").to_numpy().copy()
    x[:3] += 1
    project.put("train.parquet", table.set_column(0, "x", pa.array(x)).append_column("extra", pa.array(x)))
    other = run(project.spec, inline=True).id
    found = document(compared(project, first, other))
    assert found["differ"] == ["data"]
    (data,) = found["data"]
    assert (data["name"], [(file["name"], file["change"]) for file in data["files"]]) == (
        "train",
        [("train.parquet", "changed")],
    )
    assert data["rows"] == {"left": 200, "right": 200, "added": 0, "removed": 0, "changed": 3}
    assert data["columns"] == {"added": ["extra"], "removed": [], "retyped": []}
    (statistic,) = data["statistics"]
    assert statistic["column"] == "x"
    assert statistic["right"]["mean"] == pytest.approx(statistic["left"]["mean"] + 3 / 200)


def test_changed_code_is_told_by_module_and_with_its_text(tmp_path: Path) -> None:
    project = make_project(tmp_path / "project")
    first = run(project.spec, inline=True).id
    helper = project.root / "helper.py"
    helper.write_text(helper.read_text().replace("1 / 0", "2 / 0"))
    other = run(project.spec, inline=True).id
    found = document(compared(project, first, other, text=True))
    assert (found["differ"], found["data"], found["spec"]) == (["code"], [], [])
    (module,) = found["code"]
    assert (module["module"], module["change"], module["added"], module["removed"]) == ("helper", "changed", 1, 1)
    assert "-    return 1 / 0\n+    return 2 / 0" in module["text"]
    shown = engine(project.root, "diff", first[:8], other[:8]).out
    assert "helper.py  +1 -1" in shown
    assert "return 2" not in shown


def test_a_run_that_failed_can_be_compared(project: Project, first: str) -> None:
    failed = run(project.spec, overrides=["train.with.mode=raise"], inline=True).id
    found = document(compared(project, first, failed))
    assert found["differ"] == ["spec"]
    assert {item["change"] for item in found["artifacts"]["differ"]} == {"removed"}
    assert all(item["right"] is None for item in found["metrics"])


def test_the_command_prints_one_document_or_sections(project: Project, first: str) -> None:
    other = run(project.spec, overrides=["evaluate.gates.0.max=0.000001"], inline=True).id
    done = engine(project.root, "diff", first[:8], other[:8], "--json")
    assert (done.code, done.json["gates"]) == (
        0,
        [{"name": "mae.max", "change": "changed", "left": "passed", "right": "refused"}],
    )
    shown = engine(project.root, "diff", first[:8], other[:8]).out
    assert "~ evaluate.gates.0.max: 1.0 -> 1e-06" in shown
    assert "no difference shown, the same rows" in shown


@pytest.mark.parametrize("names", [("ffffff", "ffffff"), ("abc", "abcdef")])
def test_a_run_that_is_not_there_is_said(project: Project, names: tuple[str, str]) -> None:
    done = engine(project.root, "diff", *names, "--json")
    assert (done.code, bool(done.json["error"]["hint"])) == (2, True)


def table(*rows: tuple[Any, ...]) -> pa.Table:
    return pa.table({"a": [row[0] for row in rows], "b": [row[1] for row in rows]})


ROWS = [(index, str(index % 3)) for index in range(10)]


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        (ROWS[:8], (0, 2, 0)),
        ([*ROWS, ROWS[0], (99, "x")], (2, 0, 0)),
        (ROWS[::-1], (0, 0, 0)),
        ([*ROWS[:9], (9, "other")], (0, 0, 1)),
        ([*ROWS[:9], (9, None)], (0, 0, 1)),
        ([(index + 100, "z") for index in range(10)], (10, 10, 0)),
        ([], (0, 10, 0)),
    ],
)
def test_rows_are_counted_as_added_removed_or_changed(
    after: list[tuple[Any, ...]], expected: tuple[int, int, int]
) -> None:
    before, other = table(*ROWS), table(*after) if after else table(*ROWS).slice(0, 0)
    found = row_counts(before, other, ["a", "b"])
    assert (found["added"], found["removed"], found["changed"]) == expected


def judged(seed: int, rows: int, shift: float, noise: int = 1) -> Judged:
    random = np.random.default_rng(seed)
    true = random.integers(0, 2, rows)
    score = np.random.default_rng(seed + noise).normal(size=rows) + shift * true
    return Judged(task="binary", true=true, label=(score > 0).astype(int), score=score, classes=2)


@pytest.mark.parametrize("metric", ["roc_auc", "accuracy"])
def test_intervals_hold_the_true_value_about_as_often_as_they_say(metric: str) -> None:
    large = judged(1, 400_000, 1.0)
    truth = {
        "roc_auc": float(
            np.mean(
                np.random.default_rng(0).choice(large.score[large.true == 1], 10**6)
                > np.random.default_rng(1).choice(large.score[large.true == 0], 10**6)
            )
        ),
        "accuracy": float(np.mean(large.label == large.true)),
    }[metric]
    held = 0
    for seed in range(200):
        small = judged(10 * seed, 300, 1.0)
        value = {"roc_auc": lambda s=small: auc(s), "accuracy": lambda s=small: float(np.mean(s.label == s.true))}[
            metric
        ]()
        found = sided(metric, value, small, {})
        assert found
        held += found["low"] <= truth <= found["high"]
    assert 180 <= held <= 199


def auc(judged: Judged) -> float:
    above = judged.score[judged.true == 1][:, None] > judged.score[judged.true == 0][None, :]
    return float(np.mean(above))


@pytest.mark.parametrize("metric", ["roc_auc", "average_precision"])
def test_two_models_on_the_same_rows_are_told_apart_better_than_on_others(metric: str) -> None:
    left = judged(1, 2000, 1.0)
    closely = Judged(task="binary", true=left.true, label=left.label, score=left.score + 0.05 * left.true, classes=2)
    elsewhere = judged(5, 2000, 1.05)
    widths = []
    for right in (closely, elsewhere):
        low, high = difference_interval(metric, left, right, 0.0)
        assert low is not None
        assert high is not None
        widths.append(high - low)
    assert widths[0] < widths[1] / 5
    assert json.dumps(widths)


def test_a_figures_interval_is_the_one_of_its_evaluation() -> None:
    known = {"metrics": {"accuracy": {"value": 0.5, "low": 0.4, "high": 0.6}}}
    assert sided("accuracy", 0.5, judged(1, 50, 1.0), known) == {"value": 0.5, "low": 0.4, "high": 0.6}
