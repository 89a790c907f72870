"""An alias gets another version: judged against what is in use now, decided, carried out, anchored.

::

    evidence --stale?--> judge again --> Decision --begin--> merge the data --move--> anchor --drop
        |                                  |                 `------ only with data ------'
        `--> refused, with the reason      `--> both happen or neither: what a dead process began, the next one ends

What is decided stands in the registry before anything happens. Where the process that decided it is no longer there,
:func:`settle` finishes it, or undoes it when that cannot be done any more.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from engine.digest import digest_of
from engine.errors import EngineError, LakeUnavailable, Refused, UsageError
from engine.lake.protocol import Lake, LakeDenied, NothingToCommit, Signed
from engine.lake.uri import SCHEME, parse, parse_ref
from engine.record.anchors import Harbour, anchor
from engine.record.model import RunRecord
from engine.record.store import RecordStore
from engine.registry.baseline import alias_in
from engine.registry.history import moves, way_back
from engine.registry.model import (
    Decision,
    Evidence,
    Head,
    LedgerEntry,
    Merge,
    ModelRef,
    ModelVersion,
    Pending,
    VersionRetired,
)
from engine.registry.protocol import Registry
from engine.resolve.lookup import pin_model
from engine.store.claims import claim_path, claimed
from engine.store.durable import opened
from engine.store.objects import ObjectStore

MARK = "engine_decision"
"""The metadata of a merge commit that says which decision made it."""


class NotProven(Refused):
    """Nothing shows that a version may have an alias."""

    code = "not-proven"


class GateRefused(Refused):
    """Judged against what is in use now, a gate refused a version."""

    code = "gate-refused"


class DataMoved(Refused):
    """The branch to merge is not what the model was made from."""

    code = "data-moved"


class CannotJudge(Refused):
    """Gates cannot be judged again here without training again."""

    code = "cannot-judge"

    def __init__(self, record: RunRecord, changed: Sequence[object]) -> None:
        self.details = "\n".join(f"  {change}" for change in changed)
        things = "1 thing is" if len(changed) == 1 else f"{len(changed)} things are"
        super().__init__(
            f"what production is has changed since run {record.run_id[:12]}, and it cannot be judged again here:"
            f" {things} not what the run had",
            hint="run the spec anew, and promote what comes of it; or install what the run had",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Office:
    """What a decision is made and carried out with; ``wiring`` lays it out.

    ``judge`` carries a recorded run out again, with its baselines pinned to what they mean now.
    """

    home: Path
    store: ObjectStore
    records: RecordStore
    registry: Registry
    lake: Lake
    harbour: Harbour
    judge: Callable[[RunRecord], RunRecord]


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """What somebody asks for. ``source`` is a branch of the lake to be merged with it: a name or its URI."""

    why: str = ""
    force: bool = False
    source: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What came of it.

    Attributes:
        entry: of the ledger; ``None`` when the alias named the version already.
        judged: whether gates were judged now for it.
        anchored, unanchored: where the ledger's head stands outside, and where that could not be written.
    """

    decision: Decision
    entry: LedgerEntry | None = None
    judged: bool = False
    anchored: tuple[str, ...] = ()
    unanchored: tuple[str, ...] = ()


# -- deciding -----------------------------------------------------------------------------------------------------


def promote(ref: ModelRef, alias: str, office: Office, wanted: Wanted) -> Outcome:
    """Point an alias at a version whose gates passed, for its very bytes, against what is in use now.

    Raises:
        ModelNotFound, VersionRetired: when there is no such version, or none in use.
        DigestMismatch, NotFound: when its bytes are not what was registered, forced or not.
        NotProven, GateRefused: when there is no evidence, or it says no; not when forced.
        AliasMoved: when somebody else was faster.
        EngineError: when the data cannot be merged; the alias stays where it is then.
    """
    registry = office.registry
    version = registry.get(ref)
    before = registry.aliases(version.name).get(alias)
    decision = Decision(
        id=secrets.token_hex(16), name=version.name, alias=alias, version=version.version, before=before,
        how="promoted", why=wanted.why,
    )  # fmt: skip
    if before == version.version and not wanted.source:
        return Outcome(decision=decision)
    if version.retired:
        hint = f"take it back with `engine models retire {version} --undo`"
        raise VersionRetired("it was retired", place=str(version), hint=hint)
    require_bytes(version, office.store)
    record, evidence, judged = evidence_for(version, office, force=wanted.force)
    assumed = assumptions(version.name, evidence, office.registry)
    merge = None
    if wanted.source:
        merge, moved = merge_wanted(wanted, record, version, office)
        evidence = replace(evidence, objections=(*evidence.objections, *moved))
    forced = bool(evidence.objections)
    decision = replace(decision, evidence=evidence, forced=forced, assumed=assumed, merge=merge)
    return replace(carried_out(decision, office), judged=judged)


