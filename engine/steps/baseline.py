"""A model against the one that is in use, on the same rows: is it no worse than allowed, or better by enough?

::

    rows of both --> one comparison, or one a slice --> doubt of each --Holm--> shown, refuted, or too few rows to tell

Non-inferiority (``max_drop``): the true gain is at least ``-max_drop``. Superiority (``min_gain``): it is above
``min_gain``. Either must be *shown* with the gate's confidence: what cannot be told does not pass. Over slices Holm's
procedure keeps the chance that any slice is let through by luck at 1 - confidence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from engine.errors import StepFailed
from engine.steps.compare import Difference, difference, holm, resamples_for
from engine.steps.context import Context
from engine.steps.evaluate import judged_from
from engine.steps.metrics import Judged
from engine.steps.model import Inputs
from engine.steps.resampling import RESAMPLES
from engine.steps.verdict import Gate, Verdict, count_of, figure, finite, verdict_of

Finding = Literal["shown", "refuted", "undecided"]
NAMED = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """All rows, or those of one slice: their comparison, and its doubt after Holm's correction."""

    name: str
    difference: Difference
    doubt: float
    level: float
    finding: Finding

    def document(self) -> dict[str, Any]:
        """As a verdict lists it. The bounds have the confidence that Holm's procedure asks of this part."""
        return {
            "value": self.name,
            "rows": self.difference.rows,
            "ours": self.difference.ours,
            "theirs": self.difference.theirs,
            "gain": self.difference.gain,
            "low": finite(self.difference.evidence.low(1 - self.level)),
            "high": finite(self.difference.evidence.high(1 - self.level)),
            "confidence": 1 - self.level,
            "doubt": self.doubt,
            "finding": self.finding,
            "method": self.difference.method,
        }


def judge(gate: Gate, pin: Mapping[str, Any], inputs: Inputs, context: Context) -> Verdict:
    """Compare with the baseline that the run is pinned to.

    Raises:
        StepFailed: when the two were not judged on the same rows.
    """
    if inputs.get("baseline") is None:
        return without_baseline(gate, pin)
    evaluation = context.json(inputs["evaluation"])
    table, other = context.table(inputs["predictions"]), context.table(inputs["baseline"])
    ours, theirs = judged_from(table, evaluation), judged_from(other, evaluation)
    require_same_rows(ours, theirs, gate, pin)
    if gate["slice"] is None:
        found = difference(gate["metric"], ours, theirs, gate["confidence"], better=gate.get("better"))
        return overall(gate, pin, found, len(ours.true))
    return by_slice(gate, pin, ours, theirs, table.column(f"slice.{gate['slice']}"))


def require_same_rows(ours: Judged, theirs: Judged, gate: Gate, pin: Mapping[str, Any]) -> None:
    """Refuse to compare what was judged on different rows, or answers in another form.

    Raises:
        StepFailed: saying which.
    """
    who = f"{gate['baseline']} (version {pin['version']})"
    if not np.array_equal(ours.true, theirs.true):
        raise StepFailed(f"{who} was not judged on the same rows", hint="run with --fresh", key="baseline")
    if ours.score.shape != theirs.score.shape:
        raise StepFailed(
            f"{who} answers with scores of shape {list(theirs.score.shape)}, this model with {list(ours.score.shape)}",
            hint="they know different classes: compare with a version that knows the same",
            key="baseline",
        )


def limit_of(gate: Gate) -> float:
    """The least gain that passes; with ``min_gain`` it must be above it."""
    return float(-gate["max_drop"] if gate["max_drop"] is not None else gate["min_gain"])


def overall(gate: Gate, pin: Mapping[str, Any], found: Difference | None, rows: int) -> Verdict:
    """The verdict on all rows."""
    if found is None:
        reason = f"{gate['metric']} is not defined on these {count_of(rows)}, so nothing is shown"
        return verdict_of(gate, False, None, limit_of(gate), reason, rows=rows, baseline=named(gate, pin))
    part = parts_of(gate, [("", found)])[0]
    return spoken(gate, pin, part, said(gate, pin, part))


