"""`engine watch`: every commit once, the oldest first, nothing missed, whatever happens meanwhile."""

from __future__ import annotations

import json
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from engine import watch as watching
from engine.errors import LakeUnavailable, NotFound, UsageError
from engine.lake.protocol import Lake, Signed
from engine.pipeline import Finished, Prepared
from engine.pipeline import run as run_prepared
from engine.watch import Arrived, Began, Ended, Mended, Notice, Pauses, Rewritten, Trouble, watch
from engine.wiring import open_home
from projects import Project, engine, make_project, numbers


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return make_project(tmp_path / "project")


@pytest.fixture
def here(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """The project, with the working folder in it and a run that costs little."""
    monkeypatch.chdir(project.root)
    project.write({"evaluate.gates": [{"metric": "mae", "max": 1.0}], "evaluate.slices": []})
    return project


def add(project: Project, seed: int, path: str = "train.parquet") -> str:
    """Commit other numbers; the commit."""
    project.put(path, numbers(60, seed=seed), f"seed {seed}")
    return open_home(project.root).lake.resolve("numbers", "main")


def carry_out(prepared: Prepared) -> Finished:
    return run_prepared(prepared, lambda _: None, inline=True)


def once(*specs: str, **more: Any) -> list[Notice]:
    return list(watch(specs or ("spec.yaml",), carry_out, once=True, **more))


def commits_run(notices: list[Notice]) -> list[str]:
    return [notice.commit.id for notice in notices if isinstance(notice, Ended)]


def statuses(notices: list[Notice]) -> list[str]:
    return [
        notice.finished.record.status if notice.finished else "error" for notice in notices if isinstance(notice, Ended)
    ]


class Process:
    """`engine watch` in a process of its own."""

    def __init__(self, project: Project, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "engine.cli.main", "watch", *arguments],
            cwd=project.root,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        self.lines: queue.Queue[str] = queue.Queue()
        self.said = ""
        threading.Thread(target=self.read, daemon=True).start()

    def read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.put(line)

    def until(self, text: str, seconds: float = 60) -> str:
        """Wait until a line with a text is said; the line."""
        end = time.monotonic() + seconds
        while True:
            try:
                line = self.lines.get(timeout=max(end - time.monotonic(), 0.01))
            except queue.Empty as error:
                raise AssertionError(f"{text!r} was not said, only:\n{self.said}") from error
            self.said += line
            if text in line:
                return line

    def run(self, seconds: float = 60) -> dict[str, Any]:
        """Wait for the end of a run; its JSON line."""
        return json.loads(self.until('{"', seconds))

    def end(self, number: signal.Signals = signal.SIGINT) -> tuple[int, str, list[psutil.Process]]:
        """Send a signal; the exit code, the answer, and the processes that are left."""
        family = psutil.Process(self.process.pid).children(recursive=True)
        self.process.send_signal(number)
        assert self.process.stdout is not None
        out = self.process.stdout.read()
        code = self.process.wait(timeout=30)
        return code, out, psutil.wait_procs(family, timeout=10)[1]


@pytest.fixture
def start(project: Project) -> Iterator[Callable[..., Process]]:
    started: list[Process] = []

    def start_one(*arguments: str) -> Process:
        started.append(Process(project, "spec.yaml", *arguments))
        return started[-1]

    yield start_one
    for item in started:
        if item.process.poll() is None:
            item.process.kill()
            item.process.wait()


# -- in a process of its own --------------------------------------------------------------------------


def test_a_commit_is_noticed_at_once_and_run_with_its_own_data(project: Project, start: Callable[..., Process]) -> None:
    watched = start("--inline", "--json")
    watched.until("watching lakefs://numbers/main")
    for seed in (3, 4):
        made = add(project, seed)
        committed = time.monotonic()
        assert f'got {made[:12]} "seed {seed}" by test' in watched.until("got ")
        assert time.monotonic() - committed < 1.0
        found = watched.run()
        assert (found["commit"], found["status"], found["spec"]) == (made, "passed", "spec.yaml")
        assert found["pins"]["data"]["train"]["commit"] == made
    code, out, left = watched.end()
    assert (code, left) == (130, [])
    assert json.loads(out)["error"]["code"] == "interrupted"


def test_a_watch_that_was_killed_misses_nothing_and_runs_nothing_twice(
    project: Project, start: Callable[..., Process]
) -> None:
    first = start("--inline", "--json")
    first.until("watching")
    done = add(project, 3)
    assert first.run()["commit"] == done
    project.write({"train.with": {"mode": "sleep"}})
    interrupted = add(project, 4)
    first.until("ran      validate.train")
    first.end(signal.SIGKILL)
    later = [add(project, seed) for seed in (5, 6)]
    project.write()
    found = engine(project.root, "watch", "spec.yaml", "--once", "--inline", "--json")
    assert found.code == 0, found.err
    assert [run["commit"] for run in found.json["runs"]] == [interrupted, *later]
    assert [run["status"] for run in found.json["runs"]] == ["passed"] * 3
    assert engine(project.root, "watch", "spec.yaml", "--once", "--inline", "--json").json == {"runs": []}


@pytest.mark.parametrize("how", ["--inline", "ray"])
def test_an_interrupted_watch_leaves_no_process(project: Project, start: Callable[..., Process], how: str) -> None:
    project.write({"train.with": {"mode": "sleep"}})
    watched = start(*([how] if how == "--inline" else []))
    watched.until("watching")
    add(project, 3)
    watched.until("ran      validate.train")
    code, _, left = watched.end(signal.SIGINT if how == "ray" else signal.SIGTERM)
    assert (code, left) == (130, [])


def test_one_watch_of_a_spec_is_enough(project: Project, start: Callable[..., Process]) -> None:
    start("--inline").until("watching")
    second = engine(project.root, "watch", "spec.yaml", "--once")
    assert second.code == 2
    assert "spec.yaml: another process watches this spec" in second.err


@pytest.mark.slow
def test_a_spec_that_becomes_invalid_is_reported_and_watched_on(
    project: Project, start: Callable[..., Process]
) -> None:
    watched = start("--inline", "--json")
    watched.until("watching")
    project.write({"sed": 1})
    watched.until('did you mean "seed"?')
    made = add(project, 3)
    project.write()
    watched.until("the spec is well again")
    assert watched.run()["commit"] == made
    assert "Traceback" not in watched.said


def test_what_a_person_reads_is_a_line_a_run(project: Project) -> None:
    add(project, 3)
    found = engine(project.root, "watch", "spec.yaml", "--once", "--inline", "--since", "main~2")
    assert found.code == 0
    lines = found.out.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("PASSED  numbers:1  6 of 6 gates pass  run ")
    head = open_home(project.root).lake.resolve("numbers", "main")
    assert f"commit {head[:12]}" in lines[1]
    assert engine(project.root, "watch", "spec.yaml", "--once", "--inline").out == "nothing new\n"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nope.yaml"], "no spec 'nope.yaml'"),
        (["spec.yaml", "--since", "nope"], "'nope'"),
        ([], "Missing argument"),
    ],
)
def test_what_cannot_be_watched_is_wrong_usage(project: Project, arguments: list[str], says: str) -> None:
    found = engine(project.root, "watch", *arguments)
    assert found.code == 2
    assert says in found.err


