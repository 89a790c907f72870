"""``engine monitor watch``: what a patrol is laid out with, and what a person sees of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.cli import view
from engine.cli.monitor import (
    feature_lines,
    judgement_lines,
    observatory,
    outcome_lines,
    show_damage,
    skipped_lines,
)
from engine.errors import FAILED, NO, YES, UsageError, translate_os_error
from engine.monitor.alerts import Headers
from engine.monitor.exposition import Board
from engine.monitor.table import Table
from engine.observe.drift import document as of_judgement
from engine.observe.drift import figures_of
from engine.patrol import (
    Alarmed,
    Began,
    Computed,
    Delivered,
    Duty,
    Notice,
    Passed,
    Retrained,
    Retraining,
    Trouble,
    WindowJudged,
    names_in,
    patrol,
)
from engine.report.clean import terminal
from engine.wiring import Home, home_here

if TYPE_CHECKING:
    from engine.monitor.model import Raised

POST_SECONDS = 10.0


def keep_watch(models: Sequence[str], *, once: bool, port: int | None, inline: bool, json: bool) -> int:
    """Watch until Ctrl-C; with ``once`` until all that is there was judged.

    Returns:
        With ``once`` 1 after an alarm, 3 where a model could not be watched, else 0.

    Raises:
        ModelNotFound: for a model that is not registered.
        UsageError: when nothing is there to be watched, another process watches, or the port is taken.
    """
    home = home_here()
    where = observatory(home)
    logged = [name for name in names_in(where.logs) if where.registry.versions(name)]
    names = list(models) or logged or where.registry.models()
    if not names:
        raise UsageError("no model is registered yet", hint="`engine run SPEC` registers one")
    board = Board()
    if port is not None:
        answer_at(port, board)
    table = Table(home.path / "monitor")
    duty = Duty(
        where=where, table=table, post=post, retrain=retraining(home, table, inline), environment=dict(os.environ)
    )
    said: list[dict[str, Any]] = []
    answer = YES
    for notice in patrol(names, duty, once=once):
        measure(notice, board, table)
        show(notice, as_json=json)
        if isinstance(notice, Alarmed):
            said.append(alarm_document(notice.raised, told=notice.told))
        answer = max(answer, NO if isinstance(notice, Alarmed) else FAILED if isinstance(notice, Trouble) else YES)
    if json:
        view.document({"alarms": said})
    elif not said and answer == YES:
        view.line("no alarm")
    return answer


def answer_at(port: int, board: Board) -> None:
    """Answer Prometheus.

    Raises:
        UsageError: when the port is taken.
    """
    try:
        taken, _ = board.serve(port)
    except (OSError, OverflowError) as error:
        hint = "take another, or 0 for any that is free"
        fact = translate_os_error(error, "").fact if isinstance(error, OSError) else "it is no port"
        raise UsageError(f"cannot listen there: {fact}", place=f"--metrics-port {port}", hint=hint) from error
    view.note(f"metrics: http://127.0.0.1:{taken}/metrics")


def post(url: str, body: bytes, headers: Headers) -> tuple[int, str]:
    """Send an alarm.

    Raises:
        EngineError: when the address is none that may be asked, or nobody answers.
    """
    from engine.lake.webhook import ALLOW
    from engine.lake.webhook import post as send

    answer = send(url, body, headers, POST_SECONDS, os.environ.get(ALLOW, ""))
    return answer.status, answer.text


def retraining(home: Home, table: Table, inline: bool) -> Retraining:
    """Retrainings in processes of their own: a watch goes on meanwhile."""

    def begin(model: str, alarm: str) -> Callable[[], Mapping[str, Any] | None]:
        words = ["monitor", "retrain", model, "--alarm", alarm, "--json", *(["--inline"] if inline else [])]
        log = home.path / "monitor" / f"retrain-{alarm[:12]}.log"
        with log.open("ab") as said:
            process = subprocess.Popen(  # noqa: S603
                [sys.executable, "-m", "engine.cli.main", *words],
                cwd=home.root, stdin=subprocess.DEVNULL, stdout=said, stderr=said,
            )  # fmt: skip
        return lambda: None if process.poll() is None else outcome_of(table, model, alarm, log)

    return begin


def outcome_of(table: Table, model: str, alarm: str, log: Path) -> Mapping[str, Any]:
    """What a process that is over has noted; where it noted no end, that it failed."""
    noted: Mapping[str, Any] = next((item["outcome"] for item in table.retrained(model) if item["alarm"] == alarm), {})
    if noted.get("status") not in (None, "wanted", "begun"):
        return dict(noted)
    outcome = {"status": "failed", "reason": f"its process ended without an answer; see {log}"}
    with table.change() as change:
        change.note_retraining(alarm, model, datetime.now(UTC), outcome)
    return outcome


# -- what is measured ------------------------------------------------------------------------------------------------


def measure(notice: Notice, board: Board, table: Table) -> None:
    """Keep the gauges and counters up to date."""
    board.looked.set(time.time())
    if isinstance(notice, WindowJudged):
        found = notice.judgement
        drifted = found.alarm is not None or any(verdict.drift for verdict in found.online.values())
        board.window(found.stream, found.window.rows, found.window.late, drifted=drifted)
        for figure in figures_of(found):
            board.figure(figure)
    elif isinstance(notice, Alarmed):
        board.alarm(notice.raised)
    elif isinstance(notice, Computed):
        board.rows_of(table.figures(notice.model))
    elif isinstance(notice, Delivered):
        board.messages.labels(model=notice.model, outcome="taken" if notice.sent.done else "not taken").inc()
    elif isinstance(notice, Retrained):
        board.retrainings.labels(model=notice.model, status=notice.outcome["status"]).inc()
    elif isinstance(notice, Passed):
        board.damaged.labels(model=notice.model).inc()
    elif isinstance(notice, Trouble):
        board.trouble.labels(model=notice.model).set(1)
    elif isinstance(notice, Began):
        board.trouble.labels(model=notice.model).set(0)


# -- what is seen ----------------------------------------------------------------------------------------------------


def show(notice: Notice, *, as_json: bool) -> None:
    """Say what happens: windows with an alarm are the answer, all else is beside it."""
    if as_json:
        if isinstance(notice, Alarmed) and notice.logged:
            view.note(json.dumps(alarm_document(notice.raised, told=notice.told), ensure_ascii=False, default=str))
        elif isinstance(notice, Trouble):
            view.error(notice.error)
        return
    if isinstance(notice, WindowJudged):
        show_window(notice)
    elif isinstance(notice, Alarmed):
        if notice.logged:
            show_alarm(notice)
    elif isinstance(notice, Trouble):
        view.error(notice.error)
        view.note(view.paint(f"  {terminal(notice.model)} is tried again", view.DIM))
    elif isinstance(notice, Passed):
        show_damage((notice.damage,))
    elif isinstance(notice, Retrained):
        show_retrained(notice)
    else:
        view.note(view.paint(f"{time.strftime('%H:%M:%S')}  {sentence(notice)}", view.DIM))


def show_window(notice: WindowJudged) -> None:
    """A window that was judged: what is behind its alarm, which is shown already; without one a line."""
    found = notice.judgement
    if of_judgement(found)["drift"] or found.violating:
        for text in [*feature_lines(found), *skipped_lines(found)]:
            view.line(f"    {text}")
        sys.stdout.flush()
    else:
        view.note(view.paint(judgement_lines(found)[0], view.DIM))


def show_alarm(notice: Alarmed) -> None:
    """An alarm, and its id, by which a retraining can be started."""
    raised = notice.raised
    window = raised.window
    word = view.paint("ALARM", view.RED, view.BOLD, stream=sys.stdout)
    span = f"{window.start:%Y-%m-%d %H:%M} to {window.end:%Y-%m-%d %H:%M}"
    repeated = "" if notice.told else ", as before"
    view.line(f"{word} {view.short(raised.id)}  {raised.stream}  {window.rows:,} rows, {span}{repeated}")
    view.line(f"  {terminal(raised.text)}")
    sys.stdout.flush()


def show_retrained(notice: Retrained) -> None:
    """A retraining that began or is over."""
    if notice.outcome["status"] == "begun":
        view.note(f"retraining {terminal(notice.model)} for alarm {view.short(notice.alarm)}")
        return
    for text in outcome_lines(notice.model, notice.outcome):
        view.line(text)
    sys.stdout.flush()


def sentence(notice: Began | Computed | Delivered) -> str:
    """A notice in words."""
    model = terminal(notice.model)
    if isinstance(notice, Began):
        return f"watching {model}{', as before' if notice.resumed else ''}"
    if isinstance(notice, Computed):
        return f"{model}: {view.counted(notice.refreshed.figures, 'figure')} brought up to date"
    sent = notice.sent
    if sent.done:
        return f"{model}: the webhook took alarm {view.short(sent.alarm)}"
    again = f"; again at {sent.again:%H:%M:%S} UTC" if sent.again is not None else "; given up"
    return f"{model}: the webhook did not take alarm {view.short(sent.alarm)}: {terminal(sent.outcome)}{again}"


def alarm_document(raised: Raised, *, told: bool) -> dict[str, Any]:
    """An alarm as JSON."""
    window = raised.window
    return {
        "alarm": raised.id,
        "model": raised.stream.model,
        "version": raised.stream.version,
        "alias": raised.stream.alias,
        "slice": raised.stream.slice,
        "signal": raised.signal,
        "text": raised.text,
        "features": list(raised.features),
        "window": {
            "size": window.size, "start": window.start.isoformat(), "end": window.end.isoformat(),
            "rows": window.rows, "late": window.late,
        },
        "announced": told,
    }  # fmt: skip
