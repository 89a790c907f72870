"""What is done to a whole draft: unused steps go, and each step gets the code that stands behind it."""

from __future__ import annotations

from dataclasses import replace

from engine.plan.graph import ancestors, in_order
from engine.plan.model import Draft, Step
from engine.resolve.model import ResolvedSpec


def prune(draft: Draft, _: ResolvedSpec) -> Draft:
    """Drop steps that nothing at the end depends on, and put the rest in order."""
    kept = ancestors(draft.steps, "register")
    return replace(draft, steps=in_order(tuple(step for step in draft.steps if step.id in kept)))


def attach_code(draft: Draft, resolved: ResolvedSpec) -> Draft:
    """Give each step the modules and distributions behind its kind and its component."""
    return replace(draft, steps=tuple(with_code(step, resolved) for step in draft.steps))


def with_code(step: Step, resolved: ResolvedSpec) -> Step:
    """A step with the code behind it."""
    closures = [resolved.answers.code[key] for key in step.code]
    modules = {name: digest for closure in closures for name, digest in closure.modules.items()}
    distributions = {name: version for closure in closures for name, version in closure.distributions.items()}
    return replace(step, modules=dict(sorted(modules.items())), distributions=dict(sorted(distributions.items())))
