"""The reference meaning of a plan: every step in order, in this process. Breakpoints work."""

from __future__ import annotations

from engine.execute.boundary import perform
from engine.execute.protocol import Report, StepEvent, StepOutcome, Work


class InlineExecutor:
    """Does one step after the other. ``timeout``, ``memory`` and ``retries`` have no meaning in one process."""

    name = "inline"

    def execute(self, work: Work, report: Report) -> dict[str, StepOutcome]:
        """Every step's outcome, by id."""
        outcomes = dict(work.done)
        for step in work.plan.steps:
            if step.id in outcomes:
                continue
            outcomes[step.id] = perform(work, step, outcomes, report, capture=False)
            report(StepEvent(id=step.id, what="over", outcome=outcomes[step.id]))
        return outcomes
