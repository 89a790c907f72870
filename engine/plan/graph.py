"""What every directed acyclic graph of steps can be asked. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from heapq import heapify, heappop, heappush

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
    places = {step.id: place for place, step in enumerate(steps)}
    waits = [len(step.needs) for step in steps]
    needed_by: dict[str, list[int]] = {}
    for place, step in enumerate(steps):
        for need in step.needs:
            needed_by.setdefault(need, []).append(place)
    ready = [place for place in places.values() if not waits[place]]
    heapify(ready)
    found: list[Step] = []
    while ready:
        step = steps[heappop(ready)]
        found.append(step)
        for place in needed_by.get(step.id, ()):
            waits[place] -= 1
            if not waits[place]:
                heappush(ready, place)
    if len(found) < len(steps):
        left = [step.id for place, step in enumerate(steps) if waits[place]]
        raise ValueError(f"these steps wait for each other: {', '.join(left)}")
    return tuple(found)


def depth(steps: Iterable[Step]) -> Mapping[str, int]:
    """How many steps lie before each on the longest way to it. ``steps`` are in order."""
    found: dict[str, int] = {}
    for step in steps:
        found[step.id] = max((found[need] + 1 for need in step.needs), default=0)
    return found
