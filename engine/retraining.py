"""An alarm leads to another version: the spec run on the old training data and what was labelled since.

::

    log + labels --newest part--> test.parquet  --.
          `-----the rest--.                       +--commit on a branch of the lake--> run, gates --> shadow, candidate
    training data of run -+--> train.parquet -----'

What was logged is what the model reads: rows after the spec's transforms. So the training data is taken after them,
too, and the run has none. It reads the branch's commit; whoever promotes the version merges the branch with it.
Production is never set here, and the alarm stands as the cause in the ledger, in the commit, and in the table.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from engine.errors import EngineError, NotFound, Refused, UsageError
from engine.execute.protocol import Report
from engine.lake.protocol import Lake, NothingToCommit, RefTaken
from engine.lake.uri import LakeUri, parse
from engine.monitor.labels import held, joined, truths
from engine.monitor.reading import Choice, everything
from engine.monitor.table import Table
from engine.observe.performance import MEASURED
from engine.observe.subject import Observatory, Subject, inputs_of, subject_of, table_of
from engine.observe.told import main_rows
from engine.pipeline import Finished, prepare, run
from engine.promotion import Wanted, promote
from engine.record.parts import written
from engine.registry.model import ModelRef
from engine.spec.load import LoadedSpec
from engine.spec.model import Spec
from engine.steps.slices import slice_of
from engine.store.durable import alone_with, scratch_folder
from engine.wiring import Home, desk_for, judged_again

FEWEST = 200
"""Labelled rows without which nothing is learned anew."""
MOST = 1_000_000
"""Of more labelled rows the newest are taken."""
TEST_SHARE = 0.3
"""The newest part of the labelled rows judges the version; the rest is learned from."""
TRAIN, TEST = "train", "test"
OVER = ("passed", "refused")
"""What a retraining that is not done again came to."""


class CannotRetrain(Refused):
    """There is not what a retraining takes."""

    code = "cannot-retrain"


class TooFewLabels(CannotRetrain):
    """What was predicted is not known to be right or wrong yet."""

    code = "too-few-labels"


@dataclass(frozen=True, kw_only=True, slots=True)
class Material:
    """What a retraining learns from and is judged on: rows with the model's inputs and the target."""

    train: pa.Table
    test: pa.Table
    known: int

    @property
    def labelled(self) -> int:
        """How many rows are from the log."""
        rows: int = self.train.num_rows - self.known + self.test.num_rows
        return rows


def retrain(
    model: str, alarm: str, home: Home, where: Observatory, report: Report, now: datetime, *, inline: bool = False
) -> Mapping[str, Any]:
    """Carry a retraining out and note what came of it. Doing it again for the same alarm goes on where it was.

    Returns:
        ``status`` (passed, refused, failed, impossible, or waiting for labels), ``run``, ``version``, ``alias``,
        ``branch``, ``reason``.

    Raises:
        NotFound: for an alarm that is not in the table.
    """
    table = Table(home.path / "monitor")
    found = table.alarm(alarm)
    if found is None or found["model"] != model:
        raise NotFound(f"alarm of {model}", alarm, hint="`engine monitor status MODEL` has their ids")
    alarm = str(found["id"])
    with alone_with(table.folder / f".{alarm}.lock"):  # who watched, and was killed, may have left one at work
        known: Mapping[str, Any] = next(
            (item["outcome"] for item in table.retrained(model) if item["alarm"] == alarm), {}
        )
        if known.get("status") in OVER:
            return known
        alias = str(known.get("alias") or "candidate")
        note(table, model, alarm, now, {"status": "begun", "alias": alias})
        try:
            outcome = carried_out(model, found, alias, home, where, report, inline=inline)
        except TooFewLabels as error:
            outcome = {"status": "waiting", "reason": error.fact, "alias": alias}
        except EngineError as error:
            outcome = {"status": "impossible", "reason": str(error), "alias": alias}
        note(table, model, alarm, now, outcome)
    return outcome


def note(table: Table, model: str, alarm: str, now: datetime, outcome: Mapping[str, Any]) -> None:
    """Write down how far a retraining is."""
    with table.change() as change:
        change.note_retraining(alarm, model, now, outcome)


