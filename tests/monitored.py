"""Logs of predictions as a server writes them, of any time, and labels beside them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from engine.observe.subject import Observatory
from engine.predictions.ids import prediction_ids
from engine.predictions.labels import Label, LabelLog, Truth
from engine.predictions.log import Made, Origin, PredictionLog, Redaction
from engine.serve.onnx import Session, open_session
from engine.wiring import Home, open_home

START = datetime(2026, 3, 1, tzinfo=UTC)


def nanoseconds(moment: datetime) -> int:
    """A moment as the log has it."""
    return int((moment - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(microseconds=1)) * 1000


def observatory(home: Home) -> Observatory:
    """Where what is watched is kept."""
    return Observatory(store=home.store, records=home.records, registry=home.registry, logs=home.path / "predictions")


def session_of(home: Home, name: str, version: int) -> Session:
    """The model as it is served."""
    found = next(item for item in home.registry.versions(name) if item.version == version)
    package = json.loads(home.store.read(found.package))
    return open_session(home.store.read(package["model"]["digest"]))


class Served:
    """A model that answers at any time: its predictions are computed and logged as a server does."""

    def __init__(self, root: Path, name: str, version: int = 1) -> None:
        self.home = open_home(root)
        self.name = name
        self.version = version
        found = next(item for item in self.home.registry.versions(name) if item.version == version)
        self.session = session_of(self.home, name, version)
        self.origin = Origin(model=name, version=version, run=found.runs[0])
        self.folder = self.home.path / "predictions" / name

    def log(self) -> PredictionLog:
        """A log of its own, as of a worker of a server."""
        return PredictionLog(self.folder, self.origin, Redaction())

    def answer(
        self,
        table: pa.Table,
        times: Sequence[datetime],
        *,
        alias: str = "production",
        request: int = 1,
        log: PredictionLog | None = None,
        close: bool = True,
    ) -> list[tuple[str, int]]:
        """Predict a table, ``request`` rows at a time of ``times`` (one a request); each row's prediction and row."""
        own = log or self.log()
        columns = self.session.columns(table)
        outputs = self.session.run(columns)
        ids: list[tuple[str, int]] = []
        batch = max(1, 5000 // request) * request
        for start in range(0, table.num_rows, batch):
            end = min(start + batch, table.num_rows)
            firsts = list(range(start, end, request))
            for first in firsts:
                last = min(first + request, end)
                moment = nanoseconds(times[first // request])
                (prediction,) = prediction_ids(1, moment)
                made = Made(
                    predictions=[prediction],
                    counts=[last - first],
                    aliases=[alias],
                    latencies=[1.0],
                    time_ns=moment,
                    inputs={name: array[first:last] for name, array in columns.items()},
                    outputs={name: array[first:last] for name, array in outputs.items()},
                )
                own.append(made)
                ids += [(prediction, row) for row in range(last - first)]
            own.flush()
        if close:
            own.close()
        return ids

    def label(self, labels: Mapping[tuple[str, int], Truth], moment: datetime) -> None:
        """Tell what was true, at a moment."""
        log = LabelLog(self.folder, self.name)
        log.append(
            [Label(prediction=key[0], row=key[1], label=value) for key, value in labels.items()], nanoseconds(moment)
        )
        log.close()


def every(seconds: float, count: int, start: datetime = START) -> list[datetime]:
    """Moments one after the other."""
    return [start + timedelta(seconds=seconds * number) for number in range(count)]


def shifted(table: pa.Table, column: str, by: float) -> pa.Table:
    """A table in which a column of numbers is moved."""
    moved = np.asarray(table.column(column).to_numpy(), dtype=np.float64) + by
    return table.set_column(table.column_names.index(column), column, pa.array(moved))


def noisy(rows: int, seed: int) -> dict[str, Any]:
    """Two numbers, without drift."""
    random = np.random.default_rng(seed)
    return {"x": random.normal(size=rows), "z": random.integers(0, 10, rows)}
