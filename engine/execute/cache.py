"""What steps gave before, by step key. An entry is a file that is written once; its artifacts lie in the store."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from engine.digest import canonical_json
from engine.execute.protocol import StepOutcome, outcome_from
from engine.plan.model import Plan, Step
from engine.steps.model import Artifact, Inputs
from engine.steps.seals import seal_path
from engine.store.checked import read_checked, write_checked
from engine.store.objects import ObjectStore


class StepCache:
    """Outcomes of steps below ``home``."""

    def __init__(self, home: Path, store: ObjectStore) -> None:
        self.home = home
        self.store = store

    def path(self, key: str) -> Path:
        """Where the outcome of the step with that key lies."""
        return self.home / "cache" / "steps" / key[:2] / f"{key[2:]}.json"

    def find(self, step: Step, key: str) -> StepOutcome | None:
        """The outcome that this step had, if it may be used again and all its artifacts are still here."""
        data = None if step.effects else read_checked(self.path(key))
        if data is None:
            return None
        try:
            outcome = outcome_from(json.loads(data))
        except (ValueError, KeyError, TypeError):
            return None  # a damaged entry is as good as none: the step runs
        if not all(self.is_here(artifact) for artifact in outcome.outputs.values()):
            return None
        return replace(outcome, id=step.id, status="cached", seconds=0.0)

    def is_here(self, artifact: Artifact) -> bool:
        """Whether an artifact is in the store at its full length, and sealed where it must be."""
        path = self.store.path(artifact.digest)
        if not path.is_file() or path.stat().st_size != artifact.size:
            return False
        return artifact.media != "private" or seal_path(self.home, artifact.digest).is_file()

    def keep(self, step: Step, outcome: StepOutcome) -> None:
        """Keep an outcome for later runs. Effects are not kept, nor a refusal that rests on a clock."""
        refused = outcome.verdict is not None and not outcome.verdict["passed"]
        path = self.path(outcome.key)
        if outcome.status == "ran" and not step.effects and not refused and read_checked(path) is None:
            write_checked(path, canonical_json(outcome.document()))


def gather(step: Step, outcomes: Mapping[str, StepOutcome]) -> Inputs:
    """A step's inputs from the outcomes of the steps that it needs, all of which are done."""
    artifacts: dict[str, Artifact] = {}
    byproducts: dict[str, object] = {}
    for port, source in step.inputs.items():
        outcome = outcomes[source.step]
        if source.output in outcome.outputs:
            artifacts[port] = outcome.outputs[source.output]
        else:
            byproducts[port] = outcome.byproducts[source.output]
    return Inputs(artifacts=artifacts, byproducts=byproducts)


def step_key(plan: Plan, step: Step, inputs: Inputs) -> str:
    """The cache key of a step with these inputs."""
    return plan.key(step, {port: artifact.digest for port, artifact in inputs.artifacts.items()})


def settled(plan: Plan, cache: StepCache) -> dict[str, StepOutcome]:
    """The steps whose outcome is known before anything runs: those in the cache whose needs are settled, too."""
    found: dict[str, StepOutcome] = {}
    for step in plan.steps:
        if all(need in found for need in step.needs):
            outcome = cache.find(step, step_key(plan, step, gather(step, found)))
            if outcome is not None:
                found[step.id] = outcome
    return found
