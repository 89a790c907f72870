"""``engine monitor``."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from engine.cli import view
from engine.cli.monitor_calibrate import calibrate
from engine.errors import FAILED, NO, YES, UsageError
from engine.report.clean import terminal
from engine.wiring import Home, home_here

if TYPE_CHECKING:
    import pyarrow as pa

    from engine.monitor.model import Damage
    from engine.monitor.table import Table
    from engine.observe.check import Checked, Waiting
    from engine.observe.drift import Judgement
    from engine.observe.subject import Observatory

MODEL = typer.Argument(
    ..., metavar="MODEL[@ALIAS|:VERSION]", help="Which model; without an alias the one in production."
)
JSON = typer.Option(False, "--json", help="Print one JSON document.")
FOREMOST = 5
HEADS = ("version", "alias", "window", "from", "metric", "test", "estimated", "live", "labelled", "train data", "code")
app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None)
app.command("calibrate")(calibrate)


def register(parent: typer.Typer, summary: str) -> None:
    """Add the commands."""
    parent.add_typer(app, name="monitor", help=summary)


@app.callback()
def monitor() -> None:
    """Drift and live performance, with the versions of code and data behind them."""


def observatory(home: Home) -> Observatory:
    """Where what is watched is kept. The project's own detectors can be imported afterwards."""
    from engine.observe.subject import Observatory
    from engine.spec.project import source_roots

    sys.path[:0] = [str(root) for root in source_roots(home.root) if str(root) not in sys.path]
    return Observatory(store=home.store, records=home.records, registry=home.registry, logs=home.path / "predictions")


def moment_in(text: str | None) -> datetime | None:
    """A time as a command line writes it, in UTC unless it says otherwise.

    Raises:
        UsageError: when it is none.
    """
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageError(f'"{text}" is no time', hint="write 2013-08-01 or 2013-08-01T12:00") from error
    return found if found.tzinfo else found.replace(tzinfo=UTC)


# -- check -----------------------------------------------------------------------------------------------------------


@app.command("check")
def check(
    model: str = MODEL,
    window: str = typer.Option(None, "--window", metavar="ROWS|TIME", help="As 1000 or 7d, in place of the spec's."),
    until: str = typer.Option(None, "--until", metavar="TIME", help="The window's end; without it now."),
    slice_: str = typer.Option(
        "", "--slice", metavar="SLICE", help="Each part of an input, or of a slice of the spec."
    ),
    data: str = typer.Option(None, "--data", metavar="URI", help="A table, in the lake or a file, and not the log."),
    json: bool = JSON,
) -> int:
    """Compare the last predictions with what the model's run knows: exit code 1 on an alarm, 0 without one.

    A window that has not enough rows yet is no alarm, and is said. What is found of logged predictions is in the
    table of `engine monitor status`, too.
    """
    from engine.monitor.windows import size_of
    from engine.observe.check import Asked, check_log, check_table, document
    from engine.registry.model import ModelRef

    home = home_here()
    asked = Asked(
        ref=ModelRef.parse(model), size=size_of(window) if window else None, until=moment_in(until), slice=slice_
    )
    now = datetime.now(UTC)
    if data is None:
        found = check_log(asked, observatory(home), now)
        enter_check(found, home, now)
    else:
        table, shown = table_in(data, home)
        found = check_table(asked, observatory(home), table, shown, now)
    if json:
        view.document(document(found))
    else:
        show_check(found)
    return NO if found.is_alarmed else YES


def enter_check(checked: Checked, home: Home, now: datetime) -> None:
    """Put what was found into the table; where that takes no writes, it is said."""
    from engine.errors import StorageFull, StorageUnwritable
    from engine.monitor.table import Table
    from engine.observe.drift import figures_of

    figures = [figure for item in checked.judgements for figure in figures_of(item)]
    if not figures:
        return
    table = Table(home.path / "monitor")
    try:
        with table.change() as change:
            change.put(figures, checked.subject.origin, now)
        table.publish()
    except (StorageFull, StorageUnwritable) as error:
        view.note(f"{view.paint('not kept', view.YELLOW)}: {terminal(str(error))}")


