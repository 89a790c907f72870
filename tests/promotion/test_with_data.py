"""Data and model move together: both, or neither, whatever is killed in between and wherever the lake is."""

from __future__ import annotations

import http.client
import io
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import moments
from engine.api import run
from engine.errors import LakeUnavailable
from engine.lake.protocol import DirtyBranch, MergeConflict
from engine.promotion import DataMoved, Outcome, Wanted, promote
from engine.registry.model import AliasMoved, Decision, ModelRef, VersionInUse
from engine.registry.sqlite import SqliteRegistry
from engine.store.claims import claimed
from engine.store.sqlite import close_kept
from engine.wiring import Home, embedded_lake, open_home
from lakes import served_address
from projects import Done, Project, make_project
from promotion.conftest import GOOD, NEW, ON_BRANCH, put

BOTH, NEITHER = ("promoted", "main has more"), ("not promoted", "main is as it was")
Answer = Callable[..., Done]


def ask(project: Project, source: str = "more", version: int = NEW) -> Outcome:
    """Promote the version that learned from the branch, with the branch."""
    home = open_home(project.root)
    ref = ModelRef(name="numbers", version=version)
    return promote(ref, "production", home.office(lambda record: record), Wanted(why="new data", source=source))


def state(home: Home) -> tuple[str, str]:
    """What became of the alias and of the data."""
    sides = [home.lake.stat("numbers", ref, "train.parquet") for ref in ("main", "more")]
    same = (sides[0].checksum, sides[0].size) == (sides[1].checksum, sides[1].size)
    moved = "production" in home.registry.aliases("numbers")
    return "promoted" if moved else "not promoted", "main has more" if same else "main is as it was"


def nothing_is_left(home: Home) -> None:
    """The journal is empty, and the ledger tells of as many moves with data as the lake of merges: the same ones."""
    assert home.registry.pending() == []
    assert list(home.registry.flaws()) == []
    told = [entry.event for entry in home.registry.ledger("numbers") if entry.event["what"] == "alias"]
    line = list(home.lake.log("numbers", "main", first_parent=True))
    merges = [(item.metadata["engine_decision"], item.id) for item in line if "engine_decision" in item.metadata]
    assert [(event["decision"], event["data"]["merged"]) for event in told] == merges


def killed(work: Callable[[], object], prepare: Callable[[], None]) -> bool:
    """Do ``work`` in a process that ``prepare`` has die somewhere; whether it did."""
    close_kept()
    child = os.fork()
    if child == 0:
        prepare()
        try:
            work()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or status == 0
    return status != 0


def begun_and_gone(project: Project) -> Decision:
    """The decision of a process that was killed just before it came to the merge."""
    assert killed(lambda: ask(project), lambda: moments.die(project.home, "insert into decisions", 2))
    (pending,) = SqliteRegistry(project.home / "registry.db").pending()
    assert pending.state == "begun"
    return pending.decision


# -- in one piece -------------------------------------------------------------------------------------------------


def test_the_branch_is_merged_and_the_alias_moved(project: Project, answer: Answer) -> None:
    words = ["models", "promote", f"numbers:{NEW}", "--to", "production", "--merge-data", "more", "--json"]
    done = answer(project.root, *words)
    assert done.code == 0, done.err
    home = open_home(project.root)
    merged = done.json["data"]["merged"]
    assert state(home) == BOTH
    assert home.lake.resolve("numbers", "main") == merged
    nothing_is_left(home)
    history = answer(project.root, "models", "history", "numbers").out
    assert f"merged into lakefs://numbers/main as {merged[:12]}" in history
    assert answer(project.root, "verify").code == 0


def test_a_branch_that_moved_since_the_model_was_made_is_refused(project: Project) -> None:
    put(project, "more", 9)
    with pytest.raises(DataMoved, match="the model was made from"):
        ask(project)
    home = open_home(project.root)
    assert state(home) == NEITHER
    nothing_is_left(home)


def test_a_branch_that_moved_is_merged_by_force_and_the_ledger_says_so(project: Project, answer: Answer) -> None:
    put(project, "more", 9)
    words = ["models", "promote", f"numbers:{NEW}", "--to", "production", "--merge-data", "more", "--force"]
    done = answer(project.root, *words)
    assert (done.code, state(open_home(project.root))) == (0, BOTH)
    assert "FORCED although lakefs://numbers/more is at" in done.err
    event = open_home(project.root).registry.ledger()[-1].event
    assert (event["forced"], "the model was made from" in event["objections"][0]) == (True, True)


def test_a_version_that_was_made_from_something_else_does_not_bring_the_branch(project: Project) -> None:
    with pytest.raises(DataMoved):
        ask(project, version=GOOD)
    assert state(open_home(project.root)) == NEITHER


