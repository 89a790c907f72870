"""A history as OpenLineage run events (https://openlineage.io/spec/2-0-2/OpenLineage.json)."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

from engine.lake.uri import parse
from engine.record.model import RunRecord
from engine.record.store import RecordStore
from engine.record.trace import Node

SCHEMA = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent"
FACETS = "https://openlineage.io/spec/facets"
PRODUCER = "urn:mlops-engine"
NAMESPACE = "mlops-engine"
EVENT_TYPES = {"passed": "COMPLETE", "refused": "COMPLETE", "failed": "FAIL"}


def events(node: Node, records: RecordStore) -> list[dict[str, Any]]:
    """One event for each run in a history, the oldest first."""
    found = [records.latest(run) for run in sorted(runs_in(node))]
    return sorted((event(record) for record in found if record is not None), key=lambda item: str(item["eventTime"]))


def runs_in(node: Node) -> set[str]:
    """The ids of all runs in a history."""
    found = {node.id} if node.kind == "run" else set()
    for _, other in (*node.up, *node.down):
        found |= runs_in(other)
    return found


def event(record: RunRecord) -> dict[str, Any]:
    """The end of a run: its job, what it read and what it made."""
    summary = record.summary
    return {
        "eventType": EVENT_TYPES[record.status],
        "eventTime": record.statement["predicate"]["runDetails"]["metadata"]["finishedOn"],
        "run": {
            "runId": str(run_uuid(record)),
            "facets": {
                "engine_run": {
                    **facet("engine_run"),
                    "runId": record.run_id,
                    "execution": record.execution,
                    "status": record.status,
                    "metrics": summary["metrics"],
                    "recordDigest": f"sha256:{record.digest}",
                }
            },
        },
        "job": {"namespace": NAMESPACE, "name": summary["name"], "facets": job_facets(record)},
        "inputs": list(inputs(record)),
        "outputs": list(outputs(record)),
        "producer": PRODUCER,
        "schemaURL": SCHEMA,
    }


def run_uuid(record: RunRecord) -> uuid.UUID:
    """A UUID for an execution, which OpenLineage asks for; the same for the same execution everywhere."""
    return uuid.uuid5(uuid.NAMESPACE_URL, f"{PRODUCER}:run:{record.run_id}:{record.execution}:{record.digest}")


def facet(name: str, version: str = "1-0-0") -> dict[str, str]:
    """What every facet has."""
    return {"_producer": PRODUCER, "_schemaURL": f"{FACETS}/{version}/{name}.json"}


def job_facets(record: RunRecord) -> dict[str, Any]:
    """The code behind a run: by digest always, by git commit where there is one."""
    code = record.dependencies["code"]
    facets: dict[str, Any] = {
        "engine_code": {**facet("engine_code"), "digest": f"sha256:{code['digest']['sha256']}"},
        "jobType": {
            **facet("JobTypeJobFacet", "2-0-3"),
            "processingType": "BATCH",
            "integration": "ENGINE",
            "jobType": "RUN",
        },
    }
    commit = code["annotations"].get("commit")
    if commit:
        facets["engine_code"].update(gitCommit=commit, dirty=code["annotations"].get("dirty"))
    return facets


def inputs(record: RunRecord) -> Iterator[dict[str, Any]]:
    """The data that a run read, each at its commit."""
    for name, pin in record.dependencies.items():
        if name.startswith("data/"):
            uri = parse(pin["uri"])
            version = {**facet("DatasetVersionDatasetFacet", "1-0-1"), "datasetVersion": pin["annotations"]["commit"]}
            content = {**facet("engine_content"), "digest": f"sha256:{pin['digest']['sha256']}"}
            yield {
                "namespace": f"lakefs://{uri.repository}",
                "name": uri.path or "/",
                "facets": {"version": version, "engine_content": content},
            }


def outputs(record: RunRecord) -> Iterator[dict[str, Any]]:
    """The artifacts that a run made; the model by its version, where it has one."""
    model = record.summary["model"]
    for name, digest in record.subjects.items():
        label = digest
        if name == "export/model" and model["version"] is not None:
            label = str(model["version"])
        version = {**facet("DatasetVersionDatasetFacet", "1-0-1"), "datasetVersion": label}
        content = {**facet("engine_content"), "digest": f"sha256:{digest}"}
        yield {
            "namespace": f"{NAMESPACE}/{record.summary['name']}",
            "name": name,
            "facets": {"version": version, "engine_content": content},
        }
