"""Everything that came of a run -> one step that registers the model, after every gate."""

from __future__ import annotations

from engine.plan.model import Draft, Source, Step
from engine.plan.passes.training import MODEL, SIGNATURE
from engine.resolve.model import ResolvedSpec
from engine.resolve.questions import step_question


def lower_registration(draft: Draft, resolved: ResolvedSpec) -> Draft:
    """Register the model once every gate that may refuse has passed.

    A gate of level ``warn`` is waited for, so that its verdict is known, but its refusal does not hold the model.
    """
    spec = resolved.spec
    warn = [f"gate.{gate.title}" for gate in spec.evaluate.gates if gate.level == "warn"]
    inputs = {"model": MODEL, "signature": SIGNATURE, "evaluation": Source(step="evaluate", output="evaluation")}
    for step in draft.steps:
        if step.kind == "gate":
            inputs[step.id] = Source(step=step.id, output="verdict")
        elif step.kind == "detect":
            inputs[f"{step.id}.state"] = Source(step=step.id, output="detector")
            inputs[f"{step.id}.reference"] = Source(step=step.id, output="reference")
    schema = resolved.answers.schemas.get(spec.train.data)
    register = Step(
        id="register",
        kind="register",
        params={"name": spec.name, "warn": warn, "schema": schema},
        inputs=inputs,
        outputs=("package",),
        code=(step_question("register").key,),
        key=("name",),
        effects=True,
    )
    return draft.add(register)
