"""How numbers, digests and verdicts read, the same in every format."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from engine.digest import bare
from engine.report.model import Baseline, Facts, Gate, Interval, Measure, Pin, Slice

NONE = "\u2013"
LESS_IS_BETTER = re.compile(
    r"brier(?!_resolution)|^ece$|log_loss|loss|mae|mape|mse|rmse|pinball|error|latency|parity|_ms$|_mb$"
)
"""Metrics of which less is better, for showing the worst slices first."""

VERDICTS = {"passed": "PASSED", "refused": "REFUSED", "failed": "FAILED"}
MARKS = {"pass": "\u2713", "refuse": "\u2717", "warn": "!"}
SIGNS = {"min": "\u2265 ", "max": "\u2264 ", "max_drop": "\u2265 ", "min_gain": "> "}
COMMIT = re.compile(r"[0-9a-f]{16,}")


def verdict(facts: Facts) -> str:
    """PASSED, REFUSED or FAILED."""
    return VERDICTS.get(facts.status, facts.status.upper())


def summary(facts: Facts) -> str:
    """The verdict's reason in one line."""
    if facts.status == "failed":
        return facts.fault.message if facts.fault else "it stopped before a verdict"
    refusing = sum(gate.mark == "refuse" for gate in facts.gates)
    warning = sum(gate.mark == "warn" for gate in facts.gates)
    also = f", {plural(warning, 'warning')}" if warning else ""
    total = len(facts.gates)
    if not total:
        return "no gates"
    if refusing:
        return f"{refusing} of {plural(total, 'gate')} {'refuses' if refusing == 1 else 'refuse'}{also}"
    passing = total - warning
    return f"{passing} of {plural(total, 'gate')} {'passes' if passing == 1 else 'pass'}{also}"


def provenance(facts: Facts) -> str:
    """The model, code and data versions that the metrics belong to, in one line."""
    digest = f" ({short(facts.model_digest)})" if facts.model_digest else ""
    parts = [f"model {facts.model}{digest}"]
    for pin in facts.pins:
        if pin.kind == "code":
            parts.append(f"code {identity(pin)}{' + uncommitted changes' if pin.note else ''}")
        elif pin.kind == "data":
            parts.append(f"{pin.name} data {identity(pin)}")
    return " \u00b7 ".join(parts)


def production(theirs: Baseline) -> str:
    """Which model is in production, and whether its figures may be compared with the run's."""
    digest = f" ({short(theirs.digest)})" if theirs.digest else ""
    rows = "on the same rows" if theirs.same_rows else "on other test data of its own: the change is no fair comparison"
    return f"production: version {theirs.version}{digest}, {rows}"


def change(value: float) -> str:
    """A difference with its sign; an equal figure is ``0``."""
    return figure(value) if value <= 0 else f"+{figure(value)}"


def direction(metric: str, value: float) -> str:
    """``better``, ``worse``, or nothing for a metric that stayed as it was."""
    if value == 0:
        return ""
    return "better" if (value < 0) is bool(LESS_IS_BETTER.search(metric)) else "worse"


def identity(pin: Pin) -> str:
    """A pin's short commit, else its short digest."""
    return short(pin.version) or short(pin.digest) or "unknown"


def next_step(facts: Facts) -> str:
    """What a person would do now."""
    if facts.status == "passed":
        return f"engine models list {facts.name}"
    if facts.status == "refused":
        return f"engine runs show {short(facts.run_id)}, then change the spec or the data"
    hint = facts.fault.hint if facts.fault else ""
    again = f"engine run {facts.spec} (finished steps stay cached)" if facts.spec else ""
    return ", then ".join(part for part in (hint, again) if part) or f"engine runs show {short(facts.run_id)}"


def plural(many: int, noun: str) -> str:
    """``1 gate``, ``2 gates``."""
    return f"{many:,} {noun}" if many == 1 else f"{many:,} {noun}s"


def short(digest: str, length: int = 12) -> str:
    """The start of a digest or a commit; other text, such as ``version 2``, as it is."""
    plain = bare(digest)
    return plain[:length] if COMMIT.fullmatch(plain) else plain


def figure(value: float | None, digits: int = 4) -> str:
    """A metric's value: ``digits`` decimals below one, fewer above, thousands apart, tiny ones as a power of ten."""
    if value is None:
        return NONE
    size = abs(value)
    if isinstance(value, int) or size == 0:
        return f"{int(value):,}"
    if size < 10.0**-digits * 5:
        return scientific(value)
    whole = len(f"{size:.0f}") if size >= 1 else 0
    return f"{value:,.{max(digits - whole, 1)}f}"


