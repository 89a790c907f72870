"""The tensors of a request -> an array (rows, ...) for each input of the model.

A column may come as ``[rows, 1]`` or as ``[rows]``, and with another numeric datatype that the input can hold. All
numeric columns may also come packed, as one tensor ``numeric`` of shape ``[rows, columns]`` in the order of the
metadata, and all columns of text as one tensor ``categorical``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from engine.errors import suggestion
from engine.serve.columns import Columns, Layout
from engine.serve.model import DTYPES, AnyArray, Rejected, Tensor

PACKED: Mapping[str, str] = {"FP32": "numeric", "FP64": "numeric", "BYTES": "categorical"}


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a model takes: its inputs by name, and the columns behind each packed tensor.

    ``varies``: rows may have different shapes from request to request.
    """

    tensors: Mapping[str, Tensor]
    packs: Mapping[str, tuple[Tensor, ...]]
    varies: bool
    layout: Layout

    def arrays(self, given: dict[str, AnyArray]) -> tuple[Columns, int]:
        """The arrays of a request in the model's own shapes and datatypes, and how many rows they have.

        Raises:
            Rejected: naming the tensor, what was expected and what came.
        """
        if given.keys() == self.layout.packs.keys() == self.layout.keys:
            whole = self._as_they_came(given)
            if whole is not None:
                return whole
        found, rows = self._each(given)
        arrays = {
            key: found[key] if (names := self.layout.packs.get(key)) is None else side_by_side(found, names)
            for key in self.layout.keys
        }
        return Columns(arrays, self.layout), rows

    def _as_they_came(self, given: dict[str, AnyArray]) -> tuple[Columns, int] | None:
        """Packed tensors that are what a batch has; nothing when anything about them is to be looked at."""
        rows = 0
        for name, array in given.items():
            columns = self.packs[name]
            if array.ndim != 2 or array.shape[1] != len(columns) or array.dtype != DTYPES[columns[0].datatype]:
                return None
            if not len(array) or (rows and len(array) != rows):
                return None
            rows = len(array)
        return Columns(given, self.layout), rows

    def _each(self, given: dict[str, AnyArray]) -> tuple[dict[str, AnyArray], int]:
        """An array for each input."""
        unpacked = given if given.keys() <= self.tensors.keys() else self.unpacked(given)
        found: dict[str, AnyArray] = {}
        rows = -1
        for name, tensor in self.tensors.items():
            array = unpacked.get(name)
            if array is None:
                raise Rejected(400, f'tensor "{name}": expected {tensor}, received none')
            if array.dtype != DTYPES[tensor.datatype] or array.ndim != len(tensor.shape):
                array = fitted(array, tensor)
            for want, have in zip(tensor.shape[1:], array.shape[1:], strict=True):
                if want not in (-1, have):
                    raise wrong(tensor, array)
            if rows == -1:
                rows = len(array)
            elif len(array) != rows:
                first = next(iter(self.tensors))
                raise Rejected(400, f'tensor "{name}": expected {rows} rows as "{first}" has, received {len(array)}')
            found[name] = array
        if rows < 1:
            raise Rejected(400, "the request has no rows")
        return found, rows

    def unpacked(self, given: dict[str, AnyArray]) -> dict[str, AnyArray]:
        """The tensors with packed ones taken apart.

        Raises:
            Rejected: for a tensor that is no input, a packed one of another width, or a column that came twice.
        """
        found: dict[str, AnyArray] = {}
        for name, array in given.items():
            if name in self.tensors:
                found[name] = array
                continue
            columns = self.packs.get(name)
            if columns is None:
                known = [*self.tensors, *self.packs]
                raise Rejected(400, f'the model has no input "{name}"', hint=suggestion(name, known))
            if array.ndim != 2 or array.shape[1] != len(columns):
                expected = f"{columns[0].datatype} [-1, {len(columns)}]"
                raise Rejected(400, f'tensor "{name}": expected {expected}, received {list(array.shape)}')
            for index, tensor in enumerate(columns):
                found[tensor.name] = array[:, index : index + 1]
        twice = [
            column.name for name in given if name in self.packs for column in self.packs[name] if column.name in given
        ]
        if twice:
            raise Rejected(400, f'tensor "{twice[0]}": it is given twice, by itself and packed')
        return found


def inputs_of(tensors: Sequence[Tensor]) -> Inputs:
    """What a model with these inputs takes."""
    names = {tensor.name for tensor in tensors}
    packs: dict[str, list[Tensor]] = {}
    for tensor in tensors:
        name = PACKED.get(tensor.datatype)
        if name is not None and name not in names and tensor.shape == (-1, 1):
            packs.setdefault(name, []).append(tensor)
    whole = {name: columns for name, columns in packs.items() if len({column.datatype for column in columns}) == 1}
    return Inputs(
        {tensor.name: tensor for tensor in tensors},
        {name: tuple(columns) for name, columns in whole.items()},
        any(-1 in tensor.shape[1:] for tensor in tensors),
        layout_of(tensors, whole),
    )


def layout_of(tensors: Sequence[Tensor], packs: Mapping[str, Sequence[Tensor]]) -> Layout:
    """Where a batch has each input."""
    places: dict[str, tuple[str, int | None]] = {tensor.name: (tensor.name, None) for tensor in tensors}
    for pack, columns in packs.items():
        places |= {tensor.name: (pack, index) for index, tensor in enumerate(columns)}
    return Layout({pack: tuple(tensor.name for tensor in columns) for pack, columns in packs.items()}, places)


def side_by_side(found: Mapping[str, AnyArray], names: Sequence[str]) -> AnyArray:
    """Columns (rows, 1) as one matrix."""
    return np.concatenate([found[name] for name in names], axis=1)


def fitted(array: AnyArray, tensor: Tensor) -> AnyArray:
    """An array in the shape and datatype of an input.

    Raises:
        Rejected: when it has another shape, or a datatype that the input cannot hold.
    """
    if array.ndim != len(tensor.shape):
        if array.ndim != 1 or tensor.shape != (-1, 1):
            raise wrong(tensor, array)
        array = array.reshape(-1, 1)
    dtype = np.dtype(DTYPES[tensor.datatype])
    if array.dtype == dtype:
        return array
    is_wider = dtype.kind == "f" and array.dtype.kind in "iuf"
    if not (is_wider or (dtype.kind in "iu" and array.dtype.kind in "iu")):
        raise wrong(tensor, array)
    with np.errstate(over="ignore"):
        narrowed = array.astype(dtype)
    same = np.isfinite(narrowed) == np.isfinite(array) if is_wider else narrowed == array
    if not same.all():
        raise Rejected(400, f'tensor "{tensor.name}": expected {tensor.datatype}, received a number out of its range')
    return narrowed


def wrong(tensor: Tensor, array: AnyArray) -> Rejected:
    """The answer to a tensor of another shape or datatype."""
    kind = next((name for name, dtype in DTYPES.items() if array.dtype == dtype), str(array.dtype))
    return Rejected(400, f'tensor "{tensor.name}": expected {tensor}, received {kind} {list(array.shape)}')
