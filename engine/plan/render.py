"""A plan for people and for programs. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from engine.plan.graph import depth
from engine.plan.model import Plan, Step

SECTIONS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("data", ("ingest", "validate", "transform")),
    ("train", ("train", "export")),
    ("evaluate", ("evaluate", "gate")),
    ("monitor", ("detect",)),
    ("registry", ("register",)),
)
"""The parts of a plan as a person reads it, and the step kinds in each."""


def section_of(step: Step) -> str:
    """The part of the plan that a step belongs to."""
    return next(name for name, kinds in SECTIONS if step.kind in kinds)


def status_of(step: Step, settled: Collection[str], recorded: bool) -> str:
    """What would become of a step."""
    if recorded:
        return "recorded"
    return "cached" if step.id in settled else "would run"


def lines(plan: Plan, settled: Collection[str], recorded: bool) -> Iterator[str]:
    """The plan as a tree: sections, steps, what each needs and whether it would run."""
    yield f"{plan.name}  run {plan.run_id[:12]}  {len(plan.steps)} steps"
    width = max(len(step.id) for step in plan.steps)
    for name, _ in SECTIONS:
        steps = [step for step in plan.steps if section_of(step) == name]
        if steps:
            yield f"  {name}"
        for step in steps:
            needs = f"  <- {', '.join(step.needs)}" if step.needs and step.kind != "register" else ""
            yield f"    {step.id:<{width}}  {status_of(step, settled, recorded):<9}{needs}"
    running = 0 if recorded else sum(step.id not in settled for step in plan.steps)
    if recorded:
        yield "this run is recorded: `engine run` answers from the record"
    else:
        yield f"{running} to run, {len(plan.steps) - running} cached"


def document(plan: Plan, settled: Collection[str], recorded: bool) -> dict[str, Any]:
    """The plan as JSON."""
    levels = depth(plan.steps)
    return {
        "run_id": plan.run_id,
        "name": plan.name,
        "digest": f"sha256:{plan.digest}",
        "recorded": recorded,
        "steps": [
            {
                "name": step.id,
                "kind": step.kind,
                "needs": list(step.needs),
                "depth": levels[step.id],
                "status": status_of(step, settled, recorded),
                "cpus": step.resources.cpus,
            }
            for step in plan.steps
        ],
    }
