"""Table -> table, by a transform plugin."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from engine.plugins import PluginFailed, Transform, find, load
from engine.steps.context import Context
from engine.steps.ingest import normal
from engine.steps.model import Inputs, Outputs


def run(inputs: Inputs, params: Mapping[str, Any], context: Context) -> Outputs:
    """Apply the transform that ``uses`` names.

    Raises:
        PluginFailed: when it gives back no table.
    """
    transform = bound(params["uses"], params["with"])
    before = context.table(inputs["table"])
    after = transform(before)
    if not isinstance(after, pa.Table):
        raise PluginFailed(f"{params['uses']} gave back {type(after).__name__}, not a pyarrow.Table", key="uses")
    context.log(f"{before.num_rows:,} -> {after.num_rows:,} rows, {len(after.column_names)} columns")
    return Outputs(artifacts={"table": context.put_table(normal(after))})


def bound(uses: str, given: Mapping[str, Any]) -> Transform:
    """A transform with its parameters: an instance of a class, or a function with its keywords filled in."""
    component = load(find("transform", uses))
    if isinstance(component, type):
        made: Transform = component(**given)
        return made
    assert callable(component)
    return functools.partial(component, **given)
