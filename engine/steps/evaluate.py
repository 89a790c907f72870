"""Judge the ONNX model: what is served is what is judged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from sklearn.metrics import roc_curve

from engine.digest import plain
from engine.errors import StepFailed
from engine.serve.onnx import open_session
from engine.spec.vocabulary import METRICS
from engine.steps.columns import require_column, require_rows, require_target
from engine.steps.context import Context
from engine.steps.metrics import AnyArray, Judged, compute, is_for
from engine.steps.model import Inputs, Outputs
from engine.steps.parity import parity, with_parity

CURVE_POINTS = 200
BINS = 10
MAX_SLICE_VALUES = 1000


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
    data = context.store.read(params["model"]) if "model" in params else context.data(inputs["model"])
    answered = open_session(data, threads=context.cpus).predict(table)
    require_scores(answered.scores, table, signature)
    judged = judge(table, signature, answered.scores, params["target"])
    summary, apart = parity(inputs.get("native"), table, judged, context)
    evaluation: dict[str, Any] = {
        "task": signature["task"],
        "rows": table.num_rows,
        "classes": signature["classes"],
        "positive": signature["classes"][1] if signature["task"] == "binary" else None,
        "metrics": {name: {"value": compute(name, judged), "rows": table.num_rows} for name in params["metrics"]},
        "slices": {
            name: list(by_slice(table, name, index, judged, params)) for index, name in enumerate(params["slices"])
        },
        "curves": curves(judged),
        "parity": summary,
    }
    return Outputs(
        artifacts={
            "evaluation": context.put_json(plain(evaluation)),
            "predictions": context.put_table(with_parity(predictions(table, judged, params["slices"]), apart)),
        },
        byproducts={"metrics": {name: found["value"] for name, found in evaluation["metrics"].items()}},
    )


def require_scores(scores: AnyArray, table: pa.Table, signature: Mapping[str, Any]) -> None:
    """Refuse predictions that are no numbers.

    Raises:
        StepFailed: naming the features that have missing values.
    """
    lost = int(np.sum(~np.isfinite(scores).reshape(len(scores), -1).all(axis=1)))
    if not lost:
        return
    missing = {item["name"]: missing_values(table.column(item["name"])) for item in signature["inputs"]}
    named = ", ".join(f"{name} ({count:,})" for name, count in missing.items() if count) or "none of them"
    raise StepFailed(
        f"the model gives no number for {lost:,} of {len(scores):,} rows; features with missing values: {named}",
        hint="`impute: median` in train.with, an estimator that takes NaN, or a transform that drops such rows",
        key="evaluate.data",
    )


def missing_values(column: pa.ChunkedArray) -> int:
    """How many values are null or NaN."""
    return int(pc.sum(pc.is_null(column, nan_is_null=True)).as_py() or 0)


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


def judge(table: pa.Table, signature: Mapping[str, Any], scores: AnyArray, target: str) -> Judged:
    """Predictions beside the truth.

    Raises:
        StepFailed: for a target that is missing, null, or a class that the model has never seen.
    """
    column = require_target(table, target)
    if column.null_count:
        raise StepFailed(
            f'{column.null_count:,} rows have no "{target}"', hint="drop them in a transform", key="target"
        )
    if signature["task"] == "regression":
        return Judged(task="regression", true=as_floats(column, target), label=scores, score=scores)
    classes = signature["classes"]
    true = class_indexes(column, classes, target)
    label = (scores > 0.5).astype(np.int64) if scores.ndim == 1 else scores.argmax(axis=1)
    return Judged(task=signature["task"], true=true, label=label, score=scores, classes=len(classes))


def as_floats(column: pa.ChunkedArray, target: str) -> AnyArray:
    """A numeric target as float64.

    Raises:
        StepFailed: when it is not numeric.
    """
    try:
        values: AnyArray = column.cast(pa.float64()).to_numpy()
    except pa.ArrowInvalid as error:
        raise StepFailed(f'the target "{target}" is {column.type}, not a number', key="target") from error
    return values


def class_indexes(column: pa.ChunkedArray, classes: Sequence[object], target: str) -> AnyArray:
    """Each row's class as its index in ``classes``."""
    values = column.cast(pa.int64()) if pa.types.is_boolean(column.type) else column
    known = {str(item): index for index, item in enumerate(classes)}
    distinct = {str(item) for item in pc.unique(values).to_pylist()}
    strangers = sorted(distinct - set(known))
    if strangers:
        raise StepFailed(
            f'the model has never seen the class "{strangers[0]}" of "{target}"',
            hint=f"it knows {', '.join(known)}; train on data that has it",
            key="target",
        )
    return np.array([known[str(item)] for item in values.to_pylist()], dtype=np.int64)