def test_where_the_data_conflicts_neither_happens(project: Project) -> None:
    put(project, "main", 8)
    with pytest.raises(MergeConflict):
        ask(project)
    home = open_home(project.root)
    assert state(home) == NEITHER
    nothing_is_left(home)


def test_where_the_main_line_has_staged_changes_neither_happens(project: Project) -> None:
    open_home(project.root).lake.delete("numbers", "main", "test.parquet")
    with pytest.raises(DirtyBranch):
        ask(project)
    home = open_home(project.root)
    assert state(home) == NEITHER
    nothing_is_left(home)


ACTION = b"""name: guard
on: {pre-merge: {branches: [main]}}
hooks:
  - {id: nobody, type: webhook, properties: {url: "http://127.0.0.1:9/"}}
"""


def test_where_a_hook_refuses_neither_happens(project: Project, answer: Answer) -> None:
    lake = open_home(project.root).lake
    lake.put("numbers", "more", "_lakefs_actions/guard.yaml", io.BytesIO(ACTION))
    lake.commit("numbers", "more", "guard", author="test", time=0)
    words = ["models", "promote", f"numbers:{NEW}", "--to", "production", "--merge-data", "more", "--force", "--json"]
    done = answer(project.root, *words)
    assert (done.code, done.json["error"]["code"]) == (1, "hook-refused")
    home = open_home(project.root)
    assert state(home) == NEITHER
    nothing_is_left(home)


def test_where_a_hook_validates_the_new_data_it_is_asked_in_the_midst_of_the_decision(
    project: Project, answer: Answer
) -> None:
    hook = answer(project.root, "lake", "hook", "spec.yaml")
    lake = open_home(project.root).lake
    lake.put("numbers", "more", "_lakefs_actions/validate.yaml", io.BytesIO(hook.out.encode()))
    lake.commit("numbers", "more", "guard", author="test", time=0)
    words = ["models", "promote", f"numbers:{NEW}", "--to", "production", "--merge-data", "more", "--force", "--json"]
    done = answer(project.root, *words)
    assert done.code == 0, done.out
    assert state(open_home(project.root)) == BOTH
    nothing_is_left(open_home(project.root))


# -- killed -------------------------------------------------------------------------------------------------------


def copied(project: Project, folder: Path) -> Project:
    """A copy to be changed; what is never changed in place has the same file."""

    def copy(source: str, target: str) -> None:
        (os.link if "/objects/" in source or "/runs/" in source else shutil.copy2)(source, target)

    close_kept()
    return Project(shutil.copytree(project.root, folder, copy_function=copy))


def killed_at_every_step(
    made: Project, folder: Path, text: str, counts: Callable[[str], bool]
) -> tuple[int, set[tuple[str, str]]]:
    """Promote with data, killed at each step that counts from the first that has ``text`` in it; how many there were."""
    seen = set()
    for number in range(1000):
        project = copied(made, folder / str(number))
        if not killed(lambda: ask(project), lambda: moments.die(project.home, text, number, counts)):  # noqa: B023
            break
        home = open_home(project.root)
        found = state(home)
        nothing_is_left(home)
        if found == NEITHER:
            ask(project)
            assert state(home) == BOTH
        seen.add(found)
        close_kept()
        shutil.rmtree(project.root)
    return number, seen


@pytest.mark.timeout(600)
def test_killed_at_every_step_both_happened_or_neither_when_the_next_command_looks(
    made: Project, tmp_path: Path
) -> None:
    number, seen = killed_at_every_step(made, tmp_path, "insert into decisions", moments.changes)
    assert number > 30
    assert seen == {BOTH, NEITHER}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_at_every_step_also_where_something_is_only_looked_at(made: Project, tmp_path: Path) -> None:
    number, seen = killed_at_every_step(made, tmp_path, "", bool)
    assert number > 100
    assert seen == {BOTH, NEITHER}


@pytest.mark.parametrize(
    "command",
    [
        ["models", "list"],
        ["models", "show", "numbers@production"],
        ["lake", "log", "lakefs://numbers/main", "-n", "1"],
        ["runs", "list"],
        ["verify"],
    ],
    ids=" ".join,
)
def test_whatever_command_looks_next_finishes_it(project: Project, answer: Answer, command: list[str]) -> None:
    begun_and_gone(project)
    assert answer(project.root, *command).code == 0
    home = open_home(project.root)
    assert state(home) == BOTH
    nothing_is_left(home)


def test_what_cannot_be_finished_any_more_is_undone(project: Project, caplog: pytest.LogCaptureFixture) -> None:
    begun_and_gone(project)
    lake = embedded_lake(project.home)
    lake.put("numbers", "main", "train.parquet", io.BytesIO(b"something else"))
    lake.commit("numbers", "main", "meanwhile", author="test", time=0)
    home = open_home(project.root)
    assert state(home) == NEITHER
    nothing_is_left(home)
    assert "is undone, data and alias" in caplog.text


