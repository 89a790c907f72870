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

import importlib
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto

from engine.digest import digest_of, sha256
from engine.errors import StepFailed

# By name, because its package has no type information of its own.
DecodeError: type[Exception] = importlib.import_module("google.protobuf.message").DecodeError
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
    result.graph.CopyFrom(rewritten(meaning(source.graph, {}, 0), None))
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


@dataclass(frozen=True, kw_only=True, slots=True)
class Meaning:
    """A graph with the hash of every tensor that it may read, by name.

    ``makers``: for each tensor of its own the node or constant that makes it, ``None`` for an input.
    """

    graph: GraphProto
    depth: int
    hashes: dict[str, str]
    makers: dict[str, NodeProto | TensorProto | None] = field(default_factory=dict)

    def of(self, name: str) -> str:
        """The hash of a tensor; of an input left out, nothing.

        Raises:
            StepFailed: when nothing makes it.
        """
        if name and name not in self.hashes:
            fact = f'in the ONNX graph "{name}" is read before anything makes it'
            raise StepFailed(fact, hint="export the model again")
        return self.hashes[name] if name else ""


def meaning(graph: GraphProto, outer: Mapping[str, str], depth: int) -> Meaning:
    """Hash every tensor of ``graph``, whose nodes stand in topological order, as ONNX demands.

    ``outer`` are the hashes of the graphs round it, which it may read.

    Raises:
        StepFailed: when a node reads what nothing before it makes.
    """
    found = Meaning(graph=graph, depth=depth, hashes=dict(outer))
    for index, value in enumerate(graph.input):
        found.hashes[value.name] = digest_of(["input", depth, index if depth else value.name])
        found.makers[value.name] = None
    for tensor in graph.initializer:
        if tensor.name not in found.makers:
            found.hashes[tensor.name] = digest_of(["constant", sha256(tensor_bytes(tensor))])
            found.makers[tensor.name] = tensor
    for node in graph.node:
        identity = node_hash(node, found)
        for index, name in enumerate(node.output):
            if name:
                found.hashes[name] = digest_of([identity, index])
                found.makers[name] = node
    return found


def node_hash(node: NodeProto, around: Meaning) -> str:
    """What a node computes: its operator, its attributes, what it reads and which outputs it has."""
    attributes = [[item.name, attribute_hash(item, around)] for item in sorted_attributes(node)]
    reads = [around.of(name) for name in node.input]
    return digest_of([plain_domain(node), node.op_type, attributes, reads, [bool(name) for name in node.output]])


def attribute_hash(attribute: AttributeProto, around: Meaning) -> str:
    """The value of an attribute; an inner graph by what its outputs mean."""
    graphs = inner_graphs(attribute)
    if not graphs:
        return sha256(plain_attribute(attribute).SerializeToString(deterministic=True))
    inner = [meaning(graph, around.hashes, around.depth + 1) for graph in graphs]
    return digest_of([[len(one.graph.input), *(one.of(value.name) for value in one.graph.output)] for one in inner])


def inner_graphs(attribute: AttributeProto) -> list[GraphProto]:
    """The graphs that an attribute holds."""
    return [attribute.g] if attribute.type == AttributeProto.GRAPH else list(attribute.graphs)


def sorted_attributes(node: NodeProto) -> list[AttributeProto]:
    """A node's attributes by name."""
    return sorted(node.attribute, key=lambda attribute: str(attribute.name))


def plain_domain(node: NodeProto) -> str:
    """The domain of an operator; ONNX's own has two names."""
    return "" if node.domain == "ai.onnx" else str(node.domain)


def tensor_bytes(tensor: TensorProto) -> bytes:
    """A constant's type, shape and data."""
    return bytes(renamed_tensor(tensor, "").SerializeToString(deterministic=True))


def renamed_tensor(tensor: TensorProto, name: str) -> TensorProto:
    """A constant under another name, without documentation."""
    copy = TensorProto()
    copy.CopyFrom(tensor)
    copy.ClearField("doc_string")
    copy.ClearField("name")
    if name:
        copy.name = name
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
    """A graph being written: its new names by hash, the hashes that are done, its constants and nodes in order.

    ``fresh`` gives names and is shared with the graphs round this one, so that no name is used twice.
    """

    source: Meaning
    outer: Writer | None
    fresh: Iterator[str]
    names: dict[str, str] = field(default_factory=dict)
    done: set[str] = field(default_factory=set)
    constants: list[TensorProto] = field(default_factory=list)
    nodes: list[NodeProto] = field(default_factory=list)

    def name(self, old: str) -> str:
        """The new name of a tensor that this graph may read; of an input left out, nothing."""
        if not old:
            return ""
        if old not in self.source.makers and self.outer is not None:
            return self.outer.name(old)
        identity = self.source.of(old)
        if identity not in self.names:
            self.names[identity] = next(self.fresh)
        return self.names[identity]


