"""Follow the prediction logs of models, judge every window once, and start what an alarm starts.

::

    new rows of a log --settled--> streams (version, alias) --cut--> windows --> verdicts --> alarms
                                                                                   |            |-> log, outbox
    labels --------------------------------------------> live figures -------------'            `-> retraining

Everything that a window leads to, and how far the log was followed, is written in one transaction: who is killed and
started again gives the same alarms, each once. Rows are judged in the order of their predictions, a moment after they
came, so that those of several workers fall into their order; one that comes later is taken into the next window.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from engine.digest import digest_of
from engine.errors import EngineError, UsageError, writing
from engine.monitor.alerts import Post, Sent, announce, deliver, secret_value
from engine.monitor.following import Follower
from engine.monitor.model import OUTPUTS, Damage, Figure, Raised, Stream, Window
from engine.monitor.reading import in_order, times_of
from engine.monitor.table import Change, Table
from engine.monitor.windows import Size, micros, moment_at, span_at
from engine.observe.check import alpha_of, families, window_of
from engine.observe.drift import Judgement, alarms_of, beside, figures_of, judged, online_alarm
from engine.observe.refresh import Refreshed, refresh
from engine.observe.streams import Files, Followed, Line, in_time, kept_state, restored
from engine.observe.subject import Observatory, Subject, Watch, inputs_of, subject_of
from engine.plugins import DriftVerdict, OnlineDetector, PluginFailed
from engine.registry.model import ModelRef
from engine.store.durable import held

PAUSE = 1.0
SETTLE = 2.0
"""Seconds after which a row that came is judged: those before it have come as well by then."""
QUIET = 60.0
"""Seconds without a row after which a window of time that is over is closed, though no later row has come."""
SHADOW = "shadow"
SECRETS = ("webhook", "signing_key")
WAITING = "waiting"
"""A retraining that waits for labels is tried again when something came."""
KEEP = 10.0
"""Seconds after which it is written down how far a log was followed, when there was nothing else to write."""
AT_ONCE = 64
"""Windows that are written together, where more are full."""
REFRESH = 60.0
"""Seconds at least between two computations of live figures."""


# -- what is said ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Began:
    """A model is watched from now on; ``resumed``: it was before."""

    model: str
    resumed: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class WindowJudged:
    """A window was judged."""

    judgement: Judgement


@dataclass(frozen=True, kw_only=True, slots=True)
class Alarmed:
    """There is an alarm; it is ``told`` unless another one said the same a short while ago.

    ``logged``: whether the spec wants it said.
    """

    raised: Raised
    told: bool
    logged: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class Computed:
    """Live figures were brought up to date."""

    model: str
    refreshed: Refreshed


@dataclass(frozen=True, kw_only=True, slots=True)
class Delivered:
    """A message was sent, or could not be."""

    model: str
    sent: Sent


@dataclass(frozen=True, kw_only=True, slots=True)
class Passed:
    """A file that could not be read was passed over."""

    model: str
    damage: Damage


@dataclass(frozen=True, kw_only=True, slots=True)
class Trouble:
    """A model cannot be watched for now, and why; it is tried again."""

    model: str
    error: EngineError


@dataclass(frozen=True, kw_only=True, slots=True)
class Retrained:
    """A retraining began, or is over; ``outcome`` is what came of it."""

    model: str
    alarm: str
    outcome: Mapping[str, Any]


Notice = Began | WindowJudged | Alarmed | Computed | Delivered | Passed | Trouble | Retrained
Retraining = Callable[[str, str], Callable[[], Mapping[str, Any] | None]]
"""Begins a retraining for an alarm: (model, alarm) -> what tells what came of it, and nothing while it goes on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Duty:
    """What a patrol works with.

    Attributes:
        table: where it is written.
        post: sends a message.
        retrain: begins a retraining; without it alarms only ask for one.
        environment: where the variables that a spec names are read.
        settle, quiet, refresh: seconds; see the constants of these names.
        clock: what time it is.
    """

    where: Observatory
    table: Table
    post: Post
    retrain: Retraining | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    settle: float = SETTLE
    quiet: float = QUIET
    refresh: float = REFRESH
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)


