"""``engine models promote``, ``rollback`` and ``history``: aliases and what they named."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import typer

from engine.cli import view
from engine.cli.models_asked import JSON, VERSION, WHY, named
from engine.errors import NotFound, UsageError
from engine.registry.history import moves
from engine.registry.model import ModelRef, Move, baseline_ref, require_alias
from engine.report.clean import terminal
from engine.wiring import Home, home_here

if TYPE_CHECKING:
    from engine.promotion import Outcome
    from engine.record.model import RunRecord


def register(parent: typer.Typer) -> None:
    """Add the commands."""
    for command in (history, promote, rollback):
        parent.command(command.__name__)(command)


def history(
    model: str = typer.Argument(..., metavar="NAME[:VERSION]", help="A model, or one version of it."),
    alias: str = typer.Option(None, "--alias", metavar="ALIAS", help="Only the moves of this one."),
    json: bool = JSON,
) -> int:
    """Every move of an alias, the newest first: who, when, why, and on what evidence."""
    registry = home_here().registry
    ref = named(model)
    name = ref.name
    registry.get(replace(ref, alias=None)) if ref.version is not None else registry.versions(name)
    every = list(moves(registry.ledger(name), require_alias(alias) if alias else None))
    if alias and not every:
        known = {move.alias for move in moves(registry.ledger(name))}
        raise NotFound(f"move of an alias of {name}", alias, known, hint="" if known else "none was ever set")
    found = [move for move in every if ref.version in (None, move.version, move.before)]
    if json:
        view.document({"name": name, "moves": [move_document(move) for move in reversed(found)]})
        return 0
    if not found:
        view.line(f"no alias ever named {ref}: `engine models promote {name}:VERSION --to production`")
    for move in reversed(found):
        for text in move_lines(move):
            view.line(text)
    return 0


def move_lines(move: Move) -> Iterator[str]:
    """A move for a person."""
    before = f"v{move.before}" if move.before is not None else "none"
    title = view.paint(f"{move.alias}  {before} -> v{move.version}", view.BOLD, stream=sys.stdout)
    said = f': "{terminal(move.why)}"' if move.why else ""
    yield f"{move.when[:19].replace('T', ' ')}  {title}  {move.how} by {terminal(move.who)}{said}"
    if move.forced:
        yield f"  {view.paint('FORCED', view.RED, view.BOLD, stream=sys.stdout)} although"
        yield from (f"    {terminal(text)}" for text in move.evidence.objections)
    yield from evidence_lines(move)
    yield f"  ledger entry {move.entry.number}  {move.entry.digest[:12]}"


def evidence_lines(move: Move) -> Iterator[str]:
    """What a move rests on. What was rolled back to has the evidence that it was promoted on, which stands below."""
    evidence = move.evidence
    if evidence.run:
        against = [f"{ref} {pin_shown(pin)}" for ref, pin in evidence.baselines.items()]
        beside = f", compared with {', '.join(against)}" if against else ""
        yield f"  run {evidence.run[:12]}  record {evidence.record[:12]}{beside}"
    elif not move.forced:
        yield "  no evidence was asked for"
    for gate in evidence.gates if move.how != "rolled back" else ():
        yield f"  {'✓' if gate['passed'] else '✗'} {terminal(gate['name'])}: {terminal(gate['reason'])}"
    yield from (f"  {terminal(text)}" for text in evidence.refusals if move.how != "rolled back")
    if move.data:
        what, where = move.data, f"lakefs://{move.data['repository']}/{move.data['destination']}"
        yield f"  data {what['source']} at {what['commit'][:12]} merged into {where} as {what['merged'][:12]}"


def pin_shown(pin: Any) -> str:
    """What a baseline was."""
    return "none" if pin["version"] is None else f"v{pin['version']}"


def move_document(move: Move) -> dict[str, Any]:
    """A move as JSON."""
    return {
        "alias": move.alias,
        "version": move.version,
        "before": move.before,
        "how": move.how,
        "who": move.who,
        "when": move.when,
        "why": move.why,
        "forced": move.forced,
        "evidence": move.evidence.document(),
        "data": dict(move.data or {}),
        "entry": {"number": move.entry.number, "digest": move.entry.digest},
    }


# -- moving -------------------------------------------------------------------------------------------------------


def promote(
    model: str = VERSION,
    to: str = typer.Option(..., "--to", metavar="ALIAS", help="production, canary, shadow, candidate, or your own."),
    why: str = WHY,
    merge_data: str = typer.Option(
        None, "--merge-data", metavar="SOURCE_BRANCH", help="Merge this branch of the data with it, as one decision."
    ),
    force: bool = typer.Option(False, "--force", help="Although gates refuse; that stands in the ledger for ever."),
    inline: bool = typer.Option(False, "--inline", help="Judge in this process, without Ray."),
    json: bool = JSON,
) -> int:
    """Point an alias at a version whose gates passed against what is in use now; judge it again where that changed."""
    from engine.promotion import Wanted
    from engine.promotion import promote as decide

    home = home_here()
    ref, alias = ModelRef.parse(model), require_alias(to)
    if merge_data == "":
        raise UsageError("--merge-data names no branch", hint="name one, or leave it out")
    if ref.alias is None and ref.version is None:
        raise UsageError(f'"{model}" names no version', hint=f"write {ref.name}:VERSION")
    office = home.office(lambda record: judged(record, home, inline=inline))
    outcome = decide(ref, alias, office, Wanted(why=why, force=force, source=merge_data or ""))
    home.rest()
    return say(outcome, json=json)


def rollback(
    name: str = typer.Argument(..., metavar="NAME", help="A model."),
    alias: str = typer.Option("production", "--alias", metavar="ALIAS", help="Which alias goes back."),
    why: str = WHY,
    json: bool = JSON,
) -> int:
    """Point an alias at the version that it named before."""
    from engine.promotion import rollback as decide

    home = home_here()
    ref = named(name)
    if ref.version is not None:
        raise UsageError(f'"{name}" names a version', hint=f"write `engine models promote {name} --to {alias}`")
    outcome = decide(ref.name, require_alias(alias), home.office(lambda record: record), why)
    home.rest()
    return say(outcome, json=json)


def judged(record: RunRecord, home: Home, *, inline: bool) -> RunRecord:
    """Judge again, with lines about what happens on standard error."""
    from engine.wiring import judged_again

    view.note(f"what it was compared with has changed since run {record.run_id[:12]}: judging it again")
    return judged_again(record, home, lambda _: None, inline=inline)


def say(outcome: Outcome, *, json: bool) -> int:
    """What became of a decision."""
    from engine.promotion import document as outcome_document

    decision = outcome.decision
    for text in decision.evidence.objections if outcome.entry and decision.forced else ():
        view.note(view.paint(f"FORCED although {terminal(text)}", view.RED, view.BOLD))
    if json:
        view.document(outcome_document(outcome))
        return 0
    what = f"{decision.name}@{decision.alias}"
    if outcome.entry is None:
        view.line(f"{what} is version {decision.version} already")
        return 0
    view.line(f"{what} is now version {decision.version}, before {shown(decision.before)}")
    for text in told(outcome):
        view.line(f"  {text}")
    for text in outcome.unanchored:
        view.note(f"not anchored in {terminal(text)}")
    return 0


def shown(version: int | None) -> str:
    """What an alias named."""
    return "none" if version is None else f"version {version}"


def told(outcome: Outcome) -> Iterable[str]:
    """What a move rests on, in a few lines."""
    evidence, entry = outcome.decision.evidence, outcome.entry
    assert entry is not None
    if evidence.run:
        passed: Sequence[Any] = [gate for gate in evidence.gates if gate["passed"]]
        against = ", ".join(f"{ref} {pin_shown(pin)}" for ref, pin in evidence.baselines.items())
        again = " judged again" if outcome.judged else ""
        beside = f" against {against}" if against else ""
        count = len(evidence.gates) - len(passed)
        warn = f", {view.counted(count, 'warning')}" if count and not evidence.objections else ""
        yield f"run {evidence.run[:12]}{again}: {len(passed)} of {len(evidence.gates)} gates pass{beside}{warn}"
        before = outcome.decision.before
        name, pins = outcome.decision.name, evidence.baselines.items()
        own = [pin for ref, pin in pins if baseline_ref(name, ref).name == name]
        if (
            outcome.decision.how == "promoted"
            and before is not None
            and all(pin.get("version") != before for pin in own)
        ):
            yield f"none of its gates compares it with version {before}, which was in use"
    for text in dict.fromkeys(evidence.refusals):
        yield terminal(text)
    if "data" in entry.event:
        data = entry.event["data"]
        where = f"lakefs://{data['repository']}/{data['destination']}"
        yield f"{where} has the data of {data['source']}: commit {data['merged'][:12]}"
    places = f", anchored in {', '.join(terminal(text) for text in outcome.anchored)}" if outcome.anchored else ""
    yield f"ledger entry {entry.number} {entry.digest[:12]}{places}"
