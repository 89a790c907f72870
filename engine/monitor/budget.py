"""How many false alarms a model may raise in a time, and what that leaves to each test of each window. Pure.

::

    1 per 30 days --over the windows in 30 days, and the detectors--> alpha of a window --Holm, over its tests--> alarm

Every test errs: thirty features at 5 % alarm in most windows in which nothing changed. The budget is spent evenly, so
the mean number of false alarms in the time is at most what the spec says, whatever the number of features.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from engine.errors import UsageError

DAY = 86_400.0
UNITS: Mapping[str, float] = {"hour": 3600.0, "day": DAY, "week": 7 * DAY, "month": 30 * DAY, "year": 365 * DAY}
WINDOW = "window"
GRAMMAR = re.compile(
    r"\s*(?P<alarms>\d+(?:\.\d+)?)\s+per\s+(?:(?P<many>\d+(?:\.\d+)?)\s+)?(?P<unit>[a-z]+?)s?\s*", re.IGNORECASE
)
HINT = "write it as `1 per 30 days` or `1 per 100 windows`"
MOST = 0.5
Test = tuple[str, str]
"""The detector and the feature that a p-value is about."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Budget:
    """So many false alarms, in the mean, in so many seconds or in so many windows; one of the two is set."""

    alarms: float
    seconds: float | None = None
    windows: float | None = None


def parse(text: str) -> Budget:
    """``1 per 30 days`` or ``2 per 100 windows`` as a budget; a month has 30 days.

    Raises:
        UsageError: when it is neither, or nothing is allowed.
    """
    found = GRAMMAR.fullmatch(text)
    unit = found["unit"].lower() if found else ""
    if found is None or unit not in (*UNITS, WINDOW):
        raise UsageError(f'"{text}" is no number of false alarms in a time', hint=HINT)
    alarms, many = float(found["alarms"]), float(found["many"] or 1)
    if not alarms or not many:
        raise UsageError(f'"{text}" allows nothing: every test errs now and then', hint=HINT)
    if unit == WINDOW:
        return Budget(alarms=alarms, windows=many)
    return Budget(alarms=alarms, seconds=many * UNITS[unit])


def alpha_of_window(budget: Budget, detectors: int, window_seconds: float | None) -> float | None:
    """How likely a detector may raise a false alarm in one window.

    The budget is shared evenly: of ``detectors``, each has the same part, and of that each of its windows in the time.
    By the linearity of expectation the mean of the false alarms is the sum of these, however the windows depend on
    each other. It never exceeds :data:`MOST`.

    Args:
        detectors: how many share the budget.
        window_seconds: how long a window lasts, measured where windows are of rows; ``None`` when that is not known.

    Returns:
        ``None`` when the budget is of a time and the windows' length is not known.
    """
    if budget.windows is not None:
        windows = budget.windows
    elif window_seconds is None or budget.seconds is None:
        return None
    else:
        windows = max(1.0, budget.seconds / window_seconds)
    return min(MOST, budget.alarms / (detectors * windows))


@dataclass(frozen=True, kw_only=True, slots=True)
class Judged:
    """What the tests of one window say together.

    Attributes:
        drifted: the tests that speak for a change, the strongest first.
        limits: what the p-value of each test was compared with.
    """

    drifted: tuple[Test, ...]
    limits: Mapping[Test, float]

    @property
    def alarm(self) -> bool:
        """Whether any does."""
        return bool(self.drifted)


def judge(p_values: Mapping[Test, float], alpha: float) -> Judged:
    """The tests of a window that speak for a change; the chance of any when nothing changed is at most ``alpha``.

    Holm (1979), A simple sequentially rejective multiple test procedure, Scandinavian Journal of Statistics 6: the
    k-th smallest of m p-values is compared with ``alpha / (m - k + 1)``, up to the first that is not below.
    """
    ordered = sorted(p_values, key=lambda test: (p_values[test], test))
    limits = {test: alpha / (len(ordered) - place) for place, test in enumerate(ordered)}
    drifted = []
    for test in ordered:
        if p_values[test] > limits[test]:
            break
        drifted.append(test)
    return Judged(drifted=tuple(drifted), limits=limits)


def strictest(tests: Sequence[Test], alpha: float) -> float:
    """What the smallest p-value of a window is compared with."""
    return alpha / max(1, len(tests))
