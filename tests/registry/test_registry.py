"""The registry: versions, aliases and the ledger, also when several processes use it at once."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from engine.digest import digest_of, sha256
from engine.errors import UsageError
from engine.registry.history import moves, way_back
from engine.registry.model import (
    GENESIS,
    AliasMoved,
    Decision,
    Evidence,
    LedgerEntry,
    ModelNotFound,
    ModelRef,
    Move,
    VersionInUse,
    VersionRetired,
)
from engine.registry.sqlite import SqliteRegistry
from engine.registry.tables import UP_TO_DATE
from engine.store.sqlite import close_kept
from engine.store.sums import note_sum

WORKER = """
import sys
from pathlib import Path
from engine.digest import sha256
from engine.registry.sqlite import SqliteRegistry

registry, who = SqliteRegistry(Path(sys.argv[1])), sys.argv[2]
for number in range(15):
    shared = registry.reserve("model", sha256(f"shared {number}".encode()), "p")
    own = registry.reserve("model", sha256(f"{who} {number}".encode()), "p")
    registry.announce(f"run-{who}-{number}", f"shared-{who}-{number}")
    registry.note_run("model", f"run-{who}-{number}", f"shared-{who}-{number}", "passed", shared)
    registry.announce(f"run-{who}-{number}", f"own-{who}-{number}")
    registry.note_run("model", f"run-{who}-{number}", f"own-{who}-{number}", "passed", own)
    registry.set_alias("model", "production", own)
"""


@pytest.fixture
def registry(tmp_path: Path) -> SqliteRegistry:
    return SqliteRegistry(tmp_path / "registry.db")


def register(registry: SqliteRegistry, what: str, run: str = "run", name: str = "model") -> int:
    """Reserve and confirm the bytes ``what``."""
    version = registry.reserve(name, sha256(what.encode()), "package")
    registry.announce(run, f"record of {run} of {name}:{version}")
    registry.note_run(name, run, f"record of {run} of {name}:{version}", "passed", version)
    return version


def ref(text: str) -> ModelRef:
    return ModelRef.parse(text)


def broken_links(entries: list[LedgerEntry]) -> list[int]:
    """The numbers of the entries whose hash or link is wrong, as the ledger's definition has it."""
    previous, found = GENESIS, []
    for number, entry in enumerate(entries, 1):
        right = digest_of({"number": entry.number, "previous": entry.previous, "event": dict(entry.event)})
        if (entry.number, entry.previous, entry.digest) != (number, previous, right):
            found.append(number)
        previous = entry.digest
    return found


def test_versions_count_from_one(registry: SqliteRegistry) -> None:
    assert [register(registry, what) for what in "abc"] == [1, 2, 3]


def test_the_same_bytes_are_the_same_version_and_their_runs_add_up(registry: SqliteRegistry) -> None:
    assert register(registry, "a", "first") == register(registry, "a", "second") == register(registry, "a", "second")
    assert registry.get(ref("model")).runs == ("first", "second")


def test_each_model_counts_for_itself(registry: SqliteRegistry) -> None:
    assert register(registry, "a", name="one") == register(registry, "a", name="other") == 1


def test_a_reserved_version_is_invisible_until_it_is_confirmed(registry: SqliteRegistry) -> None:
    version = registry.reserve("model", sha256(b"a"), "package")
    assert registry.models() == []
    assert registry.find(ref("model")) is None
    assert registry.find(ref(f"model:{version}")) is None
    registry.announce("run", "record")
    registry.note_run("model", "run", "record", "passed", version)
    assert registry.get(ref("model")).version == version


def test_the_number_of_a_version_that_was_never_confirmed_is_not_given_to_others(registry: SqliteRegistry) -> None:
    abandoned = registry.reserve("model", sha256(b"a"), "package")
    assert register(registry, "b") == abandoned + 1
    assert register(registry, "a") == abandoned


def test_an_alias_moves_and_is_never_two_versions(registry: SqliteRegistry) -> None:
    register(registry, "a")
    register(registry, "b")
    registry.set_alias("model", "production", 1)
    registry.set_alias("model", "production", 2)
    assert registry.get(ref("model@production")).version == 2
    assert [item.aliases for item in registry.versions("model")] == [("production",), ()]


