"""An ONNX model in ONNX Runtime: what it takes, what it answers, and Arrow columns as its tensors.

The only importer of onnxruntime. Datatypes have the names of the Open Inference Protocol V2.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pyarrow as pa
from onnxruntime.capi import onnxruntime_pybind11_state as vendor

from engine.errors import DataUnreadable, Failed, NotFound, UsageError, suggestion
from engine.serve.columns import Columns
from engine.serve.folding import folded
from engine.serve.model import DTYPES, AnyArray, Tensor

# ONNX Runtime's exceptions have no common ancestor, and its Python side raises Python's own.
VENDOR_ERRORS: tuple[type[Exception], ...] = (
    *(item for item in vars(vendor).values() if isinstance(item, type) and issubclass(item, Exception)),
    RuntimeError,
    TypeError,
    ValueError,
)
DATATYPES: Mapping[str, str] = {
    "tensor(bool)": "BOOL",
    "tensor(double)": "FP64",
    "tensor(float)": "FP32",
    "tensor(float16)": "FP16",
    "tensor(int16)": "INT16",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(int8)": "INT8",
    "tensor(string)": "BYTES",
    "tensor(uint16)": "UINT16",
    "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64",
    "tensor(uint8)": "UINT8",
}
SOURCE_PLACE = re.compile(r"\S+\.(cc|h):\d+ .*?\) ")
# A fixed size, so that the same table gives the same bits on every machine, and memory stays bounded.
ROWS_PER_RUN = 65_536


@dataclass(frozen=True, kw_only=True, slots=True)
class Prediction:
    """What a model says of n rows.

    ``label`` (n,): the predicted class, or the value for regression. ``scores``, float64: (n,) the probability of
    the second of two classes, (n, k) the probability of each of more, or (n,) the value for regression. Of k labels
    both are (n, k), of k quantiles ``scores`` is, and ``label`` is the one in the middle.
    """

    label: AnyArray
    scores: AnyArray


class Call:
    """One call of a model, which another thread may end."""

    __slots__ = ("options",)

    def __init__(self) -> None:
        self.options = ort.RunOptions()

    def end(self) -> None:
        """Have ONNX Runtime stop after the operator that it is at."""
        self.options.terminate = True


class Session:
    """A loaded model. Several threads may ask it at once."""

    def __init__(self, session: ort.InferenceSession) -> None:
        self._session = session
        self._packs: Mapping[str, tuple[str, ...]] = {}
        self._packed: frozenset[str] = frozenset()
        self.inputs: tuple[Tensor, ...] = tuple(described(node) for node in session.get_inputs())
        self.outputs: tuple[Tensor, ...] = tuple(described(node) for node in session.get_outputs())
        self._answers = [tensor.name for tensor in self.outputs]

    def in_its_place(self, session: ort.InferenceSession, packs: Mapping[str, tuple[str, ...]]) -> Session:
        """The same model as another session computes it, which takes some inputs side by side."""
        found = copy(self)
        found._session = session
        found._packs = packs
        found._packed = frozenset(name for names in packs.values() for name in names)
        return found

    def run(self, columns: Mapping[str, AnyArray], call: Call | None = None) -> dict[str, AnyArray]:
        """Ask for every output.

        Args:
            columns: an array for each input, of its datatype (text: object arrays of ``str``) and shape.
            call: by which this call may be ended from another thread.

        Raises:
            UsageError: naming the tensor, what was expected and what came.
        """
        try:
            found = self._session.run(self._answers, self._fed(columns), call.options if call else None)
        except VENDOR_ERRORS as error:
            raise self._explained(columns, error) from error
        return dict(zip(self._answers, found, strict=True))

    def _fed(self, columns: Mapping[str, AnyArray]) -> Mapping[str, AnyArray]:
        """The columns as the session takes them."""
        if isinstance(columns, Columns):
            found = columns.apart(self._packed)
            found.update((pack, columns.beside(names)) for pack, names in self._packs.items())
            return found
        if not self._packs:
            return columns
        found = {name: array for name, array in columns.items() if name not in self._packed}
        for pack, names in self._packs.items():
            found[pack] = np.concatenate([columns[name] for name in names], axis=1)
        return found

    def columns(self, table: pa.Table) -> dict[str, AnyArray]:
        """The columns that the model reads, each as an array of shape (rows, 1).

        For float inputs null is NaN; for text null is the empty string.

        Raises:
            UsageError: for a column that is missing or has no such type.
        """
        return {tensor.name: tensor_of(column_of(table, tensor), tensor) for tensor in self.inputs}

    def predict(self, table: pa.Table) -> Prediction:
        """Predict every row of a table that has the feature columns.

        Raises:
            UsageError: for a column that is missing or has no such type.
        """
        columns = self.columns(table)
        starts = range(0, max(table.num_rows, 1), ROWS_PER_RUN)
        parts = [self.run({n: c[start : start + ROWS_PER_RUN] for n, c in columns.items()}) for start in starts]
        return prediction({name: np.concatenate([part[name] for part in parts]) for name in self._answers})

    def _explained(self, columns: Mapping[str, AnyArray], error: Exception) -> UsageError:
        for fact, hint in mismatches(self.inputs, columns):
            return UsageError(fact, hint=hint)
        return UsageError(f"the model cannot answer: {first_line(error)}", hint="compare the request with the metadata")


def open_session(model: bytes | Path, threads: int = 1, device: str = "cpu") -> Session:
    """Load an ONNX model, on the CPU unless told otherwise, with deterministic kernels.

    Args:
        threads: how many threads one request may use.
        device: ``cpu``, or ``cuda``, which does on the CPU what the GPU cannot.

    Raises:
        NotFound: when there is no such file.
        Failed: when there is no such device.
        DataUnreadable: for bytes that are no ONNX model, for operators that ONNX Runtime does not have, for
            weights outside the file, and for inputs or outputs that are not tensors.
    """
    data, place = (read(model), str(model)) if isinstance(model, Path) else (model, "")
    try:
        return Session(ort.InferenceSession(data, options(threads), providers=providers(device)))
    except VENDOR_ERRORS as error:
        fact = f"ONNX Runtime cannot load this model: {first_line(error)}"
        hint = "export it again, with standard operators only and its weights inside the file"
        raise DataUnreadable(fact, place=place, hint=hint) from error


def quicker(session: Session, model: bytes, threads: int = 1, device: str = "cpu") -> Session | None:
    """A session that computes the same and is asked with fewer arrays; nothing where the model has no such form."""
    found = folded(model)
    if found is None:
        return None
    try:
        made = ort.InferenceSession(found.model, options(threads), providers=providers(device))
    except VENDOR_ERRORS:
        return None
    return session.in_its_place(made, found.packs)


def providers(device: str) -> list[str]:
    """What ONNX Runtime computes with, the first choice first.

    Raises:
        Failed: when there is no such device.
    """
    if device == "cpu":
        return ["CPUExecutionProvider"]
    wanted = f"{device.upper()}ExecutionProvider"
    if wanted not in ort.get_available_providers():
        hint = "install onnxruntime-gpu in place of onnxruntime, or serve on the CPU"
        raise Failed(f"ONNX Runtime has no device {device} here", hint=hint)
    return [wanted, "CPUExecutionProvider"]


def read(path: Path) -> bytes:
    """The bytes of a model's file.

    Raises:
        NotFound: when there is none.
    """
    if not path.is_file():
        raise NotFound("model file", path.name, place=str(path.parent))
    return path.read_bytes()


def options(threads: int) -> ort.SessionOptions:
    """How a session computes: on ``threads`` threads, operator after operator, with the same result each time."""
    chosen = ort.SessionOptions()
    chosen.intra_op_num_threads = threads
    # A thread that waits for the next call without sleeping takes the core that reads and writes requests: here, with
    # two cores, that halved the requests a second at 64 connections and at one.
    chosen.add_session_config_entry("session.intra_op.allow_spinning", "0")
    chosen.inter_op_num_threads = 1
    chosen.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    chosen.use_deterministic_compute = True
    chosen.log_severity_level = 4
    return chosen


def described(node: Any) -> Tensor:
    """An input or output as ONNX Runtime has it.

    Raises:
        DataUnreadable: when it is no tensor.
    """
    if node.type not in DATATYPES:
        hint = "export the model with tensors only (skl2onnx: zipmap off)"
        raise DataUnreadable(f'"{node.name}" of the model is {node.type}', hint=hint)
    shape = tuple(size if isinstance(size, int) else -1 for size in node.shape)
    return Tensor(name=node.name, datatype=DATATYPES[node.type], shape=shape)


def first_line(error: Exception) -> str:
    """What ONNX Runtime says, without its numbers, its name tags and the places in its own source."""
    text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return SOURCE_PLACE.sub("", text.rpartition(" : ")[2])[:300]


# -- Arrow -> tensors --------------------------------------------------------------------------------------------


def column_of(table: pa.Table, tensor: Tensor) -> pa.ChunkedArray:
    """The column that an input reads, without a dictionary.

    Raises:
        UsageError: when the table has none, or two.
    """
    count = table.column_names.count(tensor.name)
    if count != 1:
        fact = f'column "{tensor.name}": expected one of {tensor.datatype}, received {count or "none"}'
        raise UsageError(fact, hint=suggestion(tensor.name, table.column_names))
    column = table.column(tensor.name)
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


def tensor_of(column: pa.ChunkedArray, tensor: Tensor) -> AnyArray:
    """A column as an array of shape (rows, 1) and the input's datatype.

    Raises:
        UsageError: when the column's type cannot become it, or it has nulls where the datatype has none.
    """
    if tensor.datatype in ("FP32", "FP64", "FP16") and is_number(column.type):
        values: AnyArray = column.cast(pa.float64(), safe=False).to_numpy()
        with np.errstate(over="ignore"):
            return values.astype(DTYPES[tensor.datatype]).reshape(-1, 1)
    if tensor.datatype == "BYTES" and is_text(column.type):
        text: AnyArray = column.cast(pa.string()).fill_null("").to_numpy().astype(object)
        return text.reshape(-1, 1)
    if tensor.datatype not in ("FP32", "FP64", "FP16", "BYTES") and is_whole(column.type):
        return whole_tensor(column, tensor)
    raise wrong_type(tensor, str(column.type))


def whole_tensor(column: pa.ChunkedArray, tensor: Tensor) -> AnyArray:
    """A column of integers or booleans as an array of shape (rows, 1).

    Raises:
        UsageError: when a value is null or does not fit.
    """
    if column.null_count:
        raise wrong_type(tensor, f"{column.type} with {column.null_count:,} nulls")
    try:
        values: AnyArray = column.cast(pa.from_numpy_dtype(DTYPES[tensor.datatype])).to_numpy()
    except pa.ArrowInvalid as error:
        raise wrong_type(tensor, f"{column.type} out of its range") from error
    return values.reshape(-1, 1)


def wrong_type(tensor: Tensor, received: str) -> UsageError:
    """The error for a column that cannot become its tensor."""
    return UsageError(
        f'column "{tensor.name}": expected {tensor.datatype}, received {received}',
        hint="give it the type that the model was trained with",
    )


def is_number(kind: pa.DataType) -> bool:
    """Whether a column holds numbers, booleans among them."""
    return is_whole(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind) or pa.types.is_null(kind)


def is_whole(kind: pa.DataType) -> bool:
    """Whether a column holds integers or booleans."""
    return bool(pa.types.is_integer(kind) or pa.types.is_boolean(kind))


def is_text(kind: pa.DataType) -> bool:
    """Whether a column holds text."""
    is_string = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    return bool(is_string or pa.types.is_null(kind))


# -- what came instead -------------------------------------------------------------------------------------------


def mismatches(inputs: tuple[Tensor, ...], columns: Mapping[str, AnyArray]) -> Iterator[tuple[str, str]]:
    """What is wrong with a request, as facts and hints, the missing first."""
    known = {tensor.name: tensor for tensor in inputs}
    for name, tensor in known.items():
        if name not in columns:
            yield f'tensor "{name}": expected {tensor}, received none', ""
    for name in columns:
        if name not in known:
            yield f'the model has no input "{name}"', suggestion(name, known)
    for name, tensor in known.items():
        if name in columns and not fits(columns[name], tensor):
            array = np.asarray(columns[name])
            yield f'tensor "{name}": expected {tensor}, received {datatype_of(array)} {list(array.shape)}', ""
    rows = {name: len(columns[name]) for name in known if name in columns and np.ndim(columns[name])}
    for name, count in rows.items():
        first = next(iter(rows))
        if count != rows[first]:
            yield f'tensor "{name}": expected {rows[first]} rows as "{first}" has, received {count}', ""


def fits(array: AnyArray, tensor: Tensor) -> bool:
    """Whether an array has the datatype and the shape of an input."""
    shape = np.shape(array)
    same_rank = len(shape) == len(tensor.shape)
    lengths = all(want in (-1, have) for want, have in zip(tensor.shape, shape, strict=same_rank))
    return same_rank and lengths and datatype_of(np.asarray(array)) == tensor.datatype


def datatype_of(array: AnyArray) -> str:
    """The V2 datatype of an array, else numpy's own name for it."""
    if array.dtype.kind in "OUS":
        return "BYTES"
    return next((name for name, dtype in DTYPES.items() if array.dtype == dtype), str(array.dtype))


