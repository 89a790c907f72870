"""Run a command as a person sees it: standard output is a terminal of a known width, without colour."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import termios
import threading
from collections.abc import Mapping
from pathlib import Path

COLUMNS, ROWS = 110, 200


def shown(
    command: list[str], folder: Path, environment: Mapping[str, str], timeout: float = 240
) -> tuple[int, str, str]:
    """Exit code, what the terminal shows of standard output, and standard error as text."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    wanted = {**os.environ, **environment, "NO_COLOR": "1", "TERM": "xterm", "COLUMNS": str(COLUMNS)}
    wanted.pop("CI", None)
    process = subprocess.Popen(command, cwd=folder, env=wanted, stdout=slave, stderr=subprocess.PIPE)
    os.close(slave)
    pieces: list[bytes] = []
    reader = threading.Thread(target=drain, args=(master, pieces))
    reader.start()
    try:
        _, errors = process.communicate(timeout=timeout)
    finally:
        process.kill()
        reader.join(10)
        os.close(master)
    return process.returncode, b"".join(pieces).decode().replace("\r\n", "\n"), errors.decode()


def drain(master: int, pieces: list[bytes]) -> None:
    """Read a terminal until nobody writes to it any more."""
    while True:
        try:
            piece = os.read(master, 65536)
        except OSError:
            return
        if not piece:
            return
        pieces.append(piece)