def table_in(uri: str, home: Home) -> tuple[pa.Table, str]:
    """A whole table of the lake or in a file, and what it is exactly.

    Raises:
        NotFound: when nothing is there.
        UsageError, DataUnreadable: when it is no table, or its files differ.
    """
    import pyarrow as pa

    from engine.scoring import batches, table_at

    found = table_at(uri, home.lake)
    parts = list(batches(found))
    if not parts:
        raise UsageError("it has no rows", place=found.shown, hint="name a table that has some")
    try:
        return pa.concat_tables(parts, promote_options="permissive"), found.shown
    except pa.ArrowInvalid as error:
        raise UsageError("its files have different columns", place=found.shown, hint=str(error)[:200]) from error


def show_check(checked: Checked) -> None:
    """What was found, for a person."""
    for item in checked.judgements:
        for text in judgement_lines(item):
            view.line(text)
    for waiting in checked.waiting:
        view.line(waiting_line(waiting))
    show_damage(checked.damaged)


def judgement_lines(item: Judgement) -> list[str]:
    """A window: the verdict, then the features behind an alarm, then what could not be asked."""
    from engine.observe.drift import alarms_of

    window = item.window
    span = f"{window.start:%Y-%m-%d %H:%M} to {window.end:%Y-%m-%d %H:%M}"
    told = f", {span}" if window.start != window.end else ""
    alarms = list(alarms_of(item))
    word = view.paint("ALARM", view.RED, view.BOLD, stream=sys.stdout) if alarms else "no alarm"
    lines = [f"{item.stream or item.stream.model}  {word}  {window.rows:,} rows{told}"]
    lines += [f"  {terminal(alarm.text)}" for alarm in alarms]
    lines += [f"    {text}" for text in feature_lines(item)]
    if not alarms and item.verdicts:
        lines.append(f"  {least_line(item)}")
    return lines + [f"  {text}" for text in skipped_lines(item)]


def skipped_lines(item: Judgement) -> list[str]:
    """The detectors that could not be asked, and why."""
    return [f"{name} was not asked: {terminal(reason)}" for name, reason in item.skipped.items()]


def feature_lines(item: Judgement) -> list[str]:
    """The features behind an alarm with both distributions, the foremost of them."""
    behind = item.alarm.features if item.alarm else ()
    shares = {one.feature: one for one in behind}
    lines = []
    for name, found in list(item.distributions.items())[:FOREMOST]:
        moves = sorted(
            zip(found.labels, found.reference, found.window, strict=True), key=lambda one: -abs(one[1] - one[2])
        )
        shown = ", ".join(f"{terminal(label)} {was:.1%} -> {now:.1%}" for label, was, now in moves[:3])
        if found.reference_mean is not None and found.window_mean is not None:
            shown = f"mean {found.reference_mean:.4g} -> {found.window_mean:.4g}; {shown}"
        one = shares.get(name)
        said = f" {one.detector}, distance {one.distance:.3g}:" if one else ""
        lines.append(f"{terminal(name)}:{said} {shown}")
    return lines


def least_line(item: Judgement) -> str:
    """The smallest p-value, and what it was compared with."""
    tests = [(p_val, name, feature) for name, one in item.verdicts.items() for feature, p_val in one.p_val.items()]
    p_val, name, feature = min(tests)
    if item.alpha is None:
        limit = f"its own threshold {item.verdicts[name].threshold:.1e}"
    else:
        limit = f"alpha {item.alpha:.1e} over {view.counted(len(tests), 'test')}"
    return f"smallest p-value {p_val:.1e} ({name}: {terminal(feature)}), {limit}"


def waiting_line(item: Waiting) -> str:
    """A window that cannot be judged yet."""
    if item.size.kind == "rows":
        return f"{item.stream}  not enough rows yet: {item.rows:,} of {item.wanted:,}"
    return f"{item.stream}  no rows in {item.size}"


