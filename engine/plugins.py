"""What a plugin is: the component protocols, and a name in a spec -> the component.

A spec says ``uses: NAME``. A bare name is an entry point in the group ``engine.<kind>s``; ``module:Class``
is code of the user's own project. The mapping under ``with:`` holds the component's parameters, which are
the keyword arguments of its class (or, for a function, those after its first).

Finding, describing and checking a component reads its *source*; only :func:`load` imports it.
"""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from engine.errors import NotFound, StepFailed, UsageError, suggestion

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    AnyArray = np.ndarray[Any, np.dtype[Any]]

Kind = Literal["trainer", "metric", "gate", "detector", "transform", "source", "publisher"]
KINDS: tuple[Kind, ...] = ("trainer", "metric", "gate", "detector", "transform", "source", "publisher")
# What a component of each kind must be able to do, checked when it is loaded.
REQUIRED: Mapping[Kind, tuple[str, ...]] = {
    "trainer": ("fit",),
    "metric": ("__call__",),
    "gate": ("__call__",),
    "detector": ("fit", "restore"),
    "transform": ("__call__",),
    "source": ("__call__",),
    "publisher": ("publish",),
}
Definitions = Mapping[str, ast.ClassDef | ast.FunctionDef]
ClassName = str
"""The type of a parameter that names a class, ``package.module.Class``: that there is one is seen before a run."""

ClassParameters = dict[str, object]
"""The type of a parameter with what the constructor of the class beside it takes."""
Probability = float
"""The type of a parameter that is a number between 0 and 1, neither of them included."""

Count = int
"""The type of a parameter that is a whole number of at least 1."""
ScalarType = Literal["FP32", "FP64", "INT64", "BOOL", "BYTES"]


# -- protocols ------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Feature:
    """A model input: a column's name, whether it is numeric or categorical, and its tensor's V2 datatype."""

    name: str
    role: Literal["numeric", "categorical"]
    datatype: ScalarType


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingTask:
    """What a trainer is asked for: which columns to learn from, which to predict, and with what luck.

    ``cpus`` is the number of threads that the step may use; ``seed`` stands for every unset ``random_state``.
    ``labels`` are all target columns where there are several, each 0 or 1; ``target`` is the first of them.
    ``group`` is the column that says which rows are ranked together.
    """

    features: tuple[Feature, ...]
    target: str
    seed: int
    cpus: int
    labels: tuple[str, ...] = ()
    group: str | None = None

    @property
    def names(self) -> list[str]:
        """The feature columns in the order of the spec."""
        return [feature.name for feature in self.features]


class Model(Protocol):
    """A fitted model, as its own library has it. It must survive ``pickle`` (only ever read back by the
    Engine home that wrote it) and say the same through ONNX.

    A model of several labels has no classes, and ``scores`` are the probability of each label. A model of quantiles
    has an attribute ``quantiles``, their levels between 0 and 1, and ``scores`` are a value for each of them. A model
    that ranks gives a score, of which only the order within a group counts.
    """

    @property
    def classes(self) -> tuple[str | int | bool, ...] | None:
        """The target's classes in the order of the score columns; ``None`` for regression."""

    def scores(self, table: pa.Table) -> AnyArray:
        """Predict a table that has the feature columns.

        Returns:
            float64 of shape (rows, classes) with probabilities, (rows,) for regression and ranking, (rows, labels)
            or (rows, quantiles).
        """

    def to_onnx(self) -> bytes:
        """The same model as an ONNX graph.

        Inputs: one tensor of shape (rows, 1) a feature, under the feature's name. Outputs: for a classifier
        ``label`` (rows,) and ``probabilities`` (rows, classes), for several labels ``labels`` alone, the
        probability of each in floating point (rows, labels), for a regressor or one that ranks ``value`` (rows, 1), of
        quantiles (rows, quantiles).
        """


@runtime_checkable
class Trainer(Protocol):
    """Learns a model from a table."""

    def fit(self, table: pa.Table, task: TrainingTask) -> Model:
        """Fit on the feature columns and the target of ``table``."""


class Metric(Protocol):
    """A number that says how good predictions are.

    Called with arrays of length n: the true target, the predicted target, the score of the positive class
    (shape (n,); (n, classes) for more than two; the prediction itself for regression), and weights.
    """

    def __call__(self, y_true: AnyArray, y_pred: AnyArray, y_score: AnyArray, weights: AnyArray) -> float: ...


