"""The spec as typed, frozen values: one class a section, one field a key of CONTRACT 1.

Fields carry defaults only where the contract has them. Lists become tuples. A key that is a Python word
(``with``, ``schema``) is a field with a trailing underscore.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    WithJsonSchema,
    field_validator,
    model_serializer,
)

Item = TypeVar("Item")
Items = Annotated[tuple[Item, ...], Field(strict=False)]

DURATION = re.compile(r"^(\d+(?:\.\d+)?)(ms|s|m|h|d)$")
DURATION_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
MEMORY = re.compile(r"^(\d+(?:\.\d+)?)\s?(B|KB|MB|GB|TB|KiB|MiB|GiB|TiB)$")
MEMORY_UNITS = {
    "B": 1,
    **{f"{letter}B": 1000**power for power, letter in enumerate("KMGT", 1)},
    **{f"{letter}iB": 1024**power for power, letter in enumerate("KMGT", 1)},
}
SECRET = "\ue000env:"  # noqa: S105  a private-use character opens what stands for ${oc.env:...}
SECRET_PATTERN = re.compile("^\ue000env:([^\ue001]*)\ue001(optional|required)\ue001([^\ue001]*)\ue001$")


def seconds(value: object) -> object:
    """``30m`` in seconds; anything that is not a duration is left for the type check to refuse."""
    if isinstance(value, str):
        found = DURATION.match(value)
        if found is None:
            raise ValueError("expected a duration such as 500ms, 30s, 30m, 2h or 7d")
        return float(found[1]) * DURATION_UNITS[found[2]]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def size_in_bytes(value: object) -> object:
    """``2GiB`` in bytes; anything that is not a size is left for the type check to refuse."""
    if isinstance(value, str):
        found = MEMORY.match(value)
        if found is None:
            raise ValueError("expected a size such as 512MiB or 2GiB")
        return int(float(found[1]) * MEMORY_UNITS[found[2]])
    return value


def one_or_many(value: object) -> object:
    """A single name stands for a list of one."""
    return [value] if isinstance(value, str) else value


def column_alone(value: object) -> object:
    """A column's name stands for a slice by it."""
    return {"column": value} if isinstance(value, str) else value


def column_or_several(value: object) -> object:
    """A column's name, or a list of several; of one, the name."""
    names = [value] if isinstance(value, str) else list(value) if isinstance(value, list | tuple) else []
    if not names or not all(isinstance(name, str) for name in names):
        raise ValueError("expected a column, or a list of columns")
    return names[0] if len(names) == 1 else tuple(names)


# What a person may write there, for the JSON Schema: it cannot see what a validator makes of it.
DURATION_WRITTEN = {"type": ["number", "string"], "exclusiveMinimum": 0, "pattern": DURATION.pattern}
MEMORY_WRITTEN = {"type": ["integer", "string"], "exclusiveMinimum": 0, "pattern": MEMORY.pattern}
NAMES_WRITTEN = {"type": ["array", "string"], "items": {"type": "string"}, "minItems": 1}
WINDOW_WRITTEN = {"type": ["integer", "string"], "minimum": 1, "pattern": DURATION.pattern}
TARGET_WRITTEN = {"type": ["array", "string"], "items": {"type": "string"}, "minItems": 1}
SECRET_WRITTEN = {"type": ["string", "null"]}

Seconds = Annotated[float, BeforeValidator(seconds), Field(gt=0), WithJsonSchema(DURATION_WRITTEN)]
Bytes = Annotated[int, BeforeValidator(size_in_bytes), Field(gt=0), WithJsonSchema(MEMORY_WRITTEN)]
Names = Annotated[
    tuple[str, ...], BeforeValidator(one_or_many), Field(strict=False, min_length=1), WithJsonSchema(NAMES_WRITTEN)
]
Target = Annotated[str | tuple[str, ...], BeforeValidator(column_or_several), WithJsonSchema(TARGET_WRITTEN)]
Share = Annotated[float, Field(ge=0, le=1)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{1,62}$")]
Label = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_.-]{0,62}$")]