def show_damage(damaged: tuple[Damage, ...]) -> None:
    """Files that could not be read, beside the answer."""
    for item in damaged:
        place = terminal(os.path.relpath(item.file))
        view.note(f"{view.paint('passed over', view.YELLOW)}: {place}: {terminal(item.fact)}")


# -- labels ----------------------------------------------------------------------------------------------------------


@app.command("labels")
def labels(
    model: str = typer.Argument(..., metavar="MODEL", help="Which model."),
    source: str = typer.Option(..., "--from", metavar="URI|FILE", help="A table: prediction, row, label, and time."),
    json: bool = JSON,
) -> int:
    """Say what earlier predictions turned out to be: a table with the columns prediction, row and label.

    Without a column row it is the first row of a request; instead of label the column may be called as the target. A
    column time says when each became known: of several labels for a row the last one holds. A row without a label is
    passed over. Labels of predictions that were never logged are kept too, and counted.
    """
    from engine.observe.check import version_of
    from engine.observe.told import tell
    from engine.registry.model import ModelRef

    home = home_here()
    where = observatory(home)
    version = version_of(ModelRef.parse(model), where.registry)
    table, shown = table_in(source, home)
    told = tell(version, where, table, shown, datetime.now(UTC))
    if json:
        view.document({"model": version.name, "source": shown, **told.document()})
        return YES
    view.line(f"{view.counted(told.labels, 'label')} of {version.name} kept, from {terminal(shown)}")
    if told.empty:
        view.line(f"  {view.counted(told.empty, 'row')} without a label passed over")
    if told.unknown:
        said = view.counted(told.unknown, "label")
        view.line(f"  {said} of predictions that are in no log, as {terminal(told.example)}")
    if told.duplicates or told.conflicts:
        said = f"{view.counted(told.duplicates, 'duplicate')}, {view.counted(told.conflicts, 'conflict')}"
        view.line(f"  in all labels of the model: {said}; of those that contradict each other the last one holds")
    view.line(f"  {told.labelled:,} of {told.rows:,} logged rows have a label ({told.share:.1%})")
    show_damage(told.damaged)
    return YES


# -- status ----------------------------------------------------------------------------------------------------------


@app.command("status")
def status(
    model: str = typer.Argument(..., metavar="MODEL", help="Which model."),
    sql: str = typer.Option(None, "--sql", metavar="QUERY", help="Ask DuckDB about the tables figures and alarms."),
    report: list[str] = typer.Option([], "--report", metavar="html=PATH", help="Write the time line as a page."),
    json: bool = JSON,
) -> int:
    """The one table: test, estimated and live metrics and drift, with the versions of model, run, code and data.

    It is brought up to date with the logs first, and is also in .engine/monitor/figures.parquet.
    """
    from engine.monitor.table import Table, document
    from engine.observe.refresh import refresh
    from engine.registry.model import ModelRef

    targets = [page_target(text) for text in report]
    home = home_here()
    where = observatory(home)
    name = ModelRef.parse(model).name
    table = Table(home.path / "monitor")
    done = refresh(name, where, table, datetime.now(UTC))
    show_damage(done.damaged)
    if targets:
        write_pages(name, targets, home, where, table)
    if sql is not None:
        show_answer(*table.asked(sql), json=json)
        return YES
    figures, alarms = table.figures(name), table.alarms(name)
    if json:
        view.document(
            {
                "model": name,
                "figures": [document(row) for row in figures],
                "alarms": [document(row) for row in alarms],
                "outbox": [{key: value for key, value in item.items() if key != "body"} for item in table.outbox(name)],
                "retrained": [document(item) for item in table.retrained(name)],
            }
        )
        return YES
    show_status(figures, alarms)
    for item in table.retrained(name)[-FOREMOST:]:
        view.line(f"  {item['moment']:%Y-%m-%d %H:%M}  alarm {view.short(item['alarm'])}: {retrained_text(item)}")
    return YES


def retrained_text(item: Mapping[str, Any]) -> str:
    """What came of a retraining, in a line."""
    outcome = item["outcome"]
    if outcome["status"] == "passed":
        return f"retrained, version {outcome['version']} is {outcome['alias']}, run {view.short(outcome['run'])}"
    reason = terminal(str(outcome.get("reason", "")))
    return f"retraining {outcome['status']}{f': {reason}' if reason else ''}"


