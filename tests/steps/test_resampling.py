"""Metrics on drawn rows are the metrics of those rows, and draws are the same each time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from engine.spec.vocabulary import METRICS, Task
from engine.steps.metrics import Judged, compute
from engine.steps.resampling import KNOWN, draws, repeated, resampled, resampled_together, units, weighted
from judged import EXPECTED, REGRESSION, SIDES, weighing

IDS = [f"{name} {task}" for name, task, _ in EXPECTED]


def drawn(judged: Judged) -> Any:
    """Some draws of a side's units."""
    return np.concatenate([lines for _, lines in draws(units(judged), 12, 3)])


@pytest.mark.parametrize(("name", "task", "_"), EXPECTED, ids=IDS)
def test_a_metric_on_weights_is_the_metric_of_the_rows_that_were_drawn(name: str, task: Task, _: Any) -> None:
    for side in (SIDES[task], weighing(SIDES[task])):
        lines = drawn(side)
        np.testing.assert_allclose(weighted(name, side)(lines), repeated(name, side)(lines), rtol=1e-9)


def test_no_metric_of_ours_needs_repeated_rows() -> None:
    assert set(METRICS) == KNOWN


def test_every_unit_is_drawn_as_often_as_any_other_and_as_many_as_there_are() -> None:
    lines = np.concatenate([lines for _, lines in draws(50, 4000, 1)])
    assert lines.shape == (4000, 50)
    assert (lines.sum(axis=1) == 50).all()
    assert np.abs(lines.mean(axis=0) - 1).max() < 5 * np.sqrt(0.98 / 4000)
    assert lines.var() == pytest.approx(0.98, abs=0.02)


@pytest.mark.parametrize("count", [7, 400, 70_000])
def test_draws_come_in_blocks_that_together_are_as_many_as_asked(count: int) -> None:
    starts = [(first, len(lines)) for first, lines in draws(count, 9, 1)]
    assert [first for first, _ in starts] == list(np.cumsum([0, *(many for _, many in starts)])[:-1])
    assert sum(many for _, many in starts) == 9


def test_the_same_rows_are_drawn_each_time_and_for_every_model() -> None:
    worse = replace(REGRESSION, label=REGRESSION.label + 1, score=REGRESSION.score + 1)
    first, second = resampled_together(["mae", "mse"], [REGRESSION, worse], 50)
    alone = resampled(["mse"], REGRESSION, 50)
    assert np.array_equal(first["mse"], alone["mse"])
    assert np.array_equal(second["mse"], resampled(["mse", "mae"], worse, 50)["mse"])
    assert np.std(first["mse"] - second["mse"]) < np.std(first["mse"]) + np.std(second["mse"])


def test_a_draw_of_one_class_only_has_no_auc() -> None:
    few = Judged(task="binary", true=np.array([0, 0, 1]), label=np.array([0, 1, 1]), score=np.arange(3.0), classes=2)
    found = resampled(["roc_auc", "accuracy"], few, 200)
    assert 0 < np.isnan(found["roc_auc"]).sum() < 200
    assert np.isfinite(found["accuracy"]).all()


def test_a_query_is_drawn_with_all_its_rows() -> None:
    side = SIDES["ranking"]
    assert side.groups is not None
    assert units(side) == len(np.unique(side.groups))
    once = np.ones((1, units(side)))
    assert weighted("ndcg", side)(once)[0] == pytest.approx(compute("ndcg", side))