def test_while_a_decision_stands_nobody_else_moves_its_alias_or_retires_its_version(project: Project) -> None:
    begun_and_gone(project)
    registry = SqliteRegistry(project.home / "registry.db")
    with pytest.raises(AliasMoved, match="another promotion with data"):
        registry.set_alias("numbers", "production", GOOD)
    with pytest.raises(VersionInUse):
        registry.retire("numbers", NEW)


def test_a_process_that_is_still_at_it_is_left_alone(project: Project) -> None:
    from engine.promotion import claim_of

    decision = begun_and_gone(project)
    with claimed(claim_of(decision, project.home), lambda _: None):
        assert state(open_home(project.root)) == NEITHER
        assert len(open_home(project.root).registry.pending()) == 1
    assert state(open_home(project.root)) == BOTH


# -- on a server --------------------------------------------------------------------------------------------------


NAMES = ("LAKECTL_SERVER_ENDPOINT_URL", "LAKECTL_CREDENTIALS_ACCESS_KEY_ID", "LAKECTL_CREDENTIALS_SECRET_ACCESS_KEY")


@dataclass(frozen=True)
class Far:
    """A project whose data is on a server that speaks lakeFS' REST API, and the home of that server."""

    project: Project
    server: Path
    environment: dict[str, str]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Far]:
    folder = tmp_path_factory.mktemp("far")
    with served_address(folder / "server") as found, pytest.MonkeyPatch.context() as patch:
        values = (found.endpoint, found.access_key_id, found.secret_access_key)
        environment = dict(zip(NAMES, values, strict=True))
        for name, value in environment.items():
            patch.setenv(name, value)
        project = make_project(folder / "project")
        open_home(project.root).lake.create_branch("numbers", "more", "main")
        put(project, "more", 3)
        assert run(project.spec, overrides=ON_BRANCH, inline=True).status == "passed"
        close_kept()
        yield Far(project, folder / "server" / ".engine", environment)


@pytest.fixture
def far(served: Far, monkeypatch: pytest.MonkeyPatch) -> Far:
    """The same, as it was at first; the environment names the server."""
    for name, value in served.environment.items():
        monkeypatch.setenv(name, value)
    return served


def die_at_request(number: int) -> None:
    """Be killed before request ``number // 2`` is sent, or when it was sent and its answer was not read."""
    left = number

    def step() -> None:
        nonlocal left
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1

    def hear(event: str, _: tuple[object, ...]) -> None:
        if event == "http.client.send":
            step()

    def respond(connection: http.client.HTTPConnection, *args: object, **options: object) -> object:
        step()
        return plain(connection, *args, **options)  # type: ignore[arg-type]

    plain, http.client.HTTPConnection.getresponse = http.client.HTTPConnection.getresponse, respond  # type: ignore
    sys.addaudithook(hear)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("where", ["requests", "statements"])
def test_killed_at_every_step_of_a_promotion_with_data_on_a_server(far: Far, tmp_path: Path, where: str) -> None:
    before = embedded_lake(far.server).resolve("numbers", "more~1")
    seen = set()
    for number in range(1000):
        embedded_lake(far.server).hard_reset("numbers", "main", before)
        project = copied(far.project, tmp_path / str(number))

        def prepare(home: Path = project.home, number: int = number) -> None:
            die_at_request(number) if where == "requests" else moments.die(home, "", number, moments.changes)

        if not killed(lambda: ask(project, version=1), prepare):  # noqa: B023
            break
        home = open_home(project.root)
        seen.add(state(home))
        nothing_is_left(home)
        close_kept()
        shutil.rmtree(project.root)
    assert number > 10
    assert seen == {BOTH, NEITHER}


def test_while_the_server_does_not_answer_nothing_is_decided_and_everything_can_be_read(
    far: Far, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedded_lake(far.server).hard_reset("numbers", "main", "more~1")
    close_kept()
    project = Project(shutil.copytree(far.project.root, tmp_path / "project"))
    assert killed(lambda: ask(project, version=1), lambda: moments.die(project.home, "insert into decisions", 2))
    address = os.environ["LAKECTL_SERVER_ENDPOINT_URL"]
    monkeypatch.setenv("LAKECTL_SERVER_ENDPOINT_URL", "http://127.0.0.1:9/api/v1")
    registry = open_home(project.root).registry
    assert (registry.aliases("numbers"), len(registry.pending())) == ({}, 1)
    with pytest.raises(LakeUnavailable):
        open_home(project.root).lake.resolve("numbers", "main")
    monkeypatch.setenv("LAKECTL_SERVER_ENDPOINT_URL", address)
    assert state(open_home(project.root)) == BOTH
