"""Runs the hooks that a repository's ``_lakefs_actions/*.yaml`` name, as lakeFS does, and keeps what came of them.

::

    event --> the files at event.source --> the actions that it fires --> their hooks, in order --> a run, kept
                                                                             |
              a handler in this process, for a path on loopback  <-----------+----->  a POST to anywhere else

Actions go by the name of their file, the hooks of one by their order in it; the first that fails ends its action.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from engine.errors import EngineError, NotFound, UsageError
from engine.lake.events import Event
from engine.lake.protocol import HookRefused, Lake
from engine.lake.uri import REPOSITORY
from engine.store.objects import write_once

if TYPE_CHECKING:
    from engine.lake.actions import Action, Hook
    from engine.lake.webhook import Answer

VALIDATE = "/engine/hooks/validate"
FOLDER = "_lakefs_actions/"
ENDINGS = (".yaml", ".yml")
LARGEST_FILE = 1 << 16
SHOWN_CHARACTERS = 200
SHOWN_LINES = 40
DIGITS = "0123456789abcdefghijklmnopqrstuv"
LATEST_TIME = 1 << 56
THREADS = 4
RUN_ID = re.compile("[0-9a-v]{20}")

Handler = Callable[[Mapping[str, Any], Mapping[str, str]], tuple[int, str]]
"""Answers a hook in this process: (body, query) -> (status, text)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HookRun:
    """What came of one hook. One that did not run has no ``started``; ``output`` is its log, for a person."""

    id: str
    action: str
    hook: str
    started: str = ""
    ended: str = ""
    passed: bool = False
    output: str = ""

    def document(self) -> dict[str, str]:
        """As lakeFS' ``HookRun``."""
        return {
            "hook_run_id": self.id,
            "action": self.action,
            "hook_id": self.hook,
            "start_time": self.started or "0001-01-01T00:00:00Z",
            "end_time": self.ended or "0001-01-01T00:00:00Z",
            "status": "completed" if self.passed else "failed",
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class ActionRun:
    """What came of all the hooks of one event. ``id`` is the smaller the later the run."""

    id: str
    repository: str
    branch: str
    event: str
    source: str
    commit: str = ""
    started: str = ""
    ended: str = ""
    passed: bool = True
    hooks: tuple[HookRun, ...] = ()

    def document(self) -> dict[str, str]:
        """As lakeFS' ``ActionRun``."""
        return {
            "run_id": self.id,
            "branch": self.branch,
            "start_time": self.started,
            "end_time": self.ended,
            "event_type": self.event,
            "status": "completed" if self.passed else "failed",
            "commit_id": self.commit,
        }


class RefusedByHook(HookRefused):
    """A ``pre-`` hook said no; ``details`` are more of what it said."""

    def __init__(self, fact: str, *, place: str, hint: str, details: str = "") -> None:
        self.details = details
        super().__init__(fact, place=place, hint=hint)

    def document(self) -> dict[str, object]:
        """As for every error, and the details."""
        return {**super().document(), "details": self.details}


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """Why a hook's run, or the reading of a file, is no success."""

    fact: str
    hint: str = ""
    details: str = ""


@dataclass(kw_only=True, slots=True)
class Course:
    """The hooks of an event as they are run: what came of them so far, and the first failure."""

    event: Event
    runs: list[HookRun] = field(default_factory=list)
    failure: Failure | None = None
    place: str = ""

    def fail(self, failure: Failure, place: str) -> None:
        """Note a failure; the first one is what the user is told."""
        if self.failure is None:
            self.failure, self.place = failure, place


class Actions:
    """Runs actions and keeps what came of them, a file a run, below ``folder``. Nothing is read or made before.

    Args:
        handlers: answer webhooks in this process, by path, when their URL is on loopback: no server need run. They
            are not bound by a time limit.
        environment: where ``{{ ENV.LAKEFSACTION_X }}`` and ``ENGINE_HOOKS_ALLOW`` come from.
        background: do not wait for ``post-`` hooks, as a server should not.
    """

    def __init__(
        self,
        folder: Path,
        handlers: Mapping[str, Handler] | None = None,
        environment: Mapping[str, str] = os.environ,
        *,
        background: bool = False,
    ) -> None:
        self.folder = folder
        self.handlers = handlers or {}
        self.environment = environment
        self._pool = ThreadPoolExecutor(THREADS, "engine-hooks") if background else None
        self._asked: dict[tuple[int, str, str], str] = {}

    def before(self, lake: Lake, event: Event) -> None:
        """Run the hooks of a ``pre-`` event.

        Raises:
            HookRefused: when one says no, does not answer, or its file cannot be understood.
        """
        course = self._run(lake, event)
        if course is None:
            return
        run = self._keep(course)
        if course.failure is not None:
            failure = course.failure
            hint = failure.hint or "nothing was changed; mend what it names and try again"
            raise RefusedByHook(failure.fact, place=course.place, hint=hint, details=failure.details)
        self._asked[threading.get_ident(), event.repository, event.branch] = run.id

    def after(self, lake: Lake, event: Event) -> None:
        """Run the hooks of a ``post-`` event. What they answer changes nothing; what fails is noted, never raised."""
        asked = self._asked.pop((threading.get_ident(), event.repository, event.branch), "")
        if asked and event.kind == "post-commit":
            with suppress(EngineError):
                write_once(self._path(event.repository, asked, ".commit"), event.commit.encode())
        if self._pool is None:
            self._follow(lake, event)
        else:
            self._pool.submit(self._follow, lake, event)

    def close(self) -> None:
        """Wait for what runs in the background."""
        if self._pool is not None:
            self._pool.shutdown()

    def runs(
        self, repository: str, branch: str = "", commit: str = "", *, after: str = "", most: int | None = None
    ) -> list[ActionRun]:
        """What was run for a repository, the newest first; only of a branch or commit where one is given.

        Args:
            after: begin behind the run with this id.
            most: give no more than so many.
        """
        found = (self.run(repository, id) for id in self._ids(repository) if id > after)
        wanted = (run for run in found if branch in ("", run.branch) and commit in ("", run.commit))
        return list(islice(wanted, most))

    def run(self, repository: str, id: str) -> ActionRun:
        """One run.

        Raises:
            NotFound: when there is none of that id.
        """
        if not (REPOSITORY.fullmatch(repository) and RUN_ID.fullmatch(id)) or not self._path(repository, id).is_file():
            raise NotFound("run of hooks", id)
        document = json.loads(self._path(repository, id).read_bytes())
        run = ActionRun(**{**document, "hooks": tuple(HookRun(**hook) for hook in document["hooks"])})
        with suppress(FileNotFoundError):
            run = replace(run, commit=self._path(repository, id, ".commit").read_text())
        return run

    # -- below ----------------------------------------------------------------------------------------

    def _ids(self, repository: str) -> list[str]:
        """The runs of a repository, the newest first."""
        if not REPOSITORY.fullmatch(repository):
            return []
        try:
            names = os.listdir(self.folder / repository)
        except FileNotFoundError:
            return []
        return sorted(name.removesuffix(".json") for name in names if name.endswith(".json") and name[0] != ".")

    def _path(self, repository: str, id: str, ending: str = ".json") -> Path:
        return self.folder / repository / f"{id}{ending}"

    def _follow(self, lake: Lake, event: Event) -> None:
        with suppress(EngineError):  # a full disk, say: the commit is made, and there is nobody left to tell
            course = self._run(lake, event)
            if course is not None:
                self._keep(course)

    def _keep(self, course: Course) -> ActionRun:
        event = course.event
        times = [time for run in course.runs for time in (run.started, run.ended) if time] or [now()]
        run = ActionRun(
            id=new_id(),
            repository=event.repository,
            branch=event.branch,
            event=event.kind,
            source=event.source,
            commit=event.commit,
            started=min(times),
            ended=max(times),
            passed=course.failure is None,
            hooks=tuple(course.runs),
        )
        write_once(self._path(run.repository, run.id), json.dumps(asdict(run), ensure_ascii=False).encode())
        return run

    def _run(self, lake: Lake, event: Event) -> Course | None:
        """Run what an event fires; nothing where it fires nothing."""
        files = action_files(lake, event)
        if not files:
            return None
        course = Course(event=event)
        actions = read_actions(lake, event, files, course)
        if course.failure is None:
            fired = [action for action in actions if action.fires(event.kind, event.branch)]
            for number, action in enumerate(fired):
                self._run_action(action, number, course)
        return course if course.runs else None

    def _run_action(self, action: Action, number: int, course: Course) -> None:
        failed = False
        for index, hook in enumerate(action.hooks):
            run = HookRun(id=f"{number:04}_{index:04}", action=action.name, hook=hook.id)
            if hook.runs_after(failed):
                run, failure = self._run_hook(run, hook, course.event)
                if failure is not None:
                    failed = True
                    course.fail(failure, f"lakefs://{course.event.repository}/{course.event.branch}")
            course.runs.append(run)

    def _run_hook(self, run: HookRun, hook: Hook, event: Event) -> tuple[HookRun, Failure | None]:
        """Ask a hook, and say what it answered."""
        started, clock = now(), time.perf_counter()
        lines = request_lines(hook)
        body = body_of(event, run.action, hook.id)
        lines += ["Request Body:", json.dumps(body, ensure_ascii=False), ""]
        failure: Failure | None
        try:
            answer = self._ask(hook, body)
            failure = None if answer.is_yes else no(run, hook, answer)
            lines += ["Response:", f"status {answer.status}", answer.text]
        except EngineError as error:
            failure = Failure(fact=f"{called(run, hook)}: {error.fact}", hint=error.hint)
            lines.append(f"Error: {error.fact}")
        lines.insert(-1, f"Request duration: {time.perf_counter() - clock:.3f}s")
        output = clean("\n".join(lines), keep="\n\t")
        return replace(run, started=started, ended=now(), passed=failure is None, output=output), failure

    def _ask(self, hook: Hook, body: Mapping[str, Any]) -> Answer:
        """Have a hook answered, here or where its URL leads."""
        from engine.lake.actions import filled
        from engine.lake.webhook import Answer, allowed_hosts, post, target_of

        query = [(name, filled(value, self.environment)) for name, value in hook.query]
        headers = [(name, filled(value, self.environment)) for name, value in hook.headers]
        parts = urlsplit(hook.url)
        handler = self.handlers.get(parts.path)
        if handler is not None and target_of(hook.url).is_loopback:
            status, text = handler(body, dict([*parse_qsl(parts.query), *query]))
            return Answer(status=status, text=text)
        more = "&".join(text for text in (parts.query, urlencode(query)) if text)
        url = parts._replace(query=more, fragment="").geturl()
        data = json.dumps(body, ensure_ascii=False).encode()
        return post(url, data, headers, hook.seconds, allowed_hosts(self.environment))


def action_files(lake: Lake, event: Event) -> list[str]:
    """The paths of the action files that an event is judged by, sorted."""
    found = lake.list(event.repository, event.source, FOLDER, delimiter="/")
    return [entry.path for entry in found if not entry.is_prefix and entry.path.endswith(ENDINGS)]


def read_actions(lake: Lake, event: Event, paths: list[str], course: Course) -> list[Action]:
    """What the files say; one that cannot be understood is noted as a failure."""
    from engine.lake.actions import parse_action, wrong

    found: dict[str, Action] = {}
    for path in paths:
        try:
            with lake.open(event.repository, event.source, path) as stream:
                data = stream.read(LARGEST_FILE + 1)
            if len(data) > LARGEST_FILE:
                raise wrong("", f"is longer than {LARGEST_FILE} bytes")
            action = parse_action(data)
            if action.name in found:
                raise wrong("name", f'"{action.name}" is the name of an earlier action')
            found[action.name] = action
        except UsageError as error:
            key = f"{error.place}: " if error.place else ""
            fact = clean(f"cannot be used as an action file: {key}{error.fact}")
            course.fail(Failure(fact=fact, hint=error.hint), f"lakefs://{event.repository}/{event.source}/{path}")
            course.runs.append(HookRun(id=f"{len(course.runs):04}_0000", action=path, hook="", output=fact))
    return list(found.values())


def body_of(event: Event, action: str, hook: str) -> dict[str, Any]:
    """What a hook is sent: the keys of lakeFS, and none that is empty."""
    body = {
        "event_type": event.kind,
        "event_time": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "action_name": action,
        "hook_id": hook,
        "repository_id": event.repository,
        "branch_id": event.branch,
        "source_ref": event.source,
        "commit_id": event.commit,
        "commit_message": event.message,
        "committer": event.author,
        "commit_metadata": dict(event.metadata),
        "merge_source": event.merge_source,
    }
    return {key: value for key, value in body.items() if value}


def request_lines(hook: Hook) -> list[str]:
    """What a hook's log says of the request; nothing of what may be secret in it."""
    from engine.lake.actions import masked

    query = [f"{name}: {masked(value)}" for name, value in hook.query]
    headers = [f"{name}: {masked(value)}" for name, value in hook.headers]
    return ["Request:", f"POST {shown(hook.url)}", "Query Params:", *query, "Headers:", *headers]


def shown(url: str) -> str:
    """A URL without its query; of what is no URL nothing."""
    from engine.lake.webhook import without_query

    try:
        return clean(without_query(url))
    except UsageError:
        return ""


def no(run: HookRun, hook: Hook, answer: Answer) -> Failure:
    """A hook's answer as a failure, with the beginning of its text; with more of it when there is more."""
    said = clean(answer.text.strip().partition("\n\n")[0])[:SHOWN_CHARACTERS].strip()
    fact = f"{called(run, hook)} answered {answer.status}{': ' if said else ''}{said}"
    lines = clean(answer.text, keep="\n").splitlines()
    return Failure(fact=fact, details="\n".join(lines[:SHOWN_LINES]) if len(lines) > 1 else "")


def called(run: HookRun, hook: Hook) -> str:
    """How messages name a hook."""
    return f'the hook "{run.hook}" of the action "{run.action}" ({shown(hook.url)})'


def clean(text: str, keep: str = "") -> str:
    """``text`` with blanks for all that a terminal obeys."""
    return "".join(letter if letter.isprintable() or letter in keep else " " for letter in text)


def now() -> str:
    """This moment in UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def new_id() -> str:
    """The id of a run: 20 characters, smaller than those of all earlier runs."""
    number = (LATEST_TIME - time.time_ns() // 1000) << 40 | secrets.randbits(40)
    return "".join(in_digits(number))


def in_digits(number: int) -> Iterator[str]:
    """A number of 96 bits with 32 digits, in the order in which they are compared."""
    for shift in range(95, -1, -5):
        yield DIGITS[number >> shift & 31]
