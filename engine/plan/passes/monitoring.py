"""``monitor`` -> one detect step a detector, fitted on the reference."""

from __future__ import annotations

from engine.plan.model import Draft, Step
from engine.plan.passes.training import features_params
from engine.resolve.model import ResolvedSpec
from engine.resolve.questions import component_question, step_question


def lower_monitoring(draft: Draft, resolved: ResolvedSpec) -> Draft:
    """Fit each detector on the reference table."""
    monitor = resolved.spec.monitor
    if monitor is None:
        return draft
    steps = [
        Step(
            id=f"detect.{detector.name}",
            kind="detect",
            params={
                "uses": detector.uses,
                "with": dict(detector.with_),
                "seed": resolved.spec.seed,
                "features": features_params(resolved.spec),
            },
            inputs={"table": draft.tables[monitor.reference]},
            outputs=("detector", "reference"),
            code=(
                step_question("detect").key,
                component_question("detector", detector.uses, detector.with_).key,
            ),
            key=("monitor", "detectors", index),
        )
        for index, detector in enumerate(monitor.detectors)
    ]
    return draft.add(*steps)