def page_target(text: str) -> Path:
    """The path of ``html=PATH``, if a file can be written there.

    Raises:
        UsageError: for another form or format, and for a folder or a source.
        StorageUnwritable, Failed: for a folder that takes no files.
    """
    from engine.report.write import check as check_targets

    form, equals, path = text.partition("=")
    if form != "html" or not equals or not path:
        hint = "write html=monitor.html; --json has all figures"
        raise UsageError(f"{text!r} is not html=PATH", place="--report", hint=hint)
    check_targets([(form, Path(path))])
    return Path(path)


def write_pages(name: str, targets: Sequence[Path], home: Home, where: Observatory, table: Table) -> None:
    """Write the page, whole or not at all.

    Raises:
        StorageFull, StorageUnwritable, Failed: when it cannot be written.
    """
    from engine.observe.timeline import timeline
    from engine.report.monitor import page
    from engine.report.write import put

    text = page(timeline(name, where, table, home.lake)).encode()
    for path in targets:
        put(path, text)
        view.note(f"report: {terminal(str(path))}")


def show_answer(names: list[str], rows: list[tuple[Any, ...]], *, json: bool) -> None:
    """What a query gave."""
    if json:
        plain = [{name: shown_cell(value, exact=True) for name, value in zip(names, row, strict=True)} for row in rows]
        view.document({"rows": plain})
    else:
        view.table(names, [[str(shown_cell(value)) for value in row] for row in rows])


def shown_cell(value: Any, *, exact: bool = False) -> Any:
    """A value of a query's answer: a time as ISO 8601, a number with four decimals unless it is wanted exactly."""
    if isinstance(value, date):  # a datetime is one, too
        return value.isoformat() if exact else str(value)[:19]
    if isinstance(value, float) and not exact:
        return view.figure(value)
    return value if exact or value is not None else "-"


def show_status(figures: list[dict[str, Any]], alarms: list[dict[str, Any]]) -> None:
    """The figures of calendar months and those beyond a limit, a line a metric and window; then the alarms."""
    tests = {(row["version"], row["metric"]): row for row in figures if row["kind"] == "test" and not row["slice"]}
    shown = [
        row for row in figures
        if row["kind"] in ("live", "estimated") and not row["slice"] and row["metric"] != "coverage"
        and (row["window"] == "month" or row["alarm"])
    ]  # fmt: skip
    if not shown:
        view.line("no predictions are logged yet; figures of the tests:")
        rows = [[f"v{row['version']}", row["metric"], with_interval(row), f"{row['n']:,}"] for row in tests.values()]
        view.table(["version", "metric", "test", "rows"], rows)
    else:
        view.table(
            HEADS,
            [line_of(key, shown, tests) for key in dict.fromkeys(map(line_key, shown))],
        )
    drifts = [row for row in figures if row["kind"] == "drift" and not row["slice"]]
    windows = {(row["version"], row["alias"], row["slice"], row["window"], row["window_start"]) for row in drifts}
    if windows:
        alarmed = {(row["version"], row["alias"], row["slice"], row["window"], row["window_start"])
                   for row in drifts if row["alarm"]}  # fmt: skip
        view.line(f"drift: {view.counted(len(windows), 'window')} judged, {len(alarmed):,} with an alarm")
    view.line(f"{view.counted(len(alarms), 'alarm')} of `engine monitor watch`{':' if alarms else ''}")
    for alarm in alarms[-FOREMOST:]:
        where = f"v{alarm['version']}@{alarm['alias']}"
        said = f"{alarm['signal']}: {terminal(alarm['text'])}"
        view.line(f"  {alarm['window_end']:%Y-%m-%d %H:%M}  {view.short(alarm['id'])}  {where}  {said}")


LineKey = tuple[int, str, str, datetime, str]


def line_key(row: Mapping[str, Any]) -> LineKey:
    """What a line of the table is about."""
    return row["version"], row["alias"], row["window"], row["window_start"], row["metric"]