class Transform(Protocol):
    """Table in, table out. Rows of the result that a transform does not order are sorted by the caller."""

    def __call__(self, table: pa.Table) -> pa.Table: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class DriftVerdict:
    """What a detector says of one window: whether the whole drifted, and each feature's test.

    ``p_val`` and ``distance`` map a feature to its figure, or ``*`` where all are tested at once; ``threshold`` is
    what each ``p_val`` was compared with. ``at`` are the rows at which an online detector alarmed, counted from the
    start of its stream.
    """

    drift: bool
    threshold: float
    p_val: Mapping[str, float]
    distance: Mapping[str, float]
    drifted: tuple[str, ...]
    rows: int
    at: tuple[int, ...] = ()


class FittedDetector(Protocol):
    """A detector that knows its reference."""

    def predict(self, window: pa.Table) -> DriftVerdict:
        """Compare a window with the reference."""

    def state(self) -> tuple[dict[str, object], pa.Table]:
        """All that :meth:`Detector.restore` needs: JSON parameters with thresholds, and the reference table.

        Nothing of it is code, and no pickle.
        """


@runtime_checkable
class OnlineDetector(Protocol):
    """A fitted detector that looks at each row as it comes, and whose false alarms are a known number of rows apart.

    What it knows of a stream is JSON, so that another process goes on where one stopped, with the same alarms.
    """

    def predict(self, window: pa.Table) -> DriftVerdict:
        """The verdict on a window alone, as a stream of its own."""

    def state(self) -> tuple[dict[str, object], pa.Table]:
        """As of every detector."""

    def begin(self) -> dict[str, object]:
        """What is known of a stream before its first row: JSON."""

    def update(self, stream: Mapping[str, Any], rows: pa.Table) -> tuple[dict[str, object], DriftVerdict]:
        """What is known after the next rows, and whether there was an alarm among them.

        How a stream is cut into calls changes nothing.
        """


class Detector(Protocol):
    """Fits on a reference table, and can be restored from what it stored with the same thresholds."""

    def fit(self, reference: pa.Table, features: Sequence[Feature], seed: int) -> FittedDetector: ...

    def restore(self, parameters: Mapping[str, object], reference: pa.Table) -> FittedDetector: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Publication:
    """A registered version as another system can take it; every byte was checked against its digest.

    Attributes:
        digest: the SHA-256 of ``onnx``.
        onnx: the model.
        signature: ``inputs`` (name, V2 datatype, shape), ``classes``, ``task``, ``target``.
        schema: the pandera schema of the training data, as its YAML has it; ``None`` without one.
        metrics: of the newest run that judged these bytes.
        provenance: that run's record, an in-toto statement.
        card: Markdown.
    """

    name: str
    version: int
    digest: str
    onnx: bytes
    signature: Mapping[str, Any]
    schema: Mapping[str, Any] | None
    metrics: Mapping[str, float | None]
    provenance: Mapping[str, Any]
    card: str
    aliases: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    description: str = ""


@runtime_checkable
class Publisher(Protocol):
    """Hands a version to another system: a registry, a server, an image."""

    def publish(self, publication: Publication) -> Mapping[str, str]:
        """Put it there; facts about where it is then, such as ``uri``. Doing it again changes nothing.

        Raises:
            PluginFailed: when the other system does not take it.
        """


class PluginFailed(StepFailed):
    """What a plugin raises on purpose: a fact for the user, without a traceback.

    ``key`` is the key of the spec that asked for it, relative to the component's section: ``with.estimator``.
    """

    code = "plugin-failed"


# -- finding a component without importing it ------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Reference:
    """Where a component is: ``module:attribute``, the name a spec uses for it and its distribution."""

    kind: Kind
    name: str
    module: str
    attribute: str
    distribution: str = ""
    version: str = ""
    extra: str = ""

    @property
    def target(self) -> str:
        """``module:attribute``."""
        return f"{self.module}:{self.attribute}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Parameter:
    """One key under ``with:``: its annotation as written, whether it must be given, its default as written."""

    name: str
    annotation: str
    required: bool
    default: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Description:
    """What a component's source says of it. ``open_ended`` is true when it takes any keyword.

    ``documentation`` is its whole docstring, ``summary`` the first paragraph of it; ``sources`` are the modules that
    were read for it: its own, and those of its bases; ``constants`` are what a class and its bases set to a literal, as
    a detector says which ``roles`` of features it is for, and the ``least_rows`` of a window.
    """

    reference: Reference
    summary: str
    parameters: tuple[Parameter, ...]
    open_ended: bool
    file: Path
    line: int
    documentation: str = ""
    sources: Mapping[str, Path] = field(default_factory=dict)
    constants: Mapping[str, Any] = field(default_factory=dict)


