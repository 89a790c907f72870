"""A registered version as a plugin of the kind ``publisher`` takes it."""

from __future__ import annotations

import json

from engine.errors import NotFound
from engine.plugins import Publication
from engine.record.store import RecordStore
from engine.registry.model import ModelVersion
from engine.registry.protocol import Registry
from engine.report.model_card import model_card, newest_record
from engine.store.objects import ObjectStore


def publication(version: ModelVersion, registry: Registry, records: RecordStore, store: ObjectStore) -> Publication:
    """Everything of a version that another system may want.

    Raises:
        NotFound: when its model, its package or its record is gone.
        DigestMismatch: when the model or the package is not what was registered.
    """
    record = newest_record(version, records)
    if record is None:
        raise NotFound("record of", str(version), hint="`engine verify` says what became of it")
    package = json.loads(store.read(version.package))
    return Publication(
        name=version.name,
        version=version.version,
        digest=version.digest,
        onnx=store.read(version.digest),
        signature=package["signature"],
        schema=package["schema"],
        metrics=record.summary["metrics"],
        provenance=record.statement,
        card=model_card(version, registry, records, store),
        aliases=version.aliases,
        tags={**registry.tags(version.name), **version.tags},
        description="\n\n".join(filter(None, (registry.description(version.name), version.description))),
    )
