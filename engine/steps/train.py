"""Table -> native model, by a trainer plugin."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from typing import Any

from engine.plugins import PluginFailed, Trainer, TrainingTask, find, load
from engine.steps.columns import features_of, require_column, require_rows, require_targets
from engine.steps.context import Context
from engine.steps.model import Inputs, Outputs


def run(inputs: Inputs, params: Mapping[str, Any], context: Context) -> Outputs:
    """Fit the trainer that ``uses`` names on the features and the target.

    Raises:
        StepFailed: for an empty table or a missing column.
        PluginFailed: for what the trainer does not accept.
    """
    table = context.table(inputs["table"])
    require_rows(table, "the training data", "data")
    targets = require_targets(table, params["target"])
    if params.get("group") is not None:
        require_column(table, params["group"], "group")
    task = TrainingTask(
        features=features_of(table, params["features"]),
        target=targets[0],
        labels=tuple(targets) if len(targets) > 1 else (),
        group=params.get("group"),
        seed=params["seed"],
        cpus=context.cpus,
    )
    trainer = made(params["uses"], params["with"])
    context.log(f"{params['uses']}: {table.num_rows:,} rows, {len(task.features)} features")
    model = trainer.fit(table, task)
    lacking = [method for method in ("scores", "to_onnx", "classes") if not hasattr(model, method)]
    if lacking:
        raise PluginFailed(
            f"{params['uses']} fitted a {type(model).__name__} without `{lacking[0]}`",
            hint="see the protocol `Model` in engine/plugins.py",
            key="uses",
        )
    try:
        return Outputs(artifacts={"native": context.put_private((model, task))})
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise PluginFailed(
            f"the model of {params['uses']} cannot be pickled: {error}",
            hint="define its class at the top level of a module, and keep no locks, files or functions in it",
            key="uses",
        ) from error


def made(uses: str, given: Mapping[str, Any]) -> Trainer:
    """The trainer with its parameters."""
    component = load(find("trainer", uses))
    if not isinstance(component, type):
        raise PluginFailed(f"{uses} is not a class", hint="a trainer is a class with a method fit()", key="uses")
    trainer: Trainer = component(**given)
    return trainer
