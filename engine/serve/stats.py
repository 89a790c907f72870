"""Counts of what a server does, kept so that any of its worker processes can show the sum over all of them.

Each worker has a file of its own, mapped into memory: a table of names, and a number for each. Adding is an addition in
memory; whoever is asked for the metrics reads the files of all workers.
"""

from __future__ import annotations

import json
import mmap
import os
import shutil
import threading
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

NAMES, CELLS = 1 << 18, 1 << 14
SIZE = NAMES + 8 * CELLS
LATENCIES = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
Key = tuple[str, ...]
"""A metric's name and the values of its labels."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Metric:
    """A metric as Prometheus has it: a counter, a gauge, or a histogram with the upper bounds of its buckets."""

    name: str
    help: str
    labels: tuple[str, ...]
    bounds: tuple[float, ...] = ()
    is_gauge: bool = False


MODEL = ("model", "version", "alias")
METRICS: Mapping[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(name="engine_requests", help="Inference requests that were answered with a prediction.", labels=MODEL),
        Metric(name="engine_rows", help="Rows that were predicted.", labels=MODEL),
        Metric(
            name="engine_request_seconds",
            help="From a request's arrival at the queue to its answer.",
            labels=MODEL,
            bounds=LATENCIES,
        ),
        Metric(name="engine_batch_rows", help="Rows of a call of the model.", labels=MODEL[:2], bounds=SIZES),
        Metric(name="engine_onnx_seconds", help="Calls of ONNX Runtime.", labels=MODEL[:2], bounds=LATENCIES),
        Metric(name="engine_refused", help="Requests without a prediction.", labels=("model", "kind", "status")),
        Metric(
            name="engine_let_through",
            help="Values that a check found and the spec lets pass.",
            labels=("model", "kind"),
        ),
        Metric(name="engine_shadow_dropped", help="Shadow requests that were dropped under load.", labels=("model",)),
        Metric(name="engine_log_lines", help="Lines of the prediction log.", labels=("model", "outcome")),
        Metric(name="engine_labels", help="Labels that came for earlier predictions.", labels=("model",)),
        Metric(name="engine_queue", help="Requests that wait.", labels=MODEL[:2], is_gauge=True),
        Metric(name="engine_connections", help="Open connections.", labels=("protocol",), is_gauge=True),
    )
}


class Cells:
    """The numbers of one process, in a file."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.folder = path.parent
        with path.open("wb+") as file:
            file.truncate(SIZE)
            self._map = mmap.mmap(file.fileno(), SIZE)
        self.values = np.frombuffer(self._map, np.float64, CELLS, NAMES)
        self._each = memoryview(self._map)[NAMES:].cast("d")  # the same numbers; one of them is reached sooner so
        self._places: dict[Key, int] = {}
        self._next = 0
        self._lock = threading.Lock()

    def place(self, key: Key) -> int:
        """Where the numbers of a metric with these labels begin. The last place takes all that there is no room for."""
        found = self._places.get(key)
        if found is None:
            with self._lock:
                found = self._places.get(key)
                if found is None:
                    found = self._new_place(key)
        return found

    def _new_place(self, key: Key) -> int:
        width = len(METRICS[key[0]].bounds) + 2 if METRICS[key[0]].bounds else 1
        if self._next + width > CELLS - 32 or len(self._places) > MOST_KEYS:
            return CELLS - 32
        self._places[key] = self._next
        self._next += width
        table = json.dumps([[*key, place] for key, place in self._places.items()]).encode()
        if len(table) + 8 <= NAMES:
            self._map[8 : 8 + len(table)] = table
            self._map[:8] = len(table).to_bytes(8, "little")
        return self._places[key]

    def add(self, *key: str, amount: float = 1.0) -> None:
        """Add to a counter."""
        self._each[self.place(key)] += amount

    def set(self, *key: str, value: float) -> None:
        """Set a gauge."""
        self._each[self.place(key)] = value

    def observe(self, key: Key, values: Sequence[float]) -> None:
        """Count values into a histogram: its buckets, those above all of them, and their sum."""
        place, bounds = self.place(key), METRICS[key[0]].bounds
        if len(values) == 1:
            self._each[place + bisect_left(bounds, values[0])] += 1
            self._each[place + len(bounds) + 1] += values[0]
        else:
            found = np.bincount(np.searchsorted(bounds, values), minlength=len(bounds) + 1)
            self.values[place : place + len(bounds) + 1] += found
            self._each[place + len(bounds) + 1] += sum(values)


MOST_KEYS = 2000


def summed(folder: Path) -> dict[Key, Any]:
    """The numbers of all processes whose files are in ``folder``, by metric and labels."""
    total: dict[Key, Any] = {}
    for path in sorted(folder.glob("*.cells")):
        is_gone = not is_running(int(path.stem))
        for key, found in cells_in(path):
            if is_gone and METRICS[key[0]].is_gauge:
                continue
            total[key] = total[key] + found if key in total else found
    return total


def cells_in(path: Path) -> Iterator[tuple[Key, Any]]:
    """The numbers in one file; nothing of one whose table is just being written."""
    with suppress(OSError, ValueError):
        data = path.read_bytes()
        length = int.from_bytes(data[:8], "little")
        values = np.frombuffer(data, np.float64, CELLS, NAMES)
        for *key, place in json.loads(data[8 : 8 + length]) if length else []:
            width = len(METRICS[key[0]].bounds) + 2 if METRICS[key[0]].bounds else 1
            yield tuple(key), values[place : place + width].copy()


def exposition(folder: Path) -> bytes:
    """All metrics in the text format of Prometheus."""
    from prometheus_client import CollectorRegistry, generate_latest
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

    found = summed(folder)

    class Collector:
        """The numbers as Prometheus' own client wants them."""

        def collect(self) -> Iterator[Any]:
            """Each metric with its samples."""
            for metric in METRICS.values():
                rows = {key[1:]: values for key, values in found.items() if key[0] == metric.name}
                if metric.bounds:
                    yield histogram(metric, rows, HistogramMetricFamily(metric.name, metric.help, labels=metric.labels))
                    continue
                kind = GaugeMetricFamily if metric.is_gauge else CounterMetricFamily
                family = kind(metric.name, metric.help, labels=metric.labels)
                for labels, values in sorted(rows.items()):
                    family.add_metric(labels, float(values[0]))
                yield family

    registry = CollectorRegistry(auto_describe=False)
    registry.register(Collector())
    return generate_latest(registry)


def histogram(metric: Metric, rows: Mapping[Key, Any], family: Any) -> Any:
    """A histogram with cumulative buckets."""
    for labels, values in sorted(rows.items()):
        counts = np.cumsum(values[:-1])
        buckets = [(repr(float(bound)), count) for bound, count in zip(metric.bounds, counts, strict=False)]
        family.add_metric(labels, [*buckets, ("+Inf", counts[-1])], float(values[-1]))
    return family


def is_running(process: int) -> bool:
    """Whether there is a process with this id."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


@contextmanager
def counting(folder: Path) -> Iterator[Path]:
    """A folder for the numbers of one server and all its workers; what servers that are gone have left goes too."""
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.iterdir():
        if left.name.isdigit() and not is_running(int(left.name)):
            shutil.rmtree(left, ignore_errors=True)
    own = folder / str(os.getpid())
    own.mkdir(exist_ok=True)
    try:
        yield own
    finally:
        shutil.rmtree(own, ignore_errors=True)