def rollback(name: str, alias: str, office: Office, why: str = "") -> Outcome:
    """Point an alias at the version that it named before the one it names. Going back again goes back further.

    Raises:
        ModelNotFound: when there is no such model or alias.
        Refused: when there is nothing to go back to.
        DigestMismatch, NotFound: when the bytes of what it goes back to are not what was registered.
        AliasMoved: when somebody else was faster.
    """
    registry = office.registry
    current = registry.get(ModelRef(name=name, alias=alias))
    usable = {item.version for item in registry.versions(name) if not item.retired}
    back = way_back(moves(registry.ledger(name), alias), usable)
    if not back:
        hint = f"promote another version: `engine models promote {name}:VERSION --to {alias}`"
        raise Refused(f"{name}@{alias} named nothing before version {current.version}", hint=hint)
    version = registry.get(ModelRef(name=name, version=back[-1].version))
    require_bytes(version, office.store)
    decision = Decision(
        id=secrets.token_hex(16), name=name, alias=alias, version=version.version, before=current.version,
        how="rolled back", why=why, evidence=back[-1].evidence,
    )  # fmt: skip
    return carried_out(decision, office)


def require_bytes(version: ModelVersion, store: ObjectStore) -> None:
    """Refuse a model whose bytes, or whose package's, are not those that were registered.

    Raises:
        DigestMismatch, NotFound: saying which.
    """
    for what, digest in (("the model", version.digest), ("the package", version.package)):
        try:
            store.check(digest)
        except EngineError as error:
            error.place = f"{what} of {version}"
            raise


def evidence_for(version: ModelVersion, office: Office, *, force: bool) -> tuple[RunRecord | None, Evidence, bool]:
    """What shows that a version may be used in the place of what is in use now; judged again where that is needed.

    Returns:
        the record, what it says, and whether it was made now. When forced, what spoke against it is among it.

    Raises:
        NotProven, GateRefused: when nothing does, unless forced.
    """
    record: RunRecord | None = None
    judged = False
    try:
        record = newest_proof(version, office)
        if not is_current(record, version.name, office.registry):
            judged = True
            record = office.judge(record)
            require_passed(record, version)
    except EngineError as error:
        if not force:
            raise
        objection = f"{error.place}: {error.fact}" if error.place else error.fact
        found = evidence_of(record) if record is not None else Evidence()
        return record, replace(found, objections=(objection,)), judged
    return record, evidence_of(record), judged


def newest_proof(version: ModelVersion, office: Office) -> RunRecord:
    """The newest record that made a version, best of all one that holds against what is in use now.

    Raises:
        NotProven: when there is none that the ledger knows, or it does not say what it must.
    """
    records = list(records_of(version, office))
    if not records:
        hint = "run the spec again; `engine verify` says what became of the record"
        raise NotProven("no record of a run that made it is there as the ledger has it", place=str(version), hint=hint)
    proofs = [record for record in records if not objections(record, version)]
    if not proofs:
        raise NotProven(objections(records[0], version)[0], place=str(version), hint="run the spec again")
    current = (record for record in proofs if is_current(record, version.name, office.registry))
    return next(current, proofs[0])


def records_of(version: ModelVersion, office: Office) -> Iterator[RunRecord]:
    """The records of a version's runs, each as the ledger knows it, the newest run first."""
    for run in reversed(version.runs):
        record = office.records.answer(run)
        if record is not None and office.registry.knows(record.digest):
            yield record


def objections(record: RunRecord, version: ModelVersion) -> list[str]:
    """What in a record speaks against a version: other bytes, or gates that did not pass."""
    found = []
    if record.summary["model"]["digest"] != f"sha256:{version.digest}":
        made = str(record.summary["model"]["digest"]).removeprefix("sha256:")[:12]
        found.append(f"run {record.run_id[:12]} judged other bytes, {made}")
    refusing = [gate for gate in record.summary["gates"] if not gate["passed"] and gate["level"] == "refuse"]
    found += [f"{gate['name']} refused: {gate['reason']}" for gate in refusing]
    if record.status != "passed" and not refusing:
        found.append(f"run {record.run_id[:12]} {record.status}")
    return found


def is_current(record: RunRecord, name: str, registry: Registry) -> bool:
    """Whether everything that a record compared with still means what it meant then."""
    compared = record.definition["externalParameters"]["models"]
    return all(pin_model(name, ref, registry).document() == pin for ref, pin in compared.items())