def carried_out(
    model: str,
    alarm: Mapping[str, Any],
    alias: str,
    home: Home,
    where: Observatory,
    report: Report,
    *,
    inline: bool,
) -> Mapping[str, Any]:
    """Make the data, run the spec on it, and set the alias when its gates pass."""
    version = where.registry.get(ModelRef(name=model, version=int(alarm["version"])))
    subject = subject_of(version, where)
    made = material(subject, where)
    branch = f"retrain-{alarm['id'][:12]}"
    uris = committed(made, subject, branch, alarm, home.lake, home.path / "tmp")
    finished = executed(subject, uris, where, home, report, inline=inline)
    record = finished.record
    outcome = {
        "status": record.status, "run": record.run_id, "alias": alias, "branch": branch,
        "rows": {"train": made.train.num_rows, "test": made.test.num_rows, "labelled": made.labelled},
        "metrics": dict(record.summary["metrics"]), "version": record.summary["model"]["version"], "reason": "",
    }  # fmt: skip
    if record.status != "passed":
        refusing = [gate["reason"] for gate in record.summary["gates"] if not gate["passed"]]
        error = record.summary["error"] or {}
        return {**outcome, "version": None, "reason": "; ".join(refusing) or str(error.get("message", ""))}
    why = f"alarm {alarm['id']}: {alarm['text']}"
    office = home.office(lambda record: judged_again(record, home, report, inline=inline))
    ref = ModelRef(name=model, version=int(outcome["version"]))
    done = promote(ref, alias, office, Wanted(why=why))
    return {**outcome, "entry": done.entry.number if done.entry else None}


# -- data ------------------------------------------------------------------------------------------------------------


def material(subject: Subject, where: Observatory) -> Material:
    """The old training data, and the labelled rows of the log.

    Raises:
        TooFewLabels: when there are not enough of them yet.
        CannotRetrain: when what the spec needs is not logged, or for a task whose truth is not one label a row.
        NotFound: when the old training data was removed.
    """
    require_possible(subject)
    target = str(subject.spec["target"])
    names = [*subject.spec["features"]["numeric"], *subject.spec["features"]["categorical"], target]
    old = training_table(subject).select(names)
    recent = labelled_rows(subject, where, old.schema, target)
    if recent.num_rows < FEWEST:
        fact = f"only {recent.num_rows:,} logged rows have a label, and it takes {FEWEST}"
        raise TooFewLabels(fact, place=str(subject.version), hint="`engine monitor labels` brings more")
    cut = recent.num_rows - max(int(recent.num_rows * TEST_SHARE), 1)
    train = pa.concat_tables([old, recent.slice(0, cut)])
    return Material(train=train, test=recent.slice(cut), known=old.num_rows)


def require_possible(subject: Subject) -> None:
    """Refuse a spec that needs what no log has.

    Raises:
        CannotRetrain: then.
    """
    place = str(subject.version)
    if subject.task not in MEASURED or not isinstance(subject.spec["target"], str):
        raise CannotRetrain(f"what is true for {subject.task} is not one label a row", place=place)
    if subject.redacted:
        name = min(subject.redacted)
        raise CannotRetrain(f'the input "{name}" is redacted, so it cannot be learned from', place=place)
    wanted = [slice_of(item)["column"] for item in subject.spec["evaluate"]["slices"]]
    wanted.append(subject.spec["evaluate"].get("weights"))
    for name in filter(None, wanted):
        if name not in subject.features and name != subject.spec["target"]:
            fact = f'the spec judges by "{name}", which is no input of the model and so is not logged'
            raise CannotRetrain(fact, place=place, hint="run the spec by hand on new data")


def training_table(subject: Subject) -> pa.Table:
    """The table that the model learned from, after the spec's transforms.

    Raises:
        NotFound: when it was removed.
    """
    plan = json.loads(subject.store.read(subject.record.plan_digest))
    step, output = next(item["inputs"]["table"] for item in plan["steps"] if item["kind"] == "train")
    return table_of(subject.record.subjects[f"{step}/{output}"], subject.store)


def labelled_rows(subject: Subject, where: Observatory, schema: pa.Schema, target: str) -> pa.Table:
    """The newest rows that have a label, of every version with the same inputs, in the order of their prediction."""
    folder = where.logs / subject.name
    found = main_rows(everything(folder, Choice()).table)
    labelled, _ = joined(found, held(folder))
    labelled = labelled.slice(max(labelled.num_rows - MOST, 0))
    inputs = inputs_of(labelled)
    columns: dict[str, Any] = {}
    for item in schema:
        if item.name == target:
            columns[target] = pa.array(truths(labelled), from_pandas=False).cast(item.type)
        elif item.name in inputs.column_names:
            columns[item.name] = as_type(inputs.column(item.name), item.type)
        else:
            raise CannotRetrain(f'the input "{item.name}" is not logged', place=str(subject.version))
    return pa.table(columns, schema=schema)


