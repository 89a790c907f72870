"""How a model is served, as its run's newest operation says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """The part ``serve`` of an operation. ``deadline`` is in seconds; ``canary`` and ``sample`` are shares of 1."""

    max_batch_rows: int = 256
    max_queue: int = 1024
    deadline: float = 1.0
    unknown_category: str = "refuse"
    workers: int = 1
    canary: float = 0.0
    shadow: bool = False
    sample: float = 1.0
    redact: tuple[str, ...] = ()
    fsync: str = "group"


def settings_of(operation: Mapping[str, Any]) -> Settings:
    """The settings in a recorded operation; what it does not say has its default."""
    serve = operation.get("serve") or {}
    log = serve.get("log") or {}
    canary = serve.get("canary") or {}
    plain = {name: serve[name] for name in PLAIN if serve.get(name) is not None}
    logged = {name: log[name] for name in LOGGED if log.get(name) is not None}
    return Settings(
        **plain, **logged, redact=tuple(log.get("redact") or ()), canary=float(canary.get("traffic") or 0.0)
    )


PLAIN = ("max_batch_rows", "max_queue", "deadline", "unknown_category", "workers", "shadow")
LOGGED = ("sample", "fsync")
