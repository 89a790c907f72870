"""A verdict: what a gate says, in the form that records and reports have.

::

    {name, metric, kind, passed, value, limit, low, high, confidence, rows, method, reason, ...}

``value`` is what was judged, ``low`` and ``high`` an interval that holds the true one with ``confidence`` where that is
known, ``rows`` how many rows it comes from, ``method`` how it was found. ``reason`` is one sentence for a person.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import Any

Verdict = dict[str, Any]
Gate = Mapping[str, Any]

KINDS = ("max_drop", "min_gain", "between", "min", "max")
FEWEST_DIGITS, MOST_DIGITS = 4, 15


def verdict_of(gate: Gate, passed: bool, value: float | None, limit: object, reason: str, **more: Any) -> Verdict:
    """A verdict with all its fields; those that are not given are not known."""
    return {
        "name": gate["name"],
        "metric": gate["metric"],
        "kind": kind_of(gate),
        "passed": bool(passed),
        "value": value,
        "limit": limit,
        "low": finite(more.pop("low", None)),
        "high": finite(more.pop("high", None)),
        "confidence": more.pop("confidence", None),
        "rows": more.pop("rows", None),
        "method": more.pop("method", ""),
        "reason": reason,
        **more,
    }


def finite(value: float | None) -> float | None:
    """A bound, or nothing where there is none."""
    return value if value is not None and isfinite(value) else None


def kind_of(gate: Gate) -> str:
    """Which limit the gate has."""
    return next(kind for kind in KINDS if gate[kind] is not None)


def limit_of(gate: Gate) -> tuple[float, float]:
    """The bounds of a gate: (lowest, highest) that pass."""
    low, high = gate["between"] if gate["between"] is not None else (gate["min"], gate["max"])
    return (float("-inf") if low is None else low, float("inf") if high is None else high)


def shown_limit(gate: Gate) -> object:
    """The bound as written: a number, or both of them."""
    low, high = limit_of(gate)
    if isfinite(low) and isfinite(high):
        return [low, high]
    return low if isfinite(low) else high


def within(gate: Gate, value: float) -> bool:
    """Whether a figure lies between the gate's bounds, both included."""
    low, high = limit_of(gate)
    return low <= value <= high


def relation(gate: Gate, value: float) -> str:
    """Where a figure stands to the bounds, in words."""
    low, high = limit_of(gate)
    if value < low:
        return f"below the least that passes, {low:g}"
    if value > high:
        return f"above the most that passes, {high:g}"
    if isfinite(low) and isfinite(high):
        return f"between {low:g} and {high:g}"
    return f"at least {low:g}" if isfinite(low) else f"at most {high:g}"


def figure(value: float, *others: float) -> str:
    """A figure with as many digits as it takes to tell it from those that it is compared with."""
    if isinstance(value, int):
        return f"{value:,}"
    for digits in range(FEWEST_DIGITS, MOST_DIGITS):
        text = f"{value:.{digits}g}"
        if all(other == value or text != f"{other:.{digits}g}" for other in others if isfinite(other)):
            return text
    return repr(value)


def count_of(rows: int, noun: str = "row") -> str:
    """``1 row``, ``9,000 rows``."""
    return f"{rows:,} {noun}" if rows == 1 else f"{rows:,} {noun}s"


def bounded(
    gate: Gate, value: float | None, rows: int | None = None, *, what: str = "", method: str = "", **more: Any
) -> Verdict:
    """A figure between its bounds, both included.

    Args:
        what: what the figure is, in words; by default the metric on its rows.
        more: further fields of the verdict, ``low``, ``high`` and ``confidence`` among them.
    """
    said = what or gate["metric"] + (f" on {count_of(rows)}" if rows is not None else "")
    if value is None:
        reason = f"{said} is not defined, so it cannot pass"
        return verdict_of(gate, False, None, shown_limit(gate), reason, rows=rows, method=method, **more)
    reason = f"{said} is {figure(value, *limit_of(gate))}{interval(more)}, {relation(gate, value)}{near(gate, more)}"
    passed = within(gate, value)
    return verdict_of(gate, passed, value, shown_limit(gate), reason, rows=rows, method=method, **more)


def interval(known: Mapping[str, Any]) -> str:
    """The interval in words, where there is one."""
    low, high, confidence = known.get("low"), known.get("high"), known.get("confidence")
    if low is None or high is None or confidence is None:
        return ""
    return f" ({100 * confidence:.4g} % interval {low:.4g} to {high:.4g})"


def near(gate: Gate, known: Mapping[str, Any]) -> str:
    """That other rows could have decided otherwise: a bound lies inside the interval."""
    low, high = known.get("low"), known.get("high")
    if low is None or high is None or not any(low < bound < high for bound in limit_of(gate)):
        return ""
    return "; that limit lies inside the interval, so other test rows could decide otherwise"
