"""Requests that arrive in one turn of the event loop -> one call of the model.

::

    turn of the loop:  submit  submit  submit | flush: checks -> one call -> an answer each

Nothing waits for a timer: who comes alone is answered alone. While the model is busy the next batch gathers, up to
``max_batch_rows``. A model whose full batch takes long, or may take long for what is in a row, is called in a thread,
so that health answers stay alive. So is a shadow, which waits a little first: answers go before it.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from queue import SimpleQueue

from engine.errors import EngineError
from engine.serve.columns import Columns, joined
from engine.serve.loading import Loaded
from engine.serve.model import AnyArray, InferenceAnswer, InferenceRequest, Rejected
from engine.serve.onnx import Call

Done = Callable[[InferenceAnswer | Rejected], None]
TICK = 0.05
SLOW_SECONDS = 0.05
QUICK_CALLS = 20
SHADOW_SECONDS = 0.005
STUCK_DEADLINES = 5


@dataclass(slots=True)
class Pending:
    """A request that waits. Times are of ``time.monotonic``, in seconds; ``alias`` is what led to this version.

    Nobody waits for the answer to a shadow's request: it has no ``done``, and the id of the prediction that was the
    answer, so that both are found together. ``form`` is the shape of a row where it may differ from request to request.
    """

    request: InferenceRequest
    columns: Columns
    rows: int
    alias: str
    since: float
    deadline: float
    done: Done | None
    prediction: str = ""
    form: tuple[tuple[int, ...], ...] = ()
    answered: bool = False


@dataclass(slots=True)
class Batch:
    """What was asked in one call and what came of it; ``seconds`` is the call's own time."""

    loaded: Loaded
    pending: list[Pending]
    columns: Columns
    outputs: dict[str, AnyArray] = field(default_factory=dict)
    predictions: list[str] = field(default_factory=list)
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Listener:
    """Who hears of what happened: of batches that were answered, of refusals by kind, of kinds let through."""

    answered: Callable[[Batch], None]
    refused: Callable[[Loaded, Rejected], None]
    passed: Callable[[Loaded, str, int], None]


class Watchdog:
    """A thread that ends calls which take longer than they may."""

    def __init__(self) -> None:
        self._calls: dict[int, tuple[float, Call]] = {}
        self._closed = threading.Event()
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def begin(self, call: Call, end: float) -> None:
        """Watch over a call until ``end`` (monotonic seconds)."""
        self._calls[id(call)] = (end, call)

    def finish(self, call: Call) -> None:
        """The call is over."""
        self._calls.pop(id(call), None)

    def close(self) -> None:
        """Watch no more."""
        self._closed.set()

    def _watch(self) -> None:
        while not self._closed.wait(TICK):
            now = time.monotonic()
            for end, call in list(self._calls.values()):
                if now > end:
                    call.end()


class Hand:
    """A thread of its own for calls that take long. A call that never ends does not keep the process from ending."""

    def __init__(self) -> None:
        self._works: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._started = False

    def do(self, work: Callable[[], None]) -> None:
        """Do something after what was given before."""
        if not self._started:
            self._started = True
            threading.Thread(target=self._work, name="model", daemon=True).start()
        self._works.put(work)

    def close(self) -> None:
        """End once everything is done."""
        self._works.put(None)

    def _work(self) -> None:
        while (work := self._works.get()) is not None:
            work()


