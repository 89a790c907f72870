"""A registered version -> a model that can answer: its digest checked, its session open, asked before it is ready."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.errors import EngineError, Failed
from engine.registry.model import ModelVersion
from engine.serve.checks import Checks, lowered
from engine.serve.inputs import Inputs, inputs_of
from engine.serve.model import DTYPES, AnyArray, Tensor
from engine.serve.onnx import Session, open_session
from engine.serve.settings import Settings
from engine.store.objects import ObjectStore

WARM_UP = 3
FAST_SECONDS = 0.02
"""A call that takes no longer may be made in the event loop; health answers wait for it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Loaded:
    """A version that is ready. ``seconds`` is how long a call of a full batch takes; ``datatypes`` are the outputs'."""

    version: ModelVersion
    run: str
    session: Session
    inputs: Inputs
    checks: Checks
    settings: Settings
    package: Mapping[str, Any]
    seconds: float
    datatypes: Mapping[str, str]

    @property
    def name(self) -> str:
        """The model's name."""
        return self.version.name

    @property
    def is_fast(self) -> bool:
        """Whether a full batch is answered without others noticing."""
        return self.seconds <= FAST_SECONDS


def load(version: ModelVersion, store: ObjectStore, settings: Settings, threads: int) -> Loaded:
    """Load a version and ask it about rows that its schema allows.

    Args:
        threads: how many threads one call may use.

    Raises:
        DigestMismatch: when the model's bytes, or its package's, were altered.
        NotFound: when they are not in the store.
        DataUnreadable: when ONNX Runtime cannot load them.
        Failed: when the model cannot answer.
    """
    package = json.loads(store.read(version.package))
    session = open_session(store.read(package["model"]["digest"]), threads=threads)
    checks = lowered(
        session.inputs, package.get("schema"), package["signature"].get("categories"), settings.unknown_category
    )
    seconds = warm_up(session, checks, settings.max_batch_rows)
    return Loaded(
        version=version,
        run=version.runs[0] if version.runs else "",
        session=session,
        inputs=inputs_of(session.inputs),
        checks=checks,
        settings=settings,
        package=package,
        seconds=seconds,
        datatypes={tensor.name: tensor.datatype for tensor in session.outputs},
    )


def warm_up(session: Session, checks: Checks, rows: int) -> float:
    """Ask about one row and about a full batch, a few times each; the least time of a full batch in seconds.

    Raises:
        Failed: when the model does not answer.
    """
    try:
        session.run(example(session.inputs, checks, 1))
        batch = example(session.inputs, checks, rows)
        taken = []
        for _ in range(WARM_UP):
            started = time.perf_counter()
            session.run(batch)
            taken.append(time.perf_counter() - started)
    except EngineError as error:
        raise Failed(f"the model does not answer: {error.fact}", hint="it stays out; export it again") from error
    return min(taken)


def example(inputs: tuple[Tensor, ...], checks: Checks, rows: int) -> dict[str, AnyArray]:
    """Rows that pass the checks, as far as bounds and lists of values say what does."""
    numbers = checks.numbers
    values: dict[str, Any] = {
        name: between(float(numbers.low[index]), float(numbers.high[index])) for index, name in enumerate(numbers.names)
    }
    values |= {check.name: check.example for check in reversed(checks.values) if check.example is not None}
    found: dict[str, AnyArray] = {}
    for tensor in inputs:
        shape = (rows, *(1 if size == -1 else size for size in tensor.shape[1:]))
        value = values.get(tensor.name, "" if tensor.datatype == "BYTES" else 0)
        found[tensor.name] = np.full(shape, value, DTYPES[tensor.datatype])
    return found


def between(low: float, high: float) -> float:
    """A plain number between two bounds."""
    if low <= 0 <= high:
        return 0.0 if low < 0 else min(1.0, high)
    return min(low + 1, high) if low > 0 else max(high - 1, low)
