r"""A model that puts its inputs side by side first -> the same model that takes them side by side.

::

    f0 --\                                  numbers --> TreeEnsemble
    f1 ---> Concat --> TreeEnsemble   ==>
    f2 --/

A model has an input for each feature, so that a request can name them; ONNX Runtime takes longer to receive thirty of
them than to answer one row of a forest. What is served is made from the bytes whose digest was checked, and gives the
same bits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

MOST_BYTES = 256 << 20
JOIN = "Concat"


@dataclass(frozen=True, kw_only=True, slots=True)
class Folded:
    """A model, and for each input that it has instead the inputs that it takes side by side."""

    model: bytes
    packs: Mapping[str, tuple[str, ...]]


def folded(model: bytes) -> Folded | None:
    """The model without the operators that only put its inputs side by side; nothing where there is none."""
    if len(model) > MOST_BYTES or JOIN.encode() not in model:
        return None
    import onnx
    from google.protobuf.message import DecodeError

    try:
        whole = onnx.load_from_string(model)
    except DecodeError:
        return None
    graph = whole.graph
    joins = {node.output[0]: node for node in joins_of(graph)}
    if not joins:
        return None
    inputs = {item.name: item for item in graph.input}
    packs = {name: tuple(node.input) for name, node in joins.items()}
    gone = {name for names in packs.values() for name in names}
    for node in joins.values():
        graph.node.remove(node)
    kept = [item for item in graph.input if item.name not in gone]
    del graph.input[:]
    graph.input.extend(kept)
    for name, names in packs.items():
        kind = inputs[names[0]].type.tensor_type.elem_type
        graph.input.append(onnx.helper.make_tensor_value_info(name, kind, [None, len(names)]))
    return Folded(model=whole.SerializeToString(), packs=packs)


def joins_of(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """The operators that put inputs of one column and one type side by side, of which nothing else reads anything."""
    columns = {item.name: item.type.tensor_type.elem_type for item in graph.input if is_column(item)}
    reads = [name for node in graph.node for name in node.input]
    named = {item.name for item in graph.output}
    inner = any(attribute.HasField("g") or attribute.graphs for node in graph.node for attribute in node.attribute)
    for node in graph.node if not inner else ():
        names = list(node.input)
        if (
            node.op_type == JOIN
            and not node.domain
            and len(names) > 1
            and [attribute.i for attribute in node.attribute if attribute.name == "axis"] == [1]
            and all(name in columns and reads.count(name) == 1 for name in names)
            and len({columns[name] for name in names}) == 1
            and not named & {*names, *node.output}
        ):
            yield node


def is_column(item: onnx.ValueInfoProto) -> bool:
    """Whether an input has one column for any number of rows."""
    shape = item.type.tensor_type.shape.dim
    return len(shape) == 2 and shape[1].dim_value == 1 and not shape[0].dim_value
