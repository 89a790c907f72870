"""``engine monitor calibrate``."""

from __future__ import annotations

import json as json_module
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import typer

from engine.cli import view
from engine.cli.lake_progress import rows_done
from engine.errors import NO, YES, NotFound, UsageError
from engine.report.clean import terminal
from engine.wiring import Home, home_here

if TYPE_CHECKING:
    from engine.monitor.calibrate import Calibration, Question, Run
    from engine.record.model import RunRecord

MODEL = typer.Argument(..., metavar="MODEL[@ALIAS|:VERSION]", help="Whose detectors; without more the newest version.")


def calibrate(
    model: str = MODEL,
    rows: int = typer.Option(None, "--rows", min=1, help="Rows of a window, where the spec's are a time."),
    windows: int = typer.Option(1000, "--windows", min=1, help="How many windows without a change are drawn."),
    powered: int = typer.Option(40, "--power-windows", min=0, help="How many windows tell the power; 0 for none."),
    seed: int = typer.Option(0, "--seed", min=0, help="Which windows are drawn."),
    json: bool = typer.Option(False, "--json", help="Print one JSON document."),
) -> int:
    """Count the false alarms on windows of the reference itself, and the smallest shifts that would be seen."""
    from engine.spec.project import source_roots

    home = home_here()
    sys.path[:0] = [str(root) for root in source_roots(home.root) if str(root) not in sys.path]
    watch = watch_of(home, model)
    with rows_done("calibrating") as tell:
        found = [
            ask(home, watch, size, names, windows, powered, seed, tell) for size, names in families(watch, rows).items()
        ]
    if json:
        view.document({"model": model, "run_id": watch.record.run_id, "families": [document(item) for item in found]})
    else:
        for item in found:
            show(item)
    return YES if all(item.kept for item in found) else NO


@dataclass(frozen=True, kw_only=True, slots=True)
class Watch:
    """What watches a version: the run that made it, its detectors by name, and the newest operation's ``monitor``."""

    record: RunRecord
    detectors: Mapping[str, Mapping[str, Any]]
    monitor: Mapping[str, Any]

    def window(self, name: str) -> int | str:
        """The window of a detector."""
        found: int | str = (self.monitor.get("windows") or {}).get(name, 1000)
        return found


def watch_of(home: Home, model: str) -> Watch:
    """What watches a version.

    Raises:
        NotFound: when there is no such version, or its run watches nothing.
    """
    from engine.registry.model import ModelRef

    version = home.registry.get(ModelRef.parse(model))
    record = next(filter(None, (home.records.answer(run) for run in version.runs)), None)
    if record is None:
        raise NotFound("record of a run that made", str(version), hint="`engine verify` says what is wrong with it")
    monitor = record.definition["externalParameters"].get("monitor") or {}
    if not monitor.get("detectors"):
        raise NotFound("detector of", model, hint="name some under `monitor.detectors`, and run the spec")
    return Watch(
        record=record,
        detectors={item["name"]: item for item in monitor["detectors"]},
        monitor=home.records.newest_operation(version.runs).get("monitor") or {},
    )


def families(watch: Watch, rows: int | None) -> dict[int, tuple[str, ...]]:
    """The detectors with the same window, which are judged together, by its rows.

    Raises:
        UsageError: for a window by time, whose rows nobody said.
    """
    found: dict[int, tuple[str, ...]] = {}
    for name in watch.detectors:
        window = watch.window(name) if rows is None else rows
        if not isinstance(window, int):
            hint = "give --rows: how many rows come in that time"
            raise UsageError(f"the windows of the detector {name} are of a time, {window}", hint=hint)
        found[window] = (*found.get(window, ()), name)
    return found


