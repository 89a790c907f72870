"""A plan as Ray tasks. The only importer of Ray; what is in here happens in a process of its own, the driver.

Everything is submitted at once, each task with the ObjectRefs of the outcomes that it needs; then outcomes are taken
in the order in which they are ready. Data does not travel in messages: an outcome holds digests.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.errors import EngineError, Failed, StepFailed, UsageError
from engine.execute.boundary import perform
from engine.execute.protocol import Report, StepEvent, StepOutcome, Surroundings, Work
from engine.execute.ray_executor import OWN_CLUSTER, TICK, Attached, Complaint, Errand, most_wanted
from engine.plan.model import Step, StepResources
from engine.store.durable import held

if TYPE_CHECKING:
    from ray import ObjectRef

HEAVY = (
    "engine.store.objects", "numpy", "pandas", "pyarrow.parquet", "pyarrow.compute", "duckdb", "scipy.stats",
    "sklearn.compose", "sklearn.ensemble", "sklearn.linear_model", "sklearn.metrics", "sklearn.pipeline",
    "sklearn.preprocessing", "onnx", "onnxruntime", "skl2onnx", "pandera.pandas", "threadpoolctl",
)  # fmt: skip
"""What a worker that stays has imported."""
TOGETHER_SECONDS = 60.0
DOOR, AT_WORK = ".door", ".at-work"


def main() -> None:
    """Be the driver: take the errand from the connection that the command line names, and give back what came of it."""
    descriptor = int(sys.argv[2])
    os.set_inheritable(descriptor, False)
    connection = Connection(descriptor)
    errand: Errand = connection.recv()
    threading.Thread(target=leave_with, args=(connection,), daemon=True).start()
    try:
        with cluster(errand):
            connection.send(Attached())
            connection.send(carried_out(errand, connection.send))
            if errand.address is None:
                threading.Event().wait()  # whoever started this ends the whole cluster
    except EngineError as error:
        told = Complaint(is_usage=isinstance(error, UsageError), fact=error.fact, place=error.place, hint=error.hint)
        connection.send(told)


def leave_with(connection: Connection) -> None:
    """End this process when the one at the other end is gone."""
    with contextlib.suppress(EOFError, OSError):
        connection.recv()
    os._exit(1)


def carried_out(errand: Errand, report: Report, abandoned: threading.Event | None = None) -> dict[str, StepOutcome]:
    """Every step's outcome, by id.

    Args:
        abandoned: is set when nobody waits for that any more.
    """
    waiting = [step for step in errand.work.plan.steps if step.id not in errand.work.done]
    refuse_the_impossible(waiting)
    return Flight(errand=errand, report=report, abandoned=abandoned or threading.Event()).run(waiting)


@contextmanager
def grounded(marks: Path) -> Iterator[None]:
    """Nothing of the steps that have their marks in this new folder goes on behind this: what runs is killed.

    Ray's own ``cancel`` brings the driver down where a task ends, or gets its worker, at that moment.
    """
    marks.mkdir()
    try:
        yield
    finally:
        with held(marks / DOOR, exclusive=True, wait=True):
            for path in marks.glob(f"*{AT_WORK}"):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(path.stem), signal.SIGKILL)
            over = marks.rename(marks.with_suffix(".over"))  # who comes now finds no folder
        shutil.rmtree(over)


@contextmanager
def airborne(marks: Path) -> Iterator[bool]:
    """Be a worker that :func:`grounded` kills; tells whether it is too late for that. It kills no other work."""
    path = marks / f"{os.getpid()}{AT_WORK}"
    is_wanted = False
    with contextlib.suppress(FileNotFoundError), held(marks / DOOR, exclusive=True, wait=True):
        path.touch()
        is_wanted = True
    try:
        yield is_wanted
    finally:
        with contextlib.suppress(FileNotFoundError), held(marks / DOOR, exclusive=True, wait=True):
            path.unlink()


def perform_remote(
    work: Work, step: Step, marks_folder: str, around: Surroundings | None, *needed: StepOutcome
) -> StepOutcome:
    """The Ray task: do the step, and say by a file when it waits, and when it has started."""
    known = {**work.done, **{outcome.id: outcome for outcome in needed}}

    def mark(event: StepEvent) -> None:
        with contextlib.suppress(OSError):
            mark_of(Path(marks_folder), event.id, event.what).write_text(event.holder)

    if around is None:
        return perform(work, step, known, mark)
    with airborne(Path(marks_folder)) as is_wanted, surrounded(around):
        return (
            perform(work, step, known, mark) if is_wanted else StepOutcome(id=step.id, kind=step.kind, status="skipped")
        )


@contextmanager
def surrounded(around: Surroundings) -> Iterator[None]:
    """Inside, this process is where the run was asked for, with its environment; Ray's own variables stay."""
    folder, variables = os.getcwd(), dict(os.environ)  # noqa: PTH109
    own = {name: value for name, value in variables.items() if name.startswith("RAY_") or name in OWN_CLUSTER}
    theirs = {name: value for name, value in around.variables.items() if not name.startswith("RAY_")}
    with contextlib.suppress(OSError):  # a folder that was removed meanwhile
        os.chdir(around.folder)
    replace_environment({**theirs, **own})
    try:
        yield
    finally:
        replace_environment(variables)
        os.chdir(folder)


