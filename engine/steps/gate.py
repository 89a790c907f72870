"""One condition on one figure -> a verdict: passed or not, the figure, the limit, and why in a sentence.

A refusal is an answer, not an exception.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import TYPE_CHECKING, Any

from engine.digest import plain
from engine.spec.vocabulary import MEASUREMENTS, limits_are_upper
from engine.steps.context import Context
from engine.steps.model import Inputs, Outputs

if TYPE_CHECKING:
    from engine.steps.compare import Difference

Verdict = dict[str, Any]


def run(inputs: Inputs, params: Mapping[str, Any], context: Context) -> Outputs:
    """Judge, and give the verdict as an artifact; as a byproduct when it was measured with a clock."""
    gate = params["gate"]
    if gate["metric"] in MEASUREMENTS:
        verdict = measured(gate, inputs, context)
        return Outputs(byproducts={"verdict": verdict})
    if gate["baseline"] is not None:
        verdict = against_baseline(gate, params["baseline"], inputs, context)
    elif gate["metric"] == "model_mb":
        verdict = bounded(gate, inputs["model"].size / 1e6)
    elif gate["metric"] == "onnx_parity":
        verdict = with_parity(gate, context.json(inputs["evaluation"]))
    elif gate["slice"] is not None:
        verdict = per_slice(gate, context.json(inputs["evaluation"]))
    else:
        found = context.json(inputs["evaluation"])["metrics"][gate["metric"]]
        verdict = bounded(gate, found["value"], found["rows"])
    return Outputs(artifacts={"verdict": context.put_json(plain(verdict))})


def verdict_of(
    gate: Mapping[str, Any], passed: bool, value: float | None, limit: object, reason: str, **more: Any
) -> Verdict:
    """A verdict in the form that records and reports have."""
    return {
        "name": gate["name"],
        "metric": gate["metric"],
        "kind": kind_of(gate),
        "passed": bool(passed),
        "value": value,
        "limit": limit,
        "reason": reason,
        **more,
    }


def kind_of(gate: Mapping[str, Any]) -> str:
    """Which limit the gate has."""
    return next(kind for kind in ("max_drop", "min_gain", "between", "min", "max") if gate[kind] is not None)


def limit_of(gate: Mapping[str, Any]) -> tuple[float, float]:
    """The bounds of a gate: (lowest, highest) that pass."""
    low, high = gate["between"] if gate["between"] is not None else (gate["min"], gate["max"])
    return (float("-inf") if low is None else low, float("inf") if high is None else high)


def shown_limit(gate: Mapping[str, Any]) -> object:
    """The bound as written: a number, or both of them."""
    low, high = limit_of(gate)
    if isfinite(low) and isfinite(high):
        return [low, high]
    return low if isfinite(low) else high


def bounded(gate: Mapping[str, Any], value: float | None, rows: int | None = None) -> Verdict:
    """A figure between its bounds, both included."""
    what = f"{gate['metric']}" + (f" on {rows:,} rows" if rows is not None else "")
    if value is None:
        reason = f"{what} is not defined, so it cannot pass"
        return verdict_of(gate, False, None, shown_limit(gate), reason, rows=rows)
    return verdict_of(
        gate,
        within(gate, value),
        value,
        shown_limit(gate),
        f"{what} is {value:.4g}, {relation(gate, value)}",
        rows=rows,
    )


def within(gate: Mapping[str, Any], value: float) -> bool:
    """Whether a figure lies between the gate's bounds."""
    low, high = limit_of(gate)
    return low <= value <= high


def relation(gate: Mapping[str, Any], value: float) -> str:
    """Where a figure stands to the bounds, in words."""
    low, high = limit_of(gate)
    if value < low:
        return f"below the least that passes, {low:g}"
    if value > high:
        return f"above the most that passes, {high:g}"
    if isfinite(low) and isfinite(high):
        return f"between {low:g} and {high:g}"
    return f"at least {low:g}" if isfinite(low) else f"at most {high:g}"


def with_parity(gate: Mapping[str, Any], evaluation: Mapping[str, Any]) -> Verdict:
    """The largest difference between the native model and its ONNX form."""
    parity = evaluation["parity"]
    verdict = bounded(gate, parity["max_difference"], parity["rows"])
    flips = parity["label_flips"]
    said = "" if evaluation["task"] == "regression" else f"; {flips:,} labels differ"
    return {**verdict, "reason": f"{verdict['reason']}{said}", "label_flips": flips}


