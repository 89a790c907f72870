"""What every directed acyclic graph of steps can be asked. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from engine.plan.model import Step


def ancestors(steps: Iterable[Step], last: str) -> set[str]:
    """The ids of all that ``last`` needs, itself included."""
    needs = {step.id: step.needs for step in steps}
    found, pending = set[str](), [last]
    while pending:
        current = pending.pop()
        if current not in found:
            found.add(current)
            pending += needs.get(current, ())
    return found


def descendants(steps: Iterable[Step], first: str) -> set[str]:
    """The ids of all that need ``first``, itself included. ``steps`` are in order."""
    found = {first}
    for step in steps:
        if found.intersection(step.needs):
            found.add(step.id)
    return found


def in_order(steps: tuple[Step, ...]) -> tuple[Step, ...]:
    """``steps`` so that each stands after all that it needs; otherwise in the order in which they came."""
    placed: dict[str, Step] = {}
    waiting = list(steps)
    while waiting:
        ready = [step for step in waiting if all(need in placed for need in step.needs)]
        if not ready:
            raise ValueError(f"these steps wait for each other: {', '.join(step.id for step in waiting)}")
        placed[ready[0].id] = ready[0]
        waiting.remove(ready[0])
    return tuple(placed.values())


def depth(steps: Iterable[Step]) -> Mapping[str, int]:
    """How many steps lie before each on the longest way to it. ``steps`` are in order."""
    found: dict[str, int] = {}
    for step in steps:
        found[step.id] = max((found[need] + 1 for need in step.needs), default=0)
    return found
