"""The ONNX session: what it says of a model, Arrow columns as tensors, answers as predictions, and its errors."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from engine.errors import DataUnreadable, EngineError, NotFound, UsageError
from engine.serve.onnx import Session, Tensor, open_session

KINDS = {"FP32": TensorProto.FLOAT, "FP64": TensorProto.DOUBLE, "INT64": TensorProto.INT64, "BOOL": TensorProto.BOOL}
KINDS["BYTES"] = TensorProto.STRING


def model(nodes: list[Any], inputs: dict[str, str], outputs: dict[str, tuple[str, list[Any]]], **given: Any) -> bytes:
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(name, KINDS[kind], [None, 1]) for name, kind in inputs.items()],
        [helper.make_tensor_value_info(name, KINDS[kind], shape) for name, (kind, shape) in outputs.items()],
        given.get("constants", []),
    )
    imports = [helper.make_opsetid("", 17), *given.get("imports", [])]
    built: ModelProto = helper.make_model(graph, opset_imports=imports, ir_version=8)
    return bytes(built.SerializeToString())


def echo(kind: str) -> Session:
    """A model that answers its one input."""
    node = helper.make_node("Identity", ["x"], ["value"])
    return open_session(model([node], {"x": kind}, {"value": (kind, [None, 1])}))


def classifier(classes: int) -> bytes:
    """Softmax over ``classes`` multiples of x."""
    weights = numpy_helper.from_array(np.arange(classes, dtype=np.float32).reshape(1, -1), "w")
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["z"]),
        helper.make_node("Softmax", ["z"], ["probabilities"], axis=1),
        helper.make_node("ArgMax", ["probabilities"], ["label"], axis=1, keepdims=0),
    ]
    outputs = {"label": ("INT64", [None]), "probabilities": ("FP32", [None, classes])}
    return model(nodes, {"x": "FP32"}, outputs, constants=[weights])


def total() -> bytes:
    """The sum of a and b."""
    return model(
        [helper.make_node("Add", ["a", "b"], ["value"])], {"a": "FP32", "b": "FP32"}, {"value": ("FP32", [None, 1])}
    )


def test_inputs_and_outputs_are_described() -> None:
    session = open_session(classifier(3))
    assert session.inputs == (Tensor(name="x", datatype="FP32", shape=(-1, 1)),)
    assert session.outputs == (
        Tensor(name="label", datatype="INT64", shape=(-1,)),
        Tensor(name="probabilities", datatype="FP32", shape=(-1, 3)),
    )


NAN = float("nan")


@pytest.mark.parametrize(
    ("kind", "values", "expected"),
    [
        ("FP32", pa.array([1, 2, None]), [1.0, 2.0, NAN]),
        ("FP32", pa.array([True, False, None]), [1.0, 0.0, NAN]),
        ("FP32", pa.array([0.1, None, 1e300]), [np.float32(0.1), NAN, np.inf]),
        ("FP32", pa.array([1.5, 2.25], pa.float32()), [1.5, 2.25]),
        ("FP32", pa.array([1, 2], pa.decimal128(5, 1)), [1.0, 2.0]),
        ("FP32", pa.nulls(2), [NAN, NAN]),
        ("FP32", pa.array([3.0, 4.0]).dictionary_encode(), [3.0, 4.0]),
        ("FP64", pa.array([0.1, None]), [0.1, NAN]),
        ("INT64", pa.array([1, 2], pa.int8()), [1, 2]),
        ("INT64", pa.array([True, False]), [1, 0]),
        ("BOOL", pa.array([True, False]), [True, False]),
        ("BYTES", pa.array(["a", None, "é"]), ["a", "", "é"]),
        ("BYTES", pa.array(["a", None], pa.large_string()), ["a", ""]),
        ("BYTES", pa.array(["a", "b", "a"]).dictionary_encode(), ["a", "b", "a"]),
    ],
)
def test_a_column_becomes_its_tensor(kind: str, values: pa.Array, expected: list[Any]) -> None:
    session = echo(kind)
    column = session.columns(pa.table({"x": values, "other": values}))["x"]
    assert column.shape == (len(values), 1)
    answer = session.run({"x": column})["value"]
    assert np.array_equal(answer.reshape(-1), np.array(expected), equal_nan=kind.startswith("FP"))


@pytest.mark.parametrize(
    ("kind", "table", "message"),
    [
        ("FP32", {"y": pa.array([1])}, 'column "x": expected one of FP32, received none; known: y'),
        ("FP32", {"X ": pa.array([1])}, 'column "x": expected one of FP32, received none; did you mean "X "?'),
        ("FP32", {"x": pa.array(["a"])}, 'column "x": expected FP32, received string'),
        ("BYTES", {"x": pa.array([1])}, 'column "x": expected BYTES, received int64'),
        ("INT64", {"x": pa.array([1.5])}, 'column "x": expected INT64, received double'),
        ("INT64", {"x": pa.array([1, None])}, 'column "x": expected INT64, received int64 with 1 nulls'),
        (
            "INT64",
            {"x": pa.array([2**63], pa.uint64())},
            'column "x": expected INT64, received uint64 out of its range',
        ),
    ],
)
def test_a_column_that_cannot_become_its_tensor_is_named(kind: str, table: dict[str, pa.Array], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        echo(kind).predict(pa.table(table))
    assert str(caught.value).removesuffix("; give it the type that the model was trained with") == message


X = pa.table({"x": [-1.0, 0.5, 2.0]})


def test_two_classes_have_the_score_of_the_second() -> None:
    found = open_session(classifier(2)).predict(X)
    assert np.allclose(found.scores, 1 / (1 + np.exp([1.0, -0.5, -2.0])))
    assert found.scores.dtype == np.float64
    assert found.label.tolist() == [0, 1, 1]


def test_more_classes_have_a_score_each() -> None:
    found = open_session(classifier(4)).predict(X)
    assert found.scores.shape == (3, 4)
    assert np.allclose(found.scores.sum(axis=1), 1)
    assert found.label.tolist() == [0, 3, 3]


def test_a_value_is_label_and_score() -> None:
    found = open_session(total()).predict(pa.table({"b": [1.0, 2.0], "a": [10.0, 20.0]}))
    assert found.scores.tolist() == found.label.tolist() == [11.0, 22.0]


@pytest.mark.parametrize("rows", [0, 1, 65_536, 65_537, 150_000])
def test_every_row_is_answered_in_order(rows: int) -> None:
    values = np.arange(rows) % 1_000
    found = open_session(total()).predict(pa.table({"a": values, "b": values}))
    assert np.array_equal(found.scores, values * 2)


def test_a_table_in_chunks_is_answered_as_one() -> None:
    chunked = pa.concat_tables([X, X])
    assert open_session(classifier(2)).predict(chunked).label.tolist() == [0, 1, 1, 0, 1, 1]


COLUMN = np.zeros((2, 1), dtype=np.float32)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"a": COLUMN}, 'tensor "b": expected FP32 [-1, 1], received none'),
        ({"a": COLUMN, "b": COLUMN, "bb": COLUMN}, 'the model has no input "bb"; did you mean "b"?'),
        ({"a": COLUMN, "b": COLUMN.astype(np.int64)}, 'tensor "b": expected FP32 [-1, 1], received INT64 [2, 1]'),
        ({"a": COLUMN, "b": np.array([["x"], ["y"]])}, 'tensor "b": expected FP32 [-1, 1], received BYTES [2, 1]'),
        ({"a": COLUMN.reshape(-1), "b": COLUMN}, 'tensor "a": expected FP32 [-1, 1], received FP32 [2]'),
        ({"a": np.zeros((2, 3), np.float32), "b": COLUMN}, 'tensor "a": expected FP32 [-1, 1], received FP32 [2, 3]'),
        ({"a": COLUMN, "b": np.zeros((3, 1), np.float32)}, 'tensor "b": expected 2 rows as "a" has, received 3'),
    ],
)
def test_a_wrong_request_is_told_what_was_expected_and_what_came(columns: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        open_session(total()).run(columns)
    assert str(caught.value) == message


def weighted(outside: bool) -> bytes:
    """x times a weight of 7, which lies in the file or in ``weights.bin``."""
    tensor = numpy_helper.from_array(np.full((1, 1), 7, np.float32), "w")
    if outside:
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", "weights.bin"), ("offset", "0"), ("length", "4")):
            tensor.external_data.add(key=key, value=value)
    node = helper.make_node("MatMul", ["x", "w"], ["value"])
    return model([node], {"x": "FP32"}, {"value": ("FP32", [None, 1])}, constants=[tensor])


def test_weights_outside_the_file_are_never_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "weights.bin").write_bytes(np.array([7], np.float32).tobytes())
    (tmp_path / "model.onnx").write_bytes(weighted(outside=True))
    monkeypatch.chdir(tmp_path)
    assert open_session(weighted(outside=False)).predict(X).scores.tolist() == [-7.0, 3.5, 14.0]
    for given in (weighted(outside=True), tmp_path / "model.onnx"):
        with pytest.raises(DataUnreadable) as caught:
            open_session(given)
        assert "onnxruntime_src" not in caught.value.fact


CUSTOM = model(
    [helper.make_node("Mine", ["x"], ["value"], domain="com.example")],
    {"x": "FP32"},
    {"value": ("FP32", [None, 1])},
    imports=[helper.make_opsetid("com.example", 1)],
)


@pytest.mark.parametrize(("data", "part"), [(b"not a model", "protobuf"), (b"", ""), (CUSTOM, "com.example")])
def test_what_cannot_be_loaded_is_an_error_of_ours(data: bytes, part: str) -> None:
    with pytest.raises(DataUnreadable) as caught:
        open_session(data)
    assert caught.value.fact.startswith("ONNX Runtime cannot load this model: ")
    assert part.lower() in caught.value.fact.lower()
    assert "\n" not in caught.value.fact


def test_a_file_is_opened_and_a_missing_one_is_named(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(total())
    assert [tensor.name for tensor in open_session(tmp_path / "model.onnx").inputs] == ["a", "b"]
    with pytest.raises(NotFound, match=r"no model file 'other\.onnx'"):
        open_session(tmp_path / "other.onnx")


def test_a_sequence_is_no_tensor() -> None:
    zipped = helper.make_node("ZipMap", ["x"], ["value"], domain="ai.onnx.ml", classlabels_int64s=[0])
    graph = helper.make_graph(
        [zipped],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 1])],
        [
            helper.make_value_info(
                "value",
                helper.make_sequence_type_proto(
                    helper.make_map_type_proto(TensorProto.INT64, helper.make_tensor_type_proto(TensorProto.FLOAT, []))
                ),
            )
        ],
    )
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    data = helper.make_model(graph, opset_imports=imports, ir_version=8).SerializeToString()
    with pytest.raises(EngineError, match='"value" of the model is seq'):
        open_session(data)


@pytest.mark.parametrize("heavy", ["pandas", "onnx", "sklearn", "ray", "pandera", "alibi_detect"])
def test_serving_imports_nothing_heavy(heavy: str, loaded: set[str]) -> None:
    assert heavy not in loaded


@pytest.fixture(scope="module")
def loaded() -> set[str]:
    code = "import sys, engine.serve.onnx; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())