class Section(BaseModel):
    """What every section has: it is frozen, knows no other keys, and converts no types silently."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, populate_by_name=True, allow_inf_nan=False)


class SecretRef(Section):
    """An environment variable that is read when it is used; only its name is ever recorded."""

    env: str
    optional: bool = False
    default: str | None = None


def secret(value: object) -> object:
    """The reference that composing left for ``${oc.env:NAME,default}``."""
    if isinstance(value, str) and (found := SECRET_PATTERN.match(value)):
        return SecretRef(env=found[1], optional=found[2] == "optional", default=found[3] or None)
    return value


Secret = Annotated[SecretRef | str | None, BeforeValidator(secret), WithJsonSchema(SECRET_WRITTEN)]


class DataSource(Section):
    """A named source: where it lies, the schema that it must satisfy, and its format."""

    uri: str
    schema_: str | Mapping[str, Any] | None = Field(default=None, alias="schema")
    format: Literal["csv", "parquet", "arrow", "jsonl"] | None = None


class Transform(Section):
    """One table -> table function, applied to each source in ``data`` on its own."""

    name: Label
    uses: str
    data: Names
    with_: Mapping[str, Any] = Field(default_factory=dict, alias="with")


class Features(Section):
    """The columns that a model reads."""

    numeric: Items[str] = ()
    categorical: Items[str] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """All features: the numeric ones first."""
        return (*self.numeric, *self.categorical)


class Resources(Section):
    """What a step may use. ``cpus`` is also its number of threads."""

    cpus: int = Field(default=1, ge=1, le=1024)
    memory: Bytes | None = None
    gpus: int = Field(default=0, ge=0)
    timeout: Seconds | None = None
    retries: int = Field(default=2, ge=0, le=100)


class Train(Section):
    """Which trainer learns from which source."""

    uses: str
    data: str
    with_: Mapping[str, Any] = Field(default_factory=dict, alias="with")
    resources: Resources = Resources()


class Gate(Section):
    """A condition on one figure. Exactly one of the limits is given, or several bounds of one kind."""

    name: str | None = None
    metric: str
    min: float | None = None
    max: float | None = None
    between: Annotated[tuple[float, float], Field(strict=False)] | None = None
    baseline: str | None = None
    max_drop: float | None = Field(default=None, ge=0)
    min_gain: float | None = Field(default=None, ge=0)
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    slice: str | None = None
    min_rows: int = Field(default=0, ge=0)
    tolerance: float | None = Field(default=None, ge=0)
    by: Names | None = None
    better: Literal["lower", "higher"] | None = None
    level: Literal["refuse", "warn"] = "refuse"
    on_missing: Literal["pass", "refuse"] | None = None

    @property
    def kind(self) -> str:
        """The limit that makes this gate what it is: ``min``, ``max``, ``between``, ``max_drop`` or ``min_gain``."""
        kinds = ("max_drop", "min_gain", "between", "min", "max")
        return next((kind for kind in kinds if getattr(self, kind) is not None), "")

    @property
    def title(self) -> str:
        """The gate's name; by default ``metric.kind[slice]@baseline``."""
        if self.name is not None:
            return self.name
        part = f"[{self.slice}]" if self.slice else ""
        against = f"@{self.baseline}" if self.baseline else ""
        return f"{self.metric}.{self.kind}{part}{against}"


class Slice(Section):
    """Parts of the data that a model is judged on apart: a column's values, ranges of it, or where SQL holds.

    A range holds its lower cut and not its upper one; the first and the last are open. A column's name alone stands
    for a mapping with it.
    """

    name: str | None = Field(default=None, min_length=1)
    column: str | None = None
    ranges: Items[float] = ()
    sql: str | None = None

    @property
    def title(self) -> str:
        """The slice's name, by default its column's."""
        return self.name or self.column or ""

    @model_serializer(mode="wrap")
    def _short(self, full: SerializerFunctionWrapHandler) -> Any:
        written = {key: value for key, value in full(self).items() if value not in (None, (), [])}
        return self.column if list(written) == ["column"] else written


