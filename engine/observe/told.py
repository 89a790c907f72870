"""Labels that come as a table: kept beside those that come to the server, and counted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Any

import pyarrow as pa

from engine.errors import UsageError, writing
from engine.monitor.labels import KEY, Timed, admitted, held, joined, labels_in, unknown
from engine.monitor.model import Damage
from engine.monitor.reading import Choice, everything
from engine.monitor.windows import micros
from engine.observe.performance import MEASURED
from engine.observe.subject import Observatory, Subject, subject_of
from engine.predictions.labels import LabelLog
from engine.registry.model import ModelVersion

BATCH = 50_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Told:
    """What came of a table of labels.

    Attributes:
        labels: how many were kept; ``empty`` rows had none.
        unknown: those of predictions that are in no log, of which ``example`` is one.
        duplicates, conflicts: among all labels of the model.
        rows, labelled: how many rows are logged, and how many of them have a label now.
    """

    labels: int
    empty: int
    unknown: int
    example: str
    duplicates: int
    conflicts: int
    rows: int
    labelled: int
    damaged: tuple[Damage, ...] = ()

    @property
    def share(self) -> float:
        """The coverage."""
        return self.labelled / self.rows if self.rows else 0.0

    def document(self) -> Mapping[str, Any]:
        """As JSON."""
        return {
            "labels": self.labels, "empty": self.empty, "unknown": self.unknown, "duplicates": self.duplicates,
            "conflicts": self.conflicts, "rows": self.rows, "labelled": self.labelled, "coverage": self.share,
            "damaged": [{"file": item.file, "fact": item.fact} for item in self.damaged],
        }  # fmt: skip


def tell(version: ModelVersion, where: Observatory, table: pa.Table, shown: str, now: datetime) -> Told:
    """Keep the labels of a table.

    Raises:
        UsageError: for a column that is missing, naming the first row that is no label, and for a task whose truth is
            no single value a row.
        StorageFull, StorageUnwritable: when they cannot be kept.
    """
    subject = subject_of(version, where)
    if subject.task not in MEASURED:
        fact = f"what is true of a model for {subject.task} is not one label a row"
        raise UsageError(fact, place=str(version), hint="judge it on a test set: `engine run`")
    target = subject.spec["target"]
    admit = admitted(subject.signature.get("classes"))
    found = labels_in(table, shown, target if isinstance(target, str) else target[0], admit)
    folder = where.logs / version.name
    strangers = unknown([item.label for item in found], folder)
    with writing(folder):
        keep(found, LabelLog(folder, version.name), now)
    known = held(folder)
    logged = everything(folder, Choice(columns=KEY))
    _, coverage = joined(main_rows(logged.table), known)
    return Told(
        labels=len(found),
        empty=table.num_rows - len(found),
        unknown=len(strangers),
        example=strangers[0].prediction if strangers else "",
        duplicates=known.duplicates,
        conflicts=known.conflicts,
        rows=coverage.rows,
        labelled=coverage.labelled,
        damaged=(*known.damaged, *logged.damaged),
    )


def main_rows(rows: pa.Table) -> pa.Table:
    """The rows that were answered to somebody: not those of a shadow, which repeat them."""
    import pyarrow.compute as pc

    return rows.filter(pc.not_equal(rows.column("alias"), "shadow"))


def keep(found: Sequence[Timed], log: LabelLog, now: datetime) -> None:
    """Write labels, those that became known at the same moment as one."""
    moment = 1000 * micros(now)
    for time_ns, part in groupby(sorted(found, key=lambda item: item.time_ns or moment), lambda item: item.time_ns):
        batch = [item.label for item in part]
        for start in range(0, len(batch), BATCH):
            log.append(batch[start : start + BATCH], moment if time_ns is None else time_ns)
    log.close()


def subjects(where: Observatory, name: str) -> Iterator[Subject]:
    """Every version of a model whose records are there."""
    for version in where.registry.versions(name):
        yield subject_of(version, where)