def per_slice(gate: Mapping[str, Any], evaluation: Mapping[str, Any]) -> Verdict:
    """A figure in every slice of enough rows; the slice that is worst stands for all."""
    metric, column = gate["metric"], gate["slice"]
    large = [part for part in evaluation["slices"][column] if part["rows"] >= gate["min_rows"]]
    parts = [{"value": part["value"], "rows": part["rows"], metric: part["metrics"][metric]} for part in large]
    judged = [part for part in parts if part[metric] is not None]
    left_out = len(evaluation["slices"][column]) - len(judged)
    if not judged:
        reason = f"no slice of {column} has {gate['min_rows']:,} rows on which {metric} is defined"
        return verdict_of(gate, False, None, shown_limit(gate), reason, parts=parts)
    failing = [part for part in judged if not within(gate, part[metric])]
    upper = limits_are_upper(metric)
    worst = (max if upper else min)(failing or judged, key=lambda part: part[metric])
    which = f"{metric} for {column} {worst['value']} ({worst['rows']:,} rows)"
    reason = f"{which} is {worst[metric]:.4g}, {relation(gate, worst[metric])}"
    if failing and len(failing) > 1:
        reason += f"; {len(failing)} of {len(judged)} slices fail"
    elif not failing:
        reason = f"all {len(judged)} slices pass; the worst: {reason}"
    if left_out:
        reason += f"; {left_out} smaller ones were not judged"
    return verdict_of(gate, not failing, worst[metric], shown_limit(gate), reason, parts=parts)


def against_baseline(gate: Mapping[str, Any], pin: Mapping[str, Any], inputs: Inputs, context: Context) -> Verdict:
    """The difference to a baseline on the same rows, with the confidence that the gate asks for."""
    limit = -gate["max_drop"] if gate["max_drop"] is not None else gate["min_gain"]
    if inputs.get("baseline") is None:
        return without_baseline(gate, pin, limit)
    from engine.steps.compare import difference  # a gate on a figure that is there already needs none of this
    from engine.steps.evaluate import judged_from

    evaluation = context.json(inputs["evaluation"])
    ours = judged_from(context.table(inputs["predictions"]), evaluation)
    theirs = judged_from(context.table(inputs["baseline"]), evaluation)
    judges: list[tuple[str, Difference | None]] = [("", difference(gate["metric"], ours, theirs, gate["confidence"]))]
    if gate["slice"] is not None:
        judges = slice_differences(
            gate, ours, theirs, context.table(inputs["predictions"]).column(f"slice.{gate['slice']}")
        )
    defined = [(name, found) for name, found in judges if found is not None]
    if not defined:
        return verdict_of(
            gate, False, None, limit, f"{gate['metric']} is not defined on these rows, so nothing is shown"
        )
    name, worst = min(defined, key=lambda item: item[1].bound)
    passed = worst.bound >= limit if gate["max_drop"] is not None else worst.bound > limit
    where = f" for {gate['slice']} {name}" if name else ""
    reason = (
        f"{gate['metric']}{where} is {worst.ours:.4g} against {worst.theirs:.4g} of version {pin['version']}; at "
        f"{gate['confidence']:.0%} confidence the gain is at least {worst.bound:+.4g} "
        f"({worst.method}, {worst.rows:,} rows), "
        f"and {'at least' if gate['max_drop'] is not None else 'more than'} {limit:+g} is asked"
    )
    return verdict_of(gate, passed, worst.gain, limit, reason, bound=worst.bound, rows=worst.rows, method=worst.method)


def slice_differences(
    gate: Mapping[str, Any], ours: Any, theirs: Any, column: Any
) -> list[tuple[str, Difference | None]]:
    """The difference in every slice of enough rows."""
    import numpy as np

    from engine.steps.compare import difference

    labels = np.array(column.to_pylist(), dtype=object)
    names, counts = np.unique([name for name in labels if name is not None], return_counts=True)
    chosen = [name for name, count in zip(names, counts, strict=True) if count >= gate["min_rows"]]
    return [
        (
            str(name),
            difference(gate["metric"], ours.rows(labels == name), theirs.rows(labels == name), gate["confidence"]),
        )
        for name in chosen
    ]


def without_baseline(gate: Mapping[str, Any], pin: Mapping[str, Any], limit: float) -> Verdict:
    """The verdict when there is nothing to compare with."""
    decision = gate["on_missing"] or ("refuse" if pin["known"] else "pass")
    has = "no longer names a version" if pin["known"] else "has never named a version"
    does = "passes" if decision == "pass" else "refuses"
    reason = f"`{gate['baseline']}` {has}: nothing to compare with, so this gate {does}"
    return verdict_of(gate, decision == "pass", None, limit, reason, missing=True)


def measured(gate: Mapping[str, Any], inputs: Inputs, context: Context) -> Verdict:
    """A latency of one-row requests through the server's own inference path, on this machine, now."""
    from engine.serve.onnx import open_session
    from engine.steps.latency import latencies

    session = open_session(context.data(inputs["model"]))
    found = latencies(session, context.table(inputs["table"]))
    value = found[gate["metric"]]
    verdict = bounded(gate, value)
    reason = f"{verdict['reason']} (measured: {found['requests']} requests of one row)"
    return {**verdict, "reason": reason, "measured": True}
