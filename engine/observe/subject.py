"""What is known of a version that is watched: its run's detectors and test metrics, and what its spec asks for."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from engine.errors import NotFound
from engine.monitor.budget import Budget, parse, shared
from engine.monitor.detectors import made, restored
from engine.monitor.model import OUTPUTS, Origin
from engine.monitor.windows import Size, size_of
from engine.plugins import Feature, FittedDetector, OnlineDetector
from engine.predictions.log import INPUT, OUTPUT
from engine.record.model import RunRecord
from engine.record.store import RecordStore
from engine.registry.model import ModelVersion
from engine.registry.protocol import Registry
from engine.store.objects import ObjectStore

FloatArray = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Observatory:
    """Where what is watched is kept: the registry, the records, the store, and the folder of the prediction logs."""

    store: ObjectStore
    records: RecordStore
    registry: Registry
    logs: Path


@dataclass(frozen=True, kw_only=True, slots=True)
class Watch:
    """A detector of the spec as its run stored it, with its reference and the window that it is asked about.

    ``kept`` is the digest of what was stored: another detector of this name has another one.
    """

    name: str
    uses: str
    size: Size
    fitted: FittedDetector
    reference: pa.Table
    options: Mapping[str, Any]
    kept: str = ""

    @property
    def is_online(self) -> bool:
        """Whether it looks at each row as it comes."""
        return isinstance(self.fitted, OnlineDetector)


@dataclass(frozen=True, kw_only=True, eq=False)
class Subject:
    """A version, and all that its run left behind. ``monitor`` is the newest operation's part of that name.

    ``spec`` is the identity of the run: the spec without what may change without a new run.
    """

    version: ModelVersion
    record: RunRecord
    package: Mapping[str, Any]
    spec: Mapping[str, Any]
    monitor: Mapping[str, Any]
    redacted: frozenset[str]
    store: ObjectStore

    @property
    def name(self) -> str:
        """The model's name."""
        return self.version.name

    @property
    def signature(self) -> Mapping[str, Any]:
        """Inputs, classes and task."""
        found: Mapping[str, Any] = self.package["signature"]
        return found

    @property
    def task(self) -> str:
        """What kind of question the model answers."""
        return str(self.signature["task"])

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics of ``evaluate``, and those that a limit is on."""
        limited = [item["metric"] for item in self.limits]
        return tuple(dict.fromkeys([*self.spec["evaluate"]["metrics"], *limited]))

    @property
    def limits(self) -> Sequence[Mapping[str, Any]]:
        """The part ``performance``: metric, min, max, window."""
        found: Sequence[Mapping[str, Any]] = self.monitor.get("performance") or ()
        return found

    @property
    def features(self) -> tuple[str, ...]:
        """The model's inputs."""
        return tuple(item["name"] for item in self.signature["inputs"])

    @cached_property
    def origin(self) -> Origin:
        """The versions behind every figure."""
        pins = self.record.summary["pins"]
        data = {name: dict(pin) for name, pin in pins["data"].items()}
        return Origin(
            run=self.record.run_id,
            code_commit=str(pins["code"].get("commit") or ""),
            code_digest=str(pins["code"]["digest"]),
            data=data,
            train=data.get(self.spec["train"]["data"], {}),
        )

    @cached_property
    def evaluation(self) -> Mapping[str, Any]:
        """The test metrics of the run, with their intervals."""
        found: Mapping[str, Any] = json.loads(self.store.read(str(self.package["evaluation"])))
        return found

    @cached_property
    def tested(self) -> pa.Table | None:
        """Truth, label and score of every row of the test, as they were judged; nothing when they were removed."""
        digest = self.record.subjects.get("evaluate/predictions")
        return None if digest is None else table_of(digest, self.store)

    @cached_property
    def watches(self) -> tuple[Watch, ...]:
        """The spec's detectors, restored.

        Raises:
            NotFound, DigestMismatch: when one is not there as it was stored.
            PluginFailed: when its plugin cannot be imported.
        """
        wanted = (self.spec.get("monitor") or {}).get("detectors") or ()
        windows = self.monitor.get("windows") or {}
        return tuple(self._watch(item, windows.get(item["name"], 1000)) for item in wanted)

    def _watch(self, item: Mapping[str, Any], window: int | str) -> Watch:
        kept = self.package["detectors"][item["name"]]
        stored = json.loads(self.store.read(kept["state"]["digest"]))
        reference = table_of(kept["reference"]["digest"], self.store)
        fitted = restored(stored, reference)
        return Watch(
            name=item["name"],
            uses=item["uses"],
            size=size_of(window),
            fitted=fitted,
            reference=reference,
            options=dict(item["with"]),
            kept=str(kept["state"]["digest"]),
        )

    @cached_property
    def outputs(self) -> Watch | None:
        """The detector of the model's scores, with those of the test as its reference; judged with the first window."""
        tested, batch = self.tested, [watch for watch in self.watches if not watch.is_online]
        if tested is None or not batch or tested.num_rows == 0:
            return None
        found = {name: tested.column(name) for name in tested.column_names if name.partition(".")[0] == "score"}
        reference = pa.table({self.score_name(name): column for name, column in found.items()})
        features = tuple(Feature(name=name, role="numeric", datatype="FP32") for name in reference.column_names)
        fitted = made("ks", {}).fit(reference, features, int(self.spec["seed"]))
        return Watch(name=OUTPUTS, uses="ks", size=batch[0].size, fitted=fitted, reference=reference, options={})

    def score_name(self, written: str) -> str:
        """A score as figures name it: ``score``, or of several classes ``score.CLASS``."""
        number = written.partition(".")[2]
        names = self.signature.get("classes") or self.signature.get("levels") or ()
        return f"score.{names[int(number)]}" if number and int(number) < len(names) else written

    @property
    def budget(self) -> Budget | None:
        """The false alarms that one sequence of windows may use; nothing when the spec has no budget."""
        written = self.monitor.get("false_alarms")
        sizes = {str(watch.size) for watch in self.watches if not watch.is_online}
        return shared(parse(written), len(sizes)) if written else None

    @property
    def on_alert(self) -> Mapping[str, Any]:
        """What an alarm starts."""
        found: Mapping[str, Any] = self.monitor.get("on_alert") or {}
        return found


