"""Reference table -> a fitted drift detector, stored as parameters and a table, never as code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.digest import plain
from engine.monitor.detectors import made
from engine.steps.columns import features_of, require_rows
from engine.steps.context import Context
from engine.steps.model import Inputs, Outputs


def run(inputs: Inputs, params: Mapping[str, Any], context: Context) -> Outputs:
    """Fit the detector that ``uses`` names.

    Raises:
        PluginFailed: for what the detector does not accept.
    """
    table = context.table(inputs["table"])
    require_rows(table, "the reference data", "monitor.reference")
    features = features_of(table, params["features"])
    detector = made(params["uses"], params["with"])
    fitted = detector.fit(table.select([feature.name for feature in features]), features, params["seed"])
    state, reference = fitted.state()
    context.log(f"{params['uses']}: reference of {reference.num_rows:,} rows, {len(reference.column_names)} features")
    return Outputs(
        artifacts={
            "detector": context.put_json({"uses": params["uses"], "with": dict(params["with"]), "state": plain(state)}),
            "reference": context.put_table(reference),
        }
    )
