"""Labels for earlier predictions, as a client sends them:

    {"labels": [{"prediction": "0193...", "row": 0, "label": true}, ...]}

A row that is not given is the first one. One label may come without the list.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from engine.predictions.ids import time_of
from engine.predictions.labels import Label, Truth
from engine.serve.model import Rejected
from engine.serve.v2 import document_of, shown

MOST_LABELS = 100_000
LAST_ROW = 2**31 - 1


def read_labels(body: bytes, classes: Sequence[Any] | None) -> list[Label]:
    """The labels in a body.

    Args:
        classes: what a classifier's labels are; nothing for numbers.

    Raises:
        Rejected: naming the label, what was expected and what came.
    """
    document = document_of(body)
    items = document.get("labels") if "labels" in document else [document]
    if not isinstance(items, list) or not 1 <= len(items) <= MOST_LABELS:
        raise Rejected(400, f'"labels": expected a list of 1 to {MOST_LABELS:,} labels, received {shown(items)}')
    return [read_label(item, f"label {number}", classes) for number, item in enumerate(items)]


def read_label(item: Any, place: str, classes: Sequence[Any] | None) -> Label:
    """One label.

    Raises:
        Rejected: when it is none.
    """
    if not isinstance(item, dict):
        raise Rejected(400, f"{place}: expected an object, received {shown(item)}")
    prediction, row, label = item.get("prediction"), item.get("row", 0), item.get("label")
    if not isinstance(prediction, str) or time_of(prediction) is None:
        expected = "the id of a prediction, from the header engine-prediction"
        raise Rejected(400, f'{place}, "prediction": expected {expected}, received {shown(prediction)}')
    if type(row) is not int or not 0 <= row <= LAST_ROW:
        raise Rejected(400, f'{place}, "row": expected the number of a row, from 0, received {shown(row)}')
    return Label(prediction=prediction, row=row, label=truth_of(label, f'{place}, "label"', classes))


def truth_of(label: Any, place: str, classes: Sequence[Any] | None) -> Truth:
    """A label that can have been true.

    Raises:
        Rejected: saying what can.
    """
    if classes is not None:
        if not any(type(label) is type(known) and label == known for known in classes):
            few = ", ".join(shown(known) for known in classes[:10])
            raise Rejected(400, f"{place}: expected one of {few}, received {shown(label)}")
    elif isinstance(label, bool) or not isinstance(label, (int, float)) or not math.isfinite(label):
        raise Rejected(400, f"{place}: expected a number, received {shown(label)}")
    found: Truth = label
    return found