def subject_of(version: ModelVersion, where: Observatory) -> Subject:
    """All that is known of a version. Of several runs that made the same bytes it is the first with the detectors that
    were asked for last.

    Raises:
        NotFound: when the record of its run is not there.
        DigestMismatch: when its package was altered.
    """
    found = [record for run in version.runs if (record := where.records.answer(run)) is not None]
    newest = where.records.by_operation([record.run_id for record in found])
    wanted = next((watched_in(record) for record in found if record.run_id in newest[:1]), None)
    record = next((record for record in found if not newest or watched_in(record) == wanted), None)
    if record is None:
        raise NotFound("record of a run that made", str(version), hint="`engine verify` says what is wrong with it")
    operation = where.records.newest_operation(version.runs)
    log = (operation.get("serve") or {}).get("log") or {}
    return Subject(
        version=version,
        record=record,
        package=json.loads(where.store.read(record.subjects.get("register/package", version.package))),
        spec=record.definition["externalParameters"],
        monitor=operation.get("monitor") or {},
        redacted=frozenset(name.removeprefix("hash:") for name in log.get("redact") or ()),
        store=where.store,
    )


def watched_in(record: RunRecord) -> Any:
    """The part of a run's identity that says how it is watched."""
    return record.definition["externalParameters"].get("monitor")


def table_of(digest: str, store: ObjectStore) -> pa.Table:
    """A table of a run, memory-mapped.

    Raises:
        NotFound: when it is not in the store.
    """
    with pa.memory_map(str(store.require(digest))) as source:
        return pa.ipc.open_file(source).read_all()


# -- rows of a log ---------------------------------------------------------------------------------------------------


def inputs_of(rows: pa.Table) -> pa.Table:
    """The inputs of logged rows under the features' names."""
    names = [name for name in rows.column_names if name.startswith(INPUT)]
    return rows.select(names).rename_columns([name.removeprefix(INPUT) for name in names])


def scores_of(rows: pa.Table, task: str) -> FloatArray | None:
    """What logged rows were answered, as evaluation has it: (n,) or (n, k); nothing when no output was logged.

    Of two classes it is the probability of the second.
    """
    outputs = [name for name in rows.column_names if name.startswith(OUTPUT)]
    if not outputs:
        return None
    known = (f"{OUTPUT}labels", f"{OUTPUT}probabilities", f"{OUTPUT}value")
    name = next((item for item in known if item in outputs), outputs[-1])
    found = matrix(rows.column(name))
    if task == "binary" and found.ndim == 2:
        return np.asarray(found[:, -1])
    return found


def matrix(column: pa.ChunkedArray) -> FloatArray:
    """A column of numbers as (n,), or of lists of k numbers as (n, k)."""
    kind = column.type
    if pa.types.is_fixed_size_list(kind):
        whole = column.combine_chunks()
        whole = whole.chunk(0) if isinstance(whole, pa.ChunkedArray) else whole
        if whole.null_count:
            width = kind.list_size
            plain = [value if value is not None else [np.nan] * width for value in whole.to_pylist()]
            return np.asarray(plain, dtype=np.float64)
        return np.asarray(whole.flatten().to_numpy(zero_copy_only=False), dtype=np.float64).reshape(len(whole), -1)
    return np.asarray(column.cast(pa.float64(), safe=False).to_numpy(), dtype=np.float64)


def score_table(rows: pa.Table, subject: Subject) -> pa.Table | None:
    """The scores of logged rows under the names of :meth:`Subject.score_name`."""
    found = scores_of(rows, subject.task)
    if found is None:
        return None
    if found.ndim == 1:
        return pa.table({"score": pa.array(found)})
    return pa.table({subject.score_name(f"score.{k}"): pa.array(found[:, k]) for k in range(found.shape[1])})
