"""How long one prediction takes."""

from __future__ import annotations

import time

import numpy as np
import pyarrow as pa

from engine.serve.onnx import Session

WARM_UP = 50
REQUESTS = 1000


def latencies(session: Session, table: pa.Table) -> dict[str, float]:
    """Percentiles of the time of one-row predictions, tensors included, in milliseconds.

    The rows are taken evenly from ``table``. The first 50 predictions are not counted.
    """
    rows = np.linspace(0, table.num_rows - 1, WARM_UP + REQUESTS).astype(int)
    names = [tensor.name for tensor in session.inputs]
    columns = session.columns(table.select(names).take(pa.array(rows)))
    taken = []
    for index in range(WARM_UP + REQUESTS):
        started = time.perf_counter()
        session.run({name: column[index : index + 1] for name, column in columns.items()})
        taken.append((time.perf_counter() - started) * 1000)
    p50, p99 = np.percentile(taken[WARM_UP:], [50, 99])
    return {"latency_p50_ms": float(p50), "latency_p99_ms": float(p99), "requests": REQUESTS}
