"""Compositions that were made before: what Hydra made of the same files and the same overrides.

A composition is kept where nothing but the files that it names, the overrides and what is installed can change it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from engine.spec.grounds import Shelf, grounds_from, holds
from engine.spec.parse import Composed
from engine.spec.positions import Layer, Positions, Spot


def composition_before(main: Path, shown: str, overrides: Sequence[str], shelf: Shelf, root: Path) -> Composed | None:
    """What was composed of the spec ``main``, which messages call ``shown``, if all of it is still as it was."""
    known = shelf.take(question(main, shown, overrides))
    with suppress(LookupError, TypeError, ValueError):
        if known is not None and holds(grounds_from(known["grounds"]), root):
            return composed_from(known)
    return None


def keep_composition(composed: Composed, main: Path, shown: str, overrides: Sequence[str], shelf: Shelf) -> None:
    """Keep ``composed`` for the next time, if it can be known then that it is still right."""
    if composed.problems or not composed.repeatable:
        return
    data = json.dumps(as_document(composed)).encode()
    if composed_from(json.loads(data)) == composed:  # JSON has no keys but texts
        shelf.put(question(main, shown, overrides), data)


def question(main: Path, shown: str, overrides: Sequence[str]) -> list[object]:
    """What is asked: of which file, as messages name it, with which overrides."""
    return ["composition", str(main), shown, list(overrides)]


def as_document(composed: Composed) -> dict[str, Any]:
    """A composition as JSON can say it."""
    return {
        "values": composed.values,
        "origin": list(composed.origin.items()),
        "layers": [[layer.name, layer.prefix, rows(layer.spots)] for layer in composed.positions.layers],
        "files": [str(path) for path in composed.files],
        "grounds": composed.grounds.document(),
    }


def rows(spots: Mapping[Any, Spot]) -> list[Any]:
    """Spots, a row each."""
    return [[path, *spot.key, *spot.value] for path, spot in spots.items()]


def composed_from(document: Mapping[str, Any]) -> Composed:
    """The composition that :func:`as_document` wrote."""
    layers = tuple(
        Layer(name=name, prefix=tuple(prefix), spots={tuple(row[0]): spot(row) for row in found})
        for name, prefix, found in document["layers"]
    )
    return Composed(
        values=document["values"],
        origin={tuple(new): tuple(old) for new, old in document["origin"]},
        positions=Positions(layers=layers),
        files=tuple(Path(path) for path in document["files"]),
        grounds=grounds_from(document["grounds"]),
    )


def spot(row: Sequence[Any]) -> Spot:
    """The spot in a row."""
    return Spot(key=(row[1], row[2]), value=(row[3], row[4]))
