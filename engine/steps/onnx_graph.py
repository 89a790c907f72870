"""ONNX graphs in one canonical form, and what Engine accepts in them.

skl2onnx orders and names what it writes by iterating sets, so the same model becomes other bytes from process to
process. Here every tensor is known by its meaning instead::

    hash(input)       = its name
    hash(constant)    = its type, shape and bytes
    hash(node.out[i]) = operator, attributes, hashes of the node's inputs, i

Tensors of one hash are one tensor; what no output needs is dropped; nodes stand in depth-first order from the
outputs and everything inside is named by that order. The names and the order of inputs and outputs stay.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import onnx
from google.protobuf.message import DecodeError
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto

from engine.digest import digest_of, sha256
from engine.errors import StepFailed

STANDARD_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml"})
RANDOM_OPERATORS = frozenset(
    {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
)
GRAPH_NAME = "model"
REEXPORT = "export the model with standard ONNX operators only"


def canonical(model: bytes) -> bytes:
    """The same model in its canonical form: equal for equal graphs, whatever order they were built in.

    Idempotent. Names, documentation, producer and metadata that no prediction depends on are dropped.

    Raises:
        StepFailed: for bytes that are no ONNX model, and for a graph that is not closed or has a cycle.
    """
    source = parsed(model)
    result = ModelProto(ir_version=source.ir_version)
    versions = {(entry.domain, entry.version) for entry in source.opset_import}
    result.opset_import.extend(onnx.helper.make_opsetid(domain, version) for domain, version in sorted(versions))
    result.functions.extend(source.functions)
    result.graph.CopyFrom(rebuilt(source.graph))
    return bytes(result.SerializeToString(deterministic=True))


def check(model: bytes) -> None:
    """Accept a model, or say why not.

    Raises:
        StepFailed: for what onnx's own checker refuses, weights outside the file, operators of domains other than
            ONNX's own, and operators that draw random numbers.
    """
    source = parsed(model)
    for tensor in tensors(source.graph):
        if tensor.data_location == TensorProto.EXTERNAL or tensor.external_data:
            fact = f'the weights of "{tensor.name}" are outside the ONNX file'
            raise StepFailed(fact, hint="export the model with its weights inside")
    for node in nodes(source.graph):
        if node.domain not in STANDARD_DOMAINS:
            raise StepFailed(f"the ONNX operator {node.domain}.{node.op_type} is not a standard one", hint=REEXPORT)
        if node.op_type in RANDOM_OPERATORS:
            fact = f"the ONNX operator {node.op_type} draws random numbers"
            raise StepFailed(fact, hint="a model must say the same each time it is asked")
    if source.functions:
        raise StepFailed(f"the ONNX file defines the function {source.functions[0].name}", hint=REEXPORT)
    try:
        onnx.checker.check_model(source)
    except onnx.checker.ValidationError as error:
        raise StepFailed(f"not a valid ONNX model: {str(error).strip().splitlines()[0]}", hint=REEXPORT) from error


def parsed(model: bytes) -> ModelProto:
    """The bytes as a model.

    Raises:
        StepFailed: when they are none, or hold sparse weights.
    """
    try:
        source = onnx.load_from_string(model)
    except DecodeError as error:
        raise StepFailed("these bytes are not an ONNX model", hint="export the model again") from error
    if not source.graph.output:
        raise StepFailed("the ONNX model has no outputs", hint="export the model again")
    if source.graph.sparse_initializer:
        raise StepFailed("the ONNX model has sparse weights", hint="export it with dense ones")
    return source


def subgraphs(node: NodeProto) -> Iterator[GraphProto]:
    """The graphs in a node's attributes, such as the body of a loop."""
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            yield attribute.g
        yield from attribute.graphs


def nodes(graph: GraphProto) -> Iterator[NodeProto]:
    """Every node, those of inner graphs too."""
    for node in graph.node:
        yield node
        for inner in subgraphs(node):
            yield from nodes(inner)


