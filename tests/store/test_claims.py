"""Work that several processes might do at once is done by one."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from engine.errors import StorageUnwritable
from engine.store.claims import claimed
from projects import mounted, read_only


@pytest.fixture
def claim(tmp_path: Path) -> Path:
    return tmp_path / "claims" / "work"


def forked(work: Callable[[], object]) -> int:
    """A process that does ``work``; its exit code is 0, or 2 when it was interrupted."""
    child = os.fork()
    if child:
        return child
    code = 1
    with suppress(Exception):
        try:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            work()
            code = 0
        except KeyboardInterrupt:
            code = 2
    os._exit(code)


def exit_code(process: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def appears(path: Path, text: str = "") -> None:
    """Wait until there is a file with ``text`` in it."""
    until = time.monotonic() + 20
    while not (path.is_file() and text in path.read_text()):
        assert time.monotonic() < until
        time.sleep(0.005)


def held(claim: Path, seconds: float = 60) -> Callable[[], None]:
    """Work that holds a claim for some time."""

    def hold() -> None:
        with claimed(claim, lambda _: None):
            time.sleep(seconds)

    return hold


def test_whoever_waits_is_told_for_whom(claim: Path) -> None:
    child = forked(held(claim, 0.5))
    appears(claim, str(child))
    told: list[str] = []
    with claimed(claim, told.append):
        assert exit_code(child) == 0
    assert told == [f"process {child}"]


def test_nobody_waits_for_a_claim_that_is_free_and_nothing_of_it_stays(claim: Path) -> None:
    told: list[str] = []
    for _ in range(2):
        with claimed(claim, told.append):
            pass
    assert (told, list(claim.parent.iterdir())) == ([], [])


def test_a_claim_is_free_when_its_holder_is_killed(claim: Path) -> None:
    child = forked(held(claim))
    appears(claim, str(child))
    os.kill(child, signal.SIGKILL)
    exit_code(child)
    told: list[str] = []
    with claimed(claim, told.append):
        assert told == []


def test_what_a_holder_started_by_a_fork_does_not_hold_the_claim_after_it(claim: Path, tmp_path: Path) -> None:
    def hold_and_fork() -> None:
        with claimed(claim, lambda _: None):
            (tmp_path / "grandchild").write_text(f"{forked(lambda: time.sleep(60))}.")
            time.sleep(60)

    child = forked(hold_and_fork)
    appears(tmp_path / "grandchild", ".")
    os.kill(child, signal.SIGKILL)
    exit_code(child)
    told: list[str] = []
    with claimed(claim, told.append):
        os.kill(int((tmp_path / "grandchild").read_text()[:-1]), signal.SIGKILL)
    assert told == []


def test_whoever_waits_can_be_interrupted_and_the_holder_goes_on(claim: Path, tmp_path: Path) -> None:
    def wait() -> None:
        with claimed(claim, lambda _: (tmp_path / "waits").touch()):
            pass

    with claimed(claim, lambda _: None):
        child = forked(wait)
        appears(tmp_path / "waits")
        time.sleep(0.05)
        os.kill(child, signal.SIGINT)
        assert exit_code(child) == 2
        assert claim.is_file()


def test_of_many_processes_one_is_inside_at_a_time(claim: Path, tmp_path: Path) -> None:
    count = tmp_path / "count"
    count.write_text("0")

    def add() -> None:
        for _ in range(50):
            with claimed(claim, lambda _: None):
                found = int(count.read_text())
                count.write_text(str(found + 1))

    assert [exit_code(child) for child in [forked(add) for _ in range(4)]] == [0] * 4
    assert count.read_text() == "200"


def test_where_nothing_may_be_written_nothing_is_claimed(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    with (
        read_only(tmp_path / "home", tmp_path / "seen") as home,
        pytest.raises(StorageUnwritable),
        claimed(home / "claims" / "work", lambda _: None),
    ):
        raise AssertionError("it was claimed")


def test_a_claim_is_held_also_where_there_is_no_room_to_say_by_whom(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "size=64k", "tmpfs") as disk:
        claim = disk / "claims" / "work"
        claim.parent.mkdir()
        with suppress(OSError):
            (disk / "filler").write_bytes(bytes(1 << 20))
        child = forked(held(claim, 0.5))
        appears(claim)
        time.sleep(0.1)
        told: list[str] = []
        with claimed(claim, told.append):
            assert exit_code(child) == 0
        assert told == ["another process"]
