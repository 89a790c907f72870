"""``transform`` -> one step a transform and source."""

from __future__ import annotations

from engine.plan.model import Draft, Source, Step
from engine.resolve.model import ResolvedSpec
from engine.resolve.questions import component_question, step_question


def lower_transforms(draft: Draft, resolved: ResolvedSpec) -> Draft:
    """Each transform is applied to each of its sources on its own, in the order of the spec."""
    for index, transform in enumerate(resolved.spec.transform):
        component = component_question("transform", transform.uses, transform.with_)
        code = (step_question("transform").key, component.key)
        for name in transform.data:
            step = Step(
                id=f"transform.{transform.name}.{name}",
                kind="transform",
                params={"uses": transform.uses, "with": dict(transform.with_)},
                inputs={"table": draft.tables[name]},
                outputs=("table",),
                code=code,
                key=("transform", index),
            )
            draft = draft.add(step).point(name, Source(step=step.id, output="table"))
    return draft
