"""A record as the report that renderers take, and what CI services are told without being asked."""

from __future__ import annotations

import json
import os
import secrets
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.cli import view
from engine.errors import EngineError, Place, Problem, SpecInvalid, writing
from engine.record.model import RunRecord
from engine.record.store import RecordStore
from engine.registry.model import ModelRef
from engine.report.model import FAULT, Report
from engine.store.objects import ObjectStore

if TYPE_CHECKING:
    from engine.pipeline import Prepared
    from engine.registry.protocol import Registry
    from engine.report.problems.model import Checked
    from engine.spec.load import LoadedSpec

PRODUCTION = "production"


@dataclass(frozen=True, kw_only=True, slots=True)
class Answered:
    """A run's record, and what there is to say about it. ``executed`` now, or answered from the record.

    ``places`` are those of :attr:`engine.report.model.Report.places`; ``root`` is the project's.
    """

    record: RunRecord
    records: RecordStore
    store: ObjectStore
    registry: Registry
    root: Path
    shown: str
    executed: bool
    places: Mapping[str, Place] = field(default_factory=dict)

    @property
    def document(self) -> dict[str, Any]:
        """The document of CONTRACT 2."""
        return document_of(self.record, self.shown, executed=self.executed)


def document_of(record: RunRecord, shown: str, *, executed: bool) -> dict[str, Any]:
    """The document of CONTRACT 2; what was not executed now took no time."""
    summary = dict(record.summary)
    if not executed:
        steps = [{**step, "status": "cached", "seconds": 0.0} for step in summary["steps"]]
        summary.update(executed=False, steps=steps, spec=shown)
    return summary


def report_of(
    record: RunRecord, store: ObjectStore, document: Mapping[str, Any], written: tuple[str, ...] = ()
) -> Report:
    """The run's document with its evaluation, when there is one."""
    digest = record.summary.get("evaluation")
    evaluation = json.loads(store.read(digest)) if digest and store.has(digest) else None
    return Report(run=document, evaluation=evaluation, written=written)


def full_report(answered: Answered) -> Report:
    """As :func:`report_of`, with the production model's metrics and the places in the spec."""
    found = report_of(answered.record, answered.store, answered.document)
    return replace(found, baseline=production_of(answered), places=answered.places)


# -- the model in production -----------------------------------------------------------------------------------------


def production_of(answered: Answered) -> dict[str, Any] | None:
    """The production model's metrics: on this run's rows where it evaluated them there, else those it was made with."""
    record, store = answered.record, answered.store
    pin = record.summary["pins"]["models"].get(PRODUCTION) or {}
    digest = record.subjects.get(f"evaluate.{PRODUCTION}/evaluation")
    if pin.get("version") is not None and digest is not None and store.has(digest):
        metrics = json.loads(store.read(digest))["metrics"]
        values = {name: item["value"] for name, item in metrics.items()}
        return {"version": pin["version"], "digest": pin["digest"], "same_rows": True, "metrics": values}
    return registered_production(answered)


def registered_production(answered: Answered) -> dict[str, Any] | None:
    """The production model as the registry and its first run have it; none when it is this run's own model."""
    record = answered.record
    version = answered.registry.find(ModelRef(name=record.summary["model"]["name"], alias=PRODUCTION))
    if version is None or record.run_id in version.runs:
        return None
    theirs = None
    with suppress(EngineError):  # a record that was altered is for `engine verify` to tell
        theirs = answered.records.answer(version.runs[0])
    if theirs is None:
        return None
    data = [{name: pin["digest"] for name, pin in side.summary["pins"]["data"].items()} for side in (record, theirs)]
    return {
        "version": version.version,
        "digest": version.digest,
        "same_rows": data[0] == data[1],
        "metrics": theirs.summary["metrics"],
    }


# -- places in the spec ------------------------------------------------------------------------------------------------


def places_of(record: RunRecord, prepared: Prepared) -> dict[str, Place]:
    """Where each gate's limit stands, and what made the run fail: in files named from the repository's top."""
    from engine.pipeline import place_in_spec

    loaded, found = in_files(prepared.loaded), {}
    kinds = {gate["name"]: gate.get("kind") for gate in record.summary["gates"]}
    for index, gate in enumerate(loaded.spec.evaluate.gates):
        kind = kinds.get(gate.title)
        found[gate.title] = loaded.positions.place(("evaluate", "gates", index, *([kind] if kind else [])))
    error = record.summary["error"]
    keys = {step.id: step.key for step in prepared.plan.steps}
    if error and error.get("step") in keys:
        found[FAULT] = place_in_spec(str(error.get("key") or ""), keys[error["step"]], loaded)
    top = repository_of(loaded.root)
    return {name: replace(place, file=below(place.file, top)) for name, place in found.items()}


def in_files(loaded: LoadedSpec) -> LoadedSpec:
    """The spec with the positions of files alone: no review shows an override."""
    from engine.spec.positions import Positions

    layers = tuple(layer for layer in loaded.positions.layers if Path(layer.name).is_file())
    return replace(loaded, positions=Positions(layers=layers))