def ask(
    home: Home,
    watch: Watch,
    rows: int,
    names: tuple[str, ...],
    windows: int,
    powered: int,
    seed: int,
    tell: Callable[[int], None],
) -> Calibration:
    """Calibrate detectors on the table that their run fitted them on.

    Raises:
        NotFound: when that table was removed from the store.
    """
    import pyarrow as pa

    from engine.monitor.calibrate import Question, calibrate
    from engine.monitor.detectors import made
    from engine.steps.columns import features_of

    plan = json_module.loads(home.store.read(watch.record.plan_digest))
    steps = {item["id"]: item for item in plan["steps"]}
    step, output = steps[f"detect.{names[0]}"]["inputs"]["table"]
    params = steps[f"detect.{names[0]}"]["params"]
    digest = watch.record.steps[step]["outputs"][output]["digest"]
    with pa.memory_map(str(home.store.require(digest))) as source:
        table = pa.ipc.open_file(source).read_all()
    features = features_of(table, params["features"])
    detectors = {name: made(item["uses"], item["with"]) for name, item in watch.detectors.items()}
    alpha = alpha_of(watch, {name for name, item in detectors.items() if not getattr(type(item), "online", False)})
    detectors = {name: detectors[name] for name in names}
    question = Question(rows=rows, alpha=alpha, windows=windows, powered=powered, seed=seed)
    return calibrate(detectors, table.select([feature.name for feature in features]), features, question, tell)


def alpha_of(watch: Watch, batch: Collection[str]) -> float | None:
    """The alpha of a window by the newest budget, which the windows of the detectors in ``batch`` share.

    Of a window by rows as if one came each hour.
    """
    from engine.monitor.budget import FIRST, allot, parse, shared
    from engine.spec.model import seconds

    if not watch.monitor.get("false_alarms"):
        return None
    sizes = {watch.window(name) for name in batch}
    times = [float(str(seconds(size))) for size in sizes if isinstance(size, str)]
    return allot(shared(parse(watch.monitor["false_alarms"]), len(sizes)), min(times, default=FIRST))


def document(found: Calibration) -> dict[str, Any]:
    """A calibration as JSON."""
    runs = [{**asdict(run), "high": run.high if run.alarms else None} for run in found.runs]
    return {
        "question": asdict(found.question),
        "rate": {**asdict(found.rate), "rate": found.rate.rate},
        "runs": runs,
        "power": [asdict(item) for item in found.power],
        "kept": found.kept,
    }


def show(found: Calibration) -> None:
    """Print a calibration."""
    question, rate = found.question, found.rate
    if rate.windows:
        view.line(f"windows of {question.rows:,} rows without a change: {rate.windows:,}, {wanted(question)}")
        interval = f"{rate.low:.3g} to {rate.high:.3g} with 95 %"
        view.line(f"  false alarms: {rate.alarms} ({rate.rate:.3g} a window, {interval})")
    for run in found.runs:
        view.line(f"  {terminal(run.detector)}: {length_of(run)}, asked for {run.ert:,.0f}, beside the budget")
    if found.power:
        view.line("  the smallest change that 80 % of windows show, one feature at a time:")
        width = max(len(terminal(item.feature)) for item in found.power)
        for item in found.power:
            view.line(f"    {terminal(item.feature):<{width}}  {size_of(item.smallest, item.unit)}")
    what = "the budget" if question.alpha is not None else "each detector's own threshold"
    told = f", as far as {view.counted(rate.windows, 'window')} can tell" if rate.windows else ""
    view.line(f"{what} is kept{told}" if found.kept else f"there are more false alarms than {what} allows")


def length_of(run: Run) -> str:
    """A run length with its interval."""
    if not run.alarms:
        return f"no false alarm in {run.rows:,} rows"
    interval = f"{run.low:,.0f} to {run.high:,.0f} with 95 %"
    return f"{run.rows / run.alarms:,.0f} rows between false alarms ({run.alarms} of them, {interval})"


def wanted(question: Question) -> str:
    """What the windows were judged at."""
    if question.alpha is None:
        return "each detector at its own threshold (the spec has no `false_alarms`)"
    return f"alpha {question.alpha:.3g} a window: {question.alpha * question.windows:.3g} expected"


def size_of(smallest: float | None, unit: str) -> str:
    """A change in words."""
    if smallest is None:
        return "none of those tried"
    return f"{smallest:.2f} standard deviations" if unit == "deviations" else f"{smallest:.1%} of the rows"
