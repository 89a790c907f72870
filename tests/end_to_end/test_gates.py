"""Gates in whole runs: what is compared with what, what refuses, and what is only said."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from engine.spec.checks import gate_faults
from engine.spec.model import Gate
from engine.spec.vocabulary import MEASUREMENTS, METRICS, PROPERTIES
from engine.wiring import open_home
from projects import Done, Project, make_project
from warm import warm


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return make_project(tmp_path / "project")


def run(project: Project, *gates: dict[str, Any], **changes: Any) -> Done:
    """Run the spec with these gates only."""
    project.write({"evaluate.gates": list(gates), "evaluate.slices": ["group"], **changes})
    return warm(project.root, "run", "spec.yaml", "--inline", "--json")


def verdict(done: Done) -> Any:
    """What the only gate said."""
    assert done.out, done.err
    (gate,) = done.json["gates"]
    return gate


NO_WORSE = {"metric": "mae", "baseline": "production", "max_drop": 0.05}
GOOD = {"train.with": {"ridge": 1e-6}}
BAD = {"train.with": {"ridge": 1000.0}}


def alias(project: Project, name: str, version: int) -> None:
    open_home(project.root).registry.set_alias("numbers", name, version)


def test_a_worse_model_is_refused_and_a_baseline_is_any_name_of_a_version(project: Project) -> None:
    first = run(project, {"metric": "mae", "max": 1.0}, **GOOD)
    assert first.json["model"]["version"] == 1
    alias(project, "own-name", 1)
    for baseline in ("own-name", first.json["run_id"][:8]):
        found = run(project, {**NO_WORSE, "baseline": baseline}, **BAD)
        gate = verdict(found)
        assert (found.code, gate["passed"], gate["baseline"]["version"]) == (1, False, 1)
        assert gate["finding"] == "refuted"
        assert gate["low"] < gate["value"] < gate["high"] < -0.05
        assert f"of {baseline} (version 1); at 95 % confidence it is at least" in gate["reason"]
        assert gate["rows"] == 80


def test_a_run_that_made_no_version_is_no_baseline(project: Project) -> None:
    refused = run(project, {"metric": "mae", "max": 0.0})
    assert refused.code == 1
    again = run(project, {**NO_WORSE, "baseline": refused.json["run_id"]})
    assert again.code == 2
    assert "no version of numbers made by a run" in again.json["error"]["message"]


@pytest.mark.parametrize(("on_missing", "code"), [(None, 0), ("pass", 0), ("refuse", 1)])
def test_without_a_baseline_yet_the_gate_says_so_and_on_missing_decides(
    project: Project, on_missing: str | None, code: int
) -> None:
    done = run(project, {**NO_WORSE, **({"on_missing": on_missing} if on_missing else {})})
    assert done.code == code
    assert verdict(done)["reason"].startswith("`production` has never named a version: nothing to compare with")


def test_altered_bytes_of_the_baseline_fail_the_run_and_are_named(project: Project) -> None:
    digest = run(project, {"metric": "mae", "max": 1.0}).json["model"]["digest"].removeprefix("sha256:")
    alias(project, "production", 1)
    path = open_home(project.root).store.require(digest)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)
    done = run(project, NO_WORSE, **BAD)
    assert (done.code, done.json["status"]) == (3, "failed")
    assert done.json["error"]["step"] == "evaluate.production"
    assert digest[:12] in done.json["error"]["message"]
    assert done.json["model"]["version"] is None


def test_a_warning_is_shown_and_recorded_and_refuses_nothing(project: Project) -> None:
    done = run(project, {"metric": "mae", "max": 0.0, "level": "warn"}, {"metric": "leaked_rows", "max": 0})
    assert (done.code, done.json["status"], done.json["model"]["version"]) == (0, "passed", 1)
    warned, leaked = done.json["gates"]
    assert (warned["passed"], warned["level"], leaked["passed"]) == (False, "warn", True)
    shown = warm(project.root, "runs", "show", done.json["run_id"])
    assert "warn  mae.max" in shown.out
    assert "above the most that passes, 0" in shown.out
    recorded = warm(project.root, "runs", "show", done.json["run_id"], "--json").json
    assert json.dumps(warned) in json.dumps(recorded)


def test_every_gate_of_a_model_gives_value_limit_rows_method_and_reason(project: Project) -> None:
    run(project, {"metric": "mae", "max": 1.0})
    alias(project, "production", 1)
    gates = [
        {"metric": "mae", "max": 1.0}, {"metric": "mae", "slice": "group", "max": 1.0, "min_rows": 5}, NO_WORSE,
        {"metric": "mae", "slice": "group", "baseline": "production", "max_drop": 0.2},
        {"metric": "onnx_parity", "max": 1.0e-4}, {"metric": "onnx_parity_share", "tolerance": 1.0e-4, "max": 0.0},
        {"metric": "onnx_label_flips", "max": 0}, {"metric": "leaked_share", "max": 0.1},
        {"metric": "leaked_rows", "by": ["x", "z"], "max": 0}, {"metric": "identifier_features", "max": 0},
        {"metric": "target_proxy_auc", "max": 1.0}, {"metric": "model_mb", "max": 1},
        {"metric": "latency_p50_ms", "max": 1000}, {"metric": "latency_p99_ms", "max": 1000},
        {"metric": "peak_memory_mb", "max": 4000},
    ]  # fmt: skip
    done = run(project, *gates, **{"train.with": {"ridge": 0.5}})
    assert done.code == 0, [gate["reason"] for gate in done.json["gates"] if not gate["passed"]]
    for gate in done.json["gates"]:
        assert {
            "name",
            "metric",
            "kind",
            "value",
            "limit",
            "low",
            "high",
            "confidence",
            "rows",
            "method",
        } <= gate.keys()
        assert gate["method"], gate["name"]
        assert gate["reason"].count("\n") == 0
        assert gate["rows"] is None or gate["rows"] > 0
    measured = [gate for gate in done.json["gates"] if gate["measured"]]
    assert [gate["metric"] for gate in measured] == ["latency_p50_ms", "latency_p99_ms", "peak_memory_mb"]
    assert all(gate["machine"]["cpu"] for gate in measured)
    slices = next(gate for gate in done.json["gates"] if gate["name"] == "mae.max_drop[group]@production")
    assert (slices["slices_judged"], slices["slices_failed"]) == (2, [])
    assert [part["confidence"] for part in slices["parts"]].count(0.975) == 1


def test_every_form_in_the_readme_is_a_gate_and_every_figure_of_a_model_has_one() -> None:
    text = (Path(__file__).resolve().parents[2] / "README.md").read_text()
    table = text.partition("### Gates")[2].partition("\n#")[0]
    forms = [yaml.safe_load(form) for form in re.findall(r"`(\{metric: .*?\})`", table)]
    assert len(forms) > 15
    for form in forms:
        assert list(gate_faults(Gate.model_validate(form))) == [], form
        assert form["metric"] in {*METRICS, *PROPERTIES, *MEASUREMENTS}
    assert {form["metric"] for form in forms} >= {*PROPERTIES, *MEASUREMENTS}