def patrol(
    names: Sequence[str], duty: Duty, *, once: bool = False, sleep: Callable[[float], None] = time.sleep
) -> Iterator[Notice]:
    """Watch models and say what happens.

    Args:
        once: end when all that is there was judged.

    Raises:
        ModelNotFound: when one of them is not registered.
        UsageError: when another process watches one of them.
    """
    with ExitStack() as stack:
        beats = [Beat(name, duty) for name in dict.fromkeys(names)]
        for beat in beats:
            stack.enter_context(beat.alone())
        for beat in beats:
            yield Began(model=beat.name, resumed=beat.resumed)
        while True:
            for beat in beats:
                yield from beat.look(once=once)
            if once:
                break
            sleep(PAUSE)
        while any(beat.running for beat in beats):
            sleep(PAUSE)
            for beat in beats:
                yield from beat.see_to_retrainings()


# -- one model -------------------------------------------------------------------------------------------------------


class Beat:
    """One model that is watched."""

    def __init__(self, name: str, duty: Duty) -> None:
        duty.where.registry.get(ModelRef(name=name))
        self.name = name
        self.duty = duty
        self.subjects: dict[int, tuple[object, Subject | None]] = {}
        self.streams: dict[tuple[int, str], Followed] = {}
        self.told: set[str] = set()
        self.trouble = ""
        self.kept = self.refreshed = float("-inf")
        self.changed = False
        self.hopeful = True
        self.running: dict[str, Callable[[], Mapping[str, Any] | None]] = {}
        self.follower = Follower(duty.where.logs / name)
        self.files = Files()
        self.resumed = False
        self.load()

    def load(self) -> None:
        """Go on where was written that this is."""
        state = self.duty.table.progress(self.name)
        self.resumed = state is not None
        logs = self.duty.where.logs / self.name
        self.follower, self.files = Follower(logs, taken=self.duty.table.followed(self.name)), Files()
        self.streams = restored(state, logs, self.files) if state is not None else {}
        self.changed = False

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the model, so that no other process watches it.

        Raises:
            UsageError: when one does.
        """
        path = self.duty.table.folder / f"{self.name}.lock"
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        with held(path, exclusive=True, wait=False) as is_ours:
            if not is_ours:
                hint = "one is enough; end the other first"
                raise UsageError("another process watches this model", place=self.name, hint=hint)
            yield

    def look(self, *, once: bool = False) -> Iterator[Notice]:
        """Judge what has come, send what is due, and see to retrainings."""
        try:
            yield from self.take_in()
            for followed in self.streams.values():
                yield from self.settle(followed, everything=once)
            if self.changed and (once or time.monotonic() - self.kept > KEEP):
                self.write(lambda _: None)
            yield from self.compute(once=once)
            yield from self.send()
            yield from self.see_to_retrainings()
            self.trouble = ""
        except EngineError as error:
            self.load()  # what was judged, and could not be written, is judged again
            if str(error) != self.trouble:
                self.trouble = str(error)
                yield Trouble(model=self.name, error=error)

    # -- rows -----------------------------------------------------------------------------------------------------

    def take_in(self) -> Iterator[Notice]:
        """Hear of new rows."""
        now = time.monotonic()
        for arrival in self.follower.look():
            self.changed = True
            key = arrival.version, arrival.alias
            followed = self.streams.setdefault(key, Followed(version=arrival.version, alias=arrival.alias))
            followed.waiting.append((now, self.files.placed(arrival.file, arrival.first, arrival.rows)))
            followed.heard = now
        for stem, damage in self.follower.damaged.items():
            if stem not in self.told:
                self.told.add(stem)
                yield Passed(model=self.name, damage=damage)

    def settle(self, followed: Followed, *, everything: bool) -> Iterator[Notice]:
        """Put the rows that came long enough ago into their order, and judge the windows that are full or over."""
        subject = self.subject(followed.version)
        if subject is None:
            followed.waiting = []
            return
        ripe = followed.ripe(float("inf") if everything else time.monotonic() - self.duty.settle)
        if ripe:
            arrived = in_time(ripe)
            for size in families(subject):
                followed.line(size).add(arrived)
            moved = list(self.look_at_each(followed, subject, arrived))
            if moved:  # written when every line and every detector has the rows
                yield from self.enter(subject, [], moved)
        for size, watches in families(subject).items():
            line = followed.line(size)
            while found := list(islice(self.windows(followed, line, subject, watches, everything=everything), AT_ONCE)):
                yield from self.enter(subject, *together(found))
                yield from (WindowJudged(judgement=judgement) for judgement in found)

    def windows(
        self, followed: Followed, line: Line, subject: Subject, watches: Sequence[Watch], *, everything: bool
    ) -> Iterator[Judgement]:
        """Judge the windows of a line that are complete, one after the other."""
        while (window := self.full(line, followed, everything=everything)) is not None:
            yield self.judge(followed, line, subject, watches, *window)

    def full(self, line: Line, followed: Followed, *, everything: bool) -> tuple[Window, pa.Table] | None:
        """The next window, if it is complete."""
        rows = line.rows
        if rows.num_rows == 0:
            return None
        if line.size.rows is not None:
            if rows.num_rows < line.size.rows:
                return None
            part = line.first(line.size.rows)
            window = window_of(part, line.size, line.late)
            return (window, part) if window is not None else None
        times = times_of(rows)
        first = max(int(times[0]), line.closed or int(times[0]))
        start, end = span_at(line.size, moment_at(first))
        count = int((times < micros(end)).sum())
        later = count < rows.num_rows
        quiet = everything or time.monotonic() - followed.heard > self.duty.quiet
        if count == 0:
            start, end = span_at(line.size, moment_at(int(times[0])))
            count = int((times < micros(end)).sum())
            later = count < rows.num_rows
        if not later and not (quiet and self.duty.clock() >= end):
            return None
        return Window(size=str(line.size), start=start, end=end, rows=count, late=line.late), rows.slice(0, count)

    def judge(
        self, followed: Followed, line: Line, subject: Subject, watches: Sequence[Watch], window: Window, rows: pa.Table
    ) -> Judgement:
        """Judge a window, which is no part of its line any more."""
        elapsed = None if line.last is None else (int(times_of(rows)[-1]) - line.last) / 1e6
        stream = Stream(model=self.name, version=followed.version, alias=followed.alias)
        asked = [
            watch for watch in watches if not watch.is_online and (followed.alias != SHADOW or watch.name == OUTPUTS)
        ]
        found = judged(subject, asked, stream, window, rows, alpha_of(subject, line.size, elapsed))
        line.close(rows, None if line.size.rows is not None else micros(window.end))
        return found

    def look_at_each(self, followed: Followed, subject: Subject, rows: pa.Table) -> Iterator[Raised]:
        """Show rows to the detectors that look at each of them; their alarms."""
        if followed.alias == SHADOW or not any(watch.is_online for watch in subject.watches):
            return
        rows = in_order([rows])
        for watch in subject.watches:
            if not isinstance(watch.fitted, OnlineDetector):
                continue
            name = f"{watch.name} {watch.kept}"
            before = followed.online.get(name) or watch.fitted.begin()
            try:
                after, verdict = watch.fitted.update(before, inputs_of(rows))
            except PluginFailed:
                continue  # a column that is not logged; `engine monitor check` says so
            followed.online[name] = dict(after)
            if verdict.drift:
                yield self.online_raised(followed, watch, rows, verdict)

    def online_raised(self, followed: Followed, watch: Watch, rows: pa.Table, verdict: DriftVerdict) -> Raised:
        """An alarm of a detector that looks at each row; its name is the row at which it came."""
        window = window_of(rows, Size(rows=rows.num_rows))
        assert window is not None
        stream = Stream(model=self.name, version=followed.version, alias=followed.alias)
        shown = beside([watch], list(verdict.drifted), inputs_of(rows), None)
        found = Judgement(stream=stream, window=window, distributions=shown)
        at = list(verdict.at[:1])
        raised = online_alarm(found, watch.name, verdict)
        return replace(raised, id=digest_of([asdict(stream), "online", watch.name, at])[:32])

    # -- writing --------------------------------------------------------------------------------------------------

    def enter(self, subject: Subject, figures: list[Figure], alarms: list[Raised]) -> Iterator[Notice]:
        """Write figures and alarms, with what alarms start, and how far the log was followed, as one."""
        now = self.duty.clock()
        told: dict[str, bool] = {}

        def put(change: Change) -> None:
            change.put(figures, subject.origin, now)
            for raised in alarms:
                if not change.knows_alarm(raised.id):
                    told[raised.id] = announce(
                        change, raised, subject.origin, subject.on_alert, now, self.duty.environment
                    )

        self.write(put)
        for raised in alarms:
            if raised.id in told:
                yield Alarmed(raised=raised, told=told[raised.id], logged=is_logged(subject))

    def write(self, put: Callable[[Change], None]) -> None:
        """Write something and how far the log was followed, as one."""
        with self.duty.table.change() as change:
            put(change)
            grown = {file: self.follower.taken[file] for file in self.follower.grown}
            change.keep(self.name, kept_state(self.streams, self.files), grown)
        self.follower.grown.clear()
        self.changed, self.kept = False, time.monotonic()

    # -- live figures, messages, retrainings --------------------------------------------------------------------------

    def compute(self, *, once: bool) -> Iterator[Notice]:
        """Bring live figures up to date, when labels or rows came."""
        if not once and time.monotonic() - self.refreshed < self.duty.refresh:
            return
        now = self.duty.clock()
        found: list[Alarmed] = []

        def enter(change: Change, raised: Raised, subject: Subject) -> None:
            if not change.knows_alarm(raised.id):
                told = announce(change, raised, subject.origin, subject.on_alert, now, self.duty.environment)
                found.append(Alarmed(raised=raised, told=told, logged=is_logged(subject)))

        done = refresh(self.name, self.duty.where, self.duty.table, now, enter=enter)
        self.refreshed = time.monotonic()
        self.hopeful = self.hopeful or done.changed
        yield from found
        if done.changed:
            yield Computed(model=self.name, refreshed=done)

    def send(self) -> Iterator[Notice]:
        """Send what is due."""

        def address(version: int) -> tuple[str, str]:
            subject = self.subject(version)
            wishes = subject.on_alert if subject is not None else {}
            webhook, key = (secret_value(wishes.get(name), self.duty.environment) for name in SECRETS)
            return webhook, key

        for sent in deliver(self.duty.table, self.name, self.duty.post, address, self.duty.clock()):
            yield Delivered(model=self.name, sent=sent)

    def see_to_retrainings(self) -> Iterator[Notice]:
        """Begin what is wanted, one at a time, and hear of what is over."""
        for alarm, ask in list(self.running.items()):
            outcome = ask()
            if outcome is not None:
                del self.running[alarm]
                yield Retrained(model=self.name, alarm=alarm, outcome=outcome)
        if self.duty.retrain is None or self.running:
            return
        ready = ("wanted", "begun", WAITING) if self.hopeful else ("wanted", "begun")
        for item in self.duty.table.retrained(self.name):
            if item["outcome"]["status"] in ready:  # what is begun, and not by us, was interrupted
                self.hopeful = self.hopeful and item["outcome"]["status"] != WAITING
                self.running[item["alarm"]] = self.duty.retrain(self.name, item["alarm"])
                yield Retrained(model=self.name, alarm=item["alarm"], outcome={"status": "begun"})
                return

    # -- versions -------------------------------------------------------------------------------------------------

    def subject(self, version: int) -> Subject | None:
        """What is known of a version; nothing of one that is gone or has no detectors. It follows the operation."""
        where = self.duty.where
        runs = where.registry.find(ModelRef(name=self.name, version=version))
        if runs is None:
            return None
        mark = (runs.runs, tuple(where.records.operation_digest(run) for run in runs.runs))
        known = self.subjects.get(version)
        if known is None or known[0] != mark:
            found = subject_of(runs, where)
            known = self.subjects[version] = (mark, found)
        return known[1]


def together(found: Sequence[Judgement]) -> tuple[list[Figure], list[Raised]]:
    """The figures and the alarms of windows."""
    return [item for one in found for item in figures_of(one)], [item for one in found for item in alarms_of(one)]


def is_logged(subject: Subject) -> bool:
    """Whether the spec wants alarms said."""
    return bool(subject.on_alert.get("log", True))


def names_in(logs: Path) -> list[str]:
    """The models that have a prediction log."""
    try:
        return sorted(entry.name for entry in os.scandir(logs) if entry.is_dir())
    except FileNotFoundError:
        return []
