"""A resolved spec -> a plan: ``PASSES``, one a section, in order. No clock, no network, no randomness, no vendor.

::

    ingest -> validate -> transform -> train -> export -> evaluate -> gates -> register
                               |                                                ^
                               `-----------> detect ----------------------------'
"""

from __future__ import annotations

from collections.abc import Callable

from engine.plan.laws import broken
from engine.plan.model import Draft, Plan
from engine.plan.passes.data import lower_data
from engine.plan.passes.evaluation import lower_evaluation, lower_gates
from engine.plan.passes.monitoring import lower_monitoring
from engine.plan.passes.registration import lower_registration
from engine.plan.passes.tidying import attach_code, prune
from engine.plan.passes.training import lower_training
from engine.plan.passes.transforms import lower_transforms
from engine.resolve.model import ResolvedSpec

Pass = Callable[[Draft, ResolvedSpec], Draft]

PASSES: tuple[Pass, ...] = (
    lower_data,
    lower_transforms,
    lower_training,
    lower_evaluation,
    lower_gates,
    lower_monitoring,
    lower_registration,
    prune,
    attach_code,
)


def compile(resolved: ResolvedSpec) -> Plan:
    """What will be done for ``resolved``. The same input gives the same bytes."""
    draft = Draft()
    for lower in PASSES:
        draft = lower(draft, resolved)
    plan = Plan(
        run_id=resolved.run_id,
        name=resolved.spec.name,
        steps=draft.steps,
        platform=resolved.answers.platform.document(),
    )
    complaints = broken(plan)
    assert not complaints, complaints
    return plan
