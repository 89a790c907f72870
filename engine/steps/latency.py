"""How long one prediction takes, by all that the server does with a request but the network."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from engine.serve.direct import body_of, direct
from engine.serve.onnx import Session, open_session, quicker
from engine.steps.columns import require_rows
from engine.steps.context import Context
from engine.steps.machine import machine
from engine.steps.model import Inputs
from engine.steps.verdict import Gate, Verdict, bounded

WARM_UP = 50
REQUESTS = 1000


def judge(gate: Gate, inputs: Inputs, context: Context) -> Verdict:
    """A percentile of the time of one-row requests, on this machine, now.

    Raises:
        StepFailed: when there are no rows to ask about.
    """
    table = context.table(inputs["table"])
    require_rows(table, "the evaluation data", "evaluate.data")
    signature = context.json(inputs["signature"])
    model = context.data(inputs["model"])
    session = open_session(model)
    session = quicker(session, model) or session  # as a server has it
    found = latencies(session, table, signature.get("categories"))
    method = f"{found['requests']:,} requests of one row, one after the other"
    verdict = bounded(gate, found[gate["metric"]], method=method, machine=machine(), latencies=found)
    return {**verdict, "reason": f"{verdict['reason']} (measured: {method})"}


def latencies(
    session: Session, table: pa.Table, categories: Mapping[str, Sequence[Any]] | None = None
) -> dict[str, float]:
    """Percentiles of the time from a request's bytes to its answer's, one row each, in milliseconds.

    The request is read, checked, answered and written by the server's own functions and session.

    The rows are taken evenly from ``table``. The first 50 predictions are not counted.
    """
    rows = np.linspace(0, table.num_rows - 1, WARM_UP + REQUESTS).astype(int)
    names = [tensor.name for tensor in session.inputs]
    columns = session.columns(table.select(names).take(pa.array(rows)))
    model, taken = direct(session, categories), []
    for at in range(WARM_UP + REQUESTS):
        body = body_of(session, {name: column[at : at + 1] for name, column in columns.items()})
        started = time.perf_counter()
        model.answer(body)
        taken.append((time.perf_counter() - started) * 1000)
    p50, p99 = np.percentile(taken[WARM_UP:], [50, 99])
    return {"latency_p50_ms": float(p50), "latency_p99_ms": float(p99), "requests": REQUESTS}
