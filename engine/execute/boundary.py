"""Where user code is called: one step is performed, and whatever goes wrong in it becomes an outcome.

Beside a server's own (`engine.serve.boundary`) it is the only place in Engine that catches every exception.
"""

from __future__ import annotations

import bdb
import contextlib
import importlib
import io
import linecache
import os
import platform
import resource
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol, TextIO

from engine.errors import EngineError, StepFailed, translate_os_error
from engine.execute.cache import StepCache, gather, step_key
from engine.execute.opened import refuse_read, watched
from engine.execute.protocol import Report, StepEvent, StepOutcome, Work, silent
from engine.plan.model import Step
from engine.resolve.closure import DISTRIBUTION
from engine.resolve.installed import survey
from engine.steps.context import Context
from engine.steps.model import Artifact, Inputs, Outputs
from engine.store.claims import claim_path, claimed
from engine.store.objects import ObjectStore

STEPS = "engine.steps"
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
LOG_LIMIT = 100_000
ENGINE_FOLDER = Path(__file__).resolve().parent.parent
EXTRA_ARTIFACTS = "failures"
YOUNG_SECONDS = 10.0


class StepModule(Protocol):
    """What a module in ``engine.steps`` with the name of a step kind has."""

    def run(self, inputs: Inputs, params: Mapping[str, Any], context: Context) -> Outputs:
        """Do the step's work."""


def perform(
    work: Work, step: Step, outcomes: Mapping[str, StepOutcome], report: Report = silent, capture: bool = True
) -> StepOutcome:
    """Do one step, or take its outcome from the cache, or skip it because what it needs failed.

    When another process does the same at this moment, it is waited for.

    Args:
        outcomes: of at least the steps that it needs.
        report: is told when the step waits, and when it starts.
        capture: keep what it prints as its log. Otherwise it goes to standard error, and a debugger works.

    Returns:
        the outcome, also when the step fails. Only ``KeyboardInterrupt`` and ``SystemExit`` pass through.
    """
    if not all(outcomes[need].done for need in step.needs):
        return StepOutcome(id=step.id, kind=step.kind, status="skipped")
    store = ObjectStore(work.home / "objects")
    cache = StepCache(work.home, store)
    inputs = gather(step, outcomes)
    key = step_key(work.plan, step, inputs)
    with alone(work, step, key, report):
        known = None if work.fresh else cache.find(step, key)
        if known is not None:
            return known
        report(StepEvent(id=step.id, what="started"))
        outcome = attempt(work, step, inputs, store, capture)
        return kept(cache, step, replace(outcome, key=key))


@contextmanager
def alone(work: Work, step: Step, key: str, report: Report) -> Iterator[None]:
    """Inside, nobody else does a step with this key, if what comes of it will be in the cache."""
    with contextlib.ExitStack() as stack:
        if not work.fresh and not step.effects:
            waits = partial(StepEvent, id=step.id, what="waits")
            with contextlib.suppress(EngineError):  # a disk that takes no claim takes no outcome, which is told then
                claim = claimed(claim_path(work.home, key), lambda holder: report(waits(holder=holder)))
                stack.enter_context(claim)
        yield


def kept(cache: StepCache, step: Step, outcome: StepOutcome) -> StepOutcome:
    """The outcome after the cache has it; a full disk makes it a failed one."""
    try:
        cache.keep(step, outcome)
    except EngineError as error:
        return replace(outcome, status="failed", outputs={}, error=error.document())
    return outcome


def attempt(work: Work, step: Step, inputs: Inputs, store: ObjectStore, capture: bool) -> StepOutcome:
    """Run a step's code inside the boundary."""
    started, processor = time.perf_counter(), time.process_time()
    printed = io.StringIO()
    outputs, error = Outputs(), None
    before: set[str] = set()
    with (
        project_on_path(work.source_roots),
        fresh_modules(work),
        limited_threads(step.resources.cpus),
        redirected(printed, capture),
        watched((work.root, *work.source_roots), work.home) as watch,
    ):
        before = set(sys.modules)
        try:
            context = context_of(work, step, store)
            outputs = step_module(step.kind).run(inputs, step.params, context)
            refuse_strangers(work, before)
            refuse_read(watch)
        except (Exception, SystemExit) as raised:
            error = describe(raised, work)
            outputs = Outputs(artifacts=failure_artifacts(raised))
    return StepOutcome(
        id=step.id,
        kind=step.kind,
        status="failed" if error else "ran",
        outputs=outputs.artifacts,
        byproducts=outputs.byproducts,
        error=error,
        log=printed.getvalue()[-LOG_LIMIT:],
        seconds=time.perf_counter() - started,
        usage={**usage(time.process_time() - processor), "unpinned": unpinned(work, step, before)},
    )


