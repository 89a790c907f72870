"""The columns of some rows as a batch has them: inputs that may come packed lie side by side in one matrix.

A request of thirty columns in one tensor is taken over, joined to others, checked and logged as one array; it is taken
apart once for each call of the model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

import numpy as np

from engine.serve.model import AnyArray


@dataclass(frozen=True, slots=True)
class Layout:
    """Which inputs lie in which array: ``packs`` are the columns of each matrix, ``places`` where each input is.

    An input that is not in a matrix has an array of its own, under its name, and no index.
    """

    packs: Mapping[str, tuple[str, ...]]
    places: Mapping[str, tuple[str, int | None]]
    keys: AbstractSet[str] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "keys", {key: None for key, _ in self.places.values()}.keys())


class Columns(Mapping[str, AnyArray]):
    """An array (rows, ...) for each input, by its name."""

    __slots__ = ("arrays", "layout")

    def __init__(self, arrays: dict[str, AnyArray], layout: Layout) -> None:
        self.arrays = arrays
        self.layout = layout

    def __getitem__(self, name: str) -> AnyArray:
        key, index = self.layout.places[name]
        return self.arrays[key] if index is None else self.arrays[key][:, index : index + 1]

    def __iter__(self) -> Iterator[str]:
        return iter(self.layout.places)

    def __len__(self) -> int:
        return len(self.layout.places)

    def beside(self, names: Sequence[str]) -> AnyArray:
        """Some columns (rows, 1) side by side, (rows, k)."""
        key = self.layout.places[names[0]][0]
        if self.layout.packs.get(key) == names:
            return self.arrays[key]
        return np.concatenate([self[name] for name in names], axis=1)

    def apart(self, without: frozenset[str] = frozenset()) -> dict[str, AnyArray]:
        """Each input's array by itself, contiguous, but for some."""
        found: dict[str, AnyArray] = {}
        for key, array in self.arrays.items():
            names = self.layout.packs.get(key)
            if names is None:
                if key not in without:
                    found[key] = array
            elif not without.issuperset(names):
                rows = len(array)
                turned = array.T if rows == 1 else np.ascontiguousarray(array.T)
                each = zip(names, turned.reshape(len(names), rows, 1), strict=True)
                found.update((name, one) for name, one in each if name not in without)
        return found


def joined(parts: Sequence[Columns]) -> Columns:
    """The rows of several, one after the other."""
    if len(parts) == 1:
        return parts[0]
    arrays = {key: np.concatenate([part.arrays[key] for part in parts]) for key in parts[0].arrays}
    return Columns(arrays, parts[0].layout)
