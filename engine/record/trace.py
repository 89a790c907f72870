"""From any id to all that it came from, and to all that came of it.

::

    object --in--> data at a commit --read by--> run --made--> artifact, model version --named by--> alias
                   code, environment, baseline --used by--^    ^       `--baseline of--> run
                   alarm --trained for-------------------------'
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from engine.digest import manifest_digest
from engine.errors import EngineError, NotFound, UsageError
from engine.lake.listing import commit_of, files_at
from engine.lake.protocol import Lake
from engine.lake.uri import SCHEME, LakeUri, parse
from engine.monitor.table import Table
from engine.predictions.ids import time_of
from engine.record.index import Row, marks, rows
from engine.record.model import RunRecord
from engine.record.query import pinned_at
from engine.record.store import SHORTEST_PREFIX, RecordStore
from engine.registry.history import moves
from engine.registry.model import ModelRef, ModelVersion
from engine.registry.protocol import Registry

HEX = re.compile(r"^(?:sha256:)?([0-9a-f]{6,64})$")
GIT = "git:"
NEWEST_FIRST = "order by e.started desc, e.run"
MOST_ASKED = 500  # for more than these, all are read, which is quicker
LOOKED_IN = "runs, models, artifacts, data commits and objects, git commits and lake URIs were looked through"


@dataclass(frozen=True, kw_only=True, slots=True)
class Node:
    """A thing in the history: what kind, its full id, how a person calls it, and facts about it.

    ``up`` and ``down`` are what it came from and what came of it, each with the word that stands between.
    """

    kind: str
    id: str
    shown: str
    facts: dict[str, Any] = field(default_factory=dict)
    up: tuple[tuple[str, Node], ...] = ()
    down: tuple[tuple[str, Node], ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Sources:
    """Where a history is read."""

    db: sqlite3.Connection
    records: RecordStore
    registry: Registry
    lake: Lake
    predictions: Path
    monitor: Path


def trace(text: str, sources: Sources) -> Node:
    """What ``text`` names, with everything before and after it.

    Args:
        text: a run id or digest or its beginning, ``NAME``, ``NAME:VERSION``, ``NAME@ALIAS``, a commit, or
            ``lakefs://repository/ref/path`` where the path may be empty, a folder or an object, or the id of a
            prediction.

    Raises:
        NotFound: when nothing has that name.
        UsageError: when it means several things.
    """
    if text.startswith(SCHEME):
        return data_node(parse(text), sources)
    if time_of(text) is not None:
        return prediction_node(text, sources)
    text = text.removeprefix(GIT)
    if "@" in text or ":" in text.removeprefix("sha256:") or text in sources.registry.models():
        return model_node(sources.registry.get(ModelRef.parse(text)), sources)
    found = HEX.match(text)
    if found is None:
        raise NotFound("id", text, hint=LOOKED_IN)
    return hex_node(found[1], sources)


def hex_node(digits: str, sources: Sources) -> Node:
    """What the beginning of a digest or an id names: the first kind of thing that has one."""
    if len(digits) < SHORTEST_PREFIX:
        raise UsageError(f'"{digits}" is too short', hint=f"give at least {SHORTEST_PREFIX} characters")
    makers: tuple[tuple[str, Callable[[str, Sources], Node]], ...] = (
        ("select run from runs where run glob ?", run_node),
        ("select digest from artifacts where digest glob ?", artifact_node),
        ("select digest from objects where digest glob ?", object_node),
        ("select manifest from pins where manifest glob ?", manifest_node),
        ("select lake_commit from pins where lake_commit glob ?", commit_node),
        ("select name from names where kind in ('git', 'code', 'environment', 'record') and name glob ?", named_node),
    )
    for query, make in makers:
        found = sorted({row[0] for row in sources.db.execute(f"{query} limit 100", [f"{digits}*"])})
        if len(found) > 1:
            raise UsageError(f'"{digits}" begins {len(found)} ids', hint=f"give more of it: {', '.join(found[:4])}")
        if found:
            return make(found[0], sources)
    require_kept(digits, sources.registry)
    raise NotFound("id", digits, hint=LOOKED_IN)


def require_kept(digits: str, registry: Registry) -> None:
    """Refuse the beginning of the id of a run that was removed, and say when.

    Raises:
        NotFound: then.
    """
    for entry in registry.ledger():
        run = str(entry.event.get("run", ""))
        if entry.event.get("what") == "removed" and run.startswith(digits):
            when = str(entry.event.get("when", ""))[:19].replace("T", " ")
            hint = f"`engine runs gc` removed its records on {when}; the ledger still has its entries"
            raise NotFound("record of run", run, hint=hint)


# -- predictions ----------------------------------------------------------------------------------------------------


def prediction_node(id: str, sources: Sources) -> Node:
    """A prediction: what was asked and answered, and the versions that answered, with all that is behind them.

    Raises:
        NotFound: when it is in no log: it was not sampled, or is about to be written.
    """
    from engine.predictions.find import labels_of, rows_of

    found = rows_of(sources.predictions, id)
    if not found:
        raise NotFound("prediction", id, hint="the logs of all models were looked through; not each is sampled")
    models = dict.fromkeys(f"{row['model']}:{row['version']}" for row in found)
    labels = labels_of(sources.predictions, found[0]["model"], id)
    facts = {"rows": [stated(row) for row in found], "labels": [stated(label) for label in labels]}
    up = tuple(("predicted by", model_node(sources.registry.get(ModelRef.parse(name)), sources)) for name in models)
    shown = f"{found[0]['model']}:{found[0]['version']} @{found[0]['alias']} {found[0]['time']:%Y-%m-%d %H:%M:%S}"
    return Node(kind="prediction", id=id, shown=shown, facts=facts, up=up)


def stated(row: dict[str, Any]) -> dict[str, Any]:
    """A row of a log as JSON has it."""
    return {
        key: value.isoformat() if isinstance(value, datetime) else value
        for key, value in row.items()
        if key not in ("prediction", "model", "run")
    }


# -- runs -----------------------------------------------------------------------------------------------------------


def run_node(run: str, sources: Sources) -> Node:
    """A run, with the data, code, environment and baselines behind it and the artifacts and model that it made."""
    found = rows(sources.db, "where e.run = ? and e.newest = 1", [run])
    record = sources.records.latest(run)
    if not found or record is None:
        raise NotFound("record of run", run, hint="`engine verify` says what is wrong with it")
    return run_leaf(found[0], up=inputs_of(run, sources), down=tuple(products_of(record, found[0], sources)))


def run_leaf(row: Row, up: tuple[tuple[str, Node], ...] = (), down: tuple[tuple[str, Node], ...] = ()) -> Node:
    """A run as others point to it."""
    facts = {"name": row.name, "status": row.status, "started": row.started, "metrics": row.values}
    return Node(kind="run", id=row.run, shown=f"{row.name} {row.status}", facts=facts, up=up, down=down)


def inputs_of(run: str, sources: Sources) -> tuple[tuple[str, Node], ...]:
    """Everything that a run is pinned to: the same bytes, but at other commits perhaps in each execution."""
    found: dict[tuple[str, str, str], Node] = {}
    for record in reversed(sources.records.executions(run)):
        for word, node in pinned_by(record, sources):
            found.setdefault((word, node.id, node.shown), node)
    return tuple((word, node) for (word, _, _), node in found.items())


def pinned_by(record: RunRecord, sources: Sources) -> Iterator[tuple[str, Node]]:
    """Everything that an execution was pinned to."""
    for name, pin in record.dependencies.items():
        digest, facts = pin["digest"]["sha256"], dict(pin.get("annotations") or {})
        if name.startswith("data/"):
            uri, commit = parse(pin["uri"]), facts["commit"]
            at = LakeUri(repository=uri.repository, ref=commit, path=uri.path)
            told = {**facts, "uri": pin["uri"], "digest": f"sha256:{digest}"}
            yield f"read as {name.removeprefix('data/')}", Node(kind="data", id=str(at), shown=pin["uri"], facts=told)
        elif name == "code":
            git = facts.get("commit")
            shown = f"git {git[:12]}{' with changes' if facts.get('dirty') else ''}" if git else "not in git"
            told = {"digest": f"sha256:{digest}", "commit": git, "dirty": facts.get("dirty")}
            yield "executed", Node(kind="code", id=digest, shown=shown, facts=told)
        elif name == "environment":
            yield "ran with", Node(kind="environment", id=digest, shown=f"Python {facts.get('python')}")
        else:
            yield f"compared with {name.removeprefix('model/')}", baseline_node(digest, facts, sources)


def baseline_node(digest: str, facts: dict[str, Any], sources: Sources) -> Node:
    """A model that others were compared with."""
    found = [version for version in every_version(sources.registry) if version.digest == digest]
    if found:
        return version_leaf(found[0])
    return Node(kind="model", id=digest, shown=f"version {facts.get('version')}", facts=facts)


def products_of(record: RunRecord, row: Row, sources: Sources) -> Iterator[tuple[str, Node]]:
    """Everything that a run made: artifacts, and the model with what became of it."""
    for name, digest in record.subjects.items():
        yield "made", Node(kind="artifact", id=digest, shown=name)
    yield from models_of([row], sources)


def models_of(found: Iterable[Row], sources: Sources, word: str = "registered") -> Iterator[tuple[str, Node]]:
    """The model versions that runs registered, each once, the newest first."""
    wanted = {(row.name, row.version) for row in found}
    for version in every_version(sources.registry):
        if (version.name, version.version) in wanted:
            yield word, version_leaf(version)


def every_version(registry: Registry) -> list[ModelVersion]:
    """All versions of all models."""
    return [version for name in registry.models() for version in registry.versions(name)]


# -- models and artifacts -----------------------------------------------------------------------------------------


def version_leaf(version: ModelVersion) -> Node:
    """A model version as others point to it."""
    aliases = "".join(f" @{alias}" for alias in version.aliases)
    return Node(
        kind="model",
        id=f"{version.name}:{version.version}",
        shown=f"{version.name}:{version.version}{aliases}",
        facts={"digest": f"sha256:{version.digest}", "aliases": list(version.aliases), "created": version.created},
    )


def model_node(version: ModelVersion, sources: Sources) -> Node:
    """A model version: the runs that made it, with what is behind them, and the runs that it was the baseline of."""
    leaf = version_leaf(version)
    made = [row for row in rows_of(version.runs, sources.db) if row.run in version.runs]
    up = [("made by", run_leaf(row, up=inputs_of(row.run, sources))) for row in made]
    up += [*causes_of(version, sources), *decisions_on(version, sources.registry)]
    down = [("baseline of", run_leaf(row)) for row in named_rows("baseline", version.digest, sources.db)]
    aliases = [("named by", Node(kind="alias", id=f"{version.name}@{a}", shown=f"@{a}")) for a in version.aliases]
    return Node(kind="model", id=leaf.id, shown=leaf.shown, facts=leaf.facts, up=tuple(up), down=(*aliases, *down))


def decisions_on(version: ModelVersion, registry: Registry) -> Iterator[tuple[str, Node]]:
    """The entries of the ledger that gave a version an alias: when, who, why, and with which data."""
    for move in moves(registry.ledger(version.name)):
        if move.version == version.version:
            shown = (
                f"@{move.alias} {move.when[:19].replace('T', ' ')} by {move.who}{f': {move.why}' if move.why else ''}"
            )
            facts = {"alias": move.alias, "when": move.when, "who": move.who, "why": move.why, "forced": move.forced}
            node = Node(
                kind="entry",
                id=str(move.entry.number),
                shown=shown,
                facts={**facts, "how": move.how, "data": move.data},
            )
            yield "named in", node


def causes_of(version: ModelVersion, sources: Sources) -> Iterator[tuple[str, Node]]:
    """The alarms for which a version was trained, and the versions that they were about."""
    table = Table(sources.monitor)
    known = {item.version: item for item in sources.registry.versions(version.name)}
    for item in table.retrained(version.name):
        alarm = table.alarm(item["alarm"]) if item["outcome"].get("run") in version.runs else None
        if alarm is not None:
            old = known.get(int(alarm["version"]))
            facts = {name: alarm[name] for name in ("signal", "text", "features", "window", "rows", "alias")}
            facts |= {name: alarm[name].isoformat() for name in ("window_start", "window_end", "raised")}
            up = (("raised on", version_leaf(old)),) if old is not None else ()
            yield "trained for", Node(kind="alarm", id=alarm["id"], shown=alarm["text"], facts=facts, up=up)


def artifact_node(digest: str, sources: Sources) -> Node:
    """An artifact: the runs that made these bytes, and the models that are them."""
    made = sources.db.execute("select distinct run, name from artifacts where digest = ? order by run", [digest])
    names = {row[0]: row[1] for row in made.fetchall()}
    found = [row for row in rows_of(list(names), sources.db) if row.run in names]
    up = tuple((f"made as {names[row.run]} by", run_leaf(row)) for row in found)
    models = [version for version in every_version(sources.registry) if version.digest == digest]
    shown = ", ".join(sorted(set(names.values())))
    down = tuple(("registered", version_leaf(version)) for version in models)
    return Node(kind="artifact", id=digest, shown=shown, up=up, down=down)


# -- data -----------------------------------------------------------------------------------------------------------


def object_node(digest: str, sources: Sources) -> Node:
    """An object of the lake: where it lies, and the runs that read it, with their models."""
    where = "select distinct p.uri, o.path from objects o join pins p on p.manifest = o.manifest where o.digest = ?"
    places = [f"{uri}{path if uri.endswith('/') else ''}" for uri, path in sources.db.execute(where, [digest])]
    condition = "p.manifest in (select manifest from objects where digest = ?)"
    up = tuple(("lay at", Node(kind="uri", id=place, shown=place)) for place in sorted(places))
    return Node(
        kind="object",
        id=digest,
        shown=", ".join(sorted(places)),
        up=up,
        down=tuple(seen_by(condition, [digest], sources)),
    )


def manifest_node(manifest: str, sources: Sources) -> Node:
    """Data by its content: the commits at which it was read, and the runs that read it."""
    commits = sources.db.execute("select distinct uri, lake_commit from pins where manifest = ?", [manifest])
    up = tuple(("read at", Node(kind="commit", id=commit, shown=f"{uri} at {commit[:12]}")) for uri, commit in commits)
    down = tuple(seen_by("p.manifest = ?", [manifest], sources))
    return Node(kind="data", id=manifest, shown="a source by content", up=up, down=down)


def commit_node(commit: str, sources: Sources) -> Node:
    """A commit that runs were pinned to; also those that read the same bytes elsewhere."""
    repositories = sources.db.execute("select distinct repository from pins where lake_commit = ?", [commit])
    (repository,) = next(iter(repositories.fetchall()))
    return data_node(LakeUri(repository=repository, ref=commit), sources)


def data_node(uri: LakeUri, sources: Sources) -> Node:
    """What lies at a lake URI now: its commit, and the runs that read it there, or read the same bytes elsewhere.

    Raises:
        NotFound: for a repository, ref or path that is not there.
    """
    commit = commit_of(uri, sources.lake)
    facts: dict[str, Any] = {"commit": commit}
    if uri.path and not uri.path.endswith("/"):
        entry = sources.lake.fetch(uri.repository, commit, sources.lake.stat(uri.repository, commit, uri.path))
        node = object_node(entry.digest, sources)
        return Node(
            kind="object", id=entry.digest, shown=str(uri), facts=facts, up=(at_commit(commit, uri),), down=node.down
        )
    down = [*seen_by(*pinned_at(uri, commit), sources, "read at this commit by")]
    known = {node.id for _, node in down}
    manifests = same_bytes(uri, commit, sources)
    count, same = models_that_saw(*pinned_elsewhere(manifests, uri, commit), sources)
    down += [(word, node) for word, node in same if node.id not in known]
    facts["runs_at_other_commits_with_the_same_bytes"] = count
    facts["the_same_bytes"] = manifests
    id = f"{SCHEME}{uri.repository}/{commit}/{uri.path}"
    return Node(kind="data", id=id, shown=str(uri), facts=facts, up=(at_commit(commit, uri),), down=tuple(down))


def at_commit(commit: str, uri: LakeUri) -> tuple[str, Node]:
    """The commit that a ref means."""
    word = "is" if uri.ref == commit else f"{uri.ref} is"
    return word, Node(kind="commit", id=commit, shown=f"{uri.repository} {commit[:12]}")


def pinned_elsewhere(manifests: Sequence[str], uri: LakeUri, commit: str) -> tuple[str, list[object]]:
    """The pins ``p`` to some bytes, of runs that never read them at this commit, as a condition."""
    here, values = pinned_at(uri, commit)
    condition = f"p.manifest in ({marks(manifests)}) and p.run not in (select p.run from pins p where {here})"  # noqa: S608
    return condition, [*manifests, *values]


def same_bytes(uri: LakeUri, commit: str, sources: Sources) -> list[str]:
    """The digests of sources that had at other commits the bytes that they have at this one."""
    query = "select distinct path, manifest from pins where repository = ? and lake_commit != ?"
    manifests: list[str] = []
    now: dict[str, str | None] = {}
    for path, manifest in sources.db.execute(query, [uri.repository, commit]).fetchall():
        if not (path.startswith(uri.path) or uri.path.startswith(path)):
            continue
        if path not in now:
            now[path] = content(LakeUri(repository=uri.repository, ref=commit, path=path), commit, sources.lake)
        if now[path] == manifest:
            manifests.append(manifest)
    return manifests


def content(uri: LakeUri, commit: str, lake: Lake) -> str | None:
    """The digest of what lies at a path, if something does."""
    try:
        return manifest_digest({path: entry.digest for path, entry in files_at(uri, commit, lake).items()})
    except EngineError:
        return None


def seen_by(
    condition: str, values: Sequence[object], sources: Sources, word: str = "read by"
) -> Iterator[tuple[str, Node]]:
    """The runs with pins ``p`` like that, and then the models that they trained, or only judged, on them."""
    query = f"select p.run, max(p.trains) from pins p where {condition} group by p.run"  # noqa: S608
    trains = {run: bool(yes) for run, yes in sources.db.execute(query, values)}
    found = [row for row in rows_of(list(trains), sources.db) if row.run in trains]
    yield from ((word, run_leaf(row)) for row in found)
    yield from models_of([row for row in found if trains[row.run]], sources, "trained")
    yield from models_of([row for row in found if not trains[row.run]], sources, "judged")


def models_that_saw(condition: str, values: Sequence[object], sources: Sources) -> tuple[int, list[tuple[str, Node]]]:
    """How many runs have pins ``p`` like that, and the models that they trained, or only judged, on them."""
    join = f"from pins p join executions e on e.run = p.run and e.newest = 1 where {condition}"
    count = sources.db.execute(f"select count(distinct p.run) {join}", values).fetchone()[0]
    query = f"select e.name, e.version, max(p.trains) {join} and e.version is not null group by e.name, e.version"
    words = {(name, version): trains for name, version, trains in sources.db.execute(query, values)}
    found = [version for version in every_version(sources.registry) if (version.name, version.version) in words]
    return count, [
        (f"the same bytes {'trained' if words[item.name, item.version] else 'judged'}", version_leaf(item))
        for item in found
    ]


def rows_of(runs: Sequence[str], db: sqlite3.Connection) -> list[Row]:
    """The newest executions of at least these runs, the latest first."""
    if len(runs) > MOST_ASKED:
        return rows(db, f"where e.newest = 1 {NEWEST_FIRST}")
    return rows(db, f"where e.run in ({marks(runs)}) and e.newest = 1 {NEWEST_FIRST}", runs)


# -- names of other kinds -----------------------------------------------------------------------------------------


def named_rows(kind: str, name: str, db: sqlite3.Connection) -> list[Row]:
    """The runs that have something of a kind by that name."""
    of_run = "select 1 from names n where n.run = e.run and n.kind = ? and n.name = ?"
    return rows(db, f"where e.newest = 1 and exists ({of_run}) {NEWEST_FIRST}", [kind, name])


def named_node(name: str, sources: Sources) -> Node:
    """A git commit, the code or the environment behind runs by digest, or a record."""
    (kind,) = next(iter(sources.db.execute("select kind from names where name = ? limit 1", [name]).fetchall()))
    found = named_rows(kind, name, sources.db)
    words = {"git": "git commit", "code": "code", "environment": "environment", "record": "record"}
    return Node(
        kind=kind,
        id=name,
        shown=words[kind],
        down=(*(("used by", run_leaf(row)) for row in found), *models_of(found, sources)),
    )


def document(node: Node) -> dict[str, Any]:
    """A history as one document: nodes, and edges from what was before to what came of it."""
    nodes: dict[str, dict[str, Any]] = {}
    edges: list[dict[str, str]] = []

    def add(one: Node) -> str:
        key = f"{one.kind}:{one.id}"
        nodes.setdefault(key, {"kind": one.kind, "id": one.id, "name": one.shown, **one.facts})
        for word, before in one.up:
            edges.append({"from": add(before), "to": key, "what": word})
        for word, after in one.down:
            edges.append({"from": key, "to": add(after), "what": word})
        return key

    return {"subject": add(node), "nodes": nodes, "edges": edges}
