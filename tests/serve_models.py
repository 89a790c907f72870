"""ONNX models made by hand for servers, whose answers are known, and their registration without a run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from onnx import TensorProto, helper

from engine.digest import canonical_json
from engine.registry.model import ModelVersion
from engine.store.checked import write_checked
from engine.wiring import open_home

KINDS = {
    "FP32": TensorProto.FLOAT, "FP64": TensorProto.DOUBLE, "INT64": TensorProto.INT64, "BOOL": TensorProto.BOOL,
    "BYTES": TensorProto.STRING, "INT8": TensorProto.INT8, "UINT16": TensorProto.UINT16, "FP16": TensorProto.FLOAT16,
}  # fmt: skip
Shapes = Mapping[str, tuple[str, tuple[int | None, ...]]]


def model(nodes: list[Any], inputs: Shapes, outputs: Shapes, constants: list[Any] | None = None) -> bytes:
    """A graph with inputs and outputs by name, each a datatype and a shape."""
    sides = [
        [helper.make_tensor_value_info(name, KINDS[kind], shape) for name, (kind, shape) in side.items()]
        for side in (inputs, outputs)
    ]
    graph = helper.make_graph(nodes, "g", *sides, constants or [])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)
    return bytes(made.SerializeToString())


def echo(inputs: Shapes) -> bytes:
    """Answers every input with itself, under its name and ``_out``."""
    nodes = [helper.make_node("Identity", [name], [f"{name}_out"]) for name in inputs]
    return model(nodes, inputs, {f"{name}_out": about for name, about in inputs.items()})


def plus(amount: float) -> bytes:
    """``value = x + amount``."""
    constant = helper.make_tensor("c", TensorProto.FLOAT, [1], [amount])
    column = ("FP32", (None, 1))
    return model([helper.make_node("Add", ["x", "c"], ["value"])], {"x": column}, {"value": column}, [constant])


def spinning() -> bytes:
    """``value = x``, after as many rounds of a loop as the largest x says: a million take about a second."""
    one = helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0])
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["go_on"]),
            helper.make_node("Mul", ["before", "unit"], ["after"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("round", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("before", TensorProto.FLOAT, [None, 1]),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("after", TensorProto.FLOAT, [None, 1]),
        ],
        [helper.make_tensor("unit", TensorProto.FLOAT, [1], [1.0])],
    )
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["most"], keepdims=0),
        helper.make_node("Cast", ["most"], ["rounds"], to=TensorProto.INT64),
        helper.make_node("Mul", ["x", "one"], ["start"]),
        helper.make_node("Loop", ["rounds", "", "start"], ["value"], body=body),
    ]
    column = ("FP32", (None, 1))
    return model(nodes, {"x": column}, {"value": column}, [one])


def always_spinning(rounds: int) -> bytes:
    """As :func:`spinning`, but for every row so many rounds more: it never warms up."""
    import onnx

    found = onnx.load_from_string(spinning())
    found.graph.initializer.append(helper.make_tensor("more", TensorProto.FLOAT, [], [float(rounds)]))
    found.graph.node[0].output[0] = "few"
    found.graph.node.insert(1, helper.make_node("Add", ["few", "more"], ["most"]))
    return bytes(found.SerializeToString())


def multiplying() -> bytes:
    """``value = x``, after one product of square matrices as large as the largest x says: it cannot be ended."""
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["most"], keepdims=0),
        helper.make_node("Cast", ["most"], ["size"], to=TensorProto.INT64),
        helper.make_node("Unsqueeze", ["size", "axis"], ["one_size"]),
        helper.make_node("Concat", ["one_size", "one_size"], ["shape"], axis=0),
        helper.make_node("ConstantOfShape", ["shape"], ["zeros"]),
        helper.make_node("MatMul", ["zeros", "zeros"], ["product"]),
        helper.make_node("ReduceSum", ["product"], ["nothing"], keepdims=0),
        helper.make_node("Add", ["x", "nothing"], ["value"]),
    ]
    axis = helper.make_tensor("axis", TensorProto.INT64, [1], [0])
    column = ("FP32", (None, 1))
    return model(nodes, {"x": column}, {"value": column}, [axis])


def register(
    root: Path,
    name: str,
    onnx: bytes,
    *,
    schema: Mapping[str, Any] | None = None,
    serve: Mapping[str, Any] | None = None,
    **signature: Any,
) -> ModelVersion:
    """A registered version of these bytes, to be served as ``serve`` says; the first one is in production."""
    home = open_home(root)
    digest = home.store.put(onnx)
    package = {"model": {"digest": digest}, "signature": {"classes": None, **signature}, "schema": schema}
    number = home.registry.reserve(name, digest, home.store.put(canonical_json(package)))
    run = hashlib.sha256(f"{name}{digest}".encode()).hexdigest()
    operation = home.records.folder(run) / "operation"
    operation.mkdir(parents=True, exist_ok=True)
    write_checked(operation / f"{1 + len(list(operation.iterdir()))}.json", json.dumps({"serve": serve or {}}).encode())
    home.registry.note_run(name, run, hashlib.sha256(run.encode()).hexdigest(), "passed", number)
    if number == 1:
        home.registry.set_alias(name, "production", 1)
    return home.registry.versions(name)[0]