@cache
def installed() -> tuple[Reference, ...]:
    """Every component that an installed distribution registers, by kind and name."""
    import importlib.metadata  # it takes as long as everything else here, and not everybody asks

    found = []
    points = importlib.metadata.entry_points()  # all groups at once: each question reads every distribution
    for kind in KINDS:
        for point in points.select(group=f"engine.{kind}s"):
            module, _, attribute = point.value.partition(":")
            attribute, _, extras = attribute.partition("[")
            dist = point.dist
            found.append(
                Reference(
                    kind=kind,
                    name=point.name,
                    module=module.strip(),
                    attribute=attribute.strip(),
                    distribution=dist.name if dist else "",
                    version=dist.version if dist else "",
                    extra=extras.rstrip("] "),
                )
            )
    return tuple(sorted(found, key=lambda item: (KINDS.index(item.kind), item.name)))


def names(kind: Kind) -> list[str]:
    """The names that ``uses:`` knows for a kind."""
    return [reference.name for reference in installed() if reference.kind == kind]


def find(kind: Kind, uses: str) -> Reference:
    """The component that ``uses`` names, without importing it.

    Raises:
        NotFound: when no plugin has that name.
    """
    if ":" in uses:
        module, _, attribute = uses.partition(":")
        return Reference(kind=kind, name=uses, module=module, attribute=attribute)
    for reference in installed():
        if reference.kind == kind and reference.name == uses:
            return reference
    raise NotFound(f"{kind} plugin", uses, names(kind), hint=plugin_hint(kind, uses))


def plugin_hint(kind: Kind, uses: str) -> str:
    """What to do about an unknown plugin name: the nearest one, or how to name code of one's own."""
    near = suggestion(uses, names(kind))
    return near or f"write `module:Class` for a {kind} of your own, or see `engine plugins list`"


def source_of(module: str, roots: Iterable[Path] = ()) -> Path | None:
    """The source file of a dotted module, looked for below ``roots`` and then on ``sys.path``.

    No code is run: packages are descended by their folders, in the order in which the import system would look.
    A namespace package has no source of its own.
    """
    folders = [*roots, *(Path(entry or ".") for entry in sys.path)]
    *packages, last = module.split(".")
    for part in packages:
        folders = package_folders(part, folders)
    for folder in folders:
        for candidate in (folder / last / "__init__.py", folder / f"{last}.py"):
            if candidate.is_file():
                return candidate
    return None


def package_folders(name: str, folders: Iterable[Path]) -> list[Path]:
    """Where the modules of a package lie: one folder, or several when it is a namespace package."""
    portions = []
    for folder in folders:
        if (folder / name / "__init__.py").is_file():
            return [folder / name]
        if (folder / name).is_dir():
            portions.append(folder / name)
    return portions


def describe(reference: Reference, roots: Iterable[Path] = ()) -> Description:
    """Read a component's parameters from its source.

    Raises:
        NotFound: when the module, or the class or function in it, is not there.
        UsageError: when its source does not parse.
    """
    path = source_of(reference.module, roots)
    if path is None:
        raise NotFound("module", reference.module, hint="it is looked for in the project and in the environment")
    sources = {reference.module: path}
    definitions = definitions_in(path, tuple(roots), sources)
    own = {node.name for node in parsed(path).body if isinstance(node, ast.ClassDef | ast.FunctionDef)}
    if reference.attribute not in own:
        raise NotFound(f"class or function in {path.name}", reference.attribute, own)
    definition = definitions[reference.attribute]
    parameters, open_ended = signature(definition, definitions)
    doc = ast.get_docstring(definition) or ""
    return Description(
        reference=reference,
        summary=doc.split("\n\n")[0].replace("\n", " "),
        parameters=parameters,
        open_ended=open_ended,
        file=path,
        line=definition.lineno,
        documentation=doc,
        sources=sources,
        constants=constants(definition, definitions),
    )


def constants(definition: ast.ClassDef | ast.FunctionDef, definitions: Definitions) -> dict[str, Any]:
    """What a class, or one of its bases, sets to a literal."""
    if isinstance(definition, ast.FunctionDef):
        return {}
    others = {name: other for name, other in definitions.items() if name != definition.name}
    found: dict[str, Any] = {}
    for base in reversed(definition.bases):
        if isinstance(base, ast.Name) and base.id in others:
            found |= constants(others[base.id], others)
    for node in definition.body:
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            found.pop(node.targets[0].id, None)
            with suppress(ValueError):
                found[node.targets[0].id] = ast.literal_eval(node.value)
    return found