def replace_environment(variables: Mapping[str, str]) -> None:
    """Have these environment variables and no others."""
    for name in os.environ.keys() - variables.keys():
        del os.environ[name]
    os.environ.update(variables)


def mark_of(folder: Path, step: str, what: str) -> Path:
    """The file by which a step says what it does."""
    return folder / f"{step}.{what}".replace("/", "_")


class Flight:
    """The steps of one execution that are on their way."""

    def __init__(self, errand: Errand, report: Report, abandoned: threading.Event) -> None:
        self.work = errand.work
        self.report = report
        self.marks = errand.marks
        self.around = errand.surroundings
        self.abandoned = abandoned
        self.outcomes: dict[str, StepOutcome] = dict(errand.work.done)
        self.refs: dict[ObjectRef[StepOutcome], Step] = {}
        self.started: dict[str, float] = {}
        self.waiting: set[str] = set()

    def run(self, steps: list[Step]) -> dict[str, StepOutcome]:
        """Submit everything, then take what is ready until nothing is left, or nobody waits for it."""
        import ray

        self.submit(steps)
        pending = list(self.refs)
        while pending and not self.abandoned.is_set():
            ready, pending = ray.wait(pending, num_returns=1, timeout=TICK, fetch_local=True)
            self.notice_starts()
            for ref in ready:
                self.take(ref)
            self.end_overdue(pending)
        return self.outcomes

    def submit(self, steps: list[Step]) -> None:
        """Hand every step to Ray, in order, with the refs of what it needs."""
        import ray

        remote = ray.remote(perform_remote)
        work_ref = ray.put(self.work)
        by_id: dict[str, ObjectRef[StepOutcome]] = {}
        for step in steps:
            needed = [by_id[need] for need in step.needs if need in by_id]
            options = ray_options(step, int(ray.cluster_resources().get("CPU", 1)))
            ref = remote.options(**options).remote(work_ref, step, str(self.marks), self.around, *needed)
            by_id[step.id] = ref
            self.refs[ref] = step

    def notice_starts(self) -> None:
        """Report the steps that have begun, or wait for somebody, since the last look."""
        for step in self.refs.values():
            if step.id not in self.started and mark_of(self.marks, step.id, "started").exists():
                self.started[step.id] = time.monotonic()
                self.report(StepEvent(id=step.id, what="started"))
            elif step.id not in self.waiting and mark_of(self.marks, step.id, "waits").exists():
                self.waiting.add(step.id)
                holder = mark_of(self.marks, step.id, "waits").read_text()
                self.report(StepEvent(id=step.id, what="waits", holder=holder))

    def take(self, ref: ObjectRef[StepOutcome]) -> None:
        """Take a finished task's outcome; a task that was lost becomes a failed step."""
        import ray

        step = self.refs[ref]
        try:
            outcome: StepOutcome = ray.get(ref)
        except ray.exceptions.RayError as error:
            outcome = self.given_up(step, error)
        self.outcomes[step.id] = outcome
        self.report(StepEvent(id=step.id, what="over", outcome=outcome))

    def given_up(self, step: Step, error: Exception) -> StepOutcome:
        """What became of a step whose task Ray gave up: skipped when one that it needs was lost, else failed."""
        waited_for = [self.outcomes.get(need) for need in step.needs]
        if any(outcome is None or not outcome.done for outcome in waited_for):
            return StepOutcome(id=step.id, kind=step.kind, status="skipped")
        return lost(step, error, self.started.get(step.id))

    def end_overdue(self, pending: list[ObjectRef[StepOutcome]]) -> None:
        """End the tasks that are past their time."""
        import ray

        for ref in pending:
            step = self.refs[ref]
            since = self.started.get(step.id)
            limit = step.resources.timeout
            if since is not None and limit is not None and time.monotonic() - since > limit:
                ray.cancel(ref, force=True)


