"""A window of predictions beside its reference: every detector's verdict, judged together, and the schema's.

::

    rows --inputs--> detectors of the run --verdicts--.
      |  --scores--> detector `outputs`   ------------+--> judge --> an alarm, or none
      `---inputs--> checks of the training schema --> violations
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.digest import digest_of, plain
from engine.monitor.budget import Alarm, Contribution, judge
from engine.monitor.detectors import made
from engine.monitor.distributions import distribution
from engine.monitor.model import OUTPUTS, Distribution, Figure, Raised, Stream, Violation, Window
from engine.monitor.windows import micros
from engine.observe.subject import Subject, Watch, inputs_of, score_table
from engine.plugins import DriftVerdict, Feature, PluginFailed
from engine.serve.checks import Checks, Finding, lowered
from engine.serve.model import Tensor

WHOLE_ROW = "*"
FOREMOST = 3
MOST_SHOWN = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Judgement:
    """What is said of a window.

    Attributes:
        verdicts: of each detector that could be asked, by its name.
        alarm: that it drifted; ``None`` when nothing speaks against the reference.
        alpha: what the tests of this window were judged at; ``None``: at each detector's own threshold.
        violations: rows that break the schema of the training data.
        skipped: detectors that could not be asked, and why.
        online: of detectors that look at each row and have a run length of their own, which is no part of ``alpha``.
        distributions: of the features behind an alarm, the surest first.
    """

    stream: Stream
    window: Window
    verdicts: Mapping[str, DriftVerdict] = field(default_factory=dict)
    alarm: Alarm | None = None
    alpha: float | None = None
    violations: tuple[Violation, ...] = ()
    violating: int = 0
    skipped: Mapping[str, str] = field(default_factory=dict)
    online: Mapping[str, DriftVerdict] = field(default_factory=dict)
    distributions: Mapping[str, Distribution] = field(default_factory=dict)


def judged(
    subject: Subject,
    watches: Sequence[Watch],
    stream: Stream,
    window: Window,
    rows: pa.Table,
    alpha: float | None,
    *,
    raw: bool = False,
) -> Judgement:
    """Ask detectors about a window and judge them together; and ask the schema.

    Args:
        watches: the detectors; ``outputs`` among them looks at the scores.
        rows: of the log; with ``raw`` a table whose columns are the inputs.
    """
    rows = rows.combine_chunks()  # once, rather than column by column in each test
    inputs = rows if raw else inputs_of(rows)
    scores = None if raw else score_table(rows, subject)
    verdicts: dict[str, DriftVerdict] = {}
    skipped: dict[str, str] = {}
    for watch in watches:
        table = scores if watch.name == OUTPUTS else inputs
        reason = why_not(watch, table, subject)
        if reason:
            skipped[watch.name] = reason
            continue
        try:
            verdicts[watch.name] = watch.fitted.predict(table)
        except PluginFailed as error:
            skipped[watch.name] = str(error)
    alone = {watch.name: verdicts.pop(watch.name) for watch in watches if watch.is_online and watch.name in verdicts}
    alarm = judge(verdicts, alpha) if verdicts else None
    violations, violating = violations_of(subject, inputs)
    found = [item.feature for item in alarm.features] if alarm else []
    found += [name for verdict in alone.values() for name in verdict.drifted if name not in found]
    return Judgement(
        stream=stream,
        window=window,
        verdicts=verdicts,
        alarm=alarm,
        alpha=alpha,
        violations=violations,
        violating=violating,
        skipped=skipped,
        online=alone,
        distributions=beside(watches, found[:MOST_SHOWN], inputs, scores),
    )


def why_not(watch: Watch, table: pa.Table | None, subject: Subject) -> str:
    """Why a detector cannot be asked; empty when it can."""
    if table is None:
        return "no output was logged"
    there = set(table.column_names)
    absent = [name for name in watch.reference.column_names if name not in there]
    if not absent:
        least = int(getattr(type(made(watch.uses, watch.options)), "least_rows", 1))
        return f"it needs at least {least:,} rows" if table.num_rows < least else ""
    hidden = [name for name in absent if name in subject.redacted]
    why = "is not logged as the spec redacts it" if hidden else "is not in the window"
    return f'"{(hidden or absent)[0]}" {why}'


def beside(
    watches: Sequence[Watch], features: Sequence[str], inputs: pa.Table, scores: pa.Table | None
) -> dict[str, Distribution]:
    """The two distributions of features, by their names; of a test of the whole row, of all its features."""
    found: dict[str, Distribution] = {}
    for watch in watches:
        table = scores if watch.name == OUTPUTS else inputs
        for name in watch.reference.column_names:
            asked = name in features or WHOLE_ROW in features
            if asked and name not in found and table is not None and name in table.column_names:
                found[name] = distribution(name, watch.reference.column(name), table.column(name))
    return {name: found[name] for name in [*features, *found] if name in found}


def of_slice(subject: Subject, reference: pa.Table) -> tuple[Watch, ...]:
    """The spec's detectors fitted anew on some rows of the reference: those of a slice."""
    found = []
    for watch in subject.watches:
        if watch.is_online:
            continue
        features = features_of(subject)
        fitted = made(watch.uses, watch.options).fit(reference, features, int(subject.spec["seed"]))
        _, kept = fitted.state()
        found.append(
            Watch(
                name=watch.name, uses=watch.uses, size=watch.size, fitted=fitted, reference=kept, options=watch.options
            )
        )
    return tuple(found)


