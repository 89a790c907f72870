"""What is reported: a run's document with its evaluation, and what the two say, typed and made safe to show.

::

    Report --facts--> Facts --> terminal card, plain lines, Markdown, HTML

Every text in :class:`Facts` went through :func:`engine.report.clean.terminal`, so no renderer can forget it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from engine.errors import Place

Document = Mapping[str, object]
FAULT = ""
"""The key in :attr:`Report.places` of the step that failed; no gate is called so."""
Interval = tuple[float, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """A run as ``engine run --json`` prints it, the evaluation of its model, and where reports were written.

    ``baseline`` is the model in production: ``version``, ``digest``, ``metrics`` by name, and whether they were
    computed on the ``same_rows``. ``places`` are the lines of the spec, in files named from the repository's top, by
    the name of the gate, and by :data:`FAULT` of what failed.
    """

    run: Document
    evaluation: Document | None = None
    written: tuple[str, ...] = ()
    baseline: Document | None = None
    places: Mapping[str, Place] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Gate:
    """A gate's answer. ``value`` is missing when it could not be computed; ``measured`` when it is a measurement.

    ``kind`` is min, max, between, max_drop or min_gain; empty when the document does not say. ``interval`` is where the
    true value lies, ``rows`` how many rows the value comes from, ``machine`` what it was measured on, as far as known.
    """

    name: str
    passed: bool
    value: float | None
    limit: tuple[float, ...]
    reason: str
    level: str
    measured: bool
    kind: str = ""
    place: Place = Place()
    interval: Interval | None = None
    rows: int | None = None
    machine: str = ""

    @property
    def mark(self) -> str:
        """``pass``, ``refuse``, or ``warn`` for one that failed and refuses nothing."""
        if self.passed:
            return "pass"
        return "warn" if self.level == "warn" else "refuse"


@dataclass(frozen=True, kw_only=True, slots=True)
class Measure:
    """A metric, and when the evaluation says so over how many rows and between which ends the true value lies.

    ``interval`` is low and high, ``confidence`` how surely, as 0.95.
    """

    name: str
    value: float | None
    rows: int | None = None
    interval: Interval | None = None
    confidence: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """A step of the run, ``status`` one of ran, cached, skipped, failed."""

    name: str
    kind: str
    status: str
    seconds: float | None
    digest: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Pin:
    """What the run was pinned to. ``kind`` is data, baseline, code or environment."""

    kind: str
    name: str
    source: str = ""
    version: str = ""
    digest: str = ""
    note: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Slice:
    """The metrics of the rows where the slicing column is ``value``, with their intervals where there are any."""

    value: str
    rows: int | None
    metrics: Mapping[str, float | None]
    intervals: Mapping[str, Interval] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Parity:
    """How far the exported graph is from the trained model, over ``rows`` rows."""

    max_difference: float | None
    label_flips: int | None
    rows: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Roc:
    """Points of a ROC curve, both axes in 0..1, ordered by ``fpr``."""

    fpr: tuple[float, ...]
    tpr: tuple[float, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibration:
    """Bins of a reliability curve: mean prediction, observed share, both in 0..1, and rows in each."""

    predicted: tuple[float, ...]
    observed: tuple[float, ...]
    rows: tuple[float, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Residuals:
    """A histogram of what was observed less what was predicted: n + 1 edges in the target's unit, n counts."""

    edges: tuple[float, ...]
    counts: tuple[float, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """Why a run failed: an Engine error's parts. ``details`` are more lines, ``spot`` is the place in the spec."""

    code: str
    message: str
    place: str
    hint: str
    details: tuple[str, ...] = ()
    step: str = ""
    spot: Place = Place()


@dataclass(frozen=True, kw_only=True, slots=True)
class Baseline:
    """The model in production: its version, and its metrics, on the ``same_rows`` as the run's or on its own."""

    version: int
    digest: str
    same_rows: bool
    metrics: Mapping[str, float | None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """What a report says. Text is safe for a terminal; numbers are finite; what is unknown is empty or None."""

    run_id: str
    name: str
    status: str
    executed: bool
    spec: str
    record: str
    target: str
    started: str
    seconds: float | None
    written: tuple[str, ...]
    version: int | None
    model_digest: str
    task: str
    rows: int | None
    classes: tuple[str, ...]
    positive: str
    weights: str
    metrics: tuple[Measure, ...]
    gates: tuple[Gate, ...]
    slices: Mapping[str, tuple[Slice, ...]]
    pins: tuple[Pin, ...]
    steps: tuple[Step, ...]
    parity: Parity | None = None
    roc: Roc | None = None
    calibration: Calibration | None = None
    residuals: Residuals | None = None
    fault: Fault | None = None
    baseline: Baseline | None = None
    overall: Mapping[str, float | None] = field(default_factory=dict)

    @property
    def model(self) -> str:
        """``name:version``, or only the name where the run made no version."""
        return self.name if self.version is None else f"{self.name}:{self.version}"