# -- outputs -> predictions --------------------------------------------------------------------------------------


def prediction(outputs: Mapping[str, AnyArray]) -> Prediction:
    """Labels and scores from a model's outputs.

    Known by their names (``label``, ``probabilities``, ``labels``, ``value``); else one output is a value, and of two
    the first is the label and the second the scores.
    """
    names = list(outputs)
    if "labels" in outputs:
        require_chances(outputs)
        chances = np.asarray(outputs["labels"], dtype=np.float64)
        return Prediction(label=(chances > 0.5).astype(np.int64), scores=chances)
    if "probabilities" in outputs or len(names) > 1:
        scores = np.asarray(outputs.get("probabilities", outputs[names[-1]]), dtype=np.float64)
        label = np.asarray(outputs.get("label", outputs[names[0]])).reshape(-1)
        return Prediction(label=label, scores=positive(scores))
    values = np.asarray(outputs.get("value", outputs[names[0]]), dtype=np.float64)
    if values.ndim == 2 and values.shape[1] > 1:
        return Prediction(label=values[:, values.shape[1] // 2], scores=values)
    return Prediction(label=values.reshape(-1), scores=values.reshape(-1))


def require_chances(outputs: Mapping[str, AnyArray]) -> None:
    """Refuse labels that are decided already, or an output beside them that nobody would look at.

    Raises:
        UsageError: then.
    """
    found, others = outputs["labels"], [name for name in outputs if name != "labels"]
    if found.dtype.kind != "f" or others:
        kind = datatype_of(found)
        beside = f" beside {others[0]}" if others else ""
        hint = "export one output `labels` (rows, labels): each label's probability in floating point"
        raise UsageError(f'the model\'s output "labels" is {kind}{beside}, and no probability alone', hint=hint)


def positive(scores: AnyArray) -> AnyArray:
    """Of two classes the second's column; all columns of more; one column as it is."""
    if scores.ndim == 2 and scores.shape[1] <= 2:
        return scores[:, -1]
    return scores
