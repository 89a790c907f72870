"""A plan: steps, what flows between them, and what each depends on. The same resolved spec gives the same bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from engine.digest import digest_of, manifest_digest, plain

if TYPE_CHECKING:
    from engine.spec.model import KeyPath


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """One output of an earlier step."""

    step: str
    output: str


@dataclass(frozen=True, kw_only=True, slots=True)
class StepResources:
    """What a step may use: cores (also its threads), bytes of memory, GPUs, seconds, and tries after the first."""

    cpus: int = 1
    memory: int | None = None
    gpus: int = 0
    timeout: float | None = None
    retries: int = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One node of the plan.

    ``params`` is plain JSON. ``code`` are the keys of the closures behind the step, ``modules`` and ``distributions``
    what those hold. ``key`` names the section of the spec that asked for it. A step that ``measures`` runs alone on
    the machine, and what it measures is a byproduct. A step with ``effects`` is executed in every run and never
    answered from the cache.
    """

    id: str
    kind: str
    params: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, Source] = field(default_factory=dict)
    outputs: tuple[str, ...] = ()
    code: tuple[str, ...] = ()
    modules: Mapping[str, str] = field(default_factory=dict)
    distributions: Mapping[str, str] = field(default_factory=dict)
    resources: StepResources = StepResources()
    key: KeyPath = ()
    measures: bool = False
    effects: bool = False

    @property
    def needs(self) -> tuple[str, ...]:
        """The steps that must be done before, each once."""
        return tuple(dict.fromkeys(source.step for source in self.inputs.values()))

    @property
    def definition(self) -> dict[str, Any]:
        """Everything that the step's result depends on, but its inputs: JSON."""
        return {
            "kind": self.kind,
            "params": self.params,
            "outputs": list(self.outputs),
            "code": manifest_digest(self.modules),
            "distributions": dict(self.distributions),
            "threads": self.resources.cpus,
        }

    def document(self) -> dict[str, Any]:
        """As JSON, with the digests of its sets of modules and distributions."""
        return {
            "id": self.id,
            "kind": self.kind,
            "params": plain(self.params),
            "inputs": {port: [source.step, source.output] for port, source in self.inputs.items()},
            "outputs": list(self.outputs),
            "modules": manifest_digest(self.modules),
            "distributions": manifest_digest(self.distributions),
            "threads": self.resources.cpus,
            "key": list(self.key),
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """Steps in an order in which each stands after all that it needs."""

    run_id: str
    name: str
    steps: tuple[Step, ...]
    platform: Mapping[str, str] = field(default_factory=dict)

    def step(self, id: str) -> Step:
        """The step with that id."""
        return next(step for step in self.steps if step.id == id)

    @property
    def digest(self) -> str:
        """The digest of all that is to be done."""
        return digest_of(
            [
                {**step.definition, "id": step.id, "inputs": {k: [s.step, s.output] for k, s in step.inputs.items()}}
                for step in self.steps
            ]
        )

    def document(self) -> dict[str, Any]:
        """The whole plan as JSON: what each step was, so that a later one can be told from it.

        Sets of modules and of distributions, which many steps share, stand in it once, by their digests.
        """
        return {
            "name": self.name,
            "platform": dict(self.platform),
            "modules": {manifest_digest(step.modules): dict(step.modules) for step in self.steps},
            "distributions": {manifest_digest(step.distributions): dict(step.distributions) for step in self.steps},
            "steps": [step.document() for step in self.steps],
        }

    def key(self, step: Step, inputs: Mapping[str, str]) -> str:
        """The cache key of a step: what it is, where it runs, and the digests of its inputs by port."""
        return digest_of({**step.definition, "platform": dict(self.platform), "inputs": dict(inputs)})


@dataclass(frozen=True, kw_only=True, slots=True)
class Draft:
    """A plan in the making: its steps so far, and which output stands for each data source by now."""

    steps: tuple[Step, ...] = ()
    tables: Mapping[str, Source] = field(default_factory=dict)

    def add(self, *steps: Step) -> Draft:
        """With more steps."""
        return replace(self, steps=(*self.steps, *steps))

    def point(self, source: str, at: Source) -> Draft:
        """With another output standing for a data source."""
        return replace(self, tables={**self.tables, source: at})