def test_an_alias_of_a_version_that_is_not_there_is_refused(registry: SqliteRegistry) -> None:
    register(registry, "a")
    registry.reserve("model", sha256(b"b"), "package")
    for version in (2, 3):
        with pytest.raises(ModelNotFound):
            registry.set_alias("model", "production", version)


def test_a_ref_has_meant_something_only_once_it_was_set(registry: SqliteRegistry) -> None:
    register(registry, "a")
    assert not registry.has_meant(ref("model@production"))
    registry.set_alias("model", "production", 1)
    assert registry.has_meant(ref("model@production"))


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("modle", 'did you mean "model"?'),
        ("model@prodution", 'did you mean "production"?'),
        ("model:9", "known: 1"),
    ],
)
def test_a_name_that_means_nothing_suggests_the_nearest(registry: SqliteRegistry, text: str, hint: str) -> None:
    register(registry, "a")
    registry.set_alias("model", "production", 1)
    with pytest.raises(ModelNotFound) as raised:
        registry.get(ref(text))
    assert raised.value.hint == hint


@pytest.mark.parametrize("text", ["", "Model", "m", "model@", "model@a b", "model:x", "model:", "model:-1", "a@b@c"])
def test_a_text_that_is_no_model_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        ref(text)


@pytest.mark.parametrize("text", ["model", "model@production", "model:12"])
def test_a_ref_reads_as_it_was_typed(text: str) -> None:
    assert str(ref(text)) == text


def test_the_ledger_is_a_chain_of_everything_that_happened(registry: SqliteRegistry) -> None:
    register(registry, "a", "first")
    register(registry, "a", "second")
    registry.set_alias("model", "production", 1, why="the first")
    entries = registry.ledger()
    assert [(entry.event["what"], entry.event.get("run")) for entry in entries] == [
        ("version", "first"),
        ("version", "second"),
        ("alias", None),
    ]
    assert broken_links(entries) == []


def test_a_ledger_that_was_altered_can_be_told(registry: SqliteRegistry) -> None:
    for what in "abc":
        register(registry, what, run=what)
    with sqlite3.connect(registry.path) as db:
        db.execute('update ledger set event = replace(event, \'"run":"b"\', \'"run":"x"\')')
    assert broken_links(registry.ledger()) == [2]


def test_confirming_twice_is_one_event(registry: SqliteRegistry) -> None:
    version = registry.reserve("model", sha256(b"a"), "package")
    for _ in range(2):
        registry.announce("run", "record")
        registry.note_run("model", "run", "record", "passed", version)
    assert len(registry.ledger()) == 1


def test_reading_a_registry_that_is_not_there_finds_it_empty_and_makes_nothing(tmp_path: Path) -> None:
    registry = SqliteRegistry(tmp_path / "registry.db")
    assert (registry.models(), registry.ledger(), registry.find(ref("model"))) == ([], [], None)
    assert list(tmp_path.iterdir()) == []


# -- retired, tags, descriptions ----------------------------------------------------------------------------------


def test_the_number_of_a_retired_version_is_not_given_to_others(registry: SqliteRegistry) -> None:
    assert [register(registry, what) for what in "ab"] == [1, 2]
    assert registry.retire("model", 2, "it was wrong")
    assert register(registry, "c") == 3
    assert register(registry, "b", run="again") == 2
    assert [(item.version, item.retired) for item in registry.versions("model")] == [(3, False), (2, True), (1, False)]


def test_a_bare_name_means_the_newest_version_in_use(registry: SqliteRegistry) -> None:
    for what in "ab":
        register(registry, what)
    registry.retire("model", 2)
    assert registry.get(ref("model")).version == 1
    registry.retire("model", 1)
    with pytest.raises(ModelNotFound, match="version in use"):
        registry.get(ref("model"))


def test_a_version_that_an_alias_names_is_not_retired_and_a_retired_one_gets_none(registry: SqliteRegistry) -> None:
    register(registry, "a")
    registry.set_alias("model", "production", 1)
    with pytest.raises(VersionInUse):
        registry.retire("model", 1)
    register(registry, "b")
    registry.retire("model", 2)
    with pytest.raises(VersionRetired):
        registry.set_alias("model", "production", 2)


