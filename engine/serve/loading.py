"""A registered version -> a model that can answer: its digest checked, its session open, asked before it is ready."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.errors import EngineError, Failed
from engine.registry.model import ModelVersion
from engine.serve.boundary import attempt
from engine.serve.checks import Checks, lowered
from engine.serve.inputs import Inputs, inputs_of
from engine.serve.model import DTYPES, AnyArray, Tensor
from engine.serve.onnx import Call, Session, open_session, quicker
from engine.serve.settings import Settings
from engine.store.objects import ObjectStore

WARM_UP = 3
FAST_SECONDS = 0.02
PROBED_ROWS = 3
"""A call that takes no longer may be made in the event loop; health answers wait for it."""
LOAD_SECONDS = 60.0
LOOPS = ("Loop", "Scan", "If", "Range", "ConstantOfShape", "Expand", "Tile", "Resize", "Pad")
"""ONNX operators whose time may depend on what is in a row, and not on the number of rows alone."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Loaded:
    """A version that is ready. ``seconds`` is how long a call of a full batch takes; ``datatypes`` are the outputs'.

    ``loops``: how long a call takes may depend on what is in its rows.
    """

    version: ModelVersion
    run: str
    session: Session
    inputs: Inputs
    checks: Checks
    settings: Settings
    package: Mapping[str, Any]
    seconds: float
    datatypes: Mapping[str, str]
    loops: bool = False

    @property
    def name(self) -> str:
        """The model's name."""
        return self.version.name

    @property
    def is_fast(self) -> bool:
        """Whether a full batch is answered without others noticing."""
        return self.seconds <= FAST_SECONDS and not self.loops


def load(version: ModelVersion, store: ObjectStore, settings: Settings, threads: int, device: str = "cpu") -> Loaded:
    """Load a version and ask it about rows that its schema allows.

    Args:
        threads: how many threads one call of many rows may use; calls of single rows use one.
        device: ``cpu`` or ``cuda``.

    Raises:
        DigestMismatch: when the model's bytes, or its package's, were altered.
        NotFound: when they are not in the store.
        DataUnreadable: when ONNX Runtime cannot load them.
        Failed: when the model cannot answer.
    """
    package = json.loads(store.read(version.package))
    model = store.read(package["model"]["digest"])
    threads = threads if settings.max_batch_rows > 1 else 1
    session = open_session(model, threads=threads, device=device)
    checks = lowered(
        session.inputs, package.get("schema"), package["signature"].get("categories"), settings.unknown_category
    )
    seconds = warm_up(session, checks, settings.max_batch_rows)
    faster = quicker(session, model, threads, device)
    if faster is not None and agree(session, faster, example(session.inputs, checks, PROBED_ROWS)):
        session, seconds = faster, warm_up(faster, checks, settings.max_batch_rows)
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
        loops=any(as_written(name) in model for name in LOOPS),
    )


def as_written(operator: str) -> bytes:
    """An operator as a node of ONNX's protobuf has it: field 4, its length, its name."""
    return bytes([4 << 3 | 2, len(operator)]) + operator.encode()


class Loading:
    """A version that is being loaded, in a thread; ``told`` is called there when that is over."""

    def __init__(self, work: Callable[[], Loaded], told: Callable[[], None]) -> None:
        self._found: Loaded | None = None
        self._error: EngineError | None = None
        self._over = threading.Event()
        self._end = time.monotonic() + LOAD_SECONDS
        threading.Thread(target=self._work, args=(work, told), name="load", daemon=True).start()

    def _work(self, work: Callable[[], Loaded], told: Callable[[], None]) -> None:
        found = attempt(work, unloaded)
        if isinstance(found, EngineError):
            self._error = found
        else:
            self._found = found
        self._over.set()
        told()

    @property
    def is_over(self) -> bool:
        """Whether it is loaded, or never will be."""
        return self._over.is_set()

    def result(self, patience: float) -> Loaded | None:
        """What was loaded, waiting for at most ``patience`` seconds; nothing while that goes on.

        Raises:
            Failed: when it takes longer than a minute: such a model hangs.
            EngineError: why it could not be loaded.
        """
        self._over.wait(patience)
        if self._error is not None:
            raise self._error
        if self._found is None and time.monotonic() >= self._end:
            raise Failed(f"the model was not ready within {LOAD_SECONDS:g} s", hint="it stays out; export it again")
        return self._found


def unloaded(error: Exception) -> EngineError:
    """Why a version could not be loaded, whatever its package may hold."""
    if isinstance(error, EngineError):
        return error
    return Failed(f"the model could not be loaded: {type(error).__name__}: {error}")


def agree(session: Session, other: Session, columns: Mapping[str, AnyArray]) -> bool:
    """Whether two sessions give the same bits."""
    first, second = (one.run(columns) for one in (session, other))
    return all(np.array_equal(first[name], second[name]) for name in first)


def warm_up(session: Session, checks: Checks, rows: int) -> float:
    """Ask about one row and about a full batch, a few times each; the least time of a full batch in seconds.

    Raises:
        Failed: when the model does not answer, or not in time.
    """
    call = Call()
    watch = threading.Timer(LOAD_SECONDS, call.end)
    watch.daemon = True
    watch.start()
    try:
        session.run(example(session.inputs, checks, 1), call)
        batch = example(session.inputs, checks, rows)
        taken = []
        for _ in range(WARM_UP):
            started = time.perf_counter()
            outputs = session.run(batch, call)
            taken.append(time.perf_counter() - started)
    except EngineError as error:
        raise Failed(f"the model does not answer: {error.fact}", hint="it stays out; export it again") from error
    finally:
        watch.cancel()
    for name, array in outputs.items():
        if array.shape[:1] != (rows,):
            fact = f'the model\'s output "{name}" is {list(array.shape)} for {rows} rows'
            raise Failed(fact, hint="it stays out; export it with a row of output for each row of input")
    return min(taken)


def example(inputs: tuple[Tensor, ...], checks: Checks, rows: int) -> dict[str, AnyArray]:
    """Rows that pass the checks, as far as bounds and lists of values say what does."""
    numbers = checks.numbers
    values: dict[str, Any] = {
        name: between(float(numbers.low[index]), float(numbers.high[index])) for index, name in enumerate(numbers.names)
    }
    found_by_name = {check.name: passing(checks, check.name) for check in checks.values}
    values |= {name: value for name, value in found_by_name.items() if value is not None}
    found: dict[str, AnyArray] = {}
    for tensor in inputs:
        shape = (rows, *(1 if size == -1 else size for size in tensor.shape[1:]))
        value = values.get(tensor.name, "" if tensor.datatype == "BYTES" else 0)
        found[tensor.name] = np.full(shape, value, DTYPES[tensor.datatype])
    return found


def passing(checks: Checks, name: str) -> Any:
    """A value that passes every check of an input, else one that passes the first that has an example."""
    mine = [check for check in checks.values if check.name == name]
    examples = [one for check in mine for one in check.examples]
    return next((one for one in examples if all(check.accepts(one) for check in mine)), next(iter(examples), None))


def between(low: float, high: float) -> float:
    """A plain number between two bounds."""
    if low <= 0 <= high:
        return 0.0 if low < 0 else min(1.0, high)
    return min(low + 1, high) if low > 0 else max(high - 1, low)