def features_of(subject: Subject) -> tuple[Feature, ...]:
    """The model's features as a detector is fitted with them."""
    types = {item["name"]: item["datatype"] for item in subject.signature["inputs"]}
    roles = {name: role for role in ("numeric", "categorical") for name in subject.spec["features"][role]}
    known = [name for name in roles if name in types]
    return tuple(Feature(name=name, role=roles[name], datatype=types[name]) for name in known)  # type: ignore[arg-type]


# -- the schema ------------------------------------------------------------------------------------------------------


def violations_of(subject: Subject, inputs: pa.Table) -> tuple[tuple[Violation, ...], int]:
    """How rows break what the training data's schema says of the inputs, the most frequent first; and how many do.

    A value that the training data never had counts, also where the server lets it pass.
    """
    found: list[Violation] = []
    rows: set[int] = set()
    arrays: dict[str, Any] = {}
    for tensor in tensors(subject):
        if tensor.name not in inputs.column_names:
            if tensor.name not in subject.redacted:
                found.append(violation(tensor.name, "a column", "none", "column", inputs.num_rows))
                rows.update(range(inputs.num_rows))
            continue
        if tensor.name in subject.redacted:
            continue
        values = as_array(inputs.column(tensor.name), tensor)
        if values is None:
            kind = str(inputs.schema.field(tensor.name).type)
            found.append(violation(tensor.name, tensor.datatype, kind, "type", inputs.num_rows))
            rows.update(range(inputs.num_rows))
        else:
            arrays[tensor.name] = values
    known = tuple(tensor for tensor in tensors(subject) if tensor.name in arrays)
    for places, finding in findings(checks_of(subject, known), arrays):
        rows.update(places)
        found.append(violation(finding.tensor, finding.expected, finding.received, finding.kind, len(places)))
    return summed(found), len(rows)


def violation(column: str, expected: str, received: str, kind: str, rows: int) -> Violation:
    """One way to break the schema."""
    return Violation(column=column, expected=expected, received=received, kind=kind, rows=rows)


def summed(found: Sequence[Violation]) -> tuple[Violation, ...]:
    """The same way to break it as one, with the first value that came."""
    together: dict[tuple[str, str, str], Violation] = {}
    for item in found:
        key = (item.column, item.expected, item.kind)
        before = together.get(key)
        together[key] = (
            item if before is None else violation(*key[:2], before.received, key[2], before.rows + item.rows)
        )
    return tuple(sorted(together.values(), key=lambda item: (-item.rows, item.column)))


@lru_cache(maxsize=256)
def tensors(subject: Subject) -> tuple[Tensor, ...]:
    """The model's inputs."""
    return tuple(
        Tensor(name=item["name"], datatype=item["datatype"], shape=tuple(item["shape"]))
        for item in subject.signature["inputs"]
    )


@lru_cache(maxsize=256)
def checks_of(subject: Subject, inputs: tuple[Tensor, ...]) -> Checks:
    """What the schema says of some inputs."""
    return lowered(inputs, subject.package.get("schema"), subject.signature.get("categories"), "refuse")


