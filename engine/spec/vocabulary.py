"""The names that a spec may use and that Engine itself knows: metrics and measurements."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Task = Literal["binary", "multiclass", "multilabel", "regression", "quantile", "ranking"]
CLASSIFICATION: tuple[Task, ...] = ("binary", "multiclass")
LABELLING: tuple[Task, ...] = (*CLASSIFICATION, "multilabel")
VALUES: tuple[Task, ...] = ("regression", "quantile")


@dataclass(frozen=True, kw_only=True, slots=True)
class MetricInfo:
    """Which tasks a metric is for and whether more of it is better."""

    tasks: tuple[Task, ...]
    greater_is_better: bool = True


METRICS: Mapping[str, MetricInfo] = {
    "accuracy": MetricInfo(tasks=LABELLING),
    "average_precision": MetricInfo(tasks=("binary", "multilabel")),
    "balanced_accuracy": MetricInfo(tasks=CLASSIFICATION),
    "brier": MetricInfo(tasks=LABELLING, greater_is_better=False),
    "brier_reliability": MetricInfo(tasks=("binary",), greater_is_better=False),
    "brier_resolution": MetricInfo(tasks=("binary",)),
    "brier_uncertainty": MetricInfo(tasks=("binary",), greater_is_better=False),
    "ece": MetricInfo(tasks=CLASSIFICATION, greater_is_better=False),
    "f1": MetricInfo(tasks=LABELLING),
    "f1_micro": MetricInfo(tasks=("multilabel",)),
    "hamming_loss": MetricInfo(tasks=("multilabel",), greater_is_better=False),
    "log_loss": MetricInfo(tasks=LABELLING, greater_is_better=False),
    "precision": MetricInfo(tasks=LABELLING),
    "precision_micro": MetricInfo(tasks=("multilabel",)),
    "recall": MetricInfo(tasks=LABELLING),
    "recall_micro": MetricInfo(tasks=("multilabel",)),
    "roc_auc": MetricInfo(tasks=LABELLING),
    "interval_coverage": MetricInfo(tasks=("quantile",)),
    "mae": MetricInfo(tasks=VALUES, greater_is_better=False),
    "mape": MetricInfo(tasks=VALUES, greater_is_better=False),
    "mse": MetricInfo(tasks=VALUES, greater_is_better=False),
    "pinball": MetricInfo(tasks=("quantile",), greater_is_better=False),
    "r2": MetricInfo(tasks=VALUES),
    "rmse": MetricInfo(tasks=VALUES, greater_is_better=False),
    "mean_average_precision": MetricInfo(tasks=("ranking",)),
    "mrr": MetricInfo(tasks=("ranking",)),
    "ndcg": MetricInfo(tasks=("ranking",)),
    "ndcg_at_10": MetricInfo(tasks=("ranking",)),
}
"""Metrics of predictions, computed on the ONNX model's answers."""

CALIBRATION: tuple[str, ...] = ("brier", "brier_reliability", "brier_resolution", "brier_uncertainty", "ece")
"""Metrics whose verdict shows how probabilities and what happened agree."""

PARITY: tuple[str, ...] = ("onnx_label_flips", "onnx_parity", "onnx_parity_share")
"""How far the native model and its ONNX form differ: labels, the largest difference, rows beyond a tolerance."""

LEAKAGE: tuple[str, ...] = ("leaked_rows", "leaked_share", "identifier_features", "target_proxy_auc")
"""What the training data tells of the test that a model should not know."""

PROPERTIES: tuple[str, ...] = ("model_mb", *PARITY, *LEAKAGE)
"""Figures of the model, or of what it was trained on, that a gate may limit; the same on every machine."""

MEASUREMENTS: tuple[str, ...] = ("latency_p50_ms", "latency_p99_ms", "peak_memory_mb")
"""Figures that depend on the machine and the moment; byproducts of a run, never part of its identity."""

FORMATS: Mapping[str, str] = {
    ".csv": "csv",
    ".csv.gz": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".ipc": "arrow",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
}
"""File name endings and the data formats that they mean."""

SCHEMA_KEYS: tuple[str, ...] = (
    "add_missing_columns", "api", "checks", "coerce", "columns", "dataframe_library", "description",
    "drop_invalid_rows", "dtype", "index", "metadata", "multiindex", "name", "ordered", "report_duplicates",
    "schema_type", "strict", "title", "unique", "unique_column_names", "version",
)  # fmt: skip
"""What pandera reads of a schema."""

COLUMN_KEYS: tuple[str, ...] = (
    "checks", "coerce", "default", "description", "drop_invalid_rows", "dtype", "metadata", "nullable", "parsers",
    "regex", "report_duplicates", "required", "title", "unique",
)  # fmt: skip
"""What pandera reads of a column beside its checks."""

COLUMN_CHECKS: tuple[str, ...] = (
    "equal_to", "greater_than", "greater_than_or_equal_to", "in_range", "is_monotonic", "isin", "less_than",
    "less_than_or_equal_to", "not_equal_to", "notin", "str_contains", "str_endswith", "str_length", "str_matches",
    "str_startswith", "unique_values_eq",
)  # fmt: skip
"""Pandera's checks of a column. It passes over a name that it does not know, so a typo would check nothing."""

PRODUCTION = "production"
ALIASES: tuple[str, ...] = ("candidate", "canary", "shadow", PRODUCTION)
"""The aliases that Engine itself knows; a model may have others."""


NOT_NEGATIVE = ("log_loss", "mae", "mape", "mse", "pinball", "rmse", *PROPERTIES, *MEASUREMENTS)


def range_of(metric: str) -> tuple[float, float]:
    """Between which values a metric lies: shares from 0 to 1, errors and figures from 0, r2 up to 1."""
    if metric in NOT_NEGATIVE:
        return 0.0, float("inf")
    if metric not in METRICS:
        return float("-inf"), float("inf")
    return (float("-inf") if metric == "r2" else 0.0), 1.0


def format_of(path: str) -> str | None:
    """The data format that the ending of ``path`` means, if any."""
    lowered = path.lower()
    return next((name for ending, name in FORMATS.items() if lowered.endswith(ending)), None)


def limits_are_upper(metric: str) -> bool:
    """Whether less of ``metric`` is better."""
    info = METRICS.get(metric)
    return not info.greater_is_better if info else metric in (*PROPERTIES, *MEASUREMENTS)