def scientific(value: float) -> str:
    """``2.4e-7``: three significant digits at most, the exponent without padding."""
    mantissa, _, exponent = f"{value:.2e}".partition("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"


def written(value: float) -> str:
    """A limit as a person writes it: ``0.65``, ``5``, ``1e-5``."""
    return scientific(value) if 0 < abs(value) < 1e-3 else f"{value:.10g}"


def limit(gate: Gate) -> str:
    """A gate's limit, with its direction where the gate's kind, or its default name, says it."""
    if len(gate.limit) > 1:
        return f"{written(gate.limit[0])} to {written(gate.limit[-1])}"
    named = (kind for kind in SIGNS if re.search(rf"\.{kind}(?:\W|$)", gate.name))
    sign = SIGNS.get(gate.kind or next(named, ""), "")
    return f"{sign}{written(gate.limit[0])}" if gate.limit else NONE


def value_of(gate: Gate) -> str:
    """A gate's value, with as many digits as it takes to tell it from a limit that it is near."""
    if gate.value is None:
        return NONE
    for digits in range(4, 10):
        shown = figure(gate.value, digits)
        if all(bound == gate.value or shown != figure(bound, digits) for bound in gate.limit):
            return shown
    return repr(gate.value)


def duration(seconds: float | None) -> str:
    """``0.02 s``, ``8.1 s``, ``2 min 05 s``, ``1 h 02 min``."""
    if seconds is None:
        return NONE
    if seconds < 59.95:
        return f"{seconds:.{2 if seconds < 1 else 1}f} s"
    minutes = round(seconds) // 60
    if minutes < 60:
        return f"{minutes} min {round(seconds) % 60:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def rows(value: int | None) -> str:
    """``1 row``, ``9,000 rows``, nothing when it is not known."""
    return "" if value is None else plural(value, "row")


def between(interval: Interval | None) -> str:
    """``[0.6547, 0.6679]``, nothing where there is no interval."""
    return "" if interval is None else f"[{figure(interval[0])}, {figure(interval[1])}]"


def surely(measure: Measure) -> str:
    """A metric's interval with its confidence: ``[0.6547, 0.6679] at 95 %``."""
    if measure.interval is None or measure.confidence is None:
        return between(measure.interval)
    return f"{between(measure.interval)} at {percent(measure.confidence)}"


def percent(share: float) -> str:
    """``95 %``."""
    return f"{100 * share:.4g} %"


def confidence(measures: Iterable[Measure]) -> str:
    """How sure the intervals of some metrics are, when they are all as sure; nothing without any."""
    found = {item.confidence for item in measures if item.interval is not None and item.confidence is not None}
    return percent(found.pop()) if len(found) == 1 else ""


def ungated(facts: Facts) -> tuple[Measure, ...]:
    """The metrics that no gate is about, so that a table of gates and metrics says nothing twice."""
    judged = {metric_of(gate) for gate in facts.gates}
    return tuple(measure for measure in facts.metrics if measure.name not in judged)


def metric_names(slices: Iterable[Slice]) -> list[str]:
    """The metrics that any of the slices has, in their order."""
    return list(dict.fromkeys(name for item in slices for name in item.metrics))


def worst_first(slices: Sequence[Slice], metric: str) -> list[Slice]:
    """The slices from the worst value of ``metric`` to the best; those without a value come last."""
    sign = -1 if LESS_IS_BETTER.search(metric) else 1
    known = [(value, item) for item in slices if (value := item.metrics.get(metric)) is not None]
    unknown = [item for item in slices if item.metrics.get(metric) is None]
    return [item for _, item in sorted(known, key=lambda pair: (sign * pair[0], pair[1].value))] + unknown


def statuses(facts: Facts) -> str:
    """``7 ran, 3 cached``, in the order in which the statuses first occur."""
    found = [step.status for step in facts.steps]
    return ", ".join(f"{found.count(status)} {status}" for status in dict.fromkeys(found))


def compact(value: float) -> str:
    """A tick's number: ``0.25``, ``-40``, ``7.6k``, ``2M``."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


def metric_of(gate: Gate) -> str:
    """The metric that a gate's name starts with, as default names do: ``metric.kind[slice]@baseline``."""
    return re.split(r"[.\[@]", gate.name)[0]


def moment(iso: str) -> str:
    """An ISO time to the minute; other text as it is."""
    found = re.match(r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d)(?::\d\d(?:\.\d+)?)?(Z|[+-]\d\d:?\d\d)?$", iso)
    if found is None:
        return iso
    zone = {"Z": " UTC", "+00:00": " UTC", None: ""}.get(found[3], f" {found[3]}")
    return f"{found[1]} {found[2]}{zone}"


def counted(rows: int | None) -> str:
    """A count for a narrow column: ``10,011``, ``1.23M``."""
    if rows is None:
        return NONE
    return f"{rows:,}" if rows < 100_000 else compact(rows)


def answers(gates: Sequence[Gate]) -> tuple[str, str]:
    """The mark of the worst of some gates, and what they say together: a limit for one, a count for several."""
    worst = next((mark for mark in ("refuse", "warn") if any(gate.mark == mark for gate in gates)), "pass")
    if len(gates) == 1:
        return worst, f"{worst} {limit(gates[0])}"
    saying = sum(gate.mark == worst for gate in gates)
    share = f"{len(gates)} gates" if saying == len(gates) else f"{saying} of {len(gates)} gates"
    return worst, f"{worst} \u00b7 {share}"
