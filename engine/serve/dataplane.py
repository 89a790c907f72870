"""The server without HTTP or gRPC: what is live and ready, what a model is, and what it answers.

Everything here happens in one event loop, but loading, which happens in a thread: a version becomes ready when it was
read, checked and asked once, and is then put in the old one's place in one assignment. Who was already waiting for the
old one is still answered by it.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.errors import EngineError, Failed, NotFound, suggestion
from engine.predictions.ids import prediction_ids
from engine.predictions.labels import FOLDER, Label, LabelLog
from engine.predictions.log import FLUSH_SECONDS, Made, Origin, PredictionLog, Redaction, recover
from engine.registry.model import ModelRef, ModelVersion
from engine.registry.protocol import Registry
from engine.serve.batching import Batch, Batcher, Done, Listener, Pending, Watchdog
from engine.serve.boundary import attempt, fault
from engine.serve.loading import LOAD_SECONDS, Loaded, Loading, load
from engine.serve.model import InferenceRequest, Rejected
from engine.serve.roster import read_roster, write_roster
from engine.serve.routing import SHADOW, Route, names_of, wanted
from engine.serve.settings import Settings
from engine.serve.stats import Cells
from engine.store.objects import ObjectStore

FOLLOW_SECONDS = 0.2
DRAIN_SECONDS = 30.0
RECOVER_SECONDS = 60.0
SAY_SECONDS = 60.0
SHADOW_QUEUE = 64
LOAD_AGAIN = (1.0, 60.0)
"""Seconds after which a version that could not be loaded is tried again: at first, and at most; each time twice."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """Where versions come from: the registry, their bytes, and how each is to be served."""

    registry: Registry
    store: ObjectStore
    settings_of: Callable[[ModelVersion], Settings]
    logs: Path
    log_key: bytes
    device: str = "cpu"


@dataclass(frozen=True, kw_only=True, slots=True)
class State:
    """A version as the repository index shows it."""

    name: str
    version: int | None
    state: str
    reason: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Trouble:
    """That a version could not be loaded: why, when to try again (monotonic seconds), and how long that was."""

    fact: str
    again: float
    waited: float


Key = tuple[str, int, str, Settings]
"""A version and how it is served: name, number, digest, settings."""


class DataPlane:
    """Models that are served in this process."""

    def __init__(self, refs: Sequence[ModelRef], source: Source, cells: Cells, threads: int) -> None:
        self.refs = {ref.name: ref for ref in refs}
        self.routes: dict[str, Route] = {}
        self.failures: dict[tuple[str, str], tuple[int | None, str]] = {}
        self.draining = False
        self._source = source
        self._cells = cells
        self._threads = threads
        self._roster = cells.folder / "roster.json"
        self._heard = b""
        self._loaded: dict[Key, Loaded] = {}
        self._loading: dict[Key, Loading] = {}
        self._troubles: dict[Key, Trouble] = {}
        self._batchers: dict[tuple[Key, bool], Batcher] = {}
        self._logs: dict[tuple[str, int, tuple[str, ...], str], PredictionLog] = {}
        self._labels: dict[str, LabelLog] = {}
        self._lines: dict[str, tuple[int, int]] = {}
        self._said = 0.0
        self._closed = threading.Event()
        self._wake = threading.Event()
        self._counting = threading.Lock()
        self._changing = threading.RLock()
        self._dog = Watchdog()
        self._listener = Listener(self._answered, self._refused, self._let_through)

    # -- starting and following -----------------------------------------------------------------------------------

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Load everything; from then on follow the aliases and write the log.

        Raises:
            EngineError: when a version that is to be served is not there or cannot be loaded.
        """
        self._loop = loop
        self._hear_roster()
        for ref in self.refs.values():
            self.routes[ref.name] = self._route(ref, strict=True)
        threading.Thread(target=self._follow, name="follow", daemon=True).start()
        threading.Thread(target=self._write_logs, name="log", daemon=True).start()

    def _route(self, ref: ModelRef, *, strict: bool = False) -> Route:
        """What a reference means now; versions that cannot be loaded leave the old ones in their place."""
        old = self.routes.get(ref.name)
        aliases: dict[str, Batcher] = {}
        main = next(iter(wanted(ref)))
        for alias, one in wanted(ref).items():
            version: ModelVersion | None = None
            try:
                version = self._source.registry.get(one) if alias == main else self._source.registry.find(one)
                if version is not None:
                    patience = LOAD_SECONDS if strict else 0.0
                    aliases[alias] = self._batcher(version, patience, behind=alias == SHADOW and alias != main)
                self.failures.pop((ref.name, alias), None)
            except EngineError as error:
                if strict and alias == main:
                    raise
                self.failures[ref.name, alias] = (version.version if version else None, error.fact)
                if old is not None and alias in old.aliases:
                    aliases[alias] = old.aliases[alias]
        versions = {one.loaded.version.version: one for one in reversed(aliases.values())}
        return Route(name=ref.name, main=main, aliases=aliases, versions=versions)

    def _batcher(self, version: ModelVersion, patience: float, *, behind: bool) -> Batcher:
        settings = self._source.settings_of(version)
        key = (version.name, version.version, version.digest, settings)
        found = self._batchers.get((key, behind))
        if found is None:
            loaded = self._load(key, version, patience)
            found = Batcher(loaded, self._loop, self._dog, self._listener, behind=behind)
            self._batchers[key, behind] = found
            self._log_of(loaded)
        return found

    def _load(self, key: Key, version: ModelVersion, patience: float) -> Loaded:
        """A version, loaded once, in a thread of its own; one that could not be is not tried again at once.

        Raises:
            EngineError: when it cannot be loaded, or is not yet after ``patience`` seconds.
        """
        if key in self._loaded:
            return self._loaded[key]
        trouble = self._troubles.get(key)
        loading = self._loading.get(key)
        if loading is None:
            if trouble is not None and time.monotonic() < trouble.again:
                raise Failed(trouble.fact)
            source = self._source
            loading = self._loading[key] = Loading(
                lambda: load(version, source.store, key[-1], self._threads, source.device), self._wake.set
            )
        try:
            found = loading.result(patience)
        except EngineError as error:
            if loading.is_over:
                wait = min(2 * trouble.waited, LOAD_AGAIN[1]) if trouble else LOAD_AGAIN[0]
                self._troubles[key] = Trouble(fact=error.fact, again=time.monotonic() + wait, waited=wait)
                del self._loading[key]
            raise
        if found is None:
            raise Failed("it is being loaded")
        self._troubles.pop(key, None)
        self._loaded[key] = found
        del self._loading[key]
        return found

    def _follow(self) -> None:
        """Look again and again. Whatever goes wrong, what is served is still served, and the next look comes."""
        said = ""
        while not self._closed.is_set():
            self._wake.wait(FOLLOW_SECONDS)
            self._wake.clear()
            text = attempt(self._look, named) or ""
            if text and text != said:
                say(f"the registry could not be followed: {text}")
            said = text

    def _look(self) -> None:
        """Follow the aliases and what other workers were told, once."""
        with self._changing:
            self._hear_roster()
            for ref in list(self.refs.values()):
                found = self._route(ref)
                if found != self.routes.get(ref.name):
                    self._loop.call_soon_threadsafe(self._put, found)
            self._forget()

    def _put(self, route: Route) -> None:
        if route.name in self.refs:
            self.routes[route.name] = route

    def _hear_roster(self) -> None:
        """Take over which models are served, where another worker was told to load or unload one."""
        found = read_roster(self._roster)
        if found is None or found == self._heard:
            return
        self._heard = found
        self.refs = {ref.name: ref for ref in map(ModelRef.parse, json.loads(found))}
        for name in [name for name in self.routes if name not in self.refs]:
            self.routes.pop(name, None)

    def _tell_roster(self) -> None:
        self._heard = write_roster(self._roster, [str(ref) for ref in self.refs.values()])

    def _forget(self) -> None:
        """Let go of versions that no route leads to any more, once nobody waits for them."""
        needed = {id(one) for route in list(self.routes.values()) for one in route.aliases.values()}
        for key, batcher in list(self._batchers.items()):
            if id(batcher) not in needed and batcher.is_idle and batcher.age > DRAIN_SECONDS:
                self._batchers.pop(key).close()
        kept = {key for key, _ in self._batchers}
        for old in [key for key in self._loaded if key not in kept]:
            del self._loaded[old]

    # -- answering ------------------------------------------------------------------------------------------------

    def infer(self, model: str, version: str, request: InferenceRequest, done: Done) -> None:
        """Have a request answered; ``done`` is called in the event loop.

        Raises:
            Rejected: when it is clear at once that there will be no prediction.
        """
        route = self.route(model)
        batcher, alias = route.choose(version, request.key)
        pending = batcher.submit(request, alias, done)
        shadow = route.shadow_of(batcher)
        if shadow is not None:
            self._ask_shadow(shadow, request, pending)

    def _ask_shadow(self, shadow: Batcher, request: InferenceRequest, pending: Pending) -> None:
        """Ask the shadow the same, unless it is behind already. Both predictions have one id."""
        if shadow.waiting >= SHADOW_QUEUE:
            self._cells.add("engine_shadow_dropped", shadow.loaded.name)
            return
        try:
            asked = shadow.submit(InferenceRequest(request.tensors), SHADOW, None)
        except Rejected:
            self._cells.add("engine_shadow_dropped", shadow.loaded.name)
        else:
            asked.prediction = pending.prediction = prediction_ids(1, time.time_ns())[0]

    def route(self, model: str) -> Route:
        """The route of a model.

        Raises:
            Rejected: when it is not served here.
        """
        found = self.routes.get(model)
        if found is None:
            raise Rejected(
                404,
                f'no model "{model[:80]}" here',
                hint=suggestion(model, names_of(self.routes.values())),
                kind="not-found",
            )
        return found

    def _answered(self, batch: Batch) -> None:
        now = time.monotonic()
        time_ns = time.time_ns()
        fresh = prediction_ids(len(batch.pending), time_ns)
        batch.predictions = [one.prediction or id for one, id in zip(batch.pending, fresh, strict=True)]
        loaded = batch.loaded
        name, version = loaded.name, str(loaded.version.version)
        latencies = [now - pending.since for pending in batch.pending]
        by_alias: dict[str, list[int]] = {}
        for index, pending in enumerate(batch.pending):
            by_alias.setdefault(pending.alias, []).append(index)
        rows = 0
        for alias, chosen in by_alias.items():
            count = sum(batch.pending[index].rows for index in chosen)
            rows += count
            self._cells.add("engine_requests", name, version, alias, amount=len(chosen))
            self._cells.add("engine_rows", name, version, alias, amount=count)
            self._cells.observe(("engine_request_seconds", name, version, alias), [latencies[i] for i in chosen])
        self._cells.observe(("engine_batch_rows", name, version), [rows])
        self._cells.observe(("engine_onnx_seconds", name, version), [batch.seconds])
        self._log(batch, latencies, time_ns)

    def _log(self, batch: Batch, latencies: list[float], time_ns: int) -> None:
        sample = batch.loaded.settings.sample
        if sample <= 0:
            return
        made = Made(
            predictions=batch.predictions,
            counts=[pending.rows for pending in batch.pending],
            aliases=[pending.alias for pending in batch.pending],
            latencies=[1000 * seconds for seconds in latencies],
            time_ns=time_ns,
            inputs=batch.columns.arrays,
            packs=batch.columns.layout.packs,
            outputs=batch.outputs,
        )
        if sample < 1:
            made = sampled(made, sample)
        if made.predictions:
            self._log_of(batch.loaded).append(made)

    def count_refused(self, model: str, why: Rejected) -> None:
        """Count a request that did not come as far as a model's queue. Names that are none are not told apart."""
        self._cells.add("engine_refused", model if model in self.routes else "", why.kind, str(why.status))

    def _refused(self, loaded: Loaded, why: Rejected) -> None:
        self._cells.add("engine_refused", loaded.name, why.kind, str(why.status))

    def _let_through(self, loaded: Loaded, kind: str, count: int) -> None:
        self._cells.add("engine_let_through", loaded.name, kind, amount=count)

    # -- the logs -------------------------------------------------------------------------------------------------

    def _log_of(self, loaded: Loaded) -> PredictionLog:
        settings = loaded.settings
        key = (loaded.name, loaded.version.version, settings.redact, settings.fsync)
        found = self._logs.get(key)
        if found is None:
            origin = Origin(model=loaded.name, version=key[1], run=loaded.run)
            redaction = redaction_of(settings, self._source.log_key)
            always = settings.fsync == "always"
            found = self._logs[key] = PredictionLog(self._source.logs / loaded.name, origin, redaction, always=always)
        return found

    def _write_logs(self) -> None:
        """Write again and again, and turn into Parquet what servers that are gone have left."""
        recovered = -RECOVER_SECONDS
        while not self._closed.wait(FLUSH_SECONDS):
            attempt(self.flush_logs, fault)
            for batcher in list(self._batchers.values()):
                version = str(batcher.loaded.version.version)
                self._cells.set("engine_queue", batcher.loaded.name, version, value=batcher.waiting)
            if time.monotonic() - recovered > RECOVER_SECONDS:
                recovered = time.monotonic()
                for name in list(self.refs):
                    attempt(lambda name=name: self._recover(name), named)  # type: ignore[misc]

    def _recover(self, name: str) -> None:
        """Close what was left of a model's logs; where there is no room, or a file is damaged, it stays as it is."""
        recover(self._source.logs / name)
        recover(self._source.logs / name / FOLDER)

    def flush_logs(self) -> None:
        """Write what has gathered, count it, and say at most once a minute when lines are lost."""
        for log in list(self._logs.values()):
            log.flush()
        for name in {key[0] for key in list(self._logs)}:
            self._count_lines(name)

    def _count_lines(self, name: str) -> None:
        logs = [log for key, log in list(self._logs.items()) if key[0] == name]
        counts = (sum(log.health.written for log in logs), sum(log.health.dropped for log in logs))
        before = self._lines.get(name, (0, 0))
        self._lines[name] = counts
        for outcome, old, new in zip(("written", "dropped"), before, counts, strict=True):
            if new > old:
                self._cells.add("engine_log_lines", name, outcome, amount=new - old)
        if counts[1] > before[1] and time.monotonic() - self._said > SAY_SECONDS:
            self._said = time.monotonic()
            reason = next(log.health.reason for log in reversed(logs) if log.health.reason)
            say(f"{counts[1]:,} lines of the prediction log of {name} were dropped until now: {reason}")

    def feedback(self, model: str, labels: Sequence[Label]) -> None:
        """Keep what turned out to be true of earlier predictions. In a thread, for it waits for the disk.

        Raises:
            Rejected: when the model is not served here, or the labels cannot be kept.
        """
        self.route(model)
        log = self._labels.setdefault(model, LabelLog(self._source.logs / model, model))
        try:
            log.append(labels, time.time_ns())
        except OSError as error:
            say(f"labels of {model} could not be kept: {error.strerror or error}")
            raise Rejected(503, "the labels could not be kept", hint="send them again later", kind="disk") from error
        with self._counting:
            self._cells.add("engine_labels", model, amount=len(labels))

    # -- what is here ---------------------------------------------------------------------------------------------

    def is_ready(self, model: str = "", version: str = "") -> bool:
        """Whether requests are answered: by everything that is served, or by one model or version."""
        if self.draining:
            return False
        if not model:
            return all(self.is_ready(name) for name in list(self.refs))
        try:
            batcher, _ = self.route(model).choose(version, "ready")
        except Rejected:
            return False
        return not batcher.is_stuck

    def metadata(self, model: str, version: str = "") -> dict[str, Any]:
        """A model's metadata as V2 has it, from its graph.

        Raises:
            Rejected: when it is not served here.
        """
        route = self.route(model)
        batcher, _ = route.named(version) if version else route.choose("", "metadata")
        loaded = batcher.loaded
        return {
            "name": loaded.name,
            "versions": [str(number) for number in sorted(route.versions)],
            "platform": "onnxruntime_onnx",
            "inputs": [shown(tensor) for tensor in loaded.session.inputs],
            "outputs": [shown(tensor) for tensor in loaded.session.outputs],
            "parameters": {
                "version": str(loaded.version.version),
                "run": loaded.run,
                "digest": f"sha256:{loaded.version.digest}",
                "packed": {name: [tensor.name for tensor in columns] for name, columns in loaded.inputs.packs.items()},
            },
        }

    def index(self) -> list[State]:
        """Every version that is here, and those that could not be loaded."""
        found = [
            State(name=route.name, version=number, state="READY")
            for route in self.routes.values()
            for number in sorted(route.versions)
        ]
        failed = [
            State(name=name, version=version, state="UNAVAILABLE", reason=reason)
            for (name, _), (version, reason) in list(self.failures.items())
        ]
        return found + failed

    # -- loading by request ---------------------------------------------------------------------------------------

    def load(self, model: str) -> None:
        """Serve a registered model (again); in a thread, for it may take long.

        Raises:
            Rejected: when it is not registered, or cannot be loaded.
        """
        with self._changing:
            try:
                ref = self.refs.get(model) or self._best(ModelRef.parse(model))
                self._troubles.clear()
                self._loading = {key: one for key, one in self._loading.items() if one.is_over}
                self.routes[ref.name] = self._route(ref, strict=True)
            except NotFound as error:
                raise Rejected(404, error.fact, hint=error.hint, kind="not-found") from error
            except EngineError as error:
                raise Rejected(400, error.fact, kind="load") from error
            self.refs[ref.name] = ref
            self._tell_roster()

    def _best(self, ref: ModelRef) -> ModelRef:
        """A bare name is its production version where there is one."""
        if ref.alias is None and ref.version is None:
            production = ModelRef(name=ref.name, alias="production")
            return production if self._source.registry.find(production) else ref
        return ref

    def unload(self, model: str) -> None:
        """Serve a model no more.

        Raises:
            Rejected: when it is not served.
        """
        self.route(model)
        with self._changing:
            self.refs.pop(model, None)
            self.routes.pop(model, None)
            self._tell_roster()

    # -- ending ---------------------------------------------------------------------------------------------------

    async def drain(self, seconds: float) -> None:
        """Wait until everybody has an answer, or for so long. From now on the server is not ready."""
        self.draining = True
        end = time.monotonic() + seconds
        while time.monotonic() < end and not all(one.is_idle or one.behind for one in list(self._batchers.values())):
            await asyncio.sleep(0.01)

    def close(self) -> None:
        """Write the logs to their end."""
        self._closed.set()
        self._dog.close()
        for batcher in list(self._batchers.values()):
            batcher.close()
        for log in self._logs.values():
            log.close()
        for labels in self._labels.values():
            labels.close()


