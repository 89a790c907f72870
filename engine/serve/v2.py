"""Inference requests and answers as the Open Inference Protocol V2 writes them, in JSON and as binary tensors.

A body is a JSON document, after which the bytes of tensors may follow in the order in which the document names them:

    {"inputs": [{"name": "x", "shape": [2, 1], "datatype": "FP32", "parameters": {"binary_data_size": 8}}]}....

``Inference-Header-Content-Length`` then says how long the document is. Little-endian; a BYTES element is its length in
four bytes and the bytes themselves.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson

from engine.serve.model import DTYPES, AnyArray, InferenceAnswer, InferenceRequest, Rejected

KINDS: Mapping[str, str] = {"BOOL": "b", "FP16": "fiu", "FP32": "fiu", "FP64": "fiu", "BYTES": "UO"}
LONGEST_ID = 256
DOUBLE = np.dtype(np.float64)
MOST_SQUARED = float(np.finfo(np.float32).max) ** 2


def read_request(body: bytes | memoryview, header: int | None = None) -> InferenceRequest:
    """Read a request.

    Args:
        header: the length of the JSON document, where tensors follow it as bytes.

    Raises:
        Rejected: naming the tensor, what was expected and what came.
    """
    head = bytes(body if header is None else body[: header_in(header, len(body))])
    document = document_of(head)
    mixed = b"true" in head or b"false" in head  # numpy would take them for numbers
    raw = memoryview(body)[header:] if header is not None else memoryview(b"")
    inputs = document.get("inputs")
    if not isinstance(inputs, list) or not inputs:
        raise Rejected(400, f'"inputs": expected a list of tensors, received {shown(inputs)}')
    tensors: dict[str, AnyArray] = {}
    for item in inputs:
        name, array, raw = read_tensor(item, raw, mixed=mixed)
        if name in tensors:
            raise Rejected(400, f'tensor "{name}": it is given twice')
        tensors[name] = array
    if len(raw):
        raise Rejected(400, f"{len(raw)} bytes follow the last tensor")
    request = InferenceRequest(tensors, id=id_of(document))
    if "parameters" in document or "outputs" in document:
        read_wishes(document, request)
    return request


def header_in(header: int, length: int) -> int:
    """The length of the JSON document.

    Raises:
        Rejected: when it is longer than the body.
    """
    if not 0 <= header <= length:
        raise Rejected(400, f"Inference-Header-Content-Length: expected at most {length}, received {header}")
    return header


def document_of(data: bytes | memoryview) -> dict[str, Any]:
    """The JSON object of a request.

    Raises:
        Rejected: when it is none.
    """
    try:
        document = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise Rejected(400, f"the body is not JSON: {error.msg} at {error.pos}") from error
    if not isinstance(document, dict):
        raise Rejected(400, f"the body: expected a JSON object, received {shown(document)}")
    return document


def id_of(document: Mapping[str, Any]) -> str:
    """The client's own id of a request; empty when it has none.

    Raises:
        Rejected: when it is no text that a header may hold.
    """
    found = document.get("id", "")
    if not isinstance(found, str) or len(found) > LONGEST_ID:
        raise Rejected(400, f'"id": expected at most {LONGEST_ID} characters of text, received {shown(found)}')
    return found


def read_wishes(document: Mapping[str, Any], request: InferenceRequest) -> None:
    """Note which outputs are wanted and in which form, and how long the client waits.

    Raises:
        Rejected: for what is no list of outputs or no mapping of parameters.
    """
    parameters = mapping_of(document.get("parameters"), '"parameters"')
    request.all_binary = parameters.get("binary_data_output") is True
    request.timeout = microseconds(parameters.get("timeout", 0))
    wanted = document.get("outputs")
    if wanted is None:
        return
    if not isinstance(wanted, list) or not all(isinstance(item, dict) for item in wanted):
        raise Rejected(400, f'"outputs": expected a list of tensors, received {shown(wanted)}')
    names, binary = [], set()
    for item in wanted:
        name = item.get("name")
        if not isinstance(name, str):
            raise Rejected(400, f'"outputs": expected the name of an output, received {shown(name)}')
        names.append(name)
        chosen = mapping_of(item.get("parameters"), f'output "{name}": "parameters"').get("binary_data")
        if chosen is True or (chosen is None and request.all_binary):
            binary.add(name)
    request.outputs, request.binary = tuple(names), frozenset(binary)


def mapping_of(found: object, place: str) -> Mapping[str, Any]:
    """A JSON object, empty where there is none.

    Raises:
        Rejected: when it is something else.
    """
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise Rejected(400, f"{place}: expected an object, received {shown(found)}")
    return found


def microseconds(found: object) -> float:
    """A time limit in microseconds, in seconds.

    Raises:
        Rejected: when it is no number of microseconds.
    """
    if isinstance(found, bool) or not isinstance(found, (int, float)) or not 0 <= found < 1e15:
        raise Rejected(400, f'"timeout": expected microseconds, received {shown(found)}')
    return found / 1e6


# -- one tensor ------------------------------------------------------------------------------------------------------


def read_tensor(item: Any, raw: memoryview, *, mixed: bool = True) -> tuple[str, AnyArray, memoryview]:
    """A tensor of a request, and the bytes that are left for those after it.

    Raises:
        Rejected: naming the tensor, what was expected and what came.
    """
    try:
        name, datatype, shape = item["name"], item["datatype"], item["shape"]
    except (KeyError, TypeError):
        raise incomplete(item) from None
    if type(name) is not str or type(datatype) is not str or type(shape) is not list:
        raise incomplete(item)
    if datatype not in DTYPES:
        raise Rejected(400, f'tensor "{name}": expected a datatype of {", ".join(DTYPES)}, received "{datatype[:20]}"')
    count = 1
    for size in shape:
        if type(size) is not int or size < 0:
            raise Rejected(400, f'tensor "{name}": expected a shape of whole numbers, received {shown(shape)}')
        count *= size
    parameters = item.get("parameters")
    if parameters is not None and "binary_data_size" in mapping_of(parameters, f'tensor "{name}": "parameters"'):
        array, raw = from_raw(name, datatype, count, parameters["binary_data_size"], raw)
    else:
        array = from_json(name, datatype, count, item.get("data"), mixed=mixed)
    try:
        return name, array.reshape(shape), raw
    except (ValueError, OverflowError):  # numpy holds 64 dimensions and 2**63 elements
        raise Rejected(400, f'tensor "{name}": no tensor has the shape {shown(shape)}') from None


def incomplete(item: Any) -> Rejected:
    """The answer to something that lacks a name, a datatype or a shape."""
    if not isinstance(item, dict):
        return Rejected(400, f'"inputs": expected tensors, received {shown(item)}')
    name = item.get("name")
    if not isinstance(name, str):
        return Rejected(400, f'"inputs": expected a tensor with a "name", received {shown(name)}')
    kinds = (("datatype", str, "text"), ("shape", list, "a list"))
    key, what = next((key, what) for key, kind, what in kinds if not isinstance(item.get(key), kind))
    return Rejected(400, f'tensor "{name}": expected "{key}" to be {what}, received {shown(item.get(key))}')


def from_json(name: str, datatype: str, count: int, data: object, *, mixed: bool) -> AnyArray:
    """The elements of a tensor, (count,), from a JSON list that may be nested.

    In floating point, null is NaN. ``mixed``: there may be booleans in it.

    Raises:
        Rejected: when they are of another type, too many or too few, or out of the datatype's range.
    """
    if type(data) is not list:
        raise Rejected(400, f'tensor "{name}": expected "data" to be a list, received {shown(data)}')
    if datatype == "BYTES":
        return texts(name, count, data)
    try:
        found = np.array(data)
    except (ValueError, OverflowError):
        raise Rejected(
            400, f'tensor "{name}": expected {count} elements, received lists of different lengths'
        ) from None
    kind = found.dtype.kind
    if found.size != count:
        raise Rejected(400, f'tensor "{name}": expected {count} elements, received {found.size}')
    if mixed and kind in "iuf" and has_booleans(data):
        raise Rejected(400, f'tensor "{name}": expected {datatype}, received {shown(first_stranger(data, datatype))}')
    if kind == "O" and datatype[0] == "F":
        return floats_or_null(name, datatype, found)
    if count and kind not in KINDS.get(datatype, "iu"):
        raise Rejected(400, f'tensor "{name}": expected {datatype}, received {shown(first_stranger(data, datatype))}')
    return within(name, datatype, found.reshape(-1))


def has_booleans(data: list[Any]) -> bool:
    """Whether there is a boolean in nested lists."""
    return any(has_booleans(value) if type(value) is list else type(value) is bool for value in data)


def floats_or_null(name: str, datatype: str, found: AnyArray) -> AnyArray:
    """Numbers among which null stands for NaN.

    Raises:
        Rejected: when there is something else among them.
    """
    flat = found.reshape(-1)
    for value in flat:
        if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
            raise Rejected(400, f'tensor "{name}": expected {datatype}, received {shown(value)}')
    return within(name, datatype, np.array([math.nan if value is None else value for value in flat], np.float64))


def within(name: str, datatype: str, found: AnyArray) -> AnyArray:
    """Elements as their datatype.

    Raises:
        Rejected: when one is out of its range.
    """
    dtype = DTYPES[datatype]
    if datatype == "FP32" and found.dtype is DOUBLE and found.dot(found) < MOST_SQUARED:
        return found.astype(np.float32)  # not one is out of its range, and none is NaN
    if found.dtype == dtype:
        return found
    if datatype[0] == "F":
        with np.errstate(over="ignore"):
            narrowed = found.astype(dtype)
        if not np.isfinite(narrowed).all() and (np.isinf(narrowed) != np.isinf(found)).any():
            raise out_of_range(name, datatype, found[np.isinf(narrowed)][0])
        return narrowed
    if datatype != "BOOL" and found.size:
        limits = np.iinfo(dtype)  # type: ignore[type-var]
        low, high = found.min(), found.max()
        if int(low) < limits.min or int(high) > limits.max:
            raise out_of_range(name, datatype, low if int(low) < limits.min else high)
    return found.astype(dtype)


def out_of_range(name: str, datatype: str, value: object) -> Rejected:
    """The answer to a number that its datatype does not have."""
    return Rejected(400, f'tensor "{name}": expected {datatype}, received {value}, which is out of its range')


def texts(name: str, count: int, data: list[Any]) -> AnyArray:
    """Elements that are text, (count,), as they stand in nested lists.

    Raises:
        Rejected: when one is something else, or there are too many or too few.
    """
    flat: list[Any] = data
    while flat and type(flat[0]) is list:
        flat = [value for part in flat for value in (part if type(part) is list else [part])]
    for value in flat:
        if type(value) is not str:
            raise Rejected(400, f'tensor "{name}": expected BYTES, received {shown(value)}')
    if len(flat) != count:
        raise Rejected(400, f'tensor "{name}": expected {count} elements, received {len(flat)}')
    array = np.empty(count, object)
    array[:] = flat
    return array


def first_stranger(data: Any, datatype: str) -> object:
    """The first element that is not of a datatype, as it came."""
    right: tuple[type, ...] = (bool,) if datatype == "BOOL" else (int, float) if datatype[0] == "F" else (int,)
    pending = [data]
    while pending:
        value = pending.pop()
        if isinstance(value, list):
            pending += reversed(value)
        elif not isinstance(value, right) or (isinstance(value, bool) and datatype != "BOOL"):
            return value
    return data


def from_raw(name: str, datatype: str, count: int, size: object, raw: memoryview) -> tuple[AnyArray, memoryview]:
    """The elements of a tensor, (count,), from the bytes after the document, and the bytes that are left.

    Raises:
        Rejected: when there are not as many bytes as the shape or ``binary_data_size`` says.
    """
    if type(size) is not int or not 0 <= size <= len(raw):
        raise Rejected(400, f'tensor "{name}": expected {shown(size)} bytes after the document, received {len(raw)}')
    mine, rest = raw[:size], raw[size:]
    if datatype == "BYTES":
        return raw_texts(name, count, bytes(mine)), rest
    dtype = np.dtype(DTYPES[datatype])
    if count * dtype.itemsize != size:
        raise Rejected(400, f'tensor "{name}": expected {count * dtype.itemsize} bytes, received {size}')
    found: AnyArray = np.frombuffer(mine, dtype.newbyteorder("<"))
    if datatype == "BOOL" and size and np.frombuffer(mine, np.uint8).max() > 1:
        raise Rejected(400, f'tensor "{name}": expected BOOL, received a byte that is neither 0 nor 1')
    return found, rest


def raw_texts(name: str, count: int, data: bytes) -> AnyArray:
    """Text from lengths of four bytes and UTF-8, (count,).

    Raises:
        Rejected: when the bytes end too early or too late, or are not UTF-8.
    """
    array = np.empty(min(count, len(data) // 4 + 1), object)
    place = index = 0
    while place + 4 <= len(data) and index < count:
        end = place + 4 + int.from_bytes(data[place : place + 4], "little")
        if end > len(data):
            break
        try:
            array[index] = data[place + 4 : end].decode()
        except UnicodeDecodeError:
            raise Rejected(400, f'tensor "{name}": element {index} is not UTF-8') from None
        place, index = end, index + 1
    if index != count or place != len(data):
        raise Rejected(
            400, f'tensor "{name}": expected {count} elements of BYTES, received {index} and {len(data) - place} bytes'
        )
    return array


def shown(value: object) -> str:
    """A value of a request as an answer may repeat it."""
    if value is None:
        return "nothing"
    try:
        text = orjson.dumps(value).decode()
    except (TypeError, ValueError, RecursionError):
        return type(value).__name__
    return text if len(text) <= 40 else f"{text[:37]}..."


# -- answers -------------------------------------------------------------------------------------------------------


def write_answer(answer: InferenceAnswer, request: InferenceRequest) -> tuple[bytes, int | None]:
    """An answer's body, and the length of its JSON document when tensors follow it as bytes."""
    outputs, blocks = [], []
    for name, array in answer.outputs.items():
        item: dict[str, Any] = {"name": name, "datatype": answer.datatypes[name], "shape": array.shape}
        if name in request.binary or (request.all_binary and not request.outputs):
            block = to_raw(array, item["datatype"])
            item["parameters"] = {"binary_data_size": len(block)}
            blocks.append(block)
        else:
            item["data"] = to_json(array)
        outputs.append(item)
    document: dict[str, Any] = {"model_name": answer.model, "model_version": str(answer.version)}
    if request.id:
        document["id"] = request.id
    document["outputs"] = outputs
    head = orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
    if not blocks:
        return head, None
    return b"".join([head, *blocks]), len(head)


def to_json(array: AnyArray) -> Any:
    """The elements of a tensor in one list, row after row; NaN and infinity are null."""
    flat = array.reshape(-1)
    if flat.dtype == np.float16:
        flat = flat.astype(np.float32)
    return flat if flat.dtype.kind != "O" and flat.flags.c_contiguous else flat.tolist()


def to_raw(array: AnyArray, datatype: str) -> bytes:
    """The elements of a tensor as bytes."""
    if datatype != "BYTES":
        return array.astype(np.dtype(DTYPES[datatype]).newbyteorder("<"), copy=False).tobytes()
    encoded = [value if isinstance(value, bytes) else str(value).encode() for value in array.reshape(-1)]
    return b"".join(part for value in encoded for part in (len(value).to_bytes(4, "little"), value))
