"""Whole rows as points: what the detectors look at that judge all features at once."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from engine.plugins import Feature
from engine_plugins.drift.columns import SingleArray, codes, described, require_seen, restored, with_holes
from engine_plugins.drift.online import frequent


@dataclass(frozen=True, kw_only=True, slots=True)
class Encoding:
    """How rows become points of the same width.

    A number becomes one coordinate of mean 0 and variance 1 in the reference, 0 where there is none. A category
    becomes one coordinate for each of the reference's most frequent ones and one for the others, all 0 where there
    is none. ``known`` has ``[mean, 1 / deviation]`` of a numeric feature and the frequent categories of another.
    """

    features: tuple[Feature, ...]
    known: Mapping[str, Sequence[Any]]

    def points(self, rows: pa.Table) -> SingleArray:
        """The points of rows, float32 of shape (rows, width).

        Raises:
            PluginFailed: when a feature is missing, or of another type.
        """
        return np.concatenate([self.coordinates(rows, feature) for feature in self.features], axis=1)

    def coordinates(self, rows: pa.Table, feature: Feature) -> SingleArray:
        """The coordinates of one feature, (rows, 1) or (rows, categories + 1)."""
        known = self.known[feature.name]
        if feature.role == "numeric":
            values = (with_holes(rows, feature).astype(np.float64) - known[0]) * known[1]
            return np.asarray(np.nan_to_num(values, nan=0.0), dtype=np.float32)[:, None]
        at = codes(rows, feature, known)
        return np.asarray(np.arange(len(known) + 1) == at[:, None]).astype(np.float32)

    def document(self) -> dict[str, object]:
        """The same as JSON."""
        return {"features": described(self.features), "known": {name: list(item) for name, item in self.known.items()}}


def encoding_of(reference: pa.Table, features: Sequence[Feature]) -> Encoding:
    """How rows are encoded by a reference.

    Raises:
        PluginFailed: for a feature without any value there.
    """
    return Encoding(features=tuple(features), known={item.name: known_of(reference, item) for item in features})


def stored_encoding(parameters: Mapping[str, Any]) -> Encoding:
    """What :meth:`Encoding.document` wrote into a detector's parameters."""
    return Encoding(features=restored(parameters), known=parameters["known"])


def known_of(reference: pa.Table, feature: Feature) -> Sequence[Any]:
    """What is to be known of a feature."""
    if feature.role == "categorical":
        return frequent(reference, feature)
    values = with_holes(reference, feature).astype(np.float64)
    values = values[~np.isnan(values)]
    require_seen(feature, len(values))
    deviation = float(values.std())
    return float(values.mean()), 1 / deviation if deviation > 0 else 0.0


def in_order(points: SingleArray, most: int, seed: int) -> SingleArray:
    """At most ``most`` of the points, sorted: what is drawn, and what is done next, depends on no order of rows."""
    ordered: SingleArray = points[np.lexsort(points.T)]
    if len(ordered) <= most:
        return ordered
    drawn: SingleArray = ordered[np.sort(np.random.default_rng(seed).choice(len(ordered), most, replace=False))]
    return drawn


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Inside, numpy's global random numbers, which alibi-detect draws, begin at ``seed``; afterwards they go on."""
    before = np.random.get_state()
    np.random.seed(seed % 2**32)
    try:
        yield
    finally:
        np.random.set_state(before)


def aligned(points: SingleArray) -> SingleArray:
    """The same points where PyTorch would put them: what its matrix products are in their last bits depends on that."""
    import torch

    found: SingleArray = torch.tensor(points).numpy()
    return found


@contextlib.contextmanager
def torch_seeded(seed: int) -> Iterator[None]:
    """The same of PyTorch's random numbers."""
    import torch

    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        yield