def test_retiring_twice_is_one_change_and_can_be_undone(registry: SqliteRegistry) -> None:
    register(registry, "a")
    assert [registry.retire("model", 1), registry.retire("model", 1)] == [True, False]
    assert [registry.retire("model", 1, undo=True), registry.retire("model", 1, undo=True)] == [True, False]
    assert [entry.event["what"] for entry in registry.ledger()] == ["version", "retired", "restored"]


def test_tags_are_of_a_model_or_of_a_version_and_every_change_is_an_entry(registry: SqliteRegistry) -> None:
    register(registry, "a")
    assert registry.tag("model", None, {"team": "ops"})
    assert registry.tag("model", 1, {"a": "1", "b": "2"})
    assert not registry.tag("model", 1, {"a": "1"})
    assert registry.tag("model", 1, {"a": None, "b": "3"})
    assert (registry.tags("model"), registry.get(ref("model:1")).tags) == ({"team": "ops"}, {"b": "3"})
    assert sum(entry.event["what"] == "tag" for entry in registry.ledger()) == 5


def test_a_description_is_of_a_model_or_of_a_version(registry: SqliteRegistry) -> None:
    register(registry, "a")
    registry.describe("model", None, "says when")
    registry.describe("model", 1, "the first")
    assert not registry.describe("model", 1, "the first")
    assert (registry.description("model"), registry.get(ref("model:1")).description) == ("says when", "the first")


def test_a_version_points_to_what_each_of_its_runs_was_made_from(registry: SqliteRegistry) -> None:
    pins = {"data": {"train": {"uri": "u", "commit": "c", "digest": "d"}}, "code": {"commit": "g", "dirty": False}}
    version = registry.reserve("model", sha256(b"a"), "package")
    registry.announce("run", "record")
    registry.note_run("model", "run", "record", "passed", version, pins)
    (found,) = registry.sources("model", version)
    assert (found.run, found.record, found.data, found.code) == ("run", "record", pins["data"], pins["code"])


def everything(registry: SqliteRegistry) -> None:
    """A registry with a row in every table."""
    pins = {"data": {}, "code": {"commit": None}}
    for number, what in enumerate("ab", 1):
        version = registry.reserve("model", sha256(what.encode()), "package")
        registry.announce(what, f"record {number}")
        registry.note_run("model", what, f"record {number}", "passed", version, pins)
    registry.set_alias("model", "production", 1)
    registry.tag("model", 1, {"a": "1", "b": "2"})
    registry.tag("model", 1, {"a": None})
    registry.describe("model", 1, "text")
    registry.retire("model", 2)


def test_a_registry_that_was_left_alone_has_no_flaw(registry: SqliteRegistry) -> None:
    everything(registry)
    assert list(registry.flaws()) == []


@pytest.mark.parametrize(
    "change",
    [
        "update versions set digest = 'x' where version = 1",
        "delete from version_runs where version = 1",
        "update sources set body = '{}' where version = 1",
        "update runs set status = 'refused'",
        "update aliases set version = 2",
        "delete from retired",
        "insert into retired values ('model', 1)",
        "update tags set value = '3'",
        "insert into tags values ('model', 1, 'a', '1')",
        "update descriptions set text = 'other'",
        "update ledger set event = replace(event, 'production', 'Production')",
        "delete from ledger where number = 2",
        "delete from ledger where number = (select max(number) from ledger)",
    ],
)
def test_a_row_that_was_altered_is_a_flaw(registry: SqliteRegistry, change: str) -> None:
    everything(registry)
    with sqlite3.connect(registry.path) as db:
        db.execute(change)
    assert list(registry.flaws())


def test_a_registry_of_the_first_form_goes_on(registry: SqliteRegistry) -> None:
    everything(registry)
    close_kept()
    with sqlite3.connect(registry.path) as db:
        for table in ("sources", "retired", "tags", "descriptions", "decisions"):
            db.execute(f"drop table {table}")
        db.execute("pragma user_version = 0")
    UP_TO_DATE.clear()
    assert registry.get(ref("model@production")).version == 1
    assert registry.retire("model", 2)


# -- following ----------------------------------------------------------------------------------------------------


