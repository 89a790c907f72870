"""How bytes or rows go by: a bar on a terminal, a line now and then in a pipe, and nothing when it is over at once."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from engine.cli import view
from engine.cli.lake_view import size
from engine.lake.protocol import Progress

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

PATIENCE = 0.5
BETWEEN_LINES = 5.0


Shown = Callable[[int], str]


def rows(count: int) -> str:
    """A number of rows as it is shown."""
    return f"{count:,} rows"


class Lines:
    """A line on standard error every few seconds."""

    def __init__(self, what: str, total: int | None, shown: Shown = size) -> None:
        self.what = what
        self.total = total
        self.shown = shown
        self.done = 0
        self.last = time.monotonic()

    def __call__(self, count: int) -> None:
        """``count`` more bytes are done."""
        self.done += count
        if time.monotonic() - self.last >= BETWEEN_LINES:
            self.last = time.monotonic()
            whole = f" of {self.shown(self.total)}" if self.total else ""
            view.note(f"{self.what}: {self.shown(self.done)}{whole}")

    def close(self) -> None:
        """It is over."""


class Bar:
    """A bar that appears when it takes longer than half a second."""

    def __init__(self, what: str, total: int | None, shown: Shown = size) -> None:
        self.what = what
        self.total = total
        self.shown = shown
        self.done = 0
        self.since = time.monotonic()
        self.bar: RichProgress | None = None

    def __call__(self, count: int) -> None:
        """``count`` more bytes are done."""
        self.done += count
        if self.bar is None and time.monotonic() - self.since > PATIENCE:
            self.bar = rich_bar() if self.shown is size else rich_counter()
            self.bar.add_task(self.what, total=self.total)
            self.bar.start()
        if self.bar is not None:
            self.bar.update(self.bar.task_ids[0], completed=self.done)

    def close(self) -> None:
        """It is over; the bar goes."""
        if self.bar is not None:
            self.bar.stop()


def rich_bar() -> RichProgress:
    """A bar with bytes, speed and the time that is left, on standard error."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    console = Console(file=sys.stderr, color_system="auto" if view.coloured(sys.stderr) else None)
    columns = (BarColumn(), DownloadColumn(binary_units=True), TransferSpeedColumn(), TimeRemainingColumn())
    return Progress(TextColumn("{task.description}"), *columns, console=console, transient=True)


def rich_counter() -> RichProgress:
    """Rows, their speed and the time that has passed, on standard error: how many there will be nobody knows."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(file=sys.stderr, color_system="auto" if view.coloured(sys.stderr) else None)
    columns = (BarColumn(), TextColumn("{task.completed:,} rows"), TimeElapsedColumn())
    return Progress(TextColumn("{task.description}"), *columns, console=console, transient=True)


@contextmanager
def rows_done(what: str) -> Iterator[Progress]:
    """Something to tell how many more rows are done, which shows it on standard error."""
    shown = (Bar if view.is_terminal(sys.stderr) else Lines)(what, None, rows)
    try:
        yield shown
    finally:
        shown.close()


@contextmanager
def bytes_done(what: str, total: int | None = None) -> Iterator[Progress]:
    """Something to tell how many more bytes are done, which shows it on standard error."""
    shown = (Bar if view.is_terminal(sys.stderr) else Lines)(what, total)
    try:
        yield shown
    finally:
        shown.close()
