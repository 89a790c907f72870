"""Canonical ONNX: equal graphs are equal bytes, predictions stay, and what cannot be served is refused."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from engine.errors import StepFailed
from engine.serve.onnx import open_session
from engine.steps.onnx_graph import canonical, check

FLOATS = TensorProto.FLOAT


def constant(name: str, *values: float) -> TensorProto:
    return numpy_helper.from_array(np.array(values, dtype=np.float32), name)


def model(
    nodes: list[Any], constants: list[TensorProto], outputs: tuple[str, ...] = ("y",), **given: Any
) -> ModelProto:
    graph = helper.make_graph(
        nodes,
        given.pop("title", "graph"),
        [helper.make_tensor_value_info(name, FLOATS, [None, 1]) for name in given.pop("inputs", ("x", "t0"))],
        [helper.make_tensor_value_info(name, FLOATS, [None, 1]) for name in outputs],
        constants,
    )
    imports = given.pop("imports", [helper.make_opsetid("ai.onnx.ml", 3), helper.make_opsetid("", 17)])
    return helper.make_model(graph, opset_imports=imports, ir_version=8, **given)


def diamond(names: dict[str, str] | None = None, shuffle: int = 0) -> ModelProto:
    """Two branches that meet, under any names and in any order of its nodes that is topological."""
    n = {name: name for name in ("a", "b", "c", "one", "two", "same")} | (names or {})
    branches = [
        helper.make_node("Add", ["x", n["one"]], [n["a"]], name=n["c"]),
        helper.make_node("Mul", ["t0", n["two"]], [n["b"]]),
        helper.make_node("Mul", ["x", n["same"]], ["unused"]),
    ]
    constants = [constant(n["one"], 1.0), constant(n["two"], 2.0), constant(n["same"], 2.0)]
    random.Random(shuffle).shuffle(branches)
    random.Random(shuffle).shuffle(constants)
    last = helper.make_node("Sub", [n["a"], n["b"]], ["y"], doc_string=n["c"])
    return model([*branches, last], constants, producer_name=n["a"])


def run(data: bytes) -> dict[str, Any]:
    column = np.array([[1.0], [2.5], [-3.0]], dtype=np.float32)
    session = open_session(data)
    return session.run({tensor.name: column * index for index, tensor in enumerate(session.inputs, 1)})


@pytest.mark.parametrize("shuffle", range(4))
@pytest.mark.parametrize("names", [{}, {"a": "b", "b": "a", "one": "z", "c": "something"}])
def test_names_and_order_do_not_enter_the_bytes(shuffle: int, names: dict[str, str]) -> None:
    built = diamond(names, shuffle).SerializeToString()
    assert canonical(built) == canonical(diamond().SerializeToString())


def test_what_is_computed_enters_the_bytes() -> None:
    other = diamond()
    other.graph.node[-1].input[:] = reversed(other.graph.node[-1].input)
    assert canonical(other.SerializeToString()) != canonical(diamond().SerializeToString())


def test_a_constant_enters_the_bytes() -> None:
    other = diamond()
    next(item for item in other.graph.initializer if item.name == "two").CopyFrom(constant("two", 3.0))
    assert canonical(other.SerializeToString()) != canonical(diamond().SerializeToString())


def branching() -> ModelProto:
    """An If whose branches read from outside, one of them a tensor that nothing else needs."""
    positive = helper.make_graph(
        [helper.make_node("Add", ["outside", "p1"], ["pos"])],
        "then",
        [],
        [helper.make_tensor_value_info("pos", FLOATS, [None, 1])],
        [constant("p1", 1.0)],
    )
    negative = helper.make_graph(
        [helper.make_node("Identity", ["t0"], ["neg"])],
        "else",
        [],
        [helper.make_tensor_value_info("neg", FLOATS, None)],
    )
    nodes = [
        helper.make_node("Mul", ["x", "k"], ["outside"]),
        helper.make_node("ReduceSum", ["x"], ["total"], keepdims=0),
        helper.make_node("Greater", ["total", "zero"], ["is"]),
        helper.make_node("If", ["is"], ["y"], then_branch=positive, else_branch=negative),
    ]
    zero = numpy_helper.from_array(np.array(0, dtype=np.float32), "zero")
    return model(nodes, [constant("k", 5.0), zero])


def twins() -> ModelProto:
    """Two outputs that are the same, a third that is an input, and two nodes that do the same."""
    nodes = [
        helper.make_node("Add", ["x", "k"], ["y"]),
        helper.make_node("Add", ["x", "k2"], ["z"]),
        helper.make_node("Identity", ["t0"], ["w"]),
        helper.make_node("Mul", ["y", "z"], ["v"]),
    ]
    return model(nodes, [constant("k", 1.0), constant("k2", 1.0)], ("y", "z", "w", "v"))


CASES = {"diamond": diamond, "branching": branching, "twins": twins}


@pytest.mark.parametrize("case", CASES)
def test_it_is_idempotent(case: str) -> None:
    once = canonical(CASES[case]().SerializeToString())
    assert canonical(once) == once


@pytest.mark.parametrize("case", CASES)
def test_the_predictions_stay(case: str) -> None:
    source = CASES[case]().SerializeToString()
    before, after = run(source), run(canonical(source))
    assert list(before) == list(after)
    assert all(np.array_equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("case", CASES)
def test_a_canonical_model_is_accepted(case: str) -> None:
    check(canonical(CASES[case]().SerializeToString()))


def test_inputs_and_outputs_keep_their_names_and_their_order() -> None:
    found = onnx.load_from_string(canonical(twins().SerializeToString()))
    assert [value.name for value in found.graph.input] == ["x", "t0"]
    assert [value.name for value in found.graph.output] == ["y", "z", "w", "v"]


def test_equal_constants_are_one_and_unused_nodes_go() -> None:
    found = onnx.load_from_string(canonical(diamond().SerializeToString()))
    assert len(found.graph.initializer) == 2
    assert sorted(node.op_type for node in found.graph.node) == ["Add", "Mul", "Sub"]
    merged = onnx.load_from_string(canonical(twins().SerializeToString()))
    assert len(merged.graph.initializer) == 1


def test_who_made_it_and_why_is_dropped() -> None:
    found = onnx.load_from_string(canonical(diamond({"a": "me", "c": "because"}).SerializeToString()))
    assert (found.producer_name, found.doc_string, len(found.metadata_props)) == ("", "", 0)
    assert {node.doc_string + node.name for node in found.graph.node} == {""}


def test_a_deep_graph_is_no_deeper_for_python() -> None:
    nodes = [helper.make_node("Add", [f"h{i}" if i else "x", "k"], [f"h{i + 1}"]) for i in range(5_000)]
    nodes.append(helper.make_node("Identity", ["h5000"], ["y"]))
    once = canonical(model(nodes, [constant("k", 1.0)]).SerializeToString())
    assert len(onnx.load_from_string(once).graph.node) == 5_001


def external() -> ModelProto:
    found = diamond()
    tensor = found.graph.initializer[0]
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="weights.bin")
    tensor.ClearField("raw_data")
    return found


def hidden() -> ModelProto:
    found = branching()
    found.graph.node[-1].attribute[0].g.node[0].domain = "com.example"
    return found


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (external(), "are outside the ONNX file; export the model with its weights inside"),
        (
            model([helper.make_node("Fast", ["x"], ["y"], domain="com.microsoft")], []),
            "the ONNX operator com.microsoft.Fast is not a standard one; "
            "export the model with standard ONNX operators only",
        ),
        (hidden(), "the ONNX operator com.example."),
        (
            model([helper.make_node("RandomNormalLike", ["x"], ["y"])], []),
            "the ONNX operator RandomNormalLike draws random numbers; a model must say the same each time it is asked",
        ),
        (model([helper.make_node("NoSuchOperator", ["x"], ["y"])], []), "not a valid ONNX model: "),
        (model([], []), "not a valid ONNX model: "),
    ],
)
def test_what_cannot_be_served_is_refused(source: ModelProto, message: str) -> None:
    with pytest.raises(StepFailed) as caught:
        check(source.SerializeToString())
    assert message in str(caught.value)


@pytest.mark.parametrize("function", [canonical, check])
@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x08not a model", "these bytes are not an ONNX model; export the model again"),
        (b"", "the ONNX model has no outputs; export the model again"),
    ],
)
def test_bytes_that_are_no_model_are_refused(function: Any, data: bytes, message: str) -> None:
    with pytest.raises(StepFailed) as caught:
        function(data)
    assert str(caught.value) == message


def test_a_graph_that_is_not_closed_is_refused() -> None:
    with pytest.raises(StepFailed, match='in the ONNX graph "nobody" is read before anything makes it'):
        canonical(model([helper.make_node("Add", ["x", "nobody"], ["y"])], []).SerializeToString())
