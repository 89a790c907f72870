"""What came of a run -> a model package and, when its gates passed, a version reserved in the registry.

The version becomes visible once the run's record is on the disk.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from engine.registry.sqlite import SqliteRegistry
from engine.steps.context import Context
from engine.steps.model import Inputs, Outputs

VERDICT_PORT = "gate."


def run(inputs: Inputs, params: Mapping[str, Any], context: Context) -> Outputs:
    """Put the package together, and reserve a version unless a gate refused."""
    package = context.put_json(
        {
            "format": "engine/model-package/v1",
            "name": params["name"],
            "model": inputs["model"].document(),
            "signature": context.json(inputs["signature"]),
            "schema": params["schema"],
            "evaluation": inputs["evaluation"].digest,
            "detectors": detectors(inputs),
        }
    )
    refusing = [title for title, passed in verdicts(inputs, context) if not passed and title not in params["warn"]]
    if refusing:
        return Outputs(artifacts={"package": package}, byproducts={"version": None, "refused_by": refusing})
    registry = SqliteRegistry(context.home / "registry.db")
    version = registry.reserve(params["name"], inputs["model"].digest, package.digest)
    return Outputs(artifacts={"package": package}, byproducts={"version": version, "refused_by": []})


def verdicts(inputs: Inputs, context: Context) -> Iterator[tuple[str, bool]]:
    """Every gate's step and whether it passed."""
    for port, artifact in inputs.artifacts.items():
        if port.startswith(VERDICT_PORT):
            yield port, bool(context.json(artifact)["passed"])
    for port, verdict in inputs.byproducts.items():
        if port.startswith(VERDICT_PORT):
            yield port, bool(verdict["passed"])


def detectors(inputs: Inputs) -> dict[str, dict[str, object]]:
    """The stored state of every detector by name."""
    found: dict[str, dict[str, object]] = {}
    for port, artifact in inputs.artifacts.items():
        if port.startswith("detect."):
            step, _, part = port.rpartition(".")
            found.setdefault(step.removeprefix("detect."), {})[part] = artifact.document()
    return found
