"""The server without HTTP or gRPC: what is live and ready, what a model is, and what it answers.

Everything here happens in one event loop, but loading, which happens in a thread: a version becomes ready when it was
read, checked and asked once, and is then put in the old one's place in one assignment. Who was already waiting for the
old one is still answered by it.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from engine.errors import EngineError, NotFound, suggestion
from engine.predictions.ids import prediction_ids
from engine.predictions.log import FLUSH_SECONDS, Made, Origin, PredictionLog, Redaction
from engine.registry.model import ModelRef, ModelVersion
from engine.registry.protocol import Registry
from engine.serve.batching import Batch, Batcher, Done, Listener, Watchdog
from engine.serve.loading import Loaded, load
from engine.serve.model import InferenceRequest, Rejected
from engine.serve.routing import Route, names_of, wanted
from engine.serve.settings import Settings
from engine.serve.stats import Cells
from engine.store.objects import ObjectStore

FOLLOW_SECONDS = 0.2
DRAIN_SECONDS = 30.0
SHADOW_QUEUE = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """Where versions come from: the registry, their bytes, and how each is to be served."""

    registry: Registry
    store: ObjectStore
    settings_of: Callable[[ModelVersion], Settings]
    logs: Path
    log_key: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class State:
    """A version as the repository index shows it."""

    name: str
    version: int | None
    state: str
    reason: str = ""


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
        self._batchers: dict[tuple[str, str, Settings], Batcher] = {}
        self._logs: dict[tuple[str, int], PredictionLog] = {}
        self._closed = threading.Event()
        self._changing = threading.Lock()
        self._pool = ThreadPoolExecutor(8, thread_name_prefix="model")
        self._dog = Watchdog()
        self._listener = Listener(self._answered, self._refused, self._let_through)

    # -- starting and following -----------------------------------------------------------------------------------

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Load everything; from then on follow the aliases and write the log.

        Raises:
            EngineError: when a version that is to be served is not there or cannot be loaded.
        """
        self._loop = loop
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
            try:
                version = self._source.registry.get(one) if alias == main else self._source.registry.find(one)
                if version is not None:
                    aliases[alias] = self._batcher(version)
                self.failures.pop((ref.name, alias), None)
            except EngineError as error:
                if strict and alias == main:
                    raise
                self.failures[ref.name, alias] = (None, error.fact)
                if old is not None and alias in old.aliases:
                    aliases[alias] = old.aliases[alias]
        versions = {batcher.loaded.version.version: batcher for batcher in aliases.values()}
        return Route(name=ref.name, main=main, aliases=aliases, versions=versions)

    def _batcher(self, version: ModelVersion) -> Batcher:
        settings = self._source.settings_of(version)
        key = (version.name, version.digest, settings)
        found = self._batchers.get(key)
        if found is None:
            loaded = load(version, self._source.store, settings, self._threads)
            found = self._batchers[key] = Batcher(loaded, self._loop, self._pool, self._dog, self._listener)
            self._log_of(loaded)
        return found

    def _follow(self) -> None:
        while not self._closed.wait(FOLLOW_SECONDS):
            with self._changing:
                for ref in list(self.refs.values()):
                    found = self._route(ref)
                    if found != self.routes.get(ref.name):
                        self._loop.call_soon_threadsafe(self._put, found)
                self._forget()

    def _put(self, route: Route) -> None:
        if route.name in self.refs:
            self.routes[route.name] = route

    def _forget(self) -> None:
        """Let go of versions that no route leads to any more, once nobody waits for them."""
        needed = {id(one) for route in list(self.routes.values()) for one in route.aliases.values()}
        for key, batcher in list(self._batchers.items()):
            if id(batcher) not in needed and batcher.is_idle and batcher.age > DRAIN_SECONDS:
                del self._batchers[key]

    # -- answering ------------------------------------------------------------------------------------------------

    def infer(self, model: str, version: str, request: InferenceRequest, done: Done) -> None:
        """Have a request answered; ``done`` is called in the event loop.

        Raises:
            Rejected: when it is clear at once that there will be no prediction.
        """
        route = self.route(model)
        if self.draining:
            raise Rejected(503, "the server is shutting down", kind="draining")
        batcher, alias = route.choose(version, request.key)
        batcher.submit(request, alias, done)
        shadow = route.shadow_of(batcher)
        if shadow is not None:
            self._ask_shadow(shadow, request)

    def _ask_shadow(self, shadow: Batcher, request: InferenceRequest) -> None:
        if shadow.waiting >= SHADOW_QUEUE:
            self._cells.add("engine_shadow_dropped", shadow.loaded.name)
            return
        try:
            shadow.submit(replace(request, outputs=()), "shadow", None)
        except Rejected:
            self._cells.add("engine_shadow_dropped", shadow.loaded.name)

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
        batch.predictions = prediction_ids(len(batch.pending), time_ns)
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
            inputs=batch.columns,
            outputs=batch.outputs,
        )
        if sample < 1:
            made = sampled(made, sample)
        if made.predictions:
            self._log_of(batch.loaded).append(made)

    def _refused(self, loaded: Loaded, why: Rejected) -> None:
        self._cells.add("engine_refused", loaded.name, why.kind, str(why.status))

    def _let_through(self, loaded: Loaded, kind: str, count: int) -> None:
        self._cells.add("engine_let_through", loaded.name, kind, amount=count)

    # -- the log --------------------------------------------------------------------------------------------------

    def _log_of(self, loaded: Loaded) -> PredictionLog:
        key = (loaded.name, loaded.version.version)
        found = self._logs.get(key)
        if found is None:
            origin = Origin(model=loaded.name, version=key[1], run=loaded.run)
            redaction = redaction_of(loaded.settings, self._source.log_key)
            always = loaded.settings.fsync == "always"
            found = self._logs[key] = PredictionLog(self._source.logs / loaded.name, origin, redaction, always=always)
        return found

    def _write_logs(self) -> None:
        while not self._closed.wait(FLUSH_SECONDS):
            self.flush_logs()

    def flush_logs(self) -> None:
        """Write what has gathered, and count it."""
        for (name, _), log in list(self._logs.items()):
            log.flush()
            self._cells.set("engine_log_lines", name, "written", value=log.health.written)
            self._cells.set("engine_log_lines", name, "dropped", value=log.health.dropped)

    # -- what is here ---------------------------------------------------------------------------------------------

    def is_ready(self, model: str = "", version: str = "") -> bool:
        """Whether requests are answered: by everything that is served, or by one model or version."""
        if self.draining:
            return False
        if not model:
            return all(route.main in route.aliases for route in self.routes.values()) and len(self.routes) == len(
                self.refs
            )
        try:
            self.route(model).choose(version, "ready")
        except Rejected:
            return False
        return True

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
                self.routes[ref.name] = self._route(ref, strict=True)
            except NotFound as error:
                raise Rejected(404, error.fact, hint=error.hint, kind="not-found") from error
            except EngineError as error:
                raise Rejected(400, error.fact, kind="load") from error
            self.refs[ref.name] = ref

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

    # -- ending ---------------------------------------------------------------------------------------------------

    async def drain(self, seconds: float) -> None:
        """Take nothing more, and wait until everybody has an answer, or for so long."""
        self.draining = True
        end = time.monotonic() + seconds
        while time.monotonic() < end and not all(one.is_idle for one in self._batchers.values()):
            await asyncio.sleep(0.01)

    def close(self) -> None:
        """Write the logs to their end."""
        self._closed.set()
        self._dog.close()
        for log in self._logs.values():
            log.close()
        self._pool.shutdown(wait=False, cancel_futures=True)


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
        outputs={name: array[rows] for name, array in made.outputs.items()},
    )


def shown(tensor: Any) -> Mapping[str, Any]:
    """An input or output as V2's metadata has it."""
    return {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}
