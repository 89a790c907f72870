"""Predictions beside the truth: from a table and a model's answers to :class:`~engine.steps.metrics.Judged`, and back
from the table of predictions that gates read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.errors import StepFailed
from engine.spec.vocabulary import CLASSIFICATION
from engine.steps.columns import require_column, require_target, require_targets
from engine.steps.metrics import AnyArray, FloatArray, IntArray, Judged


def judge(table: pa.Table, signature: Mapping[str, Any], scores: AnyArray, params: Mapping[str, Any]) -> Judged:
    """Predictions beside the truth.

    Raises:
        StepFailed: for a target that is missing, null, or a class that the model has never seen; for scores that are
            not as many a row as there are labels or quantiles.
    """
    task = signature["task"]
    columns = [target_column(table, name) for name in require_targets(table, params["target"])]
    require_width(scores, signature)
    if task == "multilabel":
        true = np.stack(
            [label_values(column, name) for column, name in zip(columns, params["target"], strict=True)], axis=1
        )
        label = (scores > 0.5).astype(np.int64)
        return Judged(task=task, true=true, label=label, score=scores, classes=len(signature["classes"]))
    column, target = columns[0], params["target"]
    if task == "ranking":
        true = as_floats(column, target)
        return Judged(task=task, true=true, label=scores, score=scores, groups=groups_of(table, params["group"]))
    if task == "quantile":
        levels = tuple(signature["levels"])
        middle = int(np.argmin(np.abs(np.array(levels) - 0.5)))
        true = as_floats(column, target)
        return Judged(task=task, true=true, label=scores[:, middle], score=scores, levels=levels)
    if task == "regression":
        return Judged(task=task, true=as_floats(column, target), label=scores, score=scores)
    classes = signature["classes"]
    true = class_indexes(column, classes, target)
    label = (scores > 0.5).astype(np.int64) if scores.ndim == 1 else scores.argmax(axis=1)
    return Judged(task=task, true=true, label=label, score=scores, classes=len(classes))


def target_column(table: pa.Table, name: str) -> pa.ChunkedArray:
    """A target in which no row is null.

    Raises:
        StepFailed: when there are such rows.
    """
    column = require_target(table, name)
    if column.null_count:
        fact = f'{column.null_count:,} rows have no "{name}"'
        raise StepFailed(fact, hint="drop them in a transform", key="target")
    return column


def require_classes(label: AnyArray, scores: AnyArray, signature: Mapping[str, Any]) -> None:
    """Refuse a model, a baseline above all, that knows other classes: its scores would be read as those of ours.

    Raises:
        StepFailed: with what it gives and what was expected.
    """
    if signature["task"] not in CLASSIFICATION:
        return
    classes: list[object] = signature["classes"]
    hint = "compare with a version that knows the same classes, or train on data that has them"
    given, wanted = (scores.shape[1] if scores.ndim == 2 else 2), len(classes)
    if given != wanted:
        fact = f"the model knows {given} classes, and {wanted} are judged"
        raise StepFailed(fact, hint=hint, key="evaluate")
    said = set(label.tolist())
    if {type(item) for item in said} == {type(item) for item in classes} and said - set(classes):
        stranger = min(said - set(classes), key=str)
        known = ", ".join(str(item) for item in classes)
        raise StepFailed(f'the model answers "{stranger}", and the classes are {known}', hint=hint, key="evaluate")


def require_width(scores: AnyArray, signature: Mapping[str, Any]) -> None:
    """Refuse a model of several labels or quantiles that gives another number of them.

    Raises:
        StepFailed: with both numbers.
    """
    named = {"multilabel": "classes", "quantile": "levels"}.get(signature["task"])
    given = scores.shape[1] if scores.ndim == 2 else 1
    if named is not None and given != len(signature[named]):
        what = "labels" if named == "classes" else "quantiles"
        fact = f"the model gives {given} scores a row, and has {len(signature[named])} {what}"
        raise StepFailed(fact, hint="see the protocol `Model` in engine/plugins.py", key="evaluate")


def label_values(column: pa.ChunkedArray, name: str) -> AnyArray:
    """One of several labels as 0 and 1.

    Raises:
        StepFailed: for anything else.
    """
    whole = pa.types.is_boolean(column.type) or pa.types.is_integer(column.type)
    values: AnyArray = column.cast(pa.int64()).to_numpy() if whole else np.array([-1])
    if not np.isin(values, (0, 1)).all():
        hint = "make it a boolean, or 0 and 1, in a transform"
        raise StepFailed(f'the label "{name}" is {column.type} and not only 0 and 1', hint=hint, key="target")
    return values


def groups_of(table: pa.Table, name: str) -> IntArray:
    """The number of each row's group, in the order in which groups first occur.

    Raises:
        StepFailed: for a column that is not there, or has rows without a group.
    """
    column = require_column(table, name, "group")
    if column.null_count:
        fact = f'{column.null_count:,} rows have no "{name}"'
        raise StepFailed(fact, hint="drop them in a transform", key="group")
    numbers: IntArray = column.combine_chunks().dictionary_encode().indices.to_numpy().astype(np.int64)
    return numbers


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


def weights_of(table: pa.Table, name: str | None) -> FloatArray | None:
    """How much each row counts, by the column called ``name``.

    Raises:
        StepFailed: for a column that is no number, or has values that are none, are below 0, or are all 0.
    """
    if name is None:
        return None
    column = require_column(table, name, "evaluate.weights")
    kind = column.type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)):
        hint = "name a column of numbers, or make one in a transform"
        raise StepFailed(f'the weights "{name}" are {kind}, not numbers', hint=hint, key="evaluate.weights")
    found = np.asarray(column.cast(pa.float64(), safe=False).to_numpy(), dtype=np.float64)
    for what, wrong in (("are missing or infinite", ~np.isfinite(found)), ("are below 0", found < 0)):
        if wrong.any():
            fact = f'{int(wrong.sum()):,} of the weights "{name}" {what}'
            raise StepFailed(fact, hint="mend them in a transform", key="evaluate.weights")
    if not found.any():
        hint = "a row of weight 0 does not count, so none does"
        raise StepFailed(f'all of the weights "{name}" are 0', hint=hint, key="evaluate.weights")
    return found


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


def predictions(judged: Judged, slices: Mapping[str, pa.ChunkedArray]) -> pa.Table:
    """Truth, label and scores of every row, with its weight, its group and its part of each slice.

    What gates need, and nothing else. What has several values a row has a column for each: ``score.0``, ``score.1``.
    """
    columns: dict[str, pa.Array | pa.ChunkedArray] = {
        **spread("true", judged.true),
        **spread("label", judged.label),
        **spread("score", judged.score.astype(np.float64)),
    }
    if judged.weights is not None:
        columns["weight"] = pa.array(judged.weights)
    if judged.groups is not None:
        columns["group"] = pa.array(judged.groups)
    for name, membership in slices.items():
        columns[f"slice.{name}"] = membership
    return pa.table(columns)


def spread(name: str, values: AnyArray) -> dict[str, pa.Array]:
    """An array (n,) as a column, or (n, k) as k."""
    if values.ndim == 1:
        return {name: pa.array(values)}
    return {f"{name}.{number}": pa.array(values[:, number]) for number in range(values.shape[1])}


def judged_from(table: pa.Table, evaluation: Mapping[str, Any]) -> Judged:
    """The predictions that :func:`predictions` wrote."""
    return Judged(
        task=evaluation["task"],
        true=gathered("true", table),
        label=gathered("label", table),
        score=gathered("score", table),
        classes=len(evaluation["classes"] or ()),
        weights=table.column("weight").to_numpy() if "weight" in table.column_names else None,
        groups=table.column("group").to_numpy() if "group" in table.column_names else None,
        levels=tuple(evaluation.get("levels", ())),
    )


def gathered(name: str, table: pa.Table) -> AnyArray:
    """The array that :func:`spread` made columns of."""
    if name in table.column_names:
        whole: AnyArray = table.column(name).to_numpy()
        return whole
    count = sum(column.startswith(f"{name}.") for column in table.column_names)
    return np.stack([table.column(f"{name}.{number}").to_numpy() for number in range(count)], axis=1)
