"""Requests and answers of the Open Inference Protocol V2, as bytes."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.serve.model import DTYPES, InferenceAnswer, InferenceRequest, Rejected
from engine.serve.v2 import read_request, write_answer


def body(*tensors: dict[str, Any], **more: Any) -> bytes:
    return json.dumps({"inputs": list(tensors), **more}).encode()


def tensor(datatype: str = "FP32", data: Any = (1.0, 2.0), shape: Any = (2, 1), name: str = "x", **more: Any) -> Any:
    return {"name": name, "datatype": datatype, "shape": shape, "data": data, **more}


GOOD: list[tuple[str, Any, Any, list[Any]]] = [
    ("FP32", [1, 2.5], [2, 1], [[1.0], [2.5]]),
    ("FP32", [[1], [2.5]], [2, 1], [[1.0], [2.5]]),
    ("FP64", [1e300], [1, 1], [[1e300]]),
    ("FP16", [0.5], [1], [0.5]),
    ("INT64", [-(2**63), 2**63 - 1], [2], [-(2**63), 2**63 - 1]),
    ("INT8", [-128, 127], [2], [-128, 127]),
    ("UINT8", [255], [1], [255]),
    ("BOOL", [True, False], [2, 1], [[True], [False]]),
    ("BYTES", ["ä", ""], [2, 1], [["ä"], [""]]),
    ("BYTES", [["a"], ["b"]], [2, 1], [["a"], ["b"]]),
    ("FP32", [], [0, 1], []),
]


@pytest.mark.parametrize(("datatype", "data", "shape", "found"), GOOD)
def test_a_tensor_in_json_is_read(datatype: str, data: Any, shape: Any, found: list[Any]) -> None:
    array = read_request(body(tensor(datatype, data, shape))).tensors["x"]
    assert array.dtype == DTYPES[datatype]
    assert array.tolist() == found


def test_null_is_nan_in_floating_point() -> None:
    array = read_request(body(tensor(data=[None, 2]))).tensors["x"]
    assert np.isnan(array[0, 0])
    assert array[1, 0] == 2


BAD: list[tuple[bytes, str]] = [
    (b"", "the body is not JSON"),
    (b"[1]", "the body: expected a JSON object, received [1]"),
    (b"{}", '"inputs": expected a list of tensors, received nothing'),
    (body(), '"inputs": expected a list of tensors, received []'),
    (body(5), '"inputs": expected tensors, received 5'),  # type: ignore[arg-type]
    (body({"datatype": "FP32"}), '"inputs": expected a tensor with a "name", received nothing'),
    (body({"name": "x", "shape": [1]}), 'tensor "x": expected "datatype" to be text, received nothing'),
    (body({"name": "x", "datatype": "FP32", "shape": 1}), 'tensor "x": expected "shape" to be a list, received 1'),
    (body(tensor("FP31")), 'tensor "x": expected a datatype of BOOL, FP16'),
    (body(tensor(shape=[-1])), 'tensor "x": expected a shape of whole numbers, received [-1]'),
    (body(tensor(shape=[True])), 'tensor "x": expected a shape of whole numbers, received [true]'),
    (body(tensor(shape=[3])), 'tensor "x": expected 3 elements, received 2'),
    (body(tensor(data="ab")), 'tensor "x": expected "data" to be a list, received "ab"'),
    (body(tensor(data=None)), 'tensor "x": expected "data" to be a list, received nothing'),
    (body(tensor(data=[1, "a"])), 'tensor "x": expected FP32, received "a"'),
    (body(tensor(data=[1, True])), 'tensor "x": expected FP32, received true'),
    (body(tensor(data=[1, {}])), 'tensor "x": expected FP32, received {}'),
    (body(tensor(data=[[1], [2, 3]])), 'tensor "x": expected 2 elements, received lists of different lengths'),
    (body(tensor(data=[1e39, 0])), 'tensor "x": expected FP32, received 1e+39, which is out of its range'),
    (body(tensor("INT64", [1, 2.5])), 'tensor "x": expected INT64, received 2.5'),
    (body(tensor("INT8", [1, 128])), 'tensor "x": expected INT8, received 128, which is out of its range'),
    (body(tensor("INT64", [1, None])), 'tensor "x": expected INT64, received nothing'),
    (body(tensor("BOOL", [1, 0])), 'tensor "x": expected BOOL, received 1'),
    (body(tensor("BYTES", ["a", 1])), 'tensor "x": expected BYTES, received 1'),
    (body(tensor("BYTES", ["a"])), 'tensor "x": expected 2 elements, received 1'),
    (body(tensor(), tensor()), 'tensor "x": it is given twice'),
    (body(tensor(), id=5), '"id": expected at most 256 characters of text, received 5'),
    (body(tensor(), outputs={}), '"outputs": expected a list of tensors, received {}'),
    (body(tensor(), outputs=[{}]), '"outputs": expected the name of an output, received nothing'),
    (body(tensor(), parameters=3), '"parameters": expected an object, received 3'),
    (body(tensor(), parameters={"timeout": -1}), '"timeout": expected microseconds, received -1'),
    (body(tensor(parameters={"binary_data_size": 8})), 'tensor "x": expected 8 bytes after the document, received 0'),
]  # fmt: skip


@pytest.mark.parametrize(("data", "says"), BAD, ids=[says for _, says in BAD])
def test_what_is_no_request_is_refused_with_the_tensor_what_was_expected_and_what_came(data: bytes, says: str) -> None:
    with pytest.raises(Rejected) as caught:
        read_request(data)
    assert caught.value.status == 400
    assert says in str(caught.value)


def binary(array: bytes, datatype: str, shape: list[int], size: int | None = None) -> tuple[bytes, int]:
    size = len(array) if size is None else size
    head = body({"name": "x", "datatype": datatype, "shape": shape, "parameters": {"binary_data_size": size}})
    return head + array, len(head)


@pytest.mark.parametrize(
    ("datatype", "values"),
    [("FP32", [1.5, -2.0]), ("FP64", [1.5]), ("INT64", [2**62]), ("UINT16", [65535]), ("BOOL", [True, False])],
)
def test_a_tensor_in_bytes_is_read(datatype: str, values: list[Any]) -> None:
    data = np.array(values, DTYPES[datatype]).tobytes()
    assert read_request(*binary(data, datatype, [len(values)])).tensors["x"].tolist() == values


def test_text_in_bytes_is_read() -> None:
    data = b"\x02\0\0\0\xc3\xa4\0\0\0\0"
    assert read_request(*binary(data, "BYTES", [2, 1])).tensors["x"].tolist() == [["ä"], [""]]


@pytest.mark.parametrize(
    ("data", "datatype", "shape", "size", "says"),
    [
        (b"1234", "FP32", [2], None, "expected 8 bytes, received 4"),
        (b"1234", "FP32", [1], 8, "expected 8 bytes after the document, received 4"),
        (b"12345", "FP32", [1], 4, "1 bytes follow the last tensor"),
        (b"\x02", "BOOL", [1], None, "expected BOOL, received a byte that is neither 0 nor 1"),
        (b"\x05\0\0\0ab", "BYTES", [1], None, "expected 1 elements of BYTES, received 0 and 6 bytes"),
        (b"\x01\0\0\0\xff", "BYTES", [1], None, "element 0 is not UTF-8"),
        (b"\x00\0\0\0", "BYTES", [10**12], None, "expected 1000000000000 elements of BYTES"),
    ],
)
def test_bytes_that_are_no_tensor_are_refused(
    data: bytes, datatype: str, shape: list[int], size: int | None, says: str
) -> None:
    with pytest.raises(Rejected, match=says):
        read_request(*binary(data, datatype, shape, size))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), st.integers(-5, 300) | st.none())
def test_any_bytes_are_a_request_or_refused(data: bytes, header: int | None) -> None:
    try:
        read_request(data, header)
    except Rejected as refused:
        assert refused.status == 400


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["name", "data", "x"]), inner, max_size=3)
    ),
    max_leaves=6,
)
TENSORS = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["x", "y"]) | JSON,
        "datatype": st.sampled_from([*DTYPES, "FP31"]) | JSON,
        "shape": st.lists(st.integers(-1, 3), max_size=3) | JSON,
    },
    optional={"data": st.lists(JSON, max_size=3) | JSON, "parameters": JSON},
)


@settings(max_examples=500, deadline=None)
@given(st.fixed_dictionaries({"inputs": st.lists(TENSORS, max_size=3) | JSON}, optional={"id": JSON, "outputs": JSON}))
def test_any_document_is_a_request_or_refused(document: Any) -> None:
    try:
        read_request(json.dumps(document).encode())
    except Rejected as refused:
        assert refused.status == 400


def answer() -> InferenceAnswer:
    outputs = {
        "label": np.array([1, 0]),
        "p": np.array([[0.25, 0.75], [1, 0]], np.float32),
        "t": np.array(["a", "b"], object),
    }
    kinds = {"label": "INT64", "p": "FP32", "t": "BYTES"}
    return InferenceAnswer("m", 3, "run", "production", "id", outputs, kinds)


def test_an_answer_in_json_has_the_clients_id_and_every_output() -> None:
    data, header = write_answer(answer(), InferenceRequest({}, id="7"))
    assert header is None
    assert json.loads(data) == {
        "model_name": "m",
        "model_version": "3",
        "id": "7",
        "outputs": [
            {"name": "label", "datatype": "INT64", "shape": [2], "data": [1, 0]},
            {"name": "p", "datatype": "FP32", "shape": [2, 2], "data": [0.25, 0.75, 1.0, 0.0]},
            {"name": "t", "datatype": "BYTES", "shape": [2], "data": ["a", "b"]},
        ],
    }


def test_outputs_that_are_wanted_in_bytes_follow_the_document() -> None:
    request = InferenceRequest({}, outputs=("label", "p", "t"), binary=frozenset({"p", "t"}))
    data, header = write_answer(answer(), request)
    assert header is not None
    outputs = {item["name"]: item for item in json.loads(data[:header])["outputs"]}
    assert outputs["label"]["data"] == [1, 0]
    assert outputs["p"]["parameters"] == {"binary_data_size": 16}
    assert np.frombuffer(data[header : header + 16], "<f4").tolist() == [0.25, 0.75, 1, 0]
    assert data[header + 16 :] == b"\x01\0\0\0a\x01\0\0\0b"
