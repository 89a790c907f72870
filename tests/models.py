"""ONNX models made by hand, whose answers are known."""

from __future__ import annotations

from onnx import TensorProto, helper


def probability_is_x(scale: float = 1.0) -> bytes:
    """A classifier of two classes: the probability of the second is ``scale * x``."""
    return classifier([helper.make_tensor("scale", TensorProto.FLOAT, [1], [scale])], [])


def heavy(weights: int) -> bytes:
    """As :func:`probability_is_x`, with ``weights`` zeros of four bytes that are added up on the way."""
    zeros = helper.make_tensor("zeros", TensorProto.FLOAT, [weights], b"\0" * (4 * weights), raw=True)
    nodes = [
        helper.make_node("Add", ["zeros", "total"], ["lifted"]),  # on the input, so that it is not folded away
        helper.make_node("ReduceMax", ["lifted"], ["nothing"], keepdims=0),
    ]
    constants = [helper.make_tensor("scale", TensorProto.FLOAT, [1], [1.0]), zeros]
    before = [
        helper.make_node("Mul", ["x", "none"], ["gone"]),
        helper.make_node("ReduceSum", ["gone"], ["total"], keepdims=0),
    ]
    none = helper.make_tensor("none", TensorProto.FLOAT, [1], [0.0])
    return classifier([*constants, none], [*before, *nodes], "nothing")


def classifier(constants: list[object], nodes: list[object], added: str = "") -> bytes:
    """A graph of two classes: the probability of the second is ``scale * x``, and ``added``."""
    product = [helper.make_node("Mul", ["x", "scale"], ["product" if added else "p"])]
    if added:
        product.append(helper.make_node("Add", ["product", added], ["p"]))
    answer = [
        helper.make_node("Sub", ["one", "p"], ["q"]),
        helper.make_node("Concat", ["q", "p"], ["probabilities"], axis=1),
        helper.make_node("ArgMax", ["probabilities"], ["label"], axis=1, keepdims=0),
    ]
    one = helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0])
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 1])]
    outputs = [
        helper.make_tensor_value_info("label", TensorProto.INT64, [None]),
        helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, 2]),
    ]
    graph = helper.make_graph([*nodes, *product, *answer], "g", inputs, outputs, [*constants, one])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)
    return bytes(model.SerializeToString())
