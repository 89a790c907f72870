"""Looking for the next request instead of sleeping, while one client asks again and again.

To wake a process that sleeps in the kernel takes 30 to 60 us, as long as everything else that an answer takes. A client
that waits for each answer before it asks again pays that every time. So after an answer the event loop goes on looking
at its sockets for a moment without sleeping, provided that the last request, too, came within that moment of the answer
before it. One that does not come again costs the moment once.
"""

from __future__ import annotations

import asyncio
import os
import time

MOMENT = 0.0002
"""Seconds."""


def has_cores_for(workers: int) -> bool:
    """Whether each of the worker processes may keep a core busy and leave as many to others."""
    return len(os.sched_getaffinity(0)) >= 2 * workers


class Attention:
    """When the event loop goes on looking. Everything happens in the loop.

    With several requests at once it never does: they come while others are answered, and gather for one call of the
    model.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, *, wanted: bool = True) -> None:
        self._loop = loop
        self._wanted = wanted
        self._asked = 0
        self._answered = 0.0
        self._is_near = self._looks = False

    def asked(self, now: float) -> None:
        """A request came, at ``now`` (monotonic seconds)."""
        self._asked += 1
        self._is_near = now - self._answered < MOMENT

    def answered(self) -> None:
        """What was asked is answered."""
        alone, self._asked = self._asked == 1, 0
        if self._wanted:
            self._answered = time.monotonic()
            if alone and self._is_near and not self._looks:
                self._looks = True
                self._loop.call_soon(self._look)

    def _look(self) -> None:
        """Come again in the next turn of the loop, which therefore does not sleep."""
        if time.monotonic() - self._answered < MOMENT:
            self._loop.call_soon(self._look)
        else:
            self._looks = False
