"""Runs to report: one that passed, was refused, failed; with binary, regression, many slices, hostile text."""

from __future__ import annotations

import math
from typing import Any

from engine.digest import sha256
from engine.report.model import Report

RUN = sha256(b"run")
HOSTILE = "<script>alert(1)</script>\x1b[31m|`x`\x1b]0;own\x07 @team #1 [a](https://evil.test) \u202eabc\ud800"


def hexadecimal(seed: str) -> str:
    """Sixty-four digits that differ with ``seed``."""
    return sha256(seed.encode())


def pins() -> dict[str, Any]:
    return {
        "data": {
            name: {
                "uri": f"lakefs://flights/main/{path}",
                "commit": hexadecimal(name),
                "digest": f"sha256:{hexadecimal(path)}",
            }
            for name, path in (("train", "2013-h1/"), ("test", "2013-h2/07.parquet"))
        },
        "models": {"production": {"version": 2, "digest": f"sha256:{hexadecimal('production')}"}},
        "code": {"commit": hexadecimal("code")[:40], "dirty": True, "digest": f"sha256:{hexadecimal('sources')}"},
        "environment": {"digest": f"sha256:{hexadecimal('environment')}", "python": "3.11"},
    }


def gate(name: str, value: float | None, limit: Any, reason: str, **more: Any) -> dict[str, Any]:
    defaults = {"passed": True, "level": "refuse", "measured": False}
    return {"name": name, "value": value, "limit": limit, "reason": reason, **defaults, **more}


def run(**changes: Any) -> dict[str, Any]:
    """The document of a passed run, with ``changes``."""
    gates = [
        gate("roc_auc.min", 0.66132, 0.65, "0.6613 is at least 0.65"),
        gate(
            "roc_auc.max_drop@production",
            0.0021,
            0.01,
            "dropped by 0.0021 from version 2 (0.6634), at most 0.0094 with 95 % confidence",
        ),
        gate("roc_auc.min[origin]", 0.6415, 0.6, "lowest at origin=LGA over 9,412 rows"),
        gate("onnx_parity.max", 2.4e-7, 1e-5, "largest difference over 28,293 rows"),
        gate("latency_p99_ms.max", 3.21, 5, "2,000 requests of one row", measured=True),
        gate("model_mb.max", 0.42, 50, ""),
    ]
    steps = [
        ("ingest.train", "ingest", "cached", 0.02),
        ("ingest.test", "ingest", "cached", 0.01),
        ("validate.train", "validate", "cached", 0.0),
        ("validate.test", "validate", "ran", 0.41),
        ("transform.clean", "transform", "ran", 0.64),
        ("train", "train", "ran", 4.93),
        ("export", "export", "ran", 0.77),
        ("evaluate", "evaluate", "ran", 1.12),
        ("gate", "gate", "ran", 0.05),
        ("register", "register", "ran", 0.03),
    ]
    return {
        "run_id": RUN,
        "name": "late-arrivals",
        "status": "passed",
        "executed": True,
        "spec": "specs/model.yaml",
        "record": f".engine/runs/{RUN}/executions/1",
        "target": "late",
        "started": "2026-11-23T01:47:12Z",
        "error": None,
        "model": {"name": "late-arrivals", "version": 3, "digest": f"sha256:{hexadecimal('model')}"},
        "pins": pins(),
        "metrics": {"roc_auc": 0.66132, "average_precision": 0.4127, "brier": 0.1893, "model_mb": 0.42},
        "gates": gates,
        "steps": [
            {"name": name, "kind": kind, "status": status, "seconds": seconds, "digest": hexadecimal(name)}
            for name, kind, status, seconds in steps
        ],
        "seconds": 8.1,
        **changes,
    }


def slice_of(value: Any, rows: int, auc: float) -> dict[str, Any]:
    metrics = {"roc_auc": auc, "average_precision": auc - 0.24, "brier": 0.85 - auc}
    intervals = {name: [found - 0.01, found + 0.01] for name, found in metrics.items()}
    return {"value": value, "rows": rows, "metrics": metrics, "intervals": intervals}


