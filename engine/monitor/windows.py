"""Which rows are judged together: so many in the order in which they were predicted, or all of a span of time.

The time of a row is when it was predicted. In which order rows came to the log, and when, plays no part in a window
that is looked at afterwards; one that is followed as it grows waits for stragglers, and a row that comes after its
window was closed is taken into the next one and counted as late.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from engine.errors import UsageError

DURATION = re.compile(r"^(\d+(?:\.\d+)?)(s|m|h|d|w)$")
UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
MONTH = "month"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Size:
    """How large windows are: ``rows``, or ``seconds`` (windows begin at multiples of it since 1970), or calendar months
    in UTC. Exactly one of the three is given."""

    rows: int | None = None
    seconds: float | None = None
    month: bool = False

    @property
    def kind(self) -> Literal["rows", "time"]:
        """Whether rows are counted, or time passes."""
        return "rows" if self.rows is not None else "time"

    def __str__(self) -> str:
        if self.rows is not None:
            return str(self.rows)
        return MONTH if self.month else shown(self.seconds or 0.0)


def shown(seconds: float) -> str:
    """A duration in the largest unit of which it is a whole number."""
    for unit in ("d", "h", "m"):
        if seconds >= UNITS[unit] and seconds % UNITS[unit] == 0:
            return f"{seconds / UNITS[unit]:.0f}{unit}"
    return f"{seconds:g}s"


def size_of(text: str | int) -> Size:
    """A window as a spec or a command line writes it: ``1000``, ``7d``, ``month``.

    Raises:
        UsageError: for anything else.
    """
    written = str(text).strip()
    if written == MONTH:
        return Size(month=True)
    found = DURATION.match(written)
    if found is not None and float(found[1]) > 0:
        return Size(seconds=float(found[1]) * UNITS[found[2]])
    if written.isascii() and written.isdigit() and int(written) > 0:
        return Size(rows=int(written))
    raise UsageError(f'"{written}" is no window', hint="write a number of rows, a time such as 12h or 7d, or month")


def span_at(size: Size, moment: datetime) -> tuple[datetime, datetime]:
    """The window by time that a moment lies in: its start, and its end, which is not part of it."""
    if size.month:
        start = moment.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        return start, (start + timedelta(days=32)).replace(day=1)
    assert size.seconds is not None
    length = timedelta(seconds=size.seconds)
    start = EPOCH + length * ((moment - EPOCH) // length)
    return start, start + length


def length_of(size: Size) -> float | None:
    """How many seconds a window by time lasts (a month: 30 days); nothing for one by rows."""
    if size.rows is not None:
        return None
    return 30 * UNITS["d"] if size.month else size.seconds


def micros(moment: datetime) -> int:
    """A moment in microseconds since 1970, exactly."""
    return (moment - EPOCH) // MICROSECOND


def moment_at(value: int) -> datetime:
    """The moment that is so many microseconds after 1970."""
    return EPOCH + timedelta(microseconds=value)