def step_module(kind: str) -> StepModule:
    """The module that does steps of a kind."""
    module: ModuleType = importlib.import_module(f"{STEPS}.{kind}")
    return module


def context_of(work: Work, step: Step, store: ObjectStore) -> Context:
    """The step's way out into the world."""
    return Context(
        store=store,
        home=work.home,
        run_id=work.plan.run_id,
        step=step.id,
        cpus=step.resources.cpus,
    )


def failure_artifacts(error: BaseException) -> dict[str, Artifact]:
    """What a failed step still leaves for the record: the failure cases of data that breaks its schema."""
    found = getattr(error, EXTRA_ARTIFACTS, None)
    return {EXTRA_ARTIFACTS: found} if isinstance(found, Artifact) else {}


# -- the step's surroundings ---------------------------------------------------------------------------------


@contextmanager
def project_on_path(roots: tuple[Path, ...]) -> Iterator[None]:
    """The project's own modules can be imported inside."""
    added = [str(root) for root in roots if str(root) not in sys.path]
    sys.path[:0] = added
    try:
        yield
    finally:
        for folder in added:
            if folder in sys.path:
                sys.path.remove(folder)


@contextmanager
def fresh_modules(work: Work) -> Iterator[None]:
    """The project's modules are imported anew inside, as they are pinned; outside, a caller has its own ones still.

    Without this, a second run in one process would execute what the first had imported, edited since or another's.
    """
    held = own_modules(work)
    for name in held:
        del sys.modules[name]
    importlib.invalidate_caches()
    try:
        yield
    finally:
        for name, module in own_modules(work).items():
            remove_young_bytecode(module)
            del sys.modules[name]
        sys.modules.update(held)


def remove_young_bytecode(module: ModuleType) -> None:
    """Remove a module's compiled form if it was made soon after its source was written.

    Python knows a source again by its size and the second of its time: after an edit within that second it would
    execute what was compiled before.
    """
    source, compiled = getattr(module, "__file__", None), getattr(module, "__cached__", None)
    if source and compiled:
        with contextlib.suppress(OSError):
            if Path(compiled).stat().st_mtime - Path(source).stat().st_mtime < YOUNG_SECONDS:
                Path(compiled).unlink()


def own_modules(work: Work) -> dict[str, ModuleType]:
    """What is imported of the project, or under the name of one of its modules."""
    return {
        name: module
        for name, module in list(sys.modules.items())
        if name != "__main__" and is_project_module(name, module, work)
    }


def is_project_module(name: str, module: ModuleType, work: Work) -> bool:
    """Whether a module is the project's own, or has a name that means one of its modules in this run."""
    file = getattr(module, "__file__", None)
    if is_engines(name) or not file:
        return False
    return name in work.modules or is_project_file(file, name, work)


@contextmanager
def limited_threads(count: int) -> Iterator[None]:
    """Libraries use ``count`` threads inside: those loaded already, and those that are loaded meanwhile."""
    from threadpoolctl import threadpool_limits

    with variables(dict.fromkeys(THREAD_VARIABLES, str(count))), threadpool_limits(limits=count):
        yield


@contextmanager
def variables(wanted: Mapping[str, str]) -> Iterator[None]:
    """Environment variables for what is loaded or started inside, and as they were afterwards."""
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def redirected(printed: TextIO, capture: bool) -> Iterator[None]:
    """Standard output never carries what a step prints: it is kept, or goes to standard error."""
    if capture:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            yield
    else:
        with contextlib.redirect_stdout(sys.stderr):
            yield


