"""Does the ONNX form say what the native model says? Row by row: the difference of the scores, and of the labels.

``onnx_parity`` is the largest difference, ``onnx_parity_share`` the share of rows that differ by more than the gate's
``tolerance``, ``onnx_label_flips`` the number of labels that differ. Of predicted values that are larger than 1 the
difference is relative, and they have no labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.spec.vocabulary import LABELLING
from engine.steps.context import Context
from engine.steps.model import Artifact, Inputs
from engine.steps.verdict import Gate, Verdict, bounded, count_of

if TYPE_CHECKING:
    import pyarrow as pa

    from engine.steps.metrics import AnyArray, FloatArray, Judged

COLUMN = "onnx_difference"
"""The column of the predictions that has each row's difference."""


def differences(scores: AnyArray, judged: Judged) -> FloatArray:
    """How far each row's score is from the native model's, whose ``scores`` are as its ``scores`` gives them, (n,)."""
    if judged.task == "binary" and scores.ndim == 2:
        scores = scores[:, 1]
    apart: FloatArray = np.abs(scores - judged.score)
    if judged.task not in LABELLING:
        apart = apart / np.maximum(np.abs(scores), 1.0)
    return np.asarray(apart.max(axis=1)) if apart.ndim == 2 else apart


def flips(scores: AnyArray, judged: Judged) -> int:
    """How many rows get another label."""
    if judged.task not in LABELLING:
        return 0
    label = (scores > 0.5) if judged.task == "multilabel" else scores.argmax(axis=1)
    return int(np.sum(label != judged.label))


def parity(
    native: Artifact | None, table: pa.Table, judged: Judged, context: Context
) -> tuple[dict[str, Any] | None, FloatArray | None]:
    """What an evaluation keeps of it: the summary, and each row's difference. A baseline has neither."""
    if native is None:
        return None, None
    model, _ = context.private(native)
    scores = np.asarray(model.scores(table), dtype=np.float64)
    apart = differences(scores, judged)
    summary = {"max_difference": float(apart.max()), "label_flips": flips(scores, judged), "rows": len(apart)}
    return summary, apart


def with_parity(predictions: pa.Table, apart: FloatArray | None) -> pa.Table:
    """The predictions with each row's difference, where there is one."""
    return predictions if apart is None else predictions.append_column(COLUMN, [apart])


def judge(gate: Gate, inputs: Inputs, context: Context) -> Verdict:
    """The verdict on one of the three figures; the reason has the others too."""
    evaluation = context.json(inputs["evaluation"])
    found: Mapping[str, Any] = evaluation["parity"]
    method = "the native model against ONNX, row by row"
    labels = "" if evaluation["task"] not in LABELLING else f"; {count_of(found['label_flips'], 'label')} differ"
    largest = f"; the largest difference is {found['max_difference']:.3g}"
    common: dict[str, Any] = {
        "method": method,
        "max_difference": found["max_difference"],
        "label_flips": found["label_flips"],
    }
    if gate["metric"] == "onnx_label_flips":
        what = f"onnx_label_flips on {count_of(found['rows'])}"
        return with_reason(bounded(gate, found["label_flips"], found["rows"], what=what, **common), largest)
    if gate["metric"] == "onnx_parity":
        return with_reason(bounded(gate, found["max_difference"], found["rows"], **common), labels)
    apart = context.table(inputs["predictions"]).column(COLUMN).to_numpy()
    beyond = int(np.sum(apart > gate["tolerance"]))
    what = f"the share of {count_of(len(apart))} that differ by more than {gate['tolerance']:g} between native and ONNX"
    verdict = bounded(gate, beyond / len(apart), len(apart), what=what, rows_beyond=beyond, **common)
    return with_reason(verdict, largest + labels)


def with_reason(verdict: Verdict, more: str) -> Verdict:
    """A verdict that says more."""
    return {**verdict, "reason": verdict["reason"] + more}