def findings(checks: Checks, columns: Mapping[str, Any]) -> Iterator[tuple[Sequence[int], Finding]]:
    """Every finding with the rows that it is about. A value of a category that comes often is tested once."""
    if not columns:
        return
    for row, finding in checks.numbers.wrong(columns):
        yield (row,), finding
    for check in checks.values:
        distinct, places = np.unique(columns[check.name].reshape(-1), return_inverse=True)
        for at, finding in check.wrong({check.name: distinct}):
            yield np.flatnonzero(places == at).tolist(), finding


def as_array(column: pa.ChunkedArray, tensor: Tensor) -> Any:
    """A column as checks look at it, (rows, 1); nothing when it is of another type."""
    found = column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column
    if tensor.datatype == "FP32" and found.type == pa.float32() and not found.null_count:
        return found.to_numpy().reshape(-1, 1)
    try:
        if tensor.datatype == "BYTES":
            if not (pa.types.is_string(found.type) or pa.types.is_large_string(found.type)):
                return None
            return np.asarray(found.cast(pa.string()).fill_null("").to_numpy(), dtype=object).reshape(-1, 1)
        values = found.cast(pa.float64(), safe=False).to_numpy()
        if tensor.datatype == "FP32":
            with np.errstate(over="ignore"):
                values = values.astype(np.float32)
        if tensor.datatype == "BOOL":
            return pc.fill_null(found, False).to_numpy().reshape(-1, 1)
        if tensor.datatype == "INT64" and not found.null_count:
            return found.cast(pa.int64(), safe=False).to_numpy().reshape(-1, 1)
        return np.asarray(values).reshape(-1, 1)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return None


# -- what is kept of it ----------------------------------------------------------------------------------------------


def figures_of(judgement: Judgement) -> Iterator[Figure]:
    """Every test of a window as a figure, and the share of rows that break the schema."""
    behind = {(item.feature, name) for item in contributions(judgement) for name in item.detectors}
    for name, verdict in judgement.verdicts.items():
        for feature, p_val in verdict.p_val.items():
            yield Figure(
                stream=judgement.stream,
                kind="drift",
                metric="p_value",
                window=judgement.window,
                n=verdict.rows,
                value=p_val,
                detector=name,
                feature=feature,
                distance=verdict.distance.get(feature),
                limit=verdict.threshold if judgement.alpha is None else judgement.alpha,
                alarm=(feature, name) in behind,
            )
    for name, verdict in judgement.online.items():
        for feature, distance in verdict.distance.items():
            yield Figure(
                stream=judgement.stream,
                kind="drift",
                metric="statistic",
                window=judgement.window,
                n=verdict.rows,
                value=distance,
                detector=name,
                feature=feature,
                distance=distance,
                limit=verdict.threshold,
                alarm=feature in verdict.drifted,
            )
    if judgement.window.rows:
        yield Figure(
            stream=judgement.stream,
            kind="schema",
            metric="violations",
            window=judgement.window,
            n=judgement.window.rows,
            value=judgement.violating / judgement.window.rows,
            limit=0.0,
            alarm=judgement.violating > 0,
        )


def contributions(judgement: Judgement) -> tuple[Contribution, ...]:
    """The features behind an alarm."""
    return judgement.alarm.features if judgement.alarm else ()


def alarms_of(judgement: Judgement) -> Iterator[Raised]:
    """The alarms that a window gives: one for all that drifted, one for the schema."""
    window, stream = judgement.window, judgement.stream
    if judgement.alarm is not None:
        features = tuple(item.feature for item in judgement.alarm.features)
        yield Raised(
            id=alarm_id(stream, "drift", window),
            key=alarm_key(stream, "drift", sorted(features)),
            stream=stream,
            signal="drift",
            window=window,
            text=drift_text(judgement.alarm),
            features=features,
            detail=drift_detail(judgement),
        )
    for name, verdict in judgement.online.items():
        if verdict.drift:
            yield online_alarm(judgement, name, verdict)
    if judgement.violating:
        columns = tuple(dict.fromkeys(item.column for item in judgement.violations))
        yield Raised(
            id=alarm_id(stream, "schema", window),
            key=alarm_key(stream, "schema", sorted(columns)),
            stream=stream,
            signal="schema",
            window=window,
            text=schema_text(judgement),
            features=columns,
            detail={"violations": [asdict(item) for item in judgement.violations[:MOST_SHOWN]]},
        )


