"""How much memory it takes to load a model and answer with it, in a process that does nothing else.

::

    model's file, rows (Arrow, standard input) --> python -m engine.steps.memory --> {"before", "loaded", "peak"}
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa

from engine.errors import StepFailed
from engine.serve.onnx import open_session
from engine.steps.columns import require_rows
from engine.steps.context import Context
from engine.steps.machine import machine
from engine.steps.model import Inputs
from engine.steps.verdict import Gate, Verdict, bounded

MOST_ROWS = 10_000
ROWS_PER_REQUEST = 256
SECONDS = 600
MEGABYTE = 1e6
STATUS = Path("/proc/self/status")


def judge(gate: Gate, inputs: Inputs, context: Context) -> Verdict:
    """The peak memory of a process that loads the model and answers requests of 256 rows, up to 10,000 rows.

    Raises:
        StepFailed: when there are no rows to ask about, or the process does not answer.
        DigestMismatch: when the model's bytes were altered.
    """
    table = context.table(inputs["table"])
    require_rows(table, "the evaluation data", "evaluate.data")
    session = open_session(context.data(inputs["model"]))
    rows = table.select([tensor.name for tensor in session.inputs]).slice(0, MOST_ROWS)
    found = measured(context.store.require(inputs["model"].digest), rows)
    method = f"a process of its own, {rows.num_rows:,} rows in requests of {ROWS_PER_REQUEST}"
    sizes = {name: value / MEGABYTE for name, value in found.items()}
    verdict = bounded(
        gate, sizes["peak"], rows.num_rows, what=gate["metric"], method=method, machine=machine(), memory_mb=sizes
    )
    own = f"{sizes['peak'] - sizes['before']:.3g} of them for the model and its answers"
    return {**verdict, "reason": f"{verdict['reason']}, {own} (measured: {method})"}


def measured(model: Path, rows: pa.Table) -> dict[str, int]:
    """What a process of its own needs for ``rows``, in bytes: before it loads the model, after, and at its peak.

    Raises:
        StepFailed: with what the process said last.
    """
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_table(rows, max_chunksize=ROWS_PER_REQUEST)
    command = [sys.executable, "-P", "-m", "engine.steps.memory", str(model)]
    paths = os.pathsep.join(path for path in sys.path if path)
    try:
        done = subprocess.run(  # noqa: S603  this interpreter, and a file of the store
            command,
            input=sink.getvalue().to_pybytes(),
            capture_output=True,
            timeout=SECONDS,
            check=False,
            env={**os.environ, "PYTHONPATH": paths},
        )
    except subprocess.TimeoutExpired as error:
        raise StepFailed(
            f"the memory was not measured within {SECONDS} seconds", hint="is the machine busy?"
        ) from error
    if done.returncode:
        last = (done.stderr.decode(errors="replace").strip().splitlines() or ["nothing"])[-1]
        hint = "it may have run out of memory" if done.returncode < 0 else ""
        raise StepFailed(f"the process that measures memory ended with {done.returncode}: {last}", hint=hint)
    found: dict[str, int] = json.loads(done.stdout)
    return found


def peak() -> int:
    """The most memory that this process ever had, in bytes.

    ``ru_maxrss`` on Linux begins with that of the process which started this one, so the kernel's own mark is read.
    """
    if STATUS.is_file():
        for line in STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def main(model: Path, rows: Any) -> dict[str, int]:
    """Load the model, answer every batch of an Arrow stream, and say what it took."""
    batches = list(pa.ipc.open_stream(rows))
    before = peak()
    session = open_session(model)
    loaded = peak()
    for batch in batches:
        session.predict(pa.Table.from_batches([batch]))
    return {"before": before, "loaded": loaded, "peak": peak()}


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), sys.stdin.buffer)))
