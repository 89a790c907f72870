"""A calibration counts false alarms on windows without a change, and finds the smallest that is seen."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import typer

from engine.cli.monitor_calibrate import calibrate as command
from engine.errors import EngineError, UsageError
from engine.monitor.calibrate import Calibration, Question, calibrate
from engine.plugins import DriftVerdict, Feature, FittedDetector
from engine_plugins.drift.detectors import ChiSquare, KolmogorovSmirnov, UnivariateDetector
from engine_plugins.drift.online import RankSums
from projects import Project, engine, make_project

FEATURES = (
    Feature(name="delay", role="numeric", datatype="FP32"),
    Feature(name="distance", role="numeric", datatype="FP32"),
    Feature(name="carrier", role="categorical", datatype="BYTES"),
)
DETECTORS = {"numbers": KolmogorovSmirnov(), "names": ChiSquare()}
QUESTION = Question(rows=200, alpha=0.05, windows=400, splits=5, powered=20, seed=3)


class Liar(KolmogorovSmirnov):
    """Its p-values are a fifth of what they should be."""

    def restore(self, parameters: Mapping[str, Any], reference: pa.Table) -> Lying:  # type: ignore[override]
        return Lying(KolmogorovSmirnov.restore(self, parameters, reference))


class Lying:
    def __init__(self, fitted: FittedDetector) -> None:
        self.fitted = fitted

    def predict(self, window: pa.Table) -> DriftVerdict:
        verdict = self.fitted.predict(window)
        return replace(verdict, p_val={name: value / 5 for name, value in verdict.p_val.items()})

    def state(self) -> tuple[dict[str, object], pa.Table]:
        return self.fitted.state()


@pytest.fixture(scope="module")
def reference() -> pa.Table:
    random = np.random.default_rng(1)
    return pa.table(
        {
            "delay": random.normal(size=8_000) * 20,
            "distance": random.exponential(size=8_000),
            "carrier": random.choice(["AA", "DL", "UA"], 8_000, p=[0.6, 0.3, 0.1]),
        }
    )


@pytest.fixture(scope="module")
def found(reference: pa.Table) -> Calibration:
    return calibrate(DETECTORS, reference, FEATURES, QUESTION)


def test_detectors_whose_p_values_hold_keep_the_budget(found: Calibration) -> None:
    assert found.kept
    assert found.rate.low <= found.rate.rate <= found.rate.high
    assert found.rate.windows == 400


def test_a_detector_whose_p_values_do_not_hold_is_found_out(reference: pa.Table) -> None:
    told = calibrate({"liar": Liar()}, reference, FEATURES, replace(QUESTION, powered=0))
    assert not told.kept
    assert told.rate.low > 0.05


def test_the_smallest_shift_is_between_none_and_a_deviation(found: Calibration) -> None:
    assert {item.feature: item.unit for item in found.power} == {
        "delay": "deviations",
        "distance": "deviations",
        "carrier": "share",
    }
    assert all(item.smallest is not None and 0.01 < item.smallest < 1 for item in found.power)


def test_what_is_seen_is_seen_in_eight_of_ten_windows(reference: pa.Table, found: Calibration) -> None:
    fitted = {name: item.fit(reference, FEATURES, 1) for name, item in DETECTORS.items()}
    smallest = next(item.smallest for item in found.power if item.feature == "delay")
    assert smallest is not None
    random = np.random.default_rng(9)
    limit = 0.05 / 3
    seen = 0
    for _ in range(100):
        window = reference.take(random.integers(0, reference.num_rows, 200))
        shifted = pa.array(window.column("delay").to_numpy() + smallest * 20)
        verdict = fitted["numbers"].predict(window.set_column(0, "delay", shifted))
        seen += verdict.p_val["delay"] <= limit
    assert 60 <= seen <= 97


def test_larger_windows_show_smaller_shifts(reference: pa.Table, found: Calibration) -> None:
    more = calibrate(DETECTORS, reference, FEATURES, replace(QUESTION, rows=2_000, windows=1, powered=10))
    for small, large in zip(found.power, more.power, strict=True):
        assert small.smallest is not None
        assert large.smallest is not None
        assert large.smallest < small.smallest


def test_the_same_seed_counts_the_same(reference: pa.Table) -> None:
    question = replace(QUESTION, windows=40, splits=2, powered=2)
    assert calibrate(DETECTORS, reference, FEATURES, question) == calibrate(DETECTORS, reference, FEATURES, question)


def test_an_online_detector_is_asked_for_its_run_length(reference: pa.Table) -> None:
    question = replace(QUESTION, splits=3, powered=0)
    told = calibrate({"rows": RankSums(ert=2_000)}, reference, FEATURES, question)
    (run,) = told.runs
    assert (run.detector, run.ert, told.rate.windows) == ("rows", 2_000, 0)
    assert run.low < 2_000 < run.high * 1.3


def test_a_reference_that_is_too_short_for_the_windows_is_named(reference: pa.Table) -> None:
    with pytest.raises(UsageError) as caught:
        calibrate(DETECTORS, reference.slice(0, 300), FEATURES, QUESTION)
    assert str(caught.value).startswith("the reference has 300 rows: halves of it have no windows of 200")


def test_a_detector_can_be_asked_about_one_feature_alone(reference: pa.Table) -> None:
    fitted = KolmogorovSmirnov().fit(reference, FEATURES, 0)
    assert isinstance(fitted, UnivariateDetector)
    window = reference.slice(0, 100)
    assert fitted.only(["delay"]).predict(window).p_val == {"delay": fitted.predict(window).p_val["delay"]}
    assert fitted.only(["delay"]).predict(window).threshold == fitted.predict(window).threshold


# -- the command -------------------------------------------------------------------------------------------------------


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return make_project(tmp_path / "project")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    def ask(project: Project, *arguments: str) -> tuple[int, str]:
        monkeypatch.chdir(project.root)
        app = typer.Typer()
        app.command()(command)
        capsys.readouterr()
        code = typer.main.get_command(app).main([*arguments], standalone_mode=False)
        return int(code or 0), capsys.readouterr().out

    return ask


def watched(project: Project, detectors: Sequence[Mapping[str, Any]], **monitor: Any) -> Project:
    from engine.api import plan, run

    project.write(
        {"evaluate.slices": None, "evaluate.gates": []},
        monitor={"reference": "train", "detectors": detectors, **monitor},
    )
    done = run(plan(project.spec), inline=True)
    assert done.status == "passed"
    return project


def test_the_command_asks_the_table_that_a_run_fitted_on(project: Project, asked: Any) -> None:
    watched(project, [{"name": "inputs", "uses": "ks", "window": 60}], false_alarms="1 per 20 windows")
    code, out = asked(project, "numbers", "--windows", "40", "--power-windows", "10", "--json")
    (family,) = json.loads(out)["families"]
    assert (code, family["kept"]) == (0, True)
    assert family["question"]["alpha"] == 0.05
    assert [item["feature"] for item in family["power"]] == ["x", "z"]
    code, out = asked(project, "numbers", "--windows", "40", "--power-windows", "10")
    assert out.splitlines()[0] == "windows of 60 rows without a change: 40, alpha 0.05 a window: 2 expected"
    assert out.splitlines()[-1].startswith("the budget is kept, as far as ")


def test_the_command_is_one_of_engine_monitor(project: Project) -> None:
    watched(project, [{"name": "inputs", "uses": "alibi.KSDrift", "window": 60}], false_alarms="1 per 20 windows")
    done = engine(project.root, "monitor", "calibrate", "numbers", "--windows", "30", "--power-windows", "5")
    lines = done.out.splitlines()
    assert done.code == 0
    assert lines[-1].startswith("the budget is kept, as far as ")
    assert lines[1].startswith("  false alarms: ")
    assert [line.split()[0] for line in lines[3:-1]] == ["x", "z"]
    assert all(len(line) <= 100 for line in lines)


def test_a_plan_shows_what_the_budget_leaves_each_detector(project: Project) -> None:
    detectors = [
        {"name": "numbers", "uses": "ks", "window": 200},
        {"name": "whole", "uses": "alibi.IForest", "window": 200},
        {"name": "rows", "uses": "alibi.CVMDriftOnline", "with": {"ert": 5_000}},
    ]
    project.write(monitor={"reference": "train", "detectors": detectors, "false_alarms": "1 per 50 windows"})
    lines = [line.strip() for line in engine(project.root, "plan", "spec.yaml").out.splitlines()]
    at = lines.index("false alarms: 1 per 50 windows")
    assert lines[at + 1 : at + 4] == [
        "numbers  ks, 2 tests in windows of 200 rows: alpha 0.02; p-values below 0.0067 to 0.02",
        "whole    alibi.IForest, 1 test in windows of 200 rows: alpha 0.02; p-values below 0.0067 to 0.02",
        "rows     alibi.CVMDriftOnline, row by row: once in 5,000 rows, by its own `ert`",
    ]


def test_windows_by_time_need_their_rows(project: Project, asked: Any) -> None:
    watched(project, [{"name": "inputs", "uses": "ks", "window": "1h"}])
    with pytest.raises(EngineError, match="the windows of the detector inputs are of a time, 1h"):
        asked(project, "numbers")
    code, out = asked(project, "numbers", "--rows", "50", "--windows", "10", "--power-windows", "0")
    assert (code, "own threshold" in out) == (0, True)


def test_a_model_that_nothing_watches_is_named(project: Project, asked: Any) -> None:
    watched(project, [])
    with pytest.raises(EngineError, match="no detector of 'numbers'"):
        asked(project, "numbers")