def lost(step: Step, error: Exception, since: float | None) -> StepOutcome:
    """A step whose own task was lost: it was out of memory, past its time, or its process died."""
    import ray

    limit = step.resources.timeout
    seconds = time.monotonic() - since if since is not None else 0.0
    if isinstance(error, ray.exceptions.OutOfMemoryError):
        raised = StepFailed(f"{step.id} ran out of memory", hint="set train.resources.memory, or give it less data")
    elif limit is not None and seconds > limit:
        hint = "give it more time: train.resources.timeout"
        raised = StepFailed(f"{step.id} took longer than {limit:g} s and was ended", hint=hint, key="resources.timeout")
    elif isinstance(error, (ray.exceptions.WorkerCrashedError, ray.exceptions.NodeDiedError)):
        fact = f"the process of {step.id} died {step.resources.retries + 1} times"
        raised = StepFailed(fact, hint="look for a crash in native code, or for the system's out-of-memory killer")
    else:
        raised = StepFailed(f"Ray gave up {step.id}: {str(error).strip().splitlines()[-1]}")
    document = {**raised.document(), "key": raised.key}
    return StepOutcome(id=step.id, kind=step.kind, status="failed", error=document, seconds=seconds)


def ray_options(step: Step, cores: int) -> dict[str, Any]:
    """A step's resources in Ray's words. A step that measures takes every core, so that nothing runs beside it."""
    wanted = step.resources
    options: dict[str, Any] = {
        "num_cpus": cores if step.measures else wanted.cpus,
        "num_gpus": wanted.gpus,
        "max_retries": wanted.retries,
        "name": step.id,
    }
    if wanted.memory is not None:
        options["memory"] = wanted.memory
    return options


# -- the cluster -----------------------------------------------------------------------------------------------


@contextmanager
def cluster(errand: Errand) -> Iterator[None]:
    """A cluster to run on: the one at the errand's address, else an own one.

    Raises:
        Failed: when it does not start, or does not answer.
    """
    import ray

    if errand.address is None:
        assert errand.folder is not None
        start(most_wanted(errand.work), errand.folder)
        yield
        return
    connect(errand.address)
    try:
        yield
    finally:
        ray.shutdown()


def start(cpus: int, folder: Path) -> None:
    """Start a local cluster on 127.0.0.1 with its files in ``folder``, and the token of the environment.

    Raises:
        Failed: when it does not start.
    """
    import ray

    try:
        ray.init(
            address="local",
            num_cpus=max(os.cpu_count() or 1, cpus),
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
            _node_ip_address="127.0.0.1",
            _temp_dir=str(folder),
        )
    except (RuntimeError, OSError, ray.exceptions.RayError) as error:
        hint = "`--inline` runs without Ray; `engine doctor` looks at what is there"
        raise Failed(f"Ray did not start: {first_line(error)}", hint=hint) from error


def warmed(cpus: int, folder: Path) -> None:
    """Have as many workers as there are cores import what most steps need. No step waits for a core that this has.

    Raises:
        Failed: when the cluster is lost meanwhile.
    """
    import ray

    together = tempfile.mkdtemp(prefix="warm-", dir=folder)
    remote = ray.remote(warm_up)
    try:
        ray.get([remote.options(num_cpus=0).remote(together, cpus) for _ in range(cpus)])
    except ray.exceptions.RayError as error:
        raise Failed(f"Ray lost its workers: {first_line(error)}", hint="`--inline` runs without Ray") from error


def warm_up(together: str, count: int) -> None:
    """Import what most steps need; then wait until all do, so that each is in a process of its own."""
    for name in HEAVY:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    folder, until = Path(together), time.monotonic() + TOGETHER_SECONDS
    (folder / str(os.getpid())).touch()
    while sum(1 for _ in folder.iterdir()) < count and time.monotonic() < until:
        time.sleep(TICK / 10)


def connect(address: str) -> None:
    """Connect to the cluster at ``address``.

    Raises:
        Failed: when it does not answer.
    """
    import ray

    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except (RuntimeError, OSError, ValueError, ray.exceptions.RayError) as error:
        hint = "is it running, and is its token in RAY_AUTH_TOKEN? Without --address, an own cluster is started"
        raise Failed(f"no Ray cluster answers: {first_line(error)}", place=address, hint=hint) from error


def first_line(error: Exception) -> str:
    """The first line of what Ray says."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def refuse_the_impossible(steps: list[Step]) -> None:
    """Refuse what would wait for ever.

    Raises:
        UsageError: when a step asks for more than the whole cluster has.
    """
    import ray

    has = ray.cluster_resources()
    for step in steps:
        for what, wanted, there in wishes(step.resources, has):
            if wanted > there:
                raise UsageError(
                    f"{step.id} asks for {wanted:g} {what}; the cluster has {there:g}",
                    place=".".join(str(part) for part in (*step.key, "resources")),
                    hint="ask for less, or attach to a larger cluster with --address",
                )


def wishes(resources: StepResources, has: Mapping[str, float]) -> Iterator[tuple[str, float, float]]:
    """What a step asks for beside what there is: (name, asked, there)."""
    yield "CPUs", resources.cpus, has.get("CPU", 0)
    yield "GPUs", resources.gpus, has.get("GPU", 0)
    if resources.memory is not None:
        yield "GiB of memory", resources.memory / 2**30, has.get("memory", 0) / 2**30
