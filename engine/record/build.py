"""The result of an execution -> its statement. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from engine.digest import digest_of, plain, prefixed
from engine.execute.protocol import StepOutcome
from engine.record.model import BUILD_TYPE, PREDICATE, STATEMENT, RunResult, RunStatus

SHOWN_AS = {"ran": "ran", "cached": "cached", "skipped": "skipped", "failed": "failed"}


def build(result: RunResult, version: str) -> dict[str, Any]:
    """The in-toto statement of an execution, with an SLSA provenance predicate.

    ``externalParameters`` are the run's identity and nothing else; ``internalParameters`` its operation;
    ``resolvedDependencies`` every pin; ``byproducts`` the summary, each step's outcome, the plan by digest, and facts
    about the host. The subjects are the artifacts by step and output. A signature has its place
    round the statement, in a DSSE envelope.
    """
    resolved = result.resolved
    statement = {
        "_type": STATEMENT,
        "subject": [subject(name, digest) for name, digest in artifacts(result)],
        "predicateType": PREDICATE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": dict(resolved.identity),
                "internalParameters": dict(resolved.operation),
                "resolvedDependencies": list(dependencies(result)),
            },
            "runDetails": {
                "builder": {"id": "urn:mlops-engine", "version": {"mlops-engine": version}},
                "metadata": {
                    "invocationId": resolved.run_id,
                    "startedOn": result.started,
                    "finishedOn": result.finished,
                },
                "byproducts": [
                    {"name": "run", "annotations": summary(result)},
                    {
                        "name": "steps",
                        "annotations": {step.id: outcome_document(result, step.id) for step in result.plan.steps},
                    },
                    {"name": "plan", "digest": {"sha256": digest_of(result.plan.document())}},
                    {"name": "host", "annotations": dict(result.host)},
                ],
            },
        },
    }
    found = plain(statement)
    assert isinstance(found, dict)
    return found


def subject(name: str, digest: str) -> dict[str, Any]:
    """A resource descriptor."""
    return {"name": name, "digest": {"sha256": digest}}


def artifacts(result: RunResult) -> Iterator[tuple[str, str]]:
    """Every artifact of the run that others may hold to account: ``step/output`` and its digest.

    Private ones (native models, sealed for this home) are no subjects.
    """
    for step in result.plan.steps:
        for name, artifact in sorted(result.outcomes[step.id].outputs.items()):
            if artifact.media != "private":
                yield f"{step.id}/{name}", artifact.digest


def dependencies(result: RunResult) -> Iterator[dict[str, Any]]:
    """Every pin: data, schemas inside the identity, baselines, code, environment."""
    resolved = result.resolved
    for name, pin in sorted(resolved.answers.data.items()):
        yield {
            "name": f"data/{name}",
            "uri": pin.uri,
            "digest": {"sha256": pin.digest},
            "annotations": {
                "commit": pin.commit,
                "format": pin.format,
                "files": len(pin.files),
                "bytes": sum(file.size for file in pin.files),
            },
        }
    for ref, model in sorted(resolved.answers.models.items()):
        if model.digest is not None:
            yield {
                "name": f"model/{ref}",
                "digest": {"sha256": model.digest},
                "annotations": {"version": model.version},
            }
    yield {
        "name": "code",
        "digest": {"sha256": resolved.identity["code"]},
        "annotations": {"commit": result.git.commit, "dirty": result.git.dirty, "modules": resolved.modules},
    }
    yield {
        "name": "environment",
        "digest": {"sha256": resolved.identity["environment"]},
        "annotations": resolved.environment,
    }


def status_of(result: RunResult) -> RunStatus:
    """What came of the run as a whole."""
    if any(not outcome.done for outcome in result.outcomes.values()):
        return "failed"
    refused = [gate for gate in gates(result) if not gate["passed"] and gate["level"] == "refuse"]
    return "refused" if refused else "passed"


def gates(result: RunResult) -> list[dict[str, Any]]:
    """Every verdict in the order of the spec, with the gate's level and whether a clock decided it."""
    levels = {gate.title: gate.level for gate in result.resolved.spec.evaluate.gates}
    return [
        {**verdict, "level": levels[verdict["name"]], "measured": bool(verdict.get("measured", False))}
        for verdict in result.verdicts
    ]


def summary(result: RunResult) -> dict[str, Any]:
    """The document that `engine run --json` prints."""
    resolved = result.resolved
    return {
        "run_id": resolved.run_id,
        "name": resolved.spec.name,
        "status": status_of(result),
        "executed": True,
        "model": model(result),
        "pins": pins(result),
        "metrics": metrics(result),
        "gates": gates(result),
        "steps": [step_document(result.outcomes[step.id]) for step in result.plan.steps],
        "seconds": result.seconds,
        "spec": resolved.shown,
        "overrides": list(result.overrides),
        "target": ", ".join(resolved.spec.targets),
        "executor": result.executor,
        "started": result.started,
        "error": first_error(result),
        "evaluation": evaluation_digest(result),
    }


def evaluation_digest(result: RunResult) -> str | None:
    """The artifact that holds metrics, slices and curves."""
    found = result.outcomes["evaluate"].outputs.get("evaluation")
    return found.digest if found else None


def model(result: RunResult) -> dict[str, Any]:
    """The model's name, its version when it was registered, and its digest when it was made."""
    registered = result.outcomes["register"].byproducts.get("version")
    made = result.outcomes["export"].outputs.get("model")
    return {
        "name": result.resolved.spec.name,
        "version": registered,
        "digest": prefixed(made.digest) if made else None,
    }


def pins(result: RunResult) -> dict[str, Any]:
    """Everything that the run is pinned to."""
    answers = result.resolved.answers
    return {
        "data": {
            name: {"uri": pin.uri, "commit": pin.commit, "digest": prefixed(pin.digest)}
            for name, pin in answers.data.items()
        },
        "models": {
            ref: {"version": pin.version, "digest": prefixed(pin.digest) if pin.digest else None}
            for ref, pin in answers.models.items()
        },
        "code": {
            "commit": result.git.commit,
            "dirty": result.git.dirty,
            "digest": prefixed(result.resolved.identity["code"]),
        },
        "environment": {
            "digest": prefixed(result.resolved.identity["environment"]),
            "python": answers.platform.python,
        },
    }


def metrics(result: RunResult) -> dict[str, Any]:
    """Every metric, and every other figure that a gate judged."""
    found = dict(result.outcomes["evaluate"].byproducts.get("metrics", {}))
    for verdict in result.verdicts:
        if verdict["metric"] not in found and verdict["value"] is not None:
            found[verdict["metric"]] = verdict["value"]
    return found


def step_document(outcome: StepOutcome) -> dict[str, Any]:
    """A step as the summary lists it."""
    digests = {name: artifact.digest for name, artifact in sorted(outcome.outputs.items())}
    digest = next(iter(digests.values()), None)
    return {
        "name": outcome.id,
        "kind": outcome.kind,
        "digest": prefixed(digest) if digest else None,
        "outputs": {name: prefixed(value) for name, value in digests.items()},
        "status": SHOWN_AS[outcome.status],
        "seconds": outcome.seconds,
    }


def outcome_document(result: RunResult, step: str) -> Mapping[str, Any]:
    """Everything known of a step, its log included."""
    return result.outcomes[step].document()


def first_error(result: RunResult) -> Mapping[str, Any] | None:
    """What the first failed step says went wrong, at the line of the spec that asked for it."""
    for step in result.plan.steps:
        error = result.outcomes[step.id].error
        if error is not None:
            return {**error, "place": error.get("spec") or error["place"], "raised_at": error["place"], "step": step.id}
    return None
