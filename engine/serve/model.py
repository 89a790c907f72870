"""What a server takes and gives, as values: no HTTP, no gRPC, no ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from engine.errors import EngineError

AnyArray = np.ndarray[Any, np.dtype[Any]]

DTYPES: Mapping[str, type[np.generic]] = {
    "BOOL": np.bool_,
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "INT8": np.int8,
    "BYTES": np.object_,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "UINT8": np.uint8,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Tensor:
    """An input or output: its name, its V2 datatype, and its shape, in which -1 is any length."""

    name: str
    datatype: str
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.datatype} {list(self.shape)}"


class Rejected(EngineError):
    """An inference request that gets no prediction, with the HTTP status that says why."""

    code: ClassVar[str] = "rejected"

    def __init__(self, status: int, fact: str, *, hint: str = "", kind: str = "invalid") -> None:
        self.status = status
        self.kind = kind
        super().__init__(fact, hint=hint)


@dataclass(slots=True)
class InferenceRequest:
    """A request that was read: an array for each tensor that came, of its datatype and shape.

    ``outputs`` are the names that are wanted, all when empty; ``binary`` those of them that are wanted as bytes.
    ``timeout`` is the client's own deadline in seconds, 0 where it has none. ``key`` keeps a client with one version.
    """

    tensors: dict[str, AnyArray]
    id: str = ""
    outputs: tuple[str, ...] = ()
    binary: frozenset[str] = frozenset()
    all_binary: bool = False
    timeout: float = 0.0
    key: str = ""


@dataclass(slots=True)
class InferenceAnswer:
    """What a model said of a request, and which: ``outputs`` by name, n rows each."""

    model: str
    version: int
    run: str
    alias: str
    prediction: str
    outputs: dict[str, AnyArray]
    datatypes: Mapping[str, str] = field(default_factory=dict)
