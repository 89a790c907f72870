"""A record as the report that renderers take."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from engine.record.model import RunRecord
from engine.report.model import Report
from engine.store.objects import ObjectStore


def report_of(
    record: RunRecord, store: ObjectStore, document: Mapping[str, Any], written: tuple[str, ...] = ()
) -> Report:
    """The run's document with its evaluation, when there is one."""
    digest = record.summary.get("evaluation")
    evaluation = json.loads(store.read(digest)) if digest and store.has(digest) else None
    return Report(run=document, evaluation=evaluation, written=written)
