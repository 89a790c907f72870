"""What differs between two runs: spec, data, code, environment; and what came of it: artifacts, gates, metrics."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from engine.digest import plain
from engine.plan.why import path_of
from engine.record.model import RunRecord
from engine.record.parts import Part, Parts, differing, parts_of, spec_values
from engine.store.objects import ObjectStore

Kind = Literal["added", "removed", "changed"]
CONTEXT = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """Something with a name that differs; ``None`` is: not there."""

    name: str
    left: Any
    right: Any

    @property
    def kind(self) -> Kind:
        """``added`` when only the right has it, ``removed`` when only the left has."""
        if self.left is None:
            return "added"
        return "removed" if self.right is None else "changed"


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """A module that differs: lines that only one side has, and the text of both as a unified diff."""

    module: str
    path: str
    kind: Kind
    added: int
    removed: int
    text: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Data:
    """A source that differs: its pins, its files, and what :mod:`engine.record.tables` says of its rows."""

    name: str
    left: Mapping[str, Any] | None
    right: Mapping[str, Any] | None
    files: tuple[Item, ...]
    rows: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class RunDiff:
    """Everything that differs between two runs."""

    left: RunRecord
    right: RunRecord
    parts: tuple[Part, ...]
    spec: tuple[Item, ...]
    data: tuple[Data, ...]
    code: tuple[Source, ...]
    environment: tuple[Item, ...]
    artifacts: tuple[Item, ...]
    gates: tuple[Item, ...]
    same_artifacts: int
    metrics: tuple[Mapping[str, Any], ...] = ()


def diff(left: RunRecord, right: RunRecord, store: ObjectStore, *, text: bool = False) -> RunDiff:
    """Compare two runs by their records.

    Args:
        text: give the text of sources that differ, too.

    Raises:
        NotFound, DigestMismatch: when the store does not have a manifest or a source as it was.
    """
    from engine.record.tables import metric_differences

    first, second = parts_of(left, store), parts_of(right, store)
    artifacts = tuple(items(left.subjects, right.subjects))
    return RunDiff(
        left=left,
        right=right,
        parts=differing(first, second),
        spec=tuple(spec_differences(flat(spec_values(first)), flat(spec_values(second)))),
        data=tuple(data_differences(left, right, first, second, store)),
        code=tuple(source_differences(first.modules, second.modules, store, text)),
        environment=tuple(environment_differences(first.environment, second.environment)),
        artifacts=artifacts,
        gates=tuple(items(verdicts(left), verdicts(right))),
        same_artifacts=len(left.subjects.keys() & right.subjects.keys()) - sum(i.kind == "changed" for i in artifacts),
        metrics=tuple(metric_differences(left, right, store)),
    )


def items(left: Mapping[str, Any], right: Mapping[str, Any]) -> Iterator[Item]:
    """The keys whose values differ, in the order of the left and then of the right."""
    for name in dict.fromkeys([*left, *right]):
        before, after = left.get(name), right.get(name)
        if plain(before) != plain(after) or type(before) is not type(after):
            yield Item(name=name, left=before, right=after)


def spec_differences(left: Mapping[str, Any], right: Mapping[str, Any]) -> Iterator[Item]:
    """The keys of two specs that differ; what is empty on one side and filled on the other is told by what fills it."""
    for item in items(left, right):
        if not any(name.startswith(f"{item.name}.") for name in [*left, *right]):
            yield item


def flat(value: object, path: str = "") -> dict[str, Any]:
    """Nested values by their dotted keys. An empty list or mapping is a value of its own."""
    if isinstance(value, Mapping) and value:
        pairs = [(str(key), item) for key, item in value.items()]
    elif isinstance(value, Sequence) and not isinstance(value, str) and value:
        pairs = [(str(index), item) for index, item in enumerate(value)]
    else:
        return {path: value}
    found: dict[str, Any] = {}
    for key, item in pairs:
        found.update(flat(item, f"{path}.{key}" if path else key))
    return found


def verdicts(record: RunRecord) -> dict[str, str]:
    """What each gate said."""
    return {gate["name"]: "passed" if gate["passed"] else "refused" for gate in record.summary["gates"]}


def data_differences(
    left: RunRecord, right: RunRecord, first: Parts, second: Parts, store: ObjectStore
) -> Iterator[Data]:
    """The sources whose bytes differ."""
    from engine.record.tables import row_differences

    for name in dict.fromkeys([*first.data, *second.data]):
        before, after = first.data.get(name), second.data.get(name)
        if before is not None and after is not None and before.digest == after.digest:
            continue
        files = tuple(items(before.manifest if before else {}, after.manifest if after else {}))
        table = f"ingest.{name}/table"
        tables = (left.subjects.get(table), right.subjects.get(table))
        rows = row_differences(tables[0], tables[1], store) if tables[0] and tables[1] else {}
        yield Data(name=name, left=pin_document(before), right=pin_document(after), files=files, rows=rows)


def pin_document(pin: Any) -> dict[str, Any] | None:
    """A source's pin as JSON."""
    return {"uri": pin.uri, "commit": pin.commit, "digest": f"sha256:{pin.digest}"} if pin else None


def source_differences(
    left: Mapping[str, str], right: Mapping[str, str], store: ObjectStore, with_text: bool
) -> Iterator[Source]:
    """The modules whose sources differ."""
    for item in items(left, right):
        before = lines_of(item.left, store)
        after = lines_of(item.right, store)
        unified = list(difflib.unified_diff(before, after, f"a/{item.name}", f"b/{item.name}", lineterm="", n=CONTEXT))
        yield Source(
            module=item.name,
            path=path_of(item.name, (*left, *right)),
            kind=item.kind,
            added=sum(line.startswith("+") for line in unified[2:]),
            removed=sum(line.startswith("-") for line in unified[2:]),
            text="\n".join(unified) if with_text else "",
        )


def lines_of(digest: str | None, store: ObjectStore) -> list[str]:
    """The lines of a source."""
    return store.read(digest).decode("utf-8", "replace").splitlines() if digest else []


def environment_differences(left: Mapping[str, Any], right: Mapping[str, Any]) -> Iterator[Item]:
    """The platform's fields and the distributions that differ."""
    for side in ("implementation", "python", "system", "machine"):
        if left.get(side) != right.get(side):
            yield Item(name=side, left=left.get(side), right=right.get(side))
    yield from items(left["distributions"], right["distributions"])


def document(found: RunDiff) -> dict[str, Any]:
    """The whole difference as JSON."""

    def pair(item: Item) -> dict[str, Any]:
        return {"name": item.name, "change": item.kind, "left": plain(item.left), "right": plain(item.right)}

    result = {
        "left": found.left.run_id,
        "right": found.right.run_id,
        "differ": list(found.parts),
        "spec": [pair(item) for item in found.spec],
        "data": [
            {
                "name": item.name,
                "left": item.left,
                "right": item.right,
                "files": [pair(file) for file in item.files],
                **item.rows,
            }
            for item in found.data
        ],
        "code": [
            {"module": item.module, "change": item.kind, "added": item.added, "removed": item.removed}
            | ({"text": item.text} if item.text else {})
            for item in found.code
        ],
        "environment": [pair(item) for item in found.environment],
        "artifacts": {"same": found.same_artifacts, "differ": [pair(item) for item in found.artifacts]},
        "gates": [pair(item) for item in found.gates],
        "metrics": [dict(item) for item in found.metrics],
    }
    checked: dict[str, Any] = json.loads(json.dumps(result))
    return checked