def by_slice(gate: Gate, pin: Mapping[str, Any], ours: Judged, theirs: Judged, column: pa.ChunkedArray) -> Verdict:
    """The verdict on every slice of enough rows; the one that is shown least stands for all."""
    labels = np.array(column.to_pylist(), dtype=object)
    names, counts = np.unique([name for name in labels if name is not None], return_counts=True)
    chosen = [str(name) for name, count in zip(names, counts, strict=True) if count >= gate["min_rows"]]
    resamples = resamples_for(len(chosen), gate["confidence"]) if chosen else RESAMPLES
    sure = gate["confidence"]
    found = [
        (
            name,
            difference(gate["metric"], ours.rows(here), theirs.rows(here), sure, resamples, better=gate.get("better")),
        )
        for name in chosen
        for here in [labels == name]
    ]
    parts = parts_of(gate, [(name, item) for name, item in found if item is not None])
    left_out = unjudged(gate, len(names) - len(chosen), len(chosen) - len(parts))
    if not parts:
        reason = f"no slice of {gate['slice']} could be compared with {who(gate, pin)}{left_out}"
        return verdict_of(gate, False, None, limit_of(gate), reason, parts=[], baseline=named(gate, pin))
    worst = max(parts, key=lambda part: (part.doubt, -part.difference.gain))
    failed = [part for part in parts if part.finding != "shown"]
    reason = f"{slices_said(gate, parts, failed)}{said(gate, pin, worst)}{left_out}"
    counts_of = {"slices_judged": len(parts), "slices_failed": [part.name for part in failed]}
    return spoken(gate, pin, worst, reason, passed=not failed, parts=[part.document() for part in parts], **counts_of)


def slices_said(gate: Gate, parts: Sequence[Part], failed: Sequence[Part]) -> str:
    """How many slices were judged, and which failed."""
    judged = f"{count_of(len(parts), 'slice')} of {gate['slice']}"
    if not failed:
        return (
            f"{'the one' if len(parts) == 1 else 'all'} {judged.removeprefix('1 ')} {passes(len(parts))}; the closest: "
        )
    names = ", ".join(part.name for part in failed[:NAMED])
    more = f" and {len(failed) - NAMED} more" if len(failed) > NAMED else ""
    return f"{len(failed)} of {judged} {'fails' if len(failed) == 1 else 'fail'} ({names}{more}); the worst: "


def passes(count: int) -> str:
    """The verb for so many."""
    return "passes" if count == 1 else "pass"


def unjudged(gate: Gate, small: int, undefined: int) -> str:
    """Which slices were not judged, and why."""
    why = []
    if small:
        why.append(f"{count_of(small, 'slice')} of fewer than {gate['min_rows']:,} rows")
    if undefined:
        why.append(f"{count_of(undefined, 'slice')} on which {gate['metric']} is not defined")
    return f"; not judged: {' and '.join(why)}" if why else ""


def parts_of(gate: Gate, found: Sequence[tuple[str, Difference]]) -> list[Part]:
    """Each comparison with what it shows, all of them together at the gate's confidence."""
    limit, above = limit_of(gate), gate["min_gain"] is not None
    alpha = 1 - gate["confidence"]
    doubts = [item.evidence.doubt(limit, above=above) for _, item in found]
    adjusted = holm(doubts)
    order = np.argsort(np.argsort(doubts, kind="stable"), kind="stable")
    levels = [alpha / (len(found) - int(place)) for place in order]
    return [
        Part(name=name, difference=item, doubt=doubt, level=level, finding=finding(item, doubt, level, alpha, limit))
        for (name, item), doubt, level in zip(found, adjusted, levels, strict=True)
    ]