def tensors(graph: GraphProto) -> Iterator[TensorProto]:
    """Every constant, in weights and attributes, those of inner graphs too."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == AttributeProto.TENSOR:
                yield attribute.t
            yield from attribute.tensors
        for inner in subgraphs(node):
            yield from tensors(inner)


# -- what a tensor means -----------------------------------------------------------------------------------------


@dataclass(kw_only=True, slots=True)
class Meaning:
    """The hash of every tensor of a graph by its name, found when it is first asked for.

    ``outer`` are the tensors of the graphs round this one, which it may read.
    """

    graph: GraphProto
    outer: Mapping[str, str]
    depth: int
    hashes: dict[str, str] = field(default_factory=dict)
    producers: dict[str, NodeProto] = field(default_factory=dict)
    constants: dict[str, TensorProto] = field(default_factory=dict)


def meaning(graph: GraphProto, outer: Mapping[str, str], depth: int) -> Meaning:
    """Hash every tensor of ``graph``, whose nodes stand in topological order, as ONNX demands.

    Raises:
        StepFailed: when a node reads what nothing before it makes.
    """
    found = Meaning(graph=graph, outer=outer, depth=depth, hashes=dict(outer))
    for index, value in enumerate(graph.input):
        found.hashes[value.name] = digest_of(["input", value.name if depth == 0 else index, depth])
    for tensor in graph.initializer:
        found.constants[tensor.name] = tensor
        found.hashes.setdefault(tensor.name, digest_of(["constant", sha256(nameless(tensor))]))
    for node in graph.node:
        identity = node_hash(node, found)
        for index, name in enumerate(node.output):
            if name:
                found.hashes[name] = digest_of([identity, index])
                found.producers[name] = node
    for value in graph.output:
        known(value.name, found)
    return found


def node_hash(node: NodeProto, around: Meaning) -> str:
    """What a node computes: its operator, its attributes and what it reads."""
    attributes = [[item.name, attribute_hash(item, around)] for item in sorted(node.attribute, key=lambda a: a.name)]
    domain = "" if node.domain == "ai.onnx" else node.domain
    return digest_of([domain, node.op_type, attributes, [known(name, around) for name in node.input], len(node.output)])


def attribute_hash(attribute: AttributeProto, around: Meaning) -> str:
    """The value of an attribute; an inner graph by what its outputs mean."""
    graphs = [attribute.g] if attribute.type == AttributeProto.GRAPH else list(attribute.graphs)
    if not graphs:
        return sha256(plain_attribute(attribute).SerializeToString(deterministic=True))
    inner = [meaning(graph, around.hashes, around.depth + 1) for graph in graphs]
    return digest_of([[known(value.name, one) for value in one.graph.output] for one in inner])


def known(name: str, around: Meaning) -> str:
    """The hash of a tensor; of an input left out, nothing.

    Raises:
        StepFailed: when nothing makes it.
    """
    if name and name not in around.hashes:
        raise StepFailed(f'in the ONNX graph "{name}" is read before anything makes it', hint="export the model again")
    return around.hashes[name] if name else ""


def nameless(tensor: TensorProto) -> bytes:
    """A constant's type, shape and data as bytes."""
    return bytes(renamed_tensor(tensor, "").SerializeToString(deterministic=True))


def renamed_tensor(tensor: TensorProto, name: str) -> TensorProto:
    """A constant under another name, without documentation."""
    copy = TensorProto()
    copy.CopyFrom(tensor)
    copy.name = name
    copy.ClearField("doc_string")
    return copy


def plain_attribute(attribute: AttributeProto) -> AttributeProto:
    """An attribute without documentation, its constant without a name."""
    copy = AttributeProto()
    copy.CopyFrom(attribute)
    copy.ClearField("doc_string")
    if copy.type == AttributeProto.TENSOR:
        copy.t.CopyFrom(renamed_tensor(attribute.t, ""))
    return copy


# -- the canonical graph -----------------------------------------------------------------------------------------


@dataclass(kw_only=True, slots=True)
class Writer:
    """A graph being written: the new names by hash, its nodes and constants in order.

    ``numbers`` is shared with the graphs round this one, so that no name is used twice.
    """

    source: Meaning
    numbers: Iterator[int]
    prefix: str
    names: dict[str, str]
    nodes: list[NodeProto] = field(default_factory=list)
    constants: list[TensorProto] = field(default_factory=list)


def rebuilt(graph: GraphProto) -> GraphProto:
    """The outermost graph in canonical form; its inputs and outputs keep their names."""
    source = meaning(graph, {}, 0)
    kept = {value.name for value in [*graph.input, *graph.output]}
    prefix = "t"
    while any(name.startswith(prefix) for name in kept):
        prefix = f"_{prefix}"
    names = {source.hashes[value.name]: value.name for value in graph.input}
    for value in graph.output:
        names.setdefault(source.hashes[value.name], value.name)
    writer = Writer(source=source, numbers=itertools.count(), prefix=prefix, names=names)
    aliases = [write_output(value.name, writer) for value in graph.output]
    writer.nodes.extend(node for node in aliases if node is not None)
    result = GraphProto(name=GRAPH_NAME)
    result.input.extend(bare_value(value, value.name) for value in graph.input)
    result.output.extend(bare_value(value, value.name) for value in graph.output)
    return with_content(result, writer)


def write_output(name: str, writer: Writer) -> NodeProto | None:
    """Write what an output needs; an alias when the tensor has another output's or an input's name already."""
    written = write_tensor(name, writer)
    if written == name:
        return None
    return onnx.helper.make_node("Identity", [written], [name], name=f"{writer.prefix}.alias.{name}")


def write_tensor(name: str, writer: Writer) -> str:
    """Write all that a tensor of the source needs, and then what makes it; its new name.

    A stack stands in for recursion, because exported graphs may be deeper than Python's own stack.
    """
    waiting = [name]
    while waiting:
        current = waiting[-1]
        node = writer.source.producers.get(current)
        needed = [item for item in reads(node) if not is_written(item, writer)] if node is not None else []
        if is_written(current, writer):
            waiting.pop()
        elif needed:
            waiting.extend(reversed(needed))
        else:
            waiting.pop()
            write_one(current, node, writer)
    return writer.names[writer.source.hashes[name]]


def is_written(name: str, writer: Writer) -> bool:
    """Whether a tensor of the source can be read already: it stands in this graph or in one round it."""
    identity = writer.source.hashes.get(name)
    if identity is None or name in writer.source.outer:
        return True
    if name not in writer.source.producers and name not in writer.source.constants:
        return True
    return identity in written_hashes(writer)


def written_hashes(writer: Writer) -> set[str]:
    """The hashes of all that this graph has written."""
    return writer_marks(writer)
