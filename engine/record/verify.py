"""Everything that was recorded, hashed again: what does not match is named.

::

    run id == sha256(spec.json)                  record.json == its digest == the ledger's
       |                                            |
       `-- data, code, environment, plan            `-- artifacts: objects named by their sha256
             |
             `-- the lake's own commit, listed and hashed again
"""

from __future__ import annotations

import json
import os
import re
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from engine.digest import digest_of, sha256
from engine.errors import EngineError, LakeUnavailable, StorageFull, StorageUnwritable
from engine.lake.protocol import Damage, Lake, LakeDenied
from engine.record.anchors import Anchor, broken
from engine.record.model import RunRecord, definition_digest
from engine.record.store import RecordStore, numbered
from engine.registry.protocol import Registry
from engine.resolve.lookup import pin_data
from engine.resolve.questions import DataQuestion
from engine.steps.seals import is_sealed
from engine.store.checked import read_checked
from engine.store.objects import ObjectStore
from engine.store.packs import OWN_FILE
from engine.store.sqlite import close_kept
from engine.store.sums import complaint

DATABASE = ".db"
UNREADABLE = (EngineError, sqlite3.Error, OSError, ValueError, LookupError, TypeError, AttributeError)
"""What reading a file raises in which anything may stand."""
OUTSIDE = (LakeUnavailable, LakeDenied, StorageFull, StorageUnwritable)
"""What says nothing of what was recorded, but of the place: it ends the look."""
RUN_ID = re.compile(r"[0-9a-f]{64}")
BESIDE_A_DATABASE = ("-wal", "-shm", "-journal", ".sum", ".lock")


@dataclass(frozen=True, kw_only=True, slots=True)
class Mismatch:
    """Something that is not what was recorded: what kind of thing, which one, and what is wrong with it."""

    what: str
    name: str
    fact: str


@dataclass(frozen=True, kw_only=True)
class Archive:
    """What there is to verify.

    ``lake_damage`` looks through an embedded lake's history; a server has its own. ``anchors`` are what was written
    down outside of the ledger's hashes.
    """

    home: Path
    store: ObjectStore
    records: RecordStore
    registry: Registry
    lake: Lake
    lake_damage: Callable[[], Iterator[Damage]] = lambda: iter(())
    anchors: Callable[[], Iterator[Anchor]] = lambda: iter(())

    @cached_property
    def entered(self) -> dict[str, dict[str, int | None]] | None:
        """By run, the records that the ledger names, with the numbers of their executions; ``None`` without a ledger.

        One that cannot be read has nothing to say either; what is wrong with it is said where it is looked at.
        """
        found: dict[str, dict[str, int | None]] = {}
        if not self.registry.exists:
            return None
        with suppress(*UNREADABLE):
            for entry in self.registry.ledger():
                event = entry.event
                if event.get("what") == "removed":
                    found.pop(str(event.get("run")), None)
                elif "record" in event:
                    found.setdefault(str(event["run"]), {})[str(event["record"])] = event.get("execution")
            return found
        return None

    def is_known(self, record: str) -> bool:
        """Whether a record was entered just now, or is about to be, or was when its process died."""
        return record in self.registry.announced() or self.registry.knows(record)


@dataclass(kw_only=True, slots=True)
class Seen:
    """What was looked at so far, so that nothing is hashed twice: each object's flaw, and counts by kind of thing."""

    objects: dict[str, str] = field(default_factory=dict)
    data: dict[tuple[str, str], str] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)


def verify_home(archive: Archive, seen: Seen) -> Iterator[Mismatch]:
    """Everything below the home: runs, ledger, objects, the lake's history, seals and caches.

    Raises:
        LakeUnavailable, LakeDenied: when the data's commits lie on a server that does not answer.
        StorageFull, StorageUnwritable: when the disk has no room even to look (SQLite needs some), or may not be read.
    """
    close_kept()  # what lies on the disk counts, and not what this process remembers of it
    yield from file_mismatches(archive.home, seen)
    yield from database_mismatches(archive.home, seen)
    for look in (loose_mismatches, packed_mismatches):
        yield from guarded("object", str(archive.store.root), look(archive.store, seen))
    seen.counts["objects"] = len(seen.objects)
    yield from seal_mismatches(archive, seen)
    yield from ledger_mismatches(archive, seen)
    yield from guarded("lake", str(archive.home / "lake"), lake_mismatches(archive))
    for run_id in archive.records.folders():
        yield from run_mismatches(archive, run_id, seen)