def rewritten(source: Meaning, outer: Writer | None) -> GraphProto:
    """A graph in canonical form. The outermost one keeps the names of its inputs and outputs."""
    graph = source.graph
    writer = Writer(source=source, outer=outer, fresh=outer.fresh if outer else fresh_names(graph))
    if outer is None:
        for value in [*graph.input, *graph.output]:
            writer.names.setdefault(source.of(value.name), value.name)
    result = GraphProto(name=GRAPH_NAME)
    result.input.extend(renamed_value(value, writer.name(value.name)) for value in graph.input)
    given = {value.name for value in graph.input}
    defaults = [renamed_tensor(item, writer.name(item.name)) for item in graph.initializer if item.name in given]
    for value in graph.output:
        result.output.append(renamed_value(value, write_output(value.name, writer, result)))
    result.initializer.extend([*sorted(defaults, key=lambda item: str(item.name)), *writer.constants])
    result.node.extend(writer.nodes)
    return result


def fresh_names(graph: GraphProto) -> Iterator[str]:
    """``t0``, ``t1``, ... with as many underscores before as set them apart from the inputs and outputs."""
    taken = [value.name for value in [*graph.input, *graph.output]]
    prefix = "t"
    while any(name.startswith(prefix) for name in taken):
        prefix = f"_{prefix}"
    return (f"{prefix}{number}" for number in itertools.count())


def write_output(old: str, writer: Writer, result: GraphProto) -> str:
    """Write what an output needs; its new name.

    A copy is made when the tensor has another name already: as an input, as an earlier output, or further out.
    """
    write(old, writer)
    name = writer.name(old)
    if writer.outer is None:
        wanted = old
    else:
        is_taken = old not in writer.source.makers or writer.source.makers[old] is None
        is_taken = is_taken or name in [value.name for value in result.output]
        wanted = next(writer.fresh) if is_taken else name
    if wanted != name:
        writer.nodes.append(NodeProto(op_type="Identity", input=[name], output=[wanted]))
    return wanted


def write(old: str, writer: Writer) -> None:
    """Write all that a tensor needs and then what makes it.

    The stack is our own, because exported graphs may be deeper than Python's.
    """
    waiting = [old]
    while waiting:
        current = waiting[-1]
        maker = writer.source.makers.get(current)
        needed = [name for name in reads(maker) if is_missing(name, writer)] if is_missing(current, writer) else []
        if needed:
            waiting.extend(reversed(needed))
            continue
        waiting.pop()
        if is_missing(current, writer):
            write_maker(current, writer)


def is_missing(old: str, writer: Writer) -> bool:
    """Whether a tensor is made in this graph and not written yet."""
    return writer.source.makers.get(old) is not None and writer.source.of(old) not in writer.done


def reads(maker: NodeProto | TensorProto | None) -> list[str]:
    """What a node reads, its inner graphs' reads from outside among them; a constant reads nothing."""
    if not isinstance(maker, NodeProto):
        return []
    return [*(name for name in maker.input if name), *(name for graph in subgraphs(maker) for name in free(graph))]


def free(graph: GraphProto) -> Iterator[str]:
    """The names that a graph reads and does not make."""
    own = {item.name for item in [*graph.input, *graph.initializer]}
    own.update(name for node in graph.node for name in node.output)
    for node in graph.node:
        yield from (name for name in reads(node) if name not in own)
    yield from (value.name for value in graph.output if value.name not in own)


def write_maker(old: str, writer: Writer) -> None:
    """Write the constant or the node that makes a tensor, whose inputs are written."""
    maker = writer.source.makers[old]
    if isinstance(maker, TensorProto):
        writer.constants.append(renamed_tensor(maker, writer.name(old)))
        writer.done.add(writer.source.of(old))
    elif maker is not None:
        writer.nodes.append(renamed_node(maker, writer))
        writer.done.update(writer.source.of(name) for name in maker.output if name)


def renamed_node(node: NodeProto, writer: Writer) -> NodeProto:
    """A node with its new names, without one of its own."""
    result = NodeProto(op_type=node.op_type, domain=plain_domain(node) or None)
    result.input.extend(writer.name(name) for name in node.input)
    for attribute in sorted_attributes(node):
        copy = plain_attribute(attribute)
        graphs = [meaning(graph, writer.source.hashes, writer.source.depth + 1) for graph in inner_graphs(attribute)]
        if attribute.type == AttributeProto.GRAPH:
            copy.g.CopyFrom(rewritten(graphs[0], writer))
        elif graphs:
            del copy.graphs[:]
            copy.graphs.extend(rewritten(graph, writer) for graph in graphs)
        result.attribute.append(copy)
    result.output.extend(writer.name(name) for name in node.output)
    return result


def renamed_value(value: ValueInfoProto, name: str) -> ValueInfoProto:
    """An input or output under another name, without documentation."""
    copy = ValueInfoProto(name=name)
    copy.type.CopyFrom(value.type)
    return copy
