"""A model that first puts its inputs side by side is served as one that takes them so, and gives the same bits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from engine.serve.columns import Columns, Layout
from engine.serve.folding import folded
from engine.serve.onnx import open_session, quicker

NAMES = ("a", "b", "c")


def column(name: str, kind: int = TensorProto.FLOAT, width: int = 1) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, [None, width])


def model(
    nodes: Sequence[onnx.NodeProto], inputs: Sequence[onnx.ValueInfoProto], outputs: Sequence[onnx.ValueInfoProto]
) -> bytes:
    weights = numpy_helper.from_array(np.array([[1.5], [-2.25], [0.1]], np.float32), "w")
    graph = helper.make_graph(list(nodes), "g", list(inputs), list(outputs), [weights])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)
    return bytes(made.SerializeToString())


def linear(axis: int = 1, more: Sequence[onnx.NodeProto] = ()) -> bytes:
    nodes = [
        helper.make_node("Concat", NAMES, ["all"], axis=axis),
        helper.make_node("MatMul", ["all", "w"], ["y"]),
        *more,
    ]
    return model(nodes, [column(name) for name in NAMES], [column("y")])


def rows(count: int, seed: int = 1) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {name: random.normal(size=(count, 1)).astype(np.float32) for name in NAMES}


def packed(columns: dict[str, np.ndarray], order: Sequence[str]) -> Columns:
    """The columns side by side in an order, as requests may send them."""
    places = {name: ("numeric", order.index(name)) for name in NAMES}
    matrix = np.concatenate([columns[name] for name in order], axis=1)
    return Columns({"numeric": matrix}, Layout(packs={"numeric": tuple(order)}, places=places))


def apart(columns: dict[str, np.ndarray]) -> Columns:
    return Columns(dict(columns), Layout(packs={}, places={name: (name, None) for name in NAMES}))


FORMS: dict[str, Callable[[dict[str, np.ndarray]], object]] = {
    "by name": dict,
    "apart": apart,
    "side by side": lambda columns: packed(columns, NAMES),
    "in another order": lambda columns: packed(columns, ("c", "a", "b")),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("count", [1, 7])
def test_the_folded_model_gives_the_same_bits(form: str, count: int) -> None:
    session = open_session(linear())
    faster = quicker(session, linear())
    assert faster is not None
    assert faster.inputs == session.inputs
    columns = rows(count)
    given: Any = FORMS[form](columns)
    assert np.array_equal(faster.run(given)["y"], session.run(columns)["y"])


def test_what_is_folded_takes_one_matrix() -> None:
    found = folded(linear())
    assert found is not None
    assert dict(found.packs) == {"all": NAMES}
    graph = onnx.load_from_string(found.model).graph
    assert [item.name for item in graph.input] == ["all"]
    assert [node.op_type for node in graph.node] == ["MatMul"]


def test_inputs_that_are_not_put_side_by_side_stay() -> None:
    nodes = [
        helper.make_node("Concat", NAMES, ["all"], axis=1),
        helper.make_node("MatMul", ["all", "w"], ["m"]),
        helper.make_node("Add", ["m", "d"], ["y"]),
    ]
    data = model(nodes, [*(column(name) for name in NAMES), column("d")], [column("y")])
    session = open_session(data)
    faster = quicker(session, data)
    assert faster is not None
    columns = {**rows(4), "d": np.ones((4, 1), np.float32)}
    assert np.array_equal(faster.run(columns)["y"], session.run(columns)["y"])


WHOLE = [column(name) for name in NAMES]
JOIN = helper.make_node("Concat", NAMES, ["all"], axis=1)
MULTIPLY = helper.make_node("MatMul", ["all", "w"], ["y"])
KEPT = {
    "no model": b"Concat",
    "another axis": model([helper.make_node("Concat", NAMES, ["y"], axis=0)], WHOLE, [column("y")]),
    "an input that is read twice": linear(more=[helper.make_node("Identity", ["a"], ["z"])]),
    "what is an output itself": model([JOIN], WHOLE, [column("all", width=3)]),
    "inputs of more columns": model([JOIN, MULTIPLY], [column(name, width=2) for name in NAMES], [column("y")]),
    "one row at a time": model(
        [JOIN, MULTIPLY],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1]) for name in NAMES],
        [column("y")],
    ),
    "nothing to put together": model([helper.make_node("Identity", ["a"], ["y"])], [column("a")], [column("y")]),
}


@pytest.mark.parametrize("name", KEPT)
def test_other_models_stay_as_they_are(name: str) -> None:
    assert folded(KEPT[name]) is None