def refuse_strangers(work: Work, before: set[str]) -> None:
    """Fail when a project module was imported that the run was not pinned with.

    Raises:
        StepFailed: with the module's name.
    """
    for name in sorted(set(sys.modules) - before):
        file = getattr(sys.modules.get(name), "__file__", None)
        if file and name not in work.modules and is_project_file(file, name, work):
            raise StepFailed(
                f"the project's module {name} was imported while the step ran, but the run is not pinned with it",
                place=file,
                hint=f"write `import {name}` at the top of the module that needs it, so that it can be seen",
            )


def unpinned(work: Work, step: Step, before: set[str]) -> list[str]:
    """Distributions that were imported while the step ran, and that it is not pinned with."""
    tops = {name.split(".")[0] for name in set(sys.modules) - before} - {name.split(".")[0] for name in before}
    tops = {name for name in tops if "site-packages" in Path(getattr(sys.modules[name], "__file__", None) or "").parts}
    if not tops:
        return []
    installed = survey(work.home / "cache")
    found = {dist for name in tops for dist in installed.provides.get(name, [])}
    return sorted(found - step.distributions.keys() - {DISTRIBUTION})


def is_project_file(file: str, name: str, work: Work) -> bool:
    """Whether a file is the project's own code, and not Engine's or an environment's inside its folder."""
    folders = tuple(f"{str(root).rstrip(os.sep)}{os.sep}" for root in work.source_roots)
    inside = file.startswith(folders)  # as text, because every module that is imported is asked, twice a step
    return inside and not is_engines(name) and "site-packages" not in Path(file).parts


def is_engines(name: str) -> bool:
    """Whether a module is part of Engine, its plugins, or how a process was started."""
    return name.split(".")[0] in ("engine", "engine_plugins", "hydra_plugins", "__mp_main__")


# -- what went wrong -----------------------------------------------------------------------------------------


def describe(error: BaseException, work: Work) -> dict[str, Any]:
    """An exception as the document that records and messages have."""
    if isinstance(error, OSError) and not isinstance(error, EngineError):
        translated = translate_os_error(error, work.home) if error.errno else None
        if translated is not None and translated.code in ("storage-full", "storage-unwritable"):
            error = translated
    if isinstance(error, SystemExit):
        error = StepFailed(f"the step called sys.exit({error.code})", hint="return, or raise an exception instead")
    if isinstance(error, bdb.BdbQuit):
        error = StepFailed("the debugger was quit", hint="continue with `c` to let the step finish")
    if isinstance(error, MemoryError):
        error = StepFailed("out of memory", hint="give it less data, or run it on a larger machine")
    if isinstance(error, EngineError):
        return {**error.document(), "key": getattr(error, "key", ""), "details": getattr(error, "details", "")}
    return {
        "code": "step-raised",
        "message": f"{type(error).__name__}: {error}".strip(),
        "place": place_of(error),
        "hint": "",
        "key": "",
        "details": "".join(own_traceback(error)),
    }


def own_traceback(error: BaseException) -> list[str]:
    """The traceback from the step's own code on; the frames of the boundary say nothing."""
    linecache.checkcache()
    trace = error.__traceback__
    while trace is not None and is_machinery(trace.tb_frame.f_code.co_filename):
        trace = trace.tb_next
    return traceback.format_exception(type(error), error, trace or error.__traceback__)


def is_machinery(filename: str) -> bool:
    """Whether a frame belongs to Engine or to Python's own import system, and not to what was called."""
    return filename.startswith((str(ENGINE_FOLDER), "<frozen")) or "importlib" in Path(filename).parts


def place_of(error: BaseException) -> str:
    """The innermost line outside libraries: file and line."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "site-packages" not in frame.filename and "/lib/python" not in frame.filename]
    chosen = (own or frames)[-1] if frames else None
    return f"{chosen.filename}:{chosen.lineno}" if chosen else ""


def usage(processor: float) -> dict[str, Any]:
    """What the process has used by now: seconds of processor, peak memory in bytes, and where."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"cpu_seconds": processor, "peak_memory": peak, "pid": os.getpid(), "host": platform.node()}
