"""What holds for every plan, whatever the spec: checked after compiling, so that a wrong pass is found at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from engine.plan.graph import ancestors
from engine.plan.model import Plan

Law = Callable[[Plan], Iterator[str]]


def ids_are_unique(plan: Plan) -> Iterator[str]:
    """No two steps have one id."""
    seen: set[str] = set()
    for step in plan.steps:
        if step.id in seen:
            yield f"two steps are called {step.id}"
        seen.add(step.id)


def inputs_come_first(plan: Plan) -> Iterator[str]:
    """Every input is an output of an earlier step; a measuring gate's verdict is a byproduct."""
    outputs: dict[str, tuple[str, ...]] = {}
    for step in plan.steps:
        for port, source in step.inputs.items():
            if source.step not in outputs:
                yield f"{step.id} needs {source.step}, which does not stand before it"
            elif source.output not in (*outputs[source.step], "verdict"):
                yield f"{step.id}.{port} needs {source.step}.{source.output}, which does not exist"
        outputs[step.id] = step.outputs


def registration_waits_for_every_gate(plan: Plan) -> Iterator[str]:
    """No model is registered before all its gates have spoken."""
    before = ancestors(plan.steps, "register")
    for step in plan.steps:
        if step.kind == "gate" and step.id not in before:
            yield f"register does not wait for {step.id}"


LAWS: tuple[Law, ...] = (ids_are_unique, inputs_come_first, registration_waits_for_every_gate)


def broken(plan: Plan) -> list[str]:
    """Every law that ``plan`` breaks, in words."""
    return [complaint for law in LAWS for complaint in law(plan)]
