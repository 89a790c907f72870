"""What every benchmark needs: peers in environments of their own, rounds that alternate, and a table of ratios."""

from __future__ import annotations

import compileall
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENTS = ROOT / ".bench"


def environment(name: str, *requirements: str) -> Path:
    """The Python of a peer's own virtual environment, made when it is not there; all its byte-code is compiled."""
    folder = ENVIRONMENTS / name
    python = folder / "bin" / "python"
    if not (folder / ".ready").is_file():
        print(f"installing {' '.join(requirements)} into {folder}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", *requirements], check=True)
        subprocess.run(
            [str(python), "-m", "compileall", "-q", str(folder / "lib")], check=False, stdout=subprocess.DEVNULL
        )
        (folder / ".ready").touch()
    return python


def compile_ours() -> None:
    """Compile our byte-code too, whatever PYTHONDONTWRITEBYTECODE says."""
    for folder in ("engine", "plugins"):
        compileall.compile_dir(ROOT / folder, quiet=2)


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A folder on the project's disk (that of the system's temporary files may be memory)."""
    ENVIRONMENTS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=ENVIRONMENTS) as folder:
        yield Path(folder)


def answer(python: Path | str, code: str, *arguments: object, cwd: Path) -> dict[str, float]:
    """What a program prints last, as JSON. It runs in a process of its own, and times itself."""
    command = [str(python), "-c", code, *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=quiet_environment(), check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command[:1])} failed:\n{done.stderr[-3000:]}")
    found: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def command(*words: object, cwd: Path) -> float:
    """The seconds that a command takes, from its start to its end."""
    started = time.perf_counter()
    subprocess.run([str(word) for word in words], cwd=cwd, check=True, capture_output=True, env=quiet_environment())
    return time.perf_counter() - started


def quiet_environment() -> dict[str, str]:
    """The environment of both sides: nothing is reported anywhere, our source tree is importable."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "plugins")])
    return {**os.environ, "DVC_NO_ANALYTICS": "1", "PYTHONPATH": path, "CI": "true"}


@dataclass
class Table:
    """Seconds by work and side, over rounds."""

    title: str
    seen: dict[str, dict[str, list[float]]] = field(default_factory=dict)

    def add(self, side: str, times: dict[str, float], suffix: str = "") -> None:
        """One round of one side."""
        for work, seconds in times.items():
            self.seen.setdefault(work + suffix, {}).setdefault(side, []).append(seconds)

    def show(self, wanted: dict[str, float], ours: str = "engine") -> None:
        """Print the median of each side, the ratio to ours, and the ratio that was promised."""
        print(f"\n{self.title}  (medians of rounds, [lowest .. highest])")
        for work, sides in self.seen.items():
            mine = statistics.median(sides[ours])
            print(f"  {work}")
            for side, values in sides.items():
                middle = statistics.median(values)
                spread = f"[{shown(min(values))} .. {shown(max(values))}]"
                promised = f"   promised {wanted[work]:g}x" if side != ours and work in wanted else ""
                ratio = "" if side == ours else f"   {middle / mine:,.1f}x{promised}"
                print(f"    {side:<22} {shown(middle):>10}  {spread:<24}{ratio}")


def shown(seconds: float) -> str:
    """A time for a person."""
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.4g} ms"


def alternate(sides: Sequence[str], rounds: int) -> Iterator[tuple[int, str]]:
    """Each side in each round, the first one being another each time, so that what disturbs the machine hits all."""
    for number in range(rounds):
        shift = number % len(sides)
        for side in [*sides[shift:], *sides[:shift]]:
            yield number, side