def verify_runs(archive: Archive, run_ids: Iterable[str], seen: Seen) -> Iterator[Mismatch]:
    """Some runs, with everything that they name, and the ledger.

    Raises:
        LakeUnavailable, LakeDenied: as for :func:`verify_home`.
    """
    yield from ledger_mismatches(archive, seen)
    for run_id in run_ids:
        yield from run_mismatches(archive, run_id, seen)


def guarded(what: str, name: str, look: Iterator[Mismatch]) -> Iterator[Mismatch]:
    """What a look finds; that it came to an end because something cannot be read is a finding, too."""
    try:
        yield from look
    except OUTSIDE:
        raise
    except UNREADABLE as error:
        fact = error.fact if isinstance(error, EngineError) else f"cannot be read: {type(error).__name__} {error}"
        yield Mismatch(what=what, name=name, fact=fact)


def lake_mismatches(archive: Archive) -> Iterator[Mismatch]:
    """What an embedded lake finds wrong with its own history."""
    for damage in archive.lake_damage():
        yield Mismatch(what=damage.what, name=damage.name, fact=damage.fact)


# -- files, databases, objects -----------------------------------------------------------------------------------


def file_mismatches(home: Path, seen: Seen) -> Iterator[Mismatch]:
    """Small files in the cache that carry their own digest."""
    for path in sorted((home / "cache").rglob("*")):
        if path.name.startswith(".") or not path.is_file() or is_database_file(path):
            continue
        seen.counts["cache entries"] += 1
        if read_checked(path) is None and path.is_file():
            yield Mismatch(what="cache entry", name=str(path.relative_to(home)), fact="its bytes were altered")


def is_database_file(path: Path) -> bool:
    """Whether a file is a database or belongs to one."""
    name = path.name
    for ending in BESIDE_A_DATABASE:
        name = name.removesuffix(ending)
    return name.endswith(DATABASE)


def database_mismatches(home: Path, seen: Seen) -> Iterator[Mismatch]:
    """Databases whose bytes changed without a transaction."""
    for path in sorted(home.rglob(f"*{DATABASE}")):
        if path.name.startswith(".") or not path.is_file() or (home / "tmp") in path.parents:
            continue
        seen.counts["databases"] += 1
        name = str(path.relative_to(home))
        yield from guarded("database", name, byte_mismatches(path, name))


def byte_mismatches(path: Path, name: str) -> Iterator[Mismatch]:
    """What the sum of a database says of its bytes."""
    fact = complaint(path)
    if fact:
        yield Mismatch(what="database", name=name, fact=fact)


def loose_mismatches(store: ObjectStore, seen: Seen) -> Iterator[Mismatch]:
    """Objects with a file of their own whose bytes are not those that they are named after; on all cores."""
    digests = [f"{path.parent.name}{path.name}" for path in sorted(store.root.glob("[0-9a-f][0-9a-f]/*"))]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        facts = pool.map(lambda digest: object_flaw(store, digest), digests)
        yield from altered(digests, facts, seen)


def packed_mismatches(store: ObjectStore, seen: Seen) -> Iterator[Mismatch]:
    """Objects in packs whose bytes are others; the same object may have a file, too. On all cores."""
    if not store.packs.index.is_file():
        return
    packed = [location for location in store.packs.all() if location.pack != OWN_FILE]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        facts = pool.map(lambda location: flaw(lambda: store.packs.read(location)), packed)
        yield from altered([location.digest for location in packed], facts, seen)


def altered(digests: Sequence[str], flaws: Iterable[str], seen: Seen) -> Iterator[Mismatch]:
    """Which of some objects have a flaw; all of them were seen now."""
    for digest, fact in zip(digests, flaws, strict=True):
        seen.objects[digest] = seen.objects.get(digest) or fact
        if fact:
            yield Mismatch(what="object", name=digest, fact=fact)


def object_flaw(store: ObjectStore, digest: str) -> str:
    """What is wrong with an object; empty when nothing is."""
    return flaw(lambda: store.check(digest))


def flaw(look: Callable[[], object]) -> str:
    """What keeps ``look`` from being content; empty when nothing does."""
    try:
        look()
    except OUTSIDE:
        raise
    except EngineError as error:
        return error.fact
    except OSError as error:
        return error.strerror or str(error)
    return ""