class Evaluate(Section):
    """On which source a model is judged, by which metrics, overall and per slice, and what it must reach.

    ``weights`` names the column that says how much a row counts.
    """

    data: str
    metrics: Items[str] = Field(min_length=1)
    weights: str | None = None
    slices: Items[Annotated[Slice, BeforeValidator(column_alone)]] = ()
    gates: Items[Gate] = ()


class PredictionLog(Section):
    """Which predictions are logged, and what of them."""

    sample: Share = 1.0
    redact: Items[str] = ()
    fsync: Literal["group", "always"] = "group"


class Canary(Section):
    """The share of requests that the alias ``canary`` answers."""

    traffic: Share


class Serve(Section):
    """How the model is served."""

    max_batch_rows: int = Field(default=256, ge=1)
    max_queue: int = Field(default=1024, ge=1)
    deadline: Seconds = 1.0
    unknown_category: Literal["refuse", "pass"] = "refuse"
    workers: int = Field(default=1, ge=1)
    log: PredictionLog = PredictionLog()
    canary: Canary | None = None
    shadow: bool = False


class Detector(Section):
    """A drift detector: fitted on the reference when the run is made, asked about each window later."""

    name: Label
    uses: str
    with_: Mapping[str, Any] = Field(default_factory=dict, alias="with")
    window: Annotated[int | str, WithJsonSchema(WINDOW_WRITTEN)] = 1000

    @field_validator("window")
    @classmethod
    def _window_is_rows_or_time(cls, value: int | str) -> int | str:
        if isinstance(value, str) and DURATION.match(value) is None:
            raise ValueError("expected a number of rows or a duration such as 1h")
        if isinstance(value, int) and value < 1:
            raise ValueError("expected at least 1 row")
        return value


class Performance(Section):
    """A limit on a metric of live predictions, per window of labelled rows."""

    metric: str
    min: float | None = None
    max: float | None = None
    window: int = Field(default=1000, ge=1)


class Retrain(Section):
    """What an alarm may start: at most ``limit`` retrainings a day, and none within ``cooldown`` of another."""

    alias: Literal["candidate", "shadow"] = "candidate"
    cooldown: Seconds = 86_400.0
    limit: int = Field(default=1, ge=1)


class OnAlert(Section):
    """What an alarm starts. One that says what another said within ``cooldown`` starts nothing."""

    log: bool = True
    webhook: Secret = None
    signing_key: Secret = None
    retrain: bool | Retrain = False
    cooldown: Seconds = 3600.0


class Monitor(Section):
    """What watches the model in production."""

    reference: str
    detectors: Items[Detector] = ()
    false_alarms: str | None = None
    performance: Items[Performance] = ()
    on_alert: OnAlert = OnAlert()


class Sweep(Section):
    """How runs are compared. Without a ``direction``, more is better unless less of the objective is."""

    objective: str | None = None
    direction: Literal["maximize", "minimize"] | None = None
    max_parallel: int | None = Field(default=None, ge=1)
    keep_going: bool = True


class Cluster(Section):
    """Whether a run leaves a warm cluster, and for how long."""

    autostart: bool = False
    idle: Seconds = 900.0


class Spec(Section):
    """One model, from its data to its alarms.

    Several targets are labels, each 0 or 1. ``group`` is the column that says which rows are ranked together.
    """

    name: Name
    seed: int = Field(default=0, ge=0, le=2**32 - 1)
    data: Mapping[Label, DataSource] = Field(min_length=1)
    transform: Items[Transform] = ()
    features: Features
    target: Target
    group: str | None = None
    train: Train
    evaluate: Evaluate
    serve: Serve = Serve()
    monitor: Monitor | None = None
    sweep: Sweep = Sweep()
    cluster: Cluster = Cluster()

    @property
    def targets(self) -> tuple[str, ...]:
        """The target column, or all of several labels."""
        return (self.target,) if isinstance(self.target, str) else self.target


KeyPath = tuple[str | int, ...]


def dotted(path: KeyPath) -> str:
    """A key as messages print it: ``evaluate.gates.0.min``."""
    return ".".join(str(part) for part in path)
