"""Whether the registry's ledger is whole, and its tables say what the ledger says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from engine.digest import digest_of
from engine.registry.model import LedgerEntry
from engine.registry.registry import GENESIS, Registry
from engine.store.sqlite import reading


@dataclass(frozen=True, kw_only=True, slots=True)
class Flaw:
    """Something in the registry that does not follow from its ledger: which, and what is wrong with it."""

    name: str
    fact: str


@dataclass(kw_only=True, slots=True)
class Told:
    """What a ledger says when it is read from the first entry to the last: rows of the tables, by their keys."""

    versions: dict[tuple[object, ...], tuple[object, ...]] = field(default_factory=dict)
    evidence: set[tuple[object, ...]] = field(default_factory=set)
    runs: dict[object, tuple[object, ...]] = field(default_factory=dict)
    aliases: dict[tuple[object, ...], object] = field(default_factory=dict)


def flaws(registry: Registry) -> Iterator[Flaw]:
    """Everything in a registry that is not as it was written.

    Raises:
        Failed: when the file cannot be read.
    """
    entries = registry.ledger()
    yield from broken_links(entries)
    with reading(registry.path) as db:
        for (answer,) in db.execute("pragma integrity_check").fetchall():
            if answer != "ok":
                yield Flaw(name=str(registry.path), fact=str(answer))
    yield from contradictions(registry, told(entries))


def broken_links(entries: list[LedgerEntry]) -> Iterator[Flaw]:
    """Entries that are not what their hash says, or do not follow the one before."""
    number, previous = 0, GENESIS
    for entry in entries:
        number += 1
        digest = digest_of({"number": entry.number, "previous": entry.previous, "event": entry.event})
        if (entry.number, entry.previous) != (number, previous):
            yield Flaw(name=f"entry {entry.number}", fact=f"it does not follow entry {number - 1}")
        elif digest != entry.digest:
            yield Flaw(name=f"entry {entry.number}", fact="it is not what its hash says")
        number, previous = entry.number, entry.digest


def told(entries: list[LedgerEntry]) -> Told:
    """What the tables must say after these entries."""
    found = Told()
    for entry in entries:
        event: Mapping[str, object] = entry.event
        with suppress(KeyError):  # an entry that was altered is named by its hash
            if event["what"] == "alias":
                found.aliases[event["name"], event["alias"]] = event["version"]
            if event["what"] == "removed":
                found.runs = {key: row for key, row in found.runs.items() if row[0] != event["run"]}
            if event["what"] in ("run", "version"):
                found.runs[event["record"]] = (event["run"], event["name"], event["status"])
            if event["what"] == "version":
                key = (event["name"], event["version"])
                found.versions[key] = (event["digest"], event["package"])
                found.evidence.add((*key, event["run"]))
    return found


def contradictions(registry: Registry, said: Told) -> Iterator[Flaw]:
    """Rows of the tables that the ledger does not give, and the other way round."""
    with reading(registry.path) as db:
        versions = db.execute("select name, version, digest, package from versions where confirmed").fetchall()
        evidence = db.execute("select name, version, run from version_runs").fetchall()
        runs = db.execute("select record, run, name, status from runs").fetchall()
        aliases = db.execute("select name, alias, version from aliases").fetchall()
    held = {
        "version": ({tuple(row) for row in versions}, {(*key, *value) for key, value in said.versions.items()}),
        "evidence": ({tuple(row) for row in evidence}, said.evidence),
        "run": ({tuple(row) for row in runs}, {(key, *value) for key, value in said.runs.items()}),
        "alias": ({tuple(row) for row in aliases}, {(*key, value) for key, value in said.aliases.items()}),
    }
    for what, (found, expected) in held.items():
        for row in sorted(found ^ expected, key=str):
            name = " ".join(str(value)[:12] for value in row)
            where = "the table says it, but no entry does" if row in found else "an entry says it, but not the table"
            yield Flaw(name=f"{what} {name}", fact=where)