def require_passed(record: RunRecord, version: ModelVersion) -> None:
    """Refuse a version that a run judged again and did not let pass.

    Raises:
        GateRefused: with the reasons of the gates.
    """
    found = objections(record, version)
    if found:
        hint = f"`engine runs show {record.run_id[:12]}` has every gate; --force promotes it all the same, and says so"
        raise GateRefused("; ".join(found), place=str(version), hint=hint)


def evidence_of(record: RunRecord) -> Evidence:
    """What a record says about the gates, less the figures of single slices."""
    whole = ("limit", "interval")
    return Evidence(
        run=record.run_id,
        record=record.digest,
        gates=tuple(
            {key: value for key, value in gate.items() if key in whole or not isinstance(value, list | dict)}
            for gate in record.summary["gates"]
        ),
        baselines=record.definition["externalParameters"]["models"],
    )


def assumptions(name: str, evidence: Evidence, registry: Registry) -> dict[str, int | None]:
    """The aliases that were compared with, and the versions that they named."""
    if evidence.objections:
        return {}
    found = {alias_in(name, ref, registry): pin["version"] for ref, pin in evidence.baselines.items()}
    return {str(alias): version for alias, version in found.items() if alias is not None}


# -- the data that goes with it -----------------------------------------------------------------------------------


def merge_wanted(
    wanted: Wanted, record: RunRecord | None, version: ModelVersion, office: Office
) -> tuple[Merge, tuple[str, ...]]:
    """What is to be merged where: the branch must be at the commit that the model was made from.

    Returns:
        the merge, and what speaks against it, when it is forced.

    Raises:
        UsageError: when it is not said which repository is meant, or the branch is where it would be merged to.
        DataMoved: when the model was made from something else; not when forced.
        NotFound: for a repository or branch that is not there.
    """
    pins = record.summary["pins"]["data"] if record is not None else {}
    seen = {(parse(pin["uri"]).repository, parse(pin["uri"]).ref, pin["commit"]) for pin in pins.values()}
    repository, source = branch_named(wanted.source, seen)
    lake = office.lake
    default = next((item.default_branch for item in lake.repositories() if item.name == repository), "main")
    if source == default:
        raise UsageError(f"{source} is what would be merged into", hint="name the branch that has the new data")
    commit = lake.resolve(repository, source)
    made_from = sorted({pinned for where, _, pinned in seen if where == repository})
    saw = ", ".join(item[:12] for item in made_from) or "nothing there"
    fact = f"{SCHEME}{repository}/{source} is at {commit[:12]}, and the model was made from {saw}"
    if commit not in made_from and not wanted.force:
        raise DataMoved(fact, place=str(version), hint="run the spec on that branch, and promote what comes of it")
    before = lake.resolve(repository, default)
    merge = Merge(repository=repository, source=source, commit=commit, destination=default, before=before)
    return merge, () if commit in made_from else (fact,)


def branch_named(text: str, seen: set[tuple[str, str, str]]) -> tuple[str, str]:
    """The repository and branch that ``text`` names: a URI, or a branch of the only repository that was read.

    Raises:
        UsageError: when several repositories were.
    """
    if text.startswith(SCHEME):
        uri = parse_ref(text)
        return uri.repository, uri.ref
    repositories = sorted({where for where, ref, _ in seen if ref == text} or {where for where, _, _ in seen})
    if len(repositories) != 1:
        hint = f"write it as {SCHEME}REPOSITORY/{text}"
        raise UsageError(f'it is not clear in which repository "{text}" is', hint=hint)
    return repositories[0], text


def merged(decision: Decision, lake: Lake) -> str:
    """Merge a decision's data, unless that was done already; the merge commit.

    Raises:
        EngineError: when it cannot be merged; nothing changed then, unless the lake did not answer.
    """
    merge = decision.merge
    assert merge is not None
    done = merge_of(decision, lake)
    if done is not None:
        return done
    names = f"{decision.name}@{decision.alias} is {decision.name}:{decision.version}"
    message = f"Merge '{merge.source}' into '{merge.destination}': {names}"
    try:
        metadata = {MARK: decision.id, "engine_model": f"{decision.name}:{decision.version}"}
        signed = Signed(message=message, author="engine", metadata=metadata)
        return lake.merge(merge.repository, merge.commit, merge.destination, signed).id
    except NothingToCommit:
        done = merge_of(decision, lake)
        if done is None:
            raise
        return done


def merge_of(decision: Decision, lake: Lake) -> str | None:
    """The commit by which a decision's data was merged, if it was."""
    merge = decision.merge
    assert merge is not None
    for commit in lake.log(merge.repository, merge.destination, first_parent=True):
        if commit.metadata.get(MARK) == decision.id:
            return commit.id
        if commit.id == merge.before:
            return None
    return None