def named(error: Exception) -> str:
    """An error in a line."""
    return f"{type(error).__name__}: {error}"


def say(text: str) -> None:
    """Tell the operator something, on standard error."""
    sys.stderr.write(f"engine serve: {text}\n")


def redaction_of(settings: Settings, key: bytes) -> Redaction:
    """``redact: [COLUMN]`` drops a column; ``hash:COLUMN`` keeps a keyed digest of it."""
    hashed = {name.removeprefix("hash:") for name in settings.redact if name.startswith("hash:")}
    return Redaction(dropped=frozenset(settings.redact) - hashed, hashed=frozenset(hashed), key=key)


def sampled(made: Made, share: float) -> Made:
    """Some of the requests of a call, each with the same chance."""
    chosen = [index for index in range(len(made.counts)) if random.random() < share]  # noqa: S311 - no secret
    starts = [sum(made.counts[:index]) for index in range(len(made.counts))]
    rows = [row for index in chosen for row in range(starts[index], starts[index] + made.counts[index])]
    return Made(
        predictions=[made.predictions[index] for index in chosen],
        counts=[made.counts[index] for index in chosen],
        aliases=[made.aliases[index] for index in chosen],
        latencies=[made.latencies[index] for index in chosen],
        time_ns=made.time_ns,
        inputs={name: array[rows] for name, array in made.inputs.items()},
        packs=made.packs,
        outputs={name: array[rows] for name, array in made.outputs.items()},
    )


def shown(tensor: Any) -> Mapping[str, Any]:
    """An input or output as V2's metadata has it."""
    return {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}