def evaluation(**changes: Any) -> dict[str, Any]:
    """The evaluation of a binary classifier, with ``changes``."""
    grid = [index / 60 for index in range(61)]
    metrics = {"roc_auc": 0.66132, "average_precision": 0.4127, "brier": 0.1893}
    carriers = ["9E", "AA", "AS", "B6", "DL", "EV", "F9", "FL", "HA", "MQ", "UA", "US", "VX", "WN"]
    return {
        "task": "binary",
        "rows": 28293,
        "classes": [False, True],
        "positive": True,
        "metrics": {
            name: {"value": value, "rows": 28293, "low": value - 0.0067, "high": value + 0.0067, "confidence": 0.95}
            for name, value in metrics.items()
        },
        "slices": {
            "origin": [slice_of("EWR", 10011, 0.6702), slice_of("JFK", 9870, 0.6688), slice_of("LGA", 8412, 0.6415)],
            "carrier": [
                slice_of(name, 40 + (index * 1237) % 5400, 0.59 + 0.09 * abs(math.sin(index * 2.3)))
                for index, name in enumerate(carriers)
            ],
        },
        "curves": {
            "roc": {"fpr": grid, "tpr": [1 - (1 - x) ** 1.95 for x in grid]},
            "calibration": {
                "predicted": [0.05 + 0.1 * index for index in range(10)],
                "observed": [0.09, 0.17, 0.24, 0.33, 0.46, 0.52, 0.66, 0.69, 0.81, 0.86],
                "rows": [1800, 6900, 7600, 5200, 3100, 1900, 1000, 520, 210, 63],
            },
        },
        "parity": {"max_difference": 2.4e-7, "label_flips": 0, "rows": 28293},
        **changes,
    }


def regression() -> dict[str, Any]:
    """The evaluation of a regression."""
    edges = [-60 + 6 * index for index in range(31)]
    counts = [int(5200 * math.exp(-(((edge + 6) / 22) ** 2))) for edge in edges[:-1]]
    slices = [
        {"value": name, "rows": 9000 + 100 * index, "metrics": {"mae": 14.2 + index, "r2": 0.21 - 0.16 * index}}
        for index, name in enumerate(("EWR", "JFK", "LGA"))
    ]
    return {
        "task": "regression",
        "rows": 28293,
        "metrics": {"mae": {"value": 15.1, "rows": 28293}, "r2": {"value": 0.08, "rows": 28293}},
        "slices": {"origin": slices},
        "curves": {"residuals": {"edges": edges, "counts": counts}},
        "parity": {"max_difference": 2.4e-5, "rows": 28293},
    }


def passed() -> Report:
    return Report(run=run(), evaluation=evaluation(), written=("out/report.html", "out/report.md"))


def refused() -> Report:
    gates = [
        gate("roc_auc.min", 0.64996, 0.65, "0.64996 is below 0.65", passed=False),
        gate("roc_auc.max_drop@production", None, 0.01, "production has no metric roc_auc", passed=False, level="warn"),
        *run()["gates"][2:],
    ]
    model = {"name": "late-arrivals", "version": None, "digest": f"sha256:{hexadecimal('model')}"}
    metrics = {**evaluation()["metrics"], "roc_auc": {"value": 0.64996, "rows": 28293}}
    return Report(run=run(status="refused", model=model, gates=gates), evaluation=evaluation(metrics=metrics))


def failed() -> Report:
    """A run that stopped in its data: no metrics, no gates, no model."""
    error = {
        "code": "schema-violated",
        "message": "312 rows of test break specs/schemas/flights.yaml",
        "place": "validate.test: lakefs://flights/main/2013-h2/07.parquet",
        "hint": "mend the data on a branch, or widen the schema",
        "details": "column    check           failures\nair_time  less_than(700)       309\norigin    isin(EWR)  3",
    }
    steps = [
        {"name": "ingest.test", "kind": "ingest", "status": "cached", "seconds": 0.01, "digest": hexadecimal("a")},
        {"name": "validate.test", "kind": "validate", "status": "failed", "seconds": 0.62, "digest": hexadecimal("b")},
        {"name": "train", "kind": "train", "status": "skipped", "seconds": None, "digest": hexadecimal("c")},
    ]
    document = run(status="failed", metrics={}, gates=[], error=error, steps=steps, seconds=0.9)
    return Report(run={**document, "model": {"name": "late-arrivals", "version": None, "digest": None}})


def bare() -> Report:
    """The least that a failed run can say."""
    return Report(run={"run_id": RUN, "name": "late-arrivals", "status": "failed"})


def hostile() -> Report:
    """Every text of a report says something evil."""
    return Report(
        run=poisoned(run(status="failed", error={"message": "x", "place": "y", "hint": "z", "details": "d"})),
        evaluation=poisoned(evaluation()),
        written=(HOSTILE,),
    )


def poisoned(value: Any) -> Any:
    """``value`` with :data:`HOSTILE` behind every text in it, but for a run's status and a gate's level."""
    if isinstance(value, dict):
        kept = ("status", "level", "task")
        return {key: item if key in kept else poisoned(item) for key, item in value.items()}
    if isinstance(value, list):
        return [poisoned(item) for item in value]
    return value + HOSTILE if isinstance(value, str) else value


def sixty() -> Report:
    """A slicing column with sixty values."""
    found = [slice_of(f"airport-{index:02d}", 100 + index, 0.5 + index / 200) for index in range(60)]
    return Report(run=run(), evaluation=evaluation(slices={"dest": found}))
