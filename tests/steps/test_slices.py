"""Which rows a slice has: by a column, by ranges, by SQL; and rows that count more than others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from engine.errors import StepFailed
from engine.steps import gate
from engine.steps.context import Context
from engine.steps.evaluate import judged_from
from engine.steps.intervals import DRAWS_IN_PART, estimates
from engine.steps.model import Inputs
from engine.steps.slices import memberships, parts, range_names, slice_of
from engine.store.objects import ObjectStore
from steps.test_evaluate import TABLE, X, Y, judged, probability_is_x

FLIGHTS = pa.table(
    {
        "distance": pa.array([100, 500, 1499, 1500, None, -3], pa.int64()),
        "share": [0.1, float("nan"), 0.5, None, 0.9, 1.0],
        "hour": [5, 23, 1, 12, None, 2],
        "name": ["a", "b'c", None, "a", "a", "b'c"],
    }
)


@pytest.fixture
def context(tmp_path: Path) -> Context:
    return Context(store=ObjectStore(tmp_path / "objects"), home=tmp_path, run_id="", step="x", log=lambda _: None)


def of(written: Any, table: pa.Table = FLIGHTS) -> Any:
    """The part that each row is in."""
    (found,) = memberships(table, [written]).values()
    return found.to_pylist()


def test_a_column_makes_a_part_of_each_value() -> None:
    assert of("name") == ["a", "b'c", "(none)", "a", "a", "b'c"]
    assert of({"column": "name"}) == of("name")


def test_a_range_holds_its_lower_cut_and_not_its_upper_one() -> None:
    assert of({"column": "distance", "ranges": [0, 500, 1500]}) == [
        "0 to 500", "500 to 1500", "500 to 1500", "1500 or more", "(none)", "below 0",
    ]  # fmt: skip


def test_what_is_no_number_is_in_no_range() -> None:
    assert of({"column": "share", "ranges": [0.5]}) == [
        "below 0.5", "(none)", "0.5 or more", "(none)", "0.5 or more", "0.5 or more",
    ]  # fmt: skip


def test_ranges_come_in_their_order_and_values_by_their_rows() -> None:
    wanted = slice_of({"column": "distance", "ranges": [0, 500, 1500]})
    (found,) = memberships(FLIGHTS, [wanted]).values()
    assert [name for name, _ in parts(found, wanted)] == [*range_names([0, 500, 1500]), "(none)"]
    (found,) = memberships(FLIGHTS, ["name"]).values()
    assert [(name, int(mask.sum())) for name, mask in parts(found, slice_of("name"))] == [
        ("a", 3), ("b'c", 2), ("(none)", 1),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("sql", "rows"),
    [
        ("distance < 500", [0, 5]),
        ("hour >= 22 or hour < 6", [0, 1, 2, 5]),
        ("name = 'b''c' -- a comment", [1, 5]),
        ("distance > (select avg(distance) from {source})", [2, 3]),
        ("false", []),
    ],
)
def test_a_predicate_makes_one_part_of_the_rows_for_which_it_holds(sql: str, rows: list[int]) -> None:
    found = of({"name": "s", "sql": sql})
    assert [index for index, part in enumerate(found) if part == "yes"] == rows
    assert {part for index, part in enumerate(found) if index not in rows} <= {None}


def test_a_predicate_reads_the_data_even_where_a_column_is_called_row() -> None:
    table = FLIGHTS.append_column("Row", pa.array([1, 1, 0, 0, 0, 0]))
    assert of({"name": "s", "sql": "row = 1"}, table) == ["yes", "yes", None, None, None, None]


WRONG: list[tuple[Any, str, str]] = [
    ("nmae", 'no column "nmae" in the data', "evaluate.slices.0"),
    ({"column": "nmae", "ranges": [1]}, 'no column "nmae" in the data', "evaluate.slices.0.column"),
    ({"column": "name", "ranges": [1]}, '"name" is string, which has no ranges', "evaluate.slices.0.column"),
    ({"name": "s", "sql": "hours < 3"}, 'the query reads a column "hours" that is not there', "evaluate.slices.0.sql"),
    ({"name": "s", "sql": "hour <"}, 'DuckDB: syntax error at or near ")"', "evaluate.slices.0.sql"),
    ({"name": "s", "sql": "random() < 0.5"}, "random() is refused: it differs from run to run", "evaluate.slices.0.sql"),
    ({"name": "s", "sql": "hour in (select hour from 'a.csv')"},
     'the query reads "a.csv", and only {source} is there', "evaluate.slices.0.sql"),
    ({"name": "s", "sql": "true); drop table x; select (1"}, "the query has 3 statements", "evaluate.slices.0.sql"),
]  # fmt: skip


@pytest.mark.parametrize(("written", "fact", "key"), WRONG, ids=[fact for _, fact, _ in WRONG])
def test_what_makes_no_slice_says_why_and_which_key(written: Any, fact: str, key: str) -> None:
    with pytest.raises(StepFailed) as raised:
        of(written)
    assert (raised.value.fact, raised.value.key) == (fact, key)


# -- in an evaluation --------------------------------------------------------------------------------------------

SLICES = ["group", {"column": "x", "ranges": [0.25, 0.5]}, {"name": "sure", "sql": "x < 0.2 or x > 0.8"}]


def test_every_kind_of_slice_is_judged_on_its_rows(context: Context) -> None:
    found = context.json(judged(context, slices=SLICES)["evaluation"])["slices"]
    assert list(found) == ["group", "sure", "x"]
    (sure,) = found["sure"]
    inside = (X < 0.2) | (X > 0.8)
    p = X.astype(np.float32)[inside].astype(float)
    assert (sure["value"], sure["rows"]) == ("yes", int(inside.sum()))
    assert sure["metrics"]["brier"] == pytest.approx(np.mean((p - (Y[inside] == "yes")) ** 2))
    assert [part["value"] for part in found["x"]] == ["below 0.25", "0.25 to 0.5", "0.5 or more"]
    for part in (*found["group"], *found["x"], sure):
        low, high = part["intervals"]["brier"]
        assert low < part["metrics"]["brier"] < high


def test_a_gate_names_a_slice_by_its_title(context: Context) -> None:
    made = judged(context, slices=SLICES)
    kinds = ("min", "max", "between", "baseline", "max_drop", "min_gain", "on_missing")
    wanted = {**dict.fromkeys(kinds), "name": "g", "metric": "brier", "min_rows": 0, "slice": "sure", "max": 0.2}
    done = gate.run(Inputs(artifacts=made), {"gate": wanted}, context)
    assert context.json(done.artifacts["verdict"])["passed"]


def test_a_gate_on_a_predicate_compares_only_the_rows_for_which_it_holds(context: Context) -> None:
    ours = judged(context, slices=SLICES)
    theirs = judged(context, slices=SLICES, model=context.store.put(probability_is_x(0.5)), version=3)
    kinds = ("min", "max", "between", "min_gain", "on_missing")
    wanted = {**dict.fromkeys(kinds), "name": "g", "metric": "brier", "min_rows": 0, "slice": "sure"}
    params = {
        "gate": {**wanted, "baseline": "production", "max_drop": 0.0, "confidence": 0.95},
        "baseline": {"version": 3, "digest": "", "known": True},
    }
    done = gate.run(Inputs(artifacts={**ours, "baseline": theirs["predictions"]}), params, context)
    found = context.json(done.artifacts["verdict"])
    assert found["passed"]
    assert found["rows"] == int(((X < 0.2) | (X > 0.8)).sum())


# -- weights -----------------------------------------------------------------------------------------------------

WEIGHTS = np.random.default_rng(2).gamma(2, size=400)
WEIGHED = TABLE.append_column("seats", pa.array(WEIGHTS))
METRICS = ["roc_auc", "brier", "accuracy", "f1", "average_precision"]


def test_weights_are_honoured_by_metrics_intervals_and_slices_and_kept_with_the_predictions(context: Context) -> None:
    made = judged(context, WEIGHED, METRICS, ["group"], weights="seats")
    evaluation, table = context.json(made["evaluation"]), context.table(made["predictions"])
    assert evaluation["weights"] == "seats"
    assert table.column("weight").to_pylist() == WEIGHTS.tolist()
    side = judged_from(table, evaluation)
    assert side.weights is not None
    whole = estimates(METRICS, side)
    plain = estimates(METRICS, replace(side, weights=None))
    for name in METRICS:
        found = evaluation["metrics"][name]
        assert (found["value"], found["low"], found["high"]) == (whole[name].value, whole[name].low, whole[name].high)
        assert found["value"] != plain[name].value
    part = evaluation["slices"]["group"][0]
    mask = np.array(table.column("slice.group").to_pylist()) == part["value"]
    inside = estimates(METRICS, side.rows(mask), draws=DRAWS_IN_PART)
    assert part["metrics"] == {name: estimate.value for name, estimate in inside.items()}
    assert part["intervals"] == {name: estimate.ends for name, estimate in inside.items()}


BAD: list[tuple[Any, str]] = [
    (["1"] * 400, 'the weights "seats" are string, not numbers'),
    ([1.0, None] * 200, '200 of the weights "seats" are missing or infinite'),
    ([1.0, float("inf")] * 200, '200 of the weights "seats" are missing or infinite'),
    ([1.0, -1.0] * 200, '200 of the weights "seats" are below 0'),
    ([0] * 400, 'all of the weights "seats" are 0'),
]


@pytest.mark.parametrize(("values", "fact"), BAD, ids=[fact for _, fact in BAD])
def test_weights_that_cannot_weigh_are_refused(context: Context, values: Any, fact: str) -> None:
    with pytest.raises(StepFailed) as raised:
        judged(context, TABLE.append_column("seats", pa.array(values)), weights="seats")
    assert (raised.value.fact, raised.value.key) == (fact, "evaluate.weights")


def test_curves_are_those_of_rows_that_are_repeated_as_often_as_they_weigh(context: Context) -> None:
    often = np.random.default_rng(4).integers(0, 3, 400)
    weighed = judged(context, TABLE.append_column("seats", pa.array(often)), weights="seats")
    repeated = judged(context, TABLE.take(pa.array(np.repeat(np.arange(400), often))))
    one, other = (context.json(made["evaluation"])["curves"] for made in (weighed, repeated))
    for curve in ("predicted", "observed"):
        assert one["calibration"][curve] == pytest.approx(other["calibration"][curve])
    area = [np.trapz(found["roc"]["tpr"], found["roc"]["fpr"]) for found in (one, other)]
    assert area[0] == pytest.approx(area[1], abs=1e-3)