# -- in this process ----------------------------------------------------------------------------------


def test_the_first_time_a_watch_that_ends_runs_the_head_and_one_that_goes_on_nothing(here: Project) -> None:
    found = watch(["spec.yaml"], carry_out, sleep=stop)
    head = open_home(here.root).lake.resolve("numbers", "main")
    (began,) = until_stopped(found)
    assert isinstance(began, Began)
    assert (began.commit, began.resumed) == (head, False)
    assert commits_run(once()) == []
    other = here.write(name="other.yaml")
    assert commits_run(once(other.name)) == [head]


def test_a_run_of_a_commit_is_the_run_that_the_spec_has_there(here: Project) -> None:
    (ended,) = [notice for notice in once() if isinstance(notice, Ended)]
    assert ended.finished is not None
    found = engine(here.root, "run", "spec.yaml", "--json").json
    assert (found["run_id"], found["executed"]) == (ended.finished.record.run_id, False)


def test_commits_are_run_in_their_order_and_each_once(here: Project) -> None:
    once()
    made = [add(here, seed) for seed in (3, 4, 5)]
    found = once()
    assert commits_run(found) == made
    assert [notice.left for notice in found if isinstance(notice, Arrived)] == [2, 1, 0]
    assert commits_run(once()) == []


def test_a_refusing_gate_a_failing_step_and_missing_data_do_not_end_a_watch(here: Project) -> None:
    once()
    lake = open_home(here.root).lake
    here.put_bytes("train.parquet", b"these are no columns")
    lake.delete("numbers", "main", "train.parquet")
    lake.commit("numbers", "main", "gone")
    add(here, 3)
    here.write({"evaluate.gates": [{"metric": "mae", "max": 1e-9}], "evaluate.slices": []})
    found = once()
    assert statuses(found) == ["failed", "error", "refused"]
    missing = next(notice.error for notice in found if isinstance(notice, Ended) and notice.error)
    assert isinstance(missing, NotFound)
    assert commits_run(once()) == []


def test_when_the_history_was_rewritten_only_the_head_is_run(here: Project) -> None:
    for seed in (3, 4):
        add(here, seed)
    once()
    lake = open_home(here.root).lake
    lake.hard_reset("numbers", "main", "main~2")  # type: ignore[attr-defined]
    last = [add(here, seed) for seed in (5, 6)][-1]
    found = once()
    assert [type(notice) for notice in found] == [Began, Rewritten, Arrived, Ended]
    assert commits_run(found) == [last]


