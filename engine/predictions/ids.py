"""Prediction ids: UUID version 7 (RFC 9562), so that they sort by the time at which they were given."""

from __future__ import annotations

import os
import threading
from datetime import UTC, datetime


class Randomness:
    """Random hexadecimal digits, drawn from the system many at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.forget()

    def forget(self) -> None:
        """Draw anew: after a fork both processes would have the same digits."""
        self._digits, self._at = "", 0

    def taken(self, count: int) -> str:
        """Digits that nobody else gets."""
        with self._lock:
            if self._at + count > len(self._digits):
                self._digits, self._at = os.urandom(max(DRAWN, count)).hex(), 0
            self._at += count
            return self._digits[self._at - count : self._at]


DRAWN = 4096
RANDOM = Randomness()
os.register_at_fork(after_in_child=RANDOM.forget)


def prediction_ids(count: int, time_ns: int) -> list[str]:
    """New ids for a time in nanoseconds since 1970."""
    millis = f"{time_ns // 1_000_000:012x}"
    head = f"{millis[:8]}-{millis[8:]}-7"
    random = RANDOM.taken(20 * count)
    return [
        f"{head}{random[at : at + 3]}-{VARIANT[random[at + 3]]}{random[at + 4 : at + 7]}-{random[at + 7 : at + 19]}"
        for at in range(0, 20 * count, 20)
    ]


VARIANT = {digit: "89ab"[int(digit, 16) % 4] for digit in "0123456789abcdef"}


def time_of(prediction: str) -> datetime | None:
    """When a prediction was made, to the millisecond; nothing for a text that is no such id."""
    digits = prediction.replace("-", "")
    if len(prediction) != 36 or len(digits) != 32 or digits[12] != "7":
        return None
    try:
        return datetime.fromtimestamp(int(digits[:12], 16) / 1000, UTC)
    except ValueError:
        return None
