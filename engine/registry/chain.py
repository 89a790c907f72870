"""Whether a ledger is whole, and a registry's tables say what its ledger says. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from engine.digest import canonical_json, digest_of, sha256
from engine.registry.model import GENESIS, Flaw, LedgerEntry

Rows = set[tuple[Any, ...]]
Keyed = dict[str, dict[tuple[Any, ...], tuple[Any, ...]]]


def link_digest(number: int, previous: str, event: str) -> str:
    """The hash of an entry: of the canonical JSON of its number, its predecessor's hash and its event.

    Args:
        event: in canonical JSON, which is a part of that.
    """
    return sha256(f'{{"event":{event},"number":{number},"previous":"{previous}"}}'.encode())


def broken_links(entries: Iterable[LedgerEntry]) -> Iterator[Flaw]:
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


def told(entries: Iterable[LedgerEntry]) -> dict[str, Rows]:
    """The rows that each table must have after these entries."""
    kinds = ("version", "evidence", "sources", "run", "alias", "retired", "tag", "description")
    found: Keyed = {kind: {} for kind in kinds}
    for entry in entries:
        with suppress(KeyError, TypeError):  # an entry that was altered is named by its hash
            tell(found, entry.event)
    return {kind: {(*key, *rest) for key, rest in rows.items()} for kind, rows in found.items()}


def tell(found: Keyed, event: Mapping[str, Any]) -> None:
    """What one entry does to the tables, each of them by its key."""
    what, name = event["what"], event["name"]
    version = (name, event.get("version"))
    if what in ("run", "version"):
        found["run"][event["record"],] = (event["run"], name, event["status"])
    if what == "version":
        found["version"][version] = (event["digest"], event["package"], event["created"])
        found["evidence"][*version, event["run"]] = ()
        if "data" in event:
            body = canonical_json({"code": event["code"], "data": event["data"]}).decode()
            found["sources"].setdefault((*version, event["run"]), (body,))
    elif what == "removed":
        found["run"] = {key: row for key, row in found["run"].items() if row[0] != event["run"]}
    elif what == "alias":
        found["alias"][name, event["alias"]] = (event["version"],)
    elif what == "retired":
        found["retired"][version] = ()
    elif what == "restored":
        found["retired"].pop(version, None)
    elif what == "description":
        found["description"][version] = (event["text"],)
    elif what == "tag" and event["value"] is None:
        found["tag"].pop((*version, event["key"]), None)
    elif what == "tag":
        found["tag"][*version, event["key"]] = (event["value"],)


def contradictions(tables: Mapping[str, Iterable[tuple[Any, ...]]], entries: Iterable[LedgerEntry]) -> Iterator[Flaw]:
    """Rows of the tables that the ledger does not give, and the other way round."""
    for kind, expected in told(entries).items():
        found = set(tables[kind])
        for row in sorted(found ^ expected, key=str):
            name = " ".join(str(value)[:12] for value in row)
            where = "the table says it, but no entry does" if row in found else "an entry says it, but not the table"
            yield Flaw(name=f"{kind} {name}", fact=where)