def test_the_head_changes_with_every_change_and_with_nothing_else(registry: SqliteRegistry) -> None:
    heads = [registry.head()]
    register(registry, "a")
    heads.append(registry.head())
    registry.get(ref("model:1"))
    registry.reserve("model", sha256(b"b"), "package")
    assert registry.head() == heads[-1]
    registry.set_alias("model", "production", 1)
    heads.append(registry.head())
    assert [head.number for head in heads] == [0, 1, 2]
    assert heads[-1].digest == registry.ledger()[-1].digest


def test_who_follows_an_alias_sees_what_another_process_moves(registry: SqliteRegistry) -> None:
    for what in "ab":
        register(registry, what)
    before = registry.head()
    code = f"from pathlib import Path; from engine.registry.sqlite import SqliteRegistry; SqliteRegistry(Path({str(registry.path)!r})).set_alias('model', 'production', 2)"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert registry.head().number == before.number + 1
    assert registry.get(ref("model@production")).version == 2


# -- decisions ----------------------------------------------------------------------------------------------------


def decision(version: int, before: int | None, **more: object) -> Decision:
    return Decision(
        id=f"{version}{before}",
        name="model",
        alias="production",
        version=version,
        before=before,
        how="promoted",
        **more,
    )  # type: ignore[arg-type]


def test_a_decision_moves_an_alias_only_from_where_it_was_when_it_was_made(registry: SqliteRegistry) -> None:
    for what in "abc":
        register(registry, what)
    registry.move(decision(1, None))
    with pytest.raises(AliasMoved, match="names version 1 now, and not no version"):
        registry.move(decision(2, None))
    registry.move(decision(2, 1))
    assert registry.aliases("model") == {"production": 2}


def test_a_decision_is_carried_out_only_while_what_it_assumes_holds(registry: SqliteRegistry) -> None:
    for what in "ab":
        register(registry, what)
    registry.set_alias("model", "canary", 1)
    with pytest.raises(AliasMoved, match="model@canary"):
        registry.move(decision(2, None, assumed={"model@canary": 2}))
    registry.move(decision(2, None, assumed={"model@canary": 1}))


def test_what_was_begun_is_finished_though_another_alias_moved(registry: SqliteRegistry) -> None:
    for what in "ab":
        register(registry, what)
    registry.set_alias("model", "canary", 1)
    made = decision(2, None, assumed={"model@canary": 1})
    registry.begin(made)
    registry.set_alias("model", "canary", 2)
    assert registry.pending()[0].decision == made
    entry = registry.move(made, {"merged": "commit"})
    (pending,) = registry.pending()
    assert (pending.state, pending.head.number) == ("moved", entry.number)
    registry.drop(made.id)
    assert registry.pending() == []


def test_a_decision_about_a_model_that_has_no_such_version_is_refused(registry: SqliteRegistry) -> None:
    register(registry, "a")
    for act in (registry.begin, registry.move):
        with pytest.raises(ModelNotFound):
            act(decision(2, None))


def told(*steps: tuple[str, int]) -> list[Move]:
    """Moves of one alias: how, and to which version."""
    blank = {"alias": "a", "who": "", "when": "", "why": "", "forced": False, "evidence": Evidence(), "data": None}
    return [
        Move(entry=LedgerEntry(number=number, previous=""), version=version, before=None, how=how, **blank)  # type: ignore[arg-type]
        for number, (how, version) in enumerate(steps, 1)
    ]


@pytest.mark.parametrize(
    ("steps", "usable", "back"),
    [
        ([], {1}, []),
        ([("promoted", 1)], {1}, []),
        ([("promoted", 1), ("promoted", 2)], {1, 2}, [1]),
        ([("promoted", 1), ("promoted", 2), ("promoted", 3)], {1, 3}, [1]),
        ([("promoted", 1), ("promoted", 2), ("promoted", 3), ("rolled back", 2)], {1, 2, 3}, [1]),
        ([("promoted", 1), ("promoted", 2), ("rolled back", 1)], {1, 2}, []),
        ([("promoted", 1), ("promoted", 2), ("rolled back", 1), ("promoted", 3)], {1, 2, 3}, [1]),
        ([("promoted", 1), ("promoted", 2), ("promoted", 1)], {1, 2}, [1, 2]),
        ([("set", 1), ("promoted", 2)], {1, 2}, [1]),
    ],
)
def test_where_an_alias_can_go_back_to(steps: list[tuple[str, int]], usable: set[int], back: list[int]) -> None:
    assert [move.version for move in way_back(told(*steps), usable)] == back


