"""What watching a model is about, as values: streams of predictions, windows of them, and what is said of a window."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

Kind = Literal["test", "estimated", "live", "drift", "schema"]
"""What a figure is: of the run's test data, an estimate without labels, of labelled predictions, or a comparison."""
Signal = Literal["drift", "performance", "schema"]
"""What an alarm is about."""
OUTPUTS = "outputs"
"""The name of the detector that Engine itself adds: on the model's scores, with those of the test as reference."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Stream:
    """The predictions that one version gave under one alias; with a slice, those of its rows that lie in it."""

    model: str
    version: int
    alias: str
    slice: str = ""

    def __str__(self) -> str:
        part = f"[{self.slice}]" if self.slice else ""
        return f"{self.model}:{self.version}{f'@{self.alias}' if self.alias else ''}{part}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Window:
    """Rows of a stream that are judged together.

    Attributes:
        size: as the spec writes it: a number of rows, a duration, or ``month``.
        start, end: of a window by rows the times of its first and its last row; of one by time its bounds, of which
            the end is not part of it.
        rows: how many there are; ``late`` is how many of them came after their own window was closed.
    """

    size: str
    start: datetime
    end: datetime
    rows: int
    late: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Violation:
    """Rows that break the schema of the training data in one way: the column, what was expected, one that came."""

    column: str
    expected: str
    received: str
    kind: str
    rows: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Distribution:
    """What a feature's values are in the reference and in a window, as shares of the values that are there.

    Attributes:
        labels: of the bins, or the categories, the most frequent first and "(others)" last.
        reference, window: a share for each label.
        edges: of the bins of a number, one more than there are labels; the outer ones are the smallest and largest.
        reference_missing, window_missing: the share of rows without a value.
        reference_mean, window_mean: of a number.
    """

    feature: str
    labels: tuple[str, ...]
    reference: tuple[float, ...]
    window: tuple[float, ...]
    edges: tuple[float, ...] = ()
    reference_missing: float = 0.0
    window_missing: float = 0.0
    reference_mean: float | None = None
    window_mean: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Damage:
    """A file of a log that could not be read, or not to its end, and why."""

    file: str
    fact: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    """The versions behind a figure: of the model, the run, the code and the data.

    ``data`` has each source's uri, commit and digest; ``train`` is the one that the model learned from.
    """

    run: str
    code_commit: str
    code_digest: str
    data: Mapping[str, Mapping[str, str]]
    train: Mapping[str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """A number about a stream's window. ``n`` is how many rows it is of; ``rows`` how many there were in the window.

    Attributes:
        detector, feature: of a test for drift; ``value`` is its p-value then, and ``distance`` the statistic.
        low, high: the ends of its interval at ``confidence``.
        limit: what it was compared with; ``alarm`` is what came of that.
        error: of an estimate, once labels came: estimate less realised value.
    """

    stream: Stream
    kind: Kind
    metric: str
    window: Window | None
    n: int
    value: float | None
    low: float | None = None
    high: float | None = None
    confidence: float | None = None
    method: str = ""
    detector: str = ""
    feature: str = ""
    distance: float | None = None
    limit: float | None = None
    alarm: bool = False
    error: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Raised:
    """An alarm: about which window of which stream, what it says, and all that is behind it as JSON.

    ``key`` is the same for alarms that say the same of a stream: one that is repeated is not announced again at once.
    ``id`` names it alone: the same window judged again gives the same id.
    """

    id: str
    key: str
    stream: Stream
    signal: Signal
    window: Window
    text: str
    features: tuple[str, ...] = ()
    detail: Mapping[str, Any] = field(default_factory=dict)
