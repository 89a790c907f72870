"""The README's examples: found, run again in a fresh project, and compared with what is pasted.

``python tests/end_to_end/readme.py`` pastes anew what the commands print now.
"""

from __future__ import annotations

import re
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from end_to_end.terminal import shown

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PYTHON = re.compile(r"^```python\nimport engine\n.*?^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, kw_only=True, slots=True)
class Example:
    """A command and what is pasted below it."""

    command: str
    output: str


def examples(text: str) -> Iterator[Example]:
    """Every ``$ command`` of the console blocks, in order."""
    for block in BLOCK.findall(text):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            yield Example(command=command, output=output.rstrip("\n"))


def fresh_project(folder: Path) -> Path:
    """A project with the repository's specs and nothing else."""
    shutil.copytree(ROOT / "specs", folder / "specs")
    shutil.copy(ROOT / "pyproject.toml", folder / "pyproject.toml")
    return folder


def run(command: str, folder: Path) -> str:
    """What a person sees: the answer, then what was said beside it (without the progress of steps)."""
    binary = Path(sys.executable).parent
    words = [str(binary / word) if word == "engine" else word for word in shlex.split(command)]
    _, output, errors = shown(words, folder, {"ENGINE_HOME": str(folder / ".engine")})
    output = output.replace("\x1b[0m", "")  # a library resets the terminal's colours when it leaves
    beside = "\n".join(line for line in errors.splitlines() if not re.match(r"(ran|cached) ", line))
    return "\n".join(part for part in (output.rstrip("\n"), beside.rstrip("\n")) if part)


def alike(text: str) -> str:
    """The words of ``text`` without what differs from run to run: ids, times, latencies, and who runs it."""
    text = re.sub(r"\b[0-9a-f]{7,64}\b", "<id>", text)
    text = re.sub(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d\S*", "<time>", text)
    text = re.sub(r"(latency_p99_ms(?:\.max)?[\s│]+(?:is[\s│]+)?)[\d.]+", r"\1<ms>", text)
    text = re.sub(r"\b\d+(\.\d+)? s\b", "<s>", text)
    text = re.sub(r"((?:promoted|rolled back) by )\S+?(:|$)", r"\1<user>\2", text, flags=re.MULTILINE)
    lines = [line for line in text.splitlines() if "environment" not in line and "code" not in line]
    words = re.split(r"[─│\s]+", "\n".join(lines))
    return "\n".join(words)  # a word a line: a latency of one digit less breaks a cell at another place


def paste() -> None:
    """Run every example and write what it prints into the README."""
    text = README.read_text()
    with tempfile.TemporaryDirectory() as name:
        folder = fresh_project(Path(name))

        def filled(match: re.Match[str]) -> str:
            lines = [part.partition("\n")[0] for part in re.split(r"^\$ ", match[1], flags=re.MULTILINE)[1:]]
            parts = [f"$ {command}\n{run(command, folder)}\n" for command in lines]
            return "```console\n" + "".join(parts) + "```"

        README.write_text(BLOCK.sub(filled, text))


if __name__ == "__main__":
    paste()
