"""Judging a model: what its answers are worth, overall and by slice, and when that cannot be told."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from onnx import TensorProto, helper
from threadpoolctl import threadpool_limits

from engine.errors import DigestMismatch, StepFailed
from engine.steps import evaluate, gate
from engine.steps.columns import datatype, features_of, require_column
from engine.steps.context import Context
from engine.steps.model import Artifact, Inputs
from engine.store.objects import ObjectStore


@pytest.fixture
def context(tmp_path: Path) -> Context:
    return Context(store=ObjectStore(tmp_path / "objects"), home=tmp_path, run_id="", step="x", log=lambda _: None)


def probability_is_x(scale: float = 1.0) -> bytes:
    """A classifier of two classes: the probability of the second is ``scale * x``."""
    nodes = [
        helper.make_node("Mul", ["x", "scale"], ["p"]),
        helper.make_node("Sub", ["one", "p"], ["q"]),
        helper.make_node("Concat", ["q", "p"], ["probabilities"], axis=1),
        helper.make_node("ArgMax", ["probabilities"], ["label"], axis=1, keepdims=0),
    ]
    constants = [
        helper.make_tensor("scale", TensorProto.FLOAT, [1], [scale]),
        helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0]),
    ]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 1])]
    outputs = [
        helper.make_tensor_value_info("label", TensorProto.INT64, [None]),
        helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, 2]),
    ]
    graph = helper.make_graph(nodes, "g", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)
    return bytes(model.SerializeToString())


SIGNATURE = {
    "task": "binary",
    "target": "y",
    "classes": ["no", "yes"],
    "inputs": [{"name": "x", "role": "numeric", "datatype": "FP32", "shape": [-1, 1]}],
}
RANDOM = np.random.default_rng(1)
X = RANDOM.random(400)
Y = np.where(RANDOM.random(400) < X, "yes", "no")
TABLE = pa.table({"x": X, "y": Y, "group": ["a", "b", None, "a"] * 100})


class Native:
    """The same model in Python, which may answer a little higher."""

    classes = ("no", "yes")

    def __init__(self, higher: float = 0.0) -> None:
        self.higher = higher

    def scores(self, table: pa.Table) -> Any:
        p = np.clip(table.column("x").to_numpy() + self.higher, 0, 1)
        return np.stack([1 - p, p], axis=1)


def judged(
    context: Context,
    table: pa.Table = TABLE,
    metrics: Sequence[str] = ("roc_auc", "brier"),
    slices: Sequence[str] = (),
    native: Native | None = None,
    **params: Any,
) -> dict[str, Artifact]:
    """The artifacts of the step."""
    inputs = {"table": context.put_table(table), "signature": context.put_json(SIGNATURE)}
    if "model" not in params:
        inputs["model"] = context.put_bytes(probability_is_x(), "onnx")
    if native is not None:
        inputs["native"] = context.put_private((native, None))
    wanted = {"target": "y", "metrics": list(metrics), "slices": list(slices), **params}
    return dict(evaluate.run(Inputs(artifacts=inputs), wanted, context).artifacts)


def evaluation(context: Context, *arguments: Any, **more: Any) -> Any:
    return context.json(judged(context, *arguments, **more)["evaluation"])


def test_the_metrics_are_those_of_the_onnx_models_answers(context: Context) -> None:
    found = evaluation(context)["metrics"]
    p, true = X.astype(np.float32).astype(float), Y == "yes"
    pairs = p[true][:, None] - p[~true][None, :]
    assert (found["roc_auc"]["value"], found["roc_auc"]["rows"]) == (pytest.approx(np.mean(pairs > 0)), 400)
    assert found["brier"]["value"] == pytest.approx(np.mean((p - true) ** 2))


def test_slices_have_their_rows_and_nulls_are_one_of_them(context: Context) -> None:
    found = evaluation(context, slices=["group"])["slices"]["group"]
    assert [(part["value"], part["rows"]) for part in found] == [("a", 200), ("(none)", 100), ("b", 100)]
    whole = evaluation(context)["metrics"]["brier"]["value"]
    assert np.average([p["metrics"]["brier"] for p in found], weights=[200, 100, 100]) == pytest.approx(whole)


def test_a_slice_of_one_class_has_no_auc_and_keeps_its_other_metrics(context: Context) -> None:
    table = TABLE.append_column("same", pa.array(Y))
    parts = evaluation(context, table, slices=["same"])["slices"]["same"]
    assert [part["metrics"]["roc_auc"] for part in parts] == [None, None]
    assert None not in [part["metrics"]["brier"] for part in parts]


def test_one_class_only_leaves_the_auc_undefined_and_draws_no_curve(context: Context) -> None:
    found = evaluation(context, TABLE.filter(pa.array(Y == "yes")))
    assert found["metrics"]["roc_auc"]["value"] is None
    assert found["curves"] == {}


def test_calibration_counts_every_row_once(context: Context) -> None:
    curve = evaluation(context)["curves"]["calibration"]
    assert sum(curve["rows"]) == 400
    assert all(index / 10 <= value <= (index + 1) / 10 for index, value in enumerate(curve["predicted"]))


def test_the_roc_curve_goes_from_corner_to_corner_and_never_back(context: Context) -> None:
    curve = evaluation(context)["curves"]["roc"]
    assert (curve["fpr"][0], curve["tpr"][0], curve["fpr"][-1], curve["tpr"][-1]) == (0, 0, 1, 1)
    assert curve["fpr"] == sorted(curve["fpr"])
    assert curve["tpr"] == sorted(curve["tpr"])


def test_parity_is_the_largest_difference_and_the_labels_that_flip(context: Context) -> None:
    assert evaluation(context)["parity"] is None
    same = evaluation(context, native=Native())["parity"]
    assert same["max_difference"] < 1e-6
    assert same["label_flips"] == 0
    higher = evaluation(context, native=Native(0.1))["parity"]
    assert higher["max_difference"] == pytest.approx(0.1, abs=1e-6)
    assert higher["label_flips"] == int(np.sum((X <= 0.5) & (X + 0.1 > 0.5)))


WRONG: list[tuple[dict[str, Any], str, str]] = [
    ({"table": TABLE.slice(0, 0)}, "the evaluation data has no rows", "evaluate.data"),
    ({"table": TABLE.drop_columns(["y"])}, 'the target "y" is not a column of the data', "target"),
    ({"table": TABLE.set_column(1, "y", pa.array([None, "yes"] * 200))}, '200 rows have no "y"', "target"),
    (
        {"table": TABLE.set_column(1, "y", pa.array(["no", "perhaps"] * 200))},
        'the model has never seen the class "perhaps" of "y"',
        "target",
    ),
    ({"metrics": ["roc_auc", "mae"]}, "mae is no metric for binary", "evaluate.metrics.1"),
    ({"slices": ["gruop"]}, 'no column "gruop" in the data', "evaluate.slices.0"),
    (
        {"table": pa.table({"x": np.arange(1001) / 1001, "y": ["no"] * 1001, "id": range(1001)}), "slices": ["id"]},
        '"id" has 1,001 values',
        "evaluate.slices.0",
    ),
]


@pytest.mark.parametrize(("given", "fact", "key"), WRONG, ids=[fact for _, fact, _ in WRONG])
def test_what_cannot_be_judged_says_why_and_which_key(
    context: Context, given: dict[str, Any], fact: str, key: str
) -> None:
    with pytest.raises(StepFailed) as raised:
        judged(context, **given)
    assert (raised.value.fact, raised.value.key) == (fact, key)


def test_a_model_whose_bytes_were_altered_is_not_judged(context: Context) -> None:
    digest = context.store.put(probability_is_x())
    path = context.store.require(digest)
    path.chmod(0o644)
    path.write_bytes(probability_is_x(0.5))
    with pytest.raises(DigestMismatch):
        judged(context, model=digest, version=1)


def answering(classes: list[Any]) -> bytes:
    """A model that always answers the first of its classes, which its labels are."""
    kind = TensorProto.STRING if isinstance(classes[0], str) else TensorProto.INT64
    nodes = [
        helper.make_node("MatMul", ["x", "none"], ["nothing"]),
        helper.make_node("Softmax", ["nothing"], ["probabilities"], axis=1),
        helper.make_node("ArgMax", ["probabilities"], ["place"], axis=1, keepdims=0),
        helper.make_node("Gather", ["classes", "place"], ["label"]),
    ]
    constants = [
        helper.make_tensor("none", TensorProto.FLOAT, [1, len(classes)], [0.0] * len(classes)),
        helper.make_tensor("classes", kind, [len(classes)], classes),
    ]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 1])]
    outputs = [
        helper.make_tensor_value_info("label", kind, [None]),
        helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, len(classes)]),
    ]
    graph = helper.make_graph(nodes, "g", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)
    return bytes(model.SerializeToString())


@pytest.mark.parametrize(
    ("classes", "fact"),
    [
        (["no", "perhaps", "yes"], "the model knows 3 classes, and 2 are judged"),
        (["never", "yes"], 'the model answers "never", and the classes are no, yes'),
    ],
)
def test_a_baseline_that_knows_other_classes_is_an_error_and_no_comparison(
    context: Context, classes: list[Any], fact: str
) -> None:
    with pytest.raises(StepFailed) as raised:
        judged(context, model=context.store.put(answering(classes)), version=1)
    assert raised.value.fact == fact
    assert judged(context, model=context.store.put(answering(["no", "yes"])), version=1)


# -- gates against a baseline ----------------------------------------------------------------------------------


def verdict(context: Context, scale: float, **given: Any) -> Any:
    """What a gate says of our model against one whose probabilities are ``scale`` times as large."""
    ours = judged(context, slices=["group"])
    theirs = judged(context, slices=["group"], model=context.store.put(probability_is_x(scale)), version=3)
    keys = ("min", "max", "between", "baseline", "max_drop", "min_gain", "slice", "on_missing")
    wanted = {**dict.fromkeys(keys), "name": "g", "metric": "brier", "confidence": 0.95, "min_rows": 0, **given}
    inputs = {
        "evaluation": ours["evaluation"],
        "predictions": ours["predictions"],
        "baseline": theirs["predictions"],
    }
    params = {"gate": {**wanted, "baseline": "production"}, "baseline": {"version": 3, "digest": "", "known": True}}
    done = gate.run(Inputs(artifacts=inputs), params, context)
    return context.json(done.artifacts["verdict"])


@pytest.mark.parametrize(
    ("scale", "given", "passed"),
    [
        (1.0, {"max_drop": 0.0}, True),
        (1.0, {"min_gain": 0.0}, False),
        (0.3, {"min_gain": 0.01}, True),
        (0.3, {"min_gain": 0.5}, False),
        (1.0, {"metric": "roc_auc", "max_drop": 0.0}, True),
        (0.3, {"metric": "roc_auc", "min_gain": 0.0}, False),
        (0.3, {"max_drop": 0.0, "slice": "group"}, True),
        (1.0, {"min_gain": 0.0, "slice": "group"}, False),
    ],
)
def test_a_gate_compares_with_the_baseline_on_the_same_rows(
    context: Context, scale: float, given: dict[str, Any], passed: bool
) -> None:
    found = verdict(context, scale, **given)
    assert found["passed"] is passed, found["reason"]
    assert "version 3" in found["reason"]


def test_a_comparison_that_is_not_defined_does_not_pass(context: Context) -> None:
    found = verdict(context, 1.0, max_drop=0.1, slice="group", min_rows=500)
    assert (found["passed"], found["value"]) == (False, None)


def test_the_worst_slice_speaks_for_all(context: Context) -> None:
    found = verdict(context, 0.3, max_drop=0.0, slice="group", min_rows=150)
    assert "for group a" in found["reason"]


# -- columns ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("role", "kind", "found"),
    [
        ("numeric", pa.int8(), "FP32"), ("numeric", pa.float64(), "FP32"), ("numeric", pa.bool_(), "FP32"),
        ("numeric", pa.decimal128(5, 2), "FP32"), ("categorical", pa.string(), "BYTES"),
        ("categorical", pa.int64(), "INT64"), ("categorical", pa.bool_(), "INT64"),
    ],
)  # fmt: skip
def test_a_column_becomes_a_tensor_of_this_type(role: str, kind: pa.DataType, found: str) -> None:
    assert datatype("c", role, kind, "features.c") == found


@pytest.mark.parametrize(
    ("role", "kind"),
    [("numeric", pa.string()), ("numeric", pa.timestamp("s")), ("categorical", pa.float64()), ("categorical", pa.date32())],
)  # fmt: skip
def test_a_column_that_fits_no_tensor_is_refused_with_the_key(role: str, kind: pa.DataType) -> None:
    with pytest.raises(StepFailed) as raised:
        datatype("c", role, kind, "features.c")
    assert raised.value.key == "features.c"
    assert raised.value.hint


def test_features_are_in_the_order_of_the_spec_the_numeric_ones_first() -> None:
    found = features_of(TABLE, {"numeric": ["x"], "categorical": ["group", "y"]})
    assert [feature.name for feature in found] == ["x", "group", "y"]


def test_a_missing_and_a_doubled_column_are_refused() -> None:
    with pytest.raises(StepFailed, match='no column "xx" in the data'):
        require_column(TABLE, "xx", "target")
    doubled = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["x", "x"])
    with pytest.raises(StepFailed, match='2 columns are called "x"'):
        require_column(doubled, "x", "target")


# -- byte for byte ---------------------------------------------------------------------------------------------


def test_the_evaluation_is_the_same_bytes_whatever_the_number_of_threads(context: Context) -> None:
    random = np.random.default_rng(3)
    x = random.random(40_000)
    table = pa.table(
        {"x": x, "y": np.where(random.random(40_000) < x, "yes", "no"), "seats": random.gamma(2, size=40_000)}
    )
    slices = [{"column": "x", "ranges": [0.3, 0.6]}]
    metrics = ["roc_auc", "average_precision", "brier", "f1", "log_loss"]
    for weights in (None, "seats"):
        found = []
        for threads in (1, 2):
            with threadpool_limits(threads):
                made = judged(context, table, metrics, slices, weights=weights)  # type: ignore[arg-type]
                found.append([artifact.digest for artifact in made.values()])
        assert found[0] == found[1]
