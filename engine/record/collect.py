"""Runs that nobody needs any more are forgotten, and then what only they named.

Names go first and bytes after, so a collector that is killed leaves bytes that nobody names, which the next one takes.
It waits for no run and no run for it: while one is going on, nothing is collected.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import orjson

from engine.errors import Failed, UsageError, writing
from engine.record.index import Row
from engine.record.pins import pins
from engine.record.store import RecordStore
from engine.registry.protocol import Registry
from engine.store.durable import held
from engine.store.objects import ObjectStore

LOCK = "runs.lock"
ABANDONED = ("removed", "record", "started", "judge")
"""What only runs, and who removes them, leave among temporary folders."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Keep:
    """Which runs are kept, beside those that a registered model needs: whatever any of these says."""

    newest: int | None = None
    since: timedelta | None = None
    statuses: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Collected:
    """What was, or would be, removed. ``size`` is in bytes."""

    runs: tuple[str, ...]
    needed: int
    entries: int = 0
    objects: int = 0
    size: int = 0


def doomed(known: Iterable[Row], needed: set[str], keep: Keep, now: datetime) -> list[str]:
    """The runs to remove, pure. ``known`` are all runs, the newest first; ``needed`` those that models need."""
    seen: dict[str, int] = {}
    found = []
    oldest = now - keep.since if keep.since is not None else None
    for item in known:
        seen[item.name] = seen.get(item.name, 0) + 1
        spared = (
            item.run in needed
            or (keep.newest is not None and seen[item.name] <= keep.newest)
            or (oldest is not None and datetime.fromisoformat(item.started) >= oldest)
            or item.status in keep.statuses
        )
        if not spared:
            found.append(item.run)
    return found


def needed_runs(registry: Registry) -> set[str]:
    """The runs that speak for a version in use, or that an entry about one or about an alias names."""
    known = [item for name in registry.models() for item in registry.versions(name)]
    retired = {(item.name, item.version) for item in known if item.retired}
    told = {
        str(entry.event["run"])
        for entry in registry.ledger()
        if entry.event.get("what") in ("version", "alias")
        and "run" in entry.event
        and (entry.event["name"], entry.event["version"]) not in retired
    }
    return told | {run for item in known if not item.retired for run in item.runs}


@contextmanager
def collecting(home: Path) -> Iterator[None]:
    """Nobody makes a run meanwhile.

    Raises:
        Failed: when somebody does.
    """
    with writing(home):
        home.mkdir(parents=True, exist_ok=True)
        with held(home / LOCK, exclusive=True, wait=False) as mine:
            if not mine:
                raise Failed("a run is going on in this home", place=str(home), hint="collect when it is over")
            yield


@contextmanager
def running(home: Path) -> Iterator[None]:
    """Nobody collects meanwhile; other runs may go on."""
    with writing(home):
        home.mkdir(parents=True, exist_ok=True)
        with held(home / LOCK, exclusive=False, wait=True):
            yield


def remove_runs(runs: Iterable[str], records: RecordStore, registry: Registry) -> None:
    """Enter in the ledger that runs are removed, and remove them; each is gone whole or there whole.

    What processes that were killed had begun and not recorded goes with them.
    """
    folder = records.root.parent / "tmp"
    with writing(records.root):
        folder.mkdir(parents=True, exist_ok=True)
        begun = [run for run in records.folders() if not records.numbers(run)]
        for run in (*runs, *begun):
            registry.note_removed(run)
            away = folder / f"removed-{run}"
            shutil.rmtree(away, ignore_errors=True)
            os.rename(records.folder(run), away)
            shutil.rmtree(away, ignore_errors=True)
        for left in (left for kind in ABANDONED for left in folder.glob(f"{kind}-*")):
            shutil.rmtree(left, ignore_errors=True)
        for claim in (records.root.parent / "claims").glob("*"):
            claim.unlink(missing_ok=True)


def sweep(home: Path, store: ObjectStore, records: RecordStore) -> tuple[int, int, int]:
    """Remove cached steps that no run has, seals of what nobody names, and objects that nothing names.

    Returns:
        how many cached steps and objects went, and the objects' bytes.
    """
    entries = sweep_entries(home, step_keys(records))
    named = pins(home, without=("seals",))
    for seal in (home / "seals").glob("*"):
        if seal.name not in named and not seal.name.startswith("."):
            seal.unlink(missing_ok=True)
    count = size = 0
    lakes = {location.digest for location in store.packs.all()} if store.packs.index.is_file() else set()
    for digest in list(store.digests()):
        if digest not in named and digest not in lakes:
            size += store.path(digest).stat().st_size
            store.remove(digest)
            count += 1
    return entries, count, size


def sweep_entries(home: Path, keys: set[str]) -> int:
    """Remove cached steps whose key no run has."""
    count = 0
    for path in (home / "cache" / "steps").glob("??/*.json"):
        if f"{path.parent.name}{path.stem}" not in keys:
            path.unlink(missing_ok=True)
            count += 1
    return count


def step_keys(records: RecordStore) -> set[str]:
    """The cache keys of the steps of all runs."""
    found: set[str] = set()
    for run in records.run_ids():
        for number in records.numbers(run):
            path = records.folder(run) / "executions" / str(number) / "record.json"
            found.update(keys_in(orjson.loads(path.read_bytes())))
    return found


def keys_in(statement: Mapping[str, Any]) -> Iterator[str]:
    """The cache keys in a record."""
    for item in statement["predicate"]["runDetails"]["byproducts"]:
        if item["name"] == "steps":
            yield from (str(outcome["key"]) for outcome in item["annotations"].values())


def require_some(keep: Keep) -> None:
    """Refuse to remove everything because nothing was said.

    Raises:
        UsageError: always then.
    """
    if keep == Keep():
        hint = "say what stays: --keep 10 (newest runs of each model), --keep-days 30, --keep-status passed"
        raise UsageError("nothing says which runs to keep", hint=hint)
