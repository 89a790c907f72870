"""What the ledger tells of an alias: every move, and where to go back to. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from engine.registry.model import Evidence, LedgerEntry, Move


def moves(entries: Iterable[LedgerEntry], alias: str | None = None) -> Iterator[Move]:
    """Every move of an alias (of all of them, when none is given), the oldest first.

    Args:
        entries: of one model.
    """
    for entry in entries:
        event = entry.event
        if event.get("what") == "alias" and alias in (None, event["alias"]):
            yield Move(
                entry=entry,
                alias=event["alias"],
                version=event["version"],
                before=event.get("before"),
                how=event.get("how", "set"),
                who=event["who"],
                when=event["when"],
                why=event.get("why", ""),
                forced=bool(event.get("forced")),
                evidence=evidence_from(event),
                data=event.get("data"),
            )


def way_back(made: Iterable[Move], usable: Collection[int]) -> list[Move]:
    """The moves to which an alias can go back, the nearest last. Going back twice goes back further, and not forth.

    Args:
        made: of one alias, the oldest first.
        usable: the versions that are in use.
    """
    stack: list[Move] = []
    for move in made:
        if move.how == "rolled back":
            while stack and stack[-1].version != move.version:
                stack.pop()
        elif not stack or stack[-1].version != move.version:
            stack.append(move)
    return [move for move in stack[:-1] if move.version in usable]


def evidence_from(event: Mapping[str, Any]) -> Evidence:
    """The evidence that stands in an entry."""
    return Evidence(
        run=event.get("run", ""),
        record=event.get("record", ""),
        gates=tuple(event.get("gates", ())),
        baselines=event.get("baselines", {}),
        objections=tuple(event.get("objections", ())),
    )
