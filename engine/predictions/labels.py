"""What turned out to be true of earlier predictions: a log beside theirs, joined by prediction and row.

::

    predictions/MODEL/labels/     open/... and 2026-11-23/..., as the predictions are
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from engine.digest import canonical_json
from engine.predictions.log import FACTS, ORIGIN, Streams, read

FOLDER = "labels"
Truth = bool | int | float | str


@dataclass(frozen=True, kw_only=True, slots=True)
class Label:
    """That row ``row`` of a prediction was ``label`` in truth."""

    prediction: str
    row: int
    label: Truth


class LabelLog:
    """The labels of one model, as one process hears of them. Several threads may add to it."""

    def __init__(self, folder: Path, model: str) -> None:
        self._metadata = {ORIGIN: canonical_json({"model": model})}
        self._streams = Streams(folder / FOLDER, "labels")
        self._lock = threading.Lock()

    def append(self, labels: Sequence[Label], time_ns: int) -> None:
        """Keep labels that came at a time (nanoseconds since 1970). They are on the disk when this returns.

        Raises:
            OSError: when they cannot be written; none of them is kept then.
        """
        table = pa.table(
            {
                "prediction": [label.prediction for label in labels],
                "row": pa.array([label.row for label in labels], pa.int32()),
                "time": pa.array([time_ns // 1000] * len(labels)).cast(FACTS["time"]),
                "label": [json.dumps(label.label) for label in labels],
            }
        )
        with self._lock:
            self._streams.write(table.replace_schema_metadata(self._metadata), sync=True)

    def close(self) -> None:
        """Turn what is there into Parquet."""
        with self._lock:
            self._streams.finish()


def read_labels(folder: Path) -> Iterator[pa.Table]:
    """Every part of a model's labels: model, prediction, row, time, and the label as JSON."""
    return read(folder / FOLDER)
