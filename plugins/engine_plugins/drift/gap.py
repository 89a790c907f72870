"""The largest distance between the empirical distribution functions of two samples, exactly and without sorting both.

::

    reference  --once--> sorted, and counted in buckets of equal width
    window     --------> counted in the same buckets --> the functions at the end of each
                                |
                  buckets in which they may be further apart --> only their values are sorted and looked up

Both functions rise, so what they are at the ends of a bucket says how far apart they can be within it. Of samples that
are alike a few buckets in a hundred are left.
"""

from __future__ import annotations

import numpy as np

from engine_plugins.drift.columns import BoolArray, FloatArray, IntArray, SingleArray

OUTER = 0.001
"""The share of the reference below the first bucket's end, and above the last one's start, that is not spread out."""
PER_ROOT = 16
"""Buckets for each unit of the square root of the reference's size: each has less than the gap that chance makes."""
MOST_BUCKETS = 1 << 15
FEWEST = 200
"""Values below which a window is sorted at once."""


class Reference:
    """A sample without NaN that others are compared with."""

    def __init__(self, values: SingleArray) -> None:
        self.values: SingleArray = np.sort(values)
        count = len(values)
        self.buckets = min(1 << int(np.log2(PER_ROOT * np.sqrt(max(count, 1)))), MOST_BUCKETS)
        outer = int(OUTER * count)
        self.low, high = self.values[outer], self.values[count - 1 - outer]
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            scale = np.float32(self.buckets) / (high - self.low)
        self.scale = scale if np.isfinite(scale) and scale > 0 else None
        if self.scale is not None:
            self.counts = np.cumsum(np.bincount(self.bucket(self.values), minlength=self.buckets))

    def bucket(self, values: SingleArray) -> IntArray:
        """The bucket of each value: it rises with the value, as every step of the arithmetic does."""
        with np.errstate(over="ignore"):
            place = (values - self.low) * self.scale
        found: IntArray = np.minimum(np.maximum(place, 0), self.buckets - 1).astype(np.intp)
        return found

    def gap(self, window: SingleArray) -> float:
        """The largest distance to the function of a window without NaN, which has at least one value."""
        if self.scale is None or len(window) < FEWEST:
            ordered = np.sort(window)
            return self.gap_at(ordered, np.arange(len(ordered)), len(ordered))
        codes = self.bucket(window)
        counts = np.bincount(codes, minlength=self.buckets)
        upto = np.cumsum(counts)
        ours, theirs = upto / len(window), self.counts / len(self.values)
        largest = float(np.abs(ours - theirs).max())
        wide = room(ours, theirs) > largest
        chosen = wide[codes]
        if not chosen.any():
            return largest
        ordered = np.sort(window[chosen])
        inside = np.where(wide, counts, 0)
        below = (upto - counts) - (np.cumsum(inside) - inside)  # values of smaller buckets that were not chosen
        places = np.repeat(below[wide], counts[wide]) + np.arange(len(ordered))
        return max(largest, self.gap_at(ordered, places, len(window)))

    def gap_at(self, values: SingleArray, places: IntArray, count: int) -> float:
        """The largest distance at some of the window's values, or just before them.

        Between two values of the window its own function is flat and the other one rises, so the gap is largest at a
        value of the window or just before one. Among equal values the last has the window's function at it, the first
        the one before it; the others are never further away. Of a value that the reference does not have, as many of
        it are below as are not above, so it need not be looked for twice.

        Args:
            values: sorted; all of those that are equal.
            places: how many of the window's values come before each.
            count: how many values the window has.
        """
        upto = np.searchsorted(self.values, values, "right")
        shared: BoolArray = self.values[np.maximum(upto - 1, 0)] == values
        before = upto.copy()
        before[shared] = np.searchsorted(self.values, values[shared], "left")
        above = (places + 1) / count - upto / len(self.values)
        below = before / len(self.values) - places / count
        return float(max(above.max(), below.max(), 0.0))


def room(ours: FloatArray, theirs: FloatArray) -> FloatArray:
    """How far apart two functions can be within each bucket, from what they are at the ends of all."""
    starts = [np.concatenate([[0.0], side[:-1]]) for side in (ours, theirs)]
    found: FloatArray = np.maximum(ours - starts[1], theirs - starts[0])
    return found
