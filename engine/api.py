"""The Python API: ``engine.plan``, ``engine.run``, ``engine.load_model``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.digest import bare
from engine.errors import UsageError
from engine.execute.protocol import Report, StepEvent, silent
from engine.pipeline import Finished, Prepared
from engine.pipeline import prepare as prepare_loaded
from engine.pipeline import run as run_prepared
from engine.registry.model import ModelRef, ModelVersion
from engine.spec.grounds import shelf_of
from engine.spec.load import load
from engine.store.objects import ObjectStore
from engine.wiring import desk_for, home_here

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from engine.serve.onnx import Session


def plan(spec: str | Path, overrides: Sequence[str] = ()) -> Prepared:
    """Everything short of running ``spec``: ``.plan`` has the steps, ``.resolved`` the pins. Starts nothing.

    Raises:
        SpecInvalid: with every problem of the spec.
        NotFound: when a ref, path or module that it names does not exist.
    """
    return prepare_spec(spec, overrides)


def prepare_spec(
    spec: str | Path, overrides: Sequence[str] = (), address: str | None = None, *, owned: bool = False
) -> Prepared:
    """As :func:`plan`, to be carried out on the Ray cluster at ``address``, or on an own one.

    Args:
        owned: it is one of several runs of this process, which share a cluster.
    """
    loaded = load(spec, overrides, keeping=shelf_of)
    return prepare_loaded(loaded, desk_for(loaded, address, owned=owned))


@dataclass(frozen=True)
class Run:
    """A run that is over."""

    finished: Finished
    store: ObjectStore

    @cached_property
    def document(self) -> Mapping[str, Any]:
        """The document that ``engine run --json`` prints."""
        return {**self.finished.record.summary, "executed": self.finished.executed}

    @property
    def id(self) -> str:
        """The run id, 64 hexadecimal digits."""
        return self.finished.record.run_id

    @property
    def status(self) -> str:
        """``passed``, ``refused`` or ``failed``."""
        return self.finished.record.status

    @property
    def metrics(self) -> Mapping[str, float]:
        """Every metric and every figure that a gate judged."""
        found: Mapping[str, float] = self.document["metrics"]
        return found

    @property
    def model(self) -> Mapping[str, Any]:
        """The model's name, version (``None`` unless the run passed) and digest."""
        found: Mapping[str, Any] = self.document["model"]
        return found

    @property
    def pins(self) -> Mapping[str, Any]:
        """What the run was pinned to: data, baselines, code, environment."""
        found: Mapping[str, Any] = self.document["pins"]
        return found


def run(
    prepared: Prepared | str | Path,
    *,
    overrides: Sequence[str] = (),
    inline: bool = False,
    fresh: bool = False,
    report: Callable[[StepEvent], None] | None = None,
) -> Run:
    """Carry out a plan (or a spec), or answer from its record.

    Args:
        overrides: only with a spec.
        inline: in this process rather than on Ray.
        fresh: execute again whatever is recorded or cached.
        report: is told when steps start and end.

    Raises:
        EngineError: when the spec cannot be resolved, or the executor fails. A failed step is a failed run.
    """
    ready = prepared if isinstance(prepared, Prepared) else prepare_spec(prepared, overrides)
    listener: Report = report or silent
    return Run(finished=run_prepared(ready, listener, inline=inline, fresh=fresh), store=ready.desk.store)


@dataclass(frozen=True)
class LoadedModel:
    """A registered model, ready to predict."""

    version: ModelVersion
    session: Session

    def predict(self, table: Any) -> np.ndarray[Any, Any]:
        """Score a table by its columns.

        Args:
            table: a pyarrow.Table, a pandas.DataFrame, or a mapping of column names to sequences.

        Returns:
            Float array: (rows,) with the probability of the second class, (rows, classes), or (rows,) values.

        Raises:
            UsageError: for a column that is missing, of another type or of another length.
        """
        scores: np.ndarray[Any, Any] = self.session.predict(as_table(table)).scores
        return scores


def load_model(ref: str) -> LoadedModel:
    """The registered model that ``NAME``, ``NAME@ALIAS`` or ``NAME:VERSION`` names, in ONNX Runtime.

    Raises:
        ModelNotFound: when there is none.
        DigestMismatch: when its bytes are not the ones that were registered.
    """
    from engine.serve.onnx import open_session

    home = home_here()
    version = home.registry.get(ModelRef.parse(ref))
    return LoadedModel(version=version, session=open_session(home.store.read(bare(version.digest))))


def as_table(given: Any) -> pa.Table:
    """What a caller has as an Arrow table.

    Raises:
        UsageError: naming the column that is none, or is of another length; or what came instead of a table.
    """
    import pyarrow as pa

    if isinstance(given, pa.Table):
        return given
    if isinstance(given, Mapping):
        return pa.table(of_one_length({str(name): as_column(str(name), values) for name, values in given.items()}))
    try:
        return pa.Table.from_pandas(given, preserve_index=False)
    except (AttributeError, TypeError, ValueError) as error:
        if not hasattr(given, "columns"):
            fact = f"{type(given).__name__} is no table"
            hint = 'give a pyarrow.Table, a pandas.DataFrame or a mapping of columns, as {"x": [1.0, 2.0]}'
            raise UsageError(fact, hint=hint) from error
        raise UsageError(f"the frame is no table: {error}", hint="give each column values of one type") from error


def as_column(name: str, values: Any) -> pa.Array | pa.ChunkedArray:
    """What a caller has for a column, as Arrow."""
    import pyarrow as pa

    try:
        if isinstance(values, str | bytes):
            raise TypeError(f"received {values!a}")
        return values if isinstance(values, pa.Array | pa.ChunkedArray) else pa.array(values)
    except (TypeError, ValueError, pa.ArrowNotImplementedError) as error:
        reason = str(error).splitlines()[0]
        hint = "give a sequence of numbers, of booleans or of text"
        raise UsageError(f'column "{name}": expected values of one type; {reason}', hint=hint) from error


def of_one_length(columns: Mapping[str, Any]) -> Mapping[str, Any]:
    """The columns, all of them as long as the first."""
    first = next(iter(columns), "")
    for name, column in columns.items():
        if len(column) != len(columns[first]):
            fact = f'column "{name}": expected {len(columns[first])} rows as "{first}" has, received {len(column)}'
            raise UsageError(fact, hint="give every column a value for each row")
    return columns
