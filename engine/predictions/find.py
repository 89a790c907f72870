"""One prediction in the logs of all models."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from engine.predictions.ids import time_of
from engine.predictions.labels import FOLDER
from engine.predictions.log import OPEN, opened_table

MOST_LATE = timedelta(days=1)  # how long after the first row of a file the last one may have come, and more


def rows_of(folder: Path, prediction: str) -> list[dict[str, Any]]:
    """The rows that were logged under an id below ``folder``, those of a shadow among them."""
    moment = time_of(prediction)
    if moment is None:
        return []
    found = [row for model in sorted(folder.glob("*")) for row in logged(model, prediction, moment)]
    return sorted(found, key=lambda row: (row["alias"] == "shadow", row["row"]))


def labels_of(folder: Path, model: str, prediction: str) -> list[dict[str, Any]]:
    """The labels that came for a prediction of a model, the first first."""
    below = folder / model / FOLDER
    parts = [pq.read_table(path, filters=[("prediction", "==", prediction)]) for path in below.glob("*/*.parquet")]
    found = [row for part in [*parts, *opened(below, prediction)] for row in part.to_pylist()]
    return sorted(found, key=lambda row: row["time"])


def logged(folder: Path, prediction: str, moment: datetime) -> Iterator[dict[str, Any]]:
    """The rows of one model's log."""
    days = {f"{moment - late:%Y-%m-%d}" for late in (timedelta(), MOST_LATE)}
    for path in sorted(path for day in days for path in (folder / day).glob("*.parquet")):
        yield from pq.read_table(path, filters=[("prediction", "==", prediction)]).to_pylist()
    for table in opened(folder, prediction):
        yield from table.to_pylist()


def opened(folder: Path, prediction: str) -> Iterator[pa.Table]:
    """The rows in streams that are being written."""
    for path in sorted((folder / OPEN).glob("*.arrows")):
        table = opened_table(path, folder)
        if table is not None:
            yield table.filter(pc.equal(table.column("prediction"), prediction))