# -- carrying it out ----------------------------------------------------------------------------------------------


def carried_out(decision: Decision, office: Office) -> Outcome:
    """Do what was decided, all of it or nothing. While this process lives nobody else ends it.

    Raises:
        AliasMoved: when it cannot be done any more.
        EngineError: when the data cannot be merged.
    """
    with claimed(claim_of(decision, office.home), lambda _: None):
        if decision.merge is None:
            entry = office.registry.move(decision)
        else:
            office.registry.begin(decision)
            entry = with_data(decision, office)
        return anchored(decision, Head(number=entry.number, digest=entry.digest), office, entry)


def with_data(decision: Decision, office: Office) -> LedgerEntry:
    """Merge the data and move the alias, once that stands in the journal.

    Raises:
        LakeUnavailable, LakeDenied: when it is not known whether the data was merged: the next command sees to it.
        EngineError: when it could not be merged: nothing happened.
    """
    merge = decision.merge
    assert merge is not None
    try:
        commit = merged(decision, office.lake)
    except (LakeUnavailable, LakeDenied):
        raise
    except EngineError:
        office.registry.drop(decision.id)
        raise
    data = {"repository": merge.repository, "source": merge.source, "commit": merge.commit}
    return office.registry.move(decision, {**data, "destination": merge.destination, "merged": commit})


def anchored(decision: Decision, head: Head, office: Office, entry: LedgerEntry | None = None) -> Outcome:
    """Write the ledger's head down outside; with that a decision is over."""
    what = f"{decision.name}@{decision.alias} {decision.how} to {decision.name}:{decision.version}"
    done, undone = anchor(office.harbour, what, head, repository_of(decision, office.registry))
    office.registry.drop(decision.id)
    return Outcome(decision=decision, entry=entry, anchored=tuple(done), unanchored=tuple(undone))


def repository_of(decision: Decision, registry: Registry) -> str:
    """The lake's repository that a version's data came from; the first one by name."""
    if decision.merge is not None:
        return decision.merge.repository
    found = registry.sources(decision.name, decision.version)
    return min((parse(pin["uri"]).repository for source in found for pin in source.data.values()), default="")


# -- what others began --------------------------------------------------------------------------------------------


def settle(office: Office) -> list[str]:
    """End what processes that are gone began; what was done, for a person.

    What a server that does not answer is needed for stays as it is.

    Raises:
        StorageFull, StorageUnwritable: when the disk says so.
    """
    said = []
    for pending in office.registry.pending():
        with alone(claim_of(pending.decision, office.home)) as mine:
            still = [item for item in office.registry.pending() if item.decision.id == pending.decision.id]
            if mine and still:
                said.append(settled(still[0], office))
    return said


def claim_of(decision: Decision, home: Path) -> Path:
    """What is held while decisions about a model are carried out: one after the other."""
    return claim_path(home, digest_of(["promotion", decision.name]))


@contextmanager
def alone(path: Path) -> Iterator[bool]:
    """Whether nobody holds the claim at ``path``; inside this process does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = opened(path, patient=False)
    try:
        yield descriptor is not None
    finally:
        if descriptor is not None:
            path.unlink(missing_ok=True)
            os.close(descriptor)


def settled(pending: Pending, office: Office) -> str:
    """End one decision: finish it, or undo it when it cannot be finished."""
    decision, head = pending.decision, pending.head
    what = f"the promotion of {decision.name}:{decision.version} to {decision.alias}"
    if pending.state == "begun":
        try:
            entry = with_data(decision, office)
        except (LakeUnavailable, LakeDenied) as error:
            return f"{what} was interrupted and waits for the lake: {error.fact}"
        except (Refused, UsageError) as error:
            return f"{what} was interrupted and is undone, data and alias: {error.fact}"
        head = Head(number=entry.number, digest=entry.digest)
    anchored(decision, head, office)
    return f"{what} was interrupted and is finished now"


def document(outcome: Outcome) -> Mapping[str, Any]:
    """An outcome as JSON."""
    decision, evidence = outcome.decision, outcome.decision.evidence
    return {
        "name": decision.name,
        "alias": decision.alias,
        "version": decision.version,
        "before": decision.before,
        "changed": outcome.entry is not None,
        "how": decision.how,
        "why": decision.why,
        "forced": decision.forced,
        "judged_again": outcome.judged,
        "evidence": evidence.document(),
        "data": dict(outcome.entry.event.get("data", {})) if outcome.entry else {},
        "entry": {"number": outcome.entry.number, "digest": outcome.entry.digest} if outcome.entry else None,
        "anchored": list(outcome.anchored),
        "not_anchored": list(outcome.unanchored),
    }
