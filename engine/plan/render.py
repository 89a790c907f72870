"""A plan for people and for programs. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from engine.plan.graph import depth
from engine.plan.model import Plan, Step
from engine.plan.why import FIRST

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


Why = Mapping[str, tuple[str, ...]]
"""For each step that would run, why."""


def status_of(step: Step, settled: Collection[str], recorded: bool, why: Why) -> str:
    """What would become of a step. One that *may run* is cached after all when those before it give what they gave."""
    if recorded:
        return "recorded"
    if step.id in settled:
        return "cached"
    reasons = why.get(step.id, (FIRST,))
    # A gate may have judged before, by this limit, what those before it will give.
    unsure = step.kind == "gate" and FIRST not in reasons and any(need not in settled for need in step.needs)
    return "may run" if unsure or all(reason.startswith("if ") for reason in reasons) else "would run"


def lines(
    plan: Plan, settled: Collection[str], recorded: bool, why: Why, alarms: Collection[str] = ()
) -> Iterator[str]:
    """The plan as a tree: sections, steps, whether each would run and why, or what it needs.

    Args:
        alarms: lines about false alarms, which stand under the detectors.
    """
    yield f"{plan.name}  run {plan.run_id[:12]}  {len(plan.steps)} steps"
    width = max(len(step.id) for step in plan.steps)
    for name, _ in SECTIONS:
        steps = [step for step in plan.steps if section_of(step) == name]
        if steps:
            yield f"  {name}"
        for step in steps:
            needs = f"<- {', '.join(step.needs)}" if step.needs and step.kind != "register" else ""
            told = "" if recorded or step.id in settled else "; ".join(why.get(step.id, ()))
            yield f"    {step.id:<{width}}  {status_of(step, settled, recorded, why):<9}  {told or needs}".rstrip()
        yield from (f"    {text}" for text in (alarms if name == "monitor" and steps else ()))
    yield summary_of(plan, settled, recorded, why)


def summary_of(plan: Plan, settled: Collection[str], recorded: bool, why: Why) -> str:
    """How many steps would run."""
    if recorded:
        return "this run is recorded: `engine run` answers from the record"
    found = Counter(status_of(step, settled, recorded, why) for step in plan.steps)
    may = f", {found['may run']} that may" if found["may run"] else ""
    return f"{found['would run']} to run{may}, {found['cached']} cached"


def document(
    plan: Plan, settled: Collection[str], recorded: bool, why: Why, alarms: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The plan as JSON, with what the budget of false alarms leaves each detector."""
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
                "status": status_of(step, settled, recorded, why),
                "why": [] if recorded else list(why.get(step.id, ())),
                "cpus": step.resources.cpus,
            }
            for step in plan.steps
        ],
        "alarms": alarms,
    }
