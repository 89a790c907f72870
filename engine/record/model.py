"""A run's record: the result of an execution, and the statement that says it for ever."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from engine.digest import canonical_json, sha256
from engine.execute.protocol import StepOutcome
from engine.plan.model import Plan
from engine.resolve.model import GitState, ResolvedSpec

RunStatus = Literal["passed", "refused", "failed"]
STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "urn:mlops-engine:run-spec:v1"


@dataclass(frozen=True, kw_only=True, slots=True)
class RunResult:
    """What happened: every step's outcome, when, and by what. ``started`` and ``finished`` are ISO 8601 in UTC."""

    resolved: ResolvedSpec
    plan: Plan
    outcomes: Mapping[str, StepOutcome]
    executor: str
    started: str
    finished: str
    seconds: float
    git: GitState = GitState()
    verdicts: tuple[Mapping[str, Any], ...] = ()
    overrides: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class RunRecord:
    """One execution of a run, as it was written. ``statement`` is the whole of it; the rest is read from there."""

    run_id: str
    execution: int
    statement: Mapping[str, Any]
    operation: Mapping[str, Any] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """The digest of the whole record."""
        return sha256(canonical_json(self.statement))

    @property
    def summary(self) -> dict[str, Any]:
        """The document of CONTRACT 2, as far as the record has it."""
        byproducts = self.statement["predicate"]["runDetails"]["byproducts"]
        found: dict[str, Any] = next(item["annotations"] for item in byproducts if item["name"] == "run")
        return found

    @property
    def status(self) -> RunStatus:
        """``passed``, ``refused`` or ``failed``."""
        status: RunStatus = self.summary["status"]
        return status

    @property
    def answers(self) -> bool:
        """Whether this execution speaks for the run: it passed, or was refused by more than a measurement."""
        if self.status == "passed":
            return True
        refusing = [gate for gate in self.summary["gates"] if not gate["passed"] and gate["level"] == "refuse"]
        return self.status == "refused" and not all(gate["measured"] for gate in refusing)