def finding(found: Difference, doubt: float, level: float, alpha: float, limit: float) -> Finding:
    """What the rows say of the true gain and the limit."""
    if doubt <= alpha + 1e-12:
        return "shown"
    return "refuted" if found.evidence.high(1 - level) < limit else "undecided"


def spoken(gate: Gate, pin: Mapping[str, Any], part: Part, reason: str, **more: Any) -> Verdict:
    """A verdict in the words of ``reason``, with the figures of one comparison."""
    document = part.document()
    return verdict_of(
        gate,
        more.pop("passed", part.finding == "shown"),
        part.difference.gain,
        limit_of(gate),
        reason,
        **{key: document[key] for key in ("low", "high", "confidence", "rows", "method", "finding")},
        ours=part.difference.ours,
        theirs=part.difference.theirs,
        baseline=named(gate, pin),
        **more,
    )


def said(gate: Gate, pin: Mapping[str, Any], part: Part) -> str:
    """What one comparison shows, for a person who knows no statistics."""
    found, limit = part.difference, limit_of(gate)
    where = f" for {gate['slice']} {part.name}" if part.name else ""
    against = (
        f"{gate['metric']}{where} is {figure(found.ours, found.theirs)} against {figure(found.theirs, found.ours)}"
    )
    return (
        f"{against} of {who(gate, pin)}; {claim(part, limit)}, and {asked(gate)}"
        f"{few(part)} ({found.method}, {count_of(found.rows)})"
    )


def claim(part: Part, limit: float) -> str:
    """The bound that decides, in words: on the side of the limit that it is about."""
    sure = f"at {percent(1 - part.level)} confidence"
    low, high = (
        finite(part.difference.evidence.low(1 - part.level)),
        finite(part.difference.evidence.high(1 - part.level)),
    )
    if part.finding == "refuted" and high is not None:
        return f"{sure} it is {amount(high, limit, 'at most', 'at least')}"
    if low is None:
        return f"nothing can be said {sure}"
    if part.finding == "undecided":
        return f"it may be {amount(low, limit, 'only', 'as much as')}"
    return f"{sure} it is {amount(low, limit, 'at least', 'at most')}"


def amount(bound: float, limit: float, when_better: str, when_worse: str) -> str:
    """``at least 0.01 better``, ``at most 0.02 worse``: the sign as a word."""
    size = figure(abs(bound), abs(limit)) if bound else "0"
    return f"{when_better} {size} better" if bound > 0 else f"{when_worse} {size} worse"


def percent(confidence: float) -> str:
    """``95 %``, ``98.3 %``."""
    return f"{100 * confidence:.4g} %"


def asked(gate: Gate) -> str:
    """What the gate asks for."""
    if gate["max_drop"] is not None:
        return f"{gate['max_drop']:g} worse is allowed" if gate["max_drop"] else "no loss is allowed"
    return f"more than {gate['min_gain']:g} better is asked"


def few(part: Part) -> str:
    """That the rows do not suffice, where they do not."""
    return f": {count_of(part.difference.rows)} are too few to tell" if part.finding == "undecided" else ""


def who(gate: Gate, pin: Mapping[str, Any]) -> str:
    """The baseline as a person knows it."""
    return f"{gate['baseline']} (version {pin['version']})"


def named(gate: Gate, pin: Mapping[str, Any]) -> dict[str, Any]:
    """The baseline as a record keeps it."""
    return {"ref": gate["baseline"], "version": pin["version"], "digest": pin["digest"]}


def without_baseline(gate: Gate, pin: Mapping[str, Any]) -> Verdict:
    """The verdict when there is nothing to compare with."""
    decision = gate["on_missing"] or ("refuse" if pin["known"] else "pass")
    has = "no longer names a version" if pin["known"] else "has never named a version"
    does = "passes" if decision == "pass" else "refuses"
    reason = f"`{gate['baseline']}` {has}: nothing to compare with, so this gate {does}"
    return verdict_of(gate, decision == "pass", None, limit_of(gate), reason, missing=True, baseline=named(gate, pin))
