"""Read a run's document and its evaluation: from JSON of any shape to :class:`~engine.report.model.Facts`.

A report must come out of a failed run too, so whatever is missing or of another type is left out, never an error.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from engine.digest import bare
from engine.errors import Place
from engine.report.clean import lines, terminal
from engine.report.model import (
    FAULT,
    Baseline,
    Calibration,
    Document,
    Facts,
    Fault,
    Gate,
    Interval,
    Measure,
    Parity,
    Pin,
    Report,
    Residuals,
    Roc,
    Slice,
    Step,
)


def facts(report: Report) -> Facts:
    """What ``report`` says, every text cleaned once for all renderers."""
    run, evaluation = mapping(report.run), mapping(report.evaluation)
    model, curves = mapping(run.get("model")), mapping(evaluation.get("curves"))
    metrics = measures(run, evaluation)
    return Facts(
        run_id=words(run.get("run_id")),
        name=words(run.get("name")) or words(model.get("name")) or "unnamed",
        status=words(run.get("status")) or "failed",
        executed=run.get("executed") is not False,
        spec=words(run.get("spec")),
        record=words(run.get("record")),
        target=words(run.get("target")),
        started=words(run.get("started")),
        seconds=number(run.get("seconds")),
        written=tuple(terminal(place) for place in report.written),
        version=count(model.get("version")),
        model_digest=bare(words(model.get("digest"))),
        task=words(evaluation.get("task")),
        rows=count(evaluation.get("rows")),
        classes=tuple(words(item) for item in sequence(evaluation.get("classes"))),
        positive=words(evaluation.get("positive")),
        weights=words(evaluation.get("weights")),
        metrics=metrics,
        overall={measure.name: measure.value for measure in metrics},
        gates=tuple(gate(mapping(item), report.places) for item in sequence(run.get("gates"))),
        slices=slices({**mapping(evaluation.get("slices")), **labels(evaluation)}),
        pins=pins(mapping(run.get("pins"))),
        steps=tuple(step(mapping(item)) for item in sequence(run.get("steps"))),
        parity=parity(mapping(evaluation.get("parity"))),
        roc=roc(mapping(curves.get("roc"))),
        calibration=calibration(mapping(curves.get("calibration"))),
        residuals=residuals(mapping(curves.get("residuals"))),
        fault=fault(mapping(run.get("error")), report.places),
        baseline=baseline(mapping(report.baseline)),
    )


def measures(run: Document, evaluation: Document) -> tuple[Measure, ...]:
    """The evaluation's metrics in its order, then those that only the run has, such as ``model_mb``."""
    judged = {
        words(name): Measure(
            name=words(name),
            value=number(mapping(item).get("value", item)),
            rows=count(mapping(item).get("rows")),
            interval=interval([mapping(item).get("low"), mapping(item).get("high")]),
            confidence=number(mapping(item).get("confidence")),
        )
        for name, item in mapping(evaluation.get("metrics")).items()
    }
    named = {words(name): number(value) for name, value in mapping(run.get("metrics")).items()}
    others = (Measure(name=name, value=value) for name, value in named.items() if name not in judged)
    return (*judged.values(), *others)


def gate(document: Document, places: Mapping[str, Place]) -> Gate:
    """One gate's answer; what does not say that it passed has not."""
    limit = document.get("limit")
    return Gate(
        name=words(document.get("name")),
        passed=document.get("passed") is True,
        value=number(document.get("value")),
        limit=numbers(limit) if isinstance(limit, Sequence) else numbers([limit]),
        reason=words(document.get("reason")),
        level=words(document.get("level")) or "refuse",
        measured=document.get("measured") is True,
        kind=words(document.get("kind")),
        place=place(places.get(str(document.get("name")))),
        interval=interval([document.get("low"), document.get("high")]),
        rows=count(document.get("rows")),
        machine=machine(mapping(document.get("machine"))),
    )


def place(found: Place | None) -> Place:
    """A place with clean text; one that is not known says nothing."""
    found = found or Place()
    return Place(file=terminal(found.file), line=found.line, column=found.column, key=terminal(found.key))


def machine(document: Document) -> str:
    """What something was measured on: ``AMD EPYC 7B13, 2 of 4 cores``."""
    cores, usable = count(document.get("cores")), count(document.get("cores_usable"))
    said = f"{usable} of {cores} cores" if cores and usable else ""
    return ", ".join(part for part in (words(document.get("cpu")), said) if part)


def step(document: Document) -> Step:
    """One step of the run."""
    return Step(
        name=words(document.get("name")),
        kind=words(document.get("kind")),
        status=words(document.get("status")),
        seconds=number(document.get("seconds")),
        digest=bare(words(document.get("digest"))),
    )


def labels(evaluation: Document) -> Document:
    """Each of several labels, where there are some, in the form of slices."""
    found = sequence(evaluation.get("labels"))
    return {"label": found} if found else {}


def slices(document: Document) -> Mapping[str, tuple[Slice, ...]]:
    """The slices of every slicing column, in the evaluation's order."""
    return {
        words(column): tuple(
            Slice(
                value=words(item.get("value")) or "(empty)",
                rows=count(item.get("rows")),
                metrics={words(name): number(value) for name, value in mapping(item.get("metrics")).items()},
                intervals={
                    words(name): known
                    for name, ends in mapping(item.get("intervals")).items()
                    if (known := interval(ends)) is not None
                },
            )
            for item in map(mapping, sequence(found))
        )
        for column, found in document.items()
    }


