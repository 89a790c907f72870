"""A detector by its name in a spec, new or as a run stored it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from engine.plugins import Detector, FittedDetector, PluginFailed, find, load

if TYPE_CHECKING:
    import pyarrow as pa


def made(uses: str, given: Mapping[str, Any]) -> Detector:
    """The detector with its parameters.

    Raises:
        PluginFailed: when it is no class, or does not take them.
    """
    component = load(find("detector", uses))
    if not isinstance(component, type):
        raise PluginFailed(f"{uses} is not a class", hint="a detector is a class with fit() and restore()", key="uses")
    detector: Detector = component(**given)
    return detector


def restored(stored: Mapping[str, Any], reference: pa.Table) -> FittedDetector:
    """The fitted detector that the step ``detect`` stored: ``{"uses", "with", "state"}`` and its reference table.

    It has the same thresholds and gives the same verdicts.

    Raises:
        PluginFailed: when the plugin cannot be imported.
    """
    return made(stored["uses"], stored["with"]).restore(stored["state"], reference)
