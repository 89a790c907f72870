"""One condition on one figure -> a verdict: passed or not, the figure, the limit, and why in a sentence.

A refusal is an answer, not an exception. What a gate judges decides who judges it::

    metric ------------> bounds, overall or per slice
    metric + baseline -> steps.baseline        onnx_* ------> steps.parity
    leaked_*, ... -----> steps.leakage         latency_* ---> steps.latency
    model_mb ----------> the model's bytes     peak_memory -> steps.memory
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from engine.digest import plain
from engine.spec.vocabulary import CALIBRATION, LEAKAGE, MEASUREMENTS, PARITY, limits_are_upper
from engine.steps.context import Context
from engine.steps.model import Inputs, Outputs
from engine.steps.verdict import (
    Gate,
    Verdict,
    bounded,
    count_of,
    figure,
    interval,
    limit_of,
    relation,
    shown_limit,
    verdict_of,
    within,
)

MEGABYTE = 1e6


def run(inputs: Inputs, params: Mapping[str, Any], context: Context) -> Outputs:
    """Judge, and give the verdict as an artifact; as a byproduct when it was measured on the machine.

    Raises:
        StepFailed: when there is nothing that can be judged, which is no refusal.
    """
    gate = params["gate"]
    if gate["metric"] in MEASUREMENTS:
        return Outputs(byproducts={"verdict": measured(gate, inputs, context)})
    return Outputs(artifacts={"verdict": context.put_json(plain(judged(gate, params, inputs, context)))})


def judged(gate: Gate, params: Mapping[str, Any], inputs: Inputs, context: Context) -> Verdict:
    """The verdict on what is the same on every machine."""
    if gate["baseline"] is not None:
        from engine.steps.baseline import judge as against_baseline  # a gate on a figure that is there needs none of it

        return against_baseline(gate, params["baseline"], inputs, context)
    if gate["metric"] in LEAKAGE:
        from engine.steps.leakage import judge as leakage

        return leakage(gate, params, inputs, context)
    if gate["metric"] in PARITY:
        from engine.steps.parity import judge as parity

        return parity(gate, inputs, context)
    if gate["metric"] == "model_mb":
        return bounded(gate, inputs["model"].size / MEGABYTE, method="the size of the ONNX file")
    evaluation = context.json(inputs["evaluation"])
    if gate["slice"] is not None:
        return per_slice(gate, evaluation)
    return overall(gate, evaluation, inputs, context)


def measured(gate: Gate, inputs: Inputs, context: Context) -> Verdict:
    """The verdict on what depends on the machine and the moment."""
    if gate["metric"] == "peak_memory_mb":
        from engine.steps.memory import judge as memory

        return {**memory(gate, inputs, context), "measured": True}
    from engine.steps.latency import judge as latency

    return {**latency(gate, inputs, context), "measured": True}


def overall(gate: Gate, evaluation: Mapping[str, Any], inputs: Inputs, context: Context) -> Verdict:
    """A metric on all rows, with its interval where the evaluation has one."""
    found = evaluation["metrics"][gate["metric"]]
    known = {key: found.get(key) for key in ("low", "high", "confidence")}
    verdict = bounded(gate, found["value"], found["rows"], method=found.get("method") or "on all rows", **known)
    if gate["metric"] in CALIBRATION and inputs.get("predictions") is not None:
        return with_calibration(verdict, evaluation, inputs, context)
    return verdict


def with_calibration(verdict: Verdict, evaluation: Mapping[str, Any], inputs: Inputs, context: Context) -> Verdict:
    """With how probabilities and what happened agree, bin by bin, in the verdict and its reason."""
    from engine.steps.calibration import BINS, taken_apart
    from engine.steps.evaluate import judged_from

    if evaluation["task"] not in ("binary", "multiclass"):
        return verdict
    parts = taken_apart(judged_from(context.table(inputs["predictions"]), evaluation))
    said = f"; in {BINS} bins of equal mass the score is off by {parts['ece']:.4g} on average"
    if evaluation["task"] == "binary":
        said += (
            f" (reliability {parts['brier_reliability']:.4g}, resolution {parts['brier_resolution']:.4g}, "
            f"uncertainty {parts['brier_uncertainty']:.4g})"
        )
    return {**verdict, "reason": verdict["reason"] + said, "calibration": {"bins": BINS, **parts}}


# -- slices -------------------------------------------------------------------------------------------------------


def per_slice(gate: Gate, evaluation: Mapping[str, Any]) -> Verdict:
    """A figure in every slice of enough rows; the slice that is worst stands for all."""
    metric, column = gate["metric"], gate["slice"]
    found = evaluation["slices"][column]
    large = [part_of(item, gate, evaluation) for item in found if item["rows"] >= gate["min_rows"]]
    parts = [part for part in large if part[metric] is not None]
    if not parts:
        least = count_of(max(gate["min_rows"], 1))
        reason = f"no slice of {column} has {least} on which {metric} is defined" if found else f"{column} has no rows"
        return verdict_of(gate, False, None, shown_limit(gate), reason, parts=large)
    failing = [part for part in parts if not within(gate, part[metric])]
    less = limits_are_upper(metric) or (gate["max"] is not None and gate["min"] is None)
    worst = (max if less else min)(failing or parts, key=lambda part: float(part[metric]))
    counts = {"slices_judged": len(parts), "slices_failed": [part["value"] for part in failing]}
    return verdict_of(
        gate,
        not failing,
        worst[metric],
        shown_limit(gate),
        slices_said(gate, parts, failing, worst) + left_out(gate, len(found) - len(large), len(large) - len(parts)),
        **{key: worst[key] for key in ("low", "high", "confidence", "rows")},
        method="in each slice",
        parts=large,
        **counts,
    )


def part_of(item: Mapping[str, Any], gate: Gate, evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """One slice as a verdict lists it."""
    metric = gate["metric"]
    low, high = (item.get("intervals") or {}).get(metric) or (None, None)
    confidence = evaluation["metrics"][metric].get("confidence") if low is not None else None
    value = item["metrics"][metric]
    known = {"low": low, "high": high, "confidence": confidence}
    return {"value": item["value"], "rows": item["rows"], metric: value, **known}


def slices_said(
    gate: Gate, parts: Sequence[Mapping[str, Any]], failing: Sequence[Mapping[str, Any]], worst: Mapping[str, Any]
) -> str:
    """How many slices pass, and where the worst stands."""
    metric, value = gate["metric"], worst[gate["metric"]]
    which = f"{metric} for {gate['slice']} {worst['value']} ({count_of(worst['rows'])})"
    stands = f"{which} is {figure(value, *limit_of(gate))}{interval(worst)}, {relation(gate, value)}"
    if not failing:
        return f"{'the one slice passes' if len(parts) == 1 else f'all {len(parts)} slices pass; the worst'}: {stands}"
    names = ", ".join(str(part["value"]) for part in failing)
    return f"{stands}; {len(failing)} of {len(parts)} slices fail: {names}" if len(failing) > 1 else stands


def left_out(gate: Gate, small: int, undefined: int) -> str:
    """How many slices were not judged, and why."""
    said = ""
    if small:
        said += f"; {count_of(small, 'slice')} of fewer than {gate['min_rows']:,} rows not judged"
    if undefined:
        said += f"; {count_of(undefined, 'slice')} without a {gate['metric']} not judged"
    return said