def interval(ends: object) -> Interval | None:
    """Low and high, where both are numbers in this order."""
    found = numbers(ends)
    return (found[0], found[1]) if len(found) == 2 and found[0] <= found[1] else None


def pins(document: Document) -> tuple[Pin, ...]:
    """Data, baselines, code and environment, in this order."""
    data = (data_pin(name, mapping(item)) for name, item in mapping(document.get("data")).items())
    models = (baseline_pin(name, mapping(item)) for name, item in mapping(document.get("models")).items())
    code, environment = mapping(document.get("code")), mapping(document.get("environment"))
    rest = [code_pin(code)] if code else []
    if environment:
        rest.append(environment_pin(environment))
    return (*data, *models, *rest)


def data_pin(name: str, document: Document) -> Pin:
    """A source of data: its URI, its commit, our digest of its content."""
    return Pin(
        kind="data",
        name=words(name),
        source=words(document.get("uri")),
        version=words(document.get("commit")),
        digest=bare(words(document.get("digest"))),
    )


def baseline_pin(alias: str, document: Document) -> Pin:
    """The version that an alias named when the run was resolved; none when there was no such alias."""
    version = count(document.get("version"))
    return Pin(
        kind="baseline",
        name=words(alias),
        version="none" if version is None else f"version {version}",
        digest=bare(words(document.get("digest"))),
    )


def code_pin(document: Document) -> Pin:
    """The git commit, whether the tree had other changes, our digest of the sources in use."""
    return Pin(
        kind="code",
        name="",
        version=words(document.get("commit")),
        digest=bare(words(document.get("digest"))),
        note="uncommitted changes" if document.get("dirty") is True else "",
    )


def environment_pin(document: Document) -> Pin:
    """The Python version and the digest of the installed versions in use."""
    python = words(document.get("python"))
    return Pin(
        kind="environment",
        name="",
        source=f"Python {python}" if python else "",
        digest=bare(words(document.get("digest"))),
    )


def parity(document: Document) -> Parity | None:
    """How well the exported graph repeats the trained model, where it was compared."""
    if not document:
        return None
    return Parity(
        max_difference=number(document.get("max_difference")),
        label_flips=count(document.get("label_flips")),
        rows=count(document.get("rows")),
    )


def roc(document: Document) -> Roc | None:
    """The ROC curve, where there are two points or more."""
    points = rows_of(document, "fpr", "tpr")
    return Roc(fpr=points[0], tpr=points[1]) if len(points[0]) > 1 else None


def calibration(document: Document) -> Calibration | None:
    """The reliability curve, where there is a bin."""
    predicted, observed, rows = rows_of(document, "predicted", "observed", "rows")
    return Calibration(predicted=predicted, observed=observed, rows=rows) if predicted else None


def residuals(document: Document) -> Residuals | None:
    """The histogram of residuals, where its edges ascend and fit its counts."""
    edges, counts = numbers(document.get("edges")), numbers(document.get("counts"))
    if not counts or min(counts) < 0 or len(edges) != len(counts) + 1:
        return None
    ascending = list(edges) == sorted(edges) and number(edges[-1] - edges[0]) is not None
    return Residuals(edges=edges, counts=counts) if ascending else None


def baseline(document: Document) -> Baseline | None:
    """The model in production, where there is one."""
    version = count(document.get("version"))
    if version is None:
        return None
    return Baseline(
        version=version,
        digest=bare(words(document.get("digest"))),
        same_rows=document.get("same_rows") is True,
        metrics={words(name): number(value) for name, value in mapping(document.get("metrics")).items()},
    )


def fault(document: Document, places: Mapping[str, Place]) -> Fault | None:
    """Why the run failed, where it did."""
    if not document:
        return None
    details = document.get("details")
    return Fault(
        code=words(document.get("code")),
        message=words(document.get("message")),
        place=words(document.get("place")),
        hint=words(document.get("hint")),
        details=lines(details) if isinstance(details, str) else (),
        step=words(document.get("step")),
        spot=place(places.get(FAULT)),
    )


# -- JSON of any shape -------------------------------------------------------------------------------


def mapping(value: object) -> Document:
    """``value`` if it is a mapping, else an empty one."""
    return value if isinstance(value, Mapping) else {}


def sequence(value: object) -> Sequence[object]:
    """``value`` if it is a list, else an empty one."""
    return value if isinstance(value, Sequence) and not isinstance(value, str | bytes) else ()


def words(value: object) -> str:
    """``value`` as clean text on one line; nothing for None, ``true`` and ``false`` as in JSON."""
    if value is None:
        return ""
    return terminal(str(value).lower() if isinstance(value, bool) else str(value))


def number(value: object) -> float | None:
    """``value`` if it is a finite number that a float can hold, an int staying one, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if abs(value) <= sys.float_info.max else None


def numbers(value: object) -> tuple[float, ...]:
    """The finite numbers in a list."""
    return tuple(found for found in map(number, sequence(value)) if found is not None)


def count(value: object) -> int | None:
    """``value`` if it is a whole number, else None."""
    found = number(value)
    return int(found) if found is not None and found == int(found) else None


def rows_of(document: Document, *keys: str) -> tuple[tuple[float, ...], ...]:
    """The lists under ``keys``, without the places where any of them is no number. All are equally long."""
    table = [[number(item) for item in sequence(document.get(key))] for key in keys]
    kept = [row for row in zip(*table, strict=False) if None not in row]
    return tuple(tuple(value for row in kept if (value := row[index]) is not None) for index in range(len(keys)))
