"""A version gets an alias when its gates passed, for its very bytes, against what is in use now; and nothing is lost."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from engine.errors import DigestMismatch, Refused
from engine.promotion import GateRefused, NotProven, Office, Wanted, promote, rollback
from engine.record.model import RunRecord
from engine.registry.model import AliasMoved, ModelNotFound, ModelRef, VersionRetired
from engine.store.sqlite import close_kept
from engine.wiring import Home, judged_again, open_home
from guards.test_guards import HEAVY, command, modules_after
from projects import Done, Project
from promotion.conftest import BAD, FAIR, GOOD

ASKED = Wanted()
Answer = Callable[..., Done]


def office_of(home: Home) -> Office:
    return home.office(lambda record: judged_again(record, home, lambda _: None, inline=True))


def ask(project: Project, version: int, alias: str = "production", wanted: Wanted = ASKED) -> object:
    """Promote, as the command does."""
    return promote(ModelRef(name="numbers", version=version), alias, office_of(open_home(project.root)), wanted)


def aliases(project: Project) -> dict[str, int]:
    return open_home(project.root).registry.aliases("numbers")


def moves(answer: Answer, project: Project, *more: str) -> list[dict[str, object]]:
    found: list[dict[str, object]] = answer(project.root, "models", "history", "numbers", "--json", *more).json["moves"]
    return found


def alter(project: Project, digest: str) -> None:
    """Change one byte of an object."""
    path = open_home(project.root).store.path(digest)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(bytes(data))


# -- evidence -----------------------------------------------------------------------------------------------------


def test_a_version_that_passed_is_promoted_with_its_evidence(project: Project, answer: Answer) -> None:
    done = answer(
        project.root, "models", "promote", f"numbers:{GOOD}", "--to", "production", "--why", "first", "--json"
    )
    assert (done.code, done.json["changed"], done.json["judged_again"]) == (0, True, False)
    assert aliases(project) == {"production": GOOD}
    (move,) = moves(answer, project)
    record = open_home(project.root).records.latest(move["evidence"]["run"])  # type: ignore[index]
    assert record is not None
    assert move["evidence"]["record"] == record.digest  # type: ignore[index]
    assert [gate["name"] for gate in move["evidence"]["gates"]] == [g["name"] for g in record.summary["gates"]]  # type: ignore[index]
    assert (move["why"], move["forced"], move["before"]) == ("first", False, None)


def test_a_version_that_was_judged_against_another_model_is_judged_again(project: Project) -> None:
    ask(project, GOOD)
    outcome = ask(project, FAIR)
    assert outcome.judged  # type: ignore[attr-defined]
    assert outcome.decision.evidence.baselines["production"]["version"] == GOOD  # type: ignore[attr-defined]
    assert aliases(project) == {"production": FAIR}


def test_only_the_gates_of_what_is_judged_again_are_new_work(project: Project) -> None:
    ask(project, GOOD)
    outcome = ask(project, FAIR)
    record = open_home(project.root).records.latest(outcome.decision.evidence.run)  # type: ignore[attr-defined]
    assert record is not None
    ran = {step for step, found in record.steps.items() if found["status"] == "ran"}
    assert {"gate.mae.max_drop@production", "register"} <= ran
    made_anew = {step for step in ran if step.partition(".")[0] not in ("gate", "register")}
    assert made_anew == {"evaluate.production"}  # what is in use now, on the same rows
    assert record.summary["overrides"] == ["train.with.ridge=5"]


def test_a_version_that_is_worse_than_what_is_in_use_now_is_refused_with_the_reason(
    project: Project, answer: Answer
) -> None:
    ask(project, GOOD)
    done = answer(project.root, "models", "promote", f"numbers:{BAD}", "--to", "production", "--inline", "--json")
    assert (done.code, done.json["error"]["code"]) == (1, "gate-refused")
    assert "mae.max_drop@production refused: mae is " in done.json["error"]["message"]
    assert "of production (version 1)" in done.json["error"]["message"]
    assert aliases(project) == {"production": GOOD}
    assert len(moves(answer, project)) == 1


def test_a_forced_promotion_says_so_loudly_and_in_the_ledger(project: Project, answer: Answer) -> None:
    ask(project, GOOD)
    done = answer(
        project.root, "models", "promote", f"numbers:{BAD}", "--to", "production", "--force", "--inline", "--why", "now"
    )
    assert done.code == 0
    assert "FORCED although numbers:3: mae.max_drop@production refused" in done.err
    (move, _) = moves(answer, project)
    assert (move["forced"], move["why"], move["version"]) == (True, "now", BAD)
    assert "mae.max_drop@production" in move["evidence"]["objections"][0]  # type: ignore[index]
    assert "FORCED although" in answer(project.root, "models", "history", "numbers").out


def test_forcing_what_would_pass_anyway_is_an_ordinary_promotion(project: Project) -> None:
    outcome = ask(project, GOOD, wanted=Wanted(force=True))
    assert not outcome.decision.forced  # type: ignore[attr-defined]


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("what", ["digest", "package"])
def test_a_model_whose_bytes_were_altered_is_refused_forced_or_not(project: Project, what: str, force: bool) -> None:
    alter(project, getattr(open_home(project.root).registry.get(ModelRef(name="numbers", version=GOOD)), what))
    with pytest.raises(DigestMismatch, match=f"of numbers:{GOOD}"):
        ask(project, GOOD, wanted=Wanted(force=force))
    assert aliases(project) == {}


def test_a_record_that_was_altered_is_no_evidence(project: Project) -> None:
    home = open_home(project.root)
    (run,) = home.registry.get(ModelRef(name="numbers", version=GOOD)).runs
    path = home.records.folder(run) / "executions" / "1" / "record.json"
    path.chmod(0o644)
    path.write_bytes(path.read_bytes().replace(b'"seed":7', b'"seed":8'))
    with pytest.raises(NotProven):
        ask(project, GOOD)


def test_what_was_in_use_is_judged_against_with_its_own_bytes_checked(project: Project) -> None:
    ask(project, GOOD)
    alter(project, open_home(project.root).registry.get(ModelRef(name="numbers", version=GOOD)).digest)
    with pytest.raises(Refused):
        ask(project, FAIR)
    assert aliases(project) == {"production": GOOD}


def test_a_version_is_not_judged_again_where_the_environment_is_another(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(project, GOOD)
    monkeypatch.setattr("platform.machine", lambda: "another")
    with pytest.raises(Refused, match="cannot be judged again here"):
        ask(project, FAIR)


def test_another_alias_is_judged_against_production_too(project: Project) -> None:
    ask(project, GOOD)
    with pytest.raises(GateRefused):
        ask(project, BAD, "canary")
    ask(project, FAIR, "canary")
    assert aliases(project) == {"canary": FAIR, "production": GOOD}


def test_promoting_what_is_there_already_changes_nothing(project: Project, answer: Answer) -> None:
    ask(project, GOOD)
    before = open_home(project.root).registry.head()
    done = answer(project.root, "models", "promote", f"numbers:{GOOD}", "--to", "production")
    assert (done.code, done.out) == (0, "numbers@production is version 1 already\n")
    assert open_home(project.root).registry.head() == before


def test_what_one_alias_names_can_be_promoted_to_another(project: Project, answer: Answer) -> None:
    ask(project, GOOD, "candidate")
    assert answer(project.root, "models", "promote", "numbers@candidate", "--to", "production").code == 0
    assert aliases(project) == {"candidate": GOOD, "production": GOOD}


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["numbers", "--to", "production"], 2),
        (["numbers:9", "--to", "production"], 2),
        (["nothing:1", "--to", "production"], 2),
        (["numbers@nothing", "--to", "production"], 2),
        (["numbers:1", "--to", "not an alias"], 2),
        (["numbers:1", "--to", "production", "--merge-data", "nothing"], 2),
        (["numbers:1", "--to", "production", "--merge-data", "main"], 2),
        (["numbers:1", "--to", "production", "--merge-data", "lakefs://other/more"], 2),
        (["numbers:1", "--to", "production", "--merge-data", "more"], 1),
    ],
)
def test_what_cannot_be_promoted_is_said_without_a_traceback(
    project: Project, answer: Answer, arguments: list[str], code: int
) -> None:
    done = answer(project.root, "models", "promote", *arguments, "--json")
    assert done.code == code
    assert done.json["error"]["message"]
    assert aliases(project) == {}


# -- at the same time ---------------------------------------------------------------------------------------------


def test_who_decided_on_what_somebody_moved_meanwhile_is_told(project: Project) -> None:
    ask(project, GOOD)
    home = open_home(project.root)

    def judge(record: RunRecord) -> RunRecord:
        found = judged_again(record, home, lambda _: None, inline=True)
        rollforward = replace(office_of(home), judge=lambda item: found)
        promote(ModelRef(name="numbers", version=BAD), "production", rollforward, Wanted(force=True))
        return found

    with pytest.raises(AliasMoved, match="names version 3 now, and not version 1"):
        promote(ModelRef(name="numbers", version=FAIR), "production", home.office(judge), ASKED)
    assert aliases(project) == {"production": BAD}


# -- going back ---------------------------------------------------------------------------------------------------


def test_a_rollback_goes_back_and_the_next_one_further(project: Project, answer: Answer) -> None:
    for version in (GOOD, FAIR, BAD):
        ask(project, version, wanted=Wanted(force=True))
    went = []
    for _ in range(2):
        assert answer(project.root, "models", "rollback", "numbers").code == 0
        went.append(aliases(project)["production"])
    assert went == [FAIR, GOOD]
    done = answer(project.root, "models", "rollback", "numbers")
    assert (done.code, aliases(project)) == (1, {"production": GOOD})
    found = [(move["how"], move["before"], move["version"]) for move in reversed(moves(answer, project))]
    assert found[-2:] == [("rolled back", BAD, FAIR), ("rolled back", FAIR, GOOD)]


def test_a_rollback_has_the_evidence_that_its_version_was_promoted_on(project: Project) -> None:
    first = ask(project, GOOD)
    ask(project, FAIR)
    back = rollback("numbers", "production", office_of(open_home(project.root)))
    assert back.decision.evidence == first.decision.evidence  # type: ignore[attr-defined]


def test_a_rollback_passes_over_what_was_retired(project: Project, answer: Answer) -> None:
    for version in (GOOD, FAIR, BAD):
        ask(project, version, wanted=Wanted(force=True))
    assert answer(project.root, "models", "retire", f"numbers:{FAIR}", "--why", "it was wrong").code == 0
    rollback("numbers", "production", office_of(open_home(project.root)))
    assert aliases(project) == {"production": GOOD}


def test_a_rollback_to_altered_bytes_is_refused(project: Project) -> None:
    ask(project, GOOD)
    ask(project, FAIR)
    alter(project, open_home(project.root).registry.get(ModelRef(name="numbers", version=GOOD)).digest)
    with pytest.raises(DigestMismatch):
        rollback("numbers", "production", office_of(open_home(project.root)))
    assert aliases(project) == {"production": FAIR}


def test_nothing_is_rolled_back_where_nothing_was_promoted(project: Project) -> None:
    with pytest.raises(ModelNotFound):
        rollback("numbers", "production", office_of(open_home(project.root)))


# -- retired ------------------------------------------------------------------------------------------------------


def test_a_retired_version_is_not_promoted_even_by_force_until_it_is_taken_back(
    project: Project, answer: Answer
) -> None:
    assert answer(project.root, "models", "retire", f"numbers:{GOOD}").code == 0
    with pytest.raises(VersionRetired):
        ask(project, GOOD, wanted=Wanted(force=True))
    assert answer(project.root, "models", "retire", f"numbers:{GOOD}", "--undo").code == 0
    ask(project, GOOD)
    assert aliases(project) == {"production": GOOD}


def test_runs_gc_takes_the_runs_of_a_retired_version_and_of_no_other(project: Project, answer: Answer) -> None:
    ask(project, GOOD)
    assert answer(project.root, "models", "retire", f"numbers:{FAIR}").code == 0
    home = open_home(project.root)
    gone, kept = (home.registry.get(ModelRef(name="numbers", version=version)).runs[0] for version in (FAIR, GOOD))
    assert answer(project.root, "runs", "gc", "--keep", "0").code == 0
    assert home.records.latest(gone) is None
    assert home.records.latest(kept) is not None
    assert answer(project.root, "verify").code == 0


# -- words --------------------------------------------------------------------------------------------------------


def test_tags_and_descriptions_are_shown_and_stand_on_the_card(project: Project, answer: Answer) -> None:
    assert answer(project.root, "models", "tag", "numbers:1", "team=ops", "tier=2").code == 0
    assert answer(project.root, "models", "tag", "numbers:1", "--remove", "tier").code == 0
    assert answer(project.root, "models", "describe", "numbers", "Predicts *y*.").code == 0
    shown = answer(project.root, "models", "show", "numbers:1", "--json").json
    assert (shown["tags"], shown["model"]["description"]) == ({"team": "ops"}, "Predicts *y*.")
    card = answer(project.root, "models", "card", "numbers:1").out
    assert "- team: ops" in card
    assert "Predicts \\*y\\*." in card


def test_a_card_has_what_the_record_has(project: Project, answer: Answer) -> None:
    ask(project, GOOD)
    home = open_home(project.root)
    version = home.registry.get(ModelRef.parse("numbers@production"))
    record = home.records.latest(version.runs[0])
    assert record is not None
    card = answer(project.root, "models", "card", "numbers@production", "--json").json["card"]
    for pin in record.summary["pins"]["data"].values():
        assert pin["commit"] in card
        assert pin["digest"] in card
    assert record.summary["pins"]["code"]["digest"] in card
    assert all(f"| {name}" in card for name in record.summary["metrics"])
    assert card.count("| passed |") == len(record.summary["gates"])
    assert "`production`: promoted by" in card


@pytest.mark.parametrize(
    "arguments",
    [
        ["tag", "numbers:1"],
        ["tag", "numbers:1", "novalue"],
        ["tag", "numbers:9", "a=b"],
        ["tag", "numbers@production", "a=b"],
        ["describe", "nothing", "text"],
        ["retire", "numbers"],
        ["show", "nothing"],
        ["card", "numbers:9"],
        ["history", "nothing"],
        ["rollback", "numbers:1"],
    ],
)
def test_what_names_nothing_is_said_with_exit_code_2(project: Project, answer: Answer, arguments: list[str]) -> None:
    done = answer(project.root, "models", *arguments, "--json")
    assert done.code == 2
    assert done.json["error"]["message"]


# -- anchors ------------------------------------------------------------------------------------------------------


def in_git(project: Project) -> None:
    """Make the project a git repository with a commit, by nobody in particular."""
    run = ["git", "-C", str(project.root), "-c", "user.name=t", "-c", "user.email=t@t"]
    (project.root / ".gitignore").write_text(".engine\n")
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "all"]):
        subprocess.run([*run, *words], check=True, capture_output=True)


def rewritten(project: Project, why: str) -> None:
    """Replace the registry by one that is whole in itself, with another reason for each move."""
    home = open_home(project.root)
    entries = home.registry.ledger()
    for path in home.path.glob("registry.db*"):
        path.unlink()
    close_kept()
    new = open_home(project.root).registry
    for event in (entry.event for entry in entries):
        if event["what"] == "version":
            version = new.reserve(event["name"], event["digest"], event["package"])
            new.announce(event["run"], event["record"])
            new.note_run(event["name"], event["run"], event["record"], "passed", version, event)
        elif event["what"] == "run":
            new.announce(event["run"], event["record"])
            new.note_run(event["name"], event["run"], event["record"], event["status"])
        else:
            new.set_alias(event["name"], event["alias"], event["version"], why)
    home.rest()


@pytest.mark.parametrize("git", [True, False], ids=["git", "lake"])
def test_a_registry_that_was_rewritten_as_a_whole_is_found(project: Project, answer: Answer, git: bool) -> None:
    if git:
        in_git(project)
    ask(project, GOOD)
    assert answer(project.root, "verify").code == 0
    rewritten(project, "it was always so")
    found = answer(project.root, "verify", "--json").json["mismatches"]
    assert {item["what"] for item in found} == {"anchor"}
    assert len(found) == 1 + git
    assert "the ledger's entry" in found[0]["fact"]


def test_an_older_copy_of_the_registry_is_found(project: Project, answer: Answer) -> None:
    ask(project, GOOD)
    close_kept()
    older = (project.home / "registry.db").read_bytes()
    rollforward = ask(project, FAIR)
    close_kept()
    for path in project.home.glob("registry.db?*"):
        path.unlink()
    (project.home / "registry.db").write_bytes(older)
    found = answer(project.root, "verify", "--json").json["mismatches"]
    number = rollforward.entry.number  # type: ignore[attr-defined]
    assert f"an entry {number}" in next(item["fact"] for item in found if item["what"] == "anchor")


def test_a_registry_that_was_removed_is_found(project: Project, answer: Answer) -> None:
    ask(project, GOOD)
    close_kept()
    for path in project.home.glob("registry.db*"):
        path.unlink()
    assert "anchor" in {item["what"] for item in answer(project.root, "verify", "--json").json["mismatches"]}


def test_without_its_registry_no_run_gives_version_numbers_anew(project: Project, answer: Answer) -> None:
    close_kept()
    for path in project.home.glob("registry.db*"):
        path.unlink()
    for more in [], ["--fresh"]:
        done = answer(project.root, "run", "spec.yaml", "train.with.ridge=5", "--inline", "--json", *more)
        assert (done.code, done.json["error"]["code"]) == (3, "failed")
        assert "backup" in done.json["error"]["hint"]
    assert not (project.home / "registry.db").exists()


def test_anchors_of_another_home_do_not_matter(project: Project, answer: Answer, tmp_path: Path) -> None:
    in_git(project)
    ask(project, GOOD)
    (project.home / "home.key").unlink()
    found = answer(project.root, "verify", "--json").json["mismatches"]
    assert "anchor" not in {item["what"] for item in found}


def test_an_anchor_in_git_needs_no_identity_there(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    in_git(project)
    for name in [name for name in os.environ if name.startswith(("GIT_", "EMAIL"))]:
        monkeypatch.delenv(name)
    outcome = ask(project, GOOD)
    assert "git notes --ref=engine" in outcome.anchored  # type: ignore[attr-defined]
    words = ["git", "-C", str(project.root), "notes", "--ref=engine", "show", "HEAD"]
    said = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    assert f"sha256:{outcome.entry.digest}" in said  # type: ignore[attr-defined]


def test_a_rollback_is_anchored_too(project: Project) -> None:
    ask(project, GOOD)
    ask(project, FAIR)
    assert rollback("numbers", "production", office_of(open_home(project.root))).anchored


def test_one_altered_byte_of_the_registry_is_found(project: Project, answer: Answer) -> None:
    assert answer(project.root, "models", "promote", f"numbers:{GOOD}", "--to", "production").code == 0
    close_kept()
    path = project.home / "registry.db"
    data = bytearray(path.read_bytes())
    at = data.index(b'"how":"promoted"')
    data[at + 7] ^= 1
    path.write_bytes(bytes(data))
    done = answer(project.root, "verify", "--json")
    assert done.code == 1
    assert json.dumps(done.json["mismatches"]).count("registry.db")


# -- light --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ["history", "numbers"],
        ["card", "numbers:1"],
        ["promote", "numbers:1", "--to", "production"],
    ],
    ids=lambda words: words[0],
)
def test_a_command_of_the_registry_imports_nothing_heavy(project: Project, words: list[str]) -> None:
    assert HEAVY.isdisjoint(modules_after(command("models", *words), project.root))
