"""How many false alarms a model may give, and what that means for each test. Pure.

    false_alarms: 1 per 30 days --parse--> Budget --allot--> alpha of a window --Holm--> a threshold for each test

Spending over time is linear in the calendar (Lan and DeMets, 1983, Biometrika 70:659): a window may use what came in
since the one before it, ``alpha = alarms * elapsed / period``. False alarms have expectation alpha each, and
expectations add whatever the tests depend on, so over a period the alphas add to ``alarms``, however many windows
there were: nothing has to be known of the traffic. Windows of a fixed time, or a budget per N windows, so get a
constant alpha. Several sequences of windows, such as detectors with windows of their own, share the budget equally.

Within a window Holm (1979, Scandinavian Journal of Statistics 6:65) keeps the chance of any false rejection at alpha
whatever the tests have to do with each other; ``bh`` (Benjamini and Hochberg, 1995, JRSS B 57:289) finds more when
many features move together, and keeps alpha without drift for tests that are independent or rise together (Simes).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from engine.errors import UsageError

if TYPE_CHECKING:
    from engine.plugins import DriftVerdict

Method = Literal["holm", "bh"]
NUMBER = r"\d+(?:\.\d+)?"
FORM = re.compile(rf"\s*({NUMBER})\s+per\s+(?:({NUMBER})\s+)?([a-z]+?)s?\s*", re.IGNORECASE)
SECONDS: Mapping[str, float] = {
    "minute": 60.0, "hour": 3600.0, "day": 86_400.0, "week": 604_800.0, "month": 30 * 86_400.0, "year": 365 * 86_400.0,
}  # fmt: skip
WINDOW = "window"
HINT = "write it as `1 per 30 days` or `1 per 100 windows`"
MOST = 0.1
"""The largest alpha of a window. Beyond it, as after a long time without traffic, an alarm says too little."""
FIRST = 3600.0
"""The seconds that count for a window of rows before which no other was."""
SMALLEST = 1e-300


@dataclass(frozen=True, kw_only=True, slots=True)
class Budget:
    """So many false alarms are expected in a period: of ``seconds``, or of ``windows``; the other is ``None``."""

    alarms: float
    seconds: float | None = None
    windows: float | None = None

    def __str__(self) -> str:
        """As a spec says it."""
        if self.windows is not None:
            return f"{self.alarms:g} per {self.windows:g} windows"
        days = (self.seconds or 0.0) / SECONDS["day"]
        return f"{self.alarms:g} per {days:g} days" if days >= 1 else f"{self.alarms:g} per {days * 24:g} hours"


def parse(text: str) -> Budget:
    """The budget that a spec writes: ``1 per 30 days``, ``2 per week``, ``1 per 1000 windows``. A month has 30 days.

    Raises:
        UsageError: for another form, for nothing, and for more than an alarm in 10 windows.
    """
    found = FORM.fullmatch(text)
    unit = found[3].lower() if found else ""
    if found is None or unit not in (*SECONDS, WINDOW):
        raise UsageError(f'"{text}" is no number of false alarms in a time', hint=HINT)
    alarms, count = float(found[1]), float(found[2] or 1)
    if not alarms or not count:
        raise UsageError(f'"{text}" allows nothing: every test errs now and then', hint=HINT)
    if unit != WINDOW:
        return Budget(alarms=alarms, seconds=count * SECONDS[unit])
    if alarms > MOST * count:
        raise UsageError(f'"{text}" is more than 1 alarm in 10 windows, which says nothing', hint=HINT)
    return Budget(alarms=alarms, windows=count)


def shared(budget: Budget, sequences: int) -> Budget:
    """The part of each of several sequences of windows: expectations add, so each has an equal part."""
    return replace(budget, alarms=budget.alarms / max(sequences, 1))


def allot(budget: Budget, elapsed: float | None = None) -> float:
    """The significance of one window: how probable a false alarm in it may be.

    Args:
        elapsed: the seconds since the window before it was judged; of windows by time, their length. ``None`` for the
            first window of rows, which counts as an hour. A budget per windows does not look at it.

    Returns:
        At least 0, where a clock went back, and at most :data:`MOST`.
    """
    if budget.windows is not None:
        return min(budget.alarms / budget.windows, MOST)
    passed = FIRST if elapsed is None else max(elapsed, 0.0)
    return min(budget.alarms * passed / (budget.seconds or SECONDS["month"]), MOST)


def adjusted(p_vals: Sequence[float], method: Method = "holm") -> tuple[float, ...]:
    """Each p-value so raised that comparing it with alpha is the whole procedure; in the order of ``p_vals``.

    With NaN, which says nothing, as 1.
    """
    count = len(p_vals)
    clean = [1.0 if math.isnan(value) else value for value in p_vals]
    order = sorted(range(count), key=clean.__getitem__)
    found = [1.0] * count
    if method == "holm":
        highest = 0.0
        for rank, index in enumerate(order):
            highest = max(highest, min(clean[index] * (count - rank), 1.0))
            found[index] = highest
    else:
        lowest = 1.0
        for rank, index in reversed(list(enumerate(order))):
            lowest = min(lowest, clean[index] * count / (rank + 1))
            found[index] = lowest
    return tuple(found)


def thresholds(alpha: float, tests: int) -> tuple[float, float]:
    """What the smallest and what the largest of ``tests`` p-values are compared with, by Holm."""
    return alpha / max(tests, 1), alpha


@dataclass(frozen=True, kw_only=True, slots=True)
class Contribution:
    """What a feature adds to an alarm.

    Attributes:
        detectors: those whose test of it was rejected, the surest first.
        p_val: the smallest of its p-values; ``adjusted`` is what was compared with alpha.
        distance: of the same test; ``detector`` is whose.
        share: of the evidence ``-log10(p_val)`` of all rejected features; they add to 1.
    """

    feature: str
    detector: str
    detectors: tuple[str, ...]
    p_val: float
    adjusted: float
    distance: float
    share: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Alarm:
    """That a window differs from the reference, and in what: the features with the most evidence first.

    ``tests`` is how many p-values were judged together at ``alpha``.
    """

    alpha: float
    method: Method
    tests: int
    rows: int
    features: tuple[Contribution, ...]


def judge(verdicts: Mapping[str, DriftVerdict], alpha: float | None, method: Method = "holm") -> Alarm | None:
    """Judge all detectors of one window together.

    Args:
        verdicts: by the detector's name.
        alpha: of this window, from :func:`allot`; ``None`` without a budget, where each detector has the threshold of
            its own ``p_val``.

    Returns:
        ``None`` when nothing speaks against the reference.
    """
    tests = [(name, feature) for name, verdict in verdicts.items() for feature in verdict.p_val]
    p_vals = [verdicts[name].p_val[feature] for name, feature in tests]
    raised = adjusted(p_vals, method)
    if alpha is None:
        rejected = [at for at, (name, feature) in enumerate(tests) if feature in verdicts[name].drifted]
        alpha = max((verdict.threshold for verdict in verdicts.values()), default=0.0)
    else:
        rejected = [at for at, value in enumerate(raised) if value <= alpha and p_vals[at] <= alpha]
    if not rejected:
        return None
    rejected.sort(key=lambda at: (p_vals[at], -verdicts[tests[at][0]].distance[tests[at][1]]))
    by_feature: dict[str, list[int]] = {}
    for at in rejected:
        by_feature.setdefault(tests[at][1], []).append(at)
    evidence = {feature: -math.log10(max(p_vals[ats[0]], SMALLEST)) for feature, ats in by_feature.items()}
    total = sum(evidence.values()) or 1.0
    return Alarm(
        alpha=alpha,
        method=method,
        tests=len(tests),
        rows=max(verdict.rows for verdict in verdicts.values()),
        features=tuple(
            Contribution(
                feature=feature,
                detector=tests[ats[0]][0],
                detectors=tuple(tests[at][0] for at in ats),
                p_val=p_vals[ats[0]],
                adjusted=raised[ats[0]],
                distance=verdicts[tests[ats[0]][0]].distance[feature],
                share=evidence[feature] / total,
            )
            for feature, ats in by_feature.items()
        ),
    )
