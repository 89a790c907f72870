"""Ends what an own Ray cluster leaves when its driver is gone, even when the driver was killed.

Started as a process of its own: ``python -I -S reaper.py TOKEN FOLDER``. It waits until its standard input ends, which
happens when the driver leaves or dies, and then ends every process of the cluster, and removes the cluster's folder.
Linux only: elsewhere Ray's own clean-up is all there is.

A process is the cluster's if it was started with the cluster's token in its environment (each cluster has its own). Ray
writes titles such as ``ray::IDLE`` over that environment: such a process is the cluster's if it has a file of its open.
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


def processes_of(token: str, folder: str) -> Iterator[int]:
    """The processes of a cluster; not this one."""
    for entry in PROCESSES.iterdir() if PROCESSES.is_dir() else ():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            if was_started_with(entry, token) or (is_retitled(entry) and has_open(entry, folder)):
                yield int(entry.name)
        except OSError:
            continue  # it is gone, or somebody else's


def was_started_with(process: Path, token: str) -> bool:
    """Whether a process has the token in its environment as it was when it began."""
    return f"RAY_AUTH_TOKEN={token}".encode() in (process / "environ").read_bytes().split(b"\0")


def is_retitled(process: Path) -> bool:
    """Whether Ray has given a process a title."""
    return (process / "cmdline").read_bytes().startswith(b"ray::")


def has_open(process: Path, folder: str) -> bool:
    """Whether a process has a file in the folder open."""
    return any(str(entry.readlink()).startswith(f"{folder}/") for entry in (process / "fd").iterdir())


def reap(token: str, folder: str) -> None:
    """End them, and what they start meanwhile."""
    for _ in range(ROUNDS):
        found = list(processes_of(token, folder))
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
    reap(token, folder)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