def test_since_begins_earlier_and_only_the_first_time(here: Project) -> None:
    made = [add(here, seed) for seed in (3, 4)]
    assert commits_run(once(since="main~2")) == made
    assert commits_run(once(since="main~2")) == []


def test_only_what_was_merged_into_a_branch_counts_as_one(here: Project) -> None:
    once()
    lake = open_home(here.root).lake
    lake.create_branch("numbers", "topic", "main")
    for number in range(3):
        lake.put("numbers", "topic", "note", here.spec if number % 2 else here.root / "helper.py")
        lake.commit("numbers", "topic", f"{number}")
    merged = lake.merge("numbers", "topic", "main", Signed(message="m"))
    assert commits_run(once()) == [merged.id]


def test_a_branch_that_is_not_there_yet_is_waited_for(here: Project) -> None:
    here.write(
        {"data.train.uri": "lakefs://numbers/later/train.parquet", "data.test.uri": "lakefs://numbers/v1/test.parquet"}
    )
    lake = open_home(here.root).lake
    lake.create_tag("numbers", "v1", "main")
    first = once()
    assert [type(notice) for notice in first] == [Began, Trouble]
    head = lake.create_branch("numbers", "later", "main")
    assert commits_run(once()) == [head]


def test_each_branch_is_pinned_by_its_own_commits(here: Project) -> None:
    lake = open_home(here.root).lake
    lake.create_branch("numbers", "tests", "main")
    here.write({"data.test.uri": "lakefs://numbers/tests/test.parquet"})
    once()
    heads = (add(here, 3), lake.resolve("numbers", "tests"))
    (ended,) = [notice for notice in once() if isinstance(notice, Ended)]
    assert ended.prepared is not None
    pins = ended.prepared.resolved.answers.data
    assert (pins["train"].commit, pins["test"].commit) == heads


def test_steps_after_a_branch_are_taken_from_the_commit(here: Project) -> None:
    here.write({"data.test.uri": "lakefs://numbers/main~1/train.parquet"})
    before, made = add(here, 3), add(here, 4)
    (ended,) = [notice for notice in once() if isinstance(notice, Ended)]
    assert ended.prepared is not None
    pins = ended.prepared.resolved.answers.data
    assert (pins["train"].commit, pins["test"].commit) == (made, before)


def test_a_spec_that_reads_no_branch_cannot_be_watched(here: Project) -> None:
    head = open_home(here.root).lake.resolve("numbers", "main")
    here.write({f"data.{name}.uri": f"lakefs://numbers/{head}/{name}.parquet" for name in ("train", "test")})
    with pytest.raises(UsageError, match="reads no branch"):
        once()


@pytest.mark.slow
def test_several_specs_are_watched_at_once(here: Project) -> None:
    here.write(name="other.yaml", seed=8)
    once("spec.yaml", "other.yaml")
    made = add(here, 3)
    assert commits_run(once("spec.yaml", "other.yaml")) == [made, made]


class Stopped(Exception):
    """The test has seen enough."""


def stop(_: float) -> None:
    raise Stopped


def until_stopped(notices: Iterator[Notice]) -> list[Notice]:
    found = []
    try:
        for notice in notices:
            found.append(notice)
    except Stopped:
        return found
    raise AssertionError("it ended by itself")


class Flaky:
    """A lake behind a server that does not answer as long as ``down``."""

    def __init__(self, lake: Lake) -> None:
        self.lake = lake
        self.down = True

    def __getattr__(self, name: str) -> Any:
        if self.down:
            raise LakeUnavailable("the lake does not answer", place="http://127.0.0.1:1")
        return getattr(self.lake, name)


def test_a_server_that_does_not_answer_is_said_once_and_tried_again(
    here: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    once()
    made = add(here, 3)
    flaky = Flaky(open_home(here.root).lake)
    monkeypatch.setattr(watching, "open_home", lambda root: replace(open_home(root), lake=flaky))
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        flaky.down = len(slept) < 7
        if len(slept) == 8:
            raise Stopped

    found = until_stopped(watch(["spec.yaml"], carry_out, sleep=sleep))
    assert [type(notice) for notice in found] == [Trouble, Began, Arrived, Ended, Mended]
    assert commits_run(found) == [made]
    assert slept == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 1.0]


def test_a_local_lake_is_looked_at_often_and_a_server_ever_less() -> None:
    calm = {"moved": False, "troubled": False}
    assert [Pauses(local=True).next(**calm) for _ in range(3)] == [0.2] * 3
    server = Pauses(local=False)
    assert [server.next(**calm) for _ in range(7)] == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    assert server.next(moved=True, troubled=False) == 1.0