def online_alarm(judgement: Judgement, name: str, verdict: DriftVerdict) -> Raised:
    """The alarm of a detector that looks at each row."""
    features = verdict.drifted or tuple(verdict.distance)
    stream, window = judgement.stream, judgement.window
    shown = ", ".join(named(feature) for feature in features[:FOREMOST])
    return Raised(
        id=alarm_id(stream, "drift", window, name),
        key=alarm_key(stream, "drift", [name, *sorted(features)]),
        stream=stream,
        signal="drift",
        window=window,
        text=f"drift of {shown}, by {name}, which looks at each row",
        features=features,
        detail={
            "detector": name,
            "at": list(verdict.at),
            "features": [
                {"feature": feature, "detector": name, "p_val": verdict.p_val.get(feature),
                 "distance": verdict.distance[feature], "share": 1 / len(features)}
                for feature in features
            ],
            "distributions": {
                feature: asdict(item) for feature, item in judgement.distributions.items() if feature in features
            },
        },
    )  # fmt: skip


def alarm_id(stream: Stream, signal: str, window: Window, what: str = "") -> str:
    """The name of an alarm: the same for the same window of the same stream, whoever looks at it and how often."""
    return digest_of([asdict(stream), signal, window.size, micros(window.start), micros(window.end), what])[:32]


def alarm_key(stream: Stream, signal: str, what: Sequence[str]) -> str:
    """What alarms have in common that say the same."""
    return digest_of([asdict(stream), signal, list(what)])[:32]


def drift_text(alarm: Alarm) -> str:
    """What drifted, in a line."""
    shown = [f"{named(item.feature)} (p {item.p_val:.1e}, {item.share:.0%})" for item in alarm.features[:FOREMOST]]
    more = len(alarm.features) - FOREMOST
    return f"drift of {', '.join(shown)}{f' and {more} more' if more > 0 else ''}"


def named(feature: str) -> str:
    """A feature as it is shown; a test of the whole row is of all of them."""
    return "all features together" if feature == WHOLE_ROW else feature


def schema_text(judgement: Judgement) -> str:
    """Which rows break the schema, in a line."""
    foremost = judgement.violations[0]
    more = len(judgement.violations) - 1
    return (
        f"{judgement.violating:,} of {judgement.window.rows:,} rows break the schema: {foremost.column}: expected"
        f" {foremost.expected}, received {foremost.received}{f', and {more} more' if more > 0 else ''}"
    )


def drift_detail(judgement: Judgement) -> dict[str, Any]:
    """All that is behind an alarm."""
    assert judgement.alarm is not None
    found = plain(
        {
            "alpha": judgement.alarm.alpha,
            "method": judgement.alarm.method,
            "tests": judgement.alarm.tests,
            "features": [asdict(item) for item in judgement.alarm.features],
            "distributions": {name: asdict(item) for name, item in judgement.distributions.items()},
        }
    )
    assert isinstance(found, dict)
    return found


def document(judgement: Judgement) -> dict[str, Any]:
    """A judgement as JSON."""
    window = judgement.window
    return {
        "model": judgement.stream.model,
        "version": judgement.stream.version,
        "alias": judgement.stream.alias,
        "slice": judgement.stream.slice,
        "window": {
            "size": window.size, "start": window.start.isoformat(), "end": window.end.isoformat(),
            "rows": window.rows, "late": window.late,
        },
        "drift": judgement.alarm is not None or any(verdict.drift for verdict in judgement.online.values()),
        "alpha": judgement.alpha,
        "alarm": drift_detail(judgement) if judgement.alarm else None,
        "verdicts": {
            name: {
                "drift": verdict.drift, "threshold": verdict.threshold, "p_val": dict(verdict.p_val),
                "distance": dict(verdict.distance), "rows": verdict.rows,
            }
            for name, verdict in {**judgement.verdicts, **judgement.online}.items()
        },
        "online": {name: list(verdict.at) for name, verdict in judgement.online.items()},
        "schema": {
            "rows": judgement.violating,
            "violations": [asdict(item) for item in judgement.violations[:MOST_SHOWN]],
        },
        "skipped": dict(judgement.skipped),
    }  # fmt: skip
