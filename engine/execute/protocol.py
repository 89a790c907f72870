"""What an executor is given, what it gives back, and what it says meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from engine.plan.model import Plan
from engine.steps.model import Artifact

Status = Literal["ran", "cached", "skipped", "failed"]


@dataclass(frozen=True, kw_only=True, slots=True)
class StepOutcome:
    """What became of a step.

    ``outputs`` are its artifacts; ``byproducts`` plain JSON that is no identity; ``error`` the document of what went
    wrong; ``log`` what it printed; ``usage`` seconds and bytes, the process and the host.
    """

    id: str
    kind: str
    status: Status
    key: str = ""
    outputs: Mapping[str, Artifact] = field(default_factory=dict)
    byproducts: Mapping[str, Any] = field(default_factory=dict)
    error: Mapping[str, Any] | None = None
    log: str = ""
    seconds: float = 0.0
    usage: Mapping[str, Any] = field(default_factory=dict)

    @property
    def done(self) -> bool:
        """Whether later steps can use its outputs."""
        return self.status in ("ran", "cached")

    @property
    def verdict(self) -> Mapping[str, Any] | None:
        """A measuring gate's verdict."""
        found: Mapping[str, Any] | None = self.byproducts.get("verdict")
        return found

    def document(self) -> dict[str, Any]:
        """As JSON; :func:`outcome_from` reads it back."""
        return {
            "id": self.id,
            "kind": self.kind,
            "status": self.status,
            "key": self.key,
            "outputs": {name: artifact.document() for name, artifact in self.outputs.items()},
            "byproducts": dict(self.byproducts),
            "error": dict(self.error) if self.error is not None else None,
            "log": self.log,
            "seconds": self.seconds,
            "usage": dict(self.usage),
        }


def outcome_from(document: Mapping[str, Any]) -> StepOutcome:
    """The outcome that :meth:`StepOutcome.document` described."""
    outputs = {name: Artifact(**artifact) for name, artifact in document["outputs"].items()}
    return StepOutcome(**{**document, "outputs": outputs})


@dataclass(frozen=True, kw_only=True, slots=True)
class StepEvent:
    """Something that happens: a step has started, or is over with an outcome.

    With an empty ``id`` it is about the whole run, which has begun. A step or a run ``waits`` for its ``holder``, who
    does the same.
    """

    id: str
    what: Literal["waits", "begun", "started", "over"]
    outcome: StepOutcome | None = None
    holder: str = ""


Report = Callable[[StepEvent], None]


def silent(_: StepEvent) -> None:
    """Listen to nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """A plan to carry out, and where.

    ``done`` are outcomes that are known already; ``fresh`` forbids the cache. ``root`` is the project's folder,
    ``source_roots`` the folders that its modules are imported from, ``modules`` those that the run was pinned with.
    """

    plan: Plan
    home: Path
    root: Path
    source_roots: tuple[Path, ...]
    modules: frozenset[str]
    done: Mapping[str, StepOutcome] = field(default_factory=dict)
    fresh: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Surroundings:
    """Where a run was asked for: the folder and the environment variables, which its steps have, too."""

    folder: str
    variables: Mapping[str, str]


class Executor(Protocol):
    """Carries out a plan. The inline one is the reference: every other gives the same artifacts, byte for byte."""

    @property
    def name(self) -> str:
        """As the record has it."""

    def execute(self, work: Work, report: Report) -> dict[str, StepOutcome]:
        """Every step's outcome, by id.

        A step that fails is an outcome; what needs it is skipped. Only interruption and the executor's own
        failure are raised.
        """
