"""Native model -> ONNX, and the signature that it is served by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.plugins import Model, PluginFailed, TrainingTask
from engine.serve.onnx import open_session
from engine.steps.columns import categories_of
from engine.steps.context import Context
from engine.steps.model import Inputs, Outputs
from engine.steps.onnx_graph import canonical, check


def run(inputs: Inputs, _: Mapping[str, Any], context: Context) -> Outputs:
    """Convert, put the graph in its canonical order, check it, and describe its inputs and outputs.

    Raises:
        PluginFailed: when the model has no ONNX form, or one that does not read the features.
    """
    model: Model
    task: TrainingTask
    model, task = context.private(inputs["native"])
    converted = model.to_onnx()
    check(converted)  # first: a malformed graph has no canonical order
    data = canonical(converted)
    session = open_session(data)
    names = [tensor.name for tensor in session.inputs]
    unknown = sorted(set(names) - set(task.names))
    if unknown:
        raise PluginFailed(
            f"the ONNX model reads {unknown[0]!r}, which is no feature", hint="name its inputs as the features"
        )
    return Outputs(
        artifacts={
            "model": context.put_bytes(data, "onnx"),
            "signature": context.put_json(
                {
                    **signature(model, task, names),
                    "categories": categories_of(context.table(inputs["table"]), task.features, names),
                }
            ),
        }
    )


def signature(model: Model, task: TrainingTask, names: list[str]) -> dict[str, object]:
    """How the model is asked and what it answers: the features in the order of the spec, and the classes."""
    kind = task_of(model, task)
    classes = task.labels if kind == "multilabel" else model.classes
    more = {"levels": levels_of(model)} if kind == "quantile" else {}
    return {
        "task": kind,
        "target": list(task.labels) or task.target,
        "classes": None if classes is None else [plain_class(item) for item in classes],
        **more,
        "inputs": [
            {"name": feature.name, "role": feature.role, "datatype": feature.datatype, "shape": [-1, 1]}
            for feature in task.features
            if feature.name in names
        ],
    }


def task_of(model: Model, task: TrainingTask) -> str:
    """What kind of prediction it is.

    Raises:
        PluginFailed: when the model has classes, and the spec several labels or groups.
    """
    classes = model.classes
    wanted = "multilabel" if task.labels else "ranking" if task.group is not None else ""
    if wanted and classes is not None:
        asked = "several targets" if task.labels else f"a group, {task.group}"
        fact = f"the spec has {asked}, and the trainer made a classifier of {len(classes)} classes"
        raise PluginFailed(fact, hint="choose a trainer that is made for it", key="uses")
    if wanted:
        return wanted
    if classes is None:
        return "quantile" if levels_of(model) else "regression"
    return "binary" if len(classes) == 2 else "multiclass"


def levels_of(model: Model) -> list[float]:
    """The levels of the quantiles that a model gives, if it gives any.

    Raises:
        PluginFailed: when they are not between 0 and 1, or do not ascend.
    """
    levels = [float(level) for level in getattr(model, "quantiles", None) or ()]
    if levels != sorted(set(levels)) or not all(0 < level < 1 for level in levels):
        hint = "give them ascending between 0 and 1, as (0.1, 0.5, 0.9)"
        raise PluginFailed(f"the model's quantiles {levels} are no levels", hint=hint, key="uses")
    return levels


def plain_class(value: object) -> str | int | bool:
    """A class label as JSON has it."""
    item = value.item() if hasattr(value, "item") else value
    return item if isinstance(item, (bool, int)) else str(item)
