"""Judge the ONNX model: what is served is what is judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
from sklearn.metrics import roc_curve

from engine.digest import plain
from engine.errors import StepFailed
from engine.plugins import PluginFailed
from engine.serve.onnx import open_session
from engine.spec.vocabulary import METRICS, VALUES
from engine.steps.columns import require_rows
from engine.steps.context import Context
from engine.steps.intervals import CONFIDENCE, DRAWS_IN_PART, estimates
from engine.steps.judging import judge, predictions, require_classes, require_scores, weights_of
from engine.steps.judging import judged_from as judged_from
from engine.steps.metrics import Judged, is_for
from engine.steps.model import Inputs, Outputs
from engine.steps.parity import parity, with_parity
from engine.steps.slices import Slice, memberships, parts, slice_of

CURVE_POINTS = 200
BINS = 10


def run(inputs: Inputs, params: Mapping[str, Any], context: Context) -> Outputs:
    """Predict the evaluation data with ONNX Runtime and compute every metric, overall and per slice.

    With a native model at hand, both are asked and their difference is the parity. A baseline has none.

    Raises:
        StepFailed: for an empty table, a missing column, an unknown class or a metric of another task.
        DigestMismatch: when the model's bytes were altered.
    """
    table = context.table(inputs["table"])
    signature = context.json(inputs["signature"])
    require_rows(table, "the evaluation data", "evaluate.data")
    suitable(params["metrics"], signature["task"])
    slices = memberships(table, params["slices"])
    weights = weights_of(table, params.get("weights"))
    data = context.store.read(params["model"]) if "model" in params else context.data(inputs["model"])
    answered = open_session(data, threads=context.cpus).predict(table)
    require_classes(answered.label, answered.scores, signature)
    require_scores(answered.scores, table, signature)
    judged = replace(judge(table, signature, answered.scores, params), weights=weights)
    summary, apart = parity(inputs.get("native"), table, judged, context)
    evaluation: dict[str, Any] = {
        "task": signature["task"],
        "rows": table.num_rows,
        "classes": signature["classes"],
        "positive": signature["classes"][1] if signature["task"] == "binary" else None,
        "weights": params.get("weights"),
        **({"levels": list(judged.levels)} if judged.levels else {}),
        **({"groups": len(np.unique(judged.groups))} if judged.groups is not None else {}),
        **figures(judged, slices, signature, params),
        "curves": curves(judged),
        "parity": summary,
    }
    return Outputs(
        artifacts={
            "evaluation": context.put_json(plain(evaluation)),
            "predictions": context.put_table(with_parity(predictions(judged, slices), apart)),
        },
        byproducts={"metrics": {name: found["value"] for name, found in evaluation["metrics"].items()}},
    )


def figures(
    judged: Judged, slices: Mapping[str, pa.ChunkedArray], signature: Mapping[str, Any], params: Mapping[str, Any]
) -> dict[str, Any]:
    """The metrics: overall, in each slice, and of each label where there are several.

    Raises:
        PluginFailed: naming the entry of ``evaluate.metrics`` whose plugin is wrong.
    """
    metrics: Sequence[str] = params["metrics"]
    try:
        return {
            "metrics": overall(metrics, judged),
            "slices": {
                wanted["name"]: by_slice(slices[wanted["name"]], wanted, judged, metrics)
                for wanted in map(slice_of, params["slices"])
            },
            **by_label(judged, signature["classes"], metrics),
        }
    except PluginFailed as error:
        if error.key in metrics:
            error.key = f"evaluate.metrics.{metrics.index(error.key)}"
        raise


def overall(metrics: Sequence[str], judged: Judged) -> dict[str, Any]:
    """Each metric with its rows and its interval.

    Raises:
        PluginFailed: when a plugin's metric gives no number.
    """
    found = {}
    for name, estimate in estimates(metrics, judged).items():
        if estimate.value is None and name not in METRICS:
            raise PluginFailed(
                f"the metric {name} gave nan on all {len(judged.true):,} rows",
                hint="mend it, or choose data on which it is defined",
                key=name,
            )
        found[name] = {
            "value": estimate.value,
            "rows": len(judged.true),
            "low": estimate.low,
            "high": estimate.high,
            "confidence": CONFIDENCE,
            "method": estimate.method,
        }
    return found


def suitable(metrics: Sequence[str], task: Any) -> None:
    """Refuse metrics that the task does not have.

    Raises:
        StepFailed: for the first of them.
    """
    for index, name in enumerate(metrics):
        if not is_for(name, task):
            known = ", ".join(metric for metric in METRICS if is_for(metric, task))
            raise StepFailed(
                f"{name} is no metric for {task}", hint=f"for {task}: {known}", key=f"evaluate.metrics.{index}"
            )


def by_slice(
    membership: pa.ChunkedArray, wanted: Slice, judged: Judged, metrics: Sequence[str]
) -> list[dict[str, Any]]:
    """Each part of a slice with its rows and metrics."""
    return [
        {"value": name, "rows": int(mask.sum()), **in_part(metrics, judged.rows(mask))}
        for name, mask in parts(membership, wanted)
    ]


def by_label(judged: Judged, labels: Sequence[str], metrics: Sequence[str]) -> dict[str, Any]:
    """Of several labels, each as a question of two classes, in the metrics that have two classes; else nothing."""
    if judged.task != "multilabel":
        return {}
    alone = [name for name in metrics if is_for(name, "binary") and name in METRICS]
    return {
        "labels": [
            {"value": name, "rows": len(judged.true), **in_part(alone, judged.of_label(number))}
            for number, name in enumerate(labels)
        ]
    }


def in_part(metrics: Sequence[str], part: Judged) -> dict[str, Any]:
    """The metrics of some rows, and the ends of their intervals."""
    found = estimates(metrics, part, draws=DRAWS_IN_PART)
    return {
        "metrics": {name: estimate.value for name, estimate in found.items()},
        "intervals": {name: estimate.ends for name, estimate in found.items()},
    }


def curves(judged: Judged) -> dict[str, Any]:
    """What a report draws: ROC and calibration for two classes, the residuals of predicted values."""
    if judged.task in VALUES:
        counts, edges = np.histogram(judged.label - judged.true, bins=4 * BINS)
        return {"residuals": {"edges": edges.tolist(), "counts": counts.tolist()}}
    if judged.task != "binary" or len(np.unique(judged.true)) < 2:
        return {}
    fpr, tpr, _ = roc_curve(judged.true, judged.score, sample_weight=judged.weights)
    chosen = np.unique(np.linspace(0, len(fpr) - 1, CURVE_POINTS).astype(int))
    return {
        "roc": {"fpr": fpr[chosen].tolist(), "tpr": tpr[chosen].tolist()},
        "calibration": calibration(judged),
    }


def calibration(judged: Judged) -> dict[str, list[float]]:
    """Mean score, observed share and rows in ten bins of equal width over [0, 1]; bins without weight are left out."""
    bins = np.clip((judged.score * BINS).astype(int), 0, BINS - 1)
    weights = np.ones(len(bins)) if judged.weights is None else judged.weights
    rows, whole = np.bincount(bins, minlength=BINS), np.bincount(bins, weights=weights, minlength=BINS)
    filled = whole > 0
    predicted = np.bincount(bins, weights=weights * judged.score, minlength=BINS)[filled] / whole[filled]
    observed = np.bincount(bins, weights=weights * judged.true, minlength=BINS)[filled] / whole[filled]
    return {"predicted": predicted.tolist(), "observed": observed.tolist(), "rows": rows[filled].tolist()}