def seal_mismatches(archive: Archive, seen: Seen) -> Iterator[Mismatch]:
    """Native models with a seal that is not this home's."""
    for path in sorted((archive.home / "seals").glob("*")):
        if path.name.startswith("."):
            continue
        seen.counts["seals"] += 1
        yield from guarded("seal", path.name, seal_mismatch(archive, path.name))


def seal_mismatch(archive: Archive, digest: str) -> Iterator[Mismatch]:
    """What is wrong with one seal."""
    if not is_sealed(archive.home, digest, archive.store.read(digest)):
        yield Mismatch(what="seal", name=digest, fact="it is not what this home's key gives")


# -- the ledger ---------------------------------------------------------------------------------------------------


def ledger_mismatches(archive: Archive, seen: Seen) -> Iterator[Mismatch]:
    """Entries that do not follow from those before, tables that say otherwise, and records that are others."""
    name = archive.registry.place
    yield from guarded("anchor", name, anchor_mismatches(archive, seen))
    if not archive.registry.exists:
        lost = sum(len(archive.records.numbers(run_id)) for run_id in archive.records.folders())
        if lost:
            fact = f"it is gone; {lost:,} {'record was' if lost == 1 else 'records were'} in it"
            yield Mismatch(what="ledger", name=name, fact=fact)
        return
    yield from guarded("ledger", name, chain_mismatches(archive))
    yield from guarded("ledger", name, evidence_mismatches(archive, seen))


def chain_mismatches(archive: Archive) -> Iterator[Mismatch]:
    """What is wrong with the registry by itself."""
    for found in archive.registry.flaws():
        yield Mismatch(what="ledger", name=found.name, fact=found.fact)


def anchor_mismatches(archive: Archive, seen: Seen) -> Iterator[Mismatch]:
    """Anchors outside that do not hold the ledger: it was rewritten, or is an older one."""
    found = list(archive.anchors())
    if found:
        seen.counts["anchors"] += len(found)
        for item, fact in broken(found, archive.registry.ledger()):
            yield Mismatch(what="anchor", name=item.place, fact=fact)


def evidence_mismatches(archive: Archive, seen: Seen) -> Iterator[Mismatch]:
    """Records that the ledger names and that are gone or others."""
    seen.counts["ledger entries"] += archive.registry.head().number
    for run_id, entered in (archive.entered or {}).items():
        for digest in entered.keys() - record_digests(archive.records, run_id).values():
            fact = f"the record that the ledger names, {digest[:12]}, is gone or another"
            yield Mismatch(what="record", name=run_id, fact=fact)


def record_digests(records: RecordStore, run_id: str) -> dict[int, str]:
    """The SHA-256 of every record of a run, as it lies on the disk, by the number of its execution."""
    folder = records.folder(run_id) / "executions"
    found = {number: folder / str(number) / "record.json" for number in numbered(folder)}
    return {number: sha256(path.read_bytes()) for number, path in found.items() if path.is_file()}


def unentered(archive: Archive, run_id: str) -> Iterator[Mismatch]:
    """Records on the disk that the ledger does not name, or names as another execution."""
    if archive.entered is None:
        return
    entered = archive.entered.get(run_id, {})
    for number, digest in record_digests(archive.records, run_id).items():
        name = f"{run_id}/executions/{number}"
        if digest not in entered and not archive.is_known(digest):
            yield Mismatch(what="record", name=name, fact="no entry of the ledger names it")
        elif entered.get(digest) not in (None, number):
            fact = f"the ledger has this record as execution {entered[digest]}"
            yield Mismatch(what="record", name=name, fact=fact)


# -- runs -----------------------------------------------------------------------------------------------------------


def run_mismatches(archive: Archive, run_id: str, seen: Seen) -> Iterator[Mismatch]:
    """One run: its spec, its operation, each of its records and all that they name."""
    folder = archive.records.folder(run_id)
    executions, operations = numbered(folder / "executions"), numbered(folder / "operation", ".json")
    if RUN_ID.fullmatch(run_id) is None:
        yield Mismatch(what="run", name=run_id, fact="it is no run: no run id is like that")
        return
    began = bool(executions) or run_id in (archive.entered or {})  # else its process died before, or is at it
    seen.counts["runs"] += began
    spec = folder / "spec.json"
    if not spec.is_file() and not began:
        return
    if not spec.is_file():
        yield Mismatch(what="spec", name=run_id, fact="it is gone")
    elif sha256(spec.read_bytes()) != run_id:
        yield Mismatch(what="spec", name=run_id, fact="its digest is not the run id")
    for number in range(1, max(operations, default=int(began)) + 1):
        if read_checked(folder / "operation" / f"{number}.json") is None:
            fact = "its bytes were altered" if number in operations else "it is gone"
            yield Mismatch(what="operation", name=f"{run_id}/operation/{number}", fact=fact)
    yield from guarded("record", run_id, unentered(archive, run_id))
    for number in executions:
        name = f"{run_id}/executions/{number}"
        yield from guarded("record", name, execution_mismatches(archive, run_id, number, seen))