def definitions_in(path: Path, roots: Sequence[Path], sources: dict[str, Path]) -> Definitions:
    """The classes and functions of a source file, with those that bases of its classes are imported from.

    ``sources`` gets the modules that were read for that; what cannot be found, or does not parse, has no bases.
    """
    tree = parsed(path)
    own = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)}
    bases = {
        base.id
        for node in own.values()
        if isinstance(node, ast.ClassDef)
        for base in node.bases
        if isinstance(base, ast.Name)
    }
    found: dict[str, ast.ClassDef | ast.FunctionDef] = {}
    for node in tree.body:
        if not isinstance(node, ast.ImportFrom) or node.level or node.module is None or node.module in sources:
            continue
        wanted = {alias.name for alias in node.names if (alias.asname or alias.name) in bases - own.keys()}
        elsewhere = source_of(node.module, roots) if wanted else None
        if elsewhere is not None and elsewhere.suffix == ".py":
            sources[node.module] = elsewhere
            with suppress(UsageError):
                found |= definitions_in(elsewhere, roots, sources)
    return {**found, **own}


def parsed(path: Path) -> ast.Module:
    """The syntax tree of a source file.

    Raises:
        UsageError: when it does not parse.
    """
    try:
        return ast.parse(path.read_bytes(), filename=str(path))
    except SyntaxError as error:
        raise UsageError(
            f"{error.msg}", place=f"{path}:{error.lineno}:{error.offset}", hint="mend the Python source"
        ) from error


def signature(
    definition: ast.ClassDef | ast.FunctionDef, definitions: Definitions
) -> tuple[tuple[Parameter, ...], bool]:
    """The keyword parameters of a class (its ``__init__``, else its annotated fields) or of a function.

    A class without an ``__init__`` of its own has those of its bases, too, as far as they are among ``definitions``.
    """
    if isinstance(definition, ast.FunctionDef):
        return arguments(definition.args, skip=1)
    for node in definition.body:
        if isinstance(node, ast.FunctionDef) and node.name == "__init__":
            return arguments(node.args, skip=1)
    others = {name: other for name, other in definitions.items() if name != definition.name}
    bases = [others[base.id] for base in definition.bases if isinstance(base, ast.Name) and base.id in others]
    inherited = [signature(base, others) for base in reversed(bases)]
    found = {item.name: item for parameters, _ in inherited for item in parameters}
    found |= {item.name: item for item in fields(definition)}
    return tuple(found.values()), any(open_ended for _, open_ended in inherited)


def arguments(args: ast.arguments, skip: int) -> tuple[tuple[Parameter, ...], bool]:
    """The parameters of a function after its first ``skip``, and whether it takes ``**kwargs``."""
    positional = [*args.posonlyargs, *args.args]
    padded: list[ast.expr | None] = [None] * (len(positional) - len(args.defaults))
    pairs = list(zip(positional, [*padded, *args.defaults], strict=True))[skip:]
    pairs += list(zip(args.kwonlyargs, args.kw_defaults, strict=True))
    found = tuple(
        Parameter(
            name=arg.arg,
            annotation=ast.unparse(arg.annotation) if arg.annotation else "",
            required=default is None,
            default=ast.unparse(default) if default else "",
        )
        for arg, default in pairs
    )
    return found, args.kwarg is not None


def fields(definition: ast.ClassDef) -> Iterator[Parameter]:
    """The annotated fields of a dataclass."""
    for node in definition.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            annotation = ast.unparse(node.annotation)
            if annotation.startswith("ClassVar"):
                continue
            yield Parameter(
                name=node.target.id,
                annotation=annotation,
                required=node.value is None,
                default=ast.unparse(node.value) if node.value else "",
            )


# -- importing it ------------------------------------------------------------------------------------


def load(reference: Reference) -> Any:
    """Import a component and check that it can do what its kind must.

    Raises:
        PluginFailed: when it cannot be imported or lacks a method.
    """
    try:
        module = importlib.import_module(reference.module)
    except ImportError as error:
        raise PluginFailed(
            f"cannot import {reference.module}: {error}", hint=install_hint(reference), key="uses"
        ) from error
    component: object = getattr(module, reference.attribute, None)
    missing = [method for method in REQUIRED[reference.kind] if not hasattr(component, method)]
    if component is None or missing:
        lacks = f"has no method {missing[0]}()" if component is not None else "is not there"
        raise PluginFailed(
            f"{reference.target} {lacks}, which every {reference.kind} has",
            hint="see `engine plugins list` for ones that work",
            key="uses",
        )
    return component


def install_hint(reference: Reference) -> str:
    """How to get what a component needs."""
    if reference.extra:
        return f'install it: pip install "mlops-engine[{reference.extra}]"'
    return "install what it needs, or mend the import"
