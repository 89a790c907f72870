"""Whether probabilities mean what they say, in bins of equal mass."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.steps import gate
from engine.steps.calibration import BINS, PARTS, part_of, taken_apart, weighted
from engine.steps.context import Context
from engine.steps.metrics import Judged, compute
from engine.steps.model import Inputs
from engine.steps.resampling import resampled
from engine.store.objects import ObjectStore

RANDOM = np.random.default_rng(11)


def judged(score: Any, true: Any) -> Judged:
    score = np.asarray(score, dtype=float)
    true = np.asarray(true, dtype=np.int64)
    return Judged(task="binary", true=true, label=(score > 0.5).astype(np.int64), score=score, classes=2)


def honest(rows: int, decimals: int = 6) -> Judged:
    """Events that happen as often as the score says."""
    score = np.round(RANDOM.random(rows), decimals)
    return judged(score, RANDOM.random(rows) < score)


def test_murphys_own_law_brier_is_reliability_less_resolution_plus_uncertainty() -> None:
    few = judged(RANDOM.choice([0.1, 0.25, 0.4, 0.7, 0.9], 2000), RANDOM.random(2000) < 0.4)
    parts = taken_apart(few)
    whole = parts["brier_reliability"] - parts["brier_resolution"] + parts["brier_uncertainty"]
    assert whole == pytest.approx(compute("brier", few), rel=1e-12)


def test_with_many_scores_the_law_holds_but_for_what_varies_within_a_bin() -> None:
    many = honest(50_000)
    parts = taken_apart(many)
    whole = parts["brier_reliability"] - parts["brier_resolution"] + parts["brier_uncertainty"]
    assert whole == pytest.approx(compute("brier", many), abs=1 / (12 * BINS**2) + 1e-3)


def test_an_honest_model_is_hardly_off_and_a_boastful_one_is() -> None:
    model = honest(20_000)
    assert part_of("ece")(model) < 0.01
    boastful = judged(np.where(model.score > 0.5, 0.99, 0.01), model.true)
    assert part_of("ece")(boastful) == pytest.approx(0.24, abs=0.01)


def test_every_bin_has_the_same_mass_and_equal_scores_share_one() -> None:
    bins = weighted("ece", honest(1500))
    assert np.isfinite(bins(np.ones(1500)))
    tied = judged([0.2] * 600 + [0.8] * 10, [0] * 600 + [1] * 10)
    assert part_of("ece")(tied) == pytest.approx((600 * 0.2 + 10 * 0.2) / 610)


def test_the_model_that_says_the_base_rate_has_neither_resolution_nor_faults() -> None:
    true = RANDOM.random(500) < 0.3
    parts = taken_apart(judged(np.full(500, true.mean()), true))
    assert (parts["ece"], parts["brier_resolution"]) == (pytest.approx(0, abs=1e-12), pytest.approx(0, abs=1e-12))
    assert parts["brier_uncertainty"] == pytest.approx(true.mean() * (1 - true.mean()))


@pytest.mark.parametrize("name", PARTS)
def test_a_row_of_weight_two_is_two_rows(name: str) -> None:
    model = honest(400, decimals=1)
    weights = RANDOM.integers(0, 4, 400).astype(float)
    repeated = model.rows(np.repeat(np.arange(400), weights.astype(int)))
    assert weighted(name, model)(weights) == pytest.approx(part_of(name)(repeated), rel=1e-12)


@pytest.mark.parametrize("name", PARTS)
def test_many_draws_at_once_are_the_draws_one_by_one(name: str) -> None:
    model = honest(300)
    draws = RANDOM.integers(0, 3, (5, 300)).astype(float)
    value = weighted(name, model)
    assert value(draws) == pytest.approx([float(value(line)) for line in draws])


def test_the_parts_are_resampled_like_any_metric() -> None:
    found = resampled(["ece", "brier_resolution"], honest(500), 50)
    assert all(np.isfinite(values).all() and np.std(values) > 0 for values in found.values())


def test_no_rows_have_no_calibration() -> None:
    none = honest(10).rows(np.zeros(10, dtype=bool))
    assert compute("ece", none) is None


def test_a_gate_on_calibration_shows_all_of_it(tmp_path: Path) -> None:
    context = Context(store=ObjectStore(tmp_path / "o"), home=tmp_path, run_id="r", step="s", log=lambda text: None)
    import pyarrow as pa

    model = honest(3000)
    table = pa.table({"true": model.true, "label": model.label, "score": model.score})
    value = compute("ece", model)
    evaluation = {"task": "binary", "classes": ["no", "yes"], "metrics": {"ece": {"value": value, "rows": 3000}}}
    inputs = {"evaluation": context.put_json(evaluation), "predictions": context.put_table(table)}
    keys = ("min", "max", "between", "baseline", "max_drop", "min_gain", "slice", "tolerance", "by", "on_missing")
    asked = {**dict.fromkeys(keys), "name": "g", "metric": "ece", "max": 0.05, "confidence": 0.95, "min_rows": 0}
    found = context.json(gate.run(Inputs(artifacts=inputs), {"gate": asked}, context).artifacts["verdict"])
    assert found["passed"]
    assert found["calibration"] == {"bins": BINS, **taken_apart(model)}
    assert "resolution 0.08" in found["reason"]