def line_of(key: LineKey, shown: list[dict[str, Any]], tests: Mapping[tuple[int, str], dict[str, Any]]) -> list[str]:
    """Test, estimate and measurement of one metric in one window, with the data and the code behind them."""
    version, alias, window, start, metric = key
    here = {row["kind"]: row for row in shown if line_key(row) == key}
    some = here.get("live") or here["estimated"]
    live = here.get("live")
    share = f"{live['n'] / live['rows']:.0%} of {live['rows']:,}" if live else f"0% of {some['rows']:,}"
    return [
        f"v{version}", alias, window, f"{start:%Y-%m-%d}", metric,
        with_interval(tests.get((version, metric))), with_interval(here.get("estimated"), mark="~"),
        with_interval(live, alarm=bool(live and live["alarm"])), share,
        view.short(some["train_commit"]) if some["train_commit"] else "-",
        view.short(some["code_commit"] or some["code_digest"], 10),
    ]  # fmt: skip


def with_interval(row: Mapping[str, Any] | None, *, mark: str = "", alarm: bool = False) -> str:
    """A figure with its interval; an estimate has a mark before it, one that is beyond its limit a mark behind it."""
    if row is None or row["value"] is None:
        return "-"
    ends = "" if row["low"] is None else f" ({row['low']:.3f}-{row['high']:.3f})"
    return f"{mark}{row['value']:.4f}{ends}{' !' if alarm else ''}"


# -- watch -----------------------------------------------------------------------------------------------------------


@app.command("watch")
def watch(
    models: list[str] = typer.Argument(None, metavar="[MODEL]...", help="Which models; without one all with a log."),
    once: bool = typer.Option(False, "--once", help="Judge what is there and end: exit code 1 on an alarm."),
    port: int = typer.Option(None, "--metrics-port", metavar="PORT", help="Answer Prometheus there, on 127.0.0.1."),
    inline: bool = typer.Option(False, "--inline", help="Retrain without Ray."),
    json: bool = typer.Option(False, "--json", help="A JSON line an alarm on standard error; all at the end."),
) -> int:
    """Follow the prediction logs of models beside their server, and start what an alarm starts.

    Every window is judged once, whatever process does it: one that was stopped, or killed, goes on where it was.
    """
    from engine.cli.monitor_watch import keep_watch

    return keep_watch(models or [], once=once, port=port, inline=inline, json=json)


@app.command("retrain")
def retrain(
    model: str = typer.Argument(..., metavar="MODEL", help="Which model."),
    alarm: str = typer.Option(..., "--alarm", metavar="ID", help="The alarm that is the cause."),
    inline: bool = typer.Option(False, "--inline", help="In this process, in order, without Ray."),
    json: bool = JSON,
) -> int:
    """Run a model's spec on its old training data and what was labelled since, on a branch of the lake.

    When its gates pass the version gets the alias candidate, or what the spec says; never production.
    """
    from engine.cli.progress import Lines
    from engine.cli.reporting import no_commands
    from engine.retraining import retrain as carry_out

    home = home_here()
    with no_commands():
        outcome = carry_out(model, alarm, home, observatory(home), Lines().hear, datetime.now(UTC), inline=inline)
    home.rest()
    if json:
        view.document({"model": model, "alarm": alarm, **outcome})
    else:
        for text in outcome_lines(model, outcome):
            view.line(text)
    return YES if outcome["status"] == "passed" else FAILED if outcome["status"] == "failed" else NO


def outcome_lines(model: str, outcome: Mapping[str, Any]) -> list[str]:
    """What came of a retraining, for a person."""
    status = outcome["status"]
    if status == "passed":
        version, alias, branch = f"{model}:{outcome['version']}", outcome["alias"], outcome["branch"]
        return [
            f"{model}@{alias} is now version {outcome['version']}, of run {view.short(outcome['run'])}",
            f"  next: engine models promote {version} --to production --merge-data {branch}",
        ]
    return [f"{model}: retraining {status}: {terminal(str(outcome.get('reason', '')))}"]
