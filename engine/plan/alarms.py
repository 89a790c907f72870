"""What the budget of false alarms leaves each detector's tests, for a plan. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from engine.monitor.budget import FIRST, Budget, allot, parse, shared, thresholds
from engine.plugins import Description
from engine.spec.model import Detector, Monitor, Spec, seconds

BOTH = ("numeric", "categorical")


@dataclass(frozen=True, kw_only=True, slots=True)
class Allowance:
    """What a detector's tests are compared with.

    Attributes:
        tests: how many p-values it gives a window; 0 for an online one, whose alarms have a rate of their own.
        judged: how many are judged together: those of all detectors with the same window.
        alpha: of a window; without a budget the detector's own ``p_val``, ``None`` when that is not known either.
        hourly: whether alpha is for each hour since the window before, as of windows by rows with a budget per time.
        smallest: what the smallest of the p-values is compared with; ``largest`` the largest.
        ert: of an online detector the rows between false alarms.
    """

    detector: str
    uses: str
    window: int | str
    tests: int
    judged: int
    alpha: float | None
    hourly: bool = False
    smallest: float | None = None
    largest: float | None = None
    ert: int | None = None


def tests_of(detector: Detector, spec: Spec, described: Description | None) -> int:
    """How many p-values a detector gives a window, as its source and the spec say."""
    says = described.constants if described else {}
    if says.get("online"):
        return 0
    if says.get("whole"):
        return 1
    named = detector.with_.get("features")
    roles = says.get("roles", BOTH)
    columns = [name for role in BOTH if role in roles for name in getattr(spec.features, role)]
    return len(named) if isinstance(named, list | tuple) else len(columns)


def budget_of(monitor: Monitor) -> Budget | None:
    """The budget that a spec writes."""
    return parse(monitor.false_alarms) if monitor.false_alarms else None


def allowances(spec: Spec, described: Mapping[str, Description | None]) -> tuple[Allowance, ...]:
    """What each detector of a spec may use.

    Args:
        described: what the source of each ``uses`` says.
    """
    detectors = spec.monitor.detectors if spec.monitor else ()
    tests = [tests_of(item, spec, described.get(item.uses)) for item in detectors]
    windows = [item.window for item, count in zip(detectors, tests, strict=True) if count]
    budget = budget_of(spec.monitor) if spec.monitor else None
    found = []
    for item, count in zip(detectors, tests, strict=True):
        judged = sum(other for one, other in zip(detectors, tests, strict=True) if one.window == item.window)
        common: dict[str, Any] = {"detector": item.name, "uses": item.uses, "window": item.window, "tests": count}
        if not count:
            ert = parameter(item, described.get(item.uses), "ert")
            found.append(Allowance(**common, judged=0, alpha=None, ert=int(ert) if ert else None))
        elif budget is None:
            alpha = parameter(item, described.get(item.uses), "p_val")
            least = thresholds(alpha, count)[0] if alpha else None
            found.append(Allowance(**common, judged=count, alpha=alpha, smallest=least, largest=alpha))
        else:
            hourly = budget.windows is None and isinstance(item.window, int)
            length = None if isinstance(item.window, int) else float(str(seconds(item.window)))
            alpha = allot(shared(budget, len(set(windows))), FIRST if hourly else length)
            least, most = thresholds(alpha, judged)
            found.append(Allowance(**common, judged=judged, alpha=alpha, hourly=hourly, smallest=least, largest=most))
    return tuple(found)


def parameter(detector: Detector, described: Description | None, name: str) -> float | None:
    """A number that a detector is given, or that its source has as the default."""
    given = detector.with_.get(name)
    defaults = {item.name: item.default for item in described.parameters} if described else {}
    try:
        return float(given if given is not None else defaults[name].replace("_", ""))
    except (KeyError, TypeError, ValueError):
        return None


def alarm_lines(spec: Spec, described: Mapping[str, Description | None]) -> Iterator[str]:
    """The budget and what it leaves each detector, as lines."""
    found = allowances(spec, described)
    if not found or spec.monitor is None:
        return
    yield f"false alarms: {spec.monitor.false_alarms or 'no budget; each detector keeps to its own threshold'}"
    width = max(len(item.detector) for item in found)
    for item in found:
        yield f"  {item.detector:<{width}}  {said(item)}"


def said(item: Allowance) -> str:
    """What a detector may use, in words."""
    if item.ert is not None or not item.tests:
        return f"{item.uses}, row by row: once in {item.ert:,} rows, by its own `ert`" if item.ert else item.uses
    window = f"{item.window:,} rows" if isinstance(item.window, int) else item.window
    start = f"{item.uses}, {counted(item.tests, 'test')} in windows of {window}"
    if item.alpha is None or item.smallest is None or item.largest is None:
        return start
    each = " for each hour since the one before" if item.hourly else ""
    return f"{start}: alpha {item.alpha:.3g}{each}; p-values below {item.smallest:.2g} to {item.largest:.2g}"


def counted(count: int, noun: str) -> str:
    """``1 test``, ``2 tests``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def alarm_document(spec: Spec, described: Mapping[str, Description | None]) -> dict[str, Any] | None:
    """The same as JSON; ``None`` when nothing is watched."""
    found = allowances(spec, described)
    if not found or spec.monitor is None:
        return None
    return {"false_alarms": spec.monitor.false_alarms, "detectors": [asdict(item) for item in found]}