def execution_mismatches(archive: Archive, run_id: str, number: int, seen: Seen) -> Iterator[Mismatch]:
    """One execution: its record by its digests, then everything that the record names."""
    seen.counts["records"] += 1
    folder = archive.records.folder(run_id) / "executions" / str(number)
    whole = (folder / "record.json").read_bytes()
    known = json.loads((folder / "digests.json").read_bytes())
    name = f"{run_id}/executions/{number}"
    if known != {"record": f"sha256:{sha256(whole)}", "definition": known.get("definition")}:
        yield Mismatch(what="record", name=name, fact="it is not what its digest says")
        return
    record = RunRecord(run_id=run_id, execution=number, statement=json.loads(whole))
    if known["definition"] != f"sha256:{definition_digest(record.statement)}":
        yield Mismatch(what="record", name=name, fact="its definition is not what its digest says")
    if digest_of(record.definition["externalParameters"]) != run_id:
        yield Mismatch(what="record", name=name, fact="it is the record of another run")
    yield from artifact_mismatches(archive, record, seen)
    for dependency in record.dependencies.values():
        yield from dependency_mismatches(archive, run_id, dependency, seen)


def artifact_mismatches(archive: Archive, record: RunRecord, seen: Seen) -> Iterator[Mismatch]:
    """Artifacts of a run, its native model included, and its plan."""
    found = dict(record.subjects)
    for step, outcome in record.steps.items():
        found.update({f"{step}/{output}": artifact["digest"] for output, artifact in outcome["outputs"].items()})
    found["plan"] = record.plan_digest
    for name, digest in found.items():
        seen.counts["artifacts"] += 1
        yield from named_object(archive, "artifact", f"{record.run_id[:12]} {name}", digest, seen)


def named_object(archive: Archive, what: str, name: str, digest: str, seen: Seen) -> Iterator[Mismatch]:
    """An object that a record names."""
    if digest not in seen.objects:
        seen.objects[digest] = object_flaw(archive.store, digest)
    if seen.objects[digest]:
        yield Mismatch(what=what, name=f"{name} {digest[:12]}", fact=seen.objects[digest])


def dependency_mismatches(
    archive: Archive, run_id: str, dependency: Mapping[str, Any], seen: Seen
) -> Iterator[Mismatch]:
    """A pin: its own object, and what that one names."""
    name, digest = dependency["name"], dependency["digest"]["sha256"]
    shown = f"{run_id[:12]} {name}"
    seen.counts["pins"] += 1
    yield from named_object(archive, "pin", shown, digest, seen)
    if seen.objects[digest]:
        return
    if name == "code":
        for module, source in json.loads(archive.store.read(digest)):
            yield from named_object(archive, "source", f"{shown} {module}", source, seen)
    elif name.startswith("data/"):
        for path, content in json.loads(archive.store.read(digest)):
            yield from named_object(archive, "data", f"{shown} {path}", content, seen)
        yield from commit_mismatches(archive, shown, dependency, seen)


def commit_mismatches(archive: Archive, name: str, pin: Mapping[str, Any], seen: Seen) -> Iterator[Mismatch]:
    """Data that the lake itself gives otherwise than it was, at the commit to which it is pinned."""
    uri, commit = pin["uri"], pin["annotations"]["commit"]
    key = (uri, commit)
    if key not in seen.data:
        question = DataQuestion(name=name, uri=uri, format=pin["annotations"]["format"])
        try:
            found = pin_data(question, archive.lake, at=commit)
            seen.data[key] = found.digest
        except OUTSIDE:
            raise
        except EngineError as error:
            seen.data[key] = error.fact
    if seen.data[key] != pin["digest"]["sha256"]:
        found_there = seen.data[key]
        fact = found_there if " " in found_there else f"at its commit the lake has {found_there[:12]}"
        yield Mismatch(what="data", name=f"{name} {uri} at {commit[:12]}", fact=fact)
