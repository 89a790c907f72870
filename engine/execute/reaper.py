"""Ends what an own Ray cluster leaves when its driver is gone, even when the driver was killed.

Started as a process of its own: ``python -I -S reaper.py TOKEN FOLDER``. It waits until its standard input ends, which
happens when the driver leaves or dies, and then ends every process that was started with the cluster's token in its
environment (each cluster has its own), and removes the cluster's folder. Linux only: elsewhere Ray's own clean-up is
all there is.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

PROCESSES = Path("/proc")
ROUNDS = 20
PAUSE = 0.1


def started_with(token: str) -> Iterator[int]:
    """The processes whose environment, as it was when they began, has the token; not this one."""
    wanted = f"RAY_AUTH_TOKEN={token}".encode()
    for entry in PROCESSES.iterdir() if PROCESSES.is_dir() else ():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            if wanted in (entry / "environ").read_bytes().split(b"\0"):
                yield int(entry.name)
        except OSError:
            continue  # it is gone, or somebody else's


def reap(token: str) -> None:
    """End them, and what they start meanwhile."""
    for _ in range(ROUNDS):
        found = list(started_with(token))
        if not found:
            return
        for process in found:
            try:
                os.kill(process, signal.SIGKILL)
            except OSError:
                continue
        time.sleep(PAUSE)


def main(token: str, folder: str) -> None:
    """Wait for the end of standard input, then clean up."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.stdin.buffer.read()
    reap(token)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