class Batcher:
    """The queue before one loaded version. Everything but the call itself happens in the event loop.

    ``behind``: it serves a shadow, for whose answers nobody waits.
    """

    def __init__(
        self, loaded: Loaded, loop: asyncio.AbstractEventLoop, dog: Watchdog, heard: Listener, *, behind: bool = False
    ) -> None:
        self.loaded = loaded
        self.behind = behind
        self._loop = loop
        self._hand = Hand()
        self._dog = dog
        self._heard = heard
        self._queue: deque[Pending] = deque()
        self._flushing = False
        self._busy = False
        self._in_thread = behind or not loaded.is_fast
        self._quick, self._needed = 0, QUICK_CALLS
        self._since = self._called = time.monotonic()

    @property
    def waiting(self) -> int:
        """How many requests wait."""
        return len(self._queue)

    @property
    def age(self) -> float:
        """Seconds since it last took a request, or was made."""
        return time.monotonic() - self._since

    @property
    def is_idle(self) -> bool:
        """Whether nobody waits for an answer."""
        return not self._queue and not self._busy

    @property
    def is_stuck(self) -> bool:
        """Whether a call goes on for several times as long as anybody waits, and could not be ended."""
        limit = STUCK_DEADLINES * self.loaded.settings.deadline
        return self._busy and time.monotonic() - self._called > limit

    def close(self) -> None:
        """Take nothing more."""
        self._hand.close()

    def submit(self, request: InferenceRequest, alias: str, done: Done | None) -> Pending:
        """Take a request; ``done`` is called with its answer, in the event loop.

        Raises:
            Rejected: when the request does not fit the model, or too many wait.
        """
        loaded = self.loaded
        if len(self._queue) >= loaded.settings.max_queue:
            raise Rejected(503, f"{loaded.name}: too many requests wait", hint="try again in a second", kind="queue")
        columns, rows = loaded.inputs.arrays(request.tensors)
        unknown = [name for name in request.outputs if name not in loaded.datatypes]
        if unknown:
            known = ", ".join(loaded.datatypes)
            raise Rejected(400, f'the model has no output "{unknown[0]}"', hint=f"it has {known}")
        now = time.monotonic()
        limit = loaded.settings.deadline
        if request.timeout:
            limit = min(limit, request.timeout)
        self._since = now
        pending = Pending(request, columns, rows, alias, now, now + limit, done)
        if loaded.inputs.varies:
            pending.form = tuple(array.shape[1:] for array in columns.arrays.values())
        self._queue.append(pending)
        if self._in_thread and done is not None:
            self._loop.call_at(self._loop.time() + limit, self._give_up, pending)
        self._go_on()
        return pending

    def _flush(self) -> None:
        self._flushing = False
        batch = self._next()
        if batch is None:
            self._go_on()
            return
        if self._in_thread:
            self._busy = True
            self._called = time.monotonic()
            self._hand.do(lambda: self._tell(self._call(batch)))
        else:
            found = self._call(batch)
            self._learn(found)
            self._finish(found)
            self._go_on()

    def _tell(self, found: list[tuple[Batch, Rejected | None]]) -> None:
        """Hand what a thread has found to the event loop, if there still is one."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._after, found)

    def _after(self, found: list[tuple[Batch, Rejected | None]]) -> None:
        self._busy = False
        self._learn(found)
        self._finish(found)
        self._go_on()

    def _learn(self, found: list[tuple[Batch, Rejected | None]]) -> None:
        """Call a model that was slow in a thread, until it was quick often enough, each time twice as often.

        A quick model is slow now and then on a busy machine; handing each of its calls to a thread costs more than
        the call.
        """
        seconds = sum(one.seconds for one, _ in found)
        if seconds > SLOW_SECONDS:
            self._needed = self._needed if self._in_thread else 2 * self._needed
            self._in_thread, self._quick = True, 0
        elif self._in_thread and self.loaded.is_fast and not self.behind:
            self._quick += 1
            self._in_thread = self._quick < self._needed

    def _go_on(self) -> None:
        if self._queue and not self._flushing and not self._busy:
            self._flushing = True
            if self.behind:
                self._loop.call_later(SHADOW_SECONDS, self._flush)
            else:
                self._loop.call_soon(self._flush)

    def _next(self) -> Batch | None:
        """The requests of the next call, without those that are too late or that no call can help."""
        queue, most = self._queue, self.loaded.settings.max_batch_rows
        chosen: list[Pending] = []
        rows, now = 0, time.monotonic()
        while queue and (not chosen or rows + queue[0].rows <= most):
            if chosen and queue[0].form != chosen[0].form:
                break
            pending = queue.popleft()
            if pending.answered:
                continue
            if now > pending.deadline:
                self._refuse(pending, late(self.loaded))
                continue
            chosen.append(pending)
            rows += pending.rows
        if not chosen:
            return None
        return self._checked(Batch(self.loaded, chosen, joined([one.columns for one in chosen])))

    def _checked(self, batch: Batch) -> Batch | None:
        """The batch without requests that have a bad row."""
        refused, passed = self.loaded.checks.wrong(batch.columns)
        for kind, count in passed.items():
            self._heard.passed(self.loaded, kind, count)
        if not refused:
            return batch
        start, good = 0, []
        for pending in batch.pending:
            row = next((row for row in range(start, start + pending.rows) if row in refused), None)
            if row is None:
                good.append(pending)
            else:
                where = f"row {row - start}, " if pending.rows > 1 else ""
                self._refuse(pending, Rejected(400, f"{where}{refused[row]}", kind=refused[row].kind))
            start += pending.rows
        return Batch(self.loaded, good, joined([one.columns for one in good])) if good else None

    def _call(self, batch: Batch) -> list[tuple[Batch, Rejected | None]]:
        """Ask the model. When it fails for several requests at once each is asked alone, so that one fails alone."""
        failure = self._ask(batch)
        if failure is None or len(batch.pending) == 1 or failure.kind == "deadline":
            return [(batch, failure)]
        alone = [Batch(self.loaded, [pending], pending.columns) for pending in batch.pending]
        return [(one, self._ask(one)) for one in alone]

    def _ask(self, batch: Batch) -> Rejected | None:
        call = Call()
        started = time.perf_counter()
        self._dog.begin(call, max(pending.deadline for pending in batch.pending))
        try:
            batch.outputs = self.loaded.session.run(batch.columns, call)
        except EngineError as error:
            if time.monotonic() > min(pending.deadline for pending in batch.pending):
                return late(self.loaded)
            return Rejected(400, f"{self.loaded.name}: {error.fact}", kind="model")
        except MemoryError:
            return Rejected(503, f"{self.loaded.name}: there is no memory for so many rows", kind="memory")
        finally:
            self._dog.finish(call)
            batch.seconds = time.perf_counter() - started
        return None

    def _finish(self, found: list[tuple[Batch, Rejected | None]]) -> None:
        """Give everybody an answer."""
        for batch, failure in found:
            if failure is None:
                self._heard.answered(batch)
                self._answer(batch)
            else:
                for pending in batch.pending:
                    self._refuse(pending, failure)

    def _answer(self, batch: Batch) -> None:
        loaded, start = self.loaded, 0
        alone = len(batch.pending) == 1
        for pending, prediction in zip(batch.pending, batch.predictions, strict=True):
            end = start + pending.rows
            if pending.done is not None and not pending.answered:
                pending.answered = True
                names = pending.request.outputs or batch.outputs
                outputs = {name: batch.outputs[name] if alone else batch.outputs[name][start:end] for name in names}
                pending.done(
                    InferenceAnswer(
                        loaded.name,
                        loaded.version.version,
                        loaded.run,
                        pending.alias,
                        prediction,
                        outputs,
                        loaded.datatypes,
                    )
                )
            start = end

    def _refuse(self, pending: Pending, why: Rejected) -> None:
        if pending.answered:
            return
        pending.answered = True
        self._heard.refused(self.loaded, why)
        if pending.done is not None:
            pending.done(why)

    def _give_up(self, pending: Pending) -> None:
        """Answer a request whose time is over while a slow model is still busy."""
        self._refuse(pending, late(self.loaded))


def late(loaded: Loaded) -> Rejected:
    """The answer to a request whose time is over."""
    limit = loaded.settings.deadline
    return Rejected(
        504, f"{loaded.name}: no answer within {limit:g} s", hint="send fewer rows at once", kind="deadline"
    )