# -- at once ------------------------------------------------------------------------------------------------------

CROWD = """
import sys
from pathlib import Path
from engine.digest import sha256
from engine.registry.model import AliasMoved, Decision
from engine.registry.sqlite import SqliteRegistry

registry, who, times = SqliteRegistry(Path(sys.argv[1])), sys.argv[2], int(sys.argv[3])
moved = 0
for number in range(times):
    version = registry.reserve("model", sha256(f"{who} {number}".encode()), "p")
    registry.announce(f"run-{who}-{number}", f"record-{who}-{number}")
    registry.note_run("model", f"run-{who}-{number}", f"record-{who}-{number}", "passed", version)
    while True:
        before = registry.aliases("model").get("production")
        decision = Decision(id=f"{who}-{number}", name="model", alias="production", version=version, before=before, how="promoted")
        try:
            registry.move(decision)
        except AliasMoved:
            continue
        registry.drop(decision.id)
        break
"""


def crowd(registry: SqliteRegistry, processes: int, times: int) -> None:
    """So many processes register so many versions each and promote every one of them; nothing may be lost or double."""
    running = [
        subprocess.Popen(
            [sys.executable, "-c", CROWD, str(registry.path), str(who), str(times)], stderr=subprocess.PIPE
        )
        for who in range(processes)
    ]
    for process in running:
        _, err = process.communicate(timeout=800)
        assert process.returncode == 0, err.decode()
    count = processes * times
    assert [item.version for item in registry.versions("model")] == list(range(count, 0, -1))
    entries = registry.ledger()
    assert len(entries) == 2 * count
    found = list(moves(entries, "production"))
    assert sorted(move.version for move in found) == list(range(1, count + 1))
    assert [move.before for move in found] == [None, *(move.version for move in found[:-1])]
    assert registry.aliases("model") == {"production": found[-1].version}
    assert (list(registry.flaws()), registry.pending()) == ([], [])


@pytest.mark.timeout(600)
def test_sixteen_processes_register_and_move_the_same_alias_a_thousand_times(registry: SqliteRegistry) -> None:
    crowd(registry, 16, 63)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_sixteen_processes_register_and_move_the_same_alias_a_thousand_times_each(registry: SqliteRegistry) -> None:
    crowd(registry, 16, 1000)


def test_processes_at_once_share_versions_and_keep_the_chain(registry: SqliteRegistry) -> None:
    running = [
        subprocess.Popen([sys.executable, "-c", WORKER, str(registry.path), who], stderr=subprocess.PIPE)
        for who in "abcd"
    ]
    for process in running:
        _, err = process.communicate(timeout=100)
        assert process.returncode == 0, err.decode()
    versions = registry.versions("model")
    assert [item.version for item in versions] == list(range(75, 0, -1))  # 4 x 15 of their own and 15 shared
    assert len({item.digest for item in versions}) == 75
    assert len(registry.ledger()) == 4 * 15 * 3
    assert broken_links(registry.ledger()) == []


COMES_AND_GOES = """
import sys
from pathlib import Path
from engine.registry.sqlite import SqliteRegistry
SqliteRegistry(Path(sys.argv[1])).announce("run", "record")
"""


def test_a_process_that_summed_the_file_loses_nothing_when_another_writes_and_leaves(registry: SqliteRegistry) -> None:
    register(registry, "first")
    assert note_sum(registry.path)  # whoever opens and closes the file by themselves lets go of SQLite's locks on it
    subprocess.run([sys.executable, "-c", COMES_AND_GOES, str(registry.path)], check=True)
    entry = registry.set_alias("model", "production", 1)
    seen = "import sys; from pathlib import Path; from engine.registry.sqlite import SqliteRegistry as R;"
    seen += "print(R(Path(sys.argv[1])).head().digest)"
    done = subprocess.run([sys.executable, "-c", seen, str(registry.path)], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == entry.digest
