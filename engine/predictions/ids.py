"""Prediction ids: UUID version 7 (RFC 9562), so that they sort by the time at which they were given."""

from __future__ import annotations

import os
from datetime import UTC, datetime


def prediction_ids(count: int, time_ns: int) -> list[str]:
    """New ids for a time in nanoseconds since 1970."""
    millis = f"{time_ns // 1_000_000:012x}"
    head = f"{millis[:8]}-{millis[8:]}-7"
    random = os.urandom(10 * count).hex()
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