def as_type(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    """A logged column as the training data has it: a number that was NaN is null again where it must be."""
    if pa.types.is_floating(column.type) and not pa.types.is_floating(kind):
        values = np.asarray(column.to_numpy())
        holes = np.isnan(values)
        plain = pa.array(np.where(holes, 0, np.round(values)), mask=holes)
        return pa.chunked_array([plain.cast(kind, safe=False)])
    return column.cast(kind)


def committed(
    made: Material, subject: Subject, branch: str, alarm: Mapping[str, Any], lake: Lake, scratch: Path
) -> dict[str, str]:
    """Put the data on a branch of its own, beside the old one; where each part lies."""
    source = parse(subject.origin.train["uri"])
    folder = f"retrained/{subject.name}/{alarm['id'][:12]}"
    with suppress(RefTaken):
        lake.create_branch(source.repository, branch, main_branch(source, lake))
    uris = {}
    with scratch_folder(scratch, "retrain-") as below:
        for name, table in ((TRAIN, made.train), (TEST, made.test)):
            path = below / f"{name}.parquet"
            pq.write_table(table, path, compression="zstd")
            uri = LakeUri(repository=source.repository, ref=branch, path=f"{folder}/{name}.parquet")
            lake.put(source.repository, branch, uri.path, path)
            uris[name] = str(uri)
        metadata = {
            "engine.alarm": str(alarm["id"]), "engine.model": str(subject.version),
            "engine.rows": f"{made.labelled} labelled, {made.known} of {subject.record.run_id}",
        }  # fmt: skip
        message = f"{made.labelled:,} labelled rows of {subject.name}, after an alarm: {alarm['text']}"
        with suppress(NothingToCommit):  # it was begun before
            lake.commit(source.repository, branch, message[:500], author="engine", metadata=metadata)
    return uris


def main_branch(source: LakeUri, lake: Lake) -> str:
    """The repository's main line, where a promotion would merge the branch to."""
    found = [item.default_branch for item in lake.repositories() if item.name == source.repository]
    return found[0] if found else "main"


# -- the run ---------------------------------------------------------------------------------------------------------


def executed(
    subject: Subject, uris: Mapping[str, str], where: Observatory, home: Home, report: Report, *, inline: bool
) -> Finished:
    """Run the spec on the branch."""
    spec = spec_for(subject, uris, where)
    loaded = LoadedSpec(spec=spec, path=home.root / "spec.yaml", shown=subject.record.summary["spec"], root=home.root)
    return run(prepare(loaded, desk_for(loaded, None, home)), report, inline=inline)


def spec_for(subject: Subject, uris: Mapping[str, str], where: Observatory) -> Spec:
    """The spec of a version with its data on the branch: no transforms, for they were done, and of the schemas what is
    said of the columns that are left.

    Raises:
        UsageError: when the recorded spec is not one of this version of Engine.
    """
    values = written(replace(subject.record, statement=with_operation(subject, where)))
    train, test = values["train"]["data"], values["evaluate"]["data"]
    schemas = {name: item["schema"] for name, item in values["data"].items()}
    names = [*values["features"]["numeric"], *values["features"]["categorical"], values["target"]]
    other = TEST if test == train else test
    values["data"] = {
        train: {"uri": uris[TRAIN], "schema": narrowed(schemas[train], names)},
        other: {"uri": uris[TEST], "schema": narrowed(schemas[test], names)},
    }
    values["evaluate"] = {**values["evaluate"], "data": other}
    values["transform"] = []
    if values.get("monitor"):
        reference = values["monitor"]["reference"]
        values["monitor"] = {**values["monitor"], "reference": other if reference == other else train}
    try:
        return Spec.model_validate(values)
    except ValueError as error:
        raise UsageError(f"the recorded spec cannot be read: {str(error).splitlines()[0]}") from error


def with_operation(subject: Subject, where: Observatory) -> Mapping[str, Any]:
    """A record's statement with the newest operation in the place of the one at its execution."""
    statement: dict[str, Any] = json.loads(json.dumps(subject.record.statement))
    newest = where.records.newest_operation(subject.version.runs)
    statement["predicate"]["buildDefinition"]["internalParameters"].update(newest)
    return statement


def narrowed(schema: Any, names: Sequence[str]) -> Any:
    """What a schema says of some columns, and nothing of the table as a whole: rows of a log may be the same twice."""
    if not isinstance(schema, Mapping):
        return schema
    columns = {name: item for name, item in (schema.get("columns") or {}).items() if name in names}
    kept = {key: value for key, value in schema.items() if key in ("schema_type", "version", "coerce")}
    return {**kept, "columns": columns} if columns else None
