"""What a person calls a run: the beginning of its id, or a model that it made."""

from __future__ import annotations

import re

from engine.errors import NotFound
from engine.record.store import RecordStore
from engine.registry.model import ModelRef
from engine.registry.protocol import Registry

DIGITS = re.compile(r"[0-9a-f]+")


def runs_of(name: str, records: RecordStore, registry: Registry) -> list[str]:
    """The run whose id begins with ``name``; or the runs that made a model: ``NAME``, ``NAME@ALIAS``, ``NAME:VERSION``.

    Raises:
        NotFound: when it means neither.
        UsageError: when it begins several run ids, or is too short to tell.
    """
    models = registry.models()
    if "@" in name or ":" in name or name in models:
        return list(registry.get(ModelRef.parse(name)).runs)
    if DIGITS.fullmatch(name) is None:
        raise NotFound("run or model", name, models, hint="" if models else "`engine runs list` shows the runs")
    return [records.find(name)]
