"""What a person sees while a run goes on: a live tree on a terminal, plain lines in a pipe."""

from __future__ import annotations

from typing import Protocol

from engine.cli import view
from engine.execute.protocol import StepEvent, StepOutcome
from engine.plan.model import Plan
from engine.report.clean import terminal

WIDTH = 24
"""Of a step's id where the plan is not known yet."""


class Listener(Protocol):
    """Hears what happens to steps."""

    def hear(self, event: StepEvent) -> None:
        """A step has started or is over, or something waits."""


def waiting_line(event: StepEvent) -> str:
    """What waits for whom."""
    what = f"{terminal(event.id)} waits" if event.id else "waiting"
    return f"{what} for {terminal(event.holder)}, which does the same"


class Lines:
    """One line a finished step, on standard error."""

    def __init__(self, plan: Plan | None = None) -> None:
        self.width = max((len(step.id) for step in plan.steps), default=1) if plan is not None else WIDTH

    def hear(self, event: StepEvent) -> None:
        """Print a finished step, and what waits."""
        if event.what == "waits":
            view.note(waiting_line(event))
        outcome = event.outcome
        if outcome is None:
            return
        spent = f"{outcome.seconds:8.2f} s" if outcome.status == "ran" else ""
        view.note(f"{outcome.status:<8} {terminal(event.id):<{self.width}} {spent}{result_of(outcome)}".rstrip())


def result_of(outcome: StepOutcome) -> str:
    """What a finished step has to say in a few words."""
    if outcome.error is not None:
        return f"  {terminal(str(outcome.error['message']).splitlines()[0])}"
    return ""
