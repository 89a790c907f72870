"""What is installed that a spec may name, for those who list it: plugins by their source, metrics by their names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from engine.errors import EngineError
from engine.plugins import Description, describe, installed, names
from engine.spec.vocabulary import METRICS


def known_metrics() -> tuple[str, ...]:
    """Engine's metrics and those of plugins."""
    return tuple(sorted({*METRICS, *names("metric")}))


def known_plugins() -> Iterator[Description]:
    """The installed plugins whose source can be read."""
    for reference in installed():
        with suppress(EngineError):
            yield describe(reference)