def by_slice(
    table: pa.Table, column: str, index: int, judged: Judged, params: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    """Each value of a slice column, the most frequent first, with its metrics."""
    values = slice_values(table, column, f"evaluate.slices.{index}")
    counts = pc.value_counts(values).to_pylist()
    if len(counts) > MAX_SLICE_VALUES:
        raise StepFailed(
            f'"{column}" has {len(counts):,} values',
            hint="slice by a column of few values",
            key=f"evaluate.slices.{index}",
        )
    labels = np.array(values.to_pylist(), dtype=object)
    for item in sorted(counts, key=lambda item: (-item["counts"], str(item["values"]))):
        part = judged.rows(labels == item["values"])
        metrics = {name: compute(name, part) for name in params["metrics"]}
        yield {"value": item["values"], "rows": item["counts"], "metrics": metrics}


def slice_values(table: pa.Table, column: str, key: str) -> pa.ChunkedArray:
    """A slice column as text; null is "(none)"."""
    return require_column(table, column, key).cast(pa.string()).fill_null("(none)")


def curves(judged: Judged) -> dict[str, Any]:
    """What a report draws: ROC and calibration for two classes, the residuals for regression."""
    if judged.task == "regression":
        counts, edges = np.histogram(judged.score - judged.true, bins=4 * BINS)
        return {"residuals": {"edges": edges.tolist(), "counts": counts.tolist()}}
    if judged.task != "binary" or len(np.unique(judged.true)) < 2:
        return {}
    fpr, tpr, _ = roc_curve(judged.true, judged.score)
    chosen = np.unique(np.linspace(0, len(fpr) - 1, CURVE_POINTS).astype(int))
    return {
        "roc": {"fpr": fpr[chosen].tolist(), "tpr": tpr[chosen].tolist()},
        "calibration": calibration(judged),
    }


def calibration(judged: Judged) -> dict[str, list[float]]:
    """Mean score, observed share and rows in ten bins of equal width over [0, 1]; empty bins are left out."""
    bins = np.clip((judged.score * BINS).astype(int), 0, BINS - 1)
    rows = np.bincount(bins, minlength=BINS)
    filled = rows > 0
    predicted = np.bincount(bins, weights=judged.score, minlength=BINS)[filled] / rows[filled]
    observed = np.bincount(bins, weights=judged.true, minlength=BINS)[filled] / rows[filled]
    return {"predicted": predicted.tolist(), "observed": observed.tolist(), "rows": rows[filled].tolist()}


def predictions(table: pa.Table, judged: Judged, slices: Sequence[str]) -> pa.Table:
    """Truth, label and scores of every row, with its slice columns: what gates need and nothing else."""
    columns: dict[str, pa.Array | pa.ChunkedArray] = {"true": pa.array(judged.true), "label": pa.array(judged.label)}
    if judged.score.ndim == 1:
        columns["score"] = pa.array(judged.score.astype(np.float64))
    else:
        for index in range(judged.score.shape[1]):
            columns[f"score.{index}"] = pa.array(judged.score[:, index].astype(np.float64))
    for index, name in enumerate(slices):
        columns[f"slice.{name}"] = slice_values(table, name, f"evaluate.slices.{index}")
    return pa.table(columns)


def judged_from(table: pa.Table, evaluation: Mapping[str, Any]) -> Judged:
    """The predictions that :func:`predictions` wrote."""
    scores = [name for name in table.column_names if name == "score" or name.startswith("score.")]
    stacked = [table.column(name).to_numpy() for name in scores]
    return Judged(
        task=evaluation["task"],
        true=table.column("true").to_numpy(),
        label=table.column("label").to_numpy(),
        score=stacked[0] if scores == ["score"] else np.stack(stacked, axis=1),
        classes=len(evaluation["classes"] or ()),
    )