def repository_of(root: Path) -> Path:
    """The top of the repository that the project is in, else the project's root."""
    return next((folder for folder in (root, *root.parents) if (folder / ".git").exists()), root)


def below(file: str, top: Path) -> str:
    """A file as the repository names it; as it is when it lies elsewhere, or is none."""
    if not Path(file).is_file():
        return file
    whole = Path(file).expanduser().resolve()
    return whole.relative_to(top).as_posix() if whole.is_relative_to(top) else file


# -- CI, unasked -------------------------------------------------------------------------------------------------------


CI_VARIABLES = ("GITHUB_STEP_SUMMARY", "GITHUB_OUTPUT", "GITHUB_ACTIONS", "GITLAB_CI")


def in_ci(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether a CI service would read what :func:`tell_ci` says."""
    return any(environment.get(name) for name in CI_VARIABLES)


def tell_ci(report: Report, environment: Mapping[str, str] = os.environ, *, alone: bool = True) -> None:
    """Fill what the CI service that this runs on reads; what it does not let be written is said and nothing more.

    Args:
        alone: this is the command's only run, so that the outputs of the job's step are about it.
    """
    if not in_ci(environment):
        return
    from engine.report import ci
    from engine.report.facts import facts
    from engine.report.markdown import markdown

    with said_only():
        if path := environment.get("GITHUB_STEP_SUMMARY"):
            append(Path(path), ci.summary(report, ci.SUMMARY_BYTES - size_of(Path(path))))
    with said_only():
        if (path := environment.get("GITHUB_OUTPUT")) and alone:
            append(Path(path), ci.output_lines(ci.outputs(report), f"engine-{secrets.token_hex(16)}"))
    if environment.get("GITHUB_ACTIONS") == "true":
        for line in ci.commands(report):
            view.note(line)
    if environment.get("GITLAB_CI") == "true":
        title = ci.title_of(facts(report))
        view.note(ci.section(f"engine_{facts(report).run_id[:12]}", title, markdown(report), int(time.time())))


def tell_refusal(
    spec: str,
    error: EngineError,
    targets: Sequence[tuple[str, Path]],
    environment: Mapping[str, str] = os.environ,
) -> None:
    """Say where reports were asked for, and to the CI service, why there was no run: what is wrong with the spec.

    A report that only a run can fill (its metrics, its outputs) is not written.
    """
    if not targets and not in_ci(environment):
        return
    from engine.report import ci
    from engine.report.problems.formats import RENDERERS
    from engine.report.problems.markdown import markdown
    from engine.report.problems.model import Checked
    from engine.report.write import put

    problems = error.problems if isinstance(error, SpecInvalid) else (problem_of(error),)
    top = repository_of(Path.cwd())
    checked = [from_top(Checked(spec=spec, problems=problems), top)]
    for kind, path in targets:
        render = markdown if kind == "md" else RENDERERS.get(kind)
        if render is not None and (kind != "sarif" or isinstance(error, SpecInvalid)):
            with said_only():
                put(path, render(checked).encode())
    with said_only():
        if summary := environment.get("GITHUB_STEP_SUMMARY"):
            append(Path(summary), markdown(checked))
    if environment.get("GITHUB_ACTIONS") == "true":
        for line in RENDERERS["github"](checked).splitlines():
            view.note(line)
    if environment.get("GITLAB_CI") == "true":
        title = f"Engine report: {spec} was not run"
        view.note(ci.section("engine_refused", title, markdown(checked), int(time.time())))


def problem_of(error: EngineError) -> Problem:
    """An error that kept a run from beginning, as a problem of its spec."""
    return Problem(rule=error.code, fact=error.fact, hint=error.hint, place=Place(file=error.place))


def from_top(checked: Checked, top: Path) -> Checked:
    """What was found in a spec, its files named from the top of the repository, as CI services name them."""
    moved = [replace(one, place=replace(one.place, file=below(one.place.file, top))) for one in checked.problems]
    return replace(checked, spec=below(checked.spec, top), problems=tuple(moved))


@contextmanager
def said_only() -> Iterator[None]:
    """What goes wrong in here is said, and does not change how the command ends: nobody asked for it."""
    try:
        yield
    except EngineError as error:
        view.note(f"{view.paint('warning: ', view.YELLOW)}{error}")


def append(path: Path, text: str) -> None:
    """Add ``text`` to a file that others add to as well, in one write."""
    with writing(path):
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(descriptor, text.encode())
        finally:
            os.close(descriptor)


def size_of(path: Path) -> int:
    """The bytes of a file; none when it is not there yet."""
    return path.stat().st_size if path.is_file() else 0


@contextmanager
def no_commands(environment: Mapping[str, str] = os.environ) -> Iterator[None]:
    """Inside, no line that is printed is a command to GitHub's runner, whatever it begins with."""
    if environment.get("GITHUB_ACTIONS") != "true":
        yield
        return
    token = secrets.token_hex(16)
    view.note(f"::stop-commands::{token}")
    try:
        yield
    finally:
        sys.stdout.flush()
        view.note(f"::{token}::")
