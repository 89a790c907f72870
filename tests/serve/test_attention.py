"""When the event loop of a server goes on looking for the next request, and when it sleeps."""

from __future__ import annotations

import asyncio
import selectors
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from engine.serve.attention import MOMENT, Attention, has_cores_for


class Watched(selectors.DefaultSelector):
    """Notes how long the loop was ready to sleep, in seconds."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[float | None] = []

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """As ever."""
        self.waits.append(timeout)
        return super().select(timeout)


@contextmanager
def looping() -> Iterator[tuple[asyncio.AbstractEventLoop, Watched]]:
    """An event loop and how it waits."""
    selector = Watched()
    loop = asyncio.SelectorEventLoop(selector)
    try:
        yield loop, selector
    finally:
        loop.close()


def sleeps_after(act: Callable[[Attention], None], *, wanted: bool = True) -> bool:
    """Whether a loop sleeps at once after something happened in it."""

    async def happen() -> None:
        act(attention)
        selector.waits.clear()
        await asyncio.sleep(MOMENT / 4)

    with looping() as (loop, selector):
        attention = Attention(loop, wanted=wanted)
        loop.run_until_complete(happen())
        return any(wait is None or wait > 0 for wait in selector.waits[:3])


def ask(attention: Attention, *, times: int = 1) -> None:
    """So many requests come at once, and are answered."""
    for _ in range(times):
        attention.asked(time.monotonic())
    for _ in range(times):
        attention.answered()


def ask_soon_again(attention: Attention) -> None:
    """A request comes right after the answer to the last."""
    ask(attention)
    ask(attention)


def test_the_loop_does_not_sleep_after_an_answer_to_a_request_that_came_soon_after_the_last_answer() -> None:
    assert not sleeps_after(ask_soon_again)


def test_the_loop_sleeps_after_the_answer_to_a_request_that_came_out_of_silence() -> None:
    assert sleeps_after(ask)


def test_the_loop_sleeps_after_answers_to_requests_that_came_together() -> None:
    assert sleeps_after(lambda attention: ask(attention, times=2) or ask(attention, times=2))  # type: ignore[func-returns-value]


def test_the_loop_sleeps_where_there_is_no_core_to_spare() -> None:
    assert sleeps_after(ask_soon_again, wanted=False)


def test_the_loop_sleeps_again_when_nothing_came_for_a_moment() -> None:
    async def happen() -> None:
        ask_soon_again(attention)
        await asyncio.sleep(100 * MOMENT)
        selector.waits.clear()
        await asyncio.sleep(MOMENT)

    with looping() as (loop, selector):
        attention = Attention(loop)
        loop.run_until_complete(happen())
        assert all(wait is None or wait > 0 for wait in selector.waits[:1])


@pytest.mark.parametrize(("workers", "expected"), [(1, True), (2, False)])
def test_each_worker_leaves_a_core_to_others(workers: int, expected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1})
    assert has_cores_for(workers) is expected
