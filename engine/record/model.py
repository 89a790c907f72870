"""A run's record: the result of an execution, and the statement that says it for ever."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from engine.digest import canonical_json, sha256

if TYPE_CHECKING:
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
    git: GitState
    verdicts: tuple[Mapping[str, Any], ...] = ()
    overrides: tuple[str, ...] = ()
    host: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class RunRecord:
    """One execution of a run, as it was written. ``statement`` is the whole of it; the rest is read from there.

    A signature has its place round the statement, in a DSSE envelope beside it; nothing in it names a folder.
    """

    run_id: str
    execution: int
    statement: Mapping[str, Any]
    operation: Mapping[str, Any] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """The digest of the whole record."""
        return sha256(canonical_json(self.statement))

    @property
    def definition(self) -> Mapping[str, Any]:
        """What was to be done: identity, operation, pins."""
        found: Mapping[str, Any] = self.statement["predicate"]["buildDefinition"]
        return found

    @property
    def definition_digest(self) -> str:
        """The digest of what was to be done; see :func:`definition_digest`."""
        return definition_digest(self.statement)

    @property
    def subjects(self) -> dict[str, str]:
        """Every artifact that others may hold the run to: ``step/output`` -> SHA-256."""
        return {item["name"]: item["digest"]["sha256"] for item in self.statement["subject"]}

    @property
    def dependencies(self) -> dict[str, Mapping[str, Any]]:
        """Every pin by name: ``data/NAME``, ``model/REF``, ``code``, ``environment``."""
        return {item["name"]: item for item in self.definition["resolvedDependencies"]}

    @property
    def summary(self) -> dict[str, Any]:
        """The document of CONTRACT 2, as far as the record has it."""
        found: dict[str, Any] = self.byproduct("run")["annotations"]
        return found

    @property
    def steps(self) -> dict[str, dict[str, Any]]:
        """Each step's outcome by id, its log included."""
        found: dict[str, dict[str, Any]] = self.byproduct("steps")["annotations"]
        return found

    @property
    def plan_digest(self) -> str:
        """The digest of the plan that was carried out; the plan itself lies in the store."""
        return str(self.byproduct("plan")["digest"]["sha256"])

    def byproduct(self, name: str) -> dict[str, Any]:
        """What the record says beside the definition."""
        byproducts = self.statement["predicate"]["runDetails"]["byproducts"]
        found: dict[str, Any] = next(item for item in byproducts if item["name"] == name)
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


def definition_digest(statement: Mapping[str, Any]) -> str:
    """The digest of a statement's definition, in which there is no time, no host and no place.

    Two machines that are to do the same, with the same operation, have the same one: of the pins only names and
    digests count. The digest of the whole record tells two executions apart.
    """
    definition = statement["predicate"]["buildDefinition"]
    pins = [{"name": item["name"], "digest": item["digest"]} for item in definition["resolvedDependencies"]]
    return sha256(canonical_json({**definition, "resolvedDependencies": pins}))
